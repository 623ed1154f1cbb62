"""The main job: ``pytest probes/`` on the embedded default, cold (empty store) and warm, and where its time goes.

    python -m benchmarks.main_job

It runs in a copy of the project with an empty store. Nothing is asserted.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.phases import SUMMED

ROOT = Path(__file__).parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "__pycache__", "reports", "tests"))
        seconds, phases = {}, {}
        for name in ("cold", "warm"):
            started = time.perf_counter()
            command = [sys.executable, "-m", "pytest", "-p", "benchmarks.phases", "probes"]
            command += ["--store", str(Path(folder, "store"))]
            done = subprocess.run(command, cwd=project, capture_output=True, text=True)
            seconds[name] = time.perf_counter() - started
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            phases[name] = done.stdout[done.stdout.rindex("\n", 0, done.stdout.index(SUMMED)) :]
    print("main job on the embedded default (whole process, compilation of the null's kernels included when cold)")
    for name, value in seconds.items():
        print(f"  {name} {value:6.1f} s (its phases timed, bare calls at the end included){phases[name]}")
    print(f"  cold over warm: {seconds['cold'] / seconds['warm']:.1f}")


if __name__ == "__main__":
    main()
