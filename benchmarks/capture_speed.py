"""Capture against its floor and against the published way, on one model, in one run.

    python -m benchmarks.capture_speed [--model klein-tiny] [--stimuli 40] [--rounds 5]

Prints seconds per stimulus (median of the rounds, taken in turn) and ratios. Nothing is asserted.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fixtures.activations.capture import capture
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.models.family import TokenRows
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings

PROMPT = "Describe what is depicted in this image."


def measure(model: Model, stimuli: list[Stimulus], rounds: int) -> dict[str, float]:
    """Median seconds per stimulus of each way."""
    ways = {
        "bare transformer forward": lambda: bare_forward(model, stimuli),
        "capture": lambda: capture(model.loaded, model.sites, stimuli, model.protocol),
        "hooked pipeline calls": lambda: pipeline_calls(model, stimuli),
    }
    seconds = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - started) / len(stimuli))
    return {name: statistics.median(values) for name, values in seconds.items()}


@torch.inference_mode()
def bare_forward(model: Model, stimuli: list[Stimulus]) -> None:
    """As many forward passes as capture makes, on ready inputs, without hooks, encoders or transfers."""
    inputs = bare_inputs(model, True)
    for _ in range(-(-len(stimuli) // model.protocol.batch_size)):
        model.pipeline.transformer(**inputs)


def bare_inputs(model: Model, reference: bool) -> dict:
    """Arguments of one forward pass of a full batch, with or without reference tokens."""
    return given(model, reference)[0]


@torch.inference_mode()
def given(model: Model, reference: bool) -> tuple[dict, TokenRows]:
    """Arguments of one forward pass of a full batch as capture gives them, with or without reference tokens, and the
    rows of its streams."""
    loaded, protocol = model.loaded, model.protocol
    (text,) = encode_prompts(loaded, [PROMPT], protocol).values()
    loaded.ready("transformer")
    references = None
    if reference:
        image = Image.fromarray(np.zeros((protocol.resolution, protocol.resolution, 3), dtype=np.uint8))
        references = loaded.family.latents(loaded.pipeline, loaded.family.pixels(loaded.pipeline, image))
        references = [tuple(part.to(text.device) for part in references[0])] * protocol.batch_size
    passes = loaded.family.passes(loaded.pipeline, protocol)
    return passes.inputs([text] * protocol.batch_size, references)


def pipeline_calls(model: Model, stimuli: list[Stimulus]) -> None:
    """The published way: one pipeline call per stimulus, hooks that take the pooled RMS."""
    seen = []
    handles = [
        model.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(
            lambda module, arguments: seen.append(
                arguments[0].float().unflatten(-1, (-1, 16)).square().mean(dim=(0, 1, 3)).sqrt().cpu()
            )
        )
        for site in model.sites
    ]
    for stimulus in stimuli:
        model.pipeline(
            image=Image.open(stimulus.image),
            prompt=stimulus.prompt,
            num_inference_steps=1,
            guidance_scale=1.0,
            max_sequence_length=model.protocol.text_length,
            generator=torch.Generator().manual_seed(0),
        )
    for handle in handles:
        handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="klein-tiny")
    parser.add_argument("--stimuli", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    model = Model(resolve_settings({"model": arguments.model}, {}, Path.cwd()))
    side = model.protocol.resolution
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        stimuli = []
        for number in range(arguments.stimuli):
            path = Path(folder, f"{number}.png")
            Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
            stimuli.append(Stimulus(str(number), PROMPT, path))
        seconds = measure(model, stimuli, arguments.rounds)
    floor, ours = seconds["bare transformer forward"], seconds["capture"]
    print(f"{model.source.name} on {model.device_name}, {model.protocol.dtype}, {side} x {side}, image pairs")
    for name, value in seconds.items():
        print(f"  {name:26} {1000 * value:9.2f} ms a stimulus  {value / floor:6.2f} x bare forward")
    print(f"  hooked pipeline calls over capture: {seconds['hooked pipeline calls'] / ours:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": model.source.name, "seconds_per_stimulus": seconds}, indent=1))


if __name__ == "__main__":
    main()
