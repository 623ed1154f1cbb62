"""What capture costs at Klein's full geometry, on one GPU, as ratios within one run.

    python -m fixtures.fullsize DIR
    python -m benchmarks.full_size DIR [--json FILE] [--images 8]

DIR is a checkpoint of full size; its weights may be random. Prints seconds per stimulus (median of the rounds), each
ratio beside its target, and the floor: operations over the measured rate of bfloat16 matrix products. Nothing is
asserted.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.capture_speed import bare_inputs, pipeline_calls
from fixtures.capture import Stimulus, capture, encode_images, encode_prompts
from fixtures.environment import environment
from fixtures.images import _Request, generate
from fixtures.model import Model
from fixtures.recorder import SiteRecorder
from fixtures.reduction import TokenLayout, reduction
from fixtures.settings import resolve_settings

PROMPT = "Describe what is depicted in this image."


def seconds(way: Callable[[], object], rounds: int = 3) -> float:
    """Median seconds of ``way`` after one call to warm up."""
    found = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        way()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def timed(way: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def matrix_rate(size: int = 8192) -> float:
    """Operations a second of a bfloat16 matrix product on random data."""
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    return 2 * size**3 * 20 / seconds(lambda: [a @ b for _ in range(20)])


def forward_operations(transformer, tokens: int) -> float:
    """Operations of one forward pass of one stimulus: two a weight and token, and attention."""
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    blocks = config.num_layers + config.num_single_layers
    weights = sum(parameter.numel() for parameter in transformer.parameters())
    return 2 * weights * tokens + 4 * blocks * tokens**2 * width


@torch.inference_mode()
def measure(model: Model, folder: Path, n_stimuli: int, n_images: int) -> dict[str, float]:
    """Seconds per stimulus (or image) of everything in the table."""
    pipeline, protocol, transformer = model.pipeline, model.protocol, model.pipeline.transformer
    size = protocol.batch_size
    shown = [Stimulus(str(number), PROMPT, path) for number, path in enumerate(pictures(folder, n_stimuli, protocol))]
    told = [Stimulus(str(number), f"{PROMPT} Number {number}.") for number in range(n_stimuli)]
    found = {}
    for name, reference in (("image", True), ("prompt", False)):
        inputs = bare_inputs(model, reference)
        found[f"bare forward, {name} pairs"] = seconds(lambda inputs=inputs: transformer(**inputs), 6) / size
    inputs = bare_inputs(model, True)
    noise = inputs["hidden_states"].shape[1] // 2
    layout = TokenLayout(protocol.text_length, noise, noise)

    def hooked():
        with SiteRecorder(transformer, model.sites, reduction(layout, [30] * size, transformer.device)) as recorder:
            transformer(**inputs)
            recorder.collect().cpu()

    found["hooked forward, image pairs"] = seconds(hooked, 6) / size
    keys = [stimulus.reference for stimulus in shown]
    found["VAE encode"] = seconds(lambda: encode_images(pipeline, keys, protocol)) / n_stimuli
    prompts = [stimulus.prompt for stimulus in told]
    found["text encode"] = seconds(lambda: encode_prompts(pipeline, prompts, protocol)) / n_stimuli
    for name, stimuli in (("image", shown), ("prompt", told)):
        way = lambda stimuli=stimuli: capture(pipeline, model.sites, stimuli, protocol)  # noqa: E731
        found[f"capture, {name} pairs"] = seconds(way) / n_stimuli
    found["hooked pipeline calls"] = seconds(lambda: pipeline_calls(model, shown[:8]), 2) / 8
    if n_images:
        found |= generation(model, n_images)
    return found


def generation(model: Model, n_images: int) -> dict[str, float]:
    """Seconds per generated image: ours, and the pipeline's own calls with several batch sizes."""
    print(f"generating {n_images} images a way", flush=True)
    protocol, pipeline = model.protocol, model.pipeline
    prompts = [f"a picture of thing number {number}" for number in range(n_images)]
    requests = [_Request(str(number), prompt, number) for number, prompt in enumerate(prompts)]

    def ours():
        texts = encode_prompts(pipeline, [*prompts, ""], protocol)
        generate(lambda: pipeline, requests, texts, protocol, lambda batch, encoded: None)

    def theirs(size: int):
        for start in range(0, n_images, size):
            pipeline(
                prompt=prompts[start : start + size],
                height=protocol.resolution,
                width=protocol.resolution,
                num_inference_steps=protocol.generation_steps,
                guidance_scale=protocol.generation_guidance,
            )

    found = {"generation": seconds(ours, 1) / n_images}
    for size in (1, 2, 4, 8):
        if size <= n_images:
            found[f"pipeline generation, batches of {size}"] = seconds(lambda size=size: theirs(size), 1) / n_images
    return found


def pictures(folder: Path, count: int, protocol) -> list[Path]:
    """Smooth random pictures as PNG files."""
    generator, files = np.random.default_rng(0), []
    for number in range(count):
        small = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        files.append(folder / f"{number}.png")
        small.resize((protocol.resolution, protocol.resolution), Image.Resampling.BICUBIC).save(files[-1])
    return files


def ratios(found: dict[str, float]) -> list[tuple[str, float, str]]:
    """(what, ratio, target)."""
    image, prompt = found["bare forward, image pairs"], found["bare forward, prompt pairs"]
    rows = [
        ("hooks over the bare forward", found["hooked forward, image pairs"] / image, "at most 1.03"),
        (
            "image-pair capture over bare forward + VAE encode",
            found["capture, image pairs"] / (image + found["VAE encode"]),
            "at most 1.05",
        ),
        ("prompt-pair capture over the bare forward", found["capture, prompt pairs"] / prompt, "at most 1.05"),
        (
            "hooked pipeline calls over capture",
            found["hooked pipeline calls"] / found["capture, image pairs"],
            "at least 2",
        ),
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
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    model = Model(resolve_settings({"model": arguments.model}, {}, Path.cwd()))
    print(f"loaded in {timed(lambda: model.pipeline):.1f} s", flush=True)
    rate = matrix_rate()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(model, Path(folder), arguments.stimuli, arguments.images)
    protocol = model.protocol
    tokens = (protocol.resolution // 16) ** 2
    floors = {
        "bare forward, image pairs": forward_operations(model.pipeline.transformer, protocol.text_length + 2 * tokens),
        "bare forward, prompt pairs": forward_operations(model.pipeline.transformer, protocol.text_length + tokens),
    }
    print(f"{datetime.now(UTC):%Y-%m-%d}, {model.device_name}, {protocol.dtype}, {protocol.resolution} pixels")
    print(f"batches of {protocol.batch_size}; bfloat16 matrix products at {rate / 1e12:.0f} TFLOP/s")
    for name, value in found.items():
        least = floors.get(name, 0) / rate
        floor = f"  floor {1000 * least:8.2f} ms, {least / value:4.0%} of it reached" if least else ""
        print(f"  {name:36} {1000 * value:9.2f} ms{floor}")
    for name, ratio, target in ratios(found):
        print(f"  {name:52} {ratio:6.3f}  ({target})")
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"  peak device memory {peak:.1f} GiB, components {model.description['components']}")
    if arguments.json:
        record = {"device": model.device_name, "rate": rate, "seconds": found, "ratios": ratios(found), **environment()}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
