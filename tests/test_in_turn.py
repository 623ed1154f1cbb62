"""The lock that threads take in turn: one at a time, again by who has it, and in the order of asking."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from fixtures.common.in_turn import InTurn


def test_one_thread_at_a_time():
    lock, count, inside = InTurn(), [0], []

    def work(_):
        for _ in range(50):
            with lock:
                inside.append(1)
                before = count[0]
                assert len(inside) == 1
                with lock:  # again, by who has it
                    count[0] = before + 1
                inside.pop()

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
    finally:
        sys.setswitchinterval(switching)
    assert count[0] == 200 and lock.owner is None and not lock.waiting


def test_who_lets_go_for_a_moment_waits_behind_who_has_asked():
    lock, order, has = InTurn(), [], Event()

    def busy():
        with lock:
            has.set()
            while not lock.waiting:
                pass
        with lock:
            order.append("busy")

    def patient():
        has.wait(10)
        with lock:
            order.append("patient")

    threads = [Thread(target=each) for each in (busy, patient)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order == ["patient", "busy"]


def test_an_error_inside_lets_go():
    lock = InTurn()
    with pytest.raises(KeyError), lock, lock:
        raise KeyError
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: lock.__enter__().depth).result(10) == 1
