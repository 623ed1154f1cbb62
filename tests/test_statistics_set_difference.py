"""Concept against placebo: which set a pair belongs to, permuted."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fixtures.statistics import resampling
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.set_difference import set_difference_test

quick = settings(max_examples=25, deadline=None, derandomize=True)
small_sets = st.tuples(st.integers(2, 5), st.integers(2, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(
        *(arrays(np.int64, (n, shape[2]), elements=st.integers(-3, 3)) for n in shape[:2]),
    )
)


def direct_count(differences, threshold):
    """From the t formula, unit by unit; neither a tie with the threshold nor a constant counts."""
    count = 0
    for unit in differences.T:
        spread = np.std(unit, ddof=1)
        if spread > 1e-9:
            count += abs(unit.mean()) / (spread / np.sqrt(len(unit))) > threshold * (1 + 1e-9)
    return count


def direct_null(concept, placebo, threshold):
    pooled, everyone = np.concatenate([concept, placebo]), set(range(len(concept) + len(placebo)))
    return [
        direct_count(pooled[list(chosen)], threshold) - direct_count(pooled[sorted(everyone - set(chosen))], threshold)
        for chosen in combinations(sorted(everyone), len(concept))
    ]


@quick
@given(small_sets)
def test_brute_force_on_integers(sets):
    """With ties, constant units and zeros."""
    concept, placebo = sets
    for result in set_difference_test(concept, placebo, (1, 3)):
        null = direct_null(concept, placebo, result.threshold)
        assert result.exhaustive and result.permutations == comb(len(concept) + len(placebo), len(concept))
        assert sorted(result.values.tolist()) == sorted(null)
        assert result.concept == direct_count(concept, result.threshold)
        assert result.placebo == direct_count(placebo, result.threshold)
        assert result.difference == result.observed == result.concept - result.placebo == null[0]
        assert result.p == pytest.approx(np.mean(np.array(null) >= null[0]))


def test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    concept, placebo = rng.normal(0.6, 1, (5, 12)), rng.standard_normal((4, 12))
    pooled = np.concatenate([concept, placebo])

    def difference(a, b):
        return np.sum(np.abs(paired_t(pooled[a])) > 2) - np.sum(np.abs(paired_t(pooled[b])) > 2)

    expected = stats.permutation_test(
        (np.arange(5), np.arange(5, 9)), difference, n_resamples=np.inf, alternative="greater", vectorized=False
    )
    (result,) = set_difference_test(concept, placebo, (2,))
    assert result.difference == expected.statistic
    assert result.p == pytest.approx(expected.pvalue)
    assert sorted(result.values) == sorted(expected.null_distribution)


@quick
@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(2, 8))
def test_neither_order_nor_scale_of_units_matters(seed, n, m):
    rng = np.random.default_rng(seed)
    concept, placebo = rng.normal(0.5, 1, (n, 15)), rng.standard_normal((m, 15))
    order = rng.permutation(15)
    scale = rng.choice((-1, 1), 15) * 10.0 ** rng.integers(-100, 100, 15)
    results = set_difference_test(concept, placebo, (1, 2), 60)
    others = set_difference_test((concept * scale)[:, order], (placebo * scale)[:, order], (1, 2), 60)
    for a, b in zip(results, others, strict=True):
        assert a.values.tolist() == b.values.tolist() and a.p == b.p


@quick
@given(small_sets)
def test_swapped_sets_have_the_mirrored_null(sets):
    for a, b in zip(set_difference_test(*sets), set_difference_test(*sets[::-1]), strict=True):
        assert a.difference == -b.difference
        assert sorted(a.values) == sorted(-b.values)


def test_random_divisions_agree_with_all():
    rng = np.random.default_rng(1)
    concept, placebo = rng.normal(0.3, 1, (7, 60)), rng.standard_normal((6, 60))
    (all_of_them,) = set_difference_test(concept, placebo, (2,))
    (some,) = set_difference_test(concept, placebo, (2,), permutations=1500)
    assert all_of_them.exhaustive and not some.exhaustive and some.permutations == 1500
    assert abs(some.p - all_of_them.p) < 4.5 * np.sqrt(0.25 / 1500)
    assert all_of_them.quantile(0.45) <= some.p50 <= all_of_them.quantile(0.55)
    assert all_of_them.quantile(0.975) <= some.p99 <= all_of_them.max


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    sets = rng.normal(0.5, 1, (12, 20)), rng.standard_normal((9, 20))
    whole = set_difference_test(*sets, permutations=300)
    monkeypatch.setattr(resampling, "_CHUNK_BYTES", 7 * 8 * 20)
    for a, b in zip(whole, set_difference_test(*sets, permutations=300), strict=True):
        assert a.values.tolist() == b.values.tolist()


def test_a_small_set_beside_large_values_keeps_its_t():
    """The sums of one set are never differences of larger ones."""
    concept = 1e-12 * np.tile(np.array([[1.0], [1.1], [0.9], [1.05]]), 8)
    placebo = np.tile(np.array([[1.0], [-1.0], [2.0], [-2.0]]), 8)
    (result,) = set_difference_test(concept, placebo, (5,))
    # The last division is the first one with the sets swapped: its concept is the placebo, by subtraction or not.
    assert (result.concept, result.placebo, result.max) == (8, 0, 8)
    assert result.values[-1] == -8 and np.count_nonzero(result.values) == 2


def test_level_without_a_difference():
    """Sets of different sizes with the same common shift: exchangeable, though not of mean 0."""
    p = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        mixing = rng.standard_normal((2, 40))
        shift = rng.normal(0, 0.5, 40)
        sets = (rng.standard_normal((n, 40)) + rng.standard_normal((n, 2)) @ mixing + shift for n in (10, 7))
        p.append(set_difference_test(*sets, (2,), 200)[0].p)
    p = np.array(p)
    for alpha in (0.05, 0.1, 0.25, 0.5):
        assert (p <= alpha).sum() <= stats.binom.ppf(0.9995, 150, alpha)
    assert p.min() >= 1 / 200
    assert (p <= 0.3).sum() >= stats.binom.ppf(0.0005, 150, 0.2)


def test_power():
    rng = np.random.default_rng(4)
    concept, placebo = rng.standard_normal((25, 300)), rng.standard_normal((25, 300))
    concept[:, :60] += 1
    for result in set_difference_test(concept, placebo, permutations=1000):
        assert result.p == 1 / 1000
        assert result.difference > 1.5 * result.p99 and abs(result.p50) <= 5
    for result in set_difference_test(placebo, concept, permutations=1000):
        assert result.p > 0.99


def test_seed_decides():
    rng = np.random.default_rng(5)
    sets = rng.standard_normal((12, 30)), rng.standard_normal((12, 30))
    first, again, other = (set_difference_test(*sets, (1,), 50, seed)[0] for seed in (1, 1, 2))
    assert first.values.tolist() == again.values.tolist() != other.values.tolist()
    assert first.seed == 1


@pytest.mark.parametrize(
    "concept, placebo, arguments, message",
    [
        (np.eye(3), np.ones((3, 2)), {}, "the same units, got 3 and 2"),
        (np.eye(3)[:1], np.eye(3), {}, "concept: expected at least 2 pairs, got 1"),
        (np.eye(3), np.ones(3), {}, r"placebo: expected shape \(n_pairs, n_units\), got \(3,\)"),
        (np.eye(2), [[1, 2], [np.nan, 1]], {}, "placebo: value nan at pair 1, unit 0"),
        (np.eye(2), np.eye(2), {"permutations": 0}, "permutations: expected at least 1, got 0"),
        (np.eye(2), np.eye(2), {"thresholds": ()}, "thresholds: expected at least one"),
    ],
)
def test_bad_input(concept, placebo, arguments, message):
    with pytest.raises(ValueError, match=message):
        set_difference_test(concept, placebo, **arguments)
