"""Units counted by their t on two axes: against a count one by one."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.statistics.t_grid import t_grid

VALUES = st.one_of(st.floats(-90, 90), st.just(float("nan")), st.integers(-5, 5).map(float))


@given(st.lists(st.tuples(VALUES, VALUES), max_size=60), st.sampled_from([2, 4, 10, 40]))
def test_every_unit_with_both_t_is_counted_once_where_it_lies(points, bins):
    x, y = np.array(points).reshape(-1, 2).T
    found = t_grid(x, y, bins)
    kept = [(a, b) for a, b in points if not (math.isnan(a) or math.isnan(b))]
    limits = [max(1, math.ceil(max((abs(point[axis]) for point in kept), default=0))) for axis in (0, 1)]
    assert (found.x_limit, found.y_limit) == tuple(limits)

    def place(value, limit):
        return min(bins - 1, math.floor((value / limit + 1) * (bins // 2)))

    expected = Counter((place(a, limits[0]), place(b, limits[1])) for a, b in kept)
    assert dict(zip(zip(found.columns, found.rows, strict=True), found.units, strict=True)) == expected
    assert found.units.sum() == len(kept) and found.bins == bins


@given(st.lists(st.tuples(VALUES, VALUES), max_size=30))
def test_axes_exchanged_exchange_columns_and_rows(points):
    x, y = np.array(points).reshape(-1, 2).T
    one, other = t_grid(x, y), t_grid(y, x)
    assert (one.x_limit, one.y_limit) == (other.y_limit, other.x_limit)
    squares = [sorted(zip(*lists, strict=True)) for lists in ((one.columns, one.rows), (other.rows, other.columns))]
    assert squares[0] == squares[1]


def test_in_plain_types():
    found = t_grid([0.5, 0.5, -2.0], [1.0, 1.0, np.nan], 4).as_lists()
    assert found == {"x_limit": 1.0, "y_limit": 1.0, "bins": 4, "columns": [3], "rows": [3], "units": [2]}


@pytest.mark.parametrize(
    ("x", "y", "bins", "message"),
    [
        ([1.0], [1.0, 2.0], 4, "of one shape"),
        ([[1.0]], [[1.0]], 4, "of one shape"),
        ([np.inf], [1.0], 4, "an infinite one"),
        ([1.0], [1.0], 3, "an even number of at least 2, got 3"),
        ([1.0], [1.0], 0, "an even number of at least 2, got 0"),
    ],
)
def test_what_cannot_be_binned_is_refused(x, y, bins, message):
    with pytest.raises(ValueError, match=message):
        t_grid(x, y, bins)
