"""Correlation of t maps, and the difference of shares with its interval over blocks."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr

from fixtures.statistics.axis_correlations import axis_correlations
from fixtures.statistics.share_difference import share_difference

T = st.one_of(st.integers(-500, 500).map(lambda tenths: tenths / 10), st.just(np.nan))
MAPS = st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(lambda shape: arrays(np.float64, shape, elements=T))


@given(MAPS)
def test_correlations_are_symmetric_bounded_and_do_not_depend_on_the_order_of_units(t):
    r = axis_correlations(t)
    assert np.array_equal(r, r.T, equal_nan=True)
    defined = ~np.isnan(r)
    assert (np.abs(r[defined]) <= 1).all()
    own = np.diag(r)
    assert np.allclose(own[~np.isnan(own)], 1)
    assert np.allclose(axis_correlations(t[:, ::-1]), r, atol=1e-7, equal_nan=True)


@given(MAPS)
def test_swapping_a_and_b_of_an_axis_changes_signs_only(t):
    flipped = t * np.where(np.arange(len(t)) == 0, -1, 1)[:, None]
    expected = axis_correlations(t)
    expected[0, 1:] *= -1
    expected[1:, 0] *= -1
    assert np.allclose(axis_correlations(flipped), expected, equal_nan=True)


@given(MAPS)
def test_undefined_where_fewer_than_two_units_are_defined_or_nothing_varies(t):
    r = axis_correlations(t)
    for i, j in product(range(len(t)), repeat=2):
        both = ~np.isnan(t[i]) & ~np.isnan(t[j])
        varies = both.sum() >= 2 and np.ptp(t[i][both]) > 0 and np.ptp(t[j][both]) > 0
        assert np.isnan(r[i, j]) == (not varies)


def test_correlations_equal_scipy():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(5, 300)) + rng.normal(size=300)
    t[rng.random(t.shape) < 0.1] = np.nan
    r = axis_correlations(t)
    for i, j in product(range(5), repeat=2):
        both = ~np.isnan(t[i]) & ~np.isnan(t[j])
        assert r[i, j] == pytest.approx(pearsonr(t[i][both], t[j][both]).statistic, abs=1e-12)


@pytest.mark.parametrize("t", [np.zeros(3), np.array([[1.0, np.inf]])])
def test_maps_of_another_form_are_refused(t):
    with pytest.raises(ValueError, match="t: "):
        axis_correlations(t)


BLOCKS = st.lists(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))),
    min_size=1,
    max_size=12,
).map(lambda rows: np.array(rows).T)


@settings(max_examples=50)
@given(BLOCKS, st.integers(0, 9))
def test_the_difference_is_that_of_all_units_and_swapping_the_axes_turns_the_interval_round(blocks, seed):
    larger, smaller, units = blocks
    found = share_difference(larger, smaller, units, resamples=400, seed=seed)
    assert found.difference == pytest.approx(larger.sum() / units.sum() - smaller.sum() / units.sum())
    assert -1 <= found.low <= found.high <= 1
    turned = share_difference(smaller, larger, units, resamples=400, seed=seed)
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.difference, -found.high, -found.low))


@settings(max_examples=50)
@given(BLOCKS, st.integers(0, 9))
def test_the_interval_stays_within_the_blocks_and_widens_with_confidence(blocks, seed):
    larger, smaller, units = blocks
    own = (larger - smaller) / units
    narrow, wide = (share_difference(larger, smaller, units, c, 400, seed) for c in (0.8, 0.99))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert own.min() - 1e-12 <= wide.low and wide.high <= own.max() + 1e-12


def test_one_block_or_equal_blocks_leave_no_interval():
    found = share_difference([3, 3, 3], [1, 1, 1], [10, 10, 10])
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2))


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9])
def test_the_interval_is_that_of_every_way_to_draw_the_blocks(confidence):
    """Unit by unit: each of the 4 ** 4 draws of four blocks, counted over the units that it holds."""
    rng = np.random.default_rng(1)
    sizes = (5, 9, 14, 20)
    shares = np.array([[0.3, 0.1], [0.6, 0.2], [0.5, 0.4], [0.9, 0.3]])
    beyond = [rng.random((2, size)) < share[:, None] for size, share in zip(sizes, shares, strict=True)]
    every = []
    for draw in product(range(4), repeat=4):
        first, second = np.concatenate([beyond[block] for block in draw], axis=1)
        every.append(first.mean() - second.mean())
    counts = np.array([block.sum(axis=1) for block in beyond]).T
    found = share_difference(*counts, sizes, confidence, 200_000, seed=3)
    levels = (0.5 - confidence / 2, 0.5 + confidence / 2)
    # the draws are few and their differences far apart: within a percent of the levels
    low, high = (np.quantile(every, [level - 0.01, level + 0.01]) for level in levels)
    tie = 1e-12
    assert low[0] - tie <= found.low <= low[1] + tie and high[0] - tie <= found.high <= high[1] + tie


def test_the_interval_covers_the_difference_between_blocks_as_often_as_it_says():
    """Blocks drawn from a population of blocks: the population's difference lies within in about 90 % of samples."""
    rng, inside, runs = np.random.default_rng(2), 0, 300
    for seed in range(runs):
        effect = rng.normal(0.2, 0.1, 25)
        smaller = rng.binomial(400, 0.1, 25)
        larger = rng.binomial(400, np.clip(0.1 + effect, 0, 1))
        found = share_difference(larger, smaller, np.full(25, 400), 0.9, 1000, seed)
        inside += found.low <= 0.2 + 0.0005 and found.high >= 0.2 - 0.0005
    assert 0.83 <= inside / runs <= 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1], [3, 3]), "one count per block"),
        (([], [], []), "one count per block"),
        (([0], [0], [0]), "at least 1 in every block"),
        (([4], [0], [3]), "larger: expected counts"),
        (([0], [-1], [3]), "smaller: expected counts"),
        (([1], [0], [3], 1.0), "confidence"),
        (([1], [0], [3], 0.9, 1), "resamples"),
    ],
)
def test_counts_of_another_form_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        share_difference(*arguments)
