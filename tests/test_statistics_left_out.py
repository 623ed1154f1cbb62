"""Counts without a pair, or without a category."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.statistics.left_out import leave_group_out, leave_one_out
from fixtures.statistics.sign_flips import sign_flip_null

quick = settings(max_examples=40, deadline=None, derandomize=True)


def observed(differences, threshold):
    """The count of the exact null, whose rule for ties is the package's."""
    return sign_flip_null(differences, (threshold,)).counts[0].observed


@quick
@given(arrays(np.int64, st.tuples(st.integers(3, 9), st.integers(1, 8)), elements=st.integers(-2, 3)))
def test_each_pair_by_hand(differences):
    labels = [f"pair{k}" for k in range(len(differences))]
    for result in leave_one_out(differences, labels, (1, 3)):
        counts = [observed(np.delete(differences, k, axis=0), result.threshold) for k in range(len(differences))]
        assert result.counts.tolist() == counts and result.left_out == tuple(labels)
        assert result.count == observed(differences, result.threshold)
        assert result.n_pairs.tolist() == [len(differences) - 1] * len(differences)
        assert result.smallest == min(counts)
        assert result.smallest_without == labels[counts.index(min(counts))]
        changes = [abs(count - result.count) for count in counts]
        assert result.most_influential == labels[changes.index(max(changes))]
        assert abs(result.change) == max(changes)


@quick
@given(
    arrays(np.int64, (8, 5), elements=st.integers(-2, 3)),
    st.lists(st.sampled_from(["cook", "fall", "melt"]), min_size=8, max_size=8),
)
def test_each_group_by_hand(differences, groups):
    if max(groups.count(group) for group in groups) > 6:
        return
    for result in leave_group_out(differences, groups, (1, 3)):
        assert sorted(result.left_out) == sorted(set(groups)) and result.left_out[0] == groups[0]
        for group, count, n_pairs in zip(result.left_out, result.counts, result.n_pairs, strict=True):
            rest = differences[[other != group for other in groups]]
            assert count == observed(rest, result.threshold) and n_pairs == len(rest)


def test_groups_of_one_are_pairs():
    differences = np.random.default_rng(0).normal(0.5, 1, (9, 40))
    for a, b in zip(leave_one_out(differences, range(9)), leave_group_out(differences, range(9)), strict=True):
        assert (a.counts.tolist(), a.left_out, a.change) == (b.counts.tolist(), b.left_out, b.change)


@quick
@given(st.integers(0, 10_000))
def test_neither_order_nor_scale_of_units_matters(seed):
    rng = np.random.default_rng(seed)
    differences = rng.normal(0.5, 1, (8, 20))
    other = (differences * rng.choice((-1, 1), 20) * 10.0 ** rng.integers(-99, 99, 20))[:, rng.permutation(20)]
    for a, b in zip(leave_one_out(differences, range(8)), leave_one_out(other, range(8)), strict=True):
        assert a.counts.tolist() == b.counts.tolist()


def test_a_pair_that_hides_an_effect_is_the_most_influential():
    differences = 1 + 0.1 * np.random.default_rng(1).standard_normal((12, 50))
    differences[7] = -8
    three, five = leave_one_out(differences, list("abcdefghijkl"))
    assert (three.count, three.most_influential, three.change) == (0, "h", 50)
    assert three.smallest == 0 and three.smallest_without == "a"
    assert five.counts[7] == 50


def test_a_category_that_carries_the_effect():
    rng = np.random.default_rng(2)
    differences = 0.1 * rng.standard_normal((20, 50))
    groups = ["other", "heat"] * 10
    differences[1::2] += 1
    (three,) = leave_group_out(differences, groups, (3,))
    assert three.count == 50 and three.left_out == ("other", "heat")
    assert three.smallest_without == three.most_influential == "heat" and three.smallest < 10 and three.change < -40


@pytest.mark.parametrize(
    "function, n_pairs, names, message",
    [
        (leave_one_out, 2, ["a", "b"], "at least 3 pairs, got 2"),
        (leave_one_out, 3, ["a", "b"], r"labels: expected one per pair \(3\), got 2"),
        (leave_one_out, 3, ["a", "b", "a"], "labels: expected one of its own for each pair, got 'a' more than once"),
        (leave_group_out, 4, ["a", "b"], r"groups: expected one per pair \(4\), got 2"),
        (leave_group_out, 4, ["a"] * 4, "at least 2 pairs outside each group, got 0 without 'a'"),
        (leave_group_out, 4, ["b", "a", "a", "a"], "at least 2 pairs outside each group, got 1 without 'a'"),
    ],
)
def test_bad_names(function, n_pairs, names, message):
    with pytest.raises(ValueError, match=message):
        function(np.eye(n_pairs), names)


@pytest.mark.parametrize("function", [leave_one_out, leave_group_out])
def test_bad_values(function):
    with pytest.raises(ValueError, match="differences: value nan at pair 0, unit 0"):
        function(np.full((4, 2), np.nan), range(4))
    with pytest.raises(ValueError, match="thresholds"):
        function(np.eye(4), range(4), (0,))
