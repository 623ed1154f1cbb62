"""The ladder in every view: matrix, statements, evidence of controls, calibration."""

import copy
import re
from html import unescape

import pytest
from report_factory import make_results

from fixtures.claims.ladder import CONTROLS, LADDER, LIMITS
from fixtures.claims.statement import statement
from fixtures.report.calibration import calibration_view, power_figure
from fixtures.report.claim.evidence import SIZE_LIMIT, evidence_html
from fixtures.report.control.evidence import control_html
from fixtures.report.control.ladder import cells, gaps
from fixtures.report.control.tables import facts, sections
from fixtures.report.overview import claims_table_html
from fixtures.report.parts.caveats import NULL_SHOWS, WORD_RULE
from fixtures.report.parts.formats import decimal, p_value, percent
from fixtures.report.text_views import summary_markdown, terminal_lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def made(folder):
    """A claim failed, and controls passed, failed, not evaluated and not run; the third hypothesis passed them all."""
    return make_results(folder, side=16)


@pytest.fixture
def results(made):
    return copy.deepcopy(made)


def controls_of(results):
    return [(entry, control) for entry in results["hypotheses"] for control in entry["controls"]]


def named(results, name, hypothesis=2):
    entry = results["hypotheses"][hypothesis]
    return entry, next(control for control in entry["controls"] if control["id"] == name)


def table(results, name, title, hypothesis=2):
    """The rows of a control's table, without the bars."""
    found = next(section for section in sections(*named(results, name, hypothesis), 100) if section.title == title)
    return [tuple(getattr(cell, "text", cell) for cell in row) for row in found.rows]


def every_view(results, folder):
    yield claims_table_html(results)
    yield summary_markdown(results)
    yield "\n".join(terminal_lines(results))
    for hypothesis in results["hypotheses"]:
        yield from (evidence_html(hypothesis, claim, folder, results["model"]) for claim in hypothesis["claims"])
        yield from (control_html(hypothesis, control, folder) for control in hypothesis["controls"])


def established(text):
    """How often a text says "represents", beyond the rule for the word and the fixed limits."""
    for fixed in (
        WORD_RULE,
        NULL_SHOWS,
        *LIMITS,
        *(words for rung in LADDER for words in (rung.passing, rung.failing)),
    ):
        text = text.replace(fixed, "")
    return len(re.findall("represents", text, re.IGNORECASE))


def test_represents_is_said_only_where_the_statement_holds(results, folder):
    assert [entry["statement"]["represents"] for entry in results["hypotheses"]] == [False, False, True, False]
    assert [established(view) for view in every_view(results, folder)][:3] == [1, 1, 1]
    entry, control = named(results, "placebo")
    control["verdict"] = "failed"
    entry["statement"] = statement(entry)
    assert not any(established(view) for view in every_view(results, folder))


@pytest.mark.parametrize("represents", [False, None, "true", 1])
def test_a_sentence_that_goes_beyond_its_statement_is_not_shown(results, folder, represents):
    results["hypotheses"][2]["statement"]["represents"] = represents
    assert not any(established(view) for view in every_view(results, folder))


def test_the_matrix_leaves_rung_1_open_where_a_claim_was_not_selected(results):
    entry = copy.deepcopy(results["hypotheses"][2]) | {"exceedance_claims": 3}
    assert cells(entry)[0].verdict == "not evaluated" and gaps(entry)[0].words == LADDER[0].word
    assert statement(entry)["sentence"] == "Whether it exceeds chance was not decided."


def test_the_matrix_has_a_cell_for_every_hypothesis_and_rung(results):
    verdicts = [[cell.verdict for cell in cells(entry)] for entry in results["hypotheses"]]
    assert verdicts[0] == ["passed", "passed", "failed", "not evaluated", *["passed"] * 4]
    assert verdicts[1] == ["failed", "failed", "passed", "passed", "passed", "not evaluated", "not run", "not run"]
    assert verdicts[2] == ["passed"] * 8
    assert verdicts[3] == ["not evaluated", "not run", "not evaluated", *["not run"] * 5]
    html = claims_table_html(results)
    shown = re.findall(r'<td class="pr-cell pr-cell-([\w-]+)">(.*?)</td>', html, re.DOTALL)
    assert [style.replace("-", " ") for style, _ in shown] == [verdict for row in verdicts for verdict in row]
    for style, cell in shown:  # told by a symbol and a word as well as by colour
        symbol = {"passed": "✓", "failed": "✗", "not-evaluated": "–", "not-run": "○"}[style]
        assert f'aria-hidden="true">{symbol}</span><b>{style.replace("-", " ")}</b>' in cell
        assert ("href" in cell) == (style != "not-run")
    markdown = next(line for line in summary_markdown(results).splitlines() if line.startswith("| Physical scale |"))
    assert markdown.count("○ not run") == 2 and "✗ failed (on record), 0 units, p = 0.62" in markdown


def test_a_cell_links_to_the_evidence_of_its_control(results, folder):
    html = claims_table_html(results)
    anchors = [
        re.search(r'<article class="probe-evidence" id="([^"]+)"', control_html(entry, control, folder))[1]
        for entry, control in controls_of(results)
    ]
    assert len(set(anchors)) == 20
    assert all(html.count(f'href="#{anchor}"') == 1 for anchor in anchors)


def test_the_null_stands_in_the_words_of_the_claim_that_decides_it(results):
    entry = results["hypotheses"][2]
    low, high = entry["claims"][:2]
    assert cells(entry)[0].number.startswith(f"{low['observed']} at |t| > 3 (")
    assert cells(entry)[0].p_holm
    high["verdict"] = "refuted"
    assert cells(entry)[0].verdict == "failed"
    assert cells(entry)[0].number.startswith(f"{high['observed']} at |t| > 5 (")
    high |= {"verdict": "inconclusive", "reason": "too few pairs"}
    assert (cells(entry)[0].verdict, cells(entry)[0].reason) == ("not evaluated", "too few pairs")


def test_what_has_not_been_shown_is_listed_with_its_reason(results):
    failing = {rung.id: rung.failing for rung in LADDER}
    entry = results["hypotheses"][0]
    entry["claims"][1]["verdict"] = "refuted"
    others = "localised, selective, learned, not inherited from the input, not a confound, replicates"
    assert [(gap.words, gap.verdict, gap.why) for gap in gaps(entry)] == [
        ("exceeds chance", "failed", failing["null"]),
        (others, "no ground without rung 1", ""),
    ]
    for claim in entry["claims"]:
        claim |= {"verdict": "supported", "p_holm": 0.01}
    assert [(gap.words, gap.verdict, gap.why) for gap in gaps(entry)] == [
        ("selective", "failed", failing["placebo"]),
        ("learned", "not evaluated", "three of each are needed"),
    ]
    assert gaps(results["hypotheses"][2]) == []
    entry["controls"].pop()
    assert gaps(entry)[-1].verdict == "not run"
    page, markdown = claims_table_html(results), summary_markdown(results)
    assert f"<b>selective</b>: failed. {failing['placebo']}" in page
    assert f"  - Not shown: **selective**, failed. {failing['placebo']}" in markdown


def test_counts_that_do_not_survive_the_correction_are_not_shown(results):
    entry = results["hypotheses"][2]
    entry["claims"][1]["p_holm"] = 0.08
    assert [(gap.verdict, gap.why) for gap in gaps(entry)] == [("failed", "p = 0.080")]
    del entry["claims"][1]["p_holm"]
    assert [(gap.verdict, gap.why) for gap in gaps(entry)] == [("not evaluated", "")]


def test_every_view_has_the_sentence_of_each_hypothesis_and_one_text_on_the_null(results):
    page, markdown, terminal = claims_table_html(results), summary_markdown(results), "\n".join(terminal_lines(results))
    for entry in results["hypotheses"]:
        assert all(entry["statement"]["sentence"] in view for view in (page, markdown, terminal))
    for text in (NULL_SHOWS, WORD_RULE, *LIMITS):
        assert page.replace("&#39;", "'").count(text) == markdown.count(text) == 1


def test_a_run_without_controls_says_that_they_were_not_run(results):
    for entry in results["hypotheses"]:
        entry.pop("controls", None), entry.pop("statement")
    results.pop("calibration"), results.pop("multiple_testing")
    html, markdown = claims_table_html(results), summary_markdown(results)
    assert html.count('pr-cell-not-run">') == 28 and markdown.count("○ not run") == 28
    assert "Calibration" not in html + markdown and "None" not in html + markdown
    assert not any(line.startswith("STATEMENT") for line in terminal_lines(results))


def test_p_stands_beside_its_correction(results, folder):
    entry = results["hypotheses"][2]
    entry["claims"][0] |= {"p": 0.0123, "p_holm": 0.0456}
    page, markdown = claims_table_html(results), summary_markdown(results)
    assert '<td class="pr-num">0.012</td><td class="pr-num">0.046</td>' in page and "| 0.012 | 0.046 |" in markdown
    html = evidence_html(entry, entry["claims"][0], folder, results["model"])
    assert "p = 0.012 (0.046 after Holm’s correction" in html and "<dt>p, Holm</dt><dd>0.046</dd>" in html
    assert "corrected for the 6 claims" in page
    assert "Holm’s" not in evidence_html(entry, entry["claims"][2], folder, results["model"])


def test_terminal_has_a_line_per_control_and_marks_what_is_on_record(results):
    lines = terminal_lines(results)
    assert f"PASSED        ethical_valence/held_out: {named(results, 'held_out')[1]['number']}, p 0.002" in lines
    assert "NOT EVALUATED arrow_of_time_rendered/untrained: three of each are needed" in lines
    failed = [line for line in lines if line.startswith("FAILED")]
    assert len(failed) == 2 and all(line.endswith("p 0.62 [failure on record]") for line in failed)
    assert sum(line.startswith("STATEMENT     ") for line in lines) == 4


@pytest.mark.parametrize("rung", LADDER[1:], ids=lambda rung: rung.id)
def test_the_evidence_of_a_control_leads_with_verdict_and_question(results, folder, rung):
    entry, control = named(results, rung.id)
    html = control_html(entry, control, folder)
    page = unescape(html)
    assert page.index("✓</span>passed") < page.index(rung.question) < page.index(f"<dd>{rung.passing}")
    assert rung.failing in page and control["reason"] in page
    assert f"pytest 'probes/test_ethical_valence.py::test_control[{rung.id}]'" in page
    assert "<pre>pytest x</pre>" in control_html(entry, control, folder, "pytest x")
    assert "None" not in html and "<script" not in html and len(html.encode()) <= SIZE_LIMIT
    assert results["model"]["label"] in control_html(entry, control, folder, "pytest x", results["model"])


def test_a_control_that_was_not_evaluated_shows_its_reason(results, folder):
    entry = results["hypotheses"][3]
    html = control_html(entry, entry["controls"][0], folder)
    assert "<b>Why not evaluated:</b> stimuli/self_reference.toml: no such file" in html and "<table" not in html


def test_a_failure_on_record_is_named_as_such(results, folder):
    assert "On record" in control_html(*named(results, "placebo", 0), folder)
    assert "On record" not in control_html(*named(results, "placebo", 2), folder)


def test_familywise_lists_the_strongest_units_and_links_to_all(results, folder):
    rows = table(results, "familywise", "Units that stand out family-wise")
    assert len(rows) == 50 and rows[0] == ("single[3]", "text+image", "MLP", "256–271", "+8.73", "5.4×10⁻⁷")
    assert ("Critical |t|", "3.84") in facts(named(results, "familywise")[1])
    assert 'href="ethical_valence.units.csv.gz"' in control_html(*named(results, "familywise"), folder)


def test_placebo_shows_size_count_and_outcome_of_every_set(results, folder):
    sets = named(results, "placebo")[1]["evidence"]["sets"]
    sets[1] |= {"name": "other image seed", "is_zero": True, "matched": None}
    sets.append({"name": "another event", "counts": None, "reason": "no pair of it is left"})
    rows = {row[0]: row[1:] for row in table(results, "placebo", "Concept against placebo sets")}
    size = ("0.246763", "25", "0.642", "1.00×", "–", "–", "yes")
    assert rows["brightness"] == (*size, "179 − 112 = +67", "0.094", "107 − 45 = +62", "2.0×10⁻⁴", "268.8", "yes")
    assert rows["other image seed"][6] == "no change at all"
    assert rows["another event (not evaluated: no pair of it is left)"][7:] == ("–",) * 6
    assert ("Same size: a distance of", "0.8 to 1.25 ×") in facts(named(results, "placebo")[1])
    assert control_html(*named(results, "placebo"), folder).count('<svg class="pr-strip"') == 2


def test_placebo_shows_how_regular_a_set_is_and_what_the_margin_requires_beside_it(results):
    control = named(results, "placebo")[1]
    control["evidence"]["sets"][0] |= {"regularity": [0.61, 0.84], "required": 40.8}
    row = table(results, "placebo", "Concept against placebo sets")[0]
    assert row[5:7] == ("0.61", "0.84") and row[-2:] == ("40.8", "yes")


def test_whether_an_adjusted_count_holds_is_read_and_not_decided_again(results):
    """The decision asks for more than the required units: the count must exceed its own null too."""
    adjusted = named(results, "confounds")[1]["evidence"]["adjusted"]
    adjusted[0] |= {"observed": 50, "required": 12.0, "p99": 70, "holds": False}
    adjusted[1] |= {"observed": 0, "required": 12.0, "p99": 70, "holds": True}
    assert [row[-1] for row in table(results, "confounds", "With it taken out")] == ["no", "yes"]
    del adjusted[0]["holds"]  # a run from before it was stored
    assert table(results, "confounds", "With it taken out")[0][-1] == "–"


def test_untrained_twins_stand_beside_the_model_with_their_range(results, folder):
    kind = named(results, "untrained")[1]["evidence"]["kinds"][0]
    kind["twins"][2] |= {"counts": None, "reason": "no memory for a twin"}
    first = table(results, "untrained", "This model among untrained twins")[0]
    assert first == ("re-initialised", "2 of 3", "179", "0–1", "107", "0", p_value(kind["p"]))
    rows = table(results, "untrained", "Every twin")
    assert len(rows) == 7 and rows[0][0] == "this model"
    assert rows[3][0] == "re-initialised, seed 2 (not evaluated: no memory for a twin)"
    assert control_html(*named(results, "untrained"), folder).count('<svg class="pr-strip"') == 2


def test_the_input_stands_beside_the_units_and_is_taken_out(results):
    _, control = named(results, "input")
    rows = table(results, "input", "Share of the units, and of the input’s groups")
    assert rows[0][:5] == ("units of the transformer", "320", "–", "179", "55.9%")
    assert rows[1][:4] == ("text embeddings", "8", "4", "0")
    row = table(results, "input", "With it taken out")[0]
    assert row[:4] == ("3", "3.01", "179", "180") and row[-1] == "yes"
    assert (
        "Component’s share of the input’s differences",
        percent(100 * control["evidence"]["component_share"]),
    ) in facts(control)


def test_confounds_show_how_they_differ_and_whether_they_were_taken_out(results):
    same = {"name": "prompt tokens", "mean": 0.0, "sd": 0.0, "t": None, "p": None, "used": False}
    named(results, "confounds")[1]["evidence"]["confounds"].append(same)
    luminance, *_, tokens = table(results, "confounds", "Confounds: differences within pairs")
    assert luminance == ("mean luminance", "0.00118", "0.0288", "+0.20", "0.84", "yes")
    assert tokens[-1] == "no: does not differ"
    assert len(table(results, "confounds", "With it taken out")) == 2


def test_replication_and_held_out_selection_show_their_checks(results):
    assert len(table(results, "replication", "Checks")) == 10
    found = named(results, "held_out")[1]["evidence"]
    figures = f"null p99 {decimal(found['p99'])}, p = {p_value(found['p'])}"
    assert table(results, "held_out", "Checks")[0][1:] == (decimal(found["observed"]), figures)


def test_evidence_of_any_size_stays_within_the_limit(results, folder):
    for name, key in (("placebo", "sets"), ("untrained", "kinds"), ("familywise", "units"), ("confounds", "confounds")):
        entry, control = named(results, name)
        control["evidence"][key] *= 2000
        assert len(control_html(entry, control, folder).encode()) <= SIZE_LIMIT


def paths(value, path=()):
    """The path of every value in nested dictionaries and lists."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from paths(item, (*path, key))


def text_of(html):
    return re.sub(r"<[^>]*>", " ", html)


def without(value, path):
    """A copy in which one value is None."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = None
    return value


@pytest.mark.parametrize("rung", CONTROLS)
def test_any_value_of_a_control_may_be_absent(results, folder, rung):
    entry, control = named(results, rung)
    for path in paths(control):
        assert "None" not in text_of(control_html(entry, without(control, path), folder)), path
    assert "None" not in text_of(control_html({}, {}, folder))


def test_any_value_of_the_ladder_and_of_the_calibration_may_be_absent(results):
    for key in ("calibration", "multiple_testing"):
        for path in paths({key: results[key]}):
            part = without({key: results[key]}, path)
            assert "None" not in text_of(claims_table_html(part)) + summary_markdown(part), path
    hypothesis = {
        name: results["hypotheses"][2][name] for name in ("id", "title", "statement", "shares", "counts", "claims")
    }
    hypothesis["shares"], hypothesis["counts"], hypothesis["claims"] = (
        hypothesis[name][:1] for name in ("shares", "counts", "claims")
    )
    hypothesis["counts"][0]["null"]["counts"] = hypothesis["claims"][0]["null"]["count_flips"] = []
    hypothesis["controls"] = [control | {"evidence": {}} for control in results["hypotheses"][2]["controls"]]
    for path in paths({"hypotheses": [hypothesis]}):
        part = without({"hypotheses": [hypothesis]}, path)
        views = (text_of(claims_table_html(part)), summary_markdown(part), "\n".join(terminal_lines(part)))
        assert not any("None" in view for view in views), path


def test_shares_are_shown_under_a_claim_for_both_partitions(results, folder):
    entry = results["hypotheses"][2]
    html = evidence_html(entry, entry["claims"][0], folder, results["model"])
    start = html.index("What the units beyond the threshold are")
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html[start : html.index("</table>", start)])
    assert len(rows) == 1 + len(entry["shares"]) // 2
    heads = next(number for number, row in enumerate(rows) if "attention heads" in row)
    assert "channel groups" in rows[1] and sum(share["partition"] == "channel groups" for share in entry["shares"]) == (
        2 * (heads - 1)
    )
    assert all(value in html[start:] for value in ("MLP", "text+image", "noise", "the same unit can count in several"))
    assert "<h4>Replication</h4>" not in html


def test_twins_of_both_kinds_stand_side_by_side(results):
    page = claims_table_html(results)
    for name in ("untrained twin, re-initialised (seed 0)", "untrained twin, shuffled (seed 1)"):
        assert page.count(f"<td>{name}") == 3


def test_calibration_shows_every_row_and_the_power(results):
    rows, curves = results["calibration"]["rows"], results["calibration"]["power"]["curves"]
    rows[8] |= {"observed": 0.85, "ok": False}
    curves[-1]["d95"] = None
    page, markdown = claims_table_html(results), summary_markdown(results)
    assert f"| ✗ does not hold | **{rows[8]['name']}**: " in markdown and "| 85.0% | ≥ 90.0% |" in markdown
    assert "≤ 5.0%" in page and page.count("</span>does not hold</span>") == 1
    assert page.count("</span>holds</span>") == len(rows) - 1
    assert "| held-out selection | 0.41 | – |" in markdown and "<td>held-out selection</td>" in page
    assert "planted in 36 of 144 units, 25 pairs, 200 runs each" in page
    assert calibration_view({}) is power_figure({}) is None


def test_the_power_figure_is_the_same_every_time(results):
    figure = power_figure(results)
    assert figure == power_figure(copy.deepcopy(results)) and figure.startswith("data:image/svg+xml;base64,")
    assert figure in claims_table_html(results)
