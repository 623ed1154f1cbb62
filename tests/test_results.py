import json
import shlex
from pathlib import Path

import pytest

from fixtures.claims.claims import Exceedance, SplitHalf
from fixtures.claims.hypothesis import Hypothesis
from fixtures.claims.verdict import Verdict
from fixtures.results.entries import claim_record
from fixtures.results.results import Results
from fixtures.session.options import resolve_settings

HYPOTHESIS = Hypothesis(id="h", title="H", sentence="s", contrast="a minus b", positive="a")
EVIDENCE = {"n_pairs": 25, "counts": []}
CONTEXT = {"model": {"name": "m"}, "protocol": {"seed": 0}, "device_name": "d"}


@pytest.fixture
def results(tmp_path):
    settings = resolve_settings({"seed": "4", "refresh": True, "model": "a b"}, {}, Path("/root"), {})
    return Results(tmp_path, settings, "pytest probes/")


def claim(test="t1", outcome="supported"):
    return claim_record(test, Exceedance(3.0, 2.0), Verdict(outcome, "because", {"observed": 5}))


def test_an_expected_claim_is_listed_until_it_is_decided(results):
    results.expect("claim", HYPOTHESIS.record(), claim(outcome="not evaluated"))
    assert results.find("t1")[1]["verdict"] == "not evaluated"
    results.add("claim", HYPOTHESIS.record(), claim(), EVIDENCE, CONTEXT)
    hypothesis, decided = results.find("t1")
    assert decided["verdict"] == "supported" and hypothesis["n_pairs"] == 25 and len(hypothesis["claims"]) == 1


def test_a_claim_that_nobody_expected_is_listed_too(results):
    results.add("claim", HYPOTHESIS.record(), claim("t1"), EVIDENCE, CONTEXT)
    results.add("claim", HYPOTHESIS.record(), claim("t2"), EVIDENCE, CONTEXT)
    assert [entry["test"] for entry in results.data["hypotheses"][0]["claims"]] == ["t1", "t2"]


def test_what_was_not_evaluated_has_the_first_reason(results):
    results.add("claim", HYPOTHESIS.record(), claim("t1", "not evaluated"), None, None)
    assert results.data["hypotheses"][0]["reason"] == "because"
    assert results.data["model"] == {"name": "a b"}


def test_what_is_written_is_what_is_known(results, tmp_path):
    results.add("claim", HYPOTHESIS.record(), claim(), EVIDENCE, CONTEXT)
    results.finish(complete=True)
    results.write()
    assert json.loads((tmp_path / "results.json").read_text()) == results.data
    assert results.data["run"]["complete"] and results.data["run"]["finished"]


def test_the_rerun_command_has_every_option_that_was_set_and_decides_something(results):
    command = shlex.split(results.rerun_command("probes/t.py::t[<x y>]"))
    assert command == ["pytest", "probes/t.py::t[<x y>]", "--model", "a b", "--seed", "4"]


def test_a_flag_that_is_off_is_not_in_the_rerun_command(tmp_path):
    settings = resolve_settings({}, {}, Path("/root"), {"PROBES_STRICT_CLAIMS": "0"})
    assert Results(tmp_path, settings, "").rerun_command("t") == "pytest t"


def test_every_claim_record_has_the_same_fields():
    exceedance = claim()
    split_half = claim_record("t", SplitHalf(0.3), Verdict("not evaluated", "r"))
    assert set(exceedance) == set(split_half)
    assert (exceedance["kind"], split_half["kind"]) == ("exceedance", "split_half")
    assert exceedance["observed"] == 5 and split_half["observed"] is None
