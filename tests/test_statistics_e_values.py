"""E-values: fair bets under every labelling, false alarms at any stopping time, and what they find."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom

from fixtures.statistics.cross_products import Products
from fixtures.statistics.e_values import ALPHA, BETS, e_process, fewest_pairs

values = st.floats(-5, 5).map(lambda value: round(value, 3))


def brute_force(ratios):
    """The e-value after each pair from its definition: directions, sizes and bets in explicit loops."""
    found = [1.0]
    wealth = {bet: 1.0 for bet in BETS}
    for n in range(1, len(ratios)):
        y = ratios[n] @ ratios[:n].mean(axis=0) / ratios.shape[1]
        earlier = [
            ratios[j] @ np.delete(ratios[:n], j, axis=0).mean(axis=0) / ratios.shape[1] for j in range(n) if n > 1
        ]
        size = np.sqrt(np.mean(np.square([y, *earlier])))
        for bet in BETS:
            wealth[bet] *= 1 + (np.tanh(bet * y / size) if size > 0 else 0)
        found.append(np.mean(list(wealth.values())))
    return found


@settings(max_examples=40, deadline=None)
@given(arrays(float, st.tuples(st.integers(2, 7), st.integers(1, 4)), elements=values))
def test_the_process_is_its_definition(ratios):
    # a direction that is none but for rounding may fall to either side
    products = ratios @ ratios.T
    if all(abs(products[n, :n].sum()) > 1e-6 for n in range(1, len(ratios))):
        np.testing.assert_allclose(np.exp(e_process(ratios).logs), brute_force(ratios), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(arrays(float, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=values))
def test_its_mean_over_all_labellings_is_one_after_any_number_of_pairs(ratios):
    products = np.round(ratios @ ratios.T, 6)  # sums that are 0 must be 0 in every labelling
    products[np.abs(products) < 1e-5] = 0
    total = np.zeros(len(ratios))
    for signs in product((-1, 1), repeat=len(ratios)):
        total += np.exp(e_process(Products(np.outer(signs, signs) * products, 1)).logs)
    np.testing.assert_allclose(total / 2 ** len(ratios), 1, rtol=1e-9)


def test_its_mean_is_at_most_one_at_a_stopping_time_that_looks_at_the_evidence():
    """Over all labellings exactly: stop when it has doubled, or has fallen below a half."""
    ratios = np.random.default_rng(3).standard_normal((10, 5)) + 0.5
    stopped = []
    for signs in product((-1, 1), repeat=10):
        e = np.exp(e_process(np.array(signs)[:, None] * ratios).logs)
        out = np.flatnonzero((e >= 2) | (e <= 0.5))
        stopped.append(e[out[0]] if out.size else e[-1])
    assert np.mean(stopped) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_false_alarms_at_any_time_are_rarer_than_alpha(alpha):
    """Correlated units of heavy tails and unequal pairs, labelled at random; a binomial bound."""
    rng, alarms, n = np.random.default_rng(1), 0, 1000
    for _ in range(n):
        shared = rng.standard_t(2, (30, 1)) * rng.standard_normal(20)
        ratios = (shared + rng.standard_normal((30, 20)) + 1) * rng.lognormal(0, 1, (30, 1))
        alarms += e_process(ratios * rng.choice((-1, 1), (30, 1))).decided(alpha) is not None
    assert alarms <= binom.isf(0.001, n, alpha)


def test_an_effect_is_decided_and_a_large_one_in_few_pairs():
    rng = np.random.default_rng(2)
    direction = rng.choice((-1, 1), 50)
    needed = [
        [e_process(effect * direction + rng.standard_normal((60, 50))).decided() or 61 for _ in range(30)]
        for effect in (2.0, 0.7, 0.35)
    ]
    medians = np.median(needed, axis=1)
    assert 8 <= medians[0] <= 10 and list(medians) == sorted(medians) and medians[-1] < 40


@settings(max_examples=30, deadline=None)
@given(
    arrays(float, st.tuples(st.integers(3, 8), st.integers(1, 4)), elements=values),
    st.floats(1e-3, 1e3),
    st.integers(2, 7),
)
def test_units_of_measure_and_later_pairs_do_not_matter(ratios, factor, kept):
    logs = e_process(ratios).logs
    products = ratios @ ratios.T
    if all(abs(products[n, :n].sum()) > 1e-6 for n in range(1, len(ratios))):
        np.testing.assert_allclose(e_process(factor * ratios).logs, logs, atol=1e-6)
        np.testing.assert_allclose(e_process(-ratios).logs, logs, atol=1e-9)
    np.testing.assert_allclose(e_process(ratios[:kept]).logs, logs[:kept], atol=1e-9)


@given(st.floats(1e-6, 0.999))
def test_no_number_of_pairs_below_the_fewest_decides(alpha):
    n = fewest_pairs(alpha)
    assert e_process(np.ones((max(2, n - 1), 3))).decided(alpha) is None or n <= 2
    assert 2 ** (n - 1) >= 1 / alpha * (1 - 1e-6) and 2 ** (n - 2) < 1 / alpha


def test_pairs_without_any_difference_are_no_evidence():
    found = e_process(np.zeros((5, 3)))
    assert found.log_e == 0 and found.decided() is None and 1 / ALPHA == 100


@pytest.mark.parametrize("alpha", [0, 1, -0.1])
def test_alpha_is_between_0_and_1(alpha):
    with pytest.raises(ValueError, match="alpha"):
        e_process(np.ones((3, 1))).decided(alpha)
    with pytest.raises(ValueError, match="alpha"):
        fewest_pairs(alpha)
