"""Paired t, its undefined units, and the checks of its input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fixtures.statistics.paired_t import paired_t

quick = settings(max_examples=50, deadline=None, derandomize=True)


@quick
@given(st.integers(2, 30), st.integers(1, 40), st.floats(-5, 5), st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_agrees_with_scipy(n_pairs, n_units, shift, scale, seed):
    rng = np.random.default_rng(seed)
    a = scale * rng.standard_normal((n_pairs, n_units)) + shift
    b = scale * rng.standard_normal((n_pairs, n_units))
    np.testing.assert_allclose(paired_t(a - b), stats.ttest_rel(a, b).statistic, rtol=1e-10, atol=1e-10)


def test_agrees_with_scipy_where_the_mean_dwarfs_the_spread():
    differences = 1.0 + 1e-4 * np.random.default_rng(0).standard_normal((25, 50))
    expected = stats.ttest_1samp(differences, 0).statistic
    np.testing.assert_allclose(paired_t(differences), expected, rtol=1e-10)


def test_zero_units_have_t_zero_and_constant_units_none():
    differences = np.array([[0.0, 0.1, -3.0, 1.0, 0.1], [0.0, 0.1, -3.0, -1.0, 0.1], [0.0, 0.1, -3.0, 2.0, 0.2]])
    t = paired_t(differences)
    assert t[0] == 0
    assert np.isnan(t[1:3]).all()
    assert np.isfinite(t[3:]).all()


@pytest.mark.parametrize("spread, undefined", [(1e-13, True), (1e-9, True), (1e-5, False)])
def test_a_constant_blurred_by_rounding_is_still_constant(spread, undefined):
    differences = 0.3 * (1 + spread * np.linspace(-1, 1, 25)[:, None])
    assert np.isnan(paired_t(differences)[0]) == undefined


@quick
@given(
    arrays(np.float64, (7, 4), elements=st.floats(-10, 10, allow_subnormal=False)),
    st.sampled_from([1e-290, 1e-160, 1e-3, 1.0, 1e160, 1e290]),
)
def test_scale_does_not_matter(differences, scale):
    differences[np.abs(differences) < 1e-6] = 0
    np.testing.assert_allclose(paired_t(differences * scale), paired_t(differences), rtol=1e-6, atol=1e-9)


def test_sign_follows_a_minus_b():
    assert paired_t([[1.0, -1.0], [2.0, -2.0]]).tolist() == pytest.approx([3.0, -3.0])


def test_input_is_left_alone_and_other_types_are_converted():
    differences = np.random.default_rng(2).standard_normal((5, 3))
    before = differences.copy()
    paired_t(differences)
    assert (differences == before).all()
    assert paired_t(differences.astype(np.float32)).dtype == np.float64
    np.testing.assert_array_equal(paired_t(np.asfortranarray(differences)), paired_t(differences))


@pytest.mark.parametrize(
    "differences, message",
    [
        (np.zeros(5), r"shape \(n_pairs, n_units\), got \(5,\)"),
        (np.zeros((2, 2, 2)), r"got \(2, 2, 2\)"),
        (3.0, r"got \(\)"),
        (np.zeros((1, 5)), "at least 2 pairs, got 1"),
        (np.zeros((5, 0)), "at least 1 unit"),
        ([[1, 2, 3], [1, 2, np.nan], [np.inf, 2, 3]], "nan at pair 1, unit 2"),
        ([[1, -np.inf], [np.nan, 1]], "-inf at pair 0, unit 1"),
    ],
)
def test_bad_input_is_named(differences, message):
    with pytest.raises(ValueError, match=message):
        paired_t(differences)
