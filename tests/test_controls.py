"""Rungs 2 to 6 as functions of arrays: each passes on what it should let through and stops what it should stop."""

import json

import numpy as np
import pytest

from fixtures.claims.controls.confounds import confounds
from fixtures.claims.controls.familywise import familywise
from fixtures.claims.controls.input_baseline import input_baseline
from fixtures.claims.controls.placebo import PlaceboSet, placebo
from fixtures.claims.controls.records import UntrainedRecord
from fixtures.claims.controls.untrained import untrained
from fixtures.claims.effects import amplification_record
from fixtures.statistics.amplification import amplification, selectivity
from fixtures.statistics.freedman_lane import freedman_lane
from fixtures.statistics.null_plan import NullPlan

PAIRS, UNITS, PLANTED = 20, 100, 30
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
    told = {name: value for name, value in vars(verdict).items() if name != "table"}
    return json.loads(json.dumps(told, allow_nan=False)) == told


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


# effects held against others


def ratios(rng, effects, pairs=PAIRS, shown=0.05):
    """Log ratios of networks with these effects, which were shown the same pairs, the first as model."""
    common = shown * rng.standard_normal((pairs, UNITS))
    found = [
        effect * rng.standard_normal(UNITS) + common + 0.01 * rng.standard_normal((pairs, UNITS)) for effect in effects
    ]
    names = [(kind, seed) for kind in ("re-initialised", "shuffled") for seed in range(3)]
    return found[0], [(*name, values) for name, values in zip(names, found[1:], strict=True)]


TWIN = np.random.default_rng(1).uniform(0.02, 0.025, 6)


def learned(seed=0):
    return ratios(np.random.default_rng(seed), [0.2, *TWIN])


def unlearned(seed=1, pairs=PAIRS):
    return ratios(np.random.default_rng(seed), [0.022, *TWIN], pairs)


# placebo


def against(concept, *sets, distance=0.1):
    return placebo(concept, distance, "text embeddings", sets)


def test_a_concept_that_is_amplified_beats_a_placebo_that_is_not():
    verdict = against(learned(), PlaceboSet("words", unlearned(), 0.2))
    row = verdict.figures["sets"][0]
    assert verdict.passed and row["beaten"] and row["distance_ratio"] == pytest.approx(2) and is_plain(verdict)
    own, twins = learned()
    other, others = unlearned()
    found = selectivity((own, [twin for _, _, twin in twins]), (other, [twin for _, _, twin in others]))
    assert (row["selectivity"]["ratio"], verdict.p) == (found.ratio, found.p)
    assert [(twin["kind"], twin["seed"]) for twin in row["selectivity"]["twins"]] == [twin[:2] for twin in twins]


def test_a_placebo_may_have_another_number_of_pairs_and_any_distance():
    for distance in (0.001, 0.1, 10.0):
        assert against(learned(), PlaceboSet("words", unlearned(pairs=PAIRS - 3), distance)).passed
    assert against(learned(), PlaceboSet("words", unlearned(), 0.1), distance=0.0).passed


def test_a_placebo_that_is_amplified_as_much_stops_it_and_so_does_one_of_several():
    same = PlaceboSet("shift", learned(9), 0.1)
    assert against(learned(), same).outcome == "failed"
    verdict = against(learned(), PlaceboSet("words", unlearned(), 0.1), same)
    assert verdict.outcome == "failed" and [row["beaten"] for row in verdict.figures["sets"]] == [True, False]
    assert "words: amplified" in verdict.reason and "shift: amplified" in verdict.reason


def test_another_image_of_the_same_state_has_to_be_beaten_like_any_placebo():
    zero = PlaceboSet("other image seed", learned(9), 5.0, is_zero=True)
    verdict = against(learned(), zero, PlaceboSet("crop", unlearned(), 0.1, 0.02))
    assert verdict.outcome == "failed" and verdict.figures["sets"][0]["is_zero"]


# untrained twins


def held_against(own, twins, effect_p=1e-6):
    found = amplification(own, [values for _, _, values in twins])
    record = UntrainedRecord(
        observed=3, threshold=3.0, kinds=[], amplification=amplification_record(found, own, twins), cells=[]
    )
    return untrained(record, effect_p), found


def test_an_effect_far_above_all_twins_is_learned():
    verdict, found = held_against(*learned())
    assert verdict.passed and verdict.p == found.p < 0.001 and is_plain(verdict)
    assert verdict.number == f"{found.ratio:.2f} ×" and found.ratio > 5


def test_what_is_amplified_is_an_effect_that_is_there():
    verdict, found = held_against(*learned(), effect_p=0.09)
    assert found.p < 0.001 and verdict.outcome == "failed" and verdict.p == 0.09 and "(p = 0.09)" in verdict.reason


def test_twins_that_do_as_much_stop_it():
    assert held_against(*unlearned())[0].outcome == "failed"
    wide = ratios(np.random.default_rng(2), [0.06, 0.01, 0.02, 0.09, 0.03, 0.05, 0.02])
    verdict, found = held_against(*wide)
    assert verdict.outcome == "failed" and found.ratio > 1.25  # above the mean twin by no more than twins differ


def test_a_little_more_than_twins_is_not_of_interest_however_sure():
    rng = np.random.default_rng(3)
    own, twins = ratios(rng, [0.2] * 7)
    direction = twins[0][2].mean(axis=0)
    close = [(kind, seed, direction + 0.001 * rng.standard_normal((PAIRS, UNITS))) for kind, seed, _ in twins]
    verdict, found = held_against(1.1 * direction + 0.001 * rng.standard_normal((PAIRS, UNITS)), close)
    assert found.p < 0.001 and found.ratio == pytest.approx(1.1, abs=0.02) and verdict.outcome == "failed"


def test_without_twins_it_is_open_and_the_reason_is_told():
    verdict = untrained(
        UntrainedRecord(observed=3, threshold=3.0, kinds=[], amplification=None, cells=[]), 0.01, "no room for a twin"
    )
    assert verdict.outcome == "not evaluated" and verdict.reason == "no room for a twin"
    verdict, _ = held_against(*learned(), effect_p=None)
    assert verdict.outcome == "not evaluated" and verdict.reason == "there is no effect on noise tokens"


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
