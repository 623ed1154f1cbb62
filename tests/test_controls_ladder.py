"""From verdicts to words: one rule."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fixtures.claims import controls
from fixtures.claims.controls.rungs import needs
from fixtures.claims.ladder import CONTROLS, LADDER, LIMITS, null_verdict, rung, statement

OUTCOMES = ("passed", "failed", "not evaluated")
WORDS = tuple(dict.fromkeys(step.word for step in LADDER))


def record(claims=("supported",), p_holm=0.001, split_half="supported", **controls):
    return {
        "claims": [{"kind": "exceedance", "verdict": verdict, "p_holm": p_holm} for verdict in claims]
        + [{"kind": "split_half", "verdict": split_half, "p_holm": None}],
        "controls": [{"id": name, "verdict": verdict} for name, verdict in controls.items()],
    }


ALL = dict.fromkeys(CONTROLS, "passed")


def test_the_ladder_has_eight_rungs_in_order():
    assert [step.number for step in LADDER] == list(range(1, 9)) and LADDER[0].id == "null"
    assert rung("placebo").number == 3 and len(set(CONTROLS)) == 7
    assert all(step.word and step.question.endswith("?") and step.passing and step.failing for step in LADDER)
    assert all(limit.endswith(".") for limit in LIMITS)


def test_every_rung_but_the_null_has_a_module_that_decides_it_and_says_what_it_needs():
    assert [step.id for step in LADDER if not step.module] == ["null"]
    modules = {file.stem for file in Path(controls.__file__).parent.glob("*.py") if "NEEDS" in file.read_text()}
    assert modules - {"rungs"} == {step.module for step in LADDER[1:]}
    assert needs(["familywise", "held_out"]) == set() and needs(["placebo", "input"]) == {"placebo", "inputs"}
    assert needs(CONTROLS) == {"placebo", "inputs", "twins", "other noise", "image confounds"}


def test_only_all_eight_rungs_represent():
    found = statement(record(**ALL))
    assert found["represents"] and found["sentence"].startswith("Represents") and found["shown"] == list(WORDS)


def test_the_null_is_passed_by_all_exceedance_claims_together():
    assert null_verdict(record(("supported", "supported"))) == "passed"
    assert null_verdict(record(("supported", "refuted"))) == "failed"
    assert null_verdict(record(("supported", "inconclusive"))) == "not evaluated"
    assert null_verdict({}) == "not evaluated"


def test_a_claim_that_was_not_selected_leaves_the_null_open():
    assert null_verdict(record() | {"exceedance_claims": 2}) == "not evaluated"
    assert null_verdict(record(("supported", "supported")) | {"exceedance_claims": 2}) == "passed"


def test_a_refuted_claim_of_another_kind_takes_the_strongest_word_away():
    found = statement(record(split_half="refuted", **ALL))
    assert not found["represents"] and "epresents" not in found["sentence"]


def test_without_the_null_there_are_no_words():
    found = statement(record(("refuted",), **ALL))
    assert found["shown"] == [] and not found["represents"] and found["sentence"] == "Not shown to exceed chance."
    assert "was not decided" in statement(record(("inconclusive",), **ALL))["sentence"]


def test_many_hypotheses_take_the_strongest_word_away():
    assert not statement(record(p_holm=0.2, **ALL))["represents"]
    assert not statement(record(p_holm=None, **ALL))["represents"]


@given(st.dictionaries(st.sampled_from(CONTROLS), st.sampled_from(OUTCOMES)), st.sampled_from(["supported", "refuted"]))
def test_every_word_has_one_standing_and_no_failure_represents(controls, null):
    found = statement(record((null,), **controls))
    failed_or_open = {*found["failed"], *found["not_evaluated"]}
    assert set(found["shown"]) | failed_or_open <= set(WORDS) and not set(found["shown"]) & failed_or_open
    if null == "supported":
        assert set(found["shown"]) | failed_or_open == set(WORDS)
    assert found["represents"] == (null == "supported" and controls == ALL)
    assert ("epresents" in found["sentence"]) == found["represents"]
    for word in found["shown"]:
        assert all(controls.get(step.id) == "passed" for step in LADDER[1:] if step.word == word)
