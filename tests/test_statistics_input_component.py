"""Leading component of the input, and its use as a confound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.statistics.freedman_lane import freedman_lane
from fixtures.statistics.input_component import input_adjusted
from fixtures.statistics.paired_t import paired_t

quick = settings(max_examples=25, deadline=None, derandomize=True)


@quick
@given(st.integers(0, 10_000), st.integers(3, 20), st.integers(1, 40))
def test_agrees_with_the_svd_and_scipy(seed, n_pairs, n_features):
    rng = np.random.default_rng(seed)
    differences, features = rng.standard_normal((n_pairs, 6)), rng.normal(0.3, 1, (n_pairs, n_features))
    result = input_adjusted(differences, features)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    scores = u[:, 0] * s[0] * np.sign(u[:, 0].sum())
    # The less the first component stands out, the less its direction is determined.
    gap = 1 - (s[1] / s[0]) ** 2 if s.size > 1 else 1
    np.testing.assert_allclose(result.scores, scores, rtol=0, atol=1e-11 * s[0] / gap)
    assert result.share == pytest.approx(s[0] ** 2 / np.square(s).sum())
    expected = [stats.pearsonr(result.scores, unit).statistic for unit in differences.T]
    np.testing.assert_allclose(result.r, expected, atol=1e-10)


@quick
@given(st.integers(0, 10_000))
def test_scale_and_order(seed):
    rng = np.random.default_rng(seed)
    differences, features = rng.standard_normal((9, 6)), rng.standard_normal((9, 30)) + 3 * rng.standard_normal((9, 1))
    base = input_adjusted(differences, features)
    units, columns = rng.permutation(6), rng.permutation(30)
    scale = rng.choice((-1, 1), 6) * 10.0 ** rng.integers(-99, 99, 6)
    other = input_adjusted((differences * scale)[:, units], 1e150 * features[:, columns])
    np.testing.assert_allclose(other.scores, 1e150 * base.scores, rtol=1e-8, atol=1e140)
    np.testing.assert_allclose(other.r, (base.r * np.sign(scale))[units], atol=1e-10)
    assert other.share == pytest.approx(base.share)
    # The sign of the input does not matter either.
    np.testing.assert_allclose(input_adjusted(differences, -features).scores, base.scores, rtol=1e-8, atol=1e-10)


def test_constant_units_and_scores_have_no_correlation():
    features = np.arange(6.0)[:, None]
    differences = np.column_stack([np.full(6, 0.1), np.zeros(6), np.arange(6.0)])
    assert input_adjusted(differences, features).r.tolist() == pytest.approx([0, 0, 1])
    alike = input_adjusted(differences, np.ones((6, 3)))
    assert alike.r.tolist() == [0, 0, 0] and alike.share == pytest.approx(1)
    nothing = input_adjusted(differences, np.zeros((6, 3)))
    assert nothing.r.tolist() == [0, 0, 0] and nothing.share == 0 and nothing.scores.tolist() == [0] * 6


def test_units_that_follow_the_input_are_adjusted_and_others_kept():
    rng = np.random.default_rng(0)
    strength = rng.normal(1, 0.7, 25)
    features = np.outer(strength, rng.standard_normal(500)) + 0.1 * rng.standard_normal((25, 500))
    differences = rng.standard_normal((25, 60))
    differences[:, :20] += 3 * strength[:, None]
    differences[:, 20:40] += 3
    component = input_adjusted(differences, features)
    adjusted = np.abs(freedman_lane(differences, component.scores[:, None], permutations=50).t)
    plain = np.abs(paired_t(differences))
    assert component.share > 0.9
    assert plain[:40].min() > 3 and np.median(component.r[:20]) > 0.8 > np.abs(component.r[20:]).max()
    assert np.mean(adjusted[:20] > 3) < 0.1 and adjusted[20:40].min() > 3


@pytest.mark.parametrize(
    "differences, features, message",
    [
        (np.eye(4), np.eye(3), r"input_differences: expected one row per pair \(4\), got 3"),
        (np.eye(4), np.ones(4), r"input_differences: expected shape"),
        (np.eye(4), np.zeros((4, 0)), "input_differences: expected at least 1 unit"),
        (np.eye(4), np.full((4, 2), np.nan), "input_differences: value nan at pair 0, unit 0"),
        (np.full((4, 2), np.nan), np.eye(4), "differences: value nan at pair 0, unit 0"),
        (np.eye(4)[:1], np.eye(4)[:1], "at least 2 pairs, got 1"),
    ],
)
def test_bad_input(differences, features, message):
    with pytest.raises(ValueError, match=message):
        input_adjusted(differences, features)
