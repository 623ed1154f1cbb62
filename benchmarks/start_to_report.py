"""From the start of pytest to the report, against what cannot be saved: loading the model, and forward passes.

    python -m benchmarks.start_to_report DIR

Runs the two seed hypotheses on the model in DIR twice, each in a process of its own and with a fresh store: once to
compile what is compiled once a machine, once to be timed. Prints both. The project is copied to a temporary folder for
that, where random pictures take the place of the generated images.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.phases import SUMMED
from benchmarks.pictures import pictures
from fixtures.activations.image_manifest import ImageRequest, Manifest
from fixtures.activations.images import _wanted
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).parents[1]
PROBES = ("probes/test_arrow_of_time.py", "probes/test_ethical_valence.py")
LEFT_OUT = (".*", "reports", "images", "tests", "docs", "__pycache__")
LOAD = """
import sys, torch
from diffusers import Flux2KleinPipeline
Flux2KleinPipeline.from_pretrained(sys.argv[1], dtype=torch.bfloat16).to("cuda")
torch.cuda.synchronize()
"""


def copy_with_images(project: Path, folder: str) -> None:
    """Copy the project to ``project``, with random pictures for the images that the model in ``folder`` would make."""
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*LEFT_OUT))
    model = Model(resolve_settings({"model": folder, "store": str(project.parent / "identity")}, {}, ROOT))
    stimuli = load_stimuli(project / "stimuli" / "arrow_of_time.toml")
    requests = [ImageRequest(name, member.prompt, seed) for name, member, seed in _wanted(stimuli)]
    images = project / "stimuli" / "images" / f"{model.source.slug}-{model.protocol.resolution}px"
    manifest = Manifest(images / stimuli.hypothesis, model.source, model.protocol, None)
    drawn = pictures(project.parent, len(requests), model.protocol)
    manifest.add(requests, [file.read_bytes() for file in drawn])


def seconds(project: Path, *command: str) -> float:
    """Seconds of a process that may fail: claims about random weights are refuted."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    environment |= {"PHASES_BARE": "0"}
    done = subprocess.run([sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode > 1 or "NOT EVALUATED" in done.stdout:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    took = time.perf_counter() - started
    print(done.stdout[done.stdout.find(SUMMED) :] if SUMMED in done.stdout else "")
    return took


def measure(folder: str, controls: str = "none") -> dict[str, float]:
    """Seconds to load the pipeline in a fresh process, and of a whole run with images there. ``folder`` is absolute."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "project")
        copy_with_images(project, folder)
        for number, name in enumerate(("first run", "start to report")):
            options = ["--model", folder, "--controls", controls, "--reports", str(Path(scratch, "reports"))]
            store = ["--store", str(Path(scratch, f"store{number}"))]
            options += ["-q", "-p", "no:cacheprovider", "-p", "benchmarks.phases"]
            found[name] = seconds(project, "-m", "pytest", *PROBES, *options, *store)
            print(f"{name}: {found[name]:.1f} s", flush=True)
        found["load in a process of its own"] = seconds(project, "-c", LOAD, folder)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected one argument, the folder of a checkpoint: python -m benchmarks.start_to_report DIR")
    for what, value in measure(sys.argv[1]).items():
        print(f"  {what:36} {value:8.1f} s")
