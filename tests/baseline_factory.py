"""Baselines for tests: plausible t maps over noise seeds, without a model."""

import numpy as np

from fixtures.baseline.document import Baseline
from fixtures.baseline.entry import CLAIM, MODEL, with_floor
from fixtures.models.units import Site, channel_groups, site_records
from fixtures.statistics.signed_sums import exceeds

SITES = tuple(
    [Site(f"transformer_blocks.{i}.attn.to_out.0", f"joint[{i}]", "image", 128, 128, 32) for i in range(2)]
    + [Site(f"single_transformer_blocks.{i}.attn.to_out", f"single[{i}]", "text+image", 384, 128, 32) for i in range(3)]
)
UNITS = channel_groups(SITES).units
BLOCKS = [unit.block for unit in UNITS]
PAIRS, NOISE = 25, 0.15
SUPPORTED = {"id": "count_t3", "kind": "exceedance", "verdict": "supported", "margin": 2.0}


def t_maps(seeds: int, generator: np.random.Generator, effect: np.ndarray | None = None) -> np.ndarray:
    """t of one model under several seeds, shape (seeds, n_units): neighbours move together, as units of a block do."""
    effect = np.random.default_rng(5).normal(0, 1.5, len(UNITS)) if effect is None else effect
    shared = generator.normal(size=(seeds, len(UNITS) // 4 + 1)).repeat(4, axis=1)[:, : len(UNITS)]
    return effect + NOISE * (generator.normal(size=shared.shape) + shared) / np.sqrt(2)


def head(name: str = "model", seed: int = 0, weights: dict | None = None) -> dict:
    return {
        "model": dict.fromkeys(MODEL) | {"name": name, "fingerprint": name * 4},
        "weights": weights or dict.fromkeys((*dict.fromkeys(BLOCKS), "vae"), "0" * 64),
        "protocol": {"seed": seed, "device": "cpu", "dtype": "float32", "resolution": 128},
        "null": {"method": "exact", "permutations": None},
        "sites": site_records(SITES),
    }


def entry(maps: np.ndarray, **changed) -> dict:
    counts = [
        {
            "threshold": threshold,
            "observed": int(exceeds(maps[0], threshold, PAIRS).sum()),
            "p": 0.5,
            "p99": 9,
            "max": 20,
        }
        for threshold in (3.0, 5.0)
    ]
    bare = {
        "title": "Title",
        "stimuli": {"file": "a.toml", "sha256": "1" * 64, "given_images": None, "generated_images": None},
        "n_pairs": PAIRS,
        "n_units": len(UNITS),
        "null": {"method": "exact", "flips": 2**24},
        "counts": counts,
        "max_abs_t": float(np.abs(maps[0]).max()),
        "critical_t": 3.5,
        "split_half_r": None,
        "claims": {"count_t3": dict.fromkeys(CLAIM) | SUPPORTED},
        "controls": {"placebo": {"verdict": "passed", "number": "1"}},
        "environment": {"python": "3", "device_name": "a cpu", "packages": {"torch": "2"}},
    }
    return with_floor(bare | changed, list(range(len(maps))), maps, BLOCKS)


def baseline(maps: np.ndarray, names=("one",), **changed) -> Baseline:
    """A baseline in which every hypothesis has the same maps."""
    return Baseline(head(**changed), {name: entry(maps) for name in names}, dict.fromkeys(names, maps))
