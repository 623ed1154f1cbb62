"""Monte Carlo and published nulls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.statistics.random_flips import distinct_flips
from fixtures.statistics.sign_flips import sign_flip_null

quick = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def full_size():
    """25 pairs, 300 correlated units, and their exact null."""
    rng = np.random.default_rng(0)
    differences = rng.standard_normal((25, 3)) @ rng.standard_normal((3, 300)) + rng.standard_normal((25, 300))
    return differences, sign_flip_null(differences, (2, 3))


@quick
@given(st.integers(2, 90), st.data())
def test_flips_are_distinct_and_include_the_identity(n_pairs, data):
    n_flips = data.draw(st.integers(1, min(2 ** (n_pairs - 1), 300)))
    signs = distinct_flips(n_pairs, n_flips, seed=data.draw(st.integers(0, 1000)))
    assert signs.shape == (n_flips, n_pairs)
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    assert (signs[0] == 1).all() and (signs[:, 0] == 1).all()
    assert len(np.unique(signs, axis=0)) == n_flips


def test_signs_are_balanced_and_independent():
    signs = distinct_flips(40, 20_000, seed=1)[:, 1:]
    assert np.abs(signs.mean(axis=0)).max() < 5 / np.sqrt(20_000)
    correlation = signs.T @ signs / len(signs) - np.eye(39)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(20_000)


@pytest.mark.parametrize("n_pairs", [2, 7, 12])
def test_small_sets_are_enumerated(n_pairs):
    differences = np.random.default_rng(2).integers(-3, 4, (n_pairs, 20))
    exact, monte_carlo = sign_flip_null(differences), sign_flip_null(differences, method="monte-carlo")
    assert monte_carlo.method == "exact" and monte_carlo.seed is None
    assert monte_carlo.flips == 2 ** (n_pairs - 1)
    for a, b in zip(exact.counts, monte_carlo.counts, strict=True):
        assert a.null_flips.tolist() == b.null_flips.tolist()
    np.testing.assert_array_equal(exact.max_abs_t.adjusted_p, monte_carlo.max_abs_t.adjusted_p)


@pytest.mark.parametrize("integers", [False, True])
def test_all_flips_but_one_agree_with_all_flips(integers):
    """Two implementations, one null: matrix products here, sorted partial sums there."""
    rng = np.random.default_rng(3)
    differences = rng.integers(-2, 3, (12, 30)) if integers else rng.standard_normal((12, 30))
    differences[:, 0] = np.where(np.arange(12) % 2, 1, -1)
    exact = sign_flip_null(differences)
    most = sign_flip_null(differences, method="monte-carlo", permutations=2**11 - 1)
    assert most.method == "monte-carlo" and most.flips == 2**11 - 1
    for a, b in zip(exact.counts, most.counts, strict=True):
        missing = np.zeros(31, int)
        missing[a.null_counts] += a.null_flips
        missing[b.null_counts] -= b.null_flips
        assert missing.min() == 0 and missing.sum() == 1
    assert np.abs(exact.max_abs_t.adjusted_p - most.max_abs_t.adjusted_p).max() < 1.01 / 2**11


def test_monte_carlo_agrees_with_exact_on_25_pairs(full_size):
    differences, exact = full_size
    sampled = sign_flip_null(differences, (2, 3), method="monte-carlo", seed=5)
    assert (sampled.method, sampled.flips, sampled.seed) == ("monte-carlo", 10_000, 5)
    for a, b in zip(exact.counts, sampled.counts, strict=True):
        assert a.observed == b.observed
        spread = np.sqrt(np.square(a.null_counts - a.mean) @ a.null_flips / a.flips)
        assert abs(b.mean - a.mean) < 4.5 * spread / 100
        margin = 4.5 * np.sqrt(0.99 * 0.01) / 100
        assert a.quantile(0.99 - margin) <= b.p99 <= a.quantile(0.99 + margin)
        assert abs(b.p - a.p) < 4.5 * np.sqrt(a.p * (1 - a.p)) / 100 + 1e-4
    for level, value in sampled.max_abs_t.quantiles.items():
        margin = 4.5 * np.sqrt(level * (1 - level)) / 100
        below, up_to = shares_around(exact.max_abs_t, value)
        assert below <= level + margin and level - margin <= up_to
    p = exact.max_abs_t.adjusted_p
    assert (np.abs(sampled.max_abs_t.adjusted_p - p) < 4.5 * np.sqrt(p * (1 - p)) / 100 + 1e-4).all()


def shares_around(null, value):
    """Shares of flips below the bin of ``value`` and up to its end."""
    shares = np.concatenate([[0], np.cumsum(null.bin_flips)]) / null.flips
    k = np.searchsorted(null.edges, value, side="right")
    return shares[k - 1], shares[k]


def test_seed_decides(full_size):
    differences, _ = full_size
    first, again, other = (
        sign_flip_null(differences, (2,), "monte-carlo", 500, seed=seed).counts[0].null_flips.tolist()
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_many_pairs():
    null = sign_flip_null(np.random.default_rng(6).standard_normal((80, 10)), method="monte-carlo", permutations=300)
    assert null.flips == 300 and null.counts[0].p >= 1 / 300


def test_identity_counts_once_in_monte_carlo_and_on_top_in_published():
    differences = np.random.default_rng(7).standard_normal((25, 50)) + 100
    monte_carlo = sign_flip_null(differences, (50,), method="monte-carlo", permutations=1000)
    published = sign_flip_null(differences, (50,), method="published", permutations=1000)
    assert monte_carlo.counts[0].observed == 50
    assert monte_carlo.counts[0].p == 1 / 1000
    assert published.counts[0].p == 1 / 1001
    assert published.max_abs_t.adjusted_p == pytest.approx(np.full(50, 1 / 1001))
    assert monte_carlo.counts[0].max == 50 and published.counts[0].max < 50


@pytest.mark.parametrize("permutations", [200, 1000])
def test_published_scheme(full_size, permutations):
    differences, exact = full_size
    null = sign_flip_null(differences, (2, 3), method="published", permutations=permutations, seed=3)
    assert (null.method, null.flips, null.seed) == ("published", permutations, 3)
    for a, b in zip(exact.counts, null.counts, strict=True):
        assert b.null_flips.sum() == permutations
        assert b.p == (1 + b.null_flips[b.null_counts >= b.observed].sum()) / (1 + permutations)
        margin = 5 * np.sqrt(0.99 * 0.01 / permutations)
        assert a.quantile(0.99 - margin) <= b.p99 <= a.quantile(min(0.99 + margin, 1))


def test_published_draws_repeat_and_are_free_in_every_sign():
    null = sign_flip_null([[1.0], [2.0], [4.0]], (1,), method="published", permutations=400)
    assert null.flips == 400
    # (1 + 2 + 4), (-1 + 2 + 4), ... : |t| > 1 for 4 of the 8 flips
    assert null.counts[0].mean == pytest.approx(0.5, abs=0.13)
