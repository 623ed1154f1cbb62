"""A run is green only if everything that was asked was decided, however the tests are chosen, repeated and spread."""

import xml.etree.ElementTree as ElementTree

import pytest
from toy_project import CONTROL, PROBE, STIMULI, folder, pairs, results, run, write

from fixtures.session.options import resolve_settings
from fixtures.session.run import Run
from fixtures.session.undecided import undecided

pytest_plugins = "pytester"

HOLDS = PROBE.replace("margin=47", "margin=1.01")
BAD = STIMULI + pairs(9) + pairs(1)  # an id twice
DYING = """
import os, signal
import fixtures.session.run as run
from pathlib import Path

decide = run.Run.evidence

def die(self, hypothesis):
    if not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return decide(self, hypothesis)

run.Run.evidence = die
pytest_plugins = ["fixtures.session.plugin"]
"""


def started(project, *arguments):
    """A run with the cache of pytest; with workers in a process of its own."""
    if "-n" in arguments:
        return project.runpytest_subprocess("probes", *arguments)
    return project.runpytest_inprocess("probes", *arguments)


@pytest.fixture
def green(project):
    """The toy project with claims that are all supported."""
    write(project, "probes/test_toy.py", HOLDS)
    return project


@pytest.fixture
def broken(green):
    """The same with a stimulus file that cannot be used."""
    write(green, "stimuli/toy.toml", BAD)
    return green


def test_a_run_of_which_all_was_decided_is_green(green):
    outcome = run(green)
    outcome.assert_outcomes(passed=2)
    assert outcome.ret == pytest.ExitCode.OK
    outcome.stdout.no_fnmatch_line("*not decided*")


WAYS = [
    (),
    ("--reruns", "1"),
    ("--reruns", "2", "--only-rerun", "id"),
    ("--reruns", "1", "-x"),
    ("--reruns", "1", "-n", "1"),
    ("-n", "2", "--dist", "loadfile"),
    ("-n", "1", "--dist", "loadscope", "--maxfail", "1"),
    ("--count", "2", "--reruns", "1"),
    ("--count", "2", "-n", "1"),
    ("-x",),
    ("--lf",),
    ("--ff",),
    ("--stepwise",),
    ("--deselect", "probes/test_toy.py::test_supported"),
    ("-p", "no:cacheprovider"),
    ("-p", "no:probes-reporter"),
    ("-p", "no:terminal"),
    ("--gate", "none", "--reruns", "1"),
    ("--strict-claims", "-q"),
    ("--import-mode", "importlib"),
    ("--setup-only",),
]


@pytest.mark.parametrize("arguments", WAYS, ids=" ".join)
def test_what_cannot_be_evaluated_is_red_however_it_is_run(broken, arguments):
    again = ("--lf", "--ff", "--nf", "--stepwise")
    for _ in range(2 if set(again) & {*arguments} else 1):
        outcome = started(broken, *arguments)
        assert outcome.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
        if "no:terminal" not in arguments:
            outcome.stdout.fnmatch_lines(["not decided: [1-2] of [1-2] claims and controls (toy/count_t*"])
        entries = results(broken, folder(broken))["hypotheses"][0]["claims"]
        assert len(entries) == len({entry["id"] for entry in entries}), "each claim once"


@pytest.mark.parametrize("arguments", [("--reruns", "1"), ("--count", "3"), ("-n", "2", "--count", "2")], ids=" ".join)
def test_repetitions_decide_one_claim_each(green, arguments):
    outcome = started(green, *arguments)
    assert outcome.ret == pytest.ExitCode.OK
    data = results(green)
    assert [entry["id"] for entry in data["hypotheses"][0]["claims"]] == ["count_t3", "count_t5"]
    assert data["multiple_testing"]["n"] == 2


def test_the_last_attempt_decides(green, monkeypatch):
    decide, failed = Run.evidence, []

    def at_first(self, hypothesis):
        if not failed:
            failed.append(1)
            raise RuntimeError("the cable is loose")
        return decide(self, hypothesis)

    monkeypatch.setattr(Run, "evidence", at_first)
    outcome = started(green, "--reruns", "1")
    assert outcome.ret == pytest.ExitCode.OK and outcome.parseoutcomes()["rerun"] == 1


def test_a_mark_that_reruns_is_no_way_round(broken):
    source = HOLDS.replace("@pytest.mark.claim", "@pytest.mark.flaky(reruns=2)\n@pytest.mark.claim")
    write(broken, "probes/test_toy.py", source)
    outcome = started(broken)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED


def test_properties_of_a_repeated_test_are_listed_once(broken):
    started(broken, "--reruns", "2", "--junitxml", "junit.xml")
    for case in ElementTree.parse(broken.path / "junit.xml").iter("testcase"):
        names = [entry.get("name") for entry in case.iter("property")]
        assert len(names) == len(set(names))


def test_a_truncated_checkpoint_is_red_under_reruns(green, checkpoint_copy):
    weights = max(checkpoint_copy.rglob("*.safetensors"), key=lambda file: file.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1000])
    write(green, "probes/test_other.py", HOLDS.replace('"toy"', '"other"'))
    write(green, "stimuli/other.toml", (STIMULI + pairs(10)).replace('"toy"', '"other"'))
    outcome = started(green, "--reruns", "1", "--model", str(checkpoint_copy))
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not decided: 4 of 4 claims and controls (*"])


def test_a_worker_that_dies_and_is_replaced_leaves_nothing_open(green):
    green.makeconftest(DYING)
    outcome = started(green, "-n", "1", "--reruns", "1")
    assert outcome.ret == pytest.ExitCode.OK
    assert {entry["verdict"] for entry in results(green)["hypotheses"][0]["claims"]} == {"supported"}


def test_last_failed_chooses_all_that_could_not_be_evaluated(broken):
    started(broken).assert_outcomes(errors=1, skipped=1)
    write(broken, "stimuli/toy.toml", STIMULI + pairs(10))
    outcome = started(broken, "--lf")
    outcome.assert_outcomes(passed=2)
    assert outcome.ret == pytest.ExitCode.OK


def test_a_run_in_which_nothing_was_decided_is_not_green(green):
    write(green, "stimuli/toy.toml", STIMULI + pairs(7))
    outcome = run(green)
    outcome.assert_outcomes(skipped=2)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not decided: 2 of 2 claims and controls (toy/count_t3, toy/count_t5): 7 pairs, *"])
    assert run(green, "--gate", "none").ret == pytest.ExitCode.TESTS_FAILED


def test_a_margin_out_of_reach_is_an_answer_beside_others(green):
    write(green, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1000"))
    outcome = run(green)
    outcome.assert_outcomes(passed=1, skipped=1)
    assert outcome.ret == pytest.ExitCode.OK
    assert run(green, "-k", "refuted").ret == pytest.ExitCode.TESTS_FAILED


def test_nothing_chosen_stays_what_pytest_says(green):
    assert run(green, "-k", "nothing_of_that_name").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert run(green, "--collect-only").ret == pytest.ExitCode.OK


def test_a_control_that_could_not_be_evaluated_is_red(green):
    write(green, "probes/test_toy.py", (green.path / "probes/test_toy.py").read_text() + CONTROL)
    chosen = ("--controls", "untrained", "--twins", "2")
    outcome = run(green, *chosen)
    outcome.assert_outcomes(passed=2, skipped=1)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not decided: 1 of 3 claims and controls (toy/untrained): at least 3 untrained *"])
    assert run(green, *chosen, "--gate", "none").ret == pytest.ExitCode.OK, "the gate leaves it out"


def test_a_placebo_that_is_not_declared_and_twins_that_are_left_out_leave_nothing_open(green):
    write(green, "probes/test_toy.py", (green.path / "probes/test_toy.py").read_text() + CONTROL)
    outcome = run(green, "--controls", "placebo,untrained", "--twins", "0")
    outcome.assert_outcomes(passed=2, skipped=2)
    assert outcome.ret == pytest.ExitCode.OK
    weights = results(green)["model"]["weights_sha256"]
    record = f'[[model]]\nweights_sha256 = "{weights}"\n[model.controls.toy]\nuntrained = "failed"\n'
    write(green, "probes/known_verdicts.toml", record)
    outcome = run(green, "--controls", "untrained", "--twins", "0")
    outcome.assert_outcomes(passed=2, skipped=1)
    assert outcome.ret == pytest.ExitCode.OK, "a failure on record of what was not asked"


@pytest.mark.parametrize(
    "body", ["pytest.skip('not today')", "verdict.supported or pytest.skip('never mind')", "return"], ids=str
)
def test_a_test_does_not_talk_its_way_out(green, body):
    source = PROBE.replace("    assert verdict.supported, verdict\n", f"    {body}\n")
    write(green, "probes/test_toy.py", source)
    assert run(green).ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("mark", ["skip(reason='later')", "skipif(True, reason='no GPU')", "xfail(reason='bad')"])
def test_a_claim_that_is_marked_to_be_left_out_is_open(broken, mark):
    write(broken, "probes/test_toy.py", PROBE.replace("@pytest.mark.claim", f"@pytest.mark.{mark}\n@pytest.mark.claim"))
    outcome = run(broken)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not decided: 2 of 2 claims and controls (*"])


@pytest.mark.parametrize(
    ("ending", "status"),
    [("import nothing_of_that_name", 2), ("def test_end(): pytest.exit('done', returncode=0)", 1)],
)
def test_what_ends_a_run_early_is_not_green(green, ending, status):
    write(green, "probes/test_a.py", f"import pytest\n{ending}\n")
    assert run(green).ret == status


def test_a_baseline_that_has_none_of_the_run_s_hypotheses_is_no_comparison(green):
    assert run(green, "--save-baseline", "then.json", "--baseline-seeds", "3").ret == pytest.ExitCode.OK
    write(green, "probes/test_toy.py", (green.path / "probes/test_toy.py").read_text().replace('"toy"', '"other"'))
    write(green, "stimuli/other.toml", (STIMULI + pairs(10)).replace('"toy"', '"other"'))
    outcome = run(green, "--baseline", "then.json")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not decided: what has changed since *then.json: it has no hypothesis of this run"])
    assert run(green, "--baseline", "then.json", "--gate", "claims").ret == pytest.ExitCode.OK


def full(*arguments):
    raise OSError(28, "No space left on device")


def test_a_baseline_that_could_not_be_saved_is_red(green, monkeypatch):
    monkeypatch.setattr("fixtures.baseline.document.write_together", full)
    outcome = run(green, "--save-baseline", "then.json", "--baseline-seeds", "3")
    outcome.stdout.fnmatch_lines(["baseline: not saved: toy: *No space left on device*"])
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED


def entry(verdict, name="c", **more):
    return {"id": name, "verdict": verdict, "reason": "because", **more}


def hypothesis(claims, controls=(), name="h", **more):
    return {"id": name, "claims": [*claims], "controls": [*controls], **more}


OPEN, CLIMBED = "not evaluated", "not climbed"
NONE_DECLARED, FEW_WORDINGS = {"sets": []}, {"wordings": {"reason": "2 wordings"}}
DECIDED_SETS, WORDINGS = {"sets": [{"name": "placebo prompts"}]}, {"wordings": {"wordings": 3}}


@pytest.mark.parametrize(
    ("hypotheses", "options", "green"),
    [
        ([hypothesis([entry("supported"), entry("refuted")], [entry("passed"), entry("failed")])], {}, True),
        ([hypothesis([entry("supported"), entry("inconclusive")])], {}, True),
        ([hypothesis([entry("inconclusive")])], {}, False),
        ([hypothesis([entry("inconclusive")]), hypothesis([entry("refuted")], name="i")], {}, False),
        ([hypothesis([entry("inconclusive")]), hypothesis([entry("refuted")], name="i")], {"gate": "none"}, True),
        ([hypothesis([entry("inconclusive")])], {"gate": "none"}, False),
        ([hypothesis([entry("supported"), entry("not evaluated")])], {}, False),
        ([hypothesis([entry("supported")], [entry("not evaluated")])], {}, False),
        ([hypothesis([entry("refuted")], [entry(CLIMBED), entry(CLIMBED)])], {}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "placebo", evidence=NONE_DECLARED)])], {}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "placebo", evidence=NONE_DECLARED)])], {"twins": "2"}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "placebo", evidence=DECIDED_SETS)])], {}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "placebo", evidence={})])], {}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "placebo", evidence={})])], {"twins": "0"}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "held_out", evidence=FEW_WORDINGS)])], {}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "held_out", evidence=WORDINGS)])], {}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "held_out", evidence={})])], {"twins": "0"}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "untrained", evidence={})])], {"twins": "0"}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "untrained", evidence={})])], {"twins": "2"}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "untrained", evidence={})])], {}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "specific", evidence={})])], {"twins": "0"}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "sufficient", evidence={})])], {"twins": "0"}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "sufficient", evidence={})], n_pairs=20)], {}, True),
        ([hypothesis([entry("supported")], [entry(OPEN, "sufficient", evidence={})], n_pairs=21)], {}, False),
        ([hypothesis([entry("supported")], [entry(OPEN, "dose", evidence={})])], {"compile": "on"}, False),
        ([hypothesis([entry("supported")], steering={"reason": "not evaluated"})], {"steer": "h"}, False),
        ([hypothesis([entry("supported")], steering={"reason": "not evaluated"})], {"steer": "sufficient"}, True),
        ([hypothesis([entry("supported")], steering={"sets": []})], {"steer": "h"}, True),
        ([hypothesis([entry("supported"), entry(OPEN, "amplification")])], {"twins": "0"}, True),
        ([hypothesis([entry("supported"), entry(OPEN, "amplification")])], {}, False),
        ([hypothesis([entry("not evaluated")], change={"verdict": "unchanged"})], {"gate": "none"}, True),
        ([hypothesis([entry("not evaluated")], change={"verdict": "unchanged"})], {}, False),
    ],
)
def test_the_rule(tmp_path, hypotheses, options, green):
    settings = resolve_settings(options, {}, tmp_path, environment={})
    line = undecided({"hypotheses": hypotheses}, settings)
    assert (line is None) is green, line
    assert green or line.startswith("not decided: ")
