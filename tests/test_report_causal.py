"""The causal rungs in the report: what patching moved, beside what else, at which dose, what may be read from it."""

import copy
import re
from html import unescape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import make_results, state

from fixtures.claims.ladder import CAUSAL, rung
from fixtures.claims.limits import CORRELATIONAL, OF_CHANGED_UNITS, OF_EVERY_RUN, PARTLY_CORRELATIONAL, limits
from fixtures.report.control.dose_curve import dose_curves
from fixtures.report.control.dot_strip import dot_strip
from fixtures.report.control.evidence import control_html
from fixtures.report.control.ladder import gaps
from fixtures.report.control.tables import facts, sections
from fixtures.report.parts.formats import DASH, decimal, p_value, significant
from fixtures.report.text_views import summary_markdown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def made(folder):
    return make_results(folder, side=16)


@pytest.fixture
def entry(made):
    return copy.deepcopy(made["hypotheses"][2])


def control(entry, name):
    return next(found for found in entry["controls"] if found["id"] == name)


def tables(entry, name):
    found = sections(entry, control(entry, name), 100)
    return {part.title: [tuple(getattr(cell, "text", cell) for cell in row) for row in part.rows] for part in found}


@pytest.mark.parametrize(("name", "donors"), [("sufficient", "A into B"), ("necessary", "B into A")])
def test_what_patching_recovered_stands_under_both_samples_of_noise(entry, name, donors):
    evidence = control(entry, name)["evidence"]
    rows = tables(entry, name)[f"What the found units recover, from other pairs’ {donors}"]
    for row, key in zip(rows, ("own", "other_noise"), strict=True):
        found = evidence[key]
        low, high = map(decimal, found["interval"])
        moved = f"{significant(found['moved'])} %"
        beside = p_value(found["p"]), str(found["flips"]), moved, decimal(found["all_units"]), decimal(found["off"])
        assert row[1:] == (decimal(found["share"]), f"{low} to {high}", *beside)
    evidence["own"]["interval"] = None
    assert tables(entry, name)[f"What the found units recover, from other pairs’ {donors}"][0][2] == DASH


def test_the_units_and_the_roles_of_pairs_are_shown_once(entry):
    found, roles = (control(entry, "sufficient")["evidence"][name] for name in ("found", "roles"))
    shown = tables(entry, "sufficient")
    rows = shown["Which units these are"]
    assert [int(row[2]) for row in rows if row[0] == "block"] == [*found["blocks"].values()]
    assert sum(int(row[2]) for row in rows if row[0] == "kind") == found["n_units"]
    assert [(int(row[1]), row[2].split(", ")) for row in shown["Which pair does what"]] == [
        (len(roles[name]), roles[name]) for name in ("selection", "donors", "recipients")
    ]
    assert ("Units patched", str(found["n_units"])) in facts(control(entry, "sufficient"))
    assert len(tables(entry, "necessary")) == 1  # those of rung 10 are the same
    control(entry, "necessary")["evidence"]["found"]["n_units"] += 1
    assert len(tables(entry, "necessary")) == 3


def test_found_units_stand_among_random_ones_twins_and_placebos(entry, folder):
    evidence = control(entry, "specific")["evidence"]
    random, networks = evidence["random"], evidence["networks"]
    shown = tables(entry, "specific")
    for row, key in zip(shown["Among random units"], ("shares", "per_written"), strict=True):
        ends = [decimal(value(random[key])) for value in (np.min, np.median, np.max)]
        assert [*row[1:]] == [decimal(evidence["share"]), *ends]
    assert [row[3] for row in shown["Among untrained twins"]] == [
        f"{significant(moved)} %" for moved in (networks["moved"], *(twin["moved"] for twin in networks["twins"]))
    ]
    assert "Among placebo sets" not in shown
    evidence["placebos"] = [{"name": "brightness", "share": 0.02, "p": 0.0039, "beaten": True}]
    rows = tables(entry, "specific")["Among placebo sets"]
    assert rows == [("the concept", decimal(evidence["share"]), DASH, DASH), ("brightness", "0.02", "0.004", "yes")]
    html = control_html(entry, control(entry, "specific"), folder)
    dots = html.count('<circle class="pr-dot"')
    assert dots == 2 * random["sets"] + 1 + len(networks["twins"]) + 1  # of each strip one in the legend
    assert f"p = {p_value(random['p'])} of as much for what is written" in html
    assert len(html) < 16_000


def test_a_strip_shows_what_lies_below_0_where_that_means_something():
    def places(signed):
        drawn = dot_strip("t", "m", "d", [("row", 0.5, [-0.5, 0.0])], decimal, signed=signed)
        return [float(x) for x in re.findall(r'<circle class="pr-dot" cx="([\d.]+)"', drawn)][1:]

    assert places(True)[0] < places(True)[1] and places(False)[0] == places(False)[1]


def test_the_dose_is_a_curve_with_intervals_and_the_range_that_decides(entry, folder):
    evidence = control(entry, "dose")["evidence"]
    html = control_html(entry, control(entry, "dose"), folder)
    assert html.count('class="pr-chart"') == 1 and html.count(">decides<") == 2
    units, strength = evidence["units"]["points"], evidence["strength"]["points"]
    drawn = re.findall(r'<g class="series s0">(.*?)</g>', html)
    assert [part.count("a4 4 0 1 0 8 0") for part in drawn] == [len(units), len(strength)]
    assert [part.count("V") for part in drawn] == [len(units), len(strength)]
    rows = tables(entry, "dose")["What each dose recovers"]
    low, high = evidence["units"]["range"]
    decides = ["yes" if low <= point["dose"] <= high else "shown" for point in units] + ["yes"] * len(strength)
    assert [row[3] for row in rows] == [decimal(point["share"]) for point in (*units, *strength)]
    assert [row[-1] for row in rows] == decides and "shown" in decides
    assert [row[2] for row in tables(entry, "dose")["Whether it grows"]] == [
        p_value(evidence[name]["trend_p"]) for name in ("units", "strength")
    ]


numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=3))
points = st.lists(
    st.fixed_dictionaries(
        {"dose": numbers, "n_units": numbers, "share": numbers, "interval": st.one_of(numbers, st.lists(numbers))}
    ),
    max_size=30,
)
curves = st.fixed_dictionaries({"points": points, "range": st.one_of(numbers, st.lists(numbers, max_size=3))})


@given(evidence=st.fixed_dictionaries({"units": curves, "strength": curves}))
def test_the_figure_stays_within_its_frame_whatever_the_numbers(evidence):
    figure = dose_curves(evidence)
    if figure is None:
        return
    _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', figure)[1].split())
    for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", figure):
        assert 0 <= float(x) <= width and 0 <= float(y) <= height
    assert "nan" not in figure and "inf" not in figure.replace("infinity", "")


def test_what_a_failure_forbids_to_say_and_which_units_carry_the_concept_is_read(entry, folder):
    text = control(entry, "dose")["evidence"]["reading"]["text"]
    for name in ("sufficient", "necessary", "dose"):
        page = unescape(control_html(entry, control(entry, name), folder))
        assert page.count(text) == 1 and "it may not be said that the model does not use" not in page
        control(entry, name)["verdict"] = "failed"
        page = unescape(control_html(entry, control(entry, name), folder))
        assert page.count(text) == 1 and "it may not be said that the model does not use the concept" in page
    assert text not in unescape(control_html(entry, control(entry, "specific"), folder))
    state({"hypotheses": [entry]})
    found = {gap.words: gap.why for gap in gaps(entry)}
    assert found["sufficient"] == f"{rung('sufficient').failing} {text}"
    assert entry["statement"]["represents"] and not entry["statement"]["uses"]
    del control(entry, "dose")["evidence"]["reading"]
    assert [gap.why for gap in gaps(entry)][0] == rung("sufficient").failing


def test_limits_follow_what_was_changed(made):
    changed, unchanged = made["hypotheses"][2], made["hypotheses"][0]
    assert limits([unchanged]) == limits([]) == (CORRELATIONAL, *OF_EVERY_RUN)
    assert limits([changed]) == (*OF_EVERY_RUN, *OF_CHANGED_UNITS)
    assert limits([changed, unchanged]) == (PARTLY_CORRELATIONAL, *OF_EVERY_RUN, *OF_CHANGED_UNITS)
    assert limits([changed, {"compares": ["a"]}]) == limits([changed])
    open_ = copy.deepcopy(changed)
    for found in open_["controls"]:
        found["verdict"] = "not evaluated" if found["id"] in CAUSAL else found["verdict"]
    assert limits([open_]) == limits([{}]) == limits([{"controls": [None]}]) == limits([unchanged])
    markdown = summary_markdown(made)
    assert all(f"- {limit}\n" in markdown for limit in limits(made["hypotheses"])) and "self-repair" in markdown
    assert f"- {CORRELATIONAL}\n" not in markdown
    text = control(changed, "dose")["evidence"]["reading"]["text"]
    assert markdown.count(f"  - {text}\n") == 1
