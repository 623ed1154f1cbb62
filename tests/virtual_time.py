"""Processes that share work, played through on a clock of their own: which of them is done when."""

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import count


class VirtualTime:
    """Runs functions as processes, each in a thread, one at a time in the order of the clock.

    `work` takes time; `locked` stands in for `fixtures.common.locks.locked`.

    Attributes
    ----------
    now : seconds since the start.
    busy : seconds that each process has worked, by its number.
    """

    def __init__(self):
        self.now, self.busy = 0.0, defaultdict(float)
        self._due, self._order, self._holders, self._waiting = [], count(), set(), defaultdict(list)
        self._number, self._errors, self._over = threading.local(), [], threading.Event()

    def run(self, processes: Sequence[Callable[[], None]]) -> list[float]:
        """When each is done."""
        ends = [0.0] * len(processes)

        def process(number: int, turn: threading.Semaphore) -> None:
            turn.acquire()
            self._number.value = number
            try:
                processes[number]()
            except BaseException as error:
                self._errors.append(error)
            ends[number] = self.now
            self._next()

        for number in range(len(processes)):
            turn = threading.Semaphore(0)
            threading.Thread(target=process, args=(number, turn), daemon=True).start()
            self._wake(turn, 0.0)
        self._next()
        self._over.wait()
        assert not any(self._waiting.values()), "processes wait for one another"
        if self._errors:
            raise self._errors[0]
        return ends

    def work(self, seconds: float) -> None:
        """What takes this process so long."""
        self.busy[self._number.value] += seconds
        turn = threading.Semaphore(0)
        self._wake(turn, seconds)
        self._pause(turn)

    @contextmanager
    def locked(self, lock, refused, blocking: bool = True, **options):
        while lock in self._holders:
            if not blocking:
                yield False
                return
            turn = threading.Semaphore(0)
            self._waiting[lock].append(turn)
            self._pause(turn)
        self._holders.add(lock)
        try:
            yield True
        finally:
            self._holders.remove(lock)
            for turn in self._waiting.pop(lock, ()):
                self._wake(turn, 0.0)

    def _wake(self, turn: threading.Semaphore, seconds: float) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), turn))

    def _pause(self, turn: threading.Semaphore) -> None:
        self._next()
        turn.acquire()

    def _next(self) -> None:
        if not self._due:
            self._over.set()
            return
        self.now, _, turn = heapq.heappop(self._due)
        turn.release()
