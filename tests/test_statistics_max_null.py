"""Family-wise p-values and the null of max |t|."""

from itertools import product

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.sign_flips import sign_flip_null

quick = settings(max_examples=25, deadline=None, derandomize=True)


def direct_maxima(differences):
    """Largest defined |t| of each flip, shape (2**(n_pairs - 1),)."""
    maxima = []
    for signs in product((1, -1), repeat=len(differences) - 1):
        t = np.abs(paired_t(np.array((1, *signs))[:, None] * differences))
        maxima.append(np.nan_to_num(t).max())
    return np.array(maxima)


def assert_max_null(null, differences):
    maxima, t = direct_maxima(differences), np.abs(paired_t(differences))
    adjusted = [np.nan if np.isnan(v) else np.mean(maxima >= v * (1 - 1e-9)) for v in t]
    np.testing.assert_allclose(null.adjusted_p, adjusted, rtol=1e-12)
    assert null.flips == maxima.size
    tail = np.sort(maxima)[-int(np.ceil(maxima.size / 10)) :]
    np.testing.assert_allclose(null.upper_tail, tail, rtol=1e-7, atol=1e-12)
    for level, value in null.quantiles.items():
        expected = np.quantile(maxima, level, method="inverted_cdf")
        assert value == pytest.approx(expected, rel=1e-7, abs=1e-12)
    for alpha in (0.1, 0.05, 0.01):
        reached = [v for v in maxima if np.mean(maxima >= v * (1 - 1e-9)) <= alpha]
        assert null.critical(alpha) == pytest.approx(min(reached, default=np.inf), rel=1e-7)


def test_brute_force_on_continuous_data():
    rng = np.random.default_rng(0)
    differences = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 25)) + rng.standard_normal((12, 25))
    differences[:, 0], differences[:, 1], differences[:, 2] = 0, 1, rng.choice((-1, 1), 12)
    null = sign_flip_null(differences).max_abs_t
    assert_max_null(null, differences)
    assert null.observed == np.nanmax(np.abs(paired_t(differences)))
    assert null.adjusted_p[0] == 1 and np.isnan(null.adjusted_p[1])
    maxima = direct_maxima(differences)
    assert null.bin_flips.tolist() == np.histogram(maxima * (1 + 1e-9), null.edges)[0].tolist()
    np.testing.assert_allclose(np.diff(null.edges), 0.1)


@quick
@given(arrays(np.int64, st.tuples(st.integers(2, 9), st.integers(1, 6)), elements=st.integers(-3, 3)))
def test_brute_force_on_integers(differences):
    null = sign_flip_null(differences).max_abs_t
    assert_max_null(null, differences.astype(float))
    assert null.bin_flips.sum() == null.flips and (null.bin_flips >= 0).all()


def test_few_units_whose_maxima_lie_low():
    differences = np.random.default_rng(1).standard_normal((11, 1))
    assert_max_null(sign_flip_null(differences).max_abs_t, differences)


def test_agrees_with_mne():
    differences = np.random.default_rng(2).normal(0.5, 1, (9, 20))
    null = sign_flip_null(differences).max_abs_t
    t, p, maxima = mne.stats.permutation_t_test(differences, n_permutations="all", tail=0, n_jobs=1, verbose=False)
    np.testing.assert_allclose(t, paired_t(differences), rtol=1e-9)
    # mne lists half of the flips, less one in some versions.
    np.testing.assert_allclose(null.adjusted_p, p, atol=1.5 / 2**8)
    assert np.unique(p).size > 5


def test_agrees_with_mne_on_random_flips_of_25_pairs():
    differences = np.random.default_rng(3).normal(0.3, 1, (25, 60))
    null = sign_flip_null(differences).max_abs_t
    _, p, _ = mne.stats.permutation_t_test(differences, n_permutations=10_000, tail=0, n_jobs=1, seed=0, verbose=False)
    assert (np.abs(null.adjusted_p - p) < 4.5 * np.sqrt(p * (1 - p) / 10_000) + 2e-4).all()


def test_critical_value_separates():
    rng = np.random.default_rng(4)
    differences = rng.standard_normal((12, 40)) + rng.choice((0, 1.5), 40)
    null = sign_flip_null(differences).max_abs_t
    t = np.abs(paired_t(differences))
    assert (null.adjusted_p[t >= null.critical(0.05)] <= 0.05).all()
    assert (null.adjusted_p <= 0.05).any() and (null.adjusted_p > 0.05).any()
    assert null.critical(0.01) > null.critical(0.05) > null.critical(0.1)


def test_critical_of_the_published_scheme_counts_the_identity_on_top():
    differences = np.random.default_rng(5).standard_normal((25, 30))
    null = sign_flip_null(differences, method="published", permutations=199).max_abs_t
    assert null.critical(0.05) == pytest.approx(null.upper_tail[-9])
    assert null.critical(0.005) == np.inf


def test_too_few_flips_have_no_critical_value():
    assert sign_flip_null(np.random.default_rng(6).standard_normal((4, 3))).max_abs_t.critical(0.05) == np.inf


@pytest.mark.parametrize("alpha", [0, 0.2, -1, np.nan])
def test_alpha_is_checked(alpha):
    with pytest.raises(ValueError, match="alpha"):
        sign_flip_null(np.eye(4)).max_abs_t.critical(alpha)


def test_huge_t_falls_into_the_open_bin():
    differences = np.array([[1.0], [1.001], [0.999], [1.002], [0.998]])
    null = sign_flip_null(differences).max_abs_t
    assert null.observed > 1000
    assert null.edges[-1] == np.inf and null.bin_flips[-1] == 1 and null.bin_flips.sum() == 16
