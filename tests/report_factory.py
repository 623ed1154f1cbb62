"""Run folders for the report's tests: real records, varied.

``data/sample_run.json`` is the results.json of a run of klein-mini+arrow on the CPU, held against a baseline of
klein-mini: drawn image pairs (supported), prompts beside a reference image and prompts (refuted). A hypothesis that was
not evaluated, an ordering of klein-mini and a calibration stand beside them. The tables of units are the run's own.
"""

import copy
import csv
import gzip
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fixtures.claims.claims import Amplification, Effect
from fixtures.claims.ladder import CAUSAL, CONTROLS
from fixtures.claims.statement import statement
from fixtures.models.named import ALIASES
from fixtures.models.units import Site, channel_groups
from fixtures.report.claim import evidence, measured
from fixtures.results.entries import claim_record
from fixtures.results.schema import validate

DATA = Path(__file__).parent / "data"
IMAGES, REFERENCE, PROMPTS, MISSING, ORDERING = range(5)  # the hypotheses, by what they show
STATISTICS = (
    *("max_abs_t", "counts", "split_half_r", "max_t_null", "familywise", "discoveries"),
    *("shares", "relative_change", "blocks", "effect"),
)
KLEIN = tuple(
    [Site(f"transformer_blocks.{n}.attn.to_out.0", f"joint[{n}]", "image", 3072, 3072, 128) for n in range(5)]
    + [
        Site(f"single_transformer_blocks.{n}.attn.to_out", f"single[{n}]", "text+image", 12288, 3072, 128)
        for n in range(20)
    ]
)
THREE = "three of each are needed"
UNCHANGED = "rung 3: failed; `--controls causal` changes units all the same"
NOT_CLIMBED = "rung 1 does not hold; `--controls all` evaluates the others all the same"


def stored_run() -> dict:
    """The stored results.json."""
    return json.loads((DATA / "sample_run.json").read_text())


def evidence_html(hypothesis: dict, claim: dict, folder: Path, model: dict, command: str | None = None) -> str:
    """A claim's evidence and, behind it, what was measured of its hypothesis, as the page has them."""
    return evidence.evidence_html(hypothesis, claim, model, command) + measured.measured_html(hypothesis, folder, model)


def replication() -> dict:
    """Evidence of rung 7."""
    return _control(stored_run()["hypotheses"][IMAGES], "replication")["evidence"]


def held_out() -> dict:
    """Evidence of rung 8."""
    return _control(stored_run()["hypotheses"][IMAGES], "held_out")["evidence"]


def wording_check() -> dict:
    """What the checker found of the prompts."""
    return stored_run()["hypotheses"][PROMPTS]["stimuli"]["check"]


def make_results(folder: Path, side: int = 64, ordering: bool = False) -> dict:
    """Write a run folder with pictures of ``side`` pixels, and return its results: image pairs (claims supported, one
    control failed, one not evaluated, and the causal ones not climbed), prompts beside an image (refuted, inconclusive
    and supported claims), prompts (everything supported and passed), one that was not evaluated, and ``ordering`` says
    whether one that compares."""
    results = stored_run()
    hypotheses = results["hypotheses"]
    if not ordering:
        del hypotheses[ORDERING:]
    for entry in hypotheses[:MISSING]:
        _show(folder, entry["stimuli"], entry["id"], side)
        (folder / entry["units_file"]).write_bytes((DATA / entry["units_file"]).read_bytes())
    supported = hypotheses[IMAGES]
    hypotheses[PROMPTS] = supported_too(hypotheses[PROMPTS], supported)
    decide(_control(supported, "placebo"), "failed", p=0.62, recorded="failed")
    _control(supported, "placebo")["evidence"]["sets"][0]["beaten"] = False
    leave(supported, CAUSAL, UNCHANGED)
    decide(_control(supported, "untrained"), "not evaluated", number="", p=None, reason=THREE)
    _control(supported, "untrained")["evidence"]["amplification"] = None
    refuted = hypotheses[REFERENCE]
    refuted["effect"] |= {"absent_p": 0.4, "power": 0.95}
    decide(refuted["claims"][0], "refuted", recorded="refuted")
    decide(refuted["claims"][1], "inconclusive", reason="8 pairs are too few to decide")
    decide(refuted["claims"][2], "supported")
    del refuted["controls"][5:]
    for control in refuted["controls"]:
        decide(control, "passed")
    decide(refuted["controls"][0], "failed", p=0.62, recorded="failed")
    decide(refuted["controls"][4], "not evaluated", number="", p=None, reason=THREE)
    state(results)
    validate(json.loads(json.dumps(results)))
    (folder / "results.json").write_text(json.dumps(results))
    return results


def supported_too(entry: dict, like: dict) -> dict:
    """A hypothesis with its own stimuli and the statistics of another one, whose claims are supported; every control
    passed."""
    entry = entry | copy.deepcopy({name: like[name] for name in (*STATISTICS, "attention_heads")})
    entry["claims"] = copy.deepcopy(like["claims"]) + entry["claims"][2:]
    for claim in entry["claims"]:
        claim["test"] = f"probes/test_{entry['id']}.py::test_{claim['id']}"
    decide(entry["claims"][2], "supported", observed=0.6)
    entry["controls"] = copy.deepcopy(like["controls"])
    for control in entry["controls"]:
        control["test"] = f"probes/test_{entry['id']}.py::test_control[{control['id']}]"
        decide(control, "passed")
    _control(entry, "input")["evidence"]["inputs"][0]["name"] = "text embeddings"
    return entry


def decide(decided: dict, verdict: str, **figures) -> None:
    """Give a claim or control another verdict, and other figures."""
    decided |= {"verdict": verdict, **figures}


def claim_effects(entry: dict) -> list[dict]:
    """Add the claims of an effect and of its amplification to a hypothesis, judged on its own evidence."""
    entry["amplification"] = _control(entry, "untrained")["evidence"]["amplification"]
    made = [
        claim_record(f"probes/test_{entry['id']}.py::test_{claim.id}", claim, claim.judge(entry))
        for claim in (Effect(), Amplification())
    ]
    entry["claims"] += made
    return made


def leave_ladder(entry: dict) -> None:
    """No control of a hypothesis was climbed."""
    entry["controls"] = []
    leave(entry, CONTROLS, NOT_CLIMBED)


def leave(entry: dict, controls: Collection[str], reason: str) -> None:
    """These controls of a hypothesis, the last ones, were not climbed."""
    entry["controls"] = [control for control in entry["controls"] if control["id"] not in controls] + [
        {
            "id": name,
            "test": f"probes/test_{entry['id']}.py::test_control[{name}]",
            "verdict": "not climbed",
            "number": "",
            "reason": reason,
            "p": None,
            "evidence": {},
            "recorded": None,
        }
        for name in controls
    ]


def state(results: dict) -> None:
    """Say of every hypothesis what may be said of it now."""
    for entry in results["hypotheses"]:
        entry["statement"] = statement(entry)


def full_size(folder: Path) -> dict:
    """Image pairs with pictures of 160 pixels, beside published figures, in Klein's geometry: 16,320 units, each with
    the figures of a real one of its kind."""
    hypotheses = make_results(folder, side=160)["hypotheses"]
    entry, (head, *rows) = hypotheses[IMAGES], _table(folder / hypotheses[IMAGES]["units_file"])
    of_kind = {kind: [row for row in rows if kind in row] for kind in ("attention", "mlp")}
    units = channel_groups(KLEIN).units
    with gzip.open(folder / entry["units_file"], "wt", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        for number, unit in enumerate(units):
            figures = of_kind[unit.kind][number % len(of_kind[unit.kind])][head.index("t") :]
            writer.writerow([number, unit.name, *vars(unit).values(), *figures])
    blocks = [entry["blocks"][n % 8] | {"block": site.block, "n_units": site.n_groups} for n, site in enumerate(KLEIN)]
    return entry | {"n_units": len(units), "blocks": blocks, "published": hypotheses[PROMPTS]["published"]}


def _table(file: Path) -> list[list[str]]:
    with gzip.open(file, "rt", newline="") as stream:
        return list(csv.reader(stream))


def klein(results: dict, **model) -> dict:
    """The same results, as if FLUX.2 Klein itself had been measured."""
    changed, repository = copy.deepcopy(results), ALIASES["klein"]
    own = {"label": None, "name": repository, "source": repository, "revision": "a" * 40, "adapters": []}
    changed["model"] |= own | model
    return changed


def _control(entry: dict, name: str) -> dict:
    return next(control for control in entry["controls"] if control["id"] == name)


def _show(folder: Path, stimuli: dict, name: str, side: int) -> None:
    """Draw the pictures that stimuli name, inside the folder."""
    rng = np.random.default_rng(7)
    members = [(f"{n:02d} {letter}", pair[letter]) for n, pair in enumerate(stimuli["pairs"]) for letter in "ab"]
    for hue, (picture, member) in enumerate([*members, ("reference", stimuli["reference"] or {})]):
        if member.get("image"):
            member["image"] = f"images/{name}/{picture}.png"
            _draw(folder / member["image"], rng, side, hue)


def _draw(file: Path, rng: np.random.Generator, side: int, hue: int) -> None:
    """A disc on a grainy gradient: about as hard to compress as a photograph."""
    file.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:side, 0:side] / side
    base = np.stack([90 + 90 * x + hue % 60, 120 + 60 * y, 150 - 70 * x * y + hue % 40], axis=-1)
    picture = Image.fromarray(np.clip(base + rng.normal(0, 9, base.shape), 0, 255).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse([side / 4, side / 4, side / 2, side / 2], fill=(200, 60, 50))
    picture.save(file, compress_level=1)
