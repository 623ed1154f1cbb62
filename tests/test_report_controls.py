"""The ladder in every view: matrix, statements, evidence of controls, calibration."""

import copy
import re
from html import unescape

import pytest
from report_factory import NOT_CLIMBED, UNCHANGED, evidence_html, leave_ladder, make_results, state

from fixtures.claims.ladder import CONTROLS, LADDER
from fixtures.claims.limits import limits
from fixtures.claims.statement import statement
from fixtures.report.calibration import calibration_view, power_figure
from fixtures.report.claim.measured import SIZE_LIMIT
from fixtures.report.control.evidence import control_html
from fixtures.report.control.ladder import cells, gaps, not_climbed, sentence
from fixtures.report.control.outcome import outcome, outcome_tally
from fixtures.report.control.tables import facts, sections
from fixtures.report.overview import claims_table_html
from fixtures.report.parts.caveats import NULL_SHOWS, WORD_RULE
from fixtures.report.parts.formats import DASH, decimal, p_value, percent, significant, times
from fixtures.report.parts.templating import stylesheet
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


def limits_of(results):
    return limits(results["hypotheses"])


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
        *(words for rung in LADDER for words in (rung.passing, rung.failing)),
    ):
        text = text.replace(fixed, "")
    return len(re.findall("represents", text, re.IGNORECASE))


OUTCOMES = ["stopped by rung 3", "absent", "represented, used", "undecided"]


def matrix_row(results, title):
    """Cells of a hypothesis's row in the matrix of summary.md."""
    line = next(line for line in summary_markdown(results).splitlines() if line.startswith(f"| {title} | "))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_hypothesis_shows_its_outcome_in_the_matrix(results):
    assert [entry["statement"]["outcome"] for entry in results["hypotheses"]] == [
        *("stopped", "absent", "represents", "undecided")
    ]
    assert [outcome(entry).verdict for entry in results["hypotheses"]] == OUTCOMES
    page = claims_table_html(results)
    rows = [
        next(row for row in re.split('(?=<details class="pr-row">)', page) if f">{entry['title']}</span>" in row)
        for entry in results["hypotheses"]
    ]
    styles = ["stopped", "absent", "represented", "undecided"]
    said = ["stopped", "absent", "represented, used", "undecided"]
    for entry, row, words, style, name in zip(results["hypotheses"], rows, OUTCOMES, styles, said, strict=True):
        symbol = {"stopped": "✗", "absent": "∅", "represented": "✓", "undecided": "?"}[style]
        badge = f'<span class="pr-badge pr-{style}"><span class="pr-symbol" aria-hidden="true">{symbol}</span>{words}<'
        assert badge in row and entry["statement"]["sentence"] in unescape(row)
        assert row.index(entry["title"]) < row.index("pr-statement") < row.index(badge)
        assert f"{symbol}</span>{name}</b>" in row[: row.index("</summary>")]
        assert matrix_row(results, entry["title"])[1] == f"**{symbol} {words}**"


@pytest.mark.parametrize("step", [step for step in LADDER[1:] if step.of_represents], ids=lambda step: step.id)
def test_the_rung_that_stops_a_hypothesis_is_named(results, step):
    entry, control = named(results, step.id)
    control["verdict"] = "failed"
    if step.id == "untrained":
        control["evidence"]["amplification"] |= {"absent_p": 1.0}
    entry["statement"] = statement(entry)
    words = f"stopped by rung {step.number}"
    assert outcome(entry).verdict == words and f"</span>{words}</span>" in claims_table_html(results)
    assert entry["statement"]["sentence"].startswith(f"Stopped by rung {step.number}, {step.title.lower()}. ")


def test_outcomes_are_counted_at_the_head_of_every_view(results):
    counted = "Hypotheses: 1 represented (1 used), 1 stopped, 1 absent, 1 undecided"
    claims = "Claims: 6 supported, 2 refuted, 1 inconclusive, 1 not evaluated"
    assert summary_markdown(results).startswith(f"# {counted}. {claims}\n")
    assert terminal_lines(results)[0] == f"{counted}. {claims}"
    page = claims_table_html(results)
    first = re.search(r'<p class="pr-tally">(.*?)</p>', page)[1]
    second = re.search(r'<span class="pr-tally"><h3>Claims</h3>(.*?)</summary>', page)[1]
    assert '<b>1</b> represented <span class="pr-of">(1 used)</span>' in first
    assert re.findall(r"<b>(\d+)</b> ([a-z]+)", first) == [
        *(("1", "represented"), ("1", "stopped"), ("1", "absent"), ("1", "undecided"))
    ]
    assert re.findall(r"<b>(\d+)</b>", second) == ["6", "2", "1", "1"]
    results["hypotheses"].append(copy.deepcopy(results["hypotheses"][0]))
    assert outcome_tally(results) == {"represented": 1, "stopped": 2, "absent": 1, "undecided": 1}


def test_outcomes_are_read_and_never_decided_again(results):
    """What results.json states is shown whatever the verdicts, and an outcome beyond its own ``represents`` is not."""
    entry = results["hypotheses"][2]
    for control in entry["controls"]:
        control["verdict"] = "failed"
    assert outcome(entry).verdict == "represented, used"
    for beyond in (False, None, "true", 1):
        entry["statement"]["uses"] = beyond
        assert outcome(entry).verdict == "represented" and "(1 used)" not in summary_markdown(results)
        assert "uses" not in sentence(entry)
    entry["statement"]["uses"] = True
    for beyond in (False, None, "true", 1):
        entry["statement"]["represents"] = beyond
        assert outcome(entry) is None and matrix_row(results, entry["title"])[1] == DASH
        assert outcome_tally(results)["represented"] == 0
    for stated in (None, {}, {"outcome": None}, {"outcome": "compared"}, "x"):
        entry["statement"] = stated
        assert outcome(entry) is None
    entry["statement"] = {"outcome": "<odd>", "represents": False}
    assert outcome(entry).style == "unknown" and outcome_tally(results)["<odd>"] == 1
    assert "&lt;odd&gt;" in claims_table_html(results) and "<odd>" not in claims_table_html(results)
    entry["statement"] = {"outcome": "stopped", "stopped_by": "no such rung"}
    assert outcome(entry).verdict == "stopped"


def test_without_statements_the_head_counts_claims_alone(results):
    for entry in results["hypotheses"]:
        del entry["statement"]
    assert outcome_tally(results) == outcome_tally({}) == {}
    assert terminal_lines(results)[0] == "6 supported, 2 refuted, 1 inconclusive, 1 not evaluated"
    page = claims_table_html(results)
    assert '<p class="pr-tally">' not in page and page.count('<span class="pr-tally">') == 1


def test_what_was_not_climbed_takes_one_line_of_the_terminal_and_is_quiet_in_the_matrix(results):
    leave_ladder(results["hypotheses"][1])
    state(results)
    lines = [line for line in terminal_lines(results) if "physical_scale/" in line]
    assert lines[-1] == f"NOT CLIMBED   physical_scale/rungs 2 to 12: {NOT_CLIMBED}"
    assert len(lines) == len(results["hypotheses"][1]["claims"]) + 1
    html = claims_table_html(results)
    cells_ = re.findall(r'<td class="pr-cell pr-cell-not-climbed">(.*?)</td>', html, re.DOTALL)
    assert len(cells_) == 7 + 4 + 4 and all('aria-hidden="true">·</span><b>not climbed</b>' in cell for cell in cells_)
    assert ".pr-cell-not-climbed" in stylesheet()
    assert matrix_row(results, "Physical scale")[3:] == ["· not climbed"] * 11
    entry = results["hypotheses"][3]
    leave_ladder(entry)  # the same reason is not said twice
    assert terminal_lines(results)[-2] == f"NOT CLIMBED   self_reference/rungs 2 to 12: {NOT_CLIMBED}"
    entry["claims"][0]["reason"] = NOT_CLIMBED
    assert terminal_lines(results)[-2] == "NOT CLIMBED   self_reference/rungs 2 to 12: same reason"


def test_rungs_that_were_not_climbed_are_named_as_ranges(results):
    entry = results["hypotheses"][1]
    leave_ladder(entry)
    assert not_climbed(entry) == [("rungs 2 to 12", NOT_CLIMBED)]
    for name, verdict in (("familywise", "passed"), ("input", "failed"), ("held_out", "not evaluated")):
        next(control for control in entry["controls"] if control["id"] == name)["verdict"] = verdict
    assert not_climbed(entry) == [("rungs 3 to 4, 6 to 7, 9 to 12", NOT_CLIMBED)]
    entry["controls"][1]["reason"] = "another"
    assert not_climbed(entry) == [("rung 3", "another"), ("rungs 4, 6 to 7, 9 to 12", NOT_CLIMBED)]
    entry["controls"][1]["id"] = "of tomorrow"
    assert not_climbed(entry)[0] == ("of tomorrow", "another")
    assert not_climbed({}) == not_climbed(results["hypotheses"][2]) == []
    terminal = "\n".join(terminal_lines(results))
    assert "FAILED        physical_scale/input" in terminal and "physical_scale/rungs 4, 6 to 7, 9 to 12: " in terminal


def test_the_evidence_of_what_was_not_climbed_is_short(results, folder):
    entry = results["hypotheses"][1]
    leave_ladder(entry)
    for control, step in zip(entry["controls"], LADDER[1:], strict=True):
        html = control_html(entry, control, folder)
        assert f"<p>{NOT_CLIMBED}</p>" in html and step.title in html and "</span>not climbed</span>" in html
        assert step.passing not in unescape(html) and "Run this test again" not in html and "<dl" not in html
        assert len(html) < 700 and "units.csv" not in html and "None" not in html


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
    found = statement(entry)
    assert (found["sentence"], found["brief"]) == (
        "Whether it exceeds chance was not decided.",
        "rung 1 was not decided",
    )


def test_the_matrix_has_a_cell_for_every_hypothesis_and_rung(results):
    verdicts = [[cell.verdict for cell in cells(entry)] for entry in results["hypotheses"]]
    assert verdicts[0] == ["passed", "passed", "failed", "not evaluated", *["passed"] * 4, *["not climbed"] * 4]
    assert verdicts[1] == ["failed", "failed", *["passed"] * 3, "not evaluated", *["not run"] * 6]
    assert verdicts[2] == ["passed"] * 12
    assert verdicts[3] == ["not evaluated", "not run", "not evaluated", *["not run"] * 9]
    html = claims_table_html(results)
    shown = re.findall(r'<td class="pr-cell pr-cell-([\w-]+)">(.*?)</td>', html, re.DOTALL)
    furthest_first = [verdicts[place] for place in (2, 0, 1, 3)]
    assert [style.replace("-", " ") for style, _ in shown] == [verdict for row in furthest_first for verdict in row]
    for style, cell in shown:  # told by a symbol and a word as well as by colour
        symbol = {"passed": "✓", "failed": "✗", "not-evaluated": "–", "not-run": "○", "not-climbed": "·"}[style]
        assert f'aria-hidden="true">{symbol}</span><b>{style.replace("-", " ")}</b>' in cell
        assert ("href" in cell) == (style not in ("not-run", "not-climbed"))
    markdown = next(line for line in summary_markdown(results).splitlines() if line.startswith("| Physical scale |"))
    assert markdown.count("○ not run") == 6 and "✗ failed (on record), 0 units, p = 0.62" in markdown


def test_a_cell_links_to_the_evidence_of_its_control(results, folder):
    html = claims_table_html(results)
    anchors = [
        re.search(r'<article class="probe-evidence" id="([^"]+)"', control_html(entry, control, folder))[1]
        for entry, control in controls_of(results)
    ]
    assert len(set(anchors)) == 28
    climbed = [control["verdict"] != "not climbed" for _, control in controls_of(results)]
    assert [html.count(f'href="#{anchor}"') for anchor in anchors] == [*map(int, climbed)] and sum(climbed) == 24


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
    others = ", ".join(rung.word for rung in LADDER[1:])
    assert [(gap.words, gap.verdict, gap.why) for gap in gaps(entry)] == [
        ("exceeds chance", "failed", failing["null"]),
        (others, "no ground without rung 1", ""),
    ]
    for claim in entry["claims"]:
        claim |= {"verdict": "supported", "p_holm": 0.01}
    assert [(gap.words, gap.verdict, gap.why) for gap in gaps(entry)] == [
        ("selective", "failed", failing["placebo"]),
        ("learned", "not evaluated", "three of each are needed"),
        ("sufficient, necessary, specific, dose-dependent", "not climbed", UNCHANGED),
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
    for text in (NULL_SHOWS, WORD_RULE, *limits_of(results)):
        assert page.replace("&#39;", "'").count(text) == markdown.count(text) == 1


def test_a_run_without_controls_says_that_they_were_not_run(results):
    for entry in results["hypotheses"]:
        entry.pop("controls", None), entry.pop("statement")
    results.pop("calibration"), results.pop("multiple_testing")
    html, markdown = claims_table_html(results), summary_markdown(results)
    assert html.count('pr-cell-not-run">') == 44 and markdown.count("○ not run") == 44
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
    assert f"PASSED        ethical_valence/held_out: {named(results, 'held_out')[1]['number']}, p 8.7e-20" in lines
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


def effects_of(found):
    """Effects as the tables print them: the model's, and the least and most of the twins'."""
    twins = [twin["percent"] for twin in found["twins"]]
    return tuple(f"{significant(value)} %" for value in (found["percent"], min(twins), max(twins)))


def ratio_of(found):
    """A row of the tables of ratios, after its name."""
    return (
        times(found["ratio"]),
        f"{times(found['interval'][0])} to {times(found['interval'][1])}",
        times(found["margin"]),
        p_value(found["p"]),
        p_value(found["absent_p"]),
        decimal(found["power"]),
        decimal(found["over_pairs"], 3),
        decimal(found["over_networks"], 3),
    )


def test_placebo_shows_size_effect_and_outcome_of_every_set(results):
    sets = named(results, "placebo")[1]["evidence"]["sets"]
    sets[1] |= {"name": "other image seed", "amount": None, "is_zero": True, "beaten": False}
    rows = {row[0]: row[1:] for row in table(results, "placebo", "Placebo sets")}
    assert len(rows) == len(sets)
    assert rows["brightness"] == ("0.246763", "25", "0.642", "1.00×", *effects_of(sets[0]["selectivity"]), "yes")
    same = rows["other image seed (no change of the state)"]
    assert same[0] == DASH and same[4:] == (*effects_of(sets[1]["selectivity"]), "no")
    assert ("Concept’s distance (reference latents)", "0.642") in facts(named(results, "placebo")[1])


def test_placebo_shows_how_much_more_the_concept_is_amplified_than_each_set(results):
    sets = named(results, "placebo")[1]["evidence"]["sets"]
    rows = table(results, "placebo", "Amplification of the concept over that of the placebo")
    assert rows == [(entry["name"], *ratio_of(entry["selectivity"])) for entry in sets]
    sets[0]["selectivity"] |= {"interval": None, "over_pairs": None}
    row = table(results, "placebo", "Amplification of the concept over that of the placebo")[0]
    assert (row[2], row[-2]) == (DASH, DASH) and row[1] == rows[0][1]


def test_a_set_without_a_declared_placebo_has_no_tables_of_it(results, folder):
    entry, control = named(results, "placebo")
    control |= {"verdict": "not evaluated", "number": "", "p": None, "reason": "no placebo is declared"}
    control["evidence"] |= {"sets": [], "concept": None}
    html = control_html(entry, control, folder)
    assert "<b>Why not evaluated:</b> no placebo is declared" in html and "<table" not in html
    entry["statement"] = statement(entry)
    assert entry["statement"]["outcome"] == "represents", "where no placebo is declared, rung 3 is not required"


def test_whether_an_adjusted_count_holds_is_read_and_not_decided_again(results):
    """The decision asks for more than the required units: the count must exceed its own null too."""
    adjusted = named(results, "confounds")[1]["evidence"]["adjusted"]
    adjusted[0] |= {"observed": 50, "required": 12.0, "p99": 70, "holds": False}
    adjusted[1] |= {"observed": 0, "required": 12.0, "p99": 70, "holds": True}
    assert [row[-1] for row in table(results, "confounds", "With it taken out")] == ["no", "yes"]
    del adjusted[0]["holds"]  # a run from before it was stored
    assert table(results, "confounds", "With it taken out")[0][-1] == "–"


def test_the_effect_of_the_model_stands_among_those_of_its_twins(results, folder):
    entry, control = named(results, "untrained")
    found = control["evidence"]["amplification"]
    rows = table(results, "untrained", "This model among untrained twins")
    assert [row[0] for row in rows] == ["re-initialised", "shuffled"]
    for kind, *row in rows:
        own = found | {"twins": [twin for twin in found["twins"] if twin["kind"] == kind]}
        assert row == ["3", *effects_of(own)]
    assert table(results, "untrained", "Amplification over the twins") == [("all twins", *ratio_of(found))]
    strip = control_html(entry, control, folder)
    assert strip.count('<svg class="pr-strip"') == 1 and strip.count('<circle class="pr-dot"') == 6 + 1  # the legend's
    shown = ", ".join(significant(twin["percent"]) for twin in found["twins"] if twin["kind"] == "shuffled")
    assert f"shuffled: this model {significant(found['percent'])}, untrained twin " in strip and all(
        value in strip for value in shown.split(", ")
    )


def test_counts_of_every_twin_stand_beside_those_of_the_model_and_decide_nothing(results, folder):
    entry, control = named(results, "untrained")
    control["evidence"]["kinds"][0]["twins"][2] |= {"counts": None, "reason": "no memory for a twin"}
    rows = table(results, "untrained", "Units of every twin")
    assert len(rows) == 7 and rows[0][:4] == ("this model", "179", "37", "6.6×10⁻⁷")
    twin = control["evidence"]["kinds"][1]["twins"][0]["counts"]
    figures = [text for one in twin for text in (str(one["observed"]), str(one["p99"]), p_value(one["p"]))]
    assert rows[4] == ("shuffled, seed 0", *figures)
    assert rows[3] == ("re-initialised, seed 2 (not evaluated: no memory for a twin)", *[DASH] * 6)
    assert "Counts decide nothing here" in control_html(entry, control, folder)


def test_without_an_amplification_the_counts_stand_alone(results, folder):
    entry, control = named(results, "untrained", 0)  # not evaluated
    assert control["evidence"]["amplification"] is None
    assert [section.title for section in sections(entry, control, 100)] == ["Units of every twin"]
    assert "pr-strip" not in control_html(entry, control, folder)


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
    rows = {row[0]: row[1:] for row in table(results, "replication", "Checks")}
    found = named(results, "replication")[1]["evidence"]
    assert len(rows) == 7 and set(found) == {"split_half", *(f"without_one_{x}" for x in ("pair", "category"))} | {
        "second_seed"
    }
    for what in ("pair", "category"):
        left = found[f"without_one_{what}"]
        detail = f"without {left['without']}, p = {p_value(left['p'])}"
        assert rows[f"smallest effect without any one {what}"] == (f"{significant(left['percent'])} %", detail)
    found = named(results, "held_out")[1]["evidence"]
    figures = f"null p99 {decimal(found['p99'])}, p = {p_value(found['p'])}"
    halves, wordings = table(results, "held_out", "Checks")
    assert halves[1:] == (decimal(found["observed"]), figures)
    figures = f"more than 0.391 %, p = {p_value(found['wordings']['p'])}"
    assert wordings[1:] == (f"{significant(found['wordings']['percent'])} %", figures)


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
