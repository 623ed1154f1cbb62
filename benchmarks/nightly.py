"""The nightly job at full size, whole: ``pytest probes/ --model DIR``, by phase, against the floor of what it computes.

    python -m fixtures.models.flux2_klein.fullsize DIR
    python -m benchmarks.nightly DIR --work FOLDER [--minutes 9] [--gib 12] [-- --controls all --twins 3]
    python -m benchmarks.nightly --table FOLDER/part-*.json

What follows ``--`` goes to pytest, probe files among it. With ``--minutes`` the run ends after the test that is under
way then; the same command goes on from what is stored, and its last part has the whole report. ``--gib`` limits the
process to as much of the GPU's memory as a smaller card has. The table is of all parts together: loading counts once,
imports, what is read again and the page count in every part. Nothing is asserted.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from fixtures.session.remembered import code_sha256

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "reports", "tests", "docs", "__pycache__")
LIMITED = """
import sys, torch, pytest
torch.cuda.set_per_process_memory_fraction({gib} * 2**30 / torch.cuda.mem_get_info(0)[1])
def limited(device=None):
    whole = int({gib} * 2**30)
    return max(0, whole - torch.cuda.memory_reserved(device)), whole
torch.cuda.mem_get_info = limited
sys.exit(pytest.main(sys.argv[1:]))
"""


def part(model: str, work: Path, minutes: float | None, gib: float | None, arguments: list[str]) -> Path:
    """Run pytest once, for so long; returns the file with its figures."""
    project = work / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
    number = len(list(work.glob("part-*.json")))
    file = work / f"part-{number:02}.json"
    named = str(Path(model).absolute()) if Path(model).exists() else model
    options = ["--model", named, "--store", str(work / "store"), "--reports", str(work / "reports")]
    chosen = [one for one in arguments if one.startswith("probes/")] or ["probes/"]
    command = ["-p", "benchmarks.phases", "-p", "no:cacheprovider", "-q", *chosen, *options]
    command += [one for one in arguments if not one.startswith("probes/")]
    environment = os.environ | {"PYTHONPATH": f"{project}:{os.environ.get('PYTHONPATH', '')}", "PHASES_JSON": str(file)}
    environment |= {"PHASES_MINUTES": str(minutes)} if minutes else {}
    started = time.perf_counter()
    start = ["-c", LIMITED.format(gib=gib)] if gib else ["-m", "pytest"]
    with open(work / f"part-{number:02}.log", "w") as log:
        done = subprocess.run([sys.executable, *start, *command], cwd=project, env=environment, stdout=log, stderr=log)
    print(Path(log.name).read_text()[-6000:], flush=True)
    if not file.exists():
        sys.exit(f"{work}: pytest left no figures (exit code {done.returncode})")
    found = json.loads(file.read_text())
    if done.returncode > 2 or not (found.get("calls") or found["phases"].get("loading the model")):
        file.unlink()
        sys.exit(f"{log.name}: nothing was computed (exit code {done.returncode}), which is no part of a job")
    found |= {
        "process": time.perf_counter() - started,
        "code": done.returncode,
        "arguments": arguments,
        "gib": gib,
        "engine": code_sha256(),
    }
    found |= {"store_bytes": _bytes(work / "store"), "images_bytes": _bytes(project / "stimuli" / "images")}
    reports = sorted(work.glob("reports/*/results.json"), key=lambda path: path.stat().st_mtime)
    if reports:
        found |= {"report_bytes": _bytes(reports[-1].parent), "results": _results(json.loads(reports[-1].read_text()))}
    file.write_text(json.dumps(found, indent=1))
    return file


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _results(results: dict) -> dict:
    """What a run says, as far as it is of interest here."""
    said = {}
    for one in results["hypotheses"]:
        statement = one.get("statement") or {}
        words = statement.get("shown", [])
        said[one["id"]] = [*words, *(word for word in ("represents", "uses") if statement.get(word))]
    return {
        "complete": results["run"]["complete"],
        "said": said,
        "protocol": results.get("protocol"),
        "compilation": results.get("model", {}).get("compilation"),
        "environment": results["environment"],
    }


def table(files: list[Path]) -> str:
    """The table of some parts together, Markdown."""
    missing = [file for file in files if not file.exists()]
    if missing:
        sys.exit(f"{missing[0]}: no such file; expected part-*.json of a --work folder")
    parts = [json.loads(file.read_text()) for file in files]
    if not parts:
        sys.exit("no part-*.json there; run the benchmark with this --work first")
    if len({one.get("engine") for one in parts}) > 1:
        sys.exit("these parts are not of the same code; begin again with another --work")
    phases, calls = Counter(), {}
    for one in parts:
        phases.update(one["phases"])
        for call in one.get("calls", ()):
            key = call["component"], json.dumps(call["shapes"])
            before = calls.setdefault(key, call | {"calls": 0})
            before["calls"] += call["calls"]
    loads = [one["phases"].get("loading the model", 0) for one in parts]
    again = sum(loads) - max(loads)
    processes = [one.get("process", one["whole"]) - one.get("bare_seconds", 0) for one in parts]
    whole = sum(processes) - again
    bare = sum(call["calls"] * call["seconds"] for call in calls.values())
    floor = bare + max(loads)
    rows = [("", "seconds", "over the floor"), ("---", "---:", "---:")]
    for name, seconds in phases.most_common():
        rows.append((name, f"{seconds:.1f}", f"{seconds / floor:.2f}"))
    rows.append(("**whole, from the start of the process**", f"**{whole:.1f}**", f"**{whole / floor:.2f}**"))
    rows.append(("floor: loading once", f"{max(loads):.1f}", ""))
    for (component, shapes), call in sorted(calls.items()):
        sizes = "; ".join("x".join(map(str, shape)) for shape in json.loads(shapes)[:2])
        rate = call["operations"] / call["seconds"] / 1e12 if call["seconds"] else 0
        what = f"floor: {call['calls']} x {component} ({sizes}), {1e3 * call['seconds']:.1f} ms, {rate:.0f} TFLOP/s"
        rows.append((what, f"{call['calls'] * call['seconds']:.1f}", ""))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    last, outcomes = parts[-1], Counter()
    for one in parts:
        outcomes.update(one.get("outcomes", {}))
    came = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    sizes = {name: last.get(f"{name}_bytes", 0) / 2**20 for name in ("store", "images", "report")}
    lines.append("")
    lines.append(
        f"{len(parts)} parts, {sum(one['tests'] for one in parts)} tests ({came}; exit code {last.get('code')}), "
        f"loaded {sum(map(bool, loads))} times; "
        f"peak {max(one['gpu_bytes'] for one in parts) / 2**30:.1f} GiB of the GPU, "
        f"{max(one['host_kib'] for one in parts) / 2**20:.1f} GiB of the host; "
        + ", ".join(f"{name} {size:.0f} MiB" for name, size in sizes.items())
        + (f"; matrix products {last['matrix_rate'] / 1e12:.0f} TFLOP/s" if last.get("matrix_rate") else "")
    )
    killed = sum("killed" in one for one in parts)
    if killed:
        lines.append(f"{killed} parts were killed: what they computed is in their phases, and not in the floor.")
    lines.append(json.dumps(last.get("results", {}), ensure_ascii=False))
    return "\n".join(lines)


def main() -> None:
    own, _, rest = (sys.argv[1:], None, []) if "--" not in sys.argv else _split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--gib", type=float)
    parser.add_argument("--table", type=Path, nargs="*", help="of these parts, or of those in --work, and run nothing")
    arguments = parser.parse_args(own)
    if arguments.work is None and not arguments.table:
        parser.error("expected --work, a folder for store, images, reports and figures")
    if arguments.table is not None:
        print(table(arguments.table or sorted(arguments.work.glob("part-*.json"))))
        return
    if arguments.gib and not torch.cuda.is_available():
        parser.error("--gib limits the memory of a GPU, and there is none")
    if arguments.model is None:
        parser.error("expected a model: klein-mini, or a folder")
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    part(arguments.model, work, arguments.minutes, arguments.gib, rest)
    print(table(sorted(work.glob("part-*.json"))))


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    place = arguments.index("--")
    return arguments[:place], "--", arguments[place + 1 :]


if __name__ == "__main__":
    main()
