"""Amplification over untrained twins, and of a concept over a placebo: against brute force, and on known networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind_from_stats

from fixtures.statistics.amplification import MARGIN, amplification, selectivity
from fixtures.statistics.cross_products import Products
from fixtures.statistics.log_effect import SMALLEST_EFFECT, effect_without_one, log_effect, log_effect_square


def networks(rng, effects, n_pairs=25, n_units=80, noise=0.3):
    """Log ratios of networks with effects of these sizes, which were shown the same pairs."""
    shown = rng.standard_normal((n_pairs, n_units)) * noise  # what all networks make of a pair
    return [
        effect * rng.standard_normal(n_units) + shown + 0.1 * rng.standard_normal((n_pairs, n_units))
        for effect in effects
    ]


def floored(values, labels=None) -> float:
    return 0.5 * np.log(max(log_effect_square(values, labels), 0) + SMALLEST_EFFECT**2)


@given(st.integers(0, 2**16), st.integers(2, 5), st.booleans())
@settings(deadline=None, max_examples=30)
def test_equals_brute_force(seed, n_twins, worded):
    rng = np.random.default_rng(seed)
    own, *twins = networks(rng, rng.uniform(0.0, 0.5, 1 + n_twins), n_pairs=8, n_units=6)
    labels = [number // 2 for number in range(8)] if worded else None
    found = amplification(own, twins, labels)
    logs = [floored(values, labels) for values in (own, *twins)]
    assert found.ratio == pytest.approx(np.exp(logs[0] - np.mean(logs[1:])))
    assert found.over_networks == pytest.approx(np.std(logs[1:], ddof=1) * np.sqrt(1 + 1 / n_twins))
    names = labels or list(range(8))
    differences = []
    for label in dict.fromkeys(names):
        rows = [number for number, other in enumerate(names) if other != label]
        left = None if labels is None else [labels[number] for number in rows]
        each = [floored(values[rows], left) for values in (own, *twins)]
        differences.append(each[0] - np.mean(each[1:]))
    n = len(differences)
    assert found.over_pairs == pytest.approx(np.sqrt((n - 1) / n * np.var(differences) * n))
    error = np.hypot(found.over_pairs, found.over_networks)
    same = ttest_ind_from_stats(  # Welch's test has the same degrees of freedom
        logs[0] - np.mean(logs[1:]),
        found.over_pairs * np.sqrt(n),
        n,
        0,
        found.over_networks * np.sqrt(n_twins),
        n_twins,
        equal_var=False,
        alternative="greater",
    )
    assert same.statistic == pytest.approx((logs[0] - np.mean(logs[1:])) / error)
    assert found.p == pytest.approx(same.pvalue)


@given(st.integers(0, 2**16))
@settings(deadline=None, max_examples=20)
def test_neither_the_order_of_pairs_and_twins_nor_exchange_matters(seed):
    rng = np.random.default_rng(seed)
    own, *twins = networks(rng, [0.4, 0.1, 0.2, 0.1], n_pairs=9, n_units=5)
    first, order = amplification(own, twins), rng.permutation(9)
    other = amplification(-own[order], [-twin[order] for twin in twins[::-1]])
    assert vars(other) == pytest.approx(vars(first))


def test_one_more_twin_is_learned_no_more_often_than_the_level_says_and_its_interval_covers_1():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        own, *twins = networks(rng, np.exp(rng.normal(np.log(0.2), 0.15, 7)))
        found.append(amplification(own, twins))
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.08
    assert np.mean([one.low <= 1 <= one.high for one in found]) >= 0.93
    assert np.mean([one.p <= 0.05 and one.ratio >= MARGIN for one in found]) <= 0.05


def test_a_model_that_amplifies_is_found_and_by_how_much():
    rng = np.random.default_rng(6)
    own, *twins = networks(rng, [0.4, *[0.2] * 6])
    found = amplification(own, twins)
    assert found.p < 0.01 and found.low > 1 and found.ratio == pytest.approx(2, abs=0.4) and found.absent_p > 0.9
    less = amplification(twins[0], [own, *twins[1:]])
    assert less.p > 0.3


def test_where_neither_has_anything_the_ratio_is_1_and_a_larger_one_excluded():
    rng = np.random.default_rng(7)
    own, *twins = networks(rng, [0.0] * 7, noise=0.0)
    found = amplification(own / 100, [twin / 100 for twin in twins])
    assert found.ratio == pytest.approx(1, abs=0.02) and found.absent_p < 0.001 and found.power > 0.999
    tiny = np.full((9, 4), 1e-4)  # ten thousand times nothing is nothing
    assert amplification(tiny, [tiny / 1e4] * 3).ratio == pytest.approx(1, abs=0.001)


def test_networks_without_any_spread_are_decided_by_their_ratio():
    same = np.full((9, 4), 0.1)
    found = amplification(same, [same, same])
    assert (found.ratio, found.p) == (pytest.approx(1), 1.0)
    assert (found.absent_p, found.power, found.high) == (1.0, 0.0, np.inf)  # no error, no bound
    assert amplification(2 * same, [same, same]).p == 0.0


def test_wordings_count_in_the_comparison_too():
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(5), 5)
    own, *twins = networks(rng, [0.0] * 5)
    own = own + 0.5 * rng.standard_normal((5, 80))[labels]
    assert amplification(own, twins).p < 0.05
    assert amplification(own, twins, labels).low < 1


def test_two_wordings_are_too_few_for_an_interval():
    rng = np.random.default_rng(10)
    own, *twins = networks(rng, [0.4, 0.1, 0.1, 0.1])
    labels = np.arange(25) % 2
    found = amplification(own, twins, labels)
    assert (found.low, found.high, found.p, found.absent_p, found.power) == (0.0, np.inf, 1.0, 1.0, 0.0)
    assert log_effect(own, labels).low == -np.inf


def test_a_concept_is_selective_by_what_training_made_of_it_whatever_the_size_at_the_input():
    rng = np.random.default_rng(15)

    def shown(size, learned):
        return [size * values for values in networks(rng, [0.2 * learned, *[0.2] * 6], noise=0.05)]

    for size in (0.2, 1.0, 3.0):
        own, *twins = shown(size, 3.0)
        same, *of_same = shown(1.0, 3.0)
        plain, *of_plain = shown(1.0, 1.0)
        assert selectivity((own, twins), (plain, of_plain)).p < 0.05
        found = selectivity((own, twins), (same, of_same))
        assert found.p > 0.05 and found.low < 1 < found.high
    more = selectivity((own, twins), (plain[:20], [twin[:20] for twin in of_plain]))
    one = amplification(own, twins).ratio / amplification(plain[:20], [twin[:20] for twin in of_plain]).ratio
    assert more.ratio == pytest.approx(one)
    with pytest.raises(ValueError, match="expected 6 twins as of the concept, got 5"):
        selectivity((own, twins), (plain, of_plain[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own, twins: amplification(own, twins[:1]), "at least 2, got 1"),
        (lambda own, twins: amplification(own, [twins[0], twins[1][:, 1:]]), "expected arrays of shape"),
        (lambda own, twins: amplification(own, twins, margin=1.0), "margin"),
        (lambda own, twins: amplification(own, twins, floor=0.0), "floor"),
        (lambda own, twins: amplification(own, twins, confidence=1.0), "confidence"),
    ],
)
def test_bad_input_is_named(change, message):
    own, *twins = networks(np.random.default_rng(9), [0.1] * 4)
    with pytest.raises(ValueError, match=message):
        change(own, twins)


@given(st.integers(0, 2**16), st.integers(2, 30), st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_products_of_pairs_say_the_same_as_the_log_ratios_that_they_are_of(seed, n_pairs, n_units):
    rng = np.random.default_rng(seed)
    own, *twins = networks(rng, rng.uniform(0.0, 0.5, 4), n_pairs, n_units)
    of_own, *of_twins = (Products.of(values) for values in (own, *twins))
    assert of_own.shape == own.shape and Products.of(of_own) is of_own
    np.testing.assert_allclose(of_own.values, np.einsum("iu,ju->ij", own, own) / n_units, atol=1e-12)
    for one, other in (
        (amplification(own, twins), amplification(of_own, of_twins)),
        (selectivity((own, twins), (twins[0], twins)), selectivity((of_own, of_twins), (of_twins[0], of_twins))),
        (log_effect(own, permutations=100), log_effect(of_own, permutations=100)),
    ):
        np.testing.assert_equal(vars(one), vars(other))
    assert log_effect_square(own) == log_effect_square(of_own)
    if n_pairs > 2:
        assert vars(effect_without_one(own, range(n_pairs))) == vars(effect_without_one(of_own, range(n_pairs)))
    with pytest.raises(ValueError, match="not finite"):
        Products.of(np.where(own == own[0, 0], np.nan, own))
