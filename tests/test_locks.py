"""Locks where there is flock and where there is none, as on some network file systems."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest
import without_flock
from without_flock import no_flock

from fixtures.common import locks
from fixtures.common.errors import ProbeError
from fixtures.common.locks import locked
from fixtures.common.sharing import share

ROOT = Path(__file__).parents[1]
DEAD = 2**22 + 1  # above every process number of Linux


def refused(error):
    return ProbeError(f"cannot be written: {error.strerror}")


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "shared" / "entry.lock"


@pytest.fixture(params=locks.NO_FLOCK, ids=errno.errorcode.get)
def without(request, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock(request.param))


def left(lock, text, age=60.0):
    """A marker that somebody left there."""
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(text)
    os.utime(lock, (time.time() - age,) * 2)


def acquired(lock, patience=0.1):
    """Waits for a lock; the marker is deleted once a word is said of it, as the word says. Returns what was said."""
    said = []

    def tell(line):
        said.append(line)
        lock.unlink()

    with locked(lock, refused, notify=tell, patience=patience) as got:
        assert got
    return said


def process(lock, then):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, without_flock.__file__, str(lock), then]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "held\n"
    return started


def test_a_lock_is_left_as_it_was_found_without_flock(lock, without):
    assert acquired(lock) == [] and os.listdir(lock.parent) == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once(lock, without, monkeypatch):
    monkeypatch.setattr(filelock.SoftFileLock, "_try_break_stale_lock", lambda self: None)  # as on NFS
    killed = process(lock, "killed")
    assert killed.wait(30) == -signal.SIGKILL and lock.read_text().startswith(f"{killed.pid}\n")
    with locked(lock, refused, blocking=False) as got:
        assert got
    assert os.listdir(lock.parent) == []


def test_two_live_processes_exclude_one_another_without_flock(lock, without):
    other = process(lock, "stays")
    with locked(lock, refused, blocking=False) as got:
        assert not got
    said, started = [], time.monotonic()
    with locked(lock, refused, notify=said.append, patience=0.1):
        assert time.monotonic() - started > 0.3
    assert other.wait(30) == 0
    (line,) = said
    assert f"waiting for {lock}: process {other.pid} on this machine holds it." in line and "delete the file" in line


@pytest.mark.parametrize(
    "text",
    [
        "",  # what flock leaves
        "garbage",
        "\0\xff\n",
        "-1\nhost\n",
        "1\n2\n3\n4\n",
        f"{DEAD}\n{{here}}\n",
        f"{DEAD}\n{{here}}\n123\n",
        "1\n{here}\n",  # a number that another process has now
    ],
)
def test_a_marker_without_a_living_process_is_no_hindrance(lock, without, text):
    started, here = lock.parent, socket.gethostname()
    started.mkdir()
    left(lock, text.format(here=locks._this_machine(started) or here), age=10**9)
    assert acquired(lock, patience=5.0) == []
    left(lock, text.format(here=locks._this_machine(started) or here), age=10**9)
    with locked(lock, refused, blocking=False) as got:
        assert got


@pytest.mark.parametrize("text", ["", "garbage"])
def test_a_marker_that_may_just_be_being_written_is_left_for_a_moment(lock, without, text, monkeypatch):
    left(lock, text, age=0.0)
    with locked(lock, refused, blocking=False) as got:
        assert not got and lock.exists()
    monkeypatch.setattr(locks, "UNWRITTEN", 0.2)
    assert acquired(lock, patience=5.0) == []


@pytest.mark.parametrize(
    ("text", "holder"),
    [
        ("123\nelsewhere\n", "process 123 on elsewhere holds it"),
        (f"{DEAD}\nelsewhere\n456\n", f"process {DEAD} on elsewhere holds it"),
        ("{own}\n{here}\n", "process {own} on this machine holds it"),
    ],
)
def test_what_may_be_alive_is_waited_for_and_named(lock, without, text, holder):
    lock.parent.mkdir()
    left(lock, text.format(own=os.getpid(), here=locks._this_machine(lock.parent)), age=0.0)
    (line,) = acquired(lock)
    assert line.startswith(f"waiting for {lock}: {holder.format(own=os.getpid())}.")
    assert line.endswith("If there is no such process any more, delete the file.")


def test_who_waits_for_flock_is_told(lock):
    held, said = threading.Event(), []
    context = locked(lock, refused)
    context.__enter__()

    def tell(line):
        said.append(line)
        held.set()

    def wait():
        with locked(lock, refused, notify=tell, patience=0.1):
            pass

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert held.wait(10)
    context.__exit__(None, None, None)
    waiting.join(10)
    assert not waiting.is_alive()
    assert said == [
        f"waiting for {lock}: another process holds it, and is alive. This one goes on when that one has "
        "done its part, or ends."
    ]


def test_nobody_waits_ten_seconds_without_a_word():
    assert locks.PATIENCE + 1 < 10


def test_ctrl_c_ends_the_wait(lock, without):
    left(lock, "123\nelsewhere\n")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests may ignore it

    def interrupted(line):
        signal.raise_signal(signal.SIGINT)
        lock.unlink()  # not reached; an interrupt that is lost must not leave the test waiting

    try:
        with pytest.raises(KeyboardInterrupt):
            with locked(lock, refused, notify=interrupted, patience=0.1):
                pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert lock.read_text() == "123\nelsewhere\n"


def test_shared_work_says_what_it_waits_for_and_goes_on(lock, without):
    done, said = set(), []
    left(lock, "123\nelsewhere\n")

    def tell(line):
        said.append(line)
        lock.unlink()

    share(
        [1, 2],
        lambda n: lock if n == 1 else lock.with_name("2"),
        done.__contains__,
        done.update,
        refused,
        notify=tell,
        patience=0.1,
    )
    assert done == {1, 2} and len(said) == 1


def test_a_folder_that_cannot_be_written_is_the_callers_error(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(locks, "TemporaryFile", refuse)
    with pytest.raises(ProbeError, match="cannot be written: Read-only file system"):
        with locked(tmp_path / "lock", refused):
            pass


def test_an_error_of_flock_itself_is_not_taken_for_a_file_system_without_it(lock, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock(errno.EIO))
    with pytest.raises(ProbeError, match="cannot be written: Input/output error"):
        with locked(lock, refused):
            pass


def test_every_lock_of_the_suite_is_one_of_these():
    """So that whoever waits is told, whatever for."""
    users = [file for file in (ROOT / "fixtures").rglob("*.py") if "filelock" in file.read_text()]
    assert users == [ROOT / "fixtures/common/locks.py"]
