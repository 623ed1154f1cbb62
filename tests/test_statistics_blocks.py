"""Table of blocks."""

import numpy as np
import pytest

from fixtures.statistics.blocks import block_table
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.sign_flips import sign_flip_null


def test_rows():
    t = np.array([1.0, -6.0, 3.5, 4.0, np.nan, 0.0])
    rows = block_table(t, ["a", "b", "b", "a", "a", "c"], n_pairs=25)
    assert [row.block for row in rows] == ["b", "a", "c"]
    assert [row.n_units for row in rows] == [2, 3, 1]
    assert [row.max_abs_t for row in rows] == [6, 4, 0]
    assert [row.beyond for row in rows] == [{3: 2, 5: 1}, {3: 1, 5: 0}, {3: 0, 5: 0}]
    assert [row.median_abs_d for row in rows] == pytest.approx([0.95, 0.5, 0.0])


def test_ties_keep_their_order_and_blocks_without_t_come_last():
    rows = block_table([np.nan, 2.0, -2.0, 1.0], ["none", "x", "y", "z"], n_pairs=9, thresholds=(1,))
    assert [row.block for row in rows] == ["x", "y", "z", "none"]
    assert np.isnan(rows[-1].max_abs_t) and np.isnan(rows[-1].median_abs_d)
    assert rows[-1].beyond == {1: 0} and rows[2].beyond == {1: 0}


def test_counts_add_up_to_the_observed_counts():
    rng = np.random.default_rng(0)
    differences = rng.integers(-3, 6, (10, 200)).astype(float)
    # The first block has t of 3 exactly.
    differences[:, :20] = np.array([2, 2, 2, 2, 1, 1, 1, -1, 0, 0])[:, None] * np.linspace(0.1, 1, 20)
    differences[:, 20] = 0.1
    rows = block_table(paired_t(differences), list(np.arange(200) // 20), n_pairs=10)
    for count in sign_flip_null(differences).counts:
        assert sum(row.beyond[count.threshold] for row in rows) == count.observed > 0
    assert next(row for row in rows if row.block == 0).beyond[3] == 0


@pytest.mark.parametrize(
    "t, blocks, n_pairs, message",
    [
        (np.zeros((2, 2)), ["a"] * 2, 5, r"shape \(n_units,\)"),
        (np.zeros(3), ["a"] * 2, 5, r"one name per unit \(3\), got 2"),
        (np.zeros(2), ["a"] * 2, 1, "at least 2, got 1"),
    ],
)
def test_bad_input(t, blocks, n_pairs, message):
    with pytest.raises(ValueError, match=message):
        block_table(t, blocks, n_pairs)
