"""A LoRA file of which one tensor would not arrive is refused by that tensor."""

from copy import deepcopy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_cases import MODULES, factors, kronecker, linears, moved, original_shapes, refused, whole_file, written

from fixtures.common.errors import ProbeError
from fixtures.models.lora.adapter import resolve_adapter
from fixtures.models.lora.fuse import fuse
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings


@given(st.data())
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_factor_without_its_other_is_refused(tiny, transformer, tmp_path, data):
    state = whole_file(transformer)
    gone = data.draw(st.sampled_from(sorted(state)))
    other = gone.replace("lora_A", "@").replace("lora_B", "lora_A").replace("@", "lora_B")
    del state[gone]
    refused(tiny, transformer, written(tmp_path, state), f"its tensor {other} has no lora_[AB] beside it")


FOREIGN = {
    "transformer.transformer_blocks.1.attn.to_q.lora_magnitude_vector": "is of DoRA",
    "transformer.transformer_blocks.1.attn.to_q.lora_magnitude_vector.default.weight": "is of DoRA",
    "transformer.transformer_blocks.1.attn.to_q.dora_scale": "is of DoRA",
    "lora_unet_double_blocks_1_img_attn_qkv.dora_scale": "is of DoRA",
    "diffusion_model.double_blocks.1.img_attn.qkv.dora_scale": "is of DoRA",
    "base_model.model.proj_out.lora_magnitude_vector": "is of DoRA",
    "lora_unet_double_blocks_1_img_attn_qkv.hada_w1_a": "is of LoHa",
    "lycoris_proj_out.hada_w2_b": "is of LoHa",
    "diffusion_model.img_in.hada_t1": "is of LoHa",
    "lora_unet_img_in.lora_mid.weight": "is of a Tucker decomposition",
    "lycoris_proj_out.lokr_t2": "is of a Tucker decomposition",
    "transformer.proj_out.oft_R.weight": "is of OFT",
    "lora_unet_img_in.oft_blocks": "is of OFT",
    "transformer.proj_out.boft_R": "is of OFT",
    "transformer.proj_out.vera_lambda_b": "is of VeRA",
    "base_model.model.proj_out.ia3_l": "is of IA3",
    "lora_unet_img_in.on_input": "is of IA3",
    "transformer.proj_out.lora_B.bias": "is of a bias",
    "diffusion_model.proj_out.diff_b": "is of a bias",
    "diffusion_model.img_in.diff": "is of a whole difference of weights",
    "lora_unet_img_in.w_norm": "is of a whole difference of weights",
    "transformer.proj_out.weight": "belongs to no LoRA",
    "step": "belongs to no LoRA",
    "transformer.transformer_blocks.9.attn.to_q.alpha": "has no",
    "text_encoder.model.layers.0.self_attn.q_proj.lora_A.weight": "is for the text encoder",
    "text_encoder_2.x.lora_A.weight": "is for the text encoder",
    "text_encoders.qwen3_4b.transformer.model.layers.0.q.lora_A.weight": "is for the text encoder",
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": "is for the text encoder",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": "is for the text encoder",
    "lora_te2_x.lora_up.weight": "is for the text encoder",
    "conditioner.embedders.0.x.lora_A.weight": "is for the text encoder",
    "base_model.model.text_encoder.x.lora_A.weight": "is for the text encoder",
}


@pytest.mark.parametrize("key", FOREIGN)
def test_a_tensor_that_is_not_added_is_named(tiny, transformer, tmp_path, key):
    file = written(tmp_path, whole_file(transformer) | {key: torch.ones(4, 4)})
    refused(tiny, transformer, file, f"tensor {key} {FOREIGN[key]}")


PAIRS = {
    "diffusion_model.double_blocks.1.img_mod.lin": "does not know",  # of FLUX.1
    "lora_unet_double_blocks_1_img_mod_lin": "does not know",
    "lora_unet_single_stream_modulation_lin": "does not know",
    "lora_unet_guidance_in_in_layer": "does not know",
    "transformer.single_transformer_blocks.0.proj_mlp": "fits no module",
    "transformer.transformer_blocks.77.attn.to_q": "fits no module",
    "diffusion_model.double_blocks.77.img_attn.proj": "fits no module",
    "lora_unet_single_blocks_77_linear1": "fits no module",
    "unet.down_blocks.0.attentions.0.proj_in": "does not know",
    "vae.encoder.conv_in": "does not know",
    "clip_l.x": "does not know",
    "transformer.transformer_blocks.1.attn.norm_q": "a RMSNorm; LoRA adds to linear layers",
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_that_fits_no_module_is_named(tiny, transformer, tmp_path, name):
    parts = ("lora_down", "lora_up") if name.startswith("lora_unet") else ("lora_A", "lora_B")
    state = {f"{name}.{parts[0]}.weight": torch.ones(4, 8), f"{name}.{parts[1]}.weight": torch.ones(9, 4)}
    file = written(tmp_path, whole_file(transformer) | state)
    refused(tiny, transformer, file, f"its tensor {name}.* {PAIRS[name]}")


@pytest.mark.parametrize("damage", ["wider", "taller", "ranks", "conv", "whole numbers", "vector"])
def test_a_tensor_of_another_shape_is_named_with_both_shapes(tiny, transformer, tmp_path, damage):
    state, key = whole_file(transformer), f"transformer.{MODULES[1]}.lora_A.weight"
    up = key.replace("lora_A", "lora_B")
    if damage == "wider":
        state[key] = state[key].repeat(1, 2)
    elif damage == "taller":
        state[up] = state[up].repeat(2, 1)
    elif damage == "ranks":
        state[key] = state[key].repeat(2, 1)
    elif damage == "conv":
        state[key] = state[key][..., None, None]
    elif damage == "vector":
        state[key] = state[key][0]
    else:
        state[key] = state[key].to(torch.int32)
    message = {
        "wider": rf"{key} adds a matrix of shape .* to {MODULES[1]}, which has shape .*another width",
        "taller": rf"{key} adds a matrix of shape .* to {MODULES[1]}, which has shape",
        "ranks": rf"{up} of shape \(\d+, 4\) and {key} of shape \(8, \d+\) have no product",
        "conv": rf"{key} has shape .*expected two dimensions",
        "vector": rf"{key} has shape .*expected two dimensions",
        "whole numbers": rf"{key} holds torch.int32",
    }[damage]
    refused(tiny, transformer, written(tmp_path, state), message)


def test_the_same_module_twice_is_refused(tiny, transformer, tmp_path):
    module, state = MODULES[0], whole_file(transformer)
    up, down = factors(linears(transformer)[module].weight.shape, 7)
    for name in (f"diffusion_model.{module}", f"lora_unet_{module.replace('.', '_')}"):
        other = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        refused(
            tiny, transformer, written(tmp_path, state | other), "(are both for the module|are for the same module)"
        )
    qkv = "diffusion_model.double_blocks.1.img_attn.qkv"
    parts = kronecker(original_shapes(transformer)["double_blocks.1.img_attn.qkv"], False, False)
    other = {f"{qkv}.{part}": tensor for part, tensor in parts.items()}
    refused(tiny, transformer, written(tmp_path, state | other), "are both for the module .*attn.to_[qk]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_value_that_is_not_finite_is_named_before_anything_is_loaded(transformer, tmp_path, value, dtype):
    state = {name: tensor.to(dtype) for name, tensor in whole_file(transformer).items()}
    key = sorted(state)[2]
    state[key][1, 1] = value
    with pytest.raises(ProbeError, match=f"adapter.safetensors: the tensor {key} has numbers that are NaN or infinite"):
        resolve_adapter(str(written(tmp_path, state)))


def test_a_file_that_changes_nothing_says_so(tiny, transformer, tmp_path):
    state = whole_file(transformer)
    still = {name: tensor * ("lora_A" in name) for name, tensor in state.items()}
    refused(tiny, transformer, written(tmp_path, still), "it changes no weight: all its products are 0")
    file = written(tmp_path, {name: tensor * 1e-12 for name, tensor in state.items()})
    with pytest.raises(ProbeError, match="it changes no weight: what it adds is too small for torch.bfloat16"):
        fuse(tiny.source.family, deepcopy(transformer).bfloat16(), resolve_adapter(str(file)))
    with pytest.raises(ProbeError, match="at weight 0 it adds nothing"):
        resolve_adapter(f"{file}:0")


@pytest.mark.parametrize(("dtype", "size"), [(torch.float16, 1e4), (torch.float32, 1e25), (torch.bfloat16, 1e25)])
def test_more_than_a_weight_can_hold_is_refused(tiny, transformer, tmp_path, dtype, size):
    file = written(tmp_path, {name: tensor * size for name, tensor in whole_file(transformer).items()})
    with pytest.raises(ProbeError, match="is no longer finite in torch.*: it adds too much"):
        fuse(tiny.source.family, deepcopy(transformer).to(dtype), resolve_adapter(str(file)))


def test_a_library_that_loses_a_tensor_is_found_out(tiny, transformer, tmp_path, monkeypatch):
    kind = type(transformer)
    load = kind.load_lora_adapter

    def lossy(self, state, **options):
        return load(self, dict(list(state.items())[2:]), **options)

    monkeypatch.setattr(kind, "load_lora_adapter", lossy)
    with pytest.raises(ProbeError, match="the weight of transformer_blocks.1.attn.to_k did not move by what .* adds"):
        moved(tiny, transformer, written(tmp_path, whole_file(transformer)))


def test_the_file_is_looked_through_even_where_everything_is_stored(tiny, cache, transformer, tmp_path):
    state = whole_file(transformer)
    del state[sorted(state)[0]]
    chosen = {"model": "klein-tiny", "store": str(cache), "device": "cpu", "lora": str(written(tmp_path, state))}
    with pytest.raises(ProbeError, match="has no lora_A beside it"):
        _ = Model(resolve_settings(chosen, {}, cache, environment={})).source


def test_adapters_of_different_names_are_not_one(tiny, transformer, tmp_path):
    up, down = factors(linears(transformer)[MODULES[0]].weight.shape)
    for module in MODULES[:2]:
        state = {f"{MODULES[0]}.lora_A.default.weight": down, f"{MODULES[0]}.lora_B.default.weight": up}
        state |= {f"{module}.lora_B.style.weight": up, f"{module}.lora_A.style.weight": down}
        refused(tiny, transformer, written(tmp_path, state), "are of different adapters")
