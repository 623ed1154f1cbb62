"""Rungs 7 and 8: figures agree with the statistics, the pair that carries an effect is named, few pairs are said so."""

import json

import numpy as np
import pytest

from fixtures.claims.controls.held_out import across_wordings, held_out
from fixtures.claims.controls.replication import replication, second_seed_record
from fixtures.statistics.held_out import held_out_selection
from fixtures.statistics.log_effect import effect_without_one, log_effect, percent
from fixtures.statistics.records import null_record
from fixtures.statistics.split_half_null import split_half_null

PAIRS, UNITS = 14, 60
IDS = [f"p{number}" for number in range(PAIRS)]
CATEGORIES = ["even" if number % 2 == 0 else "odd" for number in range(PAIRS)]
LABELS = {"pair": IDS, "category": CATEGORIES}
WORDED = [f"w{number % 5}" for number in range(PAIRS)]


def replicate(ratios, labels=LABELS, second=None):
    split = {"null": null_record(split_half_null(ratios, seed=2))} if len(ratios) >= 4 else None
    again = second_seed_record(ratios if second is None else second, 7, [], 0.5, 0)
    return replication(ratios, labels, again, split, 0)


def noise(seed=8, pairs=PAIRS):
    return np.random.default_rng(seed).normal(size=(pairs, UNITS))


@pytest.fixture(scope="module")
def responding():
    """A third of the units respond to every pair."""
    ratios = noise(5)
    ratios[:, : UNITS // 3] += 1.6
    return ratios


@pytest.fixture(scope="module")
def pulled(responding):
    """The last pair pulls hard the other way."""
    ratios = responding.copy()
    ratios[-1, : UNITS // 3] -= 6
    return ratios


def test_an_effect_in_every_pair_replicates(responding):
    verdict = replicate(responding)
    assert verdict.passed and verdict.number == "2 of 2 checks" and verdict.p <= 0.05, verdict
    assert held_out(responding, across_wordings(responding, WORDED, 0), seed=2).passed


def test_noise_does_not():
    verdict = replicate(0.01 * noise())
    assert verdict.outcome == "failed" and verdict.reason.startswith("fails: without any one pair, other noise")
    small = 0.01 * noise()
    assert held_out(small, across_wordings(small, WORDED, 0), seed=0).outcome == "failed"


def test_an_effect_of_one_noise_sample_does_not(responding):
    verdict = replicate(responding, second=noise(9))
    assert verdict.outcome == "failed" and verdict.number == "1 of 2 checks" and "fails: other noise" in verdict.reason
    found, expected = verdict.figures["second_seed"], log_effect(noise(9))
    assert (found["seed"], found["p"], found["percent"]) == (7, expected.p, percent(expected.mean_square))


def test_an_effect_under_other_noise_that_is_too_small_to_be_of_interest_does_not_replicate(responding):
    assert replicate(responding, second=responding / 1e4).reason.startswith("fails: other noise")


def test_an_effect_of_one_template_does_not_and_of_one_category_is_shown():
    ratios = 0.01 * noise(4, 24)
    ratios[:8, :40] += 5
    thirds = ["strong"] * 8 + ["weak"] * 8 + ["none"] * 8
    for name in ("category", "template"):
        verdict = replicate(ratios, {"pair": list(range(24)), name: thirds})
        entry = verdict.figures[f"without_one_{name}"]
        assert verdict.passed == (name == "category") and entry["without"] == "strong" and entry["p"] > 0.05
    assert verdict.reason.startswith("fails: without any one template")


def test_an_effect_of_one_pair_does_not():
    ratios = 0.0001 * noise(4)
    ratios[3] += 1
    ratios[4] += 0.1
    verdict = replicate(ratios)
    assert log_effect(ratios).mean_square > 0.001 and verdict.figures["without_one_pair"]["without"] in ("p3", "p4")
    assert verdict.reason.startswith("fails: without any one pair")


def test_fewer_pairs_alone_do_not_fail_it():
    """Five pairs that have it: without one of them chance could do as much, and an effect is left."""
    ratios = 0.01 * noise(6, 20)
    ratios[:5] += 0.2
    verdict = replicate(ratios, {"pair": list(range(20)), "category": list(range(20))})
    assert verdict.passed and verdict.figures["without_one_pair"]["p"] > 0.05


def test_the_weakest_that_is_left_is_that_of_the_statistics(pulled):
    evidence = replicate(pulled).figures
    for name, labels in LABELS.items():
        expected, found = effect_without_one(pulled, labels), evidence[f"without_one_{name}"]
        assert (found["without"], found["p"]) == (expected.without, expected.p)
        assert found["percent"] == percent(expected.mean_square)


def test_held_out_selection_is_that_of_the_statistics(pulled):
    expected = held_out_selection(pulled, seed=2)
    verdict = held_out(pulled, across_wordings(pulled, WORDED, 0), seed=2)
    assert (verdict.figures["observed"], verdict.figures["p"]) == (expected.observed, expected.p)
    assert verdict.p == verdict.figures["wordings"]["p"]


def test_what_one_wording_does_does_not_carry_over():
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(5), 5)
    own = 2 * rng.standard_normal((5, UNITS))[labels] + noise(7, 25)
    found = across_wordings(own, [f"w{label}" for label in labels], 0)
    expected = log_effect(own, labels)
    assert found["wordings"] == 5 and found["p"] == expected.larger_p > 0.05
    assert held_out(own, found, seed=0).outcome == "failed"


@pytest.mark.parametrize("wordings", [1, 2])
def test_one_or_two_wordings_leave_it_open_and_say_what_is_missing(responding, wordings):
    found = across_wordings(responding, [f"w{number % wordings}" for number in range(PAIRS)], 0)
    verdict = held_out(responding, found, seed=2)
    assert (
        verdict.outcome == "not evaluated"
        and f"{wordings} wording" in verdict.reason
        and "at least 3" in verdict.reason
    )


def test_a_single_template_leaves_it_open_unless_something_else_fails(responding):
    one = LABELS | {"template": ["one"] * PAIRS}
    verdict = replicate(responding, one)
    assert verdict.outcome == "not evaluated" and "without any one template" in verdict.reason
    assert set(verdict.figures["without_one_template"]) == {"reason"}
    assert replicate(0.01 * noise(), one).outcome == "failed"


def test_three_pairs_are_too_few(responding):
    assert held_out(responding[:3], across_wordings(responding[:3], IDS[:3], 0), seed=0).outcome == "not evaluated"
    evidence = replicate(responding[:3], {"pair": IDS[:3], "category": ["one", "one", "two"]}).figures
    assert "cannot be halved" in evidence["split_half"]["reason"] and evidence["without_one_pair"]["p"] is None


def test_the_records_are_plain_json(pulled):
    for verdict in (replicate(pulled), held_out(pulled, across_wordings(pulled, WORDED, 0), seed=0)):
        told = {name: value for name, value in vars(verdict).items() if name != "table"}
        assert json.loads(json.dumps(told, allow_nan=False)) == told
