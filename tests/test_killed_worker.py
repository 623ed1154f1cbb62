"""A process that is killed while another one shares its work: only the batch at hand is lost, and the other does it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_project import IMAGES, PROBE, claims, entries, noise, pairs, results, write
from toy_project import run as run_here

import fixtures.activations.images
import fixtures.activations.segments

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[1]

# This process is killed when it has stored its first batch and holds the lock of its second.
DYING = """
import os, signal, time
from pathlib import Path
import fixtures.activations.images as images
import fixtures.activations.segments as segments
from toy_project import noise

capture, begun = segments.capture_batches, dict(images=0, segments=0)

def begin(kind):
    begun[kind] += 1
    if kind == {what!r} and begun[kind] == 2:
        while not list(Path(".").glob({stored!r})):
            time.sleep(0.02)
        Path("holding").touch()
        while not Path("other").exists():
            time.sleep(0.02)
        time.sleep(0.5)  # the other process has done what nobody held, and waits
        os.kill(os.getpid(), signal.SIGKILL)

def drawn(pipeline, batch, texts, protocol):
    begin("images")
    return noise(batch)

def captured(*about):
    begin("segments")
    return capture(*about)

segments.capture_batches, images._generate = captured, drawn
pytest_plugins = ["fixtures.session.plugin"]
"""
STORED = {"images": "stimuli/images/*/toy/*.png", "segments": "store/activations/*/*.json"}


@pytest.mark.parametrize("what", STORED)
def test_another_process_takes_over_what_a_killed_one_held(project, monkeypatch, what):
    """Of three batches the share of the one that dies has the first and the third."""
    write(project, "stimuli/toy.toml", IMAGES.replace('placebo = ["seed", "brightness"]\n', "") + pairs(15))
    write(project, "probes/test_toy.py", PROBE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    project.makeconftest(DYING.format(what=what, stored=STORED[what]))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "probes", "--store", "store"]
    dying = subprocess.Popen([*command, "--capture-only", "--shard", "1/2"], cwd=project.path)
    deadline = time.monotonic() + 120
    while not (project.path / "holding").exists():
        assert dying.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    kept = {file: file.stat().st_mtime_ns for file in project.path.glob(STORED[what])}
    made, capture = {"images": [], "segments": []}, fixtures.activations.segments.capture_batches

    def begin(kind: str, count: int) -> None:
        made[kind].append((count, dying.poll()))
        if kind == what:
            (project.path / "other").touch()

    def drawn(pipeline, batch, texts, protocol):
        begin("images", len(batch))
        return noise(batch)

    def captured(pipeline, sites, stimuli, *about):
        begin("segments", len(stimuli))
        return capture(pipeline, sites, stimuli, *about)

    monkeypatch.setattr(fixtures.activations.images, "_generate", drawn)
    monkeypatch.setattr(fixtures.activations.segments, "capture_batches", captured)
    project.makeconftest('pytest_plugins = ["fixtures.session.plugin"]')
    run_here(project, "--store", "store")
    assert dying.wait(30) == -signal.SIGKILL
    assert kept and kept == {file: file.stat().st_mtime_ns for file in kept}, "what was stored stays"
    assert made[what] == [(10, None), (10, -signal.SIGKILL)], "what the other held is done once it is dead"
    assert len(entries(project.path / "store")) == 3 and results(project)["run"]["complete"]
    assert {claim["verdict"] for claim in claims(project).values()} <= {"supported", "refuted"}
