"""From the start of pytest to the report, against what cannot be saved: loading the model, and forward passes.

    python -m benchmarks.start_to_report DIR

Runs the two seed hypotheses on the model in DIR twice, each in a process of its own and with a fresh store: once to
generate the images (and to compile what is compiled once a machine), once to be timed. Prints both.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROBES = ("probes/test_arrow_of_time.py", "probes/test_ethical_valence.py")
LOAD = """
import sys, torch
from diffusers import Flux2KleinPipeline
Flux2KleinPipeline.from_pretrained(sys.argv[1], dtype=torch.bfloat16).to("cuda")
torch.cuda.synchronize()
"""


def seconds(*command: str) -> float:
    """Seconds of a process that may fail: claims about random weights are refuted."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode > 1 or "NOT EVALUATED" in done.stdout:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def measure(folder: str, controls: str = "none") -> dict[str, float]:
    """Seconds to load the pipeline in a fresh process, and of a whole run with its images there."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(("first run, with image generation", "start to report")):
            options = ["--model", folder, "--controls", controls, "--reports", str(Path(scratch, "reports"))]
            store = ["--store", str(Path(scratch, f"store{number}"))]
            found[name] = seconds("-m", "pytest", *PROBES, *options, *store, "-q", "-p", "no:cacheprovider")
            print(f"{name}: {found[name]:.1f} s", flush=True)
    found["load in a process of its own"] = seconds("-c", LOAD, folder)
    return found


if __name__ == "__main__":
    for what, value in measure(sys.argv[1]).items():
        print(f"  {what:36} {value:8.1f} s")
