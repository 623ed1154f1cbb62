"""Two networks on the same pairs: the sign-flip test of a mean and its inversion, against all flips and subsets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fixtures.statistics import flipped_mean as module
from fixtures.statistics.amplification import amplification
from fixtures.statistics.cross_products import Products, jackknife_error, mean_product, without_each
from fixtures.statistics.flipped_mean import flipped_mean
from fixtures.statistics.model_difference import LeftOut, model_difference, pseudo_values

VALUES = arrays(np.float64, st.integers(2, 9), elements=st.integers(-20, 20).map(lambda value: value / 4))
SOME = settings(max_examples=40, deadline=None)


def all_signs(n):
    return np.array(list(itertools.product((1.0, -1.0), repeat=n)))


def p_of(values, shift=0.0):
    """Two-sided p of a shift, by all flips."""
    centred = values - shift
    sums = np.abs(all_signs(len(values)) @ centred)
    return np.mean(sums >= abs(centred.sum()) - 1e-9)


def subset_means(values):
    inside = all_signs(len(values)) < 0
    inside = inside[inside.any(axis=1)]
    return inside @ values / inside.sum(axis=1)


@SOME
@given(VALUES, st.sampled_from((0.5, 0.8, 0.95)))
def test_p_and_interval_are_those_of_all_flips(values, confidence):
    found = flipped_mean(values, confidence)
    assert found.exhaustive and found.flips == 2 ** (len(values) - 1)
    assert found.p == pytest.approx(p_of(values)) and found.mean == pytest.approx(values.mean())
    means, alpha = np.sort(subset_means(values)), 1 - confidence
    rank = int(alpha * found.flips)
    if rank == 0:
        assert (found.low, found.high) == (-np.inf, np.inf)
        return
    assert found.low == pytest.approx(means[rank - 1], abs=1e-9)
    assert found.high == pytest.approx(means[-rank], abs=1e-9)
    inside, outside = (found.low, found.mean, found.high), (found.low - 1e-3, found.high + 1e-3)
    assert all(p_of(values, shift) > alpha for shift in inside)
    assert all(p_of(values, shift) <= alpha for shift in outside)


@SOME
@given(VALUES, st.integers(-8, 8), st.sampled_from((-2.0, 0.5, 4.0)))
def test_the_mean_moves_with_shift_and_scale_and_p_does_not_know_the_sign(values, shift, scale):
    found, moved = flipped_mean(values, 0.8), flipped_mean(scale * values + shift, 0.8)
    ends = sorted((scale * found.low + shift, scale * found.high + shift))
    assert (moved.low, moved.high) == pytest.approx(tuple(ends), abs=1e-9)
    assert flipped_mean(scale * values).p == found.p


def test_drawn_flips_agree_with_all_of_them(monkeypatch):
    values = np.random.default_rng(1).normal(0.3, 1, 12)
    exact = flipped_mean(values)
    monkeypatch.setattr(module, "MAX_EXACT_PAIRS", 4)
    every = flipped_mean(values, permutations=2**11)
    assert every.exhaustive and every.p == exact.p
    assert (every.low, every.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    drawn = flipped_mean(values, permutations=1500, seed=3)
    assert not drawn.exhaustive and drawn.flips == 1500
    assert drawn.p == pytest.approx(exact.p, abs=0.03)
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.1)


def test_the_most_pairs_take_no_time_and_agree_with_students_t():
    values = np.random.default_rng(2).normal(0.4, 1, module.MAX_EXACT_PAIRS)
    found, t = flipped_mean(values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(t.pvalue, rel=0.3)
    ends = t.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.05)


@pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0]], [1.0, np.nan]])
def test_what_is_no_list_of_differences_is_refused(values):
    with pytest.raises(ValueError, match="differences: expected at least 2"):
        flipped_mean(values)


def test_confidence_and_permutations_are_checked():
    with pytest.raises(ValueError, match="confidence"):
        flipped_mean([1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="permutations"):
        flipped_mean([1.0, 2.0], permutations=0)


def network(rng, effect, n_pairs=12, n_units=40, noise=0.05):
    """Log ratios of a network with an effect of this size, in a direction of its own."""
    direction = rng.normal(size=n_units)
    direction *= np.sqrt(n_units) / np.linalg.norm(direction)
    return effect * direction + noise * rng.normal(size=(n_pairs, n_units))


@SOME
@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(2, 5))
def test_what_is_left_out_is_what_pairs_without_one_give(seed, n_pairs, n_units):
    ratios = np.random.default_rng(seed).normal(size=(n_pairs, n_units))
    found = LeftOut.of(ratios)
    alone = [LeftOut.of(ratios).mean_square, *(_mean_square(np.delete(ratios, row, 0)) for row in range(n_pairs))]
    assert [found.mean_square, *found.without_each] == pytest.approx(alone)
    assert found.mean_square == pytest.approx(_mean_square(ratios))


def _mean_square(ratios):
    pairs = itertools.permutations(range(len(ratios)), 2)
    return np.mean([ratios[one] @ ratios[other] / ratios.shape[1] for one, other in pairs])


@SOME
@given(arrays(np.float64, st.integers(4, 9), elements=st.floats(-5, 5)))
def test_pseudo_values_have_the_figure_for_mean_and_the_jackknife_for_error(figures):
    found, n = pseudo_values(figures), len(figures) - 1
    assert found.mean() == pytest.approx(figures[0], abs=1e-9)
    assert found.std(ddof=1) / np.sqrt(n) == pytest.approx(jackknife_error(figures[1:]), abs=1e-9)


@SOME
@given(st.integers(0, 10**6), st.booleans())
def test_networks_swapped_give_the_inverse(seed, with_twins):
    rng = np.random.default_rng(seed)
    first, second = (LeftOut.of(network(rng, effect)) for effect in rng.uniform(0, 0.3, 2))
    twins = [tuple(LeftOut.of(network(rng, 0.05)) for _ in range(2)) for _ in range(3)] if with_twins else []
    one = model_difference(first, second, twins, related=False)
    other = model_difference(second, first, [(b, a) for a, b in twins], related=False)
    assert other.ratio == pytest.approx(1 / one.ratio) and other.p == one.p
    assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low), rel=1e-6)
    assert (one.wide_p is None) == (not with_twins)
    if with_twins:
        assert (other.wide_low, other.wide_high) == pytest.approx((1 / one.wide_high, 1 / one.wide_low))
        assert one.wide_low <= one.ratio <= one.wide_high and other.wide_p == pytest.approx(one.wide_p)


def test_the_ratio_is_that_of_the_amplifications():
    rng = np.random.default_rng(4)
    ratios = [network(rng, effect, n_units=units) for effect, units in ((0.3, 40), (0.1, 90))]
    twins = [[network(rng, effect, n_units=units) for effect in (0.05, 0.06, 0.07)] for units in (40, 90)]
    each = [amplification(own, others).ratio for own, others in zip(ratios, twins, strict=True)]
    of = [[LeftOut.of(one) for one in others] for others in twins]
    found = model_difference(*map(LeftOut.of, ratios), list(zip(*of, strict=True)), related=False)
    assert found.ratio == pytest.approx(each[0] / each[1])
    assert found.p == 2 / 2**12 and found.low > 1 and found.wide_p < 0.05


def test_networks_of_a_kind_are_rarely_told_apart_and_pairs_alone_would_do_it_often():
    """Every network has a gain of its own, which holds over all pairs; twins of another model are others."""
    rng, alarms, runs = np.random.default_rng(11), np.zeros(2), 100

    def some(effect):
        return LeftOut.of(network(rng, effect * np.exp(0.15 * rng.normal())))

    for _ in range(runs):
        first, second, *twins = [(some(0.1), some(0.05)) for _ in range(8)]
        found = model_difference(first[0], second[0], [(one, other) for one, other in _twins(twins)], related=False)
        alarms += found.p <= 0.05, max(found.p, found.wide_p) <= 0.05
    assert alarms[0] / runs > 0.3 and alarms[1] / runs <= 0.1


def _twins(pairs):
    small = [other for _, other in pairs]
    return list(zip(small[::2], small[1::2], strict=True))


def test_of_related_networks_nothing_is_said_over_networks():
    """Their twins are the same: a spread of 0 among these would pass for one of trained networks."""
    rng = np.random.default_rng(12)
    first, second = (LeftOut.of(network(rng, effect)) for effect in (0.2, 0.1))
    twins = [LeftOut.of(network(rng, effect)) for effect in (0.02, 0.05, 0.11)]
    related, others = (model_difference(first, second, [(one, one) for one in twins], known) for known in (True, False))
    assert related.ratio == others.ratio and related.p == others.p and others.wide_p > 0.05
    assert (related.wide_low, related.wide_high, related.wide_p) == (None, None, None)


def test_the_same_network_twice_is_no_difference_at_all():
    one = LeftOut.of(network(np.random.default_rng(5), 0.2))
    for twins in ((), [(one, one)] * 3):
        found = model_difference(one, one, twins, related=False)
        assert (found.ratio, found.low, found.high, found.p) == (1, 1, 1, 1)
        wide = (found.wide_low, found.wide_high, found.wide_p)
        assert wide == pytest.approx((1, 1, 1)) if twins else wide == (None, None, None)


def test_pairs_without_an_effect_lie_at_the_floor():
    rng = np.random.default_rng(6)
    found = model_difference(*(LeftOut.of(network(rng, 0, noise=1e-3)) for _ in range(2)))
    assert 0.95 < found.low < found.high < 1.05


@pytest.mark.parametrize(
    ("effects", "noise"),
    [((0.0, 0.0), 0.02), ((0.1, 0.1), 0.02), ((0.1, 0.1), 0.3)],
    ids=["no effect", "the same effect", "the same, in noise"],
)
def test_false_alarms_over_pairs_are_as_rare_as_they_should_be(effects, noise):
    rng, alarms, runs = np.random.default_rng(7), 0, 120
    for _ in range(runs):
        first, second = (LeftOut.of(network(rng, effect, noise=noise)) for effect in effects)
        alarms += model_difference(first, second).p <= 0.05
    assert alarms / runs <= 0.08


def test_row_means_would_raise_false_alarms():
    """Why pseudo-values are flipped: row means of the products, as if each pair had one of its own."""
    rng, alarms, runs = np.random.default_rng(8), 0, 100
    for _ in range(runs):
        rows = []
        for _ in range(2):
            values = Products.of(network(rng, 0.1, noise=0.1)).values
            rows.append((values.sum(axis=1) - np.diag(values)) / (len(values) - 1))
        alarms += flipped_mean(rows[0] - rows[1]).p <= 0.05
    assert alarms / runs > 0.2


def test_jackknife_and_left_out_are_of_the_same_products():
    products = Products.of(network(np.random.default_rng(9), 0.1)).values
    each, found = np.arange(len(products)), LeftOut.of(Products(products, 40))
    assert found.mean_square == mean_product(products, each)
    assert (found.without_each == without_each(products, each)).all()


def test_other_pairs_one_twin_and_no_floor_are_refused():
    rng = np.random.default_rng(10)
    one, other = LeftOut.of(network(rng, 0.1)), LeftOut.of(network(rng, 0.1, n_pairs=11))
    with pytest.raises(ValueError, match="expected the same pairs"):
        model_difference(one, other)
    with pytest.raises(ValueError, match="twins, floor"):
        model_difference(one, one, [(one, one)])
    with pytest.raises(ValueError, match="twins, floor"):
        model_difference(one, one, floor=0)
    with pytest.raises(ValueError, match="at least 3 pairs"):
        LeftOut.of(np.ones((2, 4)))
