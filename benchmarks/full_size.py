"""What a run costs at the full geometry of a model, on one GPU, as ratios within one run.

    python -m fixtures.models.flux2_klein.fullsize DIR
    python -m benchmarks.full_size DIR [--json FILE] [--images 8] [--no-runs] [--no-compile]

DIR is a checkpoint of full size; its weights may be random. Prints seconds per stimulus (median of the rounds), each
ratio beside its target, the floor (operations over the measured rate of bfloat16 matrix products), the exact null,
whether captures repeat bit by bit, and how far batches of other sizes are from them. Nothing is asserted. Calls of the
pipeline are measured where they take guidance and an image, as Klein's do; whole runs are Klein's. A small checkpoint
on a CPU shows that it works.
"""

import argparse
import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import start_to_report
from benchmarks.capture_speed import PROMPT, bare_inputs, given, pipeline_calls
from benchmarks.pictures import pictures
from fixtures.activations.activations import Activations, pooled_rms
from fixtures.activations.capture import capture
from fixtures.activations.image_manifest import ImageRequest
from fixtures.activations.images import generate
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.activations.references import encode_images
from fixtures.common.environment import environment
from fixtures.models.hooks.compiled import compile_blocks
from fixtures.models.hooks.recorder import SiteRecorder
from fixtures.models.hooks.reduction import Reduction
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.statistics.sign_flips import sign_flip_null

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Until a GPU has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(way: Callable[[], object], rounds: int = 3) -> float:
    """Median seconds of ``way`` after one call to warm up."""
    found = []
    for _ in range(rounds + 1):
        wait()
        started = time.perf_counter()
        way()
        wait()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def timed(way: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def matrix_rate(size: int = 8192) -> float:
    """Operations a second of a bfloat16 matrix product on random data."""
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    return 2 * size**3 * 20 / seconds(lambda: [a @ b for _ in range(20)])


@torch.inference_mode()
def forward_operations(model: Model, reference: bool) -> float:
    """Operations of one bare forward pass of one stimulus, by PyTorch's counter: matrix products and attention. In
    joint blocks each stream has weights of its own, which its own tokens alone meet."""
    inputs = bare_inputs(model, reference)
    with FlopCounterMode(display=False) as counted:
        model.pipeline.transformer(**inputs)
    return counted.get_total_flops() / len(inputs["hidden_states"])


@torch.inference_mode()
def measure(model: Model, folder: Path, n_stimuli: int, n_images: int) -> dict[str, float]:
    """Seconds per stimulus (or image) of everything in the table."""
    loaded, protocol, transformer = model.loaded, model.protocol, model.loaded.transformer
    size = protocol.batch_size
    shown, told = stimuli(folder, n_stimuli, protocol)
    found = {}
    for name in ("image", "prompt"):
        inputs = bare_inputs(model, name == "image")
        found[f"bare forward, {name} pairs"] = seconds(lambda inputs=inputs: transformer(**inputs), 6) / size
    inputs, rows = given(model, True)

    def hooked():
        with SiteRecorder(transformer, model.sites, Reduction(rows, [30] * size, transformer.device)) as recorder:
            transformer(**inputs)
            recorder.collect().cpu()

    found["hooked forward, image pairs"] = seconds(hooked, 6) / size
    pixels = torch.rand(size, 3, protocol.resolution, protocol.resolution) * 2 - 1
    found["VAE encode"] = seconds(lambda: loaded.family.latents(loaded.pipeline, pixels), 6) / size
    keys = [stimulus.reference for stimulus in shown]
    found["VAE encode, reading the images"] = seconds(lambda: encode_images(loaded, keys, protocol)) / n_stimuli

    def text():
        loaded.text_embeddings.clear()
        encode_prompts(loaded, [stimulus.prompt for stimulus in told], protocol)

    found["text encode"] = seconds(text) / n_stimuli
    found |= captures(model, shown, told)
    if takes_calls(model):
        found["hooked pipeline calls"] = seconds(lambda: pipeline_calls(model, shown[:8]), 2) / 8
    if n_images:
        found |= generation(model, n_images)
    return found


def takes_calls(model: Model) -> bool:
    """Whether a call of the pipeline takes what Klein's does."""
    return {"image", "guidance_scale"} <= set(inspect.signature(type(model.pipeline).__call__).parameters)


def stimuli(folder: Path, count: int, protocol) -> tuple[list[Stimulus], list[Stimulus]]:
    """As many with images and one prompt as without images and with prompts of their own."""
    shown = [Stimulus(str(number), PROMPT, path) for number, path in enumerate(pictures(folder, count, protocol))]
    return shown, [Stimulus(str(number), f"{PROMPT} Number {number}.") for number in range(count)]


def captures(model: Model, shown: list[Stimulus], told: list[Stimulus], way: str = "") -> dict[str, float]:
    """Seconds per stimulus of capture, from files and texts to numbers on the CPU."""

    def captured(chosen: list[Stimulus]) -> None:
        model.loaded.text_embeddings.clear()  # each capture encodes its prompts
        capture(model.loaded, model.sites, chosen, model.protocol)

    return {
        f"{way}capture, {name} pairs": seconds(lambda chosen=chosen: captured(chosen)) / len(chosen)
        for name, chosen in (("image", shown), ("prompt", told))
    }


def repeats(model: Model, folder: Path) -> dict:
    """Whether two captures are equal bit by bit, and the largest relative difference of a pooled RMS when batches have
    another size: the noise of the arithmetic."""
    sizes = sorted({1, 2, model.protocol.batch_size} - {model.protocol.batch_size})
    first = few(model, folder)
    found = {"equal": np.array_equal(first.mean_square, few(model, folder).mean_square)}
    for size in sizes:
        found[f"batches of {size}"] = distance(model, few(model, folder, batch_size=size), first)
    return found


def few(model: Model, folder: Path, **changes) -> Activations:
    """Activations of ten stimuli under a changed protocol."""
    shown, told = stimuli(folder, 10, model.protocol)
    mixed = [replace(own, image=other.image) for own, other in zip(told, shown, strict=True)]
    return capture(model.loaded, model.sites, mixed, replace(model.protocol, **changes))


def distance(model: Model, found: Activations, expected: Activations) -> dict[str, float]:
    """Median and largest relative difference of a pooled RMS."""
    own, rms = (pooled_rms(activations, model.groups) for activations in (found, expected))
    relative = np.abs(own - rms) / np.maximum(rms, 1e-30)
    return {"median": float(np.median(relative)), "largest": float(relative.max())}


@torch.inference_mode()
def compiled(model: Model, folder: Path, n_stimuli: int) -> tuple[dict[str, float], dict]:
    """Seconds as in `measure` with compiled blocks, and what `repeats` says of them. The model stays compiled."""
    transformer, size, found = model.pipeline.transformer, model.protocol.batch_size, {}
    plain = few(model, folder)
    compile_blocks(model.source.family, transformer)
    for name in ("image", "prompt"):
        inputs = bare_inputs(model, name == "image")
        found[f"compilation, {name} pairs (in all)"] = timed(lambda inputs=inputs: transformer(**inputs))
        found[f"compiled forward, {name} pairs"] = seconds(lambda inputs=inputs: transformer(**inputs), 6) / size
    found |= captures(model, *stimuli(folder, n_stimuli, model.protocol), "compiled ")
    first = few(model, folder)
    again = np.array_equal(first.mean_square, few(model, folder).mean_square)
    return found, {"compiled: equal": again, "compiled against not compiled": distance(model, first, plain)}


def null_rows(n_units: int) -> dict[str, float]:
    """Seconds of the exact null with max |t| on the GPU, after one call to compile, and whether the CPU agrees."""
    from benchmarks.null_gpu import FACTORS, compared_nulls, correlated_data  # needs triton

    found = {}
    for pairs in (25, 30):
        data = correlated_data(pairs, n_units, 0, FACTORS["correlated"])
        sign_flip_null(data, (3.0, 5.0), device="cuda")
        started = time.perf_counter()
        null = sign_flip_null(data, (3.0, 5.0), device="cuda")
        found[f"exact null, {pairs} pairs"] = time.perf_counter() - started
        if pairs == 25:
            found["the CPU's null"] = compared_nulls(null, sign_flip_null(data, (3.0, 5.0)))["equal"]
    return found


def generation(model: Model, n_images: int) -> dict[str, float]:
    """Seconds per generated image: ours, and the pipeline's own calls with several batch sizes."""
    print(f"generating {n_images} images a way", flush=True)
    protocol, pipeline = model.protocol, model.pipeline
    prompts = [f"a picture of thing number {number}" for number in range(n_images)]
    requests = [ImageRequest(str(number), prompt, number) for number, prompt in enumerate(prompts)]

    def ours():
        texts = encode_prompts(model.loaded, [*prompts, ""], protocol)
        generate(lambda: model.loaded, requests, texts, protocol, lambda batch, encoded, compiled: None, n_images)

    def theirs(size: int):
        for start in range(0, n_images, size):
            pipeline(
                prompt=prompts[start : start + size],
                height=protocol.resolution,
                width=protocol.resolution,
                num_inference_steps=protocol.generation_steps,
                guidance_scale=protocol.generation_guidance,
            )

    found = {"generation": timed(ours) / n_images}
    for size in (
        (4, 8) if takes_calls(model) else ()
    ):  # larger batches than 4 gain nothing on an H100, smaller ones lose 3 to 5 %
        if n_images % size == 0:
            found[f"pipeline generation, batches of {size}"] = timed(lambda size=size: theirs(size)) / n_images
    return found


def ratios(found: dict[str, float]) -> list[tuple[str, float, str]]:
    """(what, ratio, target), of what was measured."""
    image, prompt = ("bare forward, image pairs", "VAE encode"), ("bare forward, prompt pairs",)
    both = ("compiled forward, prompt pairs",)
    asked = [  # what, and seconds of this over the sum of those
        ("hooks over the bare forward", "hooked forward, image pairs", image[:1], "at most 1.03"),
        ("image-pair capture over bare forward + VAE encode", "capture, image pairs", image, "at most 1.05"),
        ("prompt-pair capture over the bare forward", "capture, prompt pairs", prompt, "at most 1.05"),
        ("hooked pipeline calls over capture", "hooked pipeline calls", ("capture, image pairs",), "at least 2"),
        ("image-pair capture, compiled, over the same", "compiled capture, image pairs", image, "at most 1.05"),
        ("prompt-pair capture, compiled", "compiled capture, prompt pairs", prompt, "at most 1.05"),
        ("prompt-pair capture, both compiled", "compiled capture, prompt pairs", both, "no target"),
    ]
    rows = [
        (what, found[name] / sum(found[part] for part in parts), target)
        for what, name, parts, target in asked
        if name in found
    ]
    best = [value for name, value in found.items() if name.startswith("pipeline generation")]
    if best:
        rows.append(("generation over the pipeline's best batch", found["generation"] / min(best), "at most 1.02"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a checkpoint of full size")
    parser.add_argument("--stimuli", type=int, default=48)
    parser.add_argument("--images", type=int, default=8, help="images to generate (0: none)")
    parser.add_argument("--no-runs", action="store_true", help="leave whole runs, from start to report, out")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled blocks out")
    parser.add_argument("--resolution", help="in pixels; the model's own otherwise")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    options = {"model": arguments.model, "resolution": arguments.resolution}
    model = Model(resolve_settings({name: value for name, value in options.items() if value}, {}, Path.cwd()))
    print(f"loaded in {timed(lambda: model.pipeline):.1f} s", flush=True)
    protocol, rate = model.protocol, matrix_rate()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {model.device_name}, {protocol.dtype}, {protocol.resolution} pixels")
    print(f"batches of {protocol.batch_size}; bfloat16 matrix products at {rate / 1e12:.0f} TFLOP/s")
    image, prompt = (forward_operations(model, reference) / rate for reference in (True, False))
    floors = {f"{way} forward, image pairs": image for way in ("bare", "compiled")}
    floors |= {f"{way} forward, prompt pairs": prompt for way in ("bare", "compiled")}

    def show(found: dict) -> dict:
        for name, value in found.items():
            least = floors.get(name)
            floor = f"  floor {1000 * least:8.2f} ms, {least / value:4.0%} of it reached" if least else ""
            figure = f"{1000 * value:9.2f} ms" if type(value) is float else value
            print(f"  {name:36} {figure}{floor}", flush=True)
        return found

    with tempfile.TemporaryDirectory() as folder:
        found = show(measure(model, Path(folder), arguments.stimuli, arguments.images))
        peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
        print(f"  peak device memory {peak / 2**30:.1f} GiB, {model.description['components']}", flush=True)
        again = show(repeats(model, Path(folder)))
        quick, more = ({}, {}) if arguments.no_compile else compiled(model, Path(folder), arguments.stimuli)
    found, again = found | show(quick), again | show(more)
    record = {"device": model.device_name, "rate": rate, "seconds": found, "ratios": ratios(found), **environment()}
    null = null_rows(len(model.groups.units)) if DEVICE == "cuda" else {}
    record |= {"peak_bytes": peak, "repeats": again, "null": show(null)}
    if not arguments.no_runs:
        torch.cuda.empty_cache()
        record["runs"] = start_to_report.measure(arguments.model)
        least = 50 * (found["bare forward, image pairs"] + found["VAE encode"] + found["bare forward, prompt pairs"])
        whole = record["runs"]["start to report"] / (record["runs"]["load in a process of its own"] + least)
        record["ratios"].append(("start to report over load + capture floor", whole, "at most 1.15"))
    for name, ratio, target in record["ratios"]:
        print(f"  {name:52} {ratio:6.3f}  ({target})")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
