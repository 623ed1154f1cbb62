"""Speed-up of the nightly job on several GPUs of one host, as a user runs it.

    python -m benchmarks.scaling MODEL [--gpus 1,2] [--by torchrun|xdist] [--probes NAME,...]
        [--images DIR] [-- OPTION ...]

For each number of GPUs a copy of the project, with an empty store and without images of MODEL, is filled by `torchrun
--nproc-per-node N -m pytest probes --capture-only` (rungs 9 to 12, which one process does, left out) or decided by
`pytest probes -n N`. All processes load the model and wait for one another before the clock starts; it ends when the
last is done. Prints seconds, speed-up over the first number per GPU, and how long each process worked and how long it
waited: for locks that others held, and for the last one. By default all of probes/ is done, and missing images are
generated, 28 passes each; ``--probes`` takes some files (without ``test_`` and ``.py``), ``--images`` a folder such as
stimuli/images in which they lie already. What follows ``--`` is for pytest.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "__pycache__", "reports", "tests", "docs", "images")
FOLDER, COUNT = "SCALING_FOLDER", "SCALING_COUNT"


class Together:
    """In each process: start with the others, and leave when it began and ended, and how long it waited for locks."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        self.started, self.waited = 0.0, 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session):
        from fixtures.activations import image_manifest
        from fixtures.common import sharing
        from fixtures.session.run import Run

        made = Run.__init__

        def together(run, *arguments, **options) -> None:
            made(run, *arguments, **options)
            run.model.pipeline.encode_prompt("warm up", device=run.model.device)
            self.folder.joinpath(f"ready-{os.getpid()}").touch()
            while len(list(self.folder.glob("ready-*"))) < self.count:
                time.sleep(0.02)
            self.started = time.time()

        Run.__init__ = together
        for module in (sharing, image_manifest):
            module.locked = self._timed(module.locked)
        try:
            return (yield)
        finally:
            taken = json.dumps([self.started, time.time(), self.waited])
            self.folder.joinpath(f"took-{os.getpid()}").write_text(taken)

    def _timed(self, locked):
        @contextmanager
        def timed(*arguments, **options):
            asked = time.time()
            with locked(*arguments, **options) as held:
                self.waited += time.time() - asked
                yield held

        return timed


def pytest_configure(config):
    """``-p benchmarks.scaling``; under xdist the workers are what is timed."""
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(Together(Path(os.environ[FOLDER]), int(os.environ[COUNT])))


def measured(arguments: argparse.Namespace, count: int) -> dict:
    """Seconds of the whole with so many processes, and of each what it was busy and what it waited."""
    from fixtures.claims.ladder import OBSERVED

    with tempfile.TemporaryDirectory() as folder:
        project, signs = Path(folder, "project"), Path(folder, "signs")
        shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*LEFT_OUT))
        images = project / "stimuli" / "images"
        shutil.copytree(arguments.images, images) if arguments.images else images.mkdir()
        signs.mkdir()
        probes = [f"probes/test_{name}.py" for name in arguments.probes.split(",")] if arguments.probes else ["probes"]
        command = [sys.executable, "-m"]
        if arguments.by == "torchrun":
            command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
        command += ["pytest", "-q", "-p", "benchmarks.scaling", "--model", arguments.model]
        command += ["--store", str(Path(folder, "store")), *probes]
        own = ["--capture-only", "--controls", ",".join(OBSERVED)] if arguments.by == "torchrun" else ["-n", str(count)]
        environment = os.environ | {FOLDER: str(signs), COUNT: str(count)}
        done = subprocess.run([*command, *own, *arguments.options], cwd=project, env=environment)
        found = [json.loads(file.read_text()) for file in sorted(signs.glob("took-*"))]
        if done.returncode > (arguments.by == "xdist") or len(found) < count:  # a refuted claim is no failure
            raise SystemExit("a process failed")
        last = max(ended for _, ended, _ in found)
        processes = [
            {"busy": ended - started - waited, "locks": waited, "end": last - ended} for started, ended, waited in found
        ]
        return {"seconds": last - min(started for started, _, _ in found), "processes": processes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--gpus", default="1,2")
    parser.add_argument("--by", choices=("torchrun", "xdist"), default="torchrun")
    parser.add_argument("--probes", default="")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--json", type=Path)
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    arguments = parser.parse_args(given[:split])
    arguments.options = given[split + 1 :]
    if Path(arguments.model).exists():
        arguments.model = str(Path(arguments.model).resolve())
    found = {}
    for count in (int(text) for text in arguments.gpus.split(",")):
        found[count] = measured(arguments, count)
        first = next(iter(found))
        speedup = found[first]["seconds"] * first / found[count]["seconds"]
        print(f"{count} GPU: {found[count]['seconds']:7.1f} s, speed-up {speedup:.2f}, {speedup / count:.2f} a GPU")
        for number, one in enumerate(found[count]["processes"]):
            waits = f"{one['locks']:6.1f} s for locks, {one['end']:6.1f} s for the last"
            print(f"  process {number}: busy {one['busy']:7.1f} s, waited {waits}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
