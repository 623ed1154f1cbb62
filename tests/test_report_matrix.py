import copy
import re
from html import unescape

import pytest
from report_factory import leave_ladder, make_results, state

from fixtures.claims.ladder import CONTROLS, LADDER
from fixtures.report.claim.stimuli import differing, example, word_diff
from fixtures.report.control.ladder import cells
from fixtures.report.evidence_section import evidence_section
from fixtures.report.matrix import marks, matrix, new_failures
from fixtures.report.overview import claims_table_html
from fixtures.report.parts.templating import stylesheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def made(folder):
    return make_results(folder, side=32, ordering=True)


@pytest.fixture
def results(made):
    return copy.deepcopy(made)


def names(group):
    return [row["h"]["id"] for row in group["rows"]]


def styles(hypothesis):
    return [mark.style for mark in marks(hypothesis, cells(hypothesis))]


def decided(hypothesis, **verdicts):
    for control in hypothesis["controls"]:
        control["verdict"] = verdicts.get(control["id"], control["verdict"])


def test_a_row_is_green_as_far_as_it_climbed_with_one_mark_where_it_halted(results):
    stopped, absent, represented, undecided = results["hypotheses"][:4]
    assert styles(stopped) == ["held", "held", "halt pr-stopped", *["blank"] * 9]
    assert styles(absent) == ["halt pr-absent", *["blank"] * 11]
    assert styles(represented) == ["held"] * 12
    assert styles(undecided) == ["halt pr-undecided", *["blank"] * 11]


@pytest.mark.parametrize("step", LADDER[1:], ids=lambda step: step.id)
def test_only_a_required_rung_halts(results, step):
    entry = results["hypotheses"][2]
    decided(entry, **{step.id: "failed"})
    if step.id == "untrained":
        entry["controls"][CONTROLS.index("untrained")]["evidence"]["amplification"] |= {"absent_p": 1.0}
    state(results)
    found = styles(entry)
    if not step.of_represents:
        assert entry["statement"]["halted"] is None and entry["statement"]["uses"] != step.is_causal
        assert found == ["beside" if rung is step else "held" for rung in LADDER]
    else:
        assert entry["statement"]["halted"] == step.id
        assert found == ["held"] * (step.number - 1) + ["halt pr-stopped"] + ["blank"] * (12 - step.number)


def test_a_causal_rung_that_did_not_hold_takes_nothing_from_represented(results):
    entry = results["hypotheses"][2]
    decided(entry, sufficient="failed", dose="not evaluated", specific="not climbed")
    state(results)
    found = marks(entry, cells(entry))
    assert [(mark.style, mark.symbol) for mark in found[8:]] == [
        *(("beside", "✗"), ("held", "✓"), ("beside", "·"), ("beside", "–"))
    ]
    assert found[8].text == "9 Sufficient: failed; only “uses” needs it"
    page = claims_table_html(results)
    assert "represented</b> every required rung holds; use not shown: rung 9, sufficient" in page
    assert "represented, used" not in page and " used)</span>" not in page


def test_used_rows_lead_and_are_counted_within_the_represented(results):
    other = copy.deepcopy(results["hypotheses"][2]) | {"id": "not_used"}
    decided(other, necessary="failed")
    results["hypotheses"].insert(0, other)
    state(results)
    group = matrix(results, None)[0]
    assert names(group)[:2] == ["ethical_valence", "not_used"]
    assert group["outcomes"][:2] == [(1, "represented, used"), (1, "represented")]
    page = claims_table_html(results)
    assert '<b>2</b> represented <span class="pr-of">(1 used)</span>' in page
    assert "represented, used</b> required rungs and 9 to 12 hold" in page


def test_the_head_tells_what_responds_from_what_is_used(results):
    page = claims_table_html(results)
    head = page[page.index('class="pr-line pr-head"') : page.index('class="pr-line pr-group"')]
    assert head.index("does it respond?") < head.index("is it used?") < head.index('class="pr-rung"')
    rungs = re.findall(r'<span class="(pr-rung[^"]*)" title="(\d+) ', head)
    assert [int(number) for _, number in rungs] == [*range(1, 13)]
    assert [int(number) for style, number in rungs if "pr-optional" in style] == [2, 5, 6]
    assert [int(number) for style, number in rungs if "pr-first" in style] == [9]
    css = stylesheet()
    assert "grid-column: 3 / span 8" in css and "grid-column: 11 / span 4" in css


def test_where_nothing_says_what_halted_it_every_rung_shows_its_own_verdict(results):
    entry = results["hypotheses"][0]
    del entry["statement"]
    assert [mark.text.split(": ")[1] for mark in marks(entry, cells(entry))] == [cell.verdict for cell in cells(entry)]
    assert set(styles(entry)) == {"held", "beside"}


def test_represented_rows_lead_and_the_rest_stand_by_how_far_they_climbed(results):
    hypotheses, comparisons = matrix(results, None)
    titles = ["ethical_valence", "arrow_of_time_rendered", "physical_scale", "self_reference"]
    assert (hypotheses["name"], names(hypotheses)) == ("Open questions", titles)
    assert (comparisons["name"], names(comparisons)) == ("Comparisons", ["ordering"])
    assert comparisons["rows"][0]["marks"] == [] == comparisons["held"]
    assert [number for number, _ in hypotheses["held"]] == [2, 2, *[1] * 10]
    assert hypotheses["outcomes"] == [(1, "represented, used"), (1, "stopped"), (1, "absent"), (1, "undecided")]


def test_the_ground_truth_is_a_group_of_its_own_by_what_is_recorded(results):
    results["hypotheses"][1]["known"] = "<has it not>"
    assert [(group["name"], len(group["rows"])) for group in matrix(results, None)] == [
        *(("Open questions", 3), ("Ground truth", 1), ("Comparisons", 1))
    ]
    assert "<em>klein-mini: &lt;has it not&gt;</em>" in claims_table_html(results)
    for hypothesis in results["hypotheses"]:  # the one that is represented leads, and its group
        hypothesis["known"] = "has it" if hypothesis["id"] == "ethical_valence" else ""
    assert [group["name"] for group in matrix(results, None)] == ["Ground truth", "Open questions", "Comparisons"]


def test_a_row_says_what_it_rests_on_or_what_would_decide_it(results):
    rows = {row["h"]["id"]: row for group in matrix(results, None) for row in group["rows"]}
    assert rows["ethical_valence"]["brief"] == "required rungs and 9 to 12 hold"
    assert rows["arrow_of_time_rendered"]["brief"] == "by rung 3, placebo"
    assert "is excluded" in rows["physical_scale"]["brief"] and "(" not in rows["physical_scale"]["brief"]
    assert rows["self_reference"]["brief"] == results["hypotheses"][3]["reason"]
    page = unescape(claims_table_html(results))
    assert all(row["brief"] in page for row in rows.values())


def test_failures_are_counted_and_only_new_ones_are_marked(results):
    results["hypotheses"][0]["controls"][1]["recorded"] = None
    failed, recorded = new_failures(results)
    assert failed == recorded + 1
    page = claims_table_html(results)
    assert f"Failures: {failed}, <b>" in page and f"{failed - recorded} not on record" in page
    for entry in results["hypotheses"]:
        for found in (*entry["claims"], *entry["controls"]):
            found["recorded"] = found["recorded"] or {"refuted": "refuted", "failed": "failed"}.get(found["verdict"])
    page = claims_table_html(results)
    assert new_failures(results) == (failed, failed) and f"Failures: {failed}, all on record" in page
    assert 'class="pr-new"' not in page


def test_every_row_shows_an_example_pair(results, folder):
    pictures, reference, prompts = (example(entry, folder) for entry in results["hypotheses"][:3])
    assert all(side["thumbnail"].startswith("data:image/jpeg") for side in pictures["sides"])
    assert [side["words"] for side in pictures["sides"]] == [
        [(results["hypotheses"][0][side], False)] for side in ("a", "b")
    ]
    assert reference["sides"][0]["thumbnail"] and not reference["sides"][1]["thumbnail"]  # one picture for both
    assert any(differs for _, differs in prompts["sides"][0]["words"]) and prompts["prompts"]
    assert example(results["hypotheses"][3], folder) is None is example({}, folder)
    assert example(results["hypotheses"][0], None)["sides"][0]["thumbnail"] is None
    page = claims_table_html(results, folder)
    top = page[page.index('class="pr-matrix"') : page.index('class="pr-legend"')]
    assert top.count("<img") == 3 and len(top) < 60_000


def test_an_example_is_cut_to_what_differs_and_the_words_beside_it():
    a, b = word_diff("in a hospital the glazed door of a ward", "in a hospital the boarded door of a ward")
    assert "".join(text for text, _ in differing(a)) == "hospital the glazed door of"
    assert [text for text, differs in differing(b) if differs] == ["boarded"]
    a, b = word_diff("a dance pose here", "a T-pose here")
    assert "".join(text for text, _ in differing(b)) == "a T-pose here"
    long = differing(word_diff("x " + "one two three four five " + "y", "x six y")[0])
    assert "".join(text for text, _ in long).split() == "one two three four five".split()
    assert differing(None) == differing([("same", False)]) == []


def test_the_evidence_stands_once_and_every_link_of_the_page_finds_it(results, folder):
    leave_ladder(results["hypotheses"][1])
    state(results)
    section = evidence_section(results, folder, lambda test: f"again {test}", {"self_reference": ["<p>more</p>"]})
    page = claims_table_html(results, folder) + section
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert len(links) > 20 and links <= set(identifiers)
    assert "<p>more</p>" in section and "<script" not in page
    for entry in results["hypotheses"]:
        for claim in entry["claims"]:
            assert section.count(f"again {claim['test']}<") == 1
    assert section.count("Not climbed: rungs 2 to 12") == 1
    pictures = results["hypotheses"][0]["stimuli"]["pairs"]
    assert section.count("data:image/jpeg") == 2 * len(pictures) + 1  # every picture of the pairs, and the reference
    assert evidence_section({"hypotheses": []}, folder, str) == ""


def test_what_is_coloured_is_a_variable_with_a_value_for_dark():
    css = stylesheet()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    names_of = [set(re.findall(r"--([\w-]+):", block)) for block in (light, dark)]
    assert names_of[0] == names_of[1]
    used = set(re.findall(r"var\(--([\w-]+)\)", css)) - {"cell", "cells", "used", "name", "example"}
    assert used <= names_of[0]
    rest = css.replace(light, "").replace(dark, "")
    assert not re.search(r"#[0-9a-f]{3,6}\b(?![^{]*\{)", rest)
    assert "@media print" in css and "prefers-color-scheme: dark" in css
