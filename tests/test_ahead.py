"""The next hypothesis is captured while the one at hand is evaluated: order, errors, and the end."""

from concurrent.futures import CancelledError
from threading import Event, current_thread, main_thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.claims.hypothesis import compared_hypothesis
from fixtures.common.errors import ProbeError
from fixtures.session.ahead import Ahead

ORDER = [compared_hypothesis(name) for name in ("one", "two", "three")]


class Recorder:
    """A capture that notes what was asked for, and in which thread."""

    def __init__(self):
        self.asked, self.begun = [], {one.id: Event() for one in ORDER}

    def __call__(self, hypothesis):
        self.asked.append((hypothesis.id, current_thread() is main_thread()))
        self.begun[hypothesis.id].set()
        if hypothesis.id == "two":
            raise ProbeError("two is broken")
        return hypothesis.id.upper()


@pytest.fixture
def capture():
    return Recorder()


def test_the_next_is_begun_once_the_one_before_it_is_there(capture):
    ahead = Ahead(ORDER, capture)
    assert ahead.take(ORDER[0]) == "ONE"
    assert capture.begun["two"].wait(10) and not capture.begun["three"].is_set()
    with pytest.raises(ProbeError, match="two is broken"):
        ahead.take(ORDER[1])
    assert capture.begun["three"].wait(10)
    assert ahead.take(ORDER[2]) == "THREE"
    assert capture.asked == [("one", True), ("two", False), ("three", False)]
    ahead.close()


def test_on_a_gpu_all_are_begun_one_after_the_other(capture):
    ahead = Ahead(ORDER, capture, most=3)
    assert ahead.take(ORDER[0]) == "ONE"
    assert capture.begun["three"].wait(10)  # although nobody has taken the second, and it fails
    assert capture.asked == [("one", True), ("two", False), ("three", False)]
    with pytest.raises(ProbeError, match="two is broken"):
        ahead.take(ORDER[1])
    assert ahead.take(ORDER[2]) == "THREE" and len(capture.asked) == 3
    ahead.close()


@given(st.integers(1, 9), st.lists(st.integers(0, 7), max_size=12))
@settings(max_examples=40, deadline=None)
def test_whatever_is_asked_for_comes_and_no_more_than_that_waits(most, asked):
    order = [compared_hypothesis(str(number)) for number in range(6)]
    begun = []
    ahead = Ahead(order, lambda one: begun.append(one.id) or one.id, most)
    for number in asked:
        wanted = compared_hypothesis(str(number))  # 6 and 7 are in no order
        assert ahead.take(wanted) == wanted.id
        assert len(ahead.coming) <= most
    ahead.close()
    assert len(begun) <= len(asked) + most and set(begun) >= set(map(str, asked))


def test_asked_again_it_is_captured_again_and_nothing_is_begun_twice(capture):
    ahead = Ahead(ORDER, capture)
    for _ in range(2):
        ahead.take(ORDER[0])
    assert capture.begun["two"].wait(10)
    ahead.close()
    assert [name for name, _ in capture.asked].count("two") == 1
    assert capture.asked.count(("one", True)) == 2


@pytest.mark.parametrize("order", [(), ORDER[:1], ORDER[1:]])
def test_what_has_no_place_in_the_order_begins_nothing(capture, order):
    ahead = Ahead(order, capture)
    assert ahead.take(ORDER[0]) == "ONE"
    ahead.close()
    assert capture.asked == [("one", True)]


def test_closed_it_ends_at_the_next_step_and_begins_nothing():
    steps, going, may_go_on = [], Event(), Event()

    def capture(hypothesis):
        show = ahead.heed(lambda what: lambda done, total: steps.append(done))(hypothesis.id)
        if hypothesis.id != "one":
            show(1, 3)
            going.set()
            may_go_on.wait(10)
            show(2, 3)
            show(3, 3)
        return hypothesis.id

    ahead = Ahead(ORDER, capture)
    ahead.take(ORDER[0])
    assert going.wait(10)
    ahead.stopped.set()
    may_go_on.set()
    ahead.close()
    assert steps == [1]
    with pytest.raises(CancelledError):
        ahead.coming["two"].result()
    assert "three" not in ahead.coming
