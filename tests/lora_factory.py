"""LoRA files for tests, made with peft on a real transformer and saved by diffusers in its own format."""

from copy import deepcopy
from pathlib import Path

import torch
from diffusers import Flux2KleinPipeline
from peft import LoraConfig, get_peft_model_state_dict

TOUCHED = ("transformer_blocks.1.", "single_transformer_blocks.2.")  # joint[1] and single[2]


def save_lora(transformer, folder: Path, blocks=TOUCHED, size: float = 0.5, seed: int = 0, rank: int = 4) -> Path:
    """A LoRA on every attention projection of some blocks; what it adds is ``size`` times as large as the weights."""
    names = [name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = [name for name in names if name.startswith(tuple(blocks)) and ".attn." in name]
    copy = deepcopy(transformer)
    copy.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights=False))
    state = get_peft_model_state_dict(copy)
    generator = torch.Generator().manual_seed(seed)
    for name in targets:
        down, up = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        for key in (down, up):
            state[key] = torch.randn(state[key].shape, generator=generator)
        added = (state[up] @ state[down]).norm()
        state[up] *= size * transformer.get_submodule(name).weight.float().norm().cpu() / added
    Flux2KleinPipeline.save_lora_weights(folder, transformer_lora_layers=state)
    return folder / "pytorch_lora_weights.safetensors"
