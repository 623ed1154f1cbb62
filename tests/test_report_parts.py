import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import IMAGES, held_out, replication, stored_run

from fixtures.report.claim.bins import integer_bins
from fixtures.report.claim.effects import ROWS, effect_rows, sequential_line
from fixtures.report.claim.figures import figures, prose, tally
from fixtures.report.claim.shares import share_rows
from fixtures.report.claim.stimuli import word_diff
from fixtures.report.claim.tables import block_rows, partition_rows, published_rows, remarks
from fixtures.report.claim.unit_map import LIMITS, PALETTE, levels
from fixtures.report.claim.units import strongest
from fixtures.report.control.dot_strip import dot_strip
from fixtures.report.control.replication import held_out_rows, replication_rows
from fixtures.report.parts import formats
from fixtures.report.parts.formats import DASH
from fixtures.report.parts.links import local_file, relative_url
from fixtures.report.text_views import escape
from fixtures.results.unit_table import UnitTable

distributions = st.dictionaries(st.integers(0, 20_000), st.integers(1, 10**7), min_size=1, max_size=60)


@given(null=distributions, most=st.integers(5, 200))
def test_integer_bins_are_equal_and_hold_every_flip(null, most):
    values, weights = list(null), list(null.values())
    starts, width, heights = integer_bins(values, weights, most)
    assert isinstance(width, int) and width >= 1 and len(starts) <= most
    assert np.issubdtype(starts.dtype, np.integer) and np.all(starts % width == 0)
    assert np.all(np.diff(starts) == width)
    for start, height in zip(starts, heights, strict=True):
        assert height == sum(weight for value, weight in null.items() if start <= value < start + width)
    assert heights.sum() == sum(weights)


def test_a_small_range_gets_a_bin_per_integer():
    starts, width, heights = integer_bins([3, 5], [10, 1], 60)
    assert (list(starts), width, list(heights)) == ([3, 4, 5], 1, [10, 0, 1])
    assert integer_bins([], [])[0].size == 0


def test_map_colours_step_at_the_thresholds_and_only_beyond_them():
    t = np.array([[0.0, 3.0, np.nextafter(3, 4), 5.0, 5.1, -5.1, np.nan, np.nan]])
    there = np.array([[True] * 7 + [False]])
    level = levels(t, there)[0]
    assert list(level) == [0, 2, 3, 4, 5, 11, 12, 13]
    assert len(PALETTE) == 14 and LIMITS == (1, 2, 3, 4, 5)


def test_strongest_units_skip_those_without_t_and_give_inclusive_channels():
    rows = [{"block": f"b{n}", "start": str(16 * n), "stop": str(16 * n + 16), "kind": "mlp"} for n in range(3)]
    top = strongest(UnitTable(tuple(rows), np.array([1.0, np.nan, -4.0])), 5)
    assert [(row["block"], row["channels"], row["t"], row["kind"]) for row in top] == [
        ("b2", "32–47", "−4.00", "MLP"),
        ("b0", "0–15", "+1.00", "MLP"),
    ]


@given(a=st.text(max_size=60), b=st.text(max_size=60))
def test_word_diff_loses_no_character(a, b):
    left, right = word_diff(a, b)
    assert ("".join(text for text, _ in left), "".join(text for text, _ in right)) == (a, b)
    if a == b:
        assert not any(differs for _, differs in left)


def test_word_diff_marks_neighbouring_words_as_one():
    assert word_diff("the red fox ran", "the big old cat ran")[1] == [
        ("the ", False),
        ("big old cat", True),
        (" ran", False),
    ]


@given(path=st.text(min_size=1))
def test_addresses_are_relative_and_encoded(path):
    url = relative_url(path)
    assert url is None or not set(url) & set(":\"'<>\\ \n\t#?&") and not url.startswith("/")


@pytest.mark.parametrize("path", [None, "", "/etc/passwd", "//host/x", "\\\\host\\x", "C:\\x", 3])
def test_what_is_not_a_relative_path_gets_no_address(path, tmp_path):
    assert relative_url(path) is None and local_file(tmp_path, path) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.0, "1.00"), (0.25, "0.25"), (0.0123, "0.012"), (5.96e-8, "6.0×10⁻⁸"), (0.00099, "0.001")],
)
def test_p_values(value, text):
    assert formats.p_value(value) == text


def test_numbers():
    assert [formats.count(value) for value in (2426, 501.0, 500.5, None)] == ["2,426", "501", "500.5", "–"]
    assert [formats.times(value) for value in (4.84, 53, 659.2)] == ["4.84×", "53.0×", "659×"]
    assert [formats.percent(value) for value in (14.87, 0.974, 0)] == ["14.9%", "0.97%", "0.0%"]
    assert formats.percent_interval(-3.14, -5, 1) == "−3.1% [−5.0, +1.0]"
    assert formats.signed(-0.004) == "+0.00" and formats.decimal(-0.0004, 3) == "0.000"
    assert [formats.significant(value) for value in (0.0, 0.012345, -1.5, 1234.5)] == ["0", "0.0123", "−1.50", "1,234"]
    assert formats.plain(float("nan")) == "–"


@given(names=st.lists(st.text(max_size=20), min_size=2, max_size=2, unique=True))
def test_anchors_differ_where_names_differ(names):
    assert formats.slug("h", names[0]) != formats.slug("h", names[1])


@given(text=st.text())
def test_markdown_escapes_leave_one_line_without_markup(text):
    escaped = escape(text)
    assert not set(escaped) & set("<>\n\r") and not set(escaped.replace("\\|", "")) & {"|"}


def test_tally_counts_every_verdict_even_an_unknown_one():
    claims = [{"verdict": verdict} for verdict in ("supported", "refuted", "supported", None, "odd")]
    assert tally({"hypotheses": [{"claims": claims}]}) == {
        "supported": 2, "refuted": 1, "inconclusive": 0, "not evaluated": 1, "odd": 1,
    }  # fmt: skip


def test_bar_ends_at_twice_the_requirement():
    bar = figures({}, {"observed": 30, "required": 10, "null": {"p99": 5}, "verdict": "supported"})
    assert (bar.bar, bar.bar_over, bar.bar_p99) == (100, True, 25)
    assert figures({}, {"observed": 5, "required": 10}).bar == 25
    assert figures({}, {"observed": None, "required": 10}).bar is None


def test_prose_gives_every_figure():
    null = {"method": "exact", "flips": 2**24, "p99": 501, "max": 2426}
    claim = {"kind": "exceedance", "threshold": 3.0, "observed": 2426, "required": 1202.4, "margin": 2.4, "null": null}
    text = " ".join(prose({"n_units": 16320}, claim | {"p": 6e-8, "ratio": 4.84}))
    for part in (
        "2,426 of 16,320 units (14.9%)",
        "|t| = 3",
        "at least 1,202.4 (2.4 × the null",
        "all 16,777,216",
        "501",
    ):
        assert part in text
    assert "observed labels, which are one of the flips" in text and "4.84×" in text and "p = 6.0×10⁻⁸" in text


def test_published_and_observed_stand_side_by_side():
    count = {"threshold": 3.0, "observed": 29, "null": {"p99": 10, "mean": 2.5, "flips": 128}}
    published = {"n_pairs": 25, "n_units": 16320, "counts": {"3": {"count": 2426, "percent": 14.9, "ratio": 4.8}}}
    rows = published_rows({"published": published, "n_units": 320, "n_pairs": 8, "counts": [count]})
    assert ("|t| > 3: units", "2,426", "29") in rows
    assert ("share of units", "14.9%", "9.1%") in rows
    assert ("ratio to p99", "4.80×", "2.90×") in rows
    assert published_rows({"published": None}) == []


def test_beside_another_geometry_only_shares_and_ratios_stand():
    count = {"threshold": 3.0, "observed": 29, "null": {"p99": 10, "mean": 2.5, "flips": 128}}
    published = {
        "n_units": 16320,
        "counts": {"3": {"count": 2426, "percent": 14.9, "ratio": 4.8, "null_p99": 501, "null_mean": 82}},
        "max_abs_t": 7.56,
        "split_half_r": 0.4,
    }
    here = {"published": published, "n_units": 320, "counts": [count], "max_abs_t": 4.1}
    rows = published_rows(here | {"split_half_r": {"median": 0.5}}, same_geometry=False)
    assert rows == [
        ("units", "16,320", "320"),
        ("null flips", DASH, "128"),
        ("|t| > 3: share of units", "14.9%", "9.1%"),
        ("ratio to p99", "4.80×", "2.90×"),
        ("split-half r (median)", "0.400", "0.500"),
    ]


def test_attention_heads_stand_below_the_channel_groups_of_the_same_threshold():
    counts = [{"threshold": t, "observed": 4} for t in (3.0, 5.0)]
    rows = partition_rows({"n_units": 8, "counts": counts, "attention_heads": {"n_units": 2, "counts": counts}})
    assert [(row["name"], row["threshold"]) for row in rows] == [
        (name, threshold) for threshold in "35" for name in ("channel groups", "attention heads")
    ]


def test_what_responds_at_least_stands_beside_the_counts():
    entry = stored_run()["hypotheses"][IMAGES]
    bounds = {row["block"]: f"≥ {row['at_least']}" for row in entry["discoveries"]["blocks"]}
    assert {row["block"]: row["respond"] for row in block_rows(entry)} == bounds and len(set(bounds.values())) > 3
    rows = [(row["name"], row["threshold"], row["respond"]) for row in partition_rows(entry)]
    groups, heads = "channel groups", "attention heads"
    assert rows == [(groups, "3", "≥ 165"), (heads, "3", DASH), (groups, "5", "≥ 107"), (heads, "5", DASH)]
    said = "With 95 % confidence, at least 165 of all 320 units respond, 165 of the 179 beyond |t| = 3, 107 of the 107 "
    assert f"{said}beyond |t| = 5." in remarks(entry)
    assert "hold at once, so any may be picked after looking" in " ".join(remarks(entry))


def test_without_bounds_nothing_is_said_to_respond():
    entry = stored_run()["hypotheses"][IMAGES]
    del entry["discoveries"]
    assert {row["respond"] for row in block_rows(entry) + partition_rows(entry)} == {DASH}
    assert "respond" not in " ".join(remarks(entry))


def test_shares_give_the_part_of_a_value_and_of_all_units_beyond():
    shares = [
        {"partition": "channel groups", "by": "kind", "value": value, "threshold": threshold}
        | {"observed": observed, "units": units}
        for value, units, found in (("attention", 30, (6, 0)), ("mlp", 70, (14, 5)))
        for threshold, observed in zip((3.0, 5.0), found, strict=True)
    ]
    counts = [{"threshold": 3.0, "observed": 20}, {"threshold": 5.0, "observed": 5}]
    attention, mlp = share_rows({"shares": shares, "counts": counts, "n_units": 100})
    assert (attention["partition"], attention["by"], attention["value"]) == ("channel groups", "kind", "attention")
    assert (mlp["partition"], mlp["by"], mlp["value"]) == ("", "", "MLP")
    assert mlp["cells"][0] == {
        "observed": "14", "units": "70", "share": "20.0%", "bar": 20.0, "part": "70.0%", "part_bar": 70.0, "tick": 70.0,
    }  # fmt: skip
    assert [cell["part"] for cell in attention["cells"]] == ["30.0%", "0.0%"]
    assert share_rows({}) == share_rows({"shares": None}) == []


def test_replication_shows_each_check_with_its_null_or_its_reason():
    checks = replication()
    checks["without_one_category"] = {"reason": "only one category"}
    rows = {name: (result, detail) for name, result, detail in replication_rows(checks)}
    assert rows["random halves of the pairs agree: median r"] == ("0.914", "null p99 0.729, p = 0.002")
    assert rows["smallest effect without any one pair"] == ("25.5 %", "without scattered_books, p = 1.1×10⁻⁶")
    assert rows["smallest effect without any one category"] == ("not evaluated", "only one category")
    noise = "with other noise (seed 1)"
    assert rows[f"{noise}: effect"] == ("27.1 %", f"p = {formats.p_value(checks['second_seed']['p'])}")
    again = ("186", "null p99 37, null max 186, p = 1.2×10⁻⁷; decides nothing")
    assert rows[f"{noise}: units beyond |t| = 3"] == again
    assert rows[f"{noise}: correlation of t over units with the first"] == ("0.999", "")
    by_template = replication_rows({"without_one_template": {"without": "noun", "percent": -1.5, "p": None}})
    name = "smallest effect without any one template"
    assert by_template == [(name, "−1.50 %", "without noun, too few are left for a p")]
    single = replication_rows({"without_one_category": {"reason": "one category"}})
    assert single == [("smallest effect without any one category", "not evaluated", "one category")]
    assert replication_rows({}) == held_out_rows({}) == []


def test_held_out_selection_shows_its_null_and_other_wordings():
    check = held_out()
    name = "strongest 16 units of one half, in the other: mean signed t"
    halves = (name, "4.77", "null p99 1.51, p = 0.002")
    wordings = ("effect between 25 different wordings", "27.0 %", "more than 0.391 %, p = 8.7×10⁻²⁰")
    assert held_out_rows(check) == [halves, wordings]
    check["wordings"] = {"reason": "2 wordings, at least 3 are needed"}
    missing = ("effect between different wordings", "not evaluated", "2 wordings, at least 3 are needed")
    assert held_out_rows(check) == [halves, missing]


def test_the_effect_stands_with_all_of_its_parts():
    entry = stored_run()["hypotheses"][IMAGES]
    parts = entry["effect"]["parts"]
    (whole, *rows), units = effect_rows(entry), entry["n_units"]
    assert whole == ("noise tokens, by quadrant", "320", "27.0 %", "16.1 % to 34.6 %") and len(rows) == len(parts)
    shown = {name: (n, size) for name, n, size, _ in rows}
    assert shown["reference tokens, over the whole picture"] == ("320", "42.5 %")
    assert [shown[f"kind {kind}"][0] for kind in ("attention", "MLP")] == ["128", "192"]
    for by in ("kind", "stream", "block"):
        assert sum(part["n_units"] for part in parts if part["by"] == by) == units
    parts[0] |= {"percent": -0.4, "interval": None}
    assert effect_rows(entry)[1] == ("prompt tokens, over the whole picture", "288", "−0.400 %", DASH)
    assert effect_rows({}) == effect_rows({"effect": None}) == effect_rows({"effect": {"percent": "x"}}) == []
    entry["effect"]["parts"] *= 100
    assert len(effect_rows(entry)) == ROWS


@pytest.mark.parametrize(
    ("kind", "claim", "expected"),
    [
        (
            "effect",
            {"observed": 27.04, "required": 0.391, "ratio": 69.2, "margin": None, "p": 6e-7, "p_holm": 3e-6},
            "Activations of noise tokens move by 27.0 %, from 16.1 % to 34.6 % with 95 % confidence; "
            "p = 6.0×10⁻⁷ (3.0×10⁻⁶ after Holm’s correction over the run). The claim requires at least 0.391 %.",
        ),
        (
            "amplification",
            {"observed": 1.5, "required": 1.25, "ratio": 1.5, "margin": 1.25, "p": 0.2},
            "The effect on noise tokens is 1.50× that of untrained twins; p = 0.20. The claim requires at least 1.25×.",
        ),
    ],
)
def test_claims_without_a_null_have_none_of_its_figures(kind, claim, expected):
    entry = stored_run()["hypotheses"][IMAGES]
    claim |= {"kind": kind, "verdict": "supported", "reason": "as the figures say", "null": None}
    shown = figures(entry, claim)
    assert (shown.p99, shown.null_max, shown.ratio, shown.bar_p99, shown.reason) == (DASH, DASH, DASH, None, "")
    unit = {"effect": " %", "amplification": "×"}[kind]
    assert shown.observed.endswith(unit) and shown.required.endswith(unit)
    assert " ".join(prose(entry, claim)) == expected
    bare = prose({}, {"kind": kind, "observed": claim["observed"], "required": None})
    assert len(bare) == 1 and "p =" not in bare[0] and "confidence" not in bare[0]


@given(counts=st.lists(st.integers(0, 20_000), min_size=1, max_size=8), mark=st.none() | st.integers(0, 20_000))
def test_every_dot_lies_on_the_axis(counts, mark):
    drawn = dot_strip("units", "this model", "untrained twin", [("re-initialised", mark, counts)])
    places = [float(x) for x in re.findall(r'<circle class="pr-dot" cx="([\d.]+)" cy="\d+\.', drawn)]
    ticks = [float(x) for x in re.findall(r'<path class="pr-rule" d="M([\d.]+) 26V', drawn)]
    assert len(places) == len(counts) and 2 <= len(ticks) <= 7
    assert all(ticks[0] - 0.1 <= place <= ticks[-1] + 0.1 for place in places)


@given(effects=st.lists(st.floats(-50, 300), min_size=1, max_size=8), mark=st.floats(-50, 300))
def test_effects_lie_on_the_axis_too_those_below_0_at_0(effects, mark):
    drawn = dot_strip("effect, %", "this model", "untrained twin", [("shuffled", mark, effects)], formats.significant)
    places = sorted(float(x) for x in re.findall(r'<circle class="pr-dot" cx="([\d.]+)" cy="\d+\.', drawn))
    ticks = [float(x) for x in re.findall(r'<path class="pr-rule" d="M([\d.]+) 26V', drawn)]
    names = [float(x) for x in re.findall(r'class="pr-strip-tick"[^>]*>([\d.,]+)<', drawn)]
    assert len(places) == len(effects) and names == sorted(names) and len(names) == len(ticks) <= 7
    per_percent = (ticks[-1] - ticks[0]) / (names[-1] - names[0])
    for place, effect in zip(places, sorted(effects), strict=True):
        assert abs(place - ticks[0] - max(effect, 0) * per_percent) < 0.2


def test_nothing_to_draw_gives_no_strip():
    assert dot_strip("units", "a", "b", []) == dot_strip("units", "a", "b", [("x", None, [None, "4"])]) == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"log10_e": 2.3, "pairs": 11}, "is 200 after 3 pairs, and reached 100 after 11:"),
        ({"log10_e": -0.5, "pairs": None}, "is 0.316 after 3 pairs, and did not reach 100:"),
        ({"log10_e": 7.25, "pairs": 9}, "is 10 to the power of 7.2 after 3 pairs, and reached 100 after 9:"),
    ],
)
def test_the_evidence_pair_by_pair_is_a_sentence(found, said):
    entry = {"effect": {"sequential": {"alpha": 0.01, "logs": [0.0, 0.1, 0.2]} | found}}
    assert said in sequential_line(entry)


def test_a_record_without_that_evidence_says_nothing_of_it():
    for entry in ({}, {"effect": None}, {"effect": {"sequential": {"log10_e": "x", "alpha": 0.01}}}):
        assert sequential_line(entry) == ""
