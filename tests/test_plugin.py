"""The plugin on toy projects: one probe file, one stimulus file, klein-tiny. Toy tests are named for their outcome."""

import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from statsmodels.stats.multitest import multipletests
from toy_project import CONTROL, PROBE, STIMULI, claims, controls, known, pairs, results, run, write
from toy_project import folder as newest

import fixtures.session.evaluation
from fixtures.claims.ladder import CAUSAL, CONTROLS
from fixtures.common.errors import ProbeError
from fixtures.models.model import Model
from fixtures.results.schema import SCHEMA
from fixtures.session.options import resolve_settings
from fixtures.stimuli.checker.check import check_stimuli
from fixtures.stimuli.checker.vocabulary import checkpoint_vocabulary
from fixtures.stimuli.sets import load_stimuli

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[1]


def test_supported_passes_and_refuted_fails_with_its_figures(project):
    outcome = run(project)
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.re_match_lines([r".*refuted: \d+ units at \|t\| > 5, null p99 \d+, ratio .*, margin 47 .* p = .*"])
    decided = claims(project)
    assert decided["test_supported"]["verdict"] == "supported" and decided["test_refuted"]["verdict"] == "refuted"


def test_every_control_is_a_test_with_its_verdict_and_evidence(ladder):
    outcome = run(ladder, "--controls", "all")
    found = controls(ladder)
    assert list(found) == list(CONTROLS)
    passed = [name for name, control in found.items() if control["verdict"] == "passed"]
    failed = [name for name, control in found.items() if control["verdict"] == "failed"]
    assert {"placebo", "untrained"} <= {*failed}
    assert {*found} - {*passed, *failed} == {"held_out", *CAUSAL}  # one wording, too few pairs for roles
    assert all("at least 21 are needed" in found[name]["reason"] for name in CAUSAL)
    outcome.assert_outcomes(passed=1 + len(passed), failed=1 + len(failed), skipped=1 + len(CAUSAL))
    assert all(control["test"] == f"probes/test_toy.py::test_control[{name}]" for name, control in found.items())
    assert all(control["reason"] for control in found.values())
    hypothesis = results(ladder)["hypotheses"][0]
    assert hypothesis["statement"]["represents"] is False and hypothesis["stimuli"]["placebo"][0]["id"] == "q0"
    assert [kind["kind"] for kind in found["untrained"]["evidence"]["kinds"]] == ["re-initialised", "shuffled"]
    assert found["replication"]["evidence"]["second_seed"]["seed"] == 1
    page = (ladder.path / "reports/latest/report.html").read_text()
    assert "test_control[placebo]" in page and found["familywise"]["number"] in page


def test_a_second_run_captures_nothing_for_the_controls_either(ladder, monkeypatch):
    run(ladder, "--controls", "all")
    before = controls(ladder)
    for name in ("segments.capture_batches", "measurement.measure_inputs", "placebo.match_alteration"):
        monkeypatch.setattr(f"fixtures.activations.{name}", lambda *arguments: 1 / 0)
    run(ladder, "--controls", "all")
    after = controls(ladder)
    for record in (before, after):
        for kind in record["untrained"]["evidence"]["kinds"]:
            for twin in kind["twins"]:
                twin.pop("activations")
    assert after == before


@pytest.mark.parametrize(
    ("option", "expected"), [("none", []), ("held_out,familywise", ["familywise", "held_out"]), ("all", list(CONTROLS))]
)
def test_controls_are_chosen_by_an_option(ladder, option, expected):
    run(ladder, "--controls", option, "--twins", "0")
    data = results(ladder)
    assert list(controls(ladder)) == expected and data["run"]["complete"] is True
    assert data["hypotheses"][0]["statement"]["represents"] is False
    if option == "all":
        assert controls(ladder)["untrained"]["verdict"] == "not evaluated"
        assert "--twins 3" in controls(ladder)["untrained"]["reason"]


def test_a_hypothesis_declares_which_controls_apply(ladder):
    write(ladder, "probes/test_toy.py", (PROBE + CONTROL).replace('"left")', '"left", controls=("held_out",))'))
    run(ladder)
    assert list(controls(ladder)) == ["held_out"]


def test_without_a_placebo_or_with_few_pairs_a_control_is_not_evaluated(ladder):
    write(ladder, "stimuli/toy.toml", STIMULI + pairs(10))
    run(ladder, "--controls", "placebo")
    assert "declares no placebo" in controls(ladder)["placebo"]["reason"]
    write(ladder, "stimuli/toy.toml", STIMULI + pairs(7))
    run(ladder, "--controls", "placebo,held_out")
    assert {control["verdict"] for control in controls(ladder).values()} == {"not evaluated"}
    assert "7 pairs, at least 8 are needed" in controls(ladder)["held_out"]["reason"]


def test_a_probe_without_a_claim_of_rung_1_has_nothing_to_decide_controls_at(ladder):
    write(ladder, "probes/test_toy.py", PROBE.split("@pytest.mark")[0] + CONTROL.replace("control.passed, c", "c"))
    run(ladder, "--controls", "held_out")
    folder = next((ladder.path / "reports").glob("2*"))
    assert "no claim of a count or an effect" in controls(ladder, folder)["held_out"]["reason"]


def test_a_control_that_is_selected_alone_knows_the_claims_of_its_file(ladder):
    alone = "probes/test_toy.py::test_control[replication]"
    run(ladder, probes=alone).assert_outcomes(skipped=1)
    assert controls(ladder, newest(ladder))["replication"]["verdict"] == "not climbed"  # a claim is refuted
    write(ladder, "probes/test_toy.py", (PROBE + CONTROL).replace("margin=47", "margin=1.01"))
    run(ladder, probes=alone)
    assert controls(ladder, newest(ladder))["replication"]["verdict"] in ("passed", "failed")


@pytest.mark.parametrize("error", [ProbeError, torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_twin_that_cannot_be_measured_leaves_its_control_not_evaluated(ladder, monkeypatch, error):
    def fail(*arguments):
        raise error("no room for a twin")

    monkeypatch.setattr("fixtures.models.model.untrained_twin", fail)
    run(ladder, "--controls", "untrained", "--seed", "41")
    assert claims(ladder)["test_supported"]["verdict"] == "supported"
    control = controls(ladder)["untrained"]
    assert control["verdict"] == "not evaluated" and "no room for a twin" in control["reason"]


def test_a_control_that_breaks_is_an_error_and_keeps_the_rest(ladder, monkeypatch):
    def fail(*arguments):
        raise ProbeError("the noise is gone")

    monkeypatch.setattr("fixtures.activations.measurement.Measurement.second_activations", fail)
    outcome = run(ladder, "--controls", "replication,familywise", "--refresh")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED and outcome.parseoutcomes()["errors"] == 1
    found = controls(ladder, max((ladder.path / "reports").glob("2*")))
    assert (found["replication"]["verdict"], found["replication"]["reason"]) == ("not evaluated", "the noise is gone")
    assert found["familywise"]["verdict"] != "not evaluated"


def test_a_control_test_that_does_not_assert_does_not_pass(ladder):
    write(ladder, "probes/test_toy.py", PROBE + CONTROL.replace("assert control.passed, control", "pass"))
    outcome = run(ladder, "--controls", "untrained")
    outcome.assert_outcomes(passed=1, failed=2)
    outcome.stdout.fnmatch_lines(["*its control is failed: it must assert control.passed*"])


def test_a_failed_control_on_record_is_expected(ladder):
    run(ladder, "--controls", "untrained")
    weights = results(ladder)["model"]["weights_sha256"]
    record = (
        f'[[model]]\nname = "klein-tiny"\nweights_sha256 = "{weights}"\n[model.controls.toy]\nuntrained = "failed"\n'
    )
    write(ladder, "probes/known_verdicts.toml", record)
    run(ladder, "--controls", "untrained").assert_outcomes(passed=1, failed=1, xfailed=1)
    assert controls(ladder)["untrained"]["recorded"] == "failed"
    run(ladder, "--controls", "untrained", "--strict-claims").assert_outcomes(passed=1, failed=2)
    write(ladder, "probes/known_verdicts.toml", record.replace('"failed"', '"refuted"'))
    outcome = run(ladder, "--controls", "untrained")
    outcome.stdout.fnmatch_lines(["*toy, untrained is 'refuted'; only 'failed' is recorded in controls.*"])


def test_a_claim_left_out_of_a_run_earns_no_word(ladder):
    run(ladder, "--controls", "none", "--deselect", "probes/test_toy.py::test_refuted")
    folder = max((ladder.path / "reports").glob("2*"))
    assert results(ladder, folder)["hypotheses"][0]["statement"]["sentence"].startswith("Whether it exceeds chance")


def test_two_claims_at_one_threshold_are_refused(ladder):
    write(ladder, "probes/test_toy.py", PROBE.replace("threshold=5.0", "threshold=3.0"))
    outcome = run(ladder)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*two exceedance claims at one threshold*"])


CALIBRATED = """
import fixtures.calibration.calibrate

calibration = fixtures.calibration
FOUND = {"model": "klein-tiny", "seed": 0, "power": {}, "rows": [
    {"name": name, "what": "w", "n": 2, "observed": 0.0, "bound": 0.5, "at_most": True,
     "ok": name != "bad", "detail": ""}
    for name in ("good", "bad")
]}
calibration.calibrate.calibrate = lambda model, seed, progress: FOUND | {"seed": seed, "model": model.source.name}
calibration.ROWS = ("good", "bad")
pytest_plugins = ["fixtures.session.plugin"]
"""


def test_calibration_runs_on_demand_and_is_reported(project):
    project.makeconftest(CALIBRATED)
    write(project, "probes/calibration.py", (ROOT / "probes" / "calibration.py").read_text())
    run(project).assert_outcomes(passed=1, failed=1)
    assert "calibration" not in results(project)
    run(project, "--calibrate").assert_outcomes(passed=2, failed=2)
    found = results(project)["calibration"]
    assert (found["model"], found["seed"], [row["ok"] for row in found["rows"]]) == ("klein-tiny", 0, [True, False])
    assert "<h3>Calibration</h3>" in (project.path / "reports/latest/report.html").read_text()


def test_holm_corrects_over_the_claims_of_the_run(project):
    write(project, "probes/test_other.py", PROBE.replace('"toy"', '"other"'))
    write(project, "stimuli/other.toml", (STIMULI + pairs(10)).replace('"toy"', '"other"'))
    run(project)
    data = results(project)
    decided = [claim for hypothesis in data["hypotheses"] for claim in hypothesis["claims"]]
    assert data["multiple_testing"] == {"method": "holm", "n": 4}
    expected = multipletests([claim["p"] for claim in decided], method="holm")[1]
    assert [claim["p_holm"] for claim in decided] == list(expected)


def test_results_hold_what_decides_the_numbers(project):
    run(project, "--seed", "3")
    data = results(project)
    assert data["schema"] == SCHEMA and data["run"]["complete"] is True
    assert data["run"]["options"]["seed"] == {"value": 3, "source": "command line"}
    assert data["model"]["name"] == "klein-tiny" and data["model"]["label"].startswith("untrained")
    assert data["protocol"]["seed"] == 3 and data["protocol"]["resolution"] == 64
    assert data["environment"]["packages"]["torch"]
    hypothesis = data["hypotheses"][0]
    assert (hypothesis["n_pairs"], hypothesis["n_units"], len(hypothesis["stimuli"]["pairs"])) == (10, 144, 10)
    null = hypothesis["claims"][0]["null"]
    assert (null["method"], null["flips"], sum(null["count_flips"])) == ("exact", 512, 512)


def test_results_hold_what_the_checker_found_of_the_stimuli(project):
    stimuli = 'giveaway = "It is one word."\n' + STIMULI + pairs(10).replace('"c"\n', '"c"\ntemplate = "t"\n')
    write(project, "stimuli/toy.toml", stimuli)
    run(project)
    record = results(project)["hypotheses"][0]["stimuli"]
    assert {pair["template"] for pair in record["pairs"]} == {"t"}
    check, source = record["check"], Model(resolve_settings({"model": "klein-tiny"}, {}, ROOT)).source
    vocabulary = checkpoint_vocabulary(source.tokenizer, source.name)
    assert check == check_stimuli(load_stimuli(project.path / "stimuli/toy.toml"), vocabulary).record()
    assert check["vocabulary"] == {"name": "klein-tiny", "is_qwen": False} and check["giveaway"] == "It is one word."
    tokens = check["pairs"]["wording"]["lengths"]["tokens"]["differences"]
    assert len(tokens) == 10 and all(tokens)
    folder = project.path / "reports" / "latest"
    for view in ("report.html", "summary.md"):
        text = (folder / view).read_text()
        assert "given away by the wording" in text and "It is one word." in text
    assert "single words tell A from B in 10 pairs" in (folder / "summary.md").read_text()


def test_the_report_holds_every_claim_and_its_evidence(project):
    run(project)
    folder = project.path / "reports" / "latest"
    html = (folder / "report.html").read_text()
    assert html.count("untrained: random weights") >= 3  # the page's head and each claim
    assert "refuted" in html and "supported" in html and "toy" in html
    assert "| toy" in (folder / "summary.md").read_text().lower()
    assert (folder / "toy.units.csv.gz").stat().st_size > 1000


class Page(HTMLParser):
    """What a browser gets: the data from which pytest-html's script draws the rows."""

    def handle_starttag(self, tag, attributes):
        if "data-jsonblob" in dict(attributes):
            self.tests = json.loads(dict(attributes)["data-jsonblob"])["tests"]


def test_every_row_of_the_page_can_be_drawn(project):
    run(project)
    page = Page()
    page.feed((project.path / "reports/latest/report.html").read_text())
    rows = [row for rows in page.tests.values() for row in rows]
    assert [row["result"] for row in rows] == ["Passed", "Failed"]  # the script stops at a row without it
    for row in rows:
        assert len(row["resultsTableRow"]) == 4 and row["extras"] == []  # the evidence stands in the page, once


def test_the_evidence_needs_no_script(project):
    run(project)
    text = (project.path / "reports/latest/report.html").read_text()
    page = re.sub("<script>.*?</script>", "", text, flags=re.DOTALL)
    assert page.count('<article class="probe-evidence"') == 3  # two claims, and what was measured for both
    for link in re.findall('href="#([^"]+)"', page):
        assert page.count(f'id="{link}"') == 1, link
    assert page.index('class="pr-matrix"') < page.index('class="pr-evidence') < page.index('class="pr-tests"')


def test_a_warm_run_loads_no_model(project, monkeypatch):
    run(project)

    def forbidden(*arguments):
        raise AssertionError("loaded a model although everything is stored")

    monkeypatch.setattr("fixtures.models.model.load_model", forbidden)
    run(project).assert_outcomes(passed=1, failed=1)
    assert results(project)["hypotheses"][0]["activations"]["from_store"] is True


def test_refresh_computes_again_and_changes_nothing(project):
    run(project)
    first = results(project)["hypotheses"][0]
    run(project, "--refresh")
    second = results(project)["hypotheses"][0]
    assert second["activations"]["from_store"] is False
    assert second["counts"] == first["counts"] and second["blocks"] == first["blocks"]


def test_few_pairs_skip_as_inconclusive(project):
    write(project, "stimuli/toy.toml", STIMULI + pairs(7))
    run(project, "-rs").assert_outcomes(skipped=2)
    assert {claim["verdict"] for claim in claims(project).values()} == {"inconclusive"}


def test_a_bad_stimulus_file_errs_once_and_the_rest_is_not_evaluated(project):
    write(project, "stimuli/toy.toml", STIMULI + pairs(7) + pairs(1))
    outcome = run(project, "-rsE")
    outcome.assert_outcomes(errors=1, skipped=1)
    outcome.stdout.fnmatch_lines(["*toy.toml: pair 8 (p0): field 'id' is also the id of pair 1*"])
    outcome.stdout.no_fnmatch_line("*Traceback*")
    folder = next((project.path / "reports").glob("2*"))
    assert {claim["verdict"] for claim in claims(project, folder).values()} == {"not evaluated"}
    assert "field &#39;id&#39; is also" in (folder / "report.html").read_text()
    outcome.stdout.fnmatch_lines(["*NOT EVALUATED toy/count_t5: same reason"])


def test_an_unknown_model_is_one_clear_error(project):
    outcome = run(project, "--model", "no-such-model")
    outcome.assert_outcomes(errors=1, skipped=1)
    assert outcome.ret == 1
    outcome.stdout.fnmatch_lines(["*--model no-such-model: no such folder*klein-tiny, klein*"])


@pytest.mark.parametrize("arguments", [("--seed", "x"), ("--null", "fast"), ("--resolution", "100")])
def test_a_bad_option_is_a_usage_error(project, arguments):
    outcome = run(project, *arguments)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"*{arguments[0]}*"])
    assert not (project.path / "reports").exists()


def test_a_refutation_on_record_is_expected(project):
    run(project)
    known(project, "refuted", resolution=64)
    run(project).assert_outcomes(passed=1, xfailed=1)
    assert claims(project)["test_refuted"]["recorded"] == "refuted"
    run(project, "--strict-claims").assert_outcomes(passed=1, failed=1)


def test_a_claim_on_record_that_is_no_longer_decided_fails(project):
    run(project)
    known(project, "refuted", resolution=64)
    write(project, "stimuli/toy.toml", STIMULI + pairs(7))
    outcome = run(project)
    outcome.assert_outcomes(skipped=1, errors=1)
    outcome.stdout.fnmatch_lines(["*refuted on record for this model, and now inconclusive: *"])
    run(project, "--strict-claims").assert_outcomes(skipped=2)


def test_a_refutation_on_record_for_another_protocol_does_not_count(project):
    run(project)
    known(project, "refuted", resolution=1024)
    run(project).assert_outcomes(passed=1, failed=1)


def test_a_refutation_on_record_is_about_the_stimuli_that_it_names(project):
    run(project)
    known(project, "refuted", stimuli=results(project)["hypotheses"][0]["stimuli"]["sha256"], resolution=64)
    run(project).assert_outcomes(passed=1, xfailed=1)
    known(project, "refuted", stimuli="0" * 64, resolution=64)
    run(project).assert_outcomes(passed=1, failed=1)


def test_a_resolution_that_is_not_the_model_s_own_is_part_of_its_label(project):
    run(project, "--resolution", "128")
    assert results(project)["model"]["label"].endswith("; used at 128 pixels, made for 64")


def test_a_claim_that_comes_true_against_the_record_fails(project):
    run(project)
    known(project, "refuted")
    write(project, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1.01"))
    outcome = run(project)
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*XPASS(strict)*"])


def test_an_error_of_the_probe_file_itself_is_not_excused_by_the_record(project):
    run(project)
    known(project, "refuted")
    broken = PROBE.replace(
        "def test_refuted(verdict):\n    assert", "def test_refuted(verdict):\n    1 / 0\n    assert"
    )
    write(project, "probes/test_toy.py", broken)
    run(project).assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("arguments", [("-k", "supported"), ("--model", "no-such-model")])
def test_a_partial_run_leaves_latest_alone(project, arguments):
    run(project)
    before = os.readlink(project.path / "reports/latest")
    outcome = run(project, *arguments)
    outcome.stdout.fnmatch_lines(["*incomplete run: * still is the last complete one"])
    assert os.readlink(project.path / "reports/latest") == before
    assert len(list((project.path / "reports").glob("2*"))) == 2


def test_ctrl_c_keeps_what_was_decided_and_leaves_latest_alone(project):
    run(project)
    before = os.readlink(project.path / "reports/latest")
    write(project, "probes/test_toy.py", PROBE + "\n\ndef test_interrupted():\n    raise KeyboardInterrupt\n")
    outcome = project.runpytest_inprocess("-p", "no:cacheprovider", "probes", no_reraise_ctrlc=True)
    assert outcome.ret == pytest.ExitCode.INTERRUPTED
    assert os.readlink(project.path / "reports/latest") == before
    interrupted = max((project.path / "reports").glob("2*"))
    assert claims(project, interrupted)["test_supported"]["verdict"] == "supported"
    assert results(project, interrupted)["run"]["complete"] is False


def test_one_test_by_name_is_a_partial_run_that_lists_only_itself(project):
    run(project, probes="probes/test_toy.py::test_supported")
    assert not (project.path / "reports/latest").exists()
    folder = next((project.path / "reports").glob("2*"))
    assert list(claims(project, folder)) == ["test_supported"]


@pytest.mark.parametrize(
    "arguments", [("--collect-only",), ("--setup-plan",), ("--fixtures",), ("-k", "nothing_of_that_name")]
)
def test_a_run_without_claims_writes_nothing(project, arguments):
    run(project, *arguments)
    assert not list((project.path / "reports").glob("2*"))


def test_two_runs_never_share_a_folder(project):
    run(project)
    run(project)
    assert len(list((project.path / "reports").glob("2*"))) == 2


def test_it_runs_from_any_directory(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    probes = project.path / "probes"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(probes)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert claims(project)["test_supported"]["verdict"] == "supported"


def test_other_tests_of_the_project_start_no_run(project):
    write(project, "tests/test_plain.py", "def test_passes():\n    assert True\n")
    run(project, probes="tests").assert_outcomes(passed=1)
    assert not (project.path / "reports").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def test_refuted():\n    pass\n", "the test passed although its claim is not evaluated"),
        ("def test_refuted(verdict):\n    pass\n", "the test passed although its claim is refuted"),
    ],
)
def test_a_test_that_does_not_assert_its_verdict_fails(project, body, message):
    write(project, "probes/test_toy.py", PROBE[: PROBE.index("def test_refuted")] + body)
    outcome = run(project)
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines([f"*{message}: it must assert verdict.supported*"])


def test_a_test_that_crashes_is_not_evaluated_for_that_reason(project, monkeypatch):
    monkeypatch.setattr(fixtures.session.evaluation, "evaluate", lambda *arguments: 1 / 0)
    run(project, "--refresh").assert_outcomes(errors=2)
    folder = next((project.path / "reports").glob("2*"))
    assert {claim["reason"] for claim in claims(project, folder).values()} == {"ZeroDivisionError: division by zero"}


def test_a_margin_beyond_all_units_is_inconclusive(project):
    write(project, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1e9"))
    run(project).assert_outcomes(passed=1, skipped=1)
    assert claims(project)["test_refuted"]["reason"].startswith("the margin asks for more than all 144 units")


def test_one_pair_is_a_clear_error(project):
    write(project, "stimuli/toy.toml", STIMULI + pairs(1))
    outcome = run(project)
    outcome.assert_outcomes(errors=1, skipped=1)
    outcome.stdout.fnmatch_lines(["*toy.toml: one pair has no variance; expected at least 2*"])


def test_a_test_decides_a_claim_or_a_control(project):
    both = CONTROL.replace("def test_control", "@pytest.mark.claim(SplitHalf(0.1))\ndef test_control")
    write(project, "probes/test_toy.py", PROBE + both)
    outcome = run(project)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*test_control?familywise?: a claim and a control in one test; expected a test for*"])


def test_two_files_cannot_share_a_hypothesis(project):
    write(project, "probes/test_other.py", PROBE)
    outcome = run(project)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*the hypothesis id 'toy' is taken by *test_other.py*"])


def test_a_known_verdict_that_is_no_refutation_is_an_error(project):
    run(project)
    known(project, "refutd")
    outcome = run(project)
    outcome.stdout.fnmatch_lines(
        ["*known_verdicts.toml: toy, count_t5 is 'refutd'; only 'refuted' is recorded in verdicts.*"]
    )
    assert outcome.ret == 1


@pytest.mark.parametrize(
    "function", ["fixtures.results.results.write_json", "fixtures.session.reporter.write_atomically"]
)
def test_a_full_disk_under_the_reports_still_shows_the_verdicts(project, monkeypatch, function):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, full)
    outcome = run(project)
    outcome.assert_outcomes(passed=1, failed=1)
    assert outcome.ret == 1
    outcome.stdout.fnmatch_lines(["SUPPORTED *toy/count_t3*", "REFUTED *", "*could not be written to *No space left*"])
    outcome.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.parametrize("first", ["a.safetensors", "nowhere.safetensors:0.5"])
def test_a_second_lora_is_a_usage_error_and_not_the_only_one(project, first):
    outcome = run(project, "--lora", first, "--lora", "b.safetensors")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"*--lora b.safetensors: given twice, {first} before; expected one*"])


def test_a_claim_without_a_hypothesis_is_a_usage_error(project):
    write(project, "probes/test_toy.py", PROBE.replace("HYPOTHESIS =", "OTHER ="))
    outcome = run(project)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*a claim or control needs HYPOTHESIS = Hypothesis(...)*"])


def test_a_claim_beyond_another_threshold_needs_it_declared(project):
    write(project, "probes/test_toy.py", PROBE.replace("threshold=3.0", "threshold=4.0"))
    outcome = run(project)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*test_supported: add extra_thresholds=(4.0,) to HYPOTHESIS*"])
    probe = PROBE.replace("threshold=3.0", "threshold=4.0").replace(
        'positive="left"', 'positive="left", extra_thresholds=(4.0,)'
    )
    write(project, "probes/test_toy.py", probe)
    run(project).assert_outcomes(passed=1, failed=1)
    assert [count["threshold"] for count in results(project)["hypotheses"][0]["counts"]] == [3.0, 4.0, 5.0]


def test_under_xdist_nothing_is_lost(project):
    outcome = project.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "probes")
    outcome.assert_outcomes(passed=1, failed=1)
    assert {name: claim["verdict"] for name, claim in claims(project).items()} == {
        "test_supported": "supported",
        "test_refuted": "refuted",
    }


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_hostile_stimuli_are_escaped(project):
    stimuli = STIMULI.replace('"left"', f'"{HOSTILE}"') + pairs(10, a=HOSTILE + " {number}")
    write(project, "stimuli/toy.toml", stimuli)
    write(project, "probes/test_toy.py", PROBE.replace('"Toy"', repr(HOSTILE)).replace('"left"', repr(HOSTILE)))
    run(project)
    folder = project.path / "reports" / "latest"
    html = (folder / "report.html").read_text()
    assert "<script>alert" not in html and "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>" not in (folder / "summary.md").read_text()


KILLED = """
import os, signal
import fixtures.activations.segments as segments

whole = segments.capture_batches

def killed(pipeline, sites, stimuli, protocol, progress, level=None):
    def die(done, total):
        if done == 20:
            os.kill(os.getpid(), signal.SIGKILL)
    return whole(pipeline, sites, stimuli, protocol, die, level)

segments.capture_batches = killed
pytest_plugins = ["fixtures.session.plugin"]
"""


def test_a_run_killed_in_the_middle_of_capture_keeps_whole_batches_and_no_verdict(project, tmp_path, monkeypatch):
    run(project)
    expected = results(project)["hypotheses"][0]["counts"]
    monkeypatch.setenv("PROBES_STORE", str(tmp_path / "store"))
    project.makeconftest(KILLED)
    killed = project.runpytest_subprocess("-p", "no:cacheprovider", "probes")
    assert killed.ret == -signal.SIGKILL
    left = claims(project, max((project.path / "reports").glob("2*")))
    assert {claim["verdict"] for claim in left.values()} == {"not evaluated"}
    assert len(list(tmp_path.glob("store/activations/*/*.safetensors"))) == 1
    project.makeconftest('pytest_plugins = ["fixtures.session.plugin"]')
    again = run(project, "-v")
    again.assert_outcomes(passed=1, failed=1)
    again.stdout.fnmatch_lines(["capturing toy: 10 in *"])
    hypothesis = results(project)["hypotheses"][0]
    assert hypothesis["counts"] == expected and hypothesis["activations"]["from_store"] is False
