"""From verdicts to words: one rule."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.claims import controls
from fixtures.claims.controls.rungs import needs
from fixtures.claims.ladder import CAUSAL, CONTROLS, LADDER, OBSERVED, rung
from fixtures.claims.limits import CORRELATIONAL, OF_CHANGED_UNITS, OF_EVERY_RUN, PARTLY_CORRELATIONAL
from fixtures.claims.statement import null_verdict, statement

OUTCOMES = ("passed", "failed", "not evaluated")
WORDS = tuple(dict.fromkeys(step.word for step in LADDER))


def record(claims=("supported",), p_holm=0.001, split_half="supported", **controls):
    return {
        "claims": [{"kind": "exceedance", "verdict": verdict, "p_holm": p_holm} for verdict in claims]
        + [{"kind": "split_half", "verdict": split_half, "p_holm": None}],
        "controls": [{"id": name, "verdict": verdict} for name, verdict in controls.items()],
    }


ALL = dict.fromkeys(CONTROLS, "passed")


def test_the_ladder_has_twelve_rungs_in_order():
    assert [step.number for step in LADDER] == list(range(1, 13)) and LADDER[0].id == "null"
    assert rung("placebo").number == 3 and len(set(CONTROLS)) == 11 and CONTROLS == (*OBSERVED, *CAUSAL)
    assert CAUSAL == ("sufficient", "necessary", "specific", "dose")
    assert all(step.of_represents + step.is_causal + step.is_beside == 1 for step in LADDER)
    assert all(step.word and step.question.endswith("?") and step.passing and step.failing for step in LADDER)
    assert all(limit.endswith(".") for limit in (CORRELATIONAL, PARTLY_CORRELATIONAL, *OF_EVERY_RUN, *OF_CHANGED_UNITS))


def test_every_rung_but_the_null_has_a_module_that_decides_it_and_says_what_it_needs():
    assert [step.id for step in LADDER if not step.module] == ["null"]
    modules = {file.stem for file in Path(controls.__file__).parent.glob("*.py") if "NEEDS" in file.read_text()}
    assert modules - {"rungs"} == {step.module for step in LADDER[1:]}
    assert needs(["familywise", "held_out"]) == set() and needs(["placebo", "input"]) == {"placebo", "inputs", "twins"}
    assert needs(OBSERVED) == {"placebo", "inputs", "twins", "other noise", "image confounds"}
    assert needs(CAUSAL) == {"patching", "patching of twins"}


def test_all_rungs_represent_and_use():
    found = statement(record(**ALL))
    assert found["represents"] and found["uses"] and found["shown"] == list(WORDS)
    assert found["sentence"].startswith("Represents and uses, in the sense of this suite: exceeds chance, ")
    assert found["brief"] == "required rungs and 9 to 12 hold"
    assert found["outcome"] == "represents" and found["stopped_by"] is None


@pytest.mark.parametrize("step", LADDER[1:], ids=lambda step: step.id)
def test_a_rung_stops_a_hypothesis_where_it_is_required_and_is_named(step):
    found = statement(record(**ALL | {step.id: "failed"}))
    assert found["represents"] != step.of_represents and step.word in found["failed"]
    assert found["stopped_by"] == (step.id if step.of_represents else None)
    assert (f"Stopped by rung {step.number}" in found["sentence"]) == step.of_represents
    assert found["uses"] == step.is_beside == ("and uses" in found["sentence"])
    unused = f"use not shown: rung {step.number}, {step.title.lower()}"
    assert (unused in found["brief"]) == step.is_causal
    left_open = statement(record(**ALL | {step.id: "not evaluated"}))
    assert left_open["represents"] != step.of_represents and left_open["uses"] == step.is_beside


@pytest.mark.parametrize("verdict", ["not evaluated", "not climbed"])
def test_what_was_not_asked_of_use_is_not_failed(verdict):
    found = statement(record(**ALL | dict.fromkeys(CAUSAL, verdict)))
    assert found["represents"] and not found["uses"] and found["brief"] == "every required rung holds"
    assert ("Not evaluated: sufficient" in found["sentence"]) == (verdict == "not evaluated")


def test_a_set_that_declares_no_placebo_can_be_represented_and_the_gap_is_said():
    given = record(**ALL | {"placebo": "not evaluated"})
    assert not statement(given)["represents"]
    next(entry for entry in given["controls"] if entry["id"] == "placebo")["evidence"] = {"sets": []}
    found = statement(given)
    assert found["represents"] and "Not evaluated: selective." in found["sentence"]


def test_what_is_not_climbed_is_not_failed():
    found = statement(record(("refuted",), **dict.fromkeys(CONTROLS, "not climbed")))
    assert found["failed"] == ["exceeds chance"] and found["outcome"] == "undecided"


EFFECT = {"percent": 0.1, "p": 0.4, "smallest": 0.39, "absent_p": 0.01, "power": 0.95, "pairs": 12}
AMPLIFIED = {"margin": 1.25, "absent_p": 0.01, "power": 0.95}


def test_an_effect_or_amplification_of_interest_that_is_excluded_is_absent():
    found = statement(record(("refuted",)) | {"effect": EFFECT, "n_pairs": 25})
    assert found["outcome"] == "absent" and "0.39 % is excluded (p = 0.01)" in found["sentence"]
    given = record(**ALL | {"untrained": "failed"})
    next(entry for entry in given["controls"] if entry["id"] == "untrained")["evidence"] = {"amplification": AMPLIFIED}
    assert statement(given)["outcome"] == "stopped"  # nothing says that an effect would have been seen
    assert statement(given | {"effect": EFFECT | {"absent_p": 0.9, "power": 0.6}})["outcome"] == "stopped"
    found = statement(given | {"effect": EFFECT | {"absent_p": 0.9}})
    assert found["outcome"] == "absent" and found["stopped_by"] is None
    assert "Absent: 1.25 times the effect of untrained twins is excluded" in found["sentence"]


@pytest.mark.parametrize("change", [{"absent_p": 0.2}, {"power": 0.6}])
def test_without_an_upper_bound_or_the_power_it_is_undecided_and_the_pairs_are_told(change):
    for pairs, said in (
        (83, "about 83 pairs would decide it"),
        (12, "neither shown nor excluded"),
        (None, "no number"),
    ):
        effect = EFFECT | change | {"pairs": pairs}
        found = statement(record(("refuted",)) | {"effect": effect, "n_pairs": 25})
        assert found["outcome"] == "undecided" and said in found["sentence"]


@pytest.mark.parametrize("verdict", ["refuted", "inconclusive"])
def test_no_number_of_pairs_is_told_where_the_effect_was_found(verdict):
    there = EFFECT | {"absent_p": 1.0, "p": 0.001, "percent": 0.39, "pairs": 83}
    found = statement(record((verdict,)) | {"effect": there, "n_pairs": 25})
    assert found["outcome"] == "undecided" and "pairs" not in found["sentence"]
    assert found["sentence"].endswith("Undecided: there is an effect, but not every claim of rung 1 holds.")
    for less in ({"p": 0.06}, {"percent": 0.38}):
        found = statement(record((verdict,)) | {"effect": there | less, "n_pairs": 25})
        assert found["sentence"].endswith("Undecided: about 83 pairs would decide it.")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"p_holm": 0.08}, "Holm’s correction over the run"),
        ({"p_holm": None}, "Holm’s correction over the run"),
        ({"split_half": "refuted"}, "not every claim is supported"),
    ],
)
def test_what_keeps_a_hypothesis_that_passed_every_rung_undecided_is_said(claims, why):
    given = record(**ALL | {name: verdict for name, verdict in claims.items() if name != "p_holm"})
    if "p_holm" in claims:
        given["claims"][0]["p_holm"] = claims["p_holm"]
    found = statement(given)
    assert found["outcome"] == "undecided"
    assert found["sentence"].startswith(f"Undecided: {why}. Shown: exceeds chance, ")


def test_what_is_represented_is_not_absent():
    found = statement(record(**ALL) | {"effect": EFFECT})
    assert found["outcome"] == "represents"


def test_an_effect_that_is_claimed_decides_rung_1_too():
    given = record(**ALL)
    given["claims"][0]["kind"] = "effect"
    assert statement(given)["represents"]
    given["claims"][0]["verdict"] = "refuted"
    assert null_verdict(given) == "failed" and not statement(given)["represents"]


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
    required = [step.id for step in LADDER[1:] if step.of_represents]
    assert found["represents"] == (null == "supported" and all(controls.get(name) == "passed" for name in required))
    used = all(controls.get(name) == "passed" for name in CAUSAL)
    assert found["uses"] == (found["represents"] and used) == ("and uses" in found["sentence"])
    assert ("epresents" in found["sentence"]) == found["represents"]
    for word in found["shown"]:
        assert all(controls.get(step.id) == "passed" for step in LADDER[1:] if step.word == word)


def test_what_stopped_it_is_where_it_halted_whatever_was_not_evaluated_below():
    verdicts = {"placebo": "not evaluated", "untrained": "failed"}
    found = statement(record(**ALL | verdicts))
    assert (found["outcome"], found["stopped_by"], found["halted"]) == ("stopped", "untrained", "untrained")
    found = statement(record(**ALL | {"placebo": "not evaluated"}))
    assert (found["outcome"], found["stopped_by"], found["halted"]) == ("undecided", None, "placebo")
