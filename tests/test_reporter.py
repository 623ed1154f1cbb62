"""How often results.json is written: after each verdict, unless it is large."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.session import reporter


def decided(verdict):
    return SimpleNamespace(probe={"decided": {"verdict": verdict}})


@pytest.mark.parametrize(("seconds", "written"), [(0.001, 50), (1.0, 5)])
def test_a_large_results_json_is_not_written_after_each_verdict(monkeypatch, seconds, written):
    now, writes = [0.0], []

    def write():
        writes.append(now[0])
        now[0] += seconds

    monkeypatch.setattr(reporter, "time", SimpleNamespace(monotonic=lambda: now[0]))
    results = SimpleNamespace(folder=Path(), write=write, add=lambda **record: None)
    taking_in = reporter.Reporter(None, None, results, None, None)
    for _ in range(50):
        taking_in.pytest_runtest_logreport(decided("supported"))
        now[0] += 1.0
    assert len(writes) == written
    now[0] += 100
    taking_in.pytest_runtest_logreport(decided("not climbed"))
    assert len(writes) == written
