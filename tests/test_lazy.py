"""Lazy properties: computed once, and instances do not wait for each other."""

from functools import cached_property
from threading import Event, Thread

import pytest

from fixtures.activations.measurement import Measurement
from fixtures.common.lazy import lazy


class Thing:
    def __init__(self, compute):
        self.made, self.make = 0, compute

    @lazy
    def value(self):
        """What it is."""
        self.made += 1
        return self.make()


def test_it_is_computed_once_and_has_its_description():
    thing = Thing(lambda: 7)
    assert [thing.value for _ in range(3)] == [7] * 3 and thing.made == 1
    assert Thing.value.__doc__ == "What it is."


def test_an_error_is_not_kept():
    answers = iter([ZeroDivisionError(), 7])

    def make():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    thing = Thing(make)
    with pytest.raises(ZeroDivisionError):
        _ = thing.value
    assert thing.value == 7 and thing.made == 2


def test_one_instance_is_computed_while_another_one_is():
    may_end = Event()
    slow = Thing(lambda: may_end.wait(10))
    other = Thread(target=lambda: slow.value)
    other.start()
    try:
        found = []
        quick = Thread(target=lambda: found.append(Thing(lambda: 7).value))
        quick.start()
        quick.join(5)
        assert found == [7]
    finally:
        may_end.set()
        other.join()


def test_measurements_of_two_threads_share_no_lock():
    assert not [name for name, value in vars(Measurement).items() if isinstance(value, cached_property)]
    assert [name for name, value in vars(Measurement).items() if isinstance(value, lazy)]
