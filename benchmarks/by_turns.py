"""Device memory that capture and generation take when text encoder and transformer take turns.

    python -m benchmarks.by_turns DIR

DIR is a checkpoint of full size. Prints the peak of each stage.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.full_size import PROMPT, pictures
from fixtures.activations.capture import capture
from fixtures.activations.image_manifest import ImageRequest
from fixtures.activations.images import _generate
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings


def stage(name: str, way) -> None:
    """Run ``way`` and print its seconds and its peak of device memory."""
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    way()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"  {name:24} {time.perf_counter() - started:7.2f} s  peak {peak:5.2f} GiB", flush=True)


def main() -> None:
    model = Model(resolve_settings({"model": sys.argv[1], "memory": "turns"}, {}, Path.cwd()))
    protocol = model.protocol
    with tempfile.TemporaryDirectory() as folder:
        files = pictures(Path(folder), 8, protocol)
        stimuli = [Stimulus(str(number), f"{PROMPT} {number}", file) for number, file in enumerate(files)]
        stage("load and validate", lambda: model.loaded)
        stage("text encoder's turn", lambda: model.loaded.ready("text_encoder"))
        stage("transformer's turn", lambda: model.loaded.ready("transformer"))
        stage("capture, 8 images", lambda: capture(model.loaded, model.sites, stimuli, protocol))
        texts = encode_prompts(model.loaded, ["a glass", ""], protocol)
        request = [ImageRequest("one", "a glass", 0)]
        stage("generation, one batch", lambda: _generate(model.loaded, request, texts, protocol))


if __name__ == "__main__":
    main()
