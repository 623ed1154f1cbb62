"""Axes of charts: numbers in order, round ticks within the axis, texts that do not run into each other."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fixtures.report.parts.scale import Scale, compact, linear_ticks, log_ticks, number, px, round_numbers, text_width

numbers = st.floats(-1e9, 1e9, allow_subnormal=False)
anything = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(1e-9, 1e12)


@given(numbers, numbers, st.integers(1, 12), st.booleans())
def test_linear_ticks_are_evenly_apart_by_1_2_or_5_and_within(low, span, most, whole):
    high = low + abs(span)
    assume(high - low > 1e-6 * max(abs(low), abs(high), 1e-6))
    ticks = linear_ticks(low, high, most, whole)
    room = 1e-6 * max(high - low, whole)
    assert len(ticks) <= most + 1 and all(low - room <= tick <= high + room for tick in ticks)
    steps = [other - one for one, other in pairwise(ticks)]
    assert all(step == pytest.approx(steps[0], rel=1e-4) for step in steps)
    if steps:
        mantissa = float(f"{steps[0]:.3e}".split("e")[0])
        assert min(abs(mantissa - each) for each in (1, 2, 5, 10)) < 0.01
    if whole:
        assert all(float(tick).is_integer() for tick in ticks)
    elif most >= 3:
        assert ticks


@given(st.floats(-100, 100), st.floats(0.01, 100), st.integers(3, 12))
def test_no_finer_step_would_do(low, span, most):
    """The steps are the finest of which there are at most ``most``."""
    ticks = linear_ticks(low, low + span, most)
    assume(len(ticks) > 1)
    step = ticks[1] - ticks[0]
    assert span / step <= most * 1.0001
    assert span / (step / 2.5) > most * 0.9999


@given(positive, st.floats(1.5, 1e12), st.integers(3, 10))
def test_log_ticks_are_within_in_order_and_not_too_many(low, factor, most):
    high = low * factor
    ticks = log_ticks(low, high, most)
    assert ticks and ticks == sorted(set(ticks)) and len(ticks) <= most + 1
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
    if factor > 1e3:
        assert all(f"{tick:e}".startswith("1.000000e") for tick in ticks) or factor < 1e4
    if factor > 10:
        assert len(ticks) >= 2


@given(st.floats(1e-3, 1e3), st.floats(1, 1e4))
def test_round_numbers_are_within_and_leave_no_gap(low, factor):
    found = round_numbers(low, low * factor)
    assert all(low * 0.999 <= each <= low * factor * 1.001 for each in found)
    assert all(one < other <= 2.51 * one for one, other in pairwise(found))
    assert found or factor < 2.51


@given(anything, anything, anything, anything)
def test_places_are_in_order_and_on_the_axis(low, high, one, other):
    low, high = sorted((low, high))
    scale = Scale(low, high, 300, 40)
    assert all(40 <= scale(value) <= 300 for value in (one, other, low, high))
    if one <= other:
        assert scale(one) >= scale(other)
    if low < high and max(abs(low), abs(high)) < 1e300:
        assert (scale(low), scale(high)) == (300, 40)


@given(positive, st.floats(1.5, 1e9), st.floats(0, 1))
def test_on_a_log_axis_equal_factors_are_equal_distances(low, factor, part):
    scale = Scale(low, low * factor, 10, 110, log=True)
    assert scale(low * factor**part) == pytest.approx(10 + 100 * part, abs=1e-3)
    assert scale(-1) == scale(0) == 10 and scale(low * factor * 2) == pytest.approx(110)


@given(numbers, st.floats(1e-3, 1e9), st.integers(40, 1200), st.integers(1, 15), st.booleans(), st.booleans())
def test_texts_of_ticks_do_not_touch_and_stand_at_their_number(low, span, across, most, log, whole):
    low = abs(low) + 0.5 if log else low
    scale = Scale(low, low + span, 0, across, log)
    ticks = scale.ticks(most, whole=whole, size=12)
    for (x, text), (y, other) in pairwise(ticks):
        assert y - x >= (text_width(text, 12) + text_width(other, 12)) / 2
    for x, text in ticks:
        shown = float(text.replace(",", "").replace("−", "-"))
        assert scale(shown) == pytest.approx(x, abs=0.1 + across * 1e-3 * abs(shown) / span)
    if not whole and not log:
        assert ticks


def test_numbers_of_ticks_are_as_people_write_them():
    assert [number(value) for value in (0.0, -0.0, 0.1 + 0.2, -2.5, 14000.0, 1e9, 2e-7)] == [
        *("0", "0", "0.3", "−2.5", "14,000", "1e+09", "2e−07")
    ]
    assert [compact(value) for value in (0.0, 20.0, 1e4, 2e6, 1e9, 1e12, 1e18)] == [
        *("0", "20", "10k", "2M", "1G", "1T", "1e+18")
    ]
    assert [px(value) for value in (0, 3.0, 3.04, 3.06, -0.04, 12.25)] == ["0", "3", "3", "3.1", "0", "12.2"]
    assert linear_ticks(5, 5, 3) == [] and Scale(5, 5, 10, 20)(7) == 10
    assert math.isfinite(Scale(-1e308, 1e308, 0, 100)(1e308))
