"""Relative change and its bootstrap interval."""

import numpy as np
import pytest

from fixtures.statistics import effect_size
from fixtures.statistics.effect_size import relative_change


def test_percent_is_relative_to_b():
    change = relative_change([[1.1, 2.0], [1.3, 2.0]], [[1.0, 4.0], [1.0, 4.0]])
    assert change.percent.tolist() == pytest.approx([20, -50])
    assert change.low[1] == change.high[1] == pytest.approx(-50)
    assert change.low[0] == pytest.approx(10) and change.high[0] == pytest.approx(30)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    n_units, pair = 4000, 0.2
    # Pair members share their pair's level, units are independent: each is one experiment. Truth: +10 %.
    level = np.exp(pair * rng.standard_normal((40, n_units)))
    a = 1.1 * level + 0.1 * rng.standard_normal((40, n_units))
    b = level + 0.1 * rng.standard_normal((40, n_units))
    change = relative_change(a, b, resamples=1000)
    coverage = np.mean((change.low <= 10) & (10 <= change.high))
    assert 0.91 < coverage < 0.96
    narrow = relative_change(a, b, resamples=1000, confidence=0.5)
    assert 0.45 < np.mean((narrow.low <= 10) & (10 <= narrow.high)) < 0.53


def test_pairs_are_resampled_jointly():
    level = np.exp(np.random.default_rng(1).standard_normal((25, 1)))
    change = relative_change(1.05 * level, level)
    assert change.low[0] == pytest.approx(5) and change.high[0] == pytest.approx(5)


def test_interval_is_that_of_explicit_resampling():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(1, 2, (12, 1)), rng.uniform(1, 2, (12, 1))
    rows = rng.integers(0, 12, (40_000, 12))
    ratios = 100 * (a[rows, 0].mean(axis=1) / b[rows, 0].mean(axis=1) - 1)
    change = relative_change(a, b, resamples=40_000, confidence=0.9)
    expected = np.quantile(ratios, [0.05, 0.95])
    np.testing.assert_allclose([change.low[0], change.high[0]], expected, atol=0.02 * np.ptp(expected))


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = rng.uniform(1, 2, (10, 50)), rng.uniform(1, 2, (10, 50))
    whole = relative_change(a, b, resamples=100)
    monkeypatch.setattr(effect_size, "_TILE", 7)
    parts = relative_change(a, b, resamples=100)
    np.testing.assert_allclose(parts.low, whole.low, rtol=1e-12)
    np.testing.assert_allclose(parts.high, whole.high, rtol=1e-12)


def test_seed_decides():
    rng = np.random.default_rng(4)
    a, b = rng.uniform(1, 2, (10, 5)), rng.uniform(1, 2, (10, 5))
    first, again, other = (relative_change(a, b, seed=seed).low.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_silent_units_have_no_relative_change():
    a, b = np.ones((5, 3)), np.ones((5, 3))
    b[:, 1] = 0
    b[:4, 2] = 0
    change = relative_change(a, b)
    assert np.isnan(change.percent).tolist() == [False, True, False]
    # Some resamples miss the only pair with activity.
    assert np.isnan(change.low).tolist() == np.isnan(change.high).tolist() == [False, True, True]


@pytest.mark.parametrize(
    "a, b, arguments, message",
    [
        (np.ones((3, 2)), np.ones((3, 1)), {}, "same shape"),
        (np.ones((1, 2)), np.ones((1, 2)), {}, "a: expected at least 2 pairs"),
        (np.ones((2, 2)), [[1, 1], [1, -1]], {}, "b: an RMS is never negative, got -1.0 at pair 1, unit 1"),
        (np.ones((2, 2)), [[1, 1], [np.nan, 1]], {}, "b: value nan at pair 1, unit 0"),
        (np.ones((2, 2)), np.ones((2, 2)), {"resamples": 1}, "resamples"),
        (np.ones((2, 2)), np.ones((2, 2)), {"confidence": 95}, "confidence"),
    ],
)
def test_bad_input(a, b, arguments, message):
    with pytest.raises(ValueError, match=message):
        relative_change(a, b, **arguments)
