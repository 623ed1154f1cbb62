"""The plugin and the ladder: what is climbed, what is not, and what no run can decide. Toy projects on klein-tiny."""

import pytest
from toy_project import CONTROL, PROBE, claims, controls, folder, pairs, results, run, write

from fixtures.claims.ladder import CAUSAL, CONTROLS, OBSERVED
from fixtures.common.errors import ProbeError

pytest_plugins = "pytester"

HOLDS = PROBE.replace("margin=47", "margin=1.01")
EFFECTS = """
import pytest
from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(id="toy", title="Toy", sentence="s", contrast="left minus right", positive="left")


@pytest.mark.claim(Effect())
def test_effect(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Amplification())
def test_amplification(verdict):
    assert verdict.supported, verdict
"""


def on_record(project):
    """Put on record that a toy claim is refuted, and that a control failed when it was asked for."""
    weights = results(project, folder(project))["model"]["weights_sha256"]
    model = f'[[model]]\nname = "klein-tiny"\nweights_sha256 = "{weights}"\n'
    verdicts = '[model.verdicts.toy]\ncount_t5 = "refuted"\n[model.controls.toy]\nuntrained = "failed"\n'
    write(project, "probes/known_verdicts.toml", model + verdicts)


def decided(project):
    """Verdict and figures of each claim, verdict and reason of each control."""
    found = claims(project, folder(project)).items()
    figures = {name: (claim["verdict"], claim["observed"], claim["p"]) for name, claim in found}
    return figures, {name: (c["verdict"], c["reason"]) for name, c in controls(project, folder(project)).items()}


def test_without_rung_1_nothing_beyond_it_is_measured_and_the_exit_code_is_that_of_the_refutation(
    ladder, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise ProbeError("a twin was made")

    monkeypatch.setattr("fixtures.models.model.untrained_twin", fail)
    outcome = run(ladder, "--store", str(tmp_path), "-rs")
    outcome.assert_outcomes(passed=1, failed=1, skipped=len(CONTROLS))
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["*not climbed: rung 1 does not hold; `--controls all` evaluates the others*"])
    outcome.stdout.no_fnmatch_line("*not decided*")
    found = controls(ladder)
    assert list(found) == list(CONTROLS) and {control["verdict"] for control in found.values()} == {"not climbed"}
    assert all(control["evidence"] == {} and control["p"] is None for control in found.values())
    assert results(ladder)["run"]["complete"] is True
    on_record(ladder)
    expected = run(ladder, "--store", str(tmp_path))
    expected.assert_outcomes(passed=1, xfailed=1, skipped=len(CONTROLS))
    assert expected.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("chosen", ["all", ",".join(reversed(CONTROLS))])
def test_what_is_asked_for_is_evaluated_without_rung_1(ladder, chosen):
    run(ladder, "--controls", chosen, "--twins", "0")
    found = controls(ladder)
    assert list(found) == list(CONTROLS)
    assert {found[name]["verdict"] for name in ("familywise", "input", "confounds", "replication")} <= {
        "passed",
        "failed",
    }
    assert "not climbed" not in {control["verdict"] for control in found.values()}


def test_a_ladder_whose_rung_1_holds_is_climbed(ladder):
    write(ladder, "probes/test_toy.py", HOLDS + CONTROL)
    run(ladder, "--twins", "0")
    found = controls(ladder)
    assert list(found) == list(CONTROLS) and "not climbed" not in {found[name]["verdict"] for name in OBSERVED}
    assert {(found[name]["verdict"], found[name]["reason"]) for name in CAUSAL} == {
        ("not climbed", "rung 3: not evaluated; `--controls causal` changes units all the same")
    }
    assert found["replication"]["verdict"] in ("passed", "failed")


def test_effects_alone_make_a_probe(ladder, tmp_path, monkeypatch):
    write(ladder, "probes/test_toy.py", EFFECTS + CONTROL)
    run(ladder, "--store", str(tmp_path / "alone"))
    expected = decided(ladder)
    figures, evaluated = expected
    assert figures["test_effect"][0] == "supported" and figures["test_effect"][1] > 100 * 2**-8
    assert figures["test_amplification"][0] in ("supported", "refuted") and figures["test_amplification"][1] > 0
    assert list(evaluated) == list(CONTROLS)
    assert {name for name, (verdict, _) in evaluated.items() if verdict not in ("passed", "failed")} == {
        *("held_out", *CAUSAL)
    }
    (hypothesis,) = results(ladder)["hypotheses"]
    assert [claim["kind"] for claim in hypothesis["claims"]] == ["effect", "amplification"]
    assert [claim["p_holm"] for claim in hypothesis["claims"]] == [figures["test_effect"][2], None]
    assert hypothesis["exceedance_claims"] == 1 and hypothesis["statement"]["shown"][0] == "exceeds chance"
    amplified = controls(ladder)["untrained"]["evidence"]["amplification"]
    assert amplified["ratio"] == figures["test_amplification"][1] and len(amplified["twins"]) == 6

    store = str(tmp_path / "filled")
    assert run(ladder, "--store", store, "--capture-only").ret == pytest.ExitCode.OK
    with monkeypatch.context() as patched:
        patched.setattr("fixtures.models.model.load_model", lambda *arguments: pytest.fail("loaded the model"))
        run(ladder, "--store", store, "--store-only")
    assert decided(ladder) == expected

    ladder.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "--store", store, "probes")
    assert decided(ladder) == expected


def test_an_amplification_alone_has_its_twins_captured(project, tmp_path):
    write(project, "probes/test_toy.py", EFFECTS + CONTROL)
    store = ("--store", str(tmp_path / "store"))
    assert run(project, *store, "--capture-only", "--controls", "none").ret == pytest.ExitCode.OK
    run(project, *store, "--store-only", "--controls", "none")
    assert claims(project, folder(project))["test_amplification"]["verdict"] in ("supported", "refuted")


def test_an_effect_that_is_refuted_stops_the_climb(project):
    write(project, "probes/test_toy.py", EFFECTS.replace("Effect()", "Effect(percent=1e6)") + CONTROL)
    run(project, "--twins", "0").assert_outcomes(failed=1, skipped=1 + len(CONTROLS))
    assert {control["verdict"] for control in controls(project, folder(project)).values()} == {"not climbed"}


def test_one_wording_cannot_be_told_from_its_concept_and_leaves_nothing_open(project):
    write(project, "probes/test_toy.py", HOLDS + CONTROL)
    outcome = run(project, "--controls", "held_out,placebo")
    outcome.assert_outcomes(passed=2, skipped=2)
    assert outcome.ret == pytest.ExitCode.OK
    outcome.stdout.no_fnmatch_line("*not decided*")
    found = controls(project)["held_out"]
    assert found["verdict"] == "not evaluated" and found["reason"].startswith("1 wording of the contrast, at least 3")
    assert controls(project)["placebo"]["verdict"] == "not evaluated"


def test_three_wordings_are_enough_to_decide(project):
    write(project, "probes/test_toy.py", HOLDS + CONTROL)
    text = (project.path / "stimuli/toy.toml").read_text().split("[[pairs]]\n")
    named = [part.replace('"c"\n', f'"c"\ntemplate = "t{number % 3}"\n') for number, part in enumerate(text)]
    write(project, "stimuli/toy.toml", "[[pairs]]\n".join(named))
    run(project, "--controls", "held_out")
    found = controls(project)["held_out"]
    assert found["verdict"] in ("passed", "failed") and found["evidence"]["wordings"]["wordings"] == 3
    assert len(pairs(10).split("[[pairs]]")) == len(text)


def test_an_amplification_without_twins_is_not_evaluated_and_leaves_nothing_open(project):
    write(project, "probes/test_toy.py", EFFECTS)
    outcome = run(project, "--twins", "0", "-rs")
    outcome.assert_outcomes(passed=1, skipped=1)
    assert outcome.ret == pytest.ExitCode.OK
    claim = claims(project, folder(project))["test_amplification"]
    assert claim["verdict"] == "not evaluated" and "`--twins 3`" in claim["reason"] and claim["observed"] is None
    assert results(project, folder(project))["hypotheses"][0]["statement"]["represents"] is False


def test_an_amplification_with_too_few_twins_is_open(project):
    write(project, "probes/test_toy.py", EFFECTS)
    outcome = run(project, "--twins", "2")
    outcome.assert_outcomes(passed=1, skipped=1)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not decided: 1 of 2 claims and controls (toy/amplification): fewer than three *"])


def test_a_twin_that_cannot_be_measured_is_the_error_of_an_amplification(project, monkeypatch):
    def fail(*arguments):
        raise ProbeError("no room for a twin")

    monkeypatch.setattr("fixtures.models.model.untrained_twin", fail)
    write(project, "probes/test_toy.py", EFFECTS)
    outcome = run(project, "--seed", "43")
    outcome.assert_outcomes(passed=1, errors=1)
    claim = claims(project, folder(project))["test_amplification"]
    assert (claim["verdict"], claim["reason"]) == ("not evaluated", "no room for a twin")
