"""Split-half consistency."""

import numpy as np
import pytest

from fixtures.statistics.consistency import split_half_r
from fixtures.statistics.paired_t import paired_t


def test_a_planted_pattern_replicates():
    rng = np.random.default_rng(0)
    result = split_half_r(rng.standard_normal((24, 400)) + rng.normal(0, 4, 400))
    assert result.r.shape == (100,)
    assert result.median > 0.9
    assert result.q25 <= result.median <= result.q75


def test_noise_does_not():
    medians = [split_half_r(np.random.default_rng(k).standard_normal((25, 500)), halves=50).median for k in range(10)]
    # Halves of the same pairs of noise are independent of each other.
    assert np.abs(medians).max() < 0.15 and abs(np.mean(medians)) < 0.04


def test_r_is_that_of_the_two_t_vectors():
    differences = np.random.default_rng(1).standard_normal((4, 30)) + 1
    pairings = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    possible = [np.corrcoef(paired_t(differences[list(a)]), paired_t(differences[list(b)]))[0, 1] for a, b in pairings]
    r = split_half_r(differences, halves=40).r
    assert {int(np.argmin(np.abs(np.subtract(possible, value)))) for value in r} == {0, 1, 2}
    assert all(np.abs(np.subtract(possible, value)).min() < 1e-10 for value in r)


def test_quantiles_describe_r():
    result = split_half_r(np.random.default_rng(2).standard_normal((9, 20)), halves=31)
    assert [result.q25, result.median, result.q75] == np.quantile(result.r, [0.25, 0.5, 0.75]).tolist()


def test_seed_decides():
    differences = np.random.default_rng(3).standard_normal((9, 20))
    first, again, other = (split_half_r(differences, seed=seed).r.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_undefined_units_are_left_out():
    rng = np.random.default_rng(4)
    differences = rng.standard_normal((10, 20)) + rng.normal(0, 2, 20)
    with_constant = np.column_stack([differences, np.full(10, 0.1)])
    assert split_half_r(with_constant).r.tolist() == pytest.approx(split_half_r(differences).r.tolist())


def test_a_unit_undefined_in_some_halves_costs_only_those():
    rng = np.random.default_rng(5)
    # The third unit is constant except in one pair: always undefined in the half without that pair.
    differences = np.column_stack([rng.standard_normal((8, 2)), np.r_[2.0, np.ones(7)]])
    assert np.isnan(split_half_r(differences).r).all()
    sometimes = np.column_stack([rng.standard_normal((8, 2)), np.r_[2.0, 3.0, np.ones(6)]])
    r = split_half_r(sometimes).r
    assert 0 < np.isnan(r).sum() < 100
    assert split_half_r(sometimes).median == np.median(r[~np.isnan(r)])


def test_no_variance_or_too_few_units_give_nan():
    for differences in (np.zeros((6, 5)), np.random.default_rng(6).standard_normal((6, 2)), np.ones((6, 5))):
        result = split_half_r(differences)
        assert np.isnan(result.r).all()
        assert np.isnan([result.median, result.q25, result.q75]).all()


@pytest.mark.parametrize(
    "differences, halves, message",
    [(np.eye(3), 100, "at least 4 pairs, got 3"), (np.eye(4), 0, "at least 1, got 0"), (np.eye(4)[0], 9, "shape")],
)
def test_bad_input(differences, halves, message):
    with pytest.raises(ValueError, match=message):
        split_half_r(differences, halves=halves)
