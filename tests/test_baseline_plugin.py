"""Baselines through pytest: a toy project on klein-tiny, saved, compared, updated with a real LoRA."""

import json

import pytest
import toy_project
from lora_factory import save_lora
from toy_project import PROBE, STIMULI, pairs, results, run, write

import fixtures.activations.measurement
import fixtures.activations.segments
import fixtures.baseline.from_run
from fixtures.baseline.document import load_baseline, tensor_file

pytest_plugins = "pytester"

EXACT = PROBE.replace("margin=47", "margin=1.01")  # both claims supported, so that only the baseline can fail


@pytest.fixture
def saved(project):
    """A project with its baseline."""
    write(project, "probes/test_toy.py", EXACT)
    run(project, "--save-baseline", "then.json").assert_outcomes(passed=2)
    return project


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory):
    return save_lora(tiny.pipeline.transformer, tmp_path_factory.mktemp("lora") / "update", size=1.0)


def then(project):
    return load_baseline(project.path / "then.json")


def change(project, folder="reports/latest"):
    return results(project, folder)["hypotheses"][0]["change"]


def last(project):
    return toy_project.folder(project)


def test_saving_keeps_the_run_and_what_other_noise_gives(saved, tmp_path):
    found, data = then(saved), results(saved)
    entry = found.hypotheses["toy"]
    assert found.head["model"]["fingerprint"] == data["model"]["fingerprint"]
    assert found.head["protocol"] == data["protocol"] and set(found.head["weights"]) > {"joint[0]", "single[3]", "vae"}
    assert entry["noise"]["seeds"] == [0, 1, 2, 3, 4, 5] and found.maps["toy"].shape == (6, 144)
    assert {name: claim["verdict"] for name, claim in entry["claims"].items()} == {
        claim["id"]: claim["verdict"] for claim in data["hypotheses"][0]["claims"]
    }
    counts = data["hypotheses"][0]["counts"]
    assert [count["observed"] for count in entry["counts"]] == [count["observed"] for count in counts]
    assert all(count["seeds"][0] == count["observed"] for count in entry["counts"])
    assert (saved.path / "then.json").stat().st_size < 10_000


def test_saving_changes_neither_pass_nor_fail_nor_results(project):
    plain = run(project, "--controls", "none")
    kept = run(project, "--controls", "none", "--save-baseline", "then.json", "--baseline-seeds", "3")
    assert plain.parseoutcomes() == {**kept.parseoutcomes()} and plain.ret == kept.ret
    assert then(project).hypotheses["toy"]["noise"]["seeds"] == [0, 1, 2, 3]
    kept.stdout.fnmatch_lines(["*saved with 3 further noise seeds: toy*"])


def test_the_same_model_is_unchanged_and_at_another_seed_too(saved):
    outcome = run(saved, "--baseline", "then.json")
    outcome.assert_outcomes(passed=3)
    outcome.stdout.fnmatch_lines(["UNCHANGED     toy: *", "WEIGHTS       differ nowhere*"])
    assert change(saved)["whole"]["difference"] == 0
    run(saved, "--baseline", "then.json", "--seed", "11").assert_outcomes(passed=3)
    found = change(saved)
    assert found["verdict"] == "unchanged" and found["whole"]["difference"] > 0
    assert found["listed"] == [{"field": "protocol.seed", "then": 0, "now": 11}]


def test_a_lora_on_two_blocks_is_named_with_both(saved, lora):
    outcome = run(saved, "--baseline", "then.json", "--lora", str(lora), "--gate", "baseline")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED and outcome.parseoutcomes()["failed"] == 1
    found, data = change(saved), results(saved)
    assert data["model"]["name"] == "klein-tiny+update" and data["model"]["base"]["name"] == "klein-tiny"
    assert found["weights"]["differ"] == ["joint[1]", "single[2]"] == data["baseline"]["weights"]["differ"]
    still = {row["block"] for row in found["blocks"] if row["difference"] == 0}
    assert still == {"joint[0]"}  # nothing before the first touched block moves
    moved = [row["block"] for row in found["blocks"] if row["moved"]]
    assert moved and moved[0] == "joint[1]" and "single[2]" in moved
    outcome.stdout.fnmatch_lines(
        ["CHANGED       toy:*first joint?1?*weights differ in joint?1?, single?2?", "WEIGHTS *joint?1?, single?2?"]
    )
    outcome.stdout.fnmatch_lines(["FAILED probes/test_toy.py::test_baseline?toy?*"])
    page = (saved.path / "reports/latest/report.html").read_text()
    assert page.index("Since the baseline") < page.index('class="pr-matrix"')
    assert "Weights differ in <b>joint[1], single[2]</b>" in page and "Movement of every block" in page
    assert "joint\\[1\\], single\\[2\\]" in (saved.path / "reports/latest/summary.md").read_text()


def test_the_gate_says_whether_a_change_fails(saved, lora):
    for gate, code in (("claims", 0), ("none", 0), ("baseline", 1), ("both", 1), (None, 1)):
        arguments = ("--baseline", "then.json", "--lora", str(lora), *(("--gate", gate) if gate else ()))
        outcome = run(saved, *arguments, probes="probes/test_toy.py::test_baseline[toy]")
        outcome.assert_outcomes(**({"failed": 1} if code else {"xfailed": 1}))
        assert outcome.ret == code and change(saved, last(saved))["verdict"] == "changed", gate


def test_the_gate_says_whether_a_refutation_fails(project):
    run(project, "--save-baseline", "then.json", "--baseline-seeds", "3")
    for gate, code in (("claims", 1), ("none", 0), ("baseline", 0), ("both", 1), (None, 1)):
        outcome = run(project, "--baseline", "then.json", *(("--gate", gate) if gate else ()))
        outcome.assert_outcomes(passed=2, **({"failed": 1} if code else {"xfailed": 1}))
        assert outcome.ret == code, gate


def test_a_flip_leads_even_where_t_did_not_move(saved):
    write(saved, "probes/test_toy.py", PROBE)  # the claim at 5 asks for more now
    outcome = run(saved, "--baseline", "then.json", "--gate", "baseline")
    outcome.assert_outcomes(passed=2, xfailed=1)
    outcome.stdout.fnmatch_lines(
        ["FLIPPED       toy/count_t5: supported then, refuted now (the claim itself is another)"]
    )
    assert "Verdict flipped" in (saved.path / "reports/latest/report.html").read_text()


def test_another_protocol_or_other_stimuli_are_not_comparable_and_fail(saved):
    outcome = run(saved, "--baseline", "then.json", "--resolution", "128", "--gate", "baseline")
    assert outcome.ret == 1
    outcome.stdout.fnmatch_lines(["NOT COMPARABLE*protocol.resolution was 64, is 128*"])
    write(saved, "stimuli/toy.toml", STIMULI + pairs(11))
    run(saved, "--baseline", "then.json").stdout.fnmatch_lines(["NOT COMPARABLE*stimuli.sha256 was *"])
    assert [row["field"] for row in change(saved)["differs"]] == ["stimuli.sha256", "null.flips"]


def test_new_and_missing_hypotheses_are_shown(saved):
    write(saved, "probes/test_other.py", EXACT.replace('"toy"', '"other"'))
    write(saved, "stimuli/other.toml", (STIMULI + pairs(10)).replace('"toy"', '"other"'))
    outcome = run(saved, "--baseline", "then.json", "-rs", probes="probes/test_other.py")
    outcome.assert_outcomes(passed=2, skipped=1)
    outcome.stdout.fnmatch_lines(
        ["NEW           other: not in the baseline", "NOT EVALUATED toy: not evaluated in this run"]
    )
    assert results(saved, last(saved))["baseline"]["not_evaluated"] == ["toy"]


def test_a_partial_run_merges_what_it_evaluated(saved):
    before = then(saved).hypotheses["toy"]
    write(saved, "probes/test_other.py", EXACT.replace('"toy"', '"other"'))
    write(saved, "stimuli/other.toml", (STIMULI + pairs(10)).replace('"toy"', '"other"'))
    run(saved, "--save-baseline", "then.json", probes="probes/test_other.py")
    found = then(saved).hypotheses
    assert set(found) == {"toy", "other"} and found["toy"] == before
    run(saved, "--save-baseline", "then.json", probes="probes/test_toy.py::test_supported")
    assert set(then(saved).hypotheses["toy"]["claims"]) == {"count_t3", "count_t5"}


def test_another_model_or_protocol_is_refused_before_anything_is_captured(saved, lora, monkeypatch):
    before = (saved.path / "then.json").read_bytes()
    monkeypatch.setattr(fixtures.activations.segments, "capture_batches", lambda *arguments: 1 / 0)
    for arguments, message in (
        (("--lora", str(lora)), "*then.json: it holds another model: fingerprint is klein-tiny (*"),
        (("--seed", "3"), "*then.json: it holds another protocol: seed is 0, now 3*"),
        (("--null", "published"), "*then.json: it holds another null: method is exact, now published*"),
    ):
        outcome = run(saved, "--save-baseline", "then.json", *arguments)
        assert outcome.ret == pytest.ExitCode.USAGE_ERROR
        outcome.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert (saved.path / "then.json").read_bytes() == before


@pytest.mark.parametrize("option", ["--baseline", "--save-baseline"])
def test_a_damaged_baseline_is_a_usage_error(saved, option):
    tensor_file(saved.path / "then.json").write_bytes(b"cut")
    outcome = run(saved, option, "then.json")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: *then.safetensors: the baseline is damaged*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "none.json"), "*none.json: no such file*"),
        (("--baseline", "then.txt"), "*then.txt: expected a name that ends in .json*"),
        (("--gate", "baseline"), "*--gate baseline: expected --baseline FILE*"),
        (("--gate", "some"), "*--gate: 'some' is not known*"),
        (("--baseline-seeds", "2"), "*--baseline-seeds: '2' is not valid; expected a whole number from 3*"),
    ],
)
def test_bad_options_are_usage_errors(project, arguments, message):
    outcome = run(project, *arguments)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([message])
    assert not (project.path / "reports").exists()


@pytest.mark.parametrize("text", ["none.safetensors", "none.safetensors:0.5", "none:x"])
def test_a_lora_that_is_not_there_is_one_clear_error(project, text):
    outcome = run(project, "--lora", text)
    outcome.assert_outcomes(errors=1, skipped=1)
    outcome.stdout.fnmatch_lines([f"*--lora {text}: no such file*" if "x" not in text[-1] else "*'x' after the colon*"])


def test_noise_that_cannot_be_captured_leaves_the_run_alone(project, monkeypatch):
    from fixtures.common.errors import ProbeError

    def fail(*arguments):
        raise ProbeError("the noise is gone")

    monkeypatch.setattr(fixtures.activations.measurement.Measurement, "noise_differences", fail)
    outcome = run(project, "--save-baseline", "then.json")
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["baseline: not saved: toy: the noise is gone"])
    assert not (project.path / "then.json").exists()


def test_a_comparison_that_crashes_is_an_error_and_keeps_the_rest(saved, monkeypatch):
    monkeypatch.setattr(fixtures.baseline.from_run, "compare_hypothesis", lambda *arguments: 1 / 0)
    outcome = run(saved, "--baseline", "then.json")
    outcome.assert_outcomes(passed=2, errors=1)
    assert "ZeroDivisionError" in change(saved, last(saved))["reason"]


def test_one_comparison_by_name_is_run_again(saved):
    outcome = run(saved, "--baseline", "then.json", probes="probes/test_toy.py::test_baseline[toy]")
    outcome.assert_outcomes(passed=1)
    assert change(saved, last(saved))["verdict"] == "unchanged"


def test_under_xdist_saving_and_comparing_lose_nothing(project, lora):
    write(project, "probes/test_toy.py", EXACT)
    arguments = ("-p", "no:cacheprovider", "-n", "2", "probes")
    project.runpytest_subprocess(*arguments, "--save-baseline", "then.json").assert_outcomes(passed=2)
    assert set(then(project).hypotheses["toy"]["claims"]) == {"count_t3", "count_t5"}
    outcome = project.runpytest_subprocess(*arguments, "--baseline", "then.json", "--lora", str(lora))
    assert outcome.ret == 1
    found = change(project)
    assert found["weights"]["differ"] == ["joint[1]", "single[2]"]
    assert {row["id"] for row in found["verdicts"]} == {"count_t3", "count_t5"}
    refused = project.runpytest_subprocess(
        *arguments[:2], "-n", "1", "probes", "--save-baseline", "then.json", "--seed", "3"
    )
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.slow
def test_twenty_other_seeds_of_an_unchanged_model_give_at_most_one_alarm(saved):
    alarms = []
    for seed in range(6, 26):
        run(saved, "--baseline", "then.json", "--controls", "none", "--seed", str(seed))
        found = change(saved)
        assert found["verdict"] in ("changed", "unchanged")
        alarms += [json.dumps(found["reason"])] if found["verdict"] == "changed" else []
    assert len(alarms) <= 1, alarms
