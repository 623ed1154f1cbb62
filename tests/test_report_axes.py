"""Axes side by side, and a claim that orders them, in every view of a run."""

import copy
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from report_factory import evidence_html, make_results

from fixtures.claims.hypothesis import Hypothesis
from fixtures.claims.ordering import Ordering
from fixtures.claims.ordering_records import AxisBlockRecord, AxisCountRecord, ComparedRecord
from fixtures.claims.statement import statement
from fixtures.report.axes.axes import axes_of, correlations, network_order
from fixtures.report.cards.card import card
from fixtures.report.cards.model_index import eval_results
from fixtures.report.claim.units import read_units
from fixtures.report.overview import claims_table_html
from fixtures.report.parts.lookup import by_threshold
from fixtures.report.text_views import summary_markdown, terminal_lines
from fixtures.results.axes import axes_record
from fixtures.results.entries import claim_record
from fixtures.results.schema import validate
from fixtures.stimuli.records import StimuliFileRecord

NAMES = ["arrow_of_time_rendered", "physical_scale", "ethical_valence"]
CLAIM = Ordering(
    smaller="physical_scale", larger=("arrow_of_time_rendered", "ethical_valence"), threshold=3.0, factor=2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def results(folder):
    made = make_results(folder)
    made["axes"] = axes_record(folder, made["hypotheses"])
    made["hypotheses"].append(ordering(made))
    made = json.loads(json.dumps(made))
    validate(made)
    return made


def ordering(results):
    """The entry of a hypothesis that compares the three evaluated ones."""
    compared = [
        ComparedRecord(
            id=hypothesis["id"],
            n_pairs=hypothesis["n_pairs"],
            n_undefined=hypothesis["n_undefined"],
            counts=[AxisCountRecord(threshold=3.0, observed=hypothesis["counts"][0]["observed"])],
            blocks=[
                AxisBlockRecord(**{name: block[name] for name in ("block", "n_units", "beyond")})
                for block in sorted(hypothesis["blocks"], key=lambda block: block["block"])
            ],
            stimuli=StimuliFileRecord(**{name: hypothesis["stimuli"][name] for name in ("file", "sha256")}),
            activations=hypothesis["activations"],
        )
        for hypothesis in results["hypotheses"][:3]
    ]
    declared = Hypothesis(
        "order", "Order of the axes", "One is smaller.", "larger minus smaller", "", controls=(), compares=tuple(NAMES)
    )
    measured = {
        name: results["hypotheses"][0][name] for name in ("partition", "n_units", "protocol", "seconds", "reason")
    }
    entry = {**declared.record(), **measured, "compared": compared, "seed": 0, "controls": []}
    entry["claims"] = [claim_record("probes/test_order.py::test_order", CLAIM, CLAIM.judge(entry))]
    return entry | {"statement": statement(entry)}


def test_correlations_of_a_run_are_those_of_its_tables(results, folder):
    record = results["axes"]
    assert record["ids"] == NAMES
    maps = [read_units(folder, f"{name}.units.csv.gz")[0].t for name in NAMES]
    both = ~np.isnan(maps[0]) & ~np.isnan(maps[2])
    assert record["r"][0][2] == pytest.approx(np.corrcoef(maps[0][both], maps[2][both])[0, 1])
    assert [record["r"][n][n] for n in range(3)] == pytest.approx([1, 1, 1])


def test_maps_are_of_the_pairs_that_correlate_most_those_whose_halves_agree_first(results, folder):
    record, hypotheses = results["axes"], results["hypotheses"][:3]
    assert [frozenset((one["x"], one["y"])) for one in record["maps"]] == sorted(
        {frozenset((one["x"], one["y"])) for one in record["maps"]},
        key=lambda pair: -abs(next(one["r"] for one in record["maps"] if pair == {one["x"], one["y"]})),
    )
    known = copy.deepcopy(hypotheses)
    for hypothesis, p in zip(known, (0.5, 0.01, 0.05), strict=True):
        hypothesis["split_half_r"]["null"]["p"] = p
    first, *others = axes_record(folder, known)["maps"]
    assert (first["x"], first["y"], first["reliable"]) == (NAMES[1], NAMES[2], True)
    assert len(others) == 2 and not any(one["reliable"] for one in others)
    assert abs(others[0]["r"]) >= abs(others[1]["r"])
    for one in record["maps"]:
        maps = [read_units(folder, f"{one[axis]}.units.csv.gz")[0].t for axis in ("x", "y")]
        assert sum(one["units"]) == (~np.isnan(maps).any(axis=0)).sum()
        i, j = (record["ids"].index(one[axis]) for axis in ("x", "y"))
        assert one["r"] == record["r"][i][j]


def test_a_table_that_is_missing_damaged_or_of_other_units_is_left_out(results, folder, tmp_path):
    hypotheses = copy.deepcopy(results["hypotheses"][:3])
    for name in NAMES:
        data = (folder / f"{name}.units.csv.gz").read_bytes()
        (tmp_path / f"{name}.units.csv.gz").write_bytes(data[:200] if name == NAMES[1] else data)
    assert axes_record(tmp_path, hypotheses)["ids"] == [NAMES[0], NAMES[2]]
    (tmp_path / f"{NAMES[0]}.units.csv.gz").unlink()
    assert axes_record(tmp_path, hypotheses) is None
    assert axes_record(tmp_path, []) is None


def test_a_map_without_variance_has_no_correlation(folder, tmp_path, results):
    import gzip

    hypotheses = results["hypotheses"][:2]
    lines = gzip.open(folder / f"{NAMES[0]}.units.csv.gz", "rt").read().splitlines()
    column = lines[0].split(",").index("t")
    for name, constant in ((NAMES[0], False), (NAMES[1], True)):
        rows = [line.split(",") for line in lines[1:]]
        rows = [[*row[:column], "1" if constant else row[column], *row[column + 1 :]] for row in rows]
        with gzip.open(tmp_path / f"{name}.units.csv.gz", "wt") as stream:
            stream.write("\n".join([lines[0], *map(",".join, rows)]))
    assert axes_record(tmp_path, hypotheses)["r"] == [[pytest.approx(1), None], [None, None]]


def svgs(html):
    return re.findall(r'<svg class="pr-chart".*?</svg>', html, re.DOTALL)


def test_the_page_shows_shares_blocks_and_correlations_sorted_by_share(results):
    html = claims_table_html(results)
    section = html[html.index('class="pr-axes"') :]
    drawings = svgs(section)[:3]
    assert len(drawings) == 3
    shares = {h["id"]: by_threshold(h["counts"])[3.0]["observed"] / h["n_units"] for h in results["hypotheses"][:3]}
    expected = sorted(shares, key=shares.get, reverse=True)
    assert [axis.id for axis in axes_of(results)] == expected
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert all(name in drawing for name in NAMES) and "self_reference" not in drawing and ">order<" not in drawing
    assert "99th percentile" in drawings[0] and "single[3]" in drawings[1]
    assert "compare |r|" in section and html.index("<h3>Claims</h3>") < html.index("Axes side by side")


def test_correlations_follow_the_order_shown_and_the_diagonal_is_the_reliability(results):
    axes = axes_of(results)
    r = correlations(results, axes)
    ids = results["axes"]["ids"]
    assert r[0][1] == results["axes"]["r"][ids.index(axes[0].id)][ids.index(axes[1].id)]
    html = claims_table_html(results)
    drawing = svgs(html[html.index('class="pr-axes"') :])[2]
    assert all(f">{axis.reliability:.2f}".replace("-", "−") in drawing for axis in axes)


def test_fewer_than_two_evaluated_hypotheses_have_nothing_to_compare(results):
    one = results | {"hypotheses": [results["hypotheses"][0], *results["hypotheses"][3:]]}
    assert "Axes side by side" not in claims_table_html(one)
    assert "Largest" not in summary_markdown(one)


@pytest.mark.parametrize(
    "record",
    [None, 3, {}, {"ids": NAMES}, {"ids": NAMES, "r": [[1], None, "x"]}, {"ids": [None], "r": [[float("nan")]]}],
)
def test_a_record_of_another_form_leaves_the_correlations_out(results, record):
    html = claims_table_html(results | {"axes": record})
    assert "Axes side by side" in html and isinstance(summary_markdown(results | {"axes": record}), str)


def test_names_are_never_taken_for_markup(results):
    hostile = copy.deepcopy(results)
    for number, hypothesis in enumerate(hostile["hypotheses"][:3]):
        hypothesis["id"] = f"<script>$x_{number}$ | `a`"
        hypothesis["blocks"][0]["block"] = "<b>$\\frac$"
    hostile["axes"]["ids"] = [hypothesis["id"] for hypothesis in hostile["hypotheses"][:3]]
    html = claims_table_html(hostile)
    assert "<script>" not in html
    for drawing in svgs(html):
        ElementTree.fromstring(drawing)
    assert "<script>" not in summary_markdown(hostile)


def test_blocks_stand_in_the_order_of_the_network():
    blocks = {"single[10]", "single[9]", "joint[1]", "joint[0]", "single[0]"}
    assert network_order(blocks) == ["joint[0]", "joint[1]", "single[0]", "single[9]", "single[10]"]


def test_markdown_has_the_shares_and_the_largest_correlations(results):
    text = summary_markdown(results)
    assert "| Axis |" in text and "Axes whose halves agree beyond chance" in text
    assert ("Largest \\|r\\| between t maps: " in text) == (sum(axis.reliable for axis in axes_of(results)) > 1)
    agreeing = copy.deepcopy(results)
    for hypothesis in agreeing["hypotheses"][:3]:
        hypothesis["split_half_r"]["null"] = {"p": 0.01}
    assert "Largest \\|r\\| between t maps: " in summary_markdown(agreeing)
    for name in NAMES:
        assert f"\n| {name.replace('_', chr(92) + '_')} | " in text


def test_an_ordering_is_on_no_ladder_and_shows_its_intervals(results, folder):
    entry = results["hypotheses"][-1]
    claim = entry["claims"][0]
    assert claim["verdict"] in ("supported", "refuted") and len(claim["differences"]) == 2
    html = claims_table_html(results)
    assert entry["statement"]["sentence"] in html and entry["statement"]["represents"] is False
    assert html.count("Whether it exceeds chance was not decided") == 1, "of the hypothesis that was not evaluated"
    assert html.count('<div class="pr-gaps">') == html.count('class="pr-table pr-dense pr-rungs"') == 4
    row = html[html.index(f">{entry['title']}</span>") :]
    assert "pr-mark" not in row[: row.index("</summary>")] and entry["statement"]["brief"] in row
    block = evidence_html(entry, claim, folder, results["model"])
    assert "Null distribution" not in block and "Strongest units" not in block and svgs(block)
    for row in claim["differences"]:
        assert row["larger"] in block
    text = summary_markdown(results)
    assert f"- **Order of the axes.** {entry['statement']['sentence']}" in text
    assert "| Order of the axes | ○" not in text
    line = next(line for line in terminal_lines(results) if "order/ordering_t3" in line)
    assert "points [" in line and "p99" not in line


@pytest.mark.parametrize("evaluated", [True, False])
def test_the_card_of_an_ordering_has_its_own_sections(results, evaluated):
    entry = copy.deepcopy(results["hypotheses"][-1])
    if not evaluated:
        entry["compared"], claim = None, entry["claims"][0]
        entry["claims"] = [claim | {"verdict": "not evaluated", "reason": "no image", "differences": None}]
    text = card(results, entry)
    assert "## Controls" not in text and "## Results" in text and "**Not evaluated.**" not in text
    assert ("| Larger axis |" in text) == evaluated
    assert ("no image" in text) != evaluated


def test_the_model_index_counts_no_rungs_of_an_ordering(results):
    found = [entry for entry in eval_results(results) if entry.dataset_config == "order"]
    assert [entry.metric_type for entry in found] == ["ordering_t3"]
    assert found[0].metric_args["factor"] == 2


def test_an_ordering_that_was_not_evaluated_says_why(results, folder):
    entry = copy.deepcopy(results["hypotheses"][-1])
    claim = entry["claims"][0] | {"verdict": "not evaluated", "reason": "stimuli are missing", "observed": None}
    block = evidence_html(entry | {"compared": None}, claim | {"differences": None}, folder, results["model"])
    assert "Why not evaluated:" in block and "stimuli are missing" in block
