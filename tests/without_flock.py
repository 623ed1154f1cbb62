"""A file system without flock, for the tests."""

import errno
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from fixtures.common.locks import locked


def no_flock(number: int = errno.ENOSYS):
    """What takes the place of `fcntl.flock` where the file system does not have it."""

    def flock(handle, operation):
        raise OSError(number, os.strerror(number))

    return flock


def hold(lock: Path, then: str) -> None:
    """Hold a lock and say so on standard output; then be killed, or stay for a second."""
    fcntl.flock = no_flock()
    with locked(lock, lambda error: error):
        print("held", flush=True)
        if then == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1)


if __name__ == "__main__":
    hold(Path(sys.argv[1]), sys.argv[2])
