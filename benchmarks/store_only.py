"""``pytest --store-only`` of many hypotheses at full size: time and memory by the number of hypotheses, or of pairs.

    python -m benchmarks.store_only [--hypotheses 10,30,100] [--pairs 100]
    python -m benchmarks.store_only --hypotheses 1 --pairs 25,100,400

Writes a store of random activations of Klein's geometry (25 sites, 16,320 channel groups), with an effect in an eighth
of the channel groups, and a probe file and a stimulus file for each hypothesis; no weights are needed. Time must be
linear in hypotheses, and memory must not grow with them beyond their records. A stimulus takes 0.46 MB of the disk.
Where that is short (``--sets``), several hypotheses share the tensors of a set, by hard links: what identifies an entry
stands in its sidecar. Every number of hypotheses is run twice: the second time, what was evaluated is in the store too.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fixtures.activations.activations import Activations
from fixtures.activations.images import prepare_images
from fixtures.activations.inventory import Inventory
from fixtures.activations.measurement import Measurement
from fixtures.activations.segments import Captures
from fixtures.activations.store import Store
from fixtures.activations.stored_model import StoredModel
from fixtures.common.environment import MachineRecord, environment
from fixtures.common.files import readable_json, sha256_of, write_json
from fixtures.models.description import describe, skeleton
from fixtures.models.flux2_klein.family import Flux2Klein
from fixtures.models.flux2_klein.fullsize import TRANSFORMER, build_tokenizer
from fixtures.models.protocol import Protocol
from fixtures.models.source import ModelSource
from fixtures.models.units import CELL_VISIBILITY, channel_groups
from fixtures.session.options import resolve_settings
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).parents[1]
NAME = "random-activations"
TOKENS = (12, 500, 1024, 1024, 1024, 1024, 0)  # of each cell, at 1024 pixels
SPREAD, EFFECT = 0.05, 0.02  # of a stimulus about its unit, and of A over B
CONTROLS = "familywise,confounds"  # those that need nothing but the pairs' own activations
MEMBERS = (("a", "cat"), ("b", "dog"))
PROBE = """
import pytest
from fixtures.claims import Effect, Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(id="{name}", title="{name}", sentence="s", contrast="cat minus dog", positive="cat")


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2.0))
def test_count(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Effect())
def test_effect(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
"""


def remember(store: Path, folder: Path) -> None:
    """Have the store know a model of Klein's geometry, of which there are no weights."""
    write_json(folder / "transformer" / "config.json", {"_class_name": "Flux2Transformer2DModel", **TRANSFORMER})
    write_json(folder / "model_index.json", {"_class_name": "Flux2KleinPipeline", "is_distilled": False})
    build_tokenizer().save_pretrained(folder / "tokenizer")
    source = ModelSource(NAME, NAME, folder, None, NAME, NAME, family=Flux2Klein())
    protocol = Protocol(device="cuda", dtype="bfloat16", batch_size=5, text_batch_size=10)
    sites = source.family.find_sites(skeleton(source))
    described = describe(source) | {"components": "together"}
    about = {"source": source, "protocol": protocol, "sites": sites, "description": described, "device_name": "none"}
    Inventory(store).remember_model(SimpleNamespace(**about))


def write_project(project: Path, hypotheses: int, pairs: int) -> list[str]:
    """A copy of the project with these probe and stimulus files alone; the hypotheses' ids."""
    for name in ("fixtures", "conftest.py", "pytest.ini", "pyproject.toml"):
        (project / name).symlink_to(ROOT / name)
    (project / "probes").mkdir()
    (project / "stimuli").mkdir()
    names = [f"h{number:03}" for number in range(hypotheses)]
    for name in names:
        (project / "probes" / f"test_{name}.py").write_text(PROBE.format(name=name))
        text = f'hypothesis = "{name}"\npresentation = "prompt_pairs"\na = "cat"\nb = "dog"\n'
        for pair in range(pairs):
            shown = [f'{field} = "wording {pair % 12}: a {what} number {pair} of {name}"' for field, what in MEMBERS]
            text += "\n".join(["[[pairs]]", f'id = "p{pair}"', f'category = "c{pair % 4}"', *shown, ""])
        (project / "stimuli" / f"{name}.toml").write_text(text)
    return names


def write_store(project: Path, store: Path, names: list[str], sets: int) -> None:
    """Activations of every hypothesis; those beyond the first ``sets`` share the tensors of one of these."""
    settings = resolve_settings({"model": NAME, "store": str(store), "store-only": True}, {}, project, environment={})
    model, kept = StoredModel(settings, Inventory(store), lambda line: None), Store(store)
    units = channel_groups(model.sites)
    rng = np.random.Generator(np.random.SFC64(0))
    level = rng.lognormal(-2, 1, len(units.units)).astype(np.float32) * units.visible(CELL_VISIBILITY)
    level[np.array(TOKENS) == 0] = 0
    found = rng.permutation(len(units.units))[: len(units.units) // 8]
    counts, first = np.array(TOKENS, dtype=np.int64), []
    for number, name in enumerate(names):
        stimuli = load_stimuli(project / "stimuli" / f"{name}.toml")
        measured = Measurement(stimuli, model, kept, project / "stimuli" / "images", lambda what: lambda *done: None)
        Inventory(store).remember_images(measured.set_images._key(prepare_images), {})
        keys = segment_keys(measured.captures, measured.sequence)
        for key in keys if number < sets else ():
            size = len(key["stimuli"])
            values = rng.standard_normal((size, *level.shape), dtype=np.float32)
            values *= SPREAD
            values[0::2, :, found] += EFFECT
            values += 1
            values *= values
            values *= level
            found_here = Activations(values, np.tile(counts, (size, 1)))
            kept.get(key, lambda value=found_here: value, made_with=made_with)
        if number < sets:
            first.append(keys)
        else:
            for own, other in zip(keys, first[number % sets], strict=True):
                link(kept, own, other)


def segment_keys(captures: Captures, shown) -> list[dict]:
    """The keys of the segments of a set's stimuli."""
    return captures._segments(shown, "", None, None, None, None)[0]


def made_with() -> MachineRecord:
    """Where the activations come from."""
    return MachineRecord(**environment(), device_name="none")


def link(store: Store, key: dict, other: dict) -> None:
    """An entry with the tensors of another one."""
    own, there = store.path(key), store.path(other)
    own.parent.mkdir(parents=True, exist_ok=True)
    os.link(there.with_suffix(".safetensors"), own.with_suffix(".safetensors"))
    sidecar = json.loads(there.read_bytes()) | {"key": key}
    del sidecar["sidecar_sha256"]
    own.write_bytes(readable_json(sidecar | {"sidecar_sha256": sha256_of(sidecar)}))


def run(project: Path, store: Path, names: list[str], controls: str) -> tuple[float, float, float]:
    """Seconds of a run of these hypotheses, of its processors, and the peak of its resident memory in MiB."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--store-only", "--model", NAME]
    command += ["--store", str(store), "--controls", controls, "--null", "monte-carlo"]
    command += [f"probes/test_{name}.py" for name in names]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = os.posix_spawn(
            sys.executable,
            command,
            os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            file_actions=[(os.POSIX_SPAWN_DUP2, said.fileno(), 1), (os.POSIX_SPAWN_DUP2, said.fileno(), 2)],
        )
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - started
        said.seek(0)
        text = said.read().decode()
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(text)
    folder = max((project / "reports").glob("2*"), key=lambda found: found.stat().st_mtime_ns)
    data = json.loads((folder / "results.json").read_text())
    decided = [claim["verdict"] for entry in data["hypotheses"] for claim in entry["claims"] + entry["controls"]]
    if len(data["hypotheses"]) != len(names) or "not evaluated" in decided:
        sys.exit(f"{text}\nnot all was evaluated: {decided.count('not evaluated')} verdicts are missing")
    used = usage.ru_utime + usage.ru_stime
    return seconds, used, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hypotheses", default="10,30,100")
    parser.add_argument("--pairs", default="100")
    parser.add_argument("--sets", type=int, help="of activations; default: as many as fit on half of the disk")
    parser.add_argument("--controls", default=CONTROLS)
    parser.add_argument("--folder", help="where to write them; removed at the end")
    arguments = parser.parse_args()
    chosen = [int(number) for number in arguments.hypotheses.split(",")]
    for pairs in map(int, arguments.pairs.split(",")):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            project, store = Path(folder, "project"), Path(folder, "store")
            project.mkdir()
            os.chdir(project)
            one = 2 * pairs * 4 * 7 * 16320
            room = max(1, shutil.disk_usage(folder).free // 2 // one)
            sets = min(arguments.sets or room, max(chosen))
            print(f"{pairs} pairs, {sets} sets of activations ({sets * one / 1e9:.1f} GB) for {max(chosen)} hypotheses")
            remember(store, Path(folder, "checkpoint"))
            names = write_project(project, max(chosen), pairs)
            write_store(project, store, names, sets)
            each: list[float] = []
            for number in chosen:
                shutil.rmtree(store / "evaluations", ignore_errors=True)
                for what in ("evaluated", "again, from the store"):
                    seconds, used, peak = run(project, store, names[:number], arguments.controls)
                    each.append(used / number)
                    print(
                        f"  {number:4} hypotheses {what:21} {seconds:7.1f} s; on processors {each[-1]:6.2f} s each "
                        f"({each[-1] / each[(len(each) - 1) % 2]:.2f} times the first); peak {peak:6.0f} MiB",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
