"""Plausible run folders for the report's tests: synthetic differences, statistics by plain NumPy, drawn pictures."""

import copy
import csv
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fixtures.claims.ladder import statement
from fixtures.models.source import ALIASES

# blocks and channel groups: joint blocks, groups in each, single blocks, attention groups and MLP groups in each
GEOMETRIES = {"small": (2, 8, 4, 8, 24), "full": (5, 192, 20, 192, 576)}
PUBLISHED = {
    "n_pairs": 25,
    "n_units": 16320,
    "max_abs_t": 7.56,
    "split_half_r": None,
    "null_flips": 200,
    "counts": {
        "3": {"count": 2426, "percent": 14.9, "ratio": 4.8, "null_mean": 82, "null_p99": 501},
        "5": {"count": 159, "percent": 1.0, "ratio": 53, "null_mean": 0, "null_p99": 3},
    },
}
PROMPTS = (
    "A park bench in autumn; Mira helps Tomas lift the fallen bicycle",
    "A park bench in autumn; Mira walks past Tomas and the fallen bicycle",
)

NULL_FIGURES = {"p50": 0.0, "permutations": 1000}
REPLICATION = {
    "split_half": {"halves": 100, "observed": 0.41, "p": 0.002, "p99": 0.2} | NULL_FIGURES,
    "without_one_pair": {
        "counts": [
            {"threshold": 3.0, "observed": 40, "smallest": 33, "smallest_without": "p1"}
            | {"most_influential": "p2", "change": 9},
            {"threshold": 5.0, "observed": 0, "smallest": 0, "smallest_without": "p0"}
            | {"most_influential": "p0", "change": 0},
        ],
        "p": 0.001,
    },
    "without_one_category": {"reason": "only one category"},
    "second_seed": {
        "seed": 1,
        "counts": [{"threshold": 3.0, "observed": 38, "p99": 9, "max": 31, "p": 0.001, "required": 21.6}],
        "t_correlation": 0.83,
    },
}
CHECK = {  # what the checker records of a set
    "file": "toy.toml",
    "presentation": "prompt_pairs",
    "giveaway": None,
    "vocabulary": {"name": "klein-tiny", "is_qwen": False},
    "pairs": {
        "n_pairs": 25,
        "categories": {"glass": 9, "food": 8, "paper": 8},
        "templates": {"verb": 13, "noun": 12},
        "wording": {
            "ids": ["event 00", "event 01", "event 02"],
            "lengths": {
                "tokens": {"differences": [0, 0, 0]},
                "words": {"differences": [0, 1, -2]},
                "letters": {"differences": [3, 1, 4]},
            },
            "changed": {"tokens": 3.75, "words": 3.0},
            "overlap": 0.91,
            "overlap_least": 0.75,
            "thirds": {"early": 7, "middle": 12, "late": 6},
            "words": [{"feature": "apart", "a": 2, "b": 0}, {"feature": "on", "a": 0, "b": 2}],
            "endings": [],
            "bag_of_words": {"accuracy": 0.74, "p": 0.0166, "flips": 10000, "seed": 0},
            "n_alike": 0,
        },
    },
    "placebo": {"n_pairs": 25, "categories": {"glass": 25}, "templates": {}, "wording": None},
    "findings": [
        {"kind": "note", "of": "set", "rule": "placebo", "text": "changes 3.0 words"},
        {"kind": "problem", "of": "placebo", "rule": "tokens", "text": "members differ: event 02 (1)"},
    ],
}
HELD_OUT = {"splits": 200, "selected": 16, "observed": 2.34, "p": 0.004, "p99": 1.2} | NULL_FIGURES
CALIBRATION = {
    "model": "klein-tiny",
    "seed": 0,
    "rows": [
        {"name": "A/A pairs", "what": "Both members show the same state; the null must reject at its level."}
        | {"n": 200, "observed": 0.03, "bound": 0.05, "at_most": True, "ok": True, "detail": "6 of 200 at p ≤ 0.05"},
        {"name": "planted effect", "what": "An effect of d = 1 in 14 units; it must be found."}
        | {"n": 200, "observed": 0.91, "bound": 0.95, "at_most": False, "ok": False, "detail": "182 of 200"},
        {"name": "placebo of another size", "what": "The control must not be evaluated."}
        | {"n": 50, "observed": 0.0, "bound": 0.05, "at_most": True, "ok": True, "detail": ""},
    ],
    "power": {
        "n_pairs": 25,
        "n_units": 144,
        "n_planted": 14,
        "runs": 200,
        "effects": [0.2, 0.4, 0.6, 0.8, 1.0],
        "curves": [
            {"name": "more units beyond |t| = 3 than chance", "power": [0.06, 0.38, 0.82, 0.97, 1.0]}
            | {"d80": 0.59, "d95": 0.77},
            {"name": "a planted unit found family-wise", "power": [0.02, 0.2, 0.61, 0.93, 0.99]}
            | {"d80": 0.72, "d95": 0.86},
            {"name": "held-out selection", "power": [0.05, 0.3, 0.7, 0.9, 0.98], "d80": 0.7, "d95": None},
        ],
    },
}


def make_units(geometry: str) -> list[dict]:
    """Unit records in unit order."""
    joint, groups, single, attention, mlp = GEOMETRIES[geometry]
    units = []
    for index in range(joint):
        site = f"transformer_blocks.{index}.attn.to_out.0"
        units += [(site, f"joint[{index}]", "image", "attention", group) for group in range(groups)]
    for index in range(single):
        site, block = f"single_transformer_blocks.{index}.attn.to_out", f"single[{index}]"
        units += [(site, block, "text+image", "attention", group) for group in range(attention)]
        units += [(site, block, "text+image", "mlp", attention + group) for group in range(mlp)]
    names = ("site", "block", "stream", "kind", "start", "stop")
    return [dict(zip(names, (*unit[:4], 16 * unit[4], 16 * unit[4] + 16), strict=True)) for unit in units]


def make_results(folder: Path, geometry: str = "small", n_pairs: int = 8, strength: float = 1.0, **options) -> dict:
    """Write a run folder and return its results: an image-pair, a reference-prompt and a prompt hypothesis, and one
    that could not be evaluated. ``options``: ``side`` of the drawn pictures, number of ``flips``, ``label``."""
    folder.mkdir(parents=True, exist_ok=True)
    flips = options.get("flips", 1000)
    full = geometry == "full"
    hypotheses = [
        make_hypothesis(folder, "arrow_of_time", "image_pairs", geometry, n_pairs, 0.6 * strength, flips, options),
        make_hypothesis(folder, "physical_scale", "reference_prompt_pairs", geometry, n_pairs, 0.12, flips, options),
        make_hypothesis(folder, "ethical_valence", "prompt_pairs", geometry, n_pairs, 1.1 * strength, flips, options),
        not_evaluated(),
    ]
    hypotheses[1]["claims"][0] |= {"verdict": "refuted", "recorded": "refuted"}
    hypotheses[1]["claims"][1] |= {"verdict": "inconclusive", "reason": "8 pairs are too few to decide"}
    correction = correct(hypotheses)
    hypotheses[0]["controls"] = make_controls(hypotheses[0], failed="placebo", not_evaluated="untrained")
    hypotheses[1]["controls"] = make_controls(hypotheses[1], failed="familywise", not_evaluated="confounds")[:5]
    hypotheses[2]["controls"] = make_controls(hypotheses[2])
    for hypothesis in hypotheses:
        hypothesis["statement"] = statement(hypothesis)
    results = {
        "schema": 1,
        "run": {
            "id": "2031-05-04-1200",
            "started": "2031-05-04T12:00:00",
            "finished": "2031-05-04T12:09:10",
            "command": "pytest probes --model tiny",
            "options": {"model": {"value": "tiny", "source": "command line"}, "seed": {"value": 0, "source": "ini"}},
            "complete": True,
        },
        "model": {
            "name": "FLUX.2-klein-base-4B" if full else "klein-tiny",
            "source": "black-forest-labs/FLUX.2-klein-base-4B" if full else "seed:0",
            "revision": "a3b1c5d7" if full else None,
            "weights_sha256": "0" * 64,
            "fingerprint": "f" * 16,
            "embedded": False,
            "label": options.get("label", None if full else "untrained: random weights from a seed"),
            "pipeline_class": "Flux2KleinPipeline",
            "is_distilled": False,
            "blocks": {"joint": GEOMETRIES[geometry][0], "single": GEOMETRIES[geometry][2]},
            "head_dim": 128,
            "heads": 24,
            "parameters": 3_880_000_000 if full else 214_000,
            "published_geometry": full,
        },
        "protocol": {
            "steps": 1,
            "guidance": 1.0,
            "seed": 0,
            "resolution": 1024,
            "text_length": 512,
            "dtype": "bfloat16",
            "device": "cuda",
            "batch_size": 1,
            "generation_steps": 14,
            "generation_guidance": 4.0,
        },
        "environment": {
            "python": "3.11.4",
            "platform": "Linux",
            "device_name": "NVIDIA H100",
            "packages": {"torch": "2.9", "diffusers": "0.42"},
        },
        "hypotheses": hypotheses,
        "multiple_testing": correction,
        "calibration": CALIBRATION,
    }
    (folder / "results.json").write_text(json.dumps(results))
    return results


def make_hypothesis(folder, name, presentation, geometry, n_pairs, strength, flips, options) -> dict:
    """One evaluated hypothesis; writes its unit table and pictures into the folder."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    units = make_units(geometry)
    d = differences(rng, units, n_pairs, strength)
    t = t_values(d)
    blocks = list(dict.fromkeys(unit["block"] for unit in units))
    of_block = {block: np.array([unit["block"] == block for unit in units]) for block in blocks}
    signs = rng.choice((-1.0, 1.0), size=(flips, n_pairs))
    signs[0] = 1
    null_t = np.abs(np.concatenate([flipped_t(d, part) for part in np.array_split(signs, max(1, flips // 250))]))
    counts = [make_count(t, null_t, threshold) for threshold in (3.0, 5.0)]
    largest = null_t.max(axis=1)
    file = f"{name}.units.csv.gz"
    write_units(folder / file, units, d, t, rng)
    r = split_halves(rng, d)
    heads = {"n_units": len(units) // 8, "max_abs_t": 4.4, "counts": [dict(count) for count in counts]}
    for count in heads["counts"]:
        count["observed"] //= 8
    hypothesis = {
        "id": name,
        "title": name.replace("_", " ").capitalize(),
        "sentence": "Some units respond differently to a state after an event than to the state before it.",
        "contrast": "post-event minus pre-event",
        "positive": "stronger response to the post-event image",
        "a": "after the event",
        "b": "before the event",
        "card": "after-plantain",
        "presentation": presentation,
        "prompt": "Describe what is depicted in this image." if presentation == "image_pairs" else None,
        "published": PUBLISHED,
        "stimuli": make_stimuli(folder, name, presentation, n_pairs, options.get("side", 64)),
        "partition": "channel_groups",
        "n_pairs": n_pairs,
        "n_units": len(units),
        "n_undefined": int(np.isnan(t).sum()),
        "max_abs_t": float(np.nanmax(np.abs(t))),
        "split_half_r": {
            "median": float(np.median(r)),
            "q25": float(np.quantile(r, 0.25)),
            "q75": float(np.quantile(r, 0.75)),
            "halves": len(r),
            "seed": 0,
            "r": r.tolist(),
        },
        "counts": counts,
        "max_t_null": {
            "critical_05": float(np.quantile(largest, 0.95)),
            "q50": float(np.median(largest)),
            "q99": float(np.quantile(largest, 0.99)),
            "max": float(largest.max()),
            "histogram": {"edges": [0.0, 5.0, 50.0], "flips": [flips // 2, flips - flips // 2]},
        },
        "familywise": {"alpha": 0.05, "n_units": int((np.abs(t) > np.quantile(largest, 0.95)).sum())},
        "blocks": [
            {
                "block": block,
                "n_units": int(here.sum()),
                "max_abs_t": float(np.nanmax(np.abs(t[here]))),
                "beyond": {key: int((np.abs(t[here]) > float(key)).sum()) for key in ("3", "5")},
                "median_abs_d": float(np.nanmedian(np.abs(t[here])) / np.sqrt(n_pairs)),
            }
            for block, here in of_block.items()
        ],
        "attention_heads": heads,
        "shares": make_shares(t, units),
        "comparisons": [
            {"kind": "subset", "name": "seen in training", "seed": None, "n_pairs": 5, "counts": compared(counts, 2)}
        ],
        "units_file": file,
        "reason": None,
    }
    hypothesis["claims"] = [make_claim(name, count, margin) for count, margin in zip(counts, (2.0, 3.0), strict=True)]
    hypothesis["claims"].append(
        {
            "id": "split_half",
            "test": f"probes/test_{name}.py::test_split_half",
            "kind": "split_half",
            "sentence": "Two halves of the pairs agree on which units respond.",
            "threshold": None,
            "observed": float(np.median(r)),
            "required": 0.3,
            "null": None,
            "p": None,
            "p_holm": None,
            "ratio": None,
            "margin": None,
            "verdict": "supported" if np.median(r) >= 0.3 else "refuted",
            "reason": "",
            "recorded": None,
        }
    )
    return hypothesis


def compared(counts: list[dict], divisor: int) -> list[dict]:
    """Counts of a comparison: the claim's own, made smaller."""
    return [
        {
            "threshold": count["threshold"],
            "observed": count["observed"] // divisor,
            "p99": count["null"]["p99"] + divisor,
            "max": count["null"]["max"],
            "p": count["p"],
        }
        for count in counts
    ]


def not_evaluated(name: str = "self_reference") -> dict:
    """A hypothesis of which only the reliable fields are set."""
    claim = {
        "id": "count_t3",
        "test": f"probes/test_{name}.py::test_count_t3",
        "kind": "exceedance",
        "sentence": "More units than chance tell self-reference from reference to another.",
        "threshold": 3.0,
        **dict.fromkeys(("observed", "required", "null", "p", "p_holm", "ratio", "margin", "recorded")),
        "verdict": "not evaluated",
        "reason": "stimuli/self_reference.toml is missing: write it, or leave the probe out",
    }
    return {
        "id": name,
        "title": "Self-reference",
        "sentence": "Some units tell self-reference from reference to another.",
        "contrast": "self minus other",
        "card": None,
        "reason": claim["reason"],
        "claims": [claim],
        "controls": [
            {"id": "placebo", "test": f"probes/test_{name}.py::test_control[placebo]", "verdict": "not evaluated"}
            | {"number": "", "p": None, "reason": claim["reason"], "recorded": None, "evidence": {}}
        ],
    }


def correct(hypotheses: list[dict]) -> dict:
    """Holm's correction over all exceedance claims, written into them; returns its record."""
    claims = [claim for entry in hypotheses for claim in entry["claims"] if claim["kind"] == "exceedance"]
    claims = sorted((claim for claim in claims if claim["p"] is not None), key=lambda claim: claim["p"])
    last = 0.0
    for rank, claim in enumerate(claims):
        last = claim["p_holm"] = max(last, min(1.0, claim["p"] * (len(claims) - rank)))
    return {"method": "holm", "n": len(claims)}


def make_shares(t: np.ndarray, units: list[dict]) -> list[dict]:
    """Units beyond each threshold by kind, stream and token group, for both partitions."""
    entries = []
    for partition, size in (("channel groups", 1), ("attention heads", 8)):
        for by, value, members in (
            *(("kind", kind, [unit["kind"] == kind for unit in units]) for kind in ("attention", "mlp")),
            *(("stream", stream, [unit["stream"] == stream for unit in units]) for stream in ("image", "text+image")),
            *(("token group", group, [True] * len(units)) for group in ("prompt", "padding", "noise")),
        ):
            for threshold in (3.0, 5.0):
                beyond = int((np.abs(t[members]) > threshold).sum()) // size
                entry = {"partition": partition, "by": by, "value": value, "threshold": threshold}
                entries.append(entry | {"observed": beyond, "units": sum(members) // size})
    return entries


def make_controls(hypothesis: dict, failed: str = "", not_evaluated: str = "") -> list[dict]:
    """All seven controls of an evaluated hypothesis, passed but for those named."""
    counts = hypothesis["counts"]
    adjusted = [
        entry
        | {"converted": entry["threshold"] + 0.06, "p99": entry["p99"] // 4}
        | {"required": entry["p99"] // 4 * 1.5, "holds": True}
        for entry in compared(counts, 2)
    ]
    regression = {"adjusted": adjusted, "df": 23, "intercept_left": 0.8}
    top = [unit for unit in make_units("small") if unit["kind"] == "mlp"][:12]
    evidence = {
        "familywise": {
            "alpha": 0.05,
            "critical_t": 4.87,
            "n_units": 31,
            "units": [
                {"unit": n, **unit, "t": 8.1 - 0.2 * n, "p_adjusted": 0.001 * (n + 1)} for n, unit in enumerate(top)
            ],
        },
        "placebo": {
            "alpha": 0.05,
            "band": [0.8, 1.25],
            "distance_of": "image latents",
            "concept_distance": 0.12,
            "sets": [
                placebo_set(counts, "brightness", 3, amount=0.07, ratio=0.98),
                placebo_set(counts, "position", 2, amount=0.11, ratio=1.19)
                | {"beaten": failed != "placebo", "regularity": [0.81, 0.84]},
                placebo_set(counts, "other image seed", 6) | {"is_zero": True, "matched": None},
                {"name": "another event", "counts": None, "reason": "no pair of it is left"},
            ],
        },
        "untrained": {
            "alpha": 0.05,
            "kinds": [
                {
                    "kind": kind,
                    "p": None if not_evaluated == "untrained" else p,
                    "twins": [twin(counts, seed) for seed in range(3)],
                }
                for kind, p in (("re-initialised", 0.01), ("shuffled", 0.03))
            ],
        },
        "input": {
            "inputs": [{"name": "text embeddings", "width": 4, "n_groups": 48, "counts": compared(counts, 4)}],
            "component_share": 0.4,
            "correlation": {"median_abs": 0.2, "max_abs": 0.7},
        }
        | regression,
        "confounds": {
            "confounds": [
                {"name": "mean luminance", "mean": -0.0123, "sd": 0.041, "t": -1.5, "p": 0.14, "used": True},
                {"name": "prompt tokens", "mean": 0.0, "sd": 0.0, "t": None, "p": None, "used": False},
            ]
        }
        | regression,
        "replication": REPLICATION,
        "held_out": HELD_OUT,
    }
    own, left = counts[0]["observed"], f"{adjusted[0]['observed']} units"
    decided = {
        "familywise": ("31 units", 0.001),
        "placebo": (f"{own} − {own // 2} units", 0.002),
        "untrained": (f"{own} / {own // 3} units", 0.03),
        "input": (left, 0.004),
        "confounds": (left, 0.004),
        "replication": ("4 of 4 checks", 0.002),
        "held_out": ("mean t 2.34", 0.004),
    }
    controls = []
    for name, (number, p) in decided.items():
        control = {"id": name, "test": f"probes/test_{hypothesis['id']}.py::test_control[{name}]"}
        control |= {"verdict": "passed", "number": number, "p": p, "reason": f"{number} decide it, p = {p}"}
        if name == failed:
            control |= {"verdict": "failed", "p": 0.62, "recorded": "failed"}
        if name == not_evaluated:
            control |= {"verdict": "not evaluated", "number": "", "p": None, "reason": "three of each are needed"}
        controls.append({"recorded": None} | control | {"evidence": evidence[name]})
    return controls


def placebo_set(counts: list[dict], name: str, divisor: int, amount=None, ratio=None) -> dict:
    """A placebo set whose counts are the concept's, made smaller."""
    pairs = [(entry["threshold"], entry["observed"], entry["observed"] // divisor) for entry in counts]
    return {
        "name": name,
        "amount": amount,
        "n_pairs": 25,
        "distance": None if ratio is None else 0.12 * ratio,
        "ratio": ratio,
        "is_zero": False,
        "regularity": None,
        "matched": True,
        "required": 2.4 * max(pairs[0][2], 1),
        "beaten": True,
        "counts": [
            {"threshold": threshold, "concept": a, "placebo": b, "difference": a - b, "p": 0.002}
            for threshold, a, b in pairs
        ],
        "reason": None,
    }


def twin(counts: list[dict], seed: int) -> dict:
    """An untrained twin; the last one could not be measured."""
    if seed == 2:
        return {"seed": seed, "counts": None, "reason": "no memory for a twin"}
    return {"seed": seed, "counts": compared(counts, 3 + seed), "reason": None}


def make_claim(name: str, count: dict, margin: float) -> dict:
    """The exceedance claim that a count supports or refutes."""
    threshold, null, observed = count["threshold"], count["null"], count["observed"]
    required = margin * max(null["p99"], 1)
    return {
        "id": f"count_t{threshold:g}",
        "test": f"probes/test_{name}.py::test_count[t{threshold:g}]",
        "kind": "exceedance",
        "sentence": f"More units than chance differ with |t| > {threshold:g} ({name.replace('_', ' ')}).",
        "threshold": threshold,
        "observed": observed,
        "required": required,
        "null": null,
        "p": count["p"],
        "ratio": observed / max(null["p99"], 1),
        "margin": margin,
        "verdict": "supported" if observed >= required else "refuted",
        "reason": f"{observed} units, at least {required:g} required",
        "recorded": None,
    }


def make_count(t, null_t, threshold) -> dict:
    """Exceedances of one threshold and their null."""
    beyond, null = np.abs(t) > threshold, (null_t > threshold).sum(axis=1)
    values, flips = np.unique(null, return_counts=True)
    return {
        "threshold": threshold,
        "observed": int(beyond.sum()),
        "positive": int((t > threshold).sum()),
        "negative": int((t < -threshold).sum()),
        "p": float((null >= beyond.sum()).mean()),
        "null": {
            "method": "monte-carlo",
            "flips": len(null),
            "seed": 0,
            "mean": float(null.mean()),
            "p99": float(np.quantile(null, 0.99, method="higher")),
            "max": int(null.max()),
            "counts": values.tolist(),
            "count_flips": flips.tolist(),
        },
    }


def differences(rng, units, n_pairs, strength) -> np.ndarray:
    """Correlated differences, shape (n_pairs, n_units), with an effect that grows with depth; one constant unit."""
    depth = np.linspace(0.2, 1.0, len(units))
    shared = rng.normal(size=(n_pairs, 12)) @ rng.normal(size=(12, len(units)))
    d = rng.normal(size=(n_pairs, len(units))) + 0.25 * shared + strength * depth * rng.normal(size=len(units))
    d[:, 3] = 0.5
    return d


def t_values(d: np.ndarray) -> np.ndarray:
    """t per unit; NaN where the differences do not vary."""
    sd = d.std(axis=0, ddof=1)
    return np.where(sd > 0, d.mean(axis=0) / np.where(sd > 0, sd, 1) * np.sqrt(len(d)), np.nan)


def flipped_t(d: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """t of every sign flip, shape (n_flips, n_units); zero for a constant unit."""
    n = len(d)
    mean = signs @ d / n
    variance = ((d**2).sum(axis=0) - n * mean**2) / (n - 1)
    return np.where(variance > 1e-9, mean / np.sqrt(np.maximum(variance, 1e-9) / n), 0.0)


def split_halves(rng, d: np.ndarray, halves: int = 100) -> np.ndarray:
    """Correlation of the two halves' t vectors, per random split."""
    r = []
    for _ in range(halves):
        order = rng.permutation(len(d))
        pair = [t_values(d[part]) for part in np.array_split(order, 2)]
        defined = ~np.isnan(pair).any(axis=0)
        r.append(np.corrcoef(pair[0][defined], pair[1][defined])[0, 1])
    return np.array(r)


def write_units(file: Path, units, d, t, rng) -> None:
    """The per-unit table."""
    change = 2 * d.mean(axis=0)
    with gzip.open(file, "wt", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        names = ("t", "cohens_d", "mean_difference", "relative_change", "ci_low", "ci_high", "p_adjusted")
        writer.writerow(["unit", "name", *units[0], *names])
        for index, unit in enumerate(units):
            value = "" if np.isnan(t[index]) else f"{t[index]:.6g}"
            adjusted = max(0.001, min(1.0, 40 * float(np.exp(-abs(np.nan_to_num(t[index]))))))
            size = t[index] / np.sqrt(len(d))
            numbers = (size, d[:, index].mean(), change[index], change[index] - 0.8, change[index] + 0.8, adjusted)
            name = f"{unit['site']}[{unit['start']}:{unit['stop']}]"
            cells = ("" if np.isnan(number) else f"{number:.6g}" for number in numbers)
            writer.writerow([index, name, *unit.values(), value, *cells])


def make_stimuli(folder: Path, name: str, presentation: str, n_pairs: int, side: int) -> dict:
    """Stimuli record; draws the pictures it names."""
    rng = np.random.default_rng(7)
    pairs = []
    for index in range(n_pairs):
        pair = {"id": f"event {index:02d}", "category": ("glass", "food", "paper")[index % 3], "template": "noun"}
        for letter, prompt in zip("ab", PROMPTS, strict=True):
            image = None
            if presentation == "image_pairs":
                image, prompt = f"images/{name}/{index:02d} {letter}.png", None
                draw_picture(folder / image, rng, side, broken=letter == "a", hue=index)
            pair[letter] = {"prompt": prompt, "image": image, "sha256": "0" * 64, "seed": index}
        pairs.append(pair)
    reference = None
    if presentation == "reference_prompt_pairs":
        reference = {"image": f"images/{name}/reference.png", "sha256": "0" * 64}
        draw_picture(folder / reference["image"], rng, side, broken=False, hue=3)
    record = {"file": f"stimuli/{name}.toml", "sha256": "0" * 64, "reference": reference, "pairs": pairs}
    return record | {"check": CHECK}


def draw_picture(file: Path, rng, side: int, broken: bool, hue: int) -> None:
    """A shape, whole or in pieces, on a grainy gradient: about as hard to compress as a photograph."""
    file.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:side, 0:side] / side
    base = np.stack([90 + 90 * x + 9 * hue % 60, 120 + 60 * y, 150 - 70 * x * y + 5 * hue % 40], axis=-1)
    picture = Image.fromarray(np.clip(base + rng.normal(0, 9, base.shape), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for piece in range(7 if broken else 1):
        size, cx, cy = (0.09, *rng.uniform(0.2, 0.8, 2)) if broken else (0.28, 0.5, 0.5)
        box = [side * (cx - size), side * (cy - size), side * (cx + size), side * (cy + size)]
        draw.ellipse(box, fill=(200, 60 + 20 * piece, 50), outline=(60, 20, 20))
    picture.save(file, compress_level=1)


def klein(results, **model):
    """The same results, as if FLUX.2 Klein itself had been measured."""
    changed = copy.deepcopy(results)
    repository = ALIASES["klein"]
    changed["model"] |= {"label": None, "name": repository, "source": repository, "revision": "a" * 40} | model
    return changed
