"""Every tensor of a LoRA file is in the weights that are measured, or the file is refused by the tensor's name.

What must arrive is computed without the code under test: from the factors themselves, by peft's own merging, or by
diffusers' conversion of whole checkpoints from the original names.
"""

import json
from copy import deepcopy

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from fixtures.common.errors import ProbeError
from fixtures.models.lora.adapter import resolve_adapter
from fixtures.models.lora.additions import additions_of
from fixtures.models.lora.fuse import fuse
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings

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


@pytest.fixture(scope="module")
def transformer(tiny):
    return tiny.pipeline.transformer


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


# names


PREFIXES = ("transformer.", "diffusion_model.", "model.diffusion_model.", "", "base_model.model.transformer.")
PARTS = (("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight"))
PARTS += (("lora.down.weight", "lora.up.weight"), ("lora_A.default.weight", "lora_B.default.weight"))
MODULES = [f"transformer_blocks.1.{name}" for name in BLOCK]
MODULES += ["single_transformer_blocks.2.attn.to_qkv_mlp_proj", "single_transformer_blocks.2.attn.to_out"]
MODULES += ["x_embedder", "context_embedder", "proj_out", "norm_out.linear", "single_stream_modulation.linear"]


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


# Kronecker products


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


# peft's configuration


def peft_folder(transformer, folder, **options):
    """A folder that peft saves, and the transformer that peft merges it into."""
    torch.manual_seed(0)
    targets = ["transformer_blocks.1.attn.to_q", "transformer_blocks.1.ff.linear_in", "proj_out"]
    model = get_peft_model(
        deepcopy(transformer), LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **options)
    )
    model.save_pretrained(folder)
    return model.merge_and_unload()


@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 16},
        {"lora_alpha": 16, "use_rslora": True},
        {"lora_alpha": 4, "alpha_pattern": {"attn.to_q": 32}},
        {"lora_alpha": 4, "rank_pattern": {"proj_out": 2, ".*linear_in": 8}},
        {"lora_alpha": 8, "rank_pattern": {"proj_out": 2}, "alpha_pattern": {"proj_out": 5}, "use_rslora": True},
        {"lora_alpha": 3, "lora_dropout": 0.1},
    ],
)
def test_what_peft_saves_is_what_peft_merges(tiny, transformer, tmp_path, options):
    merged = peft_folder(transformer, tmp_path / "peft", **options).state_dict()
    before = transformer.state_dict()
    expected = {
        n.removesuffix(".weight"): merged[n] - before[n] for n in before if not torch.equal(merged[n], before[n])
    }
    assert len(expected) == 3
    for given_as in ("peft", "peft/adapter_model.safetensors"):
        check(moved(tiny, transformer, tmp_path / given_as), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "says use_dora = True, which is not added"),
        ({"peft_type": "LOHA"}, "says LOHA"),
        ({"modules_to_save": ["proj_out"]}, "says modules_to_save"),
        ({"bias": "all"}, "says bias = 'all'"),
        ({"fan_in_fan_out": True}, "says fan_in_fan_out = True"),
        ({"layer_replication": [[0, 2]]}, "says layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "relative to other base"),
        ({"init_lora_weights": "olora"}, "relative to other base"),
        ({"alora_invocation_tokens": [1]}, "says alora_invocation_tokens"),
        ({"of_a_newer_peft": 3}, "says of_a_newer_peft = 3, which is not known to the installed peft"),
        ({"r": 5}, "have rank 4, and adapter_config.json says 5"),
        ({"lora_alpha": None}, "does not say r and lora_alpha"),
        ({"lora_alpha": "much"}, "says alpha 'much'"),
        ({"lora_alpha": float("nan")}, "says alpha nan"),
    ],
)
def test_an_option_that_changes_what_the_tensors_mean_is_refused(tiny, transformer, tmp_path, changes, message):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    refused(tiny, transformer, tmp_path / "peft" / "adapter_model.safetensors", message)


def test_a_configuration_that_is_missing_or_cut_is_named(tiny, transformer, tmp_path):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config, file = tmp_path / "peft" / "adapter_config.json", tmp_path / "peft" / "adapter_model.safetensors"
    config.write_text(config.read_text()[:40])
    refused(tiny, transformer, file, "adapter_config.json beside it is not a readable JSON object")
    config.unlink()
    refused(tiny, transformer, file, "named by peft, and adapter_config.json with its alpha is not beside it")


def test_the_configuration_is_part_of_the_identity(tiny, transformer, tmp_path):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config, first = tmp_path / "peft" / "adapter_config.json", resolve_adapter(str(tmp_path / "peft"))
    config.write_text(config.read_text().replace('"lora_alpha": 16', '"lora_alpha": 8'))
    second = resolve_adapter(str(tmp_path / "peft"))
    assert (first.name, first.file) == (second.name, second.file) and first.sha256 != second.sha256


@pytest.mark.parametrize("rslora", [False, True])
def test_the_metadata_that_diffusers_writes_is_read(tiny, transformer, tmp_path, rslora):
    module = MODULES[0]
    up, down = factors(linears(transformer)[module].weight.shape)
    state = {f"transformer.{module}.lora_A.weight": down, f"transformer.{module}.lora_B.weight": up}
    options = LoraConfig(r=RANK, lora_alpha=12, use_rslora=rslora, target_modules=[module]).to_dict()
    options = {
        f"transformer.{name}": list(value) if isinstance(value, set) else value for name, value in options.items()
    }
    file = written(tmp_path, state, format="pt", lora_adapter_metadata=json.dumps(options, default=str))
    check(moved(tiny, transformer, file), {module: 12 / (2 if rslora else 4) * up @ down})


def test_two_sources_that_disagree_on_the_scale_are_refused(tiny, transformer, tmp_path):
    module = MODULES[0]
    up, down = factors(linears(transformer)[module].weight.shape)
    state = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up, f"{module}.alpha": torch.tensor(8.0)}
    file = written(tmp_path, state, lora_adapter_metadata=json.dumps({"r": 4, "lora_alpha": 4}))
    refused(tiny, transformer, file, "do not agree on the scale of transformer_blocks.1.attn.to_q: 1 and 2")
    file = written(tmp_path, state, lora_adapter_metadata=json.dumps({"r": 4, "lora_alpha": 8}))
    check(moved(tiny, transformer, file), {module: 2 * up @ down})


# nothing is left out


def whole_file(transformer) -> dict[str, torch.Tensor]:
    found = {}
    for seed, module in enumerate(MODULES[:3]):
        up, down = factors(linears(transformer)[module].weight.shape, seed)
        found |= {f"transformer.{module}.lora_A.weight": down, f"transformer.{module}.lora_B.weight": up}
    return found


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_arrives_in_reduced_precision_is_within_its_rounding(tiny, transformer, tmp_path, dtype):
    file = written(tmp_path, {name: tensor.half() for name, tensor in whole_file(transformer).items()})
    fuse(tiny.source.family, deepcopy(transformer).to(dtype), resolve_adapter(str(file)))


@pytest.mark.parametrize(("dtype", "size"), [(torch.float16, 1e4), (torch.float32, 1e25), (torch.bfloat16, 1e25)])
def test_more_than_a_weight_can_hold_is_refused(tiny, transformer, tmp_path, dtype, size):
    file = written(tmp_path, {name: tensor * size for name, tensor in whole_file(transformer).items()})
    with pytest.raises(ProbeError, match="is no longer finite in torch.*: it adds too much"):
        fuse(tiny.source.family, deepcopy(transformer).to(dtype), resolve_adapter(str(file)))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_other_dtypes_of_a_file_arrive(tiny, transformer, tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in whole_file(transformer).items()}
    both = [(f"transformer.{module}.lora_B.weight", f"transformer.{module}.lora_A.weight") for module in MODULES[:3]]
    expected = {m: state[up].float() @ state[down].float() for m, (up, down) in zip(MODULES, both, strict=False)}
    check(moved(tiny, transformer, written(tmp_path, state)), expected)


def test_a_library_that_loses_a_tensor_is_found_out(tiny, transformer, tmp_path, monkeypatch):
    kind = tiny.source.family.pipeline_class
    load = kind.load_lora_into_transformer

    def lossy(state, *arguments, **options):
        return load(dict(list(state.items())[2:]), *arguments, **options)

    monkeypatch.setattr(kind, "load_lora_into_transformer", lossy)
    with pytest.raises(ProbeError, match="the weight of transformer_blocks.1.attn.to_k did not move by what .* adds"):
        moved(tiny, transformer, written(tmp_path, whole_file(transformer)))


def test_the_file_is_looked_through_even_where_everything_is_stored(tiny, cache, transformer, tmp_path):
    state = whole_file(transformer)
    del state[sorted(state)[0]]
    chosen = {"model": "klein-tiny", "store": str(cache), "device": "cpu", "lora": str(written(tmp_path, state))}
    with pytest.raises(ProbeError, match="has no lora_A beside it"):
        _ = Model(resolve_settings(chosen, {}, cache, environment={})).source


def test_what_is_written_here_reads_back(transformer, tmp_path):
    state = whole_file(transformer)
    assert load_file(written(tmp_path, state)).keys() == state.keys()


# found by a reader


def test_adapters_of_different_names_are_not_one(tiny, transformer, tmp_path):
    up, down = factors(linears(transformer)[MODULES[0]].weight.shape)
    for module in MODULES[:2]:
        state = {f"{MODULES[0]}.lora_A.default.weight": down, f"{MODULES[0]}.lora_B.default.weight": up}
        state |= {f"{module}.lora_B.style.weight": up, f"{module}.lora_A.style.weight": down}
        refused(tiny, transformer, written(tmp_path, state), "are of different adapters")


@pytest.mark.parametrize("place", ["_orig_mod.{}", "transformer._orig_mod.{}"])
def test_names_of_a_compiled_module_are_read(tiny, transformer, tmp_path, place):
    module = MODULES[0]
    up, down = factors(linears(transformer)[module].weight.shape)
    name = place.format(module)
    state = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    check(moved(tiny, transformer, written(tmp_path, state)), {module: up @ down})


def test_an_alpha_that_is_only_noted_is_not_passed_over(tiny, transformer, tmp_path):
    state = whole_file(transformer)
    file = written(tmp_path, state, ss_network_alpha="16.0", ss_network_dim="4")
    refused(tiny, transformer, file, "its metadata note an alpha of 4 times the rank, and it has no alpha tensors")
    for noted in ({"ss_network_alpha": "4.0", "ss_network_dim": "4"}, {"ss_network_alpha": "None"}):
        assert additions_of(tiny.source.family, resolve_adapter(str(written(tmp_path, state, **noted))), transformer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rslora": "false"}, "says use_rslora = 'false', expected true or false"),
        ({"rank_pattern": {"(": 4}}, "says rank_pattern = .*, expected numbers by regular expressions"),
        ({"alpha_pattern": ["x"]}, "says alpha_pattern = .*, expected numbers by regular expressions"),
    ],
)
def test_options_of_another_type_are_named(tiny, transformer, tmp_path, changes, message):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    refused(tiny, transformer, tmp_path / "peft" / "adapter_model.safetensors", message)
