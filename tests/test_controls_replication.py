"""Rungs 7 and 8: figures agree with the statistics, the pair that carries an effect is named, few pairs are said so."""

import json

import numpy as np
import pytest

from fixtures.claims.claims import Exceedance
from fixtures.claims.controls.held_out import held_out
from fixtures.claims.controls.replication import replication
from fixtures.statistics.held_out import held_out_selection
from fixtures.statistics.null_plan import NullPlan
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.records import null_record
from fixtures.statistics.sign_flips import sign_flip_null
from fixtures.statistics.signed_sums import exceeds
from fixtures.statistics.split_half_null import split_half_null

PAIRS, UNITS = 14, 60
IDS = [f"p{number}" for number in range(PAIRS)]
CATEGORIES = ["even" if number % 2 == 0 else "odd" for number in range(PAIRS)]
CLAIMS = (Exceedance(3.0, 2.0), Exceedance(5.0, 2.0))
PLAN = NullPlan()


def replicate(differences, pairs=IDS, categories=CATEGORIES, second=None, claims=CLAIMS, templates=()):
    second = differences if second is None else second
    split = {"null": null_record(split_half_null(differences, seed=2))} if len(differences) >= 4 else None
    return replication(differences, pairs, categories, second, 7, split, claims, (3.0, 5.0), PLAN, templates)


@pytest.fixture(scope="module")
def responding():
    """A third of the units respond to every pair."""
    differences = np.random.default_rng(5).normal(size=(PAIRS, UNITS))
    differences[:, : UNITS // 3] += 1.6
    return differences


@pytest.fixture(scope="module")
def pulled(responding):
    """The last pair pulls hard the other way."""
    differences = responding.copy()
    differences[-1, : UNITS // 3] -= 6
    return differences


def beyond(differences, threshold):
    return int(exceeds(paired_t(differences), threshold, len(differences)).sum())


def test_an_effect_in_every_pair_replicates(responding):
    verdict = replicate(responding)
    assert verdict.passed and verdict.number == "4 of 4 checks" and verdict.p <= 0.05, verdict
    assert held_out(responding, seed=2).passed


def test_noise_does_not():
    noise = np.random.default_rng(8).normal(size=(PAIRS, UNITS))
    verdict = replicate(noise)
    assert verdict.outcome == "failed" and "other noise" in verdict.reason
    assert held_out(noise, seed=0).outcome == "failed"


def test_an_effect_of_one_noise_sample_does_not(responding):
    noise = np.random.default_rng(8).normal(size=(PAIRS, UNITS))
    verdict = replicate(responding, second=noise)
    assert verdict.outcome == "failed" and verdict.number == "3 of 4 checks" and "fails: other noise" in verdict.reason
    found = verdict.figures["second_seed"]
    assert found["seed"] == 7 and abs(found["t_correlation"]) < 0.5
    assert found["counts"][0]["observed"] == beyond(noise, 3.0)


def test_an_effect_of_one_category_does_not():
    differences = np.random.default_rng(3).normal(size=(24, UNITS))
    differences[:8, :40] += 5
    verdict = replicate(differences, [f"p{n}" for n in range(24)], ["strong"] * 8 + ["weak"] * 8 + ["none"] * 8)
    entry = verdict.figures["without_one_category"]
    assert verdict.outcome == "failed" and "without any one category" in verdict.reason
    assert entry["counts"][0]["smallest_without"] == "strong" and entry["p"] > 0.05


def test_the_pair_that_pulls_the_other_way_is_named(pulled):
    evidence = replicate(pulled).figures["without_one_pair"]
    for entry in evidence["counts"]:
        counts = [beyond(np.delete(pulled, pair, axis=0), entry["threshold"]) for pair in range(PAIRS)]
        assert entry["observed"] == beyond(pulled, entry["threshold"])
        assert (entry["smallest"], entry["smallest_without"]) == (min(counts), IDS[int(np.argmin(counts))])
    first = evidence["counts"][0]
    assert first["most_influential"] == "p13" and first["change"] > 0
    kept = np.delete(pulled, IDS.index(first["smallest_without"]), axis=0)
    assert evidence["p"] == sign_flip_null(kept, (3.0,)).counts[0].p


def test_categories_are_left_out_whole(pulled):
    entry = replicate(pulled).figures["without_one_category"]["counts"][0]
    counts = {name: beyond(pulled[[c != name for c in CATEGORIES]], 3.0) for name in ("even", "odd")}
    assert entry["smallest"] == min(counts.values()) == counts[entry["smallest_without"]]


def test_templates_are_left_out_where_they_are_recorded(responding):
    verdict = replicate(responding, templates=CATEGORIES)
    assert verdict.passed and verdict.number == "5 of 5 checks" and "without any one template p = " in verdict.reason
    assert verdict.figures["without_one_template"] == verdict.figures["without_one_category"]
    for same in ((), [None] * PAIRS, ["one"] * PAIRS):
        assert replicate(responding, templates=same) == replicate(responding)


def test_an_effect_of_one_template_does_not_replicate():
    differences = np.random.default_rng(3).normal(size=(24, UNITS))
    differences[:8, :40] += 5
    ids, thirds = [f"p{n}" for n in range(24)], [f"third_{n // 8}" for n in range(24)]
    verdict = replicate(differences, ids, [f"c{n % 4}" for n in range(24)], templates=thirds)
    assert verdict.outcome == "failed" and "without any one template" in verdict.reason.split(";")[0]
    assert verdict.figures["without_one_template"]["counts"][0]["smallest_without"] == "third_0"


def test_held_out_selection_is_that_of_the_statistics(pulled):
    expected, verdict = held_out_selection(pulled, seed=2), held_out(pulled, seed=2)
    assert (verdict.figures["observed"], verdict.p) == (expected.observed, expected.p)


def test_one_category_leaves_it_open_unless_something_else_fails(responding):
    verdict = replicate(responding, categories=["one"] * PAIRS)
    assert verdict.outcome == "not evaluated" and "without any one category" in verdict.reason
    assert set(verdict.figures["without_one_category"]) == {"reason"}
    noise = np.random.default_rng(8).normal(size=(PAIRS, UNITS))
    assert replicate(noise, categories=["one"] * PAIRS).outcome == "failed"


def test_three_pairs_are_too_few(responding):
    assert held_out(responding[:3], seed=0).outcome == "not evaluated"
    evidence = replicate(responding[:3], IDS[:3], ["one", "one", "two"]).figures
    assert "cannot be halved" in evidence["split_half"]["reason"]


def test_the_records_are_plain_json(pulled):
    for verdict in (replicate(pulled), held_out(pulled, seed=0)):
        assert json.loads(json.dumps(vars(verdict), allow_nan=False)) == vars(verdict)
