"""The record of the replication checks: what it holds agrees with the statistics, and nothing is lost on few pairs."""

import json

import numpy as np
import pytest

from fixtures.replication import replication
from fixtures.statistics import exceeds, held_out_selection, paired_t, split_half_r

PAIRS, UNITS = 14, 60
IDS = [f"p{number}" for number in range(PAIRS)]
CATEGORIES = ["even" if number % 2 == 0 else "odd" for number in range(PAIRS)]


@pytest.fixture(scope="module")
def planted():
    """A third of the units respond to every pair but the last, which pulls hard the other way."""
    differences = np.random.default_rng(5).normal(size=(PAIRS, UNITS))
    differences[:, : UNITS // 3] += 1.6
    differences[-1, : UNITS // 3] -= 6
    return differences


@pytest.fixture(scope="module")
def record(planted):
    return replication(planted, IDS, CATEGORIES, (3.0, 5.0), seed=2)


def beyond(differences, threshold):
    return int(exceeds(paired_t(differences), threshold, len(differences)).sum())


def test_halves_and_selection_are_those_of_the_statistics(planted, record):
    assert record["split_half"]["observed"] == split_half_r(planted, seed=2).median
    expected = held_out_selection(planted, seed=2)
    assert (record["held_out"]["observed"], record["held_out"]["p"]) == (expected.observed, expected.p)


def test_an_effect_in_every_pair_replicates(planted):
    found = replication(planted[:-1], IDS[:-1], CATEGORIES[:-1], (3.0,), seed=0)
    assert found["held_out"]["p"] < 0.01 and found["split_half"]["p"] < 0.01


def test_the_pair_that_pulls_the_other_way_is_named(planted, record):
    for entry in record["without_one_pair"]["counts"]:
        counts = [beyond(np.delete(planted, pair, axis=0), entry["threshold"]) for pair in range(PAIRS)]
        assert entry["observed"] == beyond(planted, entry["threshold"])
        assert (entry["smallest"], entry["smallest_without"]) == (min(counts), IDS[int(np.argmin(counts))])
    first = record["without_one_pair"]["counts"][0]
    assert first["most_influential"] == "p13" and first["change"] > 0


def test_categories_are_left_out_whole(planted, record):
    entry = record["without_one_category"]["counts"][0]
    counts = {name: beyond(planted[[c != name for c in CATEGORIES]], 3.0) for name in ("even", "odd")}
    assert entry["smallest"] == min(counts.values()) == counts[entry["smallest_without"]]


def test_noise_does_not_replicate():
    noise = np.random.default_rng(8).normal(size=(PAIRS, UNITS))
    found = replication(noise, IDS, CATEGORIES, (3.0,), seed=0)
    assert found["held_out"]["p"] > 0.05 and found["split_half"]["p"] > 0.05


def test_the_record_is_plain_json(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_checks_that_few_pairs_or_one_category_do_not_allow_say_why(planted):
    found = replication(planted[:3], IDS[:3], ["one"] * 3, (3.0,), seed=0)
    assert "counts" in found["without_one_pair"]
    for name in ("split_half", "held_out", "without_one_category"):
        assert set(found[name]) == {"reason"} and "expected" in found[name]["reason"]
