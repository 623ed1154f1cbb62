"""Do compiled blocks repeat their bits, how far are they from plain ones, and what does that cost?

    python -m benchmarks.compiled_blocks

One joint and three single blocks of Klein's full width with random weights (on a CPU a twelfth) are compiled twice
without a common cache, with the suite's settings, and once with the compiler's own. Prints times, distances to plain
blocks, and whether the first two gave equal bits.
"""

import time

import numpy as np
import torch
from diffusers import Flux2Transformer2DModel
from torch._inductor.utils import fresh_cache

from fixtures.models.flux2_klein.family import Flux2Klein
from fixtures.models.flux2_klein.fullsize import TRANSFORMER
from fixtures.models.flux2_klein.tokens import TokenLayout
from fixtures.models.hooks.compiled import compile_blocks, recorder_of
from fixtures.models.hooks.reduction import Reduction
from fixtures.models.twins import initialised

TEXT, PROMPT, ROUNDS = 512, 30, 5
FAMILY = Flux2Klein()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIDE, BATCH, HEADS = (64, 5, 24) if DEVICE == "cuda" else (4, 1, 2)


def forward_inputs() -> dict:
    """Random inputs of a forward pass with as many reference tokens as noise tokens."""
    generator = torch.Generator(DEVICE).manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(BATCH, *shape, device=DEVICE, dtype=torch.bfloat16, generator=generator)

    place = torch.cartesian_prod(torch.arange(1), torch.arange(SIDE), torch.arange(SIDE), torch.arange(1))
    text_ids = torch.zeros(TEXT, 4, dtype=torch.long)
    text_ids[:, 3] = torch.arange(TEXT)
    return {
        "hidden_states": random(2 * SIDE**2, TRANSFORMER["in_channels"]),
        "encoder_hidden_states": random(TEXT, TRANSFORMER["joint_attention_dim"]),
        "timestep": torch.ones(BATCH, device=DEVICE, dtype=torch.bfloat16),
        "img_ids": torch.cat([place, place + torch.tensor([10, 0, 0, 0])]).to(DEVICE),
        "txt_ids": text_ids.to(DEVICE),
        "return_dict": False,
    }


@torch.inference_mode()
def recorded(transformer, inputs: dict) -> tuple[np.ndarray, float]:
    """RMS of all units, and milliseconds a stimulus, after one call to warm up."""
    layout = TokenLayout(TEXT, (SIDE, SIDE), SIDE**2)
    with recorder_of(FAMILY, transformer, FAMILY.find_sites(transformer)) as recorder:
        recorder.reduce = Reduction(layout, [PROMPT] * BATCH, DEVICE)
        found = recorder.forward(**inputs).sqrt().cpu().numpy()
        started = time.perf_counter()
        for _ in range(ROUNDS):
            values = recorder.forward(**inputs)
        values.cpu()
    return found, 1000 * (time.perf_counter() - started) / ROUNDS / BATCH


def main() -> None:
    config = TRANSFORMER | {"num_layers": 1, "num_single_layers": 3, "num_attention_heads": HEADS}
    transformer = initialised(lambda: Flux2Transformer2DModel.from_config(config), DEVICE, torch.bfloat16, 0)
    transformer.eval().requires_grad_(False)
    inputs = forward_inputs()
    plain, took = recorded(transformer, inputs)
    print(f"{DEVICE}, torch {torch.__version__}\nplain: {took:.1f} ms a stimulus", flush=True)
    found = {}
    for name, compiler in (("first", {}), ("second", {}), ("the compiler's own settings", {"backend": "inductor"})):
        with fresh_cache():
            torch._dynamo.reset()
            compile_blocks(FAMILY, transformer, **compiler)
            found[name], took = recorded(transformer, inputs)
        distance = np.abs(found[name] - plain) / np.maximum(plain, 1e-30)
        print(
            f"{name}: {took:.1f} ms, relative distance {np.median(distance):.1e} (median), {distance.max():.1e} at most"
        )
    print(f"first and second have equal bits: {np.array_equal(found['first'], found['second'])}")


if __name__ == "__main__":
    main()
