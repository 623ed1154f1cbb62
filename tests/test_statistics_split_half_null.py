"""Null of the median split-half r."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fixtures.statistics import resampling
from fixtures.statistics.consistency import split_half_r
from fixtures.statistics.split_half_null import split_half_null

quick = settings(max_examples=25, deadline=None, derandomize=True)


def direct_values(differences, result):
    """The median of every flip, by flipping."""
    signs, _ = resampling.identity_and_flips(len(differences), result.permutations, resampling.second_seed(result.seed))
    return np.array([split_half_r(s[:, None] * differences, len(result.split.r), result.seed).median for s in signs])


@quick
@given(st.integers(0, 10_000), st.integers(4, 11), st.integers(3, 20))
def test_brute_force(seed, n_pairs, n_units):
    differences = np.random.default_rng(seed).normal(0.3, 1, (n_pairs, n_units))
    result = split_half_null(differences, halves=9, permutations=20, seed=seed)
    expected = direct_values(differences, result)
    np.testing.assert_allclose(result.values, expected, rtol=1e-8, atol=1e-10)
    assert result.observed == expected[0] == split_half_r(differences, 9, seed).median
    assert result.p == pytest.approx(np.mean(expected >= expected[0] - 1e-9))
    assert result.exhaustive == (n_pairs <= 5)


@quick
@given(arrays(np.int64, st.tuples(st.integers(4, 7), st.integers(1, 6)), elements=st.integers(-1, 1)))
def test_brute_force_with_undefined_units(differences):
    result = split_half_null(differences, halves=5, permutations=12)
    expected = direct_values(differences.astype(float), result)
    np.testing.assert_allclose(result.values, expected, rtol=1e-8, atol=1e-10)
    if np.isnan(expected[0]):
        assert np.isnan(result.observed) and np.isnan(result.p)
    else:
        # A flip without a defined r is no evidence for the observed labelling.
        assert result.p == pytest.approx(np.mean(~(expected < expected[0] - 1e-9)))


@quick
@given(st.integers(0, 10_000))
def test_neither_order_nor_scale_nor_sign_of_all_units_matters(seed):
    rng = np.random.default_rng(seed)
    differences = rng.normal(0.3, 1, (10, 12))
    base = split_half_null(differences, 10, 30)
    for other in (differences[:, rng.permutation(12)], differences * 10.0 ** rng.integers(-99, 99, 12), -differences):
        np.testing.assert_allclose(split_half_null(other, 10, 30).values, base.values, rtol=1e-8, atol=1e-10)


def test_p_is_uniform_without_an_effect():
    """Correlated units, in which the median r spreads widely around 0."""
    p = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        differences = rng.standard_normal((10, 30)) + rng.standard_normal((10, 2)) @ rng.normal(0, 2, (2, 30))
        p.append(split_half_null(differences, 10, 100, seed).p)
    assert stats.kstest(p, "uniform").pvalue > 0.005
    assert min(p) >= 1 / 100


def test_power():
    rng = np.random.default_rng(1)
    result = split_half_null(rng.standard_normal((24, 200)) + rng.normal(0, 0.5, 200), 30, 200)
    assert result.p == 1 / 200 and result.observed > 0.4
    assert abs(result.p50) < 0.1 and result.p50 < result.p99 <= result.max == result.observed


def test_seed_decides():
    differences = np.random.default_rng(2).standard_normal((12, 30))
    first, again, other = (split_half_null(differences, 10, 40, seed).values for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_more_units_than_a_tile_against_brute_force():
    """Means far from zero, and a first unit without a t in many flips."""
    rng = np.random.default_rng(3)
    differences = rng.normal(rng.uniform(-3, 3, 700), 1, (9, 700))
    differences[:, 0] = 1
    result = split_half_null(differences, halves=7, permutations=15)
    np.testing.assert_allclose(result.values, direct_values(differences, result), rtol=1e-9)


@pytest.mark.parametrize(
    "differences, arguments, message",
    [
        (np.eye(3), {}, "at least 4 pairs, got 3"),
        (np.eye(4), {"halves": 0}, "halves: expected at least 1, got 0"),
        (np.eye(4), {"permutations": 0}, "permutations: expected at least 1, got 0"),
        (np.full((4, 2), np.nan), {}, "differences: value nan at pair 0, unit 0"),
        (np.ones(4), {}, "shape"),
    ],
)
def test_bad_input(differences, arguments, message):
    with pytest.raises(ValueError, match=message):
        split_half_null(differences, **arguments)
