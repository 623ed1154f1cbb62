"""Work that several processes share."""

import multiprocessing
import time
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.common.locks import locked
from fixtures.common.sharing import share


def refused(error):
    return ProbeError(f"cannot be written: {error}")


def run(folder: Path, numbers, group=1, log=None, pause=0.0):
    """Share numbers through ``folder``: each is done when its file is there."""

    def work(mine):
        for number in mine:
            time.sleep(pause)
            with (folder / str(number)).open("x") as file:  # fails if it was done before
                file.write(log or "")

    share(numbers, lambda n: folder / f"{n}.lock", lambda n: (folder / str(n)).exists(), work, refused, group)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(total=st.integers(0, 9), ready=st.sets(st.integers(0, 8)), group=st.integers(1, 4))
def test_everything_is_done_once_and_in_groups(tmp_path_factory, total, ready, group):
    folder, groups = tmp_path_factory.mktemp("share"), []
    for number in ready:
        (folder / str(number)).touch()

    def work(mine):
        groups.append(mine)
        for number in mine:
            (folder / str(number)).open("x").close()

    share(range(total), lambda n: folder / f"{n}.lock", lambda n: (folder / str(n)).exists(), work, refused, group)
    missing = [number for number in range(total) if number not in ready]
    assert groups == [missing[start : start + group] for start in range(0, len(missing), group)]


def test_three_processes_share_and_none_does_anothers_work(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run, args=(tmp_path, range(24), 2, str(k), 0.05)) for k in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    did = [(tmp_path / str(number)).read_text() for number in range(24)]
    assert len(set(did)) > 1


def test_what_another_holds_is_waited_for_and_done_if_it_dies(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hold, args=(tmp_path / "1.lock", tmp_path / "held"))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    started = time.monotonic()
    run(tmp_path, range(3))
    process.join(60)
    assert time.monotonic() - started > 0.3 and (tmp_path / "1").exists()


def _hold(lock: Path, sign: Path):
    held = FileLock(lock)
    held.acquire()
    sign.touch()
    time.sleep(0.6)  # and ends without doing the work, as a process that is killed


def test_an_error_drops_the_locks(tmp_path):
    def work(mine):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        share([1], lambda n: tmp_path / "lock", lambda n: False, work, refused)
    with locked(tmp_path / "lock", refused, blocking=False) as held:
        assert held


def test_a_folder_that_cannot_be_written_is_the_callers_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbeError, match="cannot be written"):
        run(tmp_path / "file", [1])
