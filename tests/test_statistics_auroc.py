import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from fixtures.statistics.auroc import auroc, auroc_interval

LISTS = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


@given(LISTS, LISTS)
def test_it_is_the_share_of_the_rank_sum_statistic(positive, negative):
    expected = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert auroc(positive, negative) == pytest.approx(expected)
    assert auroc(negative, positive) == pytest.approx(1 - expected)


def test_ends_and_nothing():
    assert auroc([2, np.inf], [1, -np.inf]) == 1 and auroc([1], [1]) == 0.5
    assert np.isnan(auroc([], [1])) and np.isnan(auroc_interval([1], [])[0])
    with pytest.raises(ValueError, match="NaN"):
        auroc([np.nan], [1])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth, inside = 0.760, 0  # of normal values one standard deviation apart: Phi(1 / sqrt(2))
    for _ in range(150):
        low, high = auroc_interval(rng.standard_normal(30) + 1, rng.standard_normal(30), resamples=300)
        inside += low <= truth <= high
    assert 0.88 <= inside / 150 <= 0.99
