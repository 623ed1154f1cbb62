"""What a LoRA file adds is in the weights, by whatever names its trainer gave.

What must arrive is computed from the factors themselves, or by diffusers' conversion of whole checkpoints from the
original names.
"""

from copy import deepcopy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_cases import (
    MODULES,
    ORIGINAL,
    ORIGINAL_ONLY,
    PARTS,
    PREFIXES,
    RANK,
    check,
    expected_moves,
    factors,
    kronecker,
    linears,
    moved,
    original_shapes,
    product,
    refused,
    whole_file,
    written,
)

from fixtures.models.lora.adapter import resolve_adapter
from fixtures.models.lora.fuse import fuse


@given(st.sampled_from(MODULES), st.sampled_from(PREFIXES), st.sampled_from(PARTS), st.sampled_from([None, 1.0, 16.0]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_diffusers_names_under_any_prefix(tiny, transformer, tmp_path, module, prefix, parts, alpha):
    up, down = factors(linears(transformer)[module].weight.shape)
    state = {f"{prefix}{module}.{parts[0]}": down, f"{prefix}{module}.{parts[1]}": up}
    if alpha:
        state[f"{prefix}{module}.alpha"] = torch.tensor(alpha)
    file = written(tmp_path, state)
    if prefix.startswith("base_model") and alpha is None:
        refused(tiny, transformer, file, "named by peft, and adapter_config.json with its alpha is not beside it")
    else:
        check(moved(tiny, transformer, file), {module: (alpha or RANK) / RANK * up @ down})


@pytest.mark.parametrize("start", ["lora_unet_", "lora_transformer_", "lycoris_", ""])
@pytest.mark.parametrize("module", MODULES)
def test_diffusers_names_with_underscores(tiny, transformer, tmp_path, module, start):
    up, down = factors(linears(transformer)[module].weight.shape)
    name = start + module.replace(".", "_")
    state = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(2.0)}
    check(moved(tiny, transformer, written(tmp_path, state)), {module: 2.0 / RANK * up @ down})


@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("prefix", ["diffusion_model.", ""])
@pytest.mark.parametrize("name", ORIGINAL)
def test_original_names(tiny, transformer, tmp_path, name, prefix, alpha):
    up, down = factors(original_shapes(transformer)[name])
    state = {f"{prefix}{name}.lora_A.weight": down, f"{prefix}{name}.lora_B.weight": up}
    if alpha:
        state[f"{prefix}{name}.alpha"] = torch.tensor(alpha)
    expected = expected_moves(name, (alpha or RANK) / RANK * up @ down)
    check(moved(tiny, transformer, written(tmp_path, state)), expected)


@pytest.mark.parametrize("name", ORIGINAL)
def test_kohya_names_arrive_or_are_refused(tiny, transformer, tmp_path, name):
    up, down = factors(original_shapes(transformer)[name])
    kohya = "lora_unet_" + name.replace(".", "_")
    state = {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up, f"{kohya}.alpha": torch.tensor(1.0)}
    good = "lora_unet_single_blocks_0_linear2"
    up2, down2 = factors(original_shapes(transformer)["single_blocks.2.linear2"])
    file = written(tmp_path, {f"{good}.lora_down.weight": down2, f"{good}.lora_up.weight": up2, **state})
    if name in ORIGINAL_ONLY:
        refused(
            tiny, transformer, file, f"its tensor {kohya}.* has a name that this pipeline's converter does not know"
        )
        return
    expected = expected_moves(name, up @ down / RANK)
    check(moved(tiny, transformer, file), expected | {"single_transformer_blocks.0.attn.to_out": up2 @ down2})


def test_a_fused_projection_of_kohya_with_a_rank_for_each_part(tiny, transformer, tmp_path):
    rows, columns = original_shapes(transformer)["double_blocks.1.img_attn.qkv"]
    parts = [factors((rows // 3, columns), seed) for seed in range(3)]
    up, down = torch.block_diag(*(up for up, _ in parts)), torch.cat([down for _, down in parts])
    name = "lora_unet_double_blocks_1_img_attn_qkv"
    state = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(6.0)}
    expected = {
        f"transformer_blocks.1.attn.to_{part}": 0.5 * up @ down for part, (up, down) in zip("qkv", parts, strict=True)
    }
    check(moved(tiny, transformer, written(tmp_path, state)), expected)


def test_one_file_may_mix_trainers_names(tiny, transformer, tmp_path):
    shapes = original_shapes(transformer)
    own, fused = "transformer_blocks.0.ff.linear_in", "double_blocks.1.txt_attn.qkv"
    a, b = factors(linears(transformer)[own].weight.shape, 1), factors(shapes[fused], 2)
    state = {f"transformer.{own}.lora_A.weight": a[1], f"transformer.{own}.lora_B.weight": a[0]}
    state |= {f"diffusion_model.{fused}.lora_down.weight": b[1], f"diffusion_model.{fused}.lora_up.weight": b[0]}
    expected = {own: a[0] @ a[1]} | expected_moves(fused, b[0] @ b[1])
    check(moved(tiny, transformer, written(tmp_path, state)), expected)


@pytest.mark.parametrize("place", ["_orig_mod.{}", "transformer._orig_mod.{}"])
def test_names_of_a_compiled_module_are_read(tiny, transformer, tmp_path, place):
    module = MODULES[0]
    up, down = factors(linears(transformer)[module].weight.shape)
    name = place.format(module)
    state = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    check(moved(tiny, transformer, written(tmp_path, state)), {module: up @ down})


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_other_dtypes_of_a_file_arrive(tiny, transformer, tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in whole_file(transformer).items()}
    both = [(f"transformer.{module}.lora_B.weight", f"transformer.{module}.lora_A.weight") for module in MODULES[:3]]
    expected = {m: state[up].float() @ state[down].float() for m, (up, down) in zip(MODULES, both, strict=False)}
    check(moved(tiny, transformer, written(tmp_path, state)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_arrives_in_reduced_precision_is_within_its_rounding(tiny, transformer, tmp_path, dtype):
    file = written(tmp_path, {name: tensor.half() for name, tensor in whole_file(transformer).items()})
    copy = deepcopy(transformer).to(dtype)
    fuse(tiny.source.family, copy, resolve_adapter(str(file)))
    before = deepcopy(transformer).to(dtype).state_dict()
    moved = {
        name.removesuffix(".weight")
        for name, after in copy.state_dict().items()
        if not torch.equal(before[name], after)
    }
    assert moved == set(MODULES[:3])


# Kronecker products


@pytest.mark.parametrize("alpha", [None, 3.0])
@pytest.mark.parametrize("split", [(False, False), (False, True)])
@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("transformer.", "transformer_blocks.1.attn.to_q"),
        ("", "transformer_blocks.1.ff.linear_out"),
        ("lycoris_", "transformer_blocks_1_attn_to_out_0"),
        ("lycoris_", "single_transformer_blocks_2_attn_to_out"),
        ("lycoris_", "proj_out"),
        ("diffusion_model.", "double_blocks.1.img_attn.proj"),
        ("diffusion_model.", "double_blocks.1.img_attn.qkv"),
        ("diffusion_model.", "double_blocks.1.txt_attn.qkv"),
        ("diffusion_model.", "single_blocks.2.linear1"),
        ("diffusion_model.", "single_stream_modulation.lin"),
    ],
)
def test_a_kronecker_product_arrives(tiny, transformer, tmp_path, start, name, split, alpha):
    modules = {module.replace(".", "_"): module for module in linears(transformer)}
    own = modules.get(name.replace(".", "_"))
    shape = linears(transformer)[own].weight.shape if own else original_shapes(transformer)[name]
    parts = kronecker(shape, *split)
    scale = alpha / 1 if alpha and any(split) else 1.0  # two whole factors have no rank, and are not scaled
    state = {f"{start}{name}.{part}": tensor for part, tensor in parts.items()}
    if alpha:
        state[f"{start}{name}.alpha"] = torch.tensor(alpha)
    delta = scale * product(parts)
    check(moved(tiny, transformer, written(tmp_path, state)), {own: delta} if own else expected_moves(name, delta))


def test_a_kronecker_product_whose_halves_would_be_swapped_is_refused(tiny, transformer, tmp_path):
    name = "final_layer.adaLN_modulation.1"
    parts = kronecker(original_shapes(transformer)[name], False, False)
    state = {f"diffusion_model.{name}.{part}": tensor for part, tensor in parts.items()}
    refused(tiny, transformer, written(tmp_path, state), "does not know")
