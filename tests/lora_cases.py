"""Cases of LoRA files: names, factors, and what must arrive of them, computed without the code under test."""

from copy import deepcopy

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from fixtures.common.errors import ProbeError
from fixtures.models.lora.adapter import resolve_adapter
from fixtures.models.lora.additions import additions_of
from fixtures.models.lora.fuse import fuse

RANK = 4
BLOCK = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj")
BLOCK += ("attn.add_v_proj", "attn.to_add_out", "ff.linear_in", "ff.linear_out", "ff_context.linear_in")
BLOCK += ("ff_context.linear_out",)
JOINT = {  # original names of a joint block's weights, and how many of diffusers' they hold
    "img_attn.qkv": 3,
    "txt_attn.qkv": 3,
    "img_attn.proj": 1,
    "txt_attn.proj": 1,
    "img_mlp.0": 1,
    "img_mlp.2": 1,
    "txt_mlp.0": 1,
    "txt_mlp.2": 1,
}
OTHERS = ("img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "final_layer.linear")
ORIGINAL_ONLY = ("final_layer.adaLN_modulation.1", "single_stream_modulation.lin")
ORIGINAL_ONLY += ("double_stream_modulation_img.lin", "double_stream_modulation_txt.lin")
ORIGINAL = [f"double_blocks.1.{name}" for name in JOINT] + ["single_blocks.2.linear1", "single_blocks.2.linear2"]
ORIGINAL += [*OTHERS, *ORIGINAL_ONLY]


PREFIXES = ("transformer.", "diffusion_model.", "model.diffusion_model.", "", "base_model.model.transformer.")
PARTS = (("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight"))
PARTS += (("lora.down.weight", "lora.up.weight"), ("lora_A.default.weight", "lora_B.default.weight"))
MODULES = [f"transformer_blocks.1.{name}" for name in BLOCK]
MODULES += ["single_transformer_blocks.2.attn.to_qkv_mlp_proj", "single_transformer_blocks.2.attn.to_out"]
MODULES += ["x_embedder", "context_embedder", "proj_out", "norm_out.linear", "single_stream_modulation.linear"]


def linears(transformer) -> dict[str, torch.nn.Linear]:
    return {name: module for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}


def factors(shape, seed=0, rank=RANK) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator)
    return up / shape[0] ** 0.5, down / shape[1] ** 0.5


def original_shapes(transformer) -> dict[str, tuple[int, int]]:
    """Shapes of the weights by their original names, found by converting a checkpoint of them."""
    sizes = {name: tuple(module.weight.shape) for name, module in linears(transformer).items()}
    joint, single = "transformer_blocks.1.", "single_transformer_blocks.2.attn."
    q = sizes[joint + "attn.to_q"]
    named = {"img_attn.qkv": (3 * q[0], q[1]), "txt_attn.qkv": (3 * q[0], q[1]), "img_attn.proj": q, "txt_attn.proj": q}
    for original, own in (("img_mlp", "ff"), ("txt_mlp", "ff_context")):
        named[f"{original}.0"] = sizes[f"{joint}{own}.linear_in"]
        named[f"{original}.2"] = sizes[f"{joint}{own}.linear_out"]
    found = {f"double_blocks.1.{name}": shape for name, shape in named.items()}
    found |= {"single_blocks.2.linear1": sizes[single + "to_qkv_mlp_proj"]}
    found |= {"single_blocks.2.linear2": sizes[single + "to_out"]}
    own = {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
        "final_layer.linear": "proj_out",
        "final_layer.adaLN_modulation.1": "norm_out.linear",
        "single_stream_modulation.lin": "single_stream_modulation.linear",
        "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
        "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
    }
    return found | {name: sizes[module] for name, module in own.items()}


def expected_moves(name: str, delta: torch.Tensor) -> dict[str, torch.Tensor]:
    """By diffusers' names, what a change of a weight of the original checkpoint changes."""
    converted = convert_flux2_transformer_checkpoint_to_diffusers({f"{name}.weight": delta.clone()})
    return {key.removesuffix(".weight"): tensor for key, tensor in converted.items()}


def moved(tiny, transformer, file, weight=1.0) -> dict[str, torch.Tensor]:
    """By module, how its weight moves when a file is added; the others' names are left out."""
    copy = deepcopy(transformer)
    fuse(tiny.source.family, copy, resolve_adapter(f"{file}:{weight:g}"))
    before, after = transformer.state_dict(), copy.state_dict()
    assert before.keys() == after.keys()
    return {
        name.removesuffix(".weight"): after[name] - before[name]
        for name in before
        if not torch.equal(before[name], after[name])
    }


def check(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4)


def refused(tiny, transformer, file, message) -> None:
    with pytest.raises(ProbeError, match=f"(?s){file}: .*{message}"):
        additions_of(tiny.source.family, resolve_adapter(str(file)), transformer)


def written(tmp_path, state, **metadata):
    file = tmp_path / "adapter.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, file, metadata or None)
    return file


def kronecker(shape, left: bool, right: bool, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (2, 2), (shape[0] // 2, shape[1] // 2)

    def side(number, size, split):
        if not split:
            return {f"lokr_w{number}": torch.randn(size, generator=generator) / size[1] ** 0.5}
        parts = {f"lokr_w{number}_a": (size[0], 1), f"lokr_w{number}_b": (1, size[1])}
        return {name: torch.randn(s, generator=generator) / size[1] ** 0.25 for name, s in parts.items()}

    return side(1, first, left) | side(2, second, right)


def product(parts) -> torch.Tensor:
    sides = [
        parts[f"lokr_w{n}"] if f"lokr_w{n}" in parts else parts[f"lokr_w{n}_a"] @ parts[f"lokr_w{n}_b"] for n in (1, 2)
    ]
    return torch.kron(*sides)


def peft_folder(transformer, folder, **options):
    """A folder that peft saves, and the transformer that peft merges it into."""
    torch.manual_seed(0)
    targets = ["transformer_blocks.1.attn.to_q", "transformer_blocks.1.ff.linear_in", "proj_out"]
    model = get_peft_model(
        deepcopy(transformer), LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **options)
    )
    model.save_pretrained(folder)
    return model.merge_and_unload()


def whole_file(transformer) -> dict[str, torch.Tensor]:
    found = {}
    for seed, module in enumerate(MODULES[:3]):
        up, down = factors(linears(transformer)[module].weight.shape, seed)
        found |= {f"transformer.{module}.lora_A.weight": down, f"transformer.{module}.lora_B.weight": up}
    return found
