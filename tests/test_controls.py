"""Rungs 2 to 6 as functions of arrays: each passes on what it should let through and stops what it should stop."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from fixtures.claims.claims import Exceedance
from fixtures.claims.controls.confounds import confounds
from fixtures.claims.controls.familywise import familywise
from fixtures.claims.controls.input_baseline import input_baseline
from fixtures.claims.controls.placebo import BAND, PlaceboSet, placebo
from fixtures.claims.controls.untrained import prediction_p, untrained
from fixtures.statistics.freedman_lane import freedman_lane
from fixtures.statistics.null_plan import NullPlan
from fixtures.statistics.set_difference import set_difference_test

PAIRS, UNITS, PLANTED = 20, 100, 30
CLAIMS = (Exceedance(5.0, 2.0), Exceedance(3.0, 2.0))
THRESHOLDS = (3.0, 5.0)
REQUIRED = {5.0: 2.0, 3.0: 12.0}
PLAN = NullPlan()


def noise(seed=0, pairs=PAIRS):
    return np.random.default_rng(seed).normal(size=(pairs, UNITS))


def planted(seed=0, size=2.0):
    differences = noise(seed)
    differences[:, :PLANTED] += size
    return differences


def is_plain(verdict):
    return json.loads(json.dumps(vars(verdict), allow_nan=False)) == vars(verdict)


# family-wise


def unit(number, t, p):
    names = {"block": "joint[0]", "kind": "attention", "start": 16 * number, "stop": 16 * number + 16}
    return {"unit": number, **names, "t": t, "p_adjusted": p}


def test_one_unit_is_enough_to_be_localised():
    record = {"alpha": 0.05, "critical_t": 4.2, "n_units": 1, "smallest_p": 0.01, "units": [unit(3, -6.0, 0.01)]}
    verdict = familywise(record)
    assert verdict.passed and verdict.p == 0.01 and "channels 48 to 64 (attention), t = -6.00" in verdict.reason
    none = familywise(record | {"n_units": 0, "units": [], "smallest_p": 0.3})
    assert none.outcome == "failed" and none.number == "0 units" and is_plain(none)


# placebo


def against(concept, *sets, distance=0.1):
    return placebo(concept, distance, "text embeddings", sets, CLAIMS, THRESHOLDS, 0)


def test_a_concept_beats_a_placebo_that_moves_nothing():
    verdict = against(planted(), PlaceboSet("words", noise(1), 0.1))
    row = verdict.figures["sets"][0]
    expected = set_difference_test(planted(), noise(1), THRESHOLDS)
    assert verdict.passed and verdict.p == expected[0].p and row["matched"] and row["ratio"] == 1
    assert [(count["concept"], count["placebo"]) for count in row["counts"]] == [
        (r.concept, r.placebo) for r in expected
    ]
    assert is_plain(verdict)


def test_the_lowest_claimed_threshold_decides():
    assert against(planted(), PlaceboSet("words", noise(1), 0.1)).number.split()[0] == str(
        set_difference_test(planted(), noise(1), (3.0,))[0].concept
    )


def test_a_placebo_that_moves_half_as_much_stops_it_whatever_p_says():
    differences = noise(9)
    differences[:, : 2 * PLANTED // 3] += 3.0
    row = against(planted(size=3.0), PlaceboSet("shift", differences, 0.1)).figures["sets"][0]
    assert row["counts"][0]["concept"] > row["counts"][0]["placebo"] >= PLANTED // 2 and not row["beaten"]
    assert row["required"] == 2.0 * row["counts"][0]["placebo"]


def test_a_placebo_so_strong_that_no_concept_could_beat_it_by_the_margin_stops_it_and_that_is_said():
    whole, half = noise(), noise(9)
    whole += 5.0
    half[:, : 3 * UNITS // 4] += 5.0
    verdict = against(whole, PlaceboSet("darker", half, 0.1))
    assert verdict.outcome == "failed" and is_plain(verdict)
    assert f"beside darker the margin asks for more than all {UNITS} units" in verdict.reason


def test_a_placebo_that_moves_as_much_stops_it_and_so_does_one_of_several():
    same = PlaceboSet("shift", planted(9), 0.1)
    assert against(planted(), same).outcome == "failed"
    verdict = against(planted(), PlaceboSet("words", noise(1), 0.1), same)
    assert verdict.outcome == "failed" and [row["beaten"] for row in verdict.figures["sets"]] == [True, False]


@pytest.mark.parametrize("ratio", [BAND[0] - 0.01, BAND[1] + 0.01])
@pytest.mark.parametrize("moves", [0.0, 2.0])
def test_a_placebo_of_another_size_decides_nothing(ratio, moves):
    other = PlaceboSet("words", planted(9, moves), 0.1 * ratio)
    verdict = against(planted(), other)
    assert verdict.outcome == "not evaluated" and f"words ({ratio:.2f})" in verdict.reason
    assert verdict.figures["sets"][0]["matched"] is False
    assert against(planted(), other, PlaceboSet("shift", noise(1), 0.1)).passed
    assert against(planted(), other, PlaceboSet("shift", planted(9), 0.1)).outcome == "failed"


def test_a_placebo_that_goes_no_way_says_nothing_about_a_concept_that_goes_one():
    aimless = PlaceboSet("words", noise(1), 0.1, regularity=(0.2, 0.9))
    verdict = against(planted(), aimless)
    assert verdict.outcome == "not evaluated" and "regularity 0.20, the concept's 0.90" in verdict.reason
    assert against(planted(), PlaceboSet("words", noise(1), 0.1, regularity=(0.8, 0.9))).passed
    assert against(
        planted(), PlaceboSet("words", noise(1), 0.1, regularity=(0.15, 0.25))
    ).passed  # neither goes one way


def test_the_zero_is_not_matched_but_has_to_be_beaten():
    zero = PlaceboSet("other image seed", noise(1), 5.0, is_zero=True)
    assert against(planted(), zero, PlaceboSet("crop", noise(2), 0.1, 0.02)).passed
    moving = PlaceboSet("other image seed", planted(9), 5.0, is_zero=True)
    assert against(planted(), moving, PlaceboSet("crop", noise(2), 0.1, 0.02)).outcome == "failed"
    assert against(planted(), zero).outcome == "not evaluated"


def test_a_concept_that_changes_nothing_at_the_input_has_no_match():
    assert against(planted(), PlaceboSet("words", noise(1), 0.1), distance=0.0).outcome == "not evaluated"


# untrained twins


def counts(observed):
    return [{"threshold": threshold, "observed": observed, "p99": 3, "max": 9, "p": 0.1} for threshold in THRESHOLDS]


def twins(*observed):
    return [{"seed": n, "counts": None if o is None else counts(o), "reason": None} for n, o in enumerate(observed)]


def held_against(observed, first, second):
    return untrained(counts(observed), {"re-initialised": twins(*first), "shuffled": twins(*second)}, CLAIMS)


def test_a_count_far_above_all_twins_is_learned():
    verdict = held_against(120, (2, 3, 5), (1, 4, 2))
    assert verdict.passed and verdict.number == "120 / 5 units" and verdict.p < 0.05 and is_plain(verdict)


@pytest.mark.parametrize(
    ("observed", "first", "second"),
    [
        (3, (2, 3, 5), (1, 4, 2)),
        (120, (2, 3, 130), (1, 4, 2)),
        (120, (2, 3, 5), (90, 160, 40)),
        (6, (5, 2, 4), (5, 4, 5)),
    ],
    ids=["not above", "one above it", "one shuffled above it", "above all by no more than they differ"],
)
def test_twins_that_do_as_much_stop_it(observed, first, second):
    assert held_against(observed, first, second).outcome == "failed"


def test_too_few_twins_leave_it_open_unless_those_there_are_do_as_much():
    assert "--twins 3" in held_against(120, (), ()).reason
    assert held_against(120, (), ()).outcome == held_against(120, (2, 3, None), (1, 4, 2)).outcome == "not evaluated"
    assert held_against(120, (2, 3, None), (150, 140, 120)).outcome == "failed"


def test_the_reason_of_a_twin_that_could_not_be_measured_is_told():
    rows = twins(2, 3, None)
    rows[2]["reason"] = "no room for a twin"
    verdict = untrained(counts(120), {"re-initialised": rows, "shuffled": twins(1, 2, 3)}, CLAIMS)
    assert verdict.outcome == "not evaluated" and verdict.reason == "no room for a twin"


@settings(max_examples=60, deadline=None)
@given(twin_counts=st.lists(st.integers(0, 500), min_size=2, max_size=8), observed=st.integers(0, 2000))
def test_prediction_p_falls_with_the_count_and_not_with_the_order(twin_counts, observed):
    p = prediction_p(observed, twin_counts)
    assert 0 <= p <= 1 and prediction_p(observed + 1, twin_counts) <= p
    assert prediction_p(observed, twin_counts[::-1]) == pytest.approx(p)


def test_prediction_p_is_student_s_for_spread_counts_and_rare_for_a_further_twin():
    logs = np.log1p([10, 100, 400])
    t = (np.log1p(900) - logs.mean()) / (logs.std(ddof=1) * np.sqrt(4 / 3))
    assert prediction_p(900, [10, 100, 400]) == pytest.approx(student.sf(t, 2))
    draws = np.random.default_rng(0).lognormal(3, 1, size=(2000, 4)).astype(int)
    assert np.mean([prediction_p(row[0], row[1:]) <= 0.05 for row in draws]) < 0.065
    with pytest.raises(ValueError, match="at least 2"):
        prediction_p(3, [1])


# input baseline


def rms_of(differences):
    base = 10 + np.zeros_like(differences)
    return np.stack([base + differences, base], axis=1).reshape(2 * len(differences), -1)


def baseline(differences, inputs):
    return input_baseline(differences, rms_of(inputs), "text embeddings", 4, REQUIRED, THRESHOLDS, PLAN)


def test_an_effect_beside_the_input_is_not_inherited():
    verdict = baseline(planted(), noise(4)[:, :12])
    entry = verdict.figures["inputs"][0]
    assert verdict.passed and (entry["n_groups"], entry["width"]) == (12, 4) and is_plain(verdict)
    assert 0 < verdict.figures["component_share"] < 1 and verdict.figures["intercept_left"] > 0.5


def test_an_effect_that_follows_the_input_is():
    inputs = noise(4)[:, :12]
    inputs[:, 0] = 6 + 2 * np.random.default_rng(7).normal(size=PAIRS)
    inherited = noise(5)
    inherited[:, :PLANTED] += inputs[:, :1]
    assert np.abs(inherited[:, :PLANTED].mean(axis=0) / inherited[:, :PLANTED].std(axis=0)).min() > 1
    verdict = baseline(inherited, inputs)
    assert verdict.outcome == "failed" and verdict.figures["correlation"]["max_abs"] > 0.8


def test_an_input_without_differences_adjusts_nothing():
    verdict = baseline(planted(), np.zeros((PAIRS, 12)))
    assert verdict.passed and verdict.figures["component_share"] == 0 and is_plain(verdict)


# confounds


def test_the_adjusted_counts_are_freedman_and_lane_s():
    measured = {"luminance": noise(3)[:, 0], "edges": noise(3)[:, 1]}
    verdict = confounds(planted(), measured, REQUIRED, THRESHOLDS, 0)
    expected = freedman_lane(planted(), np.column_stack(list(measured.values())), THRESHOLDS)
    rows = verdict.figures["adjusted"]
    assert verdict.passed and is_plain(verdict)
    assert [row["observed"] for row in rows] == [count.observed for count in expected.counts]
    assert [row["threshold"] for row in rows] == [3, 5] and [row["converted"] for row in rows] == list(
        expected.converted
    )


def test_a_confound_that_carries_the_effect_stops_it():
    brighter = 0.2 + 0.08 * np.random.default_rng(2).normal(size=PAIRS)
    differences = noise(6)
    differences[:, :PLANTED] += 10 * brighter[:, None]
    verdict = confounds(differences, {"luminance": brighter}, REQUIRED, THRESHOLDS, 0)
    assert verdict.outcome == "failed" and verdict.figures["confounds"][0]["t"] > 5


def test_a_confound_that_differs_alike_in_all_pairs_cannot_be_told_from_the_effect():
    verdict = confounds(planted(), {"luminance": np.full(PAIRS, 0.1), "edges": noise(3)[:, 0]}, REQUIRED, THRESHOLDS, 0)
    assert verdict.outcome == "failed" and "the same difference in every pair" in verdict.reason
    assert verdict.figures["confounds"][0]["t"] is None and is_plain(verdict)


def test_enough_units_are_not_enough_within_the_null_of_what_is_left():
    luminance = np.where(np.arange(PAIRS) < 3, 0.0, 1.0) + 0.01 * noise(3)[:, 0]  # three pairs without a difference
    verdict = confounds(planted(size=4.0), {"luminance": luminance}, {3.0: 12.0}, THRESHOLDS, 0)
    row = verdict.figures["adjusted"][0]
    assert verdict.outcome == "failed" and 12 <= row["observed"] <= row["p99"], row
    assert [row["holds"] for row in verdict.figures["adjusted"]] == [False, None]  # no claim at the second threshold
    assert verdict.figures["intercept_left"] < 0.2


def test_confounds_that_never_differ_leave_the_claim_as_it_is():
    verdict = confounds(planted(), {"prompt tokens": np.zeros(PAIRS)}, REQUIRED, THRESHOLDS, 0)
    assert verdict.passed and verdict.figures["intercept_left"] == 1 and not verdict.figures["confounds"][0]["used"]


def test_too_many_confounds_for_the_pairs_are_not_evaluated():
    measured = {f"c{n}": noise(3)[:9, n] for n in range(5)}
    verdict = confounds(planted()[:9], measured, REQUIRED, THRESHOLDS, 0)
    assert verdict.outcome == "not evaluated" and "degrees of freedom" in verdict.reason
