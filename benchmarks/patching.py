"""What patching costs at Klein's full geometry, on one GPU, over the bare forward passes that it takes.

    python -m fixtures.models.flux2_klein.fullsize DIR
    python -m benchmarks.patching DIR [--sets 100] [--jobs 25] [--memory whole] [--json FILE]

DIR is a checkpoint of full size; its weights may be random. Each job writes both sides of a foreign pair into a pass of
B and of A, for one set of found units and as many random ones as are asked for. Prints seconds of all jobs and of as
many bare passes in batches of the same size, peak memory, and how far all units are from 1 and none from 0. Nothing is
asserted.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from fixtures.activations.patching import INTO, Doses, patch, written
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.claims.controls.causal import FOUND
from fixtures.common.files import write_json
from fixtures.models.model import Model
from fixtures.models.units import channel_groups
from fixtures.session.options import resolve_settings
from fixtures.statistics.causal_roles import matched_sets, strongest
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).parents[1]
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder with a checkpoint of full size")
    parser.add_argument("--sets", type=int, default=100, help="random sets of units beside the found ones")
    parser.add_argument("--jobs", type=int, default=25, help="donors, each in a recipient")
    parser.add_argument("--memory", default="whole", help="whole or turns")
    parser.add_argument("--resolution", help="image side in pixels (default: the model's)")
    parser.add_argument("--stimuli", type=Path, default=ROOT / "stimuli" / "ethical_valence.toml", help="prompt pairs")
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    chosen = parser.parse_args()
    options = {"model": chosen.model, "memory": chosen.memory, "device": chosen.device}
    model = Model(resolve_settings(options | {"resolution": chosen.resolution}, {}, ROOT), print)
    figures = measure(model, load_stimuli(chosen.stimuli), chosen.sets, chosen.jobs)
    print(json.dumps(figures, indent=2))
    if chosen.json:
        write_json(chosen.json, figures)


def measure(model: Model, stimuli, sets: int, jobs: int) -> dict:
    """Figures of one model and set of stimuli, whose pairs give and are written into in turn."""
    shown = [[Stimulus(pair.id, member.prompt) for member in (pair.a, pair.b)] for pair in stimuli.pairs]
    groups, cuda = channel_groups(model.sites), model.device.startswith("cuda")
    loaded, started = model.loaded, time.perf_counter()
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def passes(*pairs: int) -> WholePasses:
        members = [member for pair in pairs for member in shown[pair]]
        return WholePasses(loaded, model.sites, members, model.protocol)

    with passes(0) as one:
        sizes = written(one, 1)[0]
    strata = np.array([f"{unit.block} {unit.kind}" for unit in groups.units])
    found = strongest(sizes * np.random.default_rng(0).random(len(sizes)), FOUND)
    units = np.vstack([found, matched_sets(found, strata, sizes, sets, 0)])
    chosen_in, peak = time.perf_counter() - started, _peak_gib(cuda)
    together = max(1, model.protocol.batch_size // 4)
    batches = -(-len(units) // together)
    patched = bare = 0.0
    for job in range(jobs):
        donor, recipient = job % len(shown), (job + 1) % len(shown)
        with passes(donor, recipient) as four:
            if not job:
                patch(four, groups, Doses.whole(units[:2]), INTO)  # to warm up
            patched += _timed(lambda four=four: patch(four, groups, Doses.whole(units), INTO), cuda)
            bare += _bare(four, 4 * together, batches, cuda) + _bare(four, 2, 2, cuda)
        print(f"{job + 1} of {jobs} jobs: {patched:.1f} s patched, {bare:.1f} s bare", flush=True)
    with passes(0, 0) as own:
        every = np.ones((1, len(groups.units)), dtype=bool)
        ends = patch(own, groups, Doses.whole(np.vstack([every, ~every])), INTO)
    return {
        "device": model.device_name,
        "model": model.description["label"],
        "protocol": model.protocol.record(),
        "memory": "turns" if model.by_turns else "whole",
        "sets": sets,
        "jobs": jobs,
        "passes": jobs * (4 * together * batches + 4),
        "seconds_patched": patched,
        "seconds_bare": bare,
        "ratio": patched / bare,
        "seconds_to_choose": chosen_in,
        "peak_gib_to_choose": peak,
        "peak_gib": _peak_gib(cuda),
        "all_units": (ends.along[0, 0] / ends.wanted[0]).tolist(),
        "no_unit": (ends.along[0, 1] / ends.wanted[0]).tolist(),
    }


def _bare(passes: WholePasses, size: int, number: int, cuda: bool) -> float:
    """Seconds of so many passes of the transformer on a batch of this size."""
    passes.hooks.changes, passes.hooks.keep = {}, None
    inputs, _ = passes.passes.inputs([passes.text[passes.stimuli[2].prompt]] * size, None)
    return _timed(lambda: [passes.loaded.transformer(**inputs) for _ in range(number)], cuda)


def _peak_gib(cuda: bool) -> float | None:
    """Most memory since the last call."""
    peak = torch.cuda.max_memory_allocated() / GIB if cuda else None
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    return peak


def _timed(way, cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    way()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
