"""Host memory while a store is filled, for sets of different size: it must not grow with the number of stimuli.

    python -m benchmarks.host_memory [--model klein-tiny] [--stimuli 1000,10000]

Each set of prompt pairs is captured in a process of its own; prints the peak of its resident memory.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def work(model: str, stimuli: int, folder: Path) -> None:
    """Capture a synthetic set and print seconds and the peak of resident memory in MiB."""
    from fixtures.claims.hypothesis import Hypothesis
    from fixtures.common.workers import Shard
    from fixtures.session.capture_only import fill
    from fixtures.session.options import resolve_settings
    from fixtures.session.run import Run

    pairs = "".join(
        f'[[pairs]]\nid = "p{number}"\ncategory = "c"\na = "a cat number {number}"\nb = "a dog number {number}"\n'
        for number in range(stimuli // 2)
    )
    (folder / "stimuli").mkdir()
    head = 'hypothesis = "many"\npresentation = "prompt_pairs"\na = "cat"\nb = "dog"\n'
    (folder / "stimuli" / "many.toml").write_text(head + pairs)
    settings = resolve_settings({"model": model, "store": str(folder / "store")}, {}, folder)
    run = Run(settings, folder, None, lambda what: lambda done, total: None, print)
    run.model.pipeline.encode_prompt("warm up", device=run.model.device)
    started = time.perf_counter()
    problems = fill(run, [(Hypothesis("many", "Many", "", "cat minus dog", "cat"), ())], Shard(), print)
    if problems:
        raise SystemExit("\n".join(problems))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(f"  {stimuli:6} stimuli: {time.perf_counter() - started:7.1f} s, peak {peak:7.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="klein-tiny")
    parser.add_argument("--stimuli", default="1000,10000")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.model, int(arguments.worker[0]), Path(arguments.worker[1]))
        return
    for stimuli in arguments.stimuli.split(","):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.host_memory", "--model", arguments.model]
            subprocess.run([*command, "--worker", stimuli, folder], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
