"""Speed-up of filling a store on several GPUs of one host.

    python -m benchmarks.scaling DIR [--gpus 1,2] [--probes self_reference,canonical_pose,kinematic_state]

For each number of GPUs, that many processes load the model in DIR, wait for one another, and then fill a fresh store
with their shares of the probes (concept, placebo and second noise seed). Timed is the filling, from the common start
until the last process is done. Prints seconds, and speed-up over the first number per GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTROLS = ("placebo", "replication")


def work(folder: str, probes: list[str], store: Path, shard: str) -> None:
    """One process: load, say so, wait for the others, fill; leaves its start and end in the store."""
    from fixtures.claims.hypothesis import Hypothesis
    from fixtures.session.capture_only import fill
    from fixtures.session.options import resolve_settings
    from fixtures.session.run import Run

    options = {"model": folder, "store": str(store), "capture-only": "1", "shard": shard}
    run = Run(resolve_settings(options, {}, ROOT), ROOT, None, lambda what: lambda done, total: None, print)
    run.model.pipeline.encode_prompt("warm up", device=run.model.device)
    store.joinpath(f"ready-{shard.replace('/', '-')}").touch()
    while len(list(store.glob("ready-*"))) < run.settings.shard.count:
        time.sleep(0.05)
    started = time.time()
    wanted = [(Hypothesis(probe, probe, "", "a minus b", "a"), CONTROLS) for probe in probes]
    problems = fill(run, wanted, run.settings.shard, print)
    if problems:
        raise SystemExit("\n".join(problems))
    store.joinpath(f"took-{shard.replace('/', '-')}").write_text(json.dumps([started, time.time()]))


def seconds(folder: str, probes: list[str], gpus: int) -> float:
    """Seconds to fill a fresh store with as many processes as GPUs."""
    with tempfile.TemporaryDirectory() as store:
        processes = []
        for number in range(gpus):
            environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(number)}
            shard = f"{number + 1}/{gpus}"
            command = [sys.executable, "-m", "benchmarks.scaling", folder, "--probes", ",".join(probes)]
            processes.append(subprocess.Popen([*command, "--worker", store, shard], env=environment, cwd=ROOT))
        if any(process.wait() for process in processes):
            raise SystemExit("a process failed")
        times = [json.loads(file.read_text()) for file in Path(store).glob("took-*")]
        entries = len(list(Path(store).glob("activations/*/*.safetensors")))
        print(f"  {gpus} GPU: {entries} entries", flush=True)
        return max(end for _, end in times) - min(start for start, _ in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--gpus", default="1,2")
    parser.add_argument("--probes", default="self_reference,canonical_pose,kinematic_state")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    probes = arguments.probes.split(",")
    if arguments.worker:
        work(arguments.model, probes, Path(arguments.worker[0]), arguments.worker[1])
        return
    counts = [int(count) for count in arguments.gpus.split(",")]
    found = {count: seconds(arguments.model, probes, count) for count in counts}
    for count, value in found.items():
        speedup = found[counts[0]] * counts[0] / value
        print(f"  {count} GPU: {value:7.1f} s, speed-up {speedup:.2f}, {speedup / count:.2f} a GPU", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
