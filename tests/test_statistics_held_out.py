"""Selection on one half of the pairs, test on the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fixtures.statistics import resampling
from fixtures.statistics.held_out import held_out_selection
from fixtures.statistics.paired_t import paired_t

quick = settings(max_examples=25, deadline=None, derandomize=True)


def direct_values(differences, result):
    """The statistic of every flip, step by step."""
    n_pairs = len(differences)
    signs, _ = resampling.identity_and_flips(n_pairs, result.permutations, resampling.second_seed(result.seed))
    values = []
    for s in signs:
        rng = np.random.default_rng(result.seed)
        means = []
        for _ in range(result.splits):
            order = rng.permutation(n_pairs)
            flipped = s[:, None] * differences
            first, second = paired_t(flipped[order[: n_pairs // 2]]), paired_t(flipped[order[n_pairs // 2 :]])
            defined = np.sort(np.abs(first[~np.isnan(first)]))
            if not defined.size:
                continue
            chosen = np.abs(first) >= defined[-min(result.selected, defined.size)] * (1 - 1e-9)
            chosen &= ~np.isnan(second)
            if chosen.any():
                # Rounding gives t that are zero a sign.
                sign = np.where(np.abs(first) < 1e-9, 0, np.sign(first))
                means.append(np.mean(sign[chosen] * second[chosen]))
        values.append(np.mean(means) if means else np.nan)
    return np.array(values)


@quick
@given(st.integers(0, 10_000), st.integers(4, 11), st.integers(5, 60), st.sampled_from([0.05, 0.2, 1]))
def test_brute_force(seed, n_pairs, n_units, top):
    differences = np.random.default_rng(seed).normal(0.3, 1, (n_pairs, n_units))
    result = held_out_selection(differences, splits=7, permutations=20, top=top, seed=seed)
    assert result.selected == max(5, int(np.ceil(round(top * n_units, 6))))
    expected = direct_values(differences, result)
    np.testing.assert_allclose(result.values, expected, rtol=1e-8, atol=1e-10)
    assert result.observed == result.values[0]
    assert result.p == pytest.approx(np.mean(expected >= expected[0] - 1e-9))
    assert result.exhaustive == (n_pairs <= 5)


@quick
@given(arrays(np.float64, st.tuples(st.integers(4, 7), st.integers(5, 9)), elements=st.sampled_from([-2, -1, 0, 1, 3])))
def test_brute_force_with_ties_and_undefined_units(differences):
    result = held_out_selection(differences, splits=5, permutations=12)
    expected = direct_values(differences, result)
    np.testing.assert_allclose(result.values, expected, rtol=1e-8, atol=1e-8)


@quick
@given(st.integers(0, 10_000))
def test_neither_order_nor_scale_nor_sign_of_units_matters(seed):
    rng = np.random.default_rng(seed)
    differences = rng.normal(0.3, 1, (10, 30))
    differences[:, 20:] = differences[:, :10]
    scale = rng.choice((-1, 1), 30) * 10.0 ** rng.integers(-99, 99, 30)
    base = held_out_selection(differences, 10, 30)
    other = held_out_selection((differences * scale)[:, rng.permutation(30)], 10, 30)
    np.testing.assert_allclose(other.values, base.values, rtol=1e-8, atol=1e-10)


def test_p_is_uniform_without_an_effect():
    p = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        differences = rng.standard_normal((10, 30)) + rng.standard_normal((10, 2)) @ rng.normal(0, 2, (2, 30))
        p.append(held_out_selection(differences, 10, 100, 0.2, seed).p)
    assert stats.kstest(p, "uniform").pvalue > 0.005
    assert min(p) >= 1 / 100


def test_selection_does_not_raise_the_statistic():
    """Without an effect the mean over data sets is 0, however small the share that is selected."""
    observed = [
        held_out_selection(np.random.default_rng(seed).standard_normal((16, 400)), 10, 1, 0.0125).observed
        for seed in range(60)
    ]
    assert abs(np.mean(observed)) < 4.5 * np.std(observed) / np.sqrt(60)
    # Selection itself finds |t| of about 4.
    assert np.max(observed) < 2


def test_power():
    rng = np.random.default_rng(1)
    differences = rng.standard_normal((24, 200))
    differences[:, :10] += rng.choice((-1.5, 1.5), 10)
    result = held_out_selection(differences, 30, 200)
    assert (result.selected, result.splits, result.permutations) == (10, 30, 200)
    # t of 12 pairs with an effect of 1.5 standard deviations is about 5.
    assert result.p == 1 / 200 and 4 < result.observed < 7 and result.p99 < 2


def test_chunks_change_nothing_and_seed_decides(monkeypatch):
    differences = np.random.default_rng(2).standard_normal((12, 30))
    first, other = (held_out_selection(differences, 10, 40, seed=seed).values for seed in (1, 2))
    monkeypatch.setattr(resampling, "_CHUNK_BYTES", 7 * 8 * 30)
    again = held_out_selection(differences, 10, 40, seed=1).values
    np.testing.assert_allclose(again, first, rtol=1e-12)
    assert not np.allclose(first, other)


def test_nothing_to_measure():
    assert held_out_selection(np.zeros((6, 5)), 5, 10).observed == 0
    assert held_out_selection(np.zeros((6, 5)), 5, 10).p == 1
    constant = held_out_selection(np.ones((6, 5)), 5, 10)
    assert np.isnan(constant.observed) and np.isnan(constant.p)


@pytest.mark.parametrize(
    "differences, arguments, message",
    [
        (np.ones((3, 9)), {}, "at least 4 pairs, got 3"),
        (np.eye(4), {}, "at least 5 units to select from, got 4"),
        (np.eye(5), {"splits": 0}, "splits: expected at least 1, got 0"),
        (np.eye(5), {"permutations": 0}, "permutations: expected at least 1, got 0"),
        (np.eye(5), {"top": 0}, "top: expected a share above 0 and up to 1, got 0"),
        (np.eye(5), {"top": 5}, "top: expected a share"),
        (np.full((5, 5), np.inf), {}, "differences: value inf at pair 0, unit 0"),
    ],
)
def test_bad_input(differences, arguments, message):
    with pytest.raises(ValueError, match=message):
        held_out_selection(differences, **arguments)
