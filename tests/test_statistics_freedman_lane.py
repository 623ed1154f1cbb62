"""The intercept beside confounds, against least squares and explicit refits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fixtures.statistics import resampling
from fixtures.statistics.freedman_lane import freedman_lane
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.sign_flips import sign_flip_null

quick = settings(max_examples=25, deadline=None, derandomize=True)


def least_squares_t(differences, confounds):
    """t of the intercept, unit by unit; nan where the model leaves nothing."""
    n_pairs = len(differences)
    design = np.column_stack([np.ones(n_pairs), confounds])
    variance = np.linalg.inv(design.T @ design)[0, 0]
    t = []
    for unit in differences.T:
        b = np.linalg.lstsq(design, unit, rcond=None)[0]
        rss = np.square(unit - design @ b).sum()
        scale = np.square(unit).sum()
        undefined = rss <= 1e-11 * scale
        t.append(np.nan if undefined else b[0] / np.sqrt(variance * rss / (n_pairs - design.shape[1])))
    return np.array(t)


def refitted_t(differences, confounds):
    """|t| of every flip, shape (2**(n_pairs - 1), n_units), by the steps of Freedman and Lane."""
    fit = confounds @ np.linalg.lstsq(confounds, differences, rcond=None)[0]
    flips = product((1, -1), repeat=len(differences) - 1)
    return np.abs([least_squares_t(fit + np.array((1, *s))[:, None] * (differences - fit), confounds) for s in flips])


def histogram(count):
    return dict(zip(count.null_counts.tolist(), count.null_flips.tolist(), strict=True))


@settings(quick, max_examples=12)
@given(st.integers(0, 10_000), st.integers(7, 9), st.integers(1, 2))
def test_brute_force(seed, n_pairs, n_confounds):
    n_confounds = min(n_confounds, n_pairs - 6)
    rng = np.random.default_rng(seed)
    confounds = rng.standard_normal((n_pairs, n_confounds)) + rng.normal()
    differences = rng.normal(rng.choice((0, 1.5), 6), 1, (n_pairs, 6)) + confounds @ rng.normal(0, 3, (n_confounds, 6))
    result = freedman_lane(differences, confounds, (1, 2))
    t = refitted_t(differences, confounds)
    assert result.exhaustive and result.flips == len(t) and result.df == n_pairs - n_confounds - 1
    np.testing.assert_allclose(np.abs(result.t), t[0], rtol=1e-8)
    for threshold, count in zip(result.converted, result.counts, strict=True):
        null = (t > threshold).sum(axis=1)
        assert histogram(count) == dict(zip(*map(np.ndarray.tolist, np.unique(null, return_counts=True)), strict=True))
        assert count.observed == null[0] and count.p == np.mean(null >= null[0])
    maxima = t.max(axis=1)
    assert result.max_abs_t.observed == pytest.approx(maxima[0])
    adjusted = [(maxima >= value * (1 - 1e-9)).mean() for value in t[0]]
    np.testing.assert_allclose(result.max_abs_t.adjusted_p, adjusted, rtol=1e-12)
    assert result.max_abs_t.quantiles[0.99] == pytest.approx(np.quantile(maxima, 0.99, method="inverted_cdf"))


@quick
@given(
    arrays(np.int64, (8, 5), elements=st.integers(-2, 2)),
    arrays(np.int64, (8, 1), elements=st.sampled_from([-1, 0, 0, 1])),
)
def test_brute_force_where_much_is_degenerate(differences, confounds):
    """Units that the confound fits, and flips after which the model fits everything."""
    if not confounds.any() or abs(confounds.sum()) == 8:
        return
    differences = np.column_stack([differences, 3 * confounds, 3 * confounds + 1])
    result = freedman_lane(differences, confounds, (1, 2))
    assert result.t[5] == 0 and np.isnan(result.t[6])
    t = np.nan_to_num(refitted_t(differences.astype(float), confounds))
    for threshold, count in zip(result.converted, result.counts, strict=True):
        null, counts = np.unique((t > threshold * (1 + 1e-9)).sum(axis=1), return_counts=True)
        assert histogram(count) == dict(zip(null.tolist(), counts.tolist(), strict=True))


@quick
@given(st.integers(0, 10_000), st.integers(10, 30), st.integers(1, 4), st.floats(-3, 3))
def test_t_is_that_of_least_squares(seed, n_pairs, n_confounds, shift):
    rng = np.random.default_rng(seed)
    confounds = rng.normal(shift, 1, (n_pairs, n_confounds))
    differences = rng.standard_normal((n_pairs, 8)) + confounds @ rng.normal(0, 2, (n_confounds, 8))
    result = freedman_lane(differences, confounds, permutations=5)
    np.testing.assert_allclose(result.t, least_squares_t(differences, confounds), rtol=1e-7, atol=1e-9)


@quick
@given(arrays(np.int64, st.tuples(st.integers(6, 14), st.integers(1, 8)), elements=st.integers(-3, 3)))
def test_without_confounds_it_is_the_sign_flip_test(differences):
    plain = sign_flip_null(differences, (2, 3), "monte-carlo", permutations=300, seed=4)
    for confounds in (np.zeros((len(differences), 0)), np.zeros((len(differences), 2))):
        result = freedman_lane(differences, confounds, (2, 3), permutations=300, seed=4)
        assert result.used == () and result.df == len(differences) - 1 and result.intercept_left == 1
        assert result.converted == result.thresholds == (2, 3)
        np.testing.assert_allclose(result.t, paired_t(differences), rtol=1e-10, atol=1e-12)
        for a, b in zip(result.counts, plain.counts, strict=True):
            assert (a.observed, a.p, histogram(a)) == (b.observed, b.p, histogram(b))
        np.testing.assert_array_equal(result.max_abs_t.adjusted_p, plain.max_abs_t.adjusted_p)


@quick
@given(st.integers(0, 10_000))
def test_what_changes_nothing(seed):
    """Order, scale and sign of units; scale, order and repetition of confounds; their own effect."""
    rng = np.random.default_rng(seed)
    differences, confounds = rng.normal(0.5, 1, (12, 10)), rng.normal(0.5, 1, (12, 2))
    order, scale = rng.permutation(10), rng.choice((-1, 1), 10) * 10.0 ** rng.integers(-100, 100, 10)
    base = freedman_lane(differences, confounds, (1, 2), permutations=100)
    variants = [
        (differences * scale, confounds, slice(None)),
        (differences[:, order], confounds, order),
        (differences, confounds[:, ::-1] * [1e-7, -1e7], slice(None)),
        (differences, np.column_stack([confounds, confounds @ [2, -1]]), slice(None)),
        (differences + confounds @ rng.normal(0, 20, (2, 10)), confounds, slice(None)),
    ]
    for values, columns, units in variants:
        result = freedman_lane(values, columns, (1, 2), permutations=100)
        np.testing.assert_allclose(np.abs(result.t), np.abs(base.t[units]), rtol=1e-8, atol=1e-9)
        assert [histogram(count) for count in result.counts] == [histogram(count) for count in base.counts]
        assert result.intercept_left == pytest.approx(base.intercept_left)


def test_columns_that_say_nothing_new_are_left_out():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 15))
    confounds = np.column_stack([np.zeros(15), 1e-9 * a, a, b, 2 * b - a, rng.standard_normal(15)])
    result = freedman_lane(rng.standard_normal((15, 3)), confounds, permutations=10)
    assert result.used == (1, 3, 5) and result.df == 11


def test_thresholds_keep_their_tail_probability():
    rng = np.random.default_rng(1)
    result = freedman_lane(rng.standard_normal((25, 3)), rng.standard_normal((25, 3)), (1, 3, 5, 12), permutations=10)
    assert result.df == 21 and result.thresholds == (1, 3, 5, 12)
    np.testing.assert_allclose(result.converted, stats.t.isf(stats.t.sf(result.thresholds, 24), 21), rtol=1e-9)
    assert [count.threshold for count in result.counts] == list(result.converted)


def test_the_share_left_of_the_intercept():
    confounds = np.array([[1.0], [1], [1], [1], [1], [1], [1], [0]])
    result = freedman_lane(np.random.default_rng(2).standard_normal((8, 2)), confounds)
    assert result.intercept_left == pytest.approx(1 / 8)


@pytest.fixture(scope="module")
def without_effect():
    """Data sets in which only the confounds, of common sign in most pairs, move the units; and p of each."""
    rows = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        confounds = rng.normal(0.7, 1, (14, 2))
        noise = rng.standard_normal((14, 40)) + rng.standard_normal((14, 2)) @ rng.standard_normal((2, 40))
        differences = noise + confounds @ rng.normal(0, 2, (2, 40))
        result = freedman_lane(differences, confounds, (2, 3), permutations=200, seed=seed)
        plain = sign_flip_null(differences, (2, 3), "monte-carlo", permutations=200)
        rows.append([result.counts[0].p, result.max_abs_t.adjusted_p.min(), plain.counts[0].p])
    return np.array(rows)


def test_level_beside_effects_of_the_confounds(without_effect):
    for alpha in (0.05, 0.1, 0.25, 0.5):
        assert ((without_effect[:, :2] <= alpha).sum(axis=0) <= stats.binom.ppf(0.9995, 150, alpha)).all()
    assert stats.kstest(without_effect[:, 1], "uniform").pvalue > 0.005
    # What the adjustment is for:
    assert (without_effect[:, 2] <= 0.05).mean() > 0.3


def test_power_beside_effects_of_the_confounds():
    rng = np.random.default_rng(3)
    confounds = rng.standard_normal((25, 2))
    differences = rng.standard_normal((25, 200)) + confounds @ rng.normal(0, 5, (2, 200))
    differences[:, :20] += 2
    result = freedman_lane(differences, confounds, permutations=1000)
    assert result.counts[1].observed >= 18 and result.counts[1].p <= 3 / 1000
    assert (np.flatnonzero(result.max_abs_t.adjusted_p <= 0.01) < 20).all()
    assert sign_flip_null(differences, (5,), "monte-carlo", 1000).counts[0].observed < 5


def test_chunks_change_nothing_and_seed_decides(monkeypatch):
    rng = np.random.default_rng(4)
    data = rng.standard_normal((20, 30)), rng.standard_normal((20, 2))
    first, other = (histogram(freedman_lane(*data, (2,), 300, seed).counts[0]) for seed in (1, 2))
    monkeypatch.setattr(resampling, "_CHUNK_BYTES", 7 * 8 * 30)
    again = freedman_lane(*data, (2,), 300, 1)
    assert first == histogram(again.counts[0]) != other
    assert (again.flips, again.exhaustive, again.seed) == (300, False, 1)


@pytest.mark.parametrize(
    "differences, confounds, message",
    [
        (np.eye(9), np.ones(9), r"confounds: expected shape \(n_pairs, n_confounds\), got \(9,\)"),
        (np.eye(9), np.ones((8, 1)), r"confounds: expected one row per pair \(9\), got 8"),
        (np.eye(9), np.full((9, 1), np.nan), "confounds: value nan at pair 0"),
        (np.full((9, 1), np.inf), np.ones((9, 1)), "differences: value inf at pair 0"),
        (np.eye(9), np.eye(9)[:, :4], r"at least 5 residual degrees of freedom, got 4 \(9 pairs, 4 independent"),
        (np.eye(5), np.zeros((5, 0)), "at least 5 residual degrees of freedom, got 4"),
        (np.eye(9), np.full((9, 1), 0.1), r"columns \[0\] do not determine; they add up to the same"),
        (np.eye(12), np.repeat(np.eye(3), 4, axis=0), r"columns \[0, 1, 2\] do not determine"),
    ],
)
def test_bad_input(differences, confounds, message):
    with pytest.raises(ValueError, match=message):
        freedman_lane(differences, confounds)


def test_bad_permutations():
    with pytest.raises(ValueError, match="permutations: expected at least 1, got 0"):
        freedman_lane(np.eye(9), np.zeros((9, 0)), permutations=0)
