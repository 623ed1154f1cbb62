"""Which units are used: sign flips of donors counted one by one, roles, samples over ranks, rank correlation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fixtures.statistics.carriers import (
    ROLES,
    rank_correlation,
    responding,
    roles_of,
    spread_sample,
    use_of,
)
from fixtures.statistics.null_plan import NullPlan
from fixtures.statistics.paired_t import paired_t


@given(st.integers(0, 2**16), st.integers(3, 7), st.integers(1, 6))
@settings(deadline=None, max_examples=20)
def test_p_is_the_share_of_flips_of_donors_whose_largest_t_reaches_the_units(seed, n_donors, n_units):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_donors, n_units)) + rng.uniform(-3, 3, n_units)
    use = use_of(values, NullPlan(), 0.1)
    flips = np.array(list(product((1, -1), repeat=n_donors)))
    largest = np.array([np.abs(paired_t(values * flip[:, None])).max() for flip in flips])
    expected = (largest[:, None] >= np.abs(paired_t(values)) * (1 - 1e-9)).mean(axis=0)
    np.testing.assert_allclose(use.adjusted_p, expected)
    np.testing.assert_allclose(use.attribution, values.mean(axis=0))
    assert np.array_equal(use.used, (expected <= 0.1) & (values.mean(axis=0) > 0))
    turned = use_of(-values, NullPlan(), 0.1)
    np.testing.assert_allclose(turned.adjusted_p, use.adjusted_p)
    assert not (turned.used & use.used).any()


def test_of_donors_without_a_contrast_in_common_hardly_any_unit_is_used():
    rng = np.random.default_rng(0)
    found = [use_of(rng.standard_normal((8, 30)), NullPlan()).used.any() for _ in range(200)]
    assert np.mean(found) <= 0.07  # 2.5 % of positive ones, and three standard errors
    assert use_of(rng.standard_normal((8, 30)) + 4, NullPlan()).used.sum() > 20


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_every_unit_has_the_one_role_that_its_two_answers_give(answers):
    responds, used = np.array(answers).T
    words = [ROLES[role] for role in roles_of(responds, used)]
    assert words == [
        "responds and is used"
        if both == (True, True)
        else {(1, 0): "responds only", (0, 1): "used only"}.get(both, "neither")
        for both in answers
    ]


@given(st.integers(0, 2**16), st.integers(4, 8), st.integers(2, 12))
@settings(deadline=None, max_examples=20)
def test_as_many_units_respond_as_stand_out_family_wise_and_they_are_the_same(seed, n_pairs, n_units):
    rng = np.random.default_rng(seed)
    differences = rng.standard_normal((n_pairs, n_units)) + rng.choice([0, 4], n_units)
    adjusted = NullPlan().null(differences, (3.0,)).max_abs_t.adjusted_p
    stand_out = adjusted <= 0.25
    assert np.array_equal(responding(paired_t(differences), int(stand_out.sum())), stand_out)


def test_a_unit_without_a_t_does_not_respond():
    assert responding([np.nan, 0.0, -2.0, 1.0], 4).tolist() == [False, True, True, True]
    assert responding([np.nan, 0.0, -2.0, 1.0], 1).tolist() == [False, False, True, False]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60, unique=True), st.integers(1, 40), st.integers(0, 99))
def test_a_sample_has_one_unit_of_each_part_of_the_ranks(values, size, seed):
    chosen = spread_sample(values, size, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(size, len(values))
    ranks = np.argsort(np.argsort(-np.abs(values), kind="stable"))[chosen]
    parts = np.array_split(np.arange(len(values)), len(chosen))
    assert all(rank in part for rank, part in zip(ranks, parts, strict=True))
    assert np.array_equal(chosen, spread_sample(values, size, seed))


def test_a_sample_of_none_is_refused():
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        spread_sample([1.0], 0, 0)


@given(st.integers(0, 2**16), st.integers(3, 20), st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_rho_is_spearmans_ties_included_and_lies_in_its_interval_as_bootstrap_gives_it(seed, size, levels):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(levels, size=(2, size)).astype(float)
    found = rank_correlation(x, y, resamples=50, seed=3)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan([found.rho, found.low, found.high]).all()
        return
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    drawn = np.random.Generator(np.random.PCG64(3)).integers(size, size=(50, size))
    values = [spearmanr(x[row], y[row]).statistic for row in drawn if np.ptp(x[row]) and np.ptp(y[row])]
    np.testing.assert_allclose([found.low, found.high], np.quantile(values, (0.025, 0.975)), atol=1e-12)
    assert -1 - 1e-12 <= found.low <= found.high <= 1 + 1e-12
