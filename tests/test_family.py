"""Other members of the family: checkpoints of the real classes in other geometries, distilled, quantised, refused."""

import json
from hashlib import sha256

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel
from hooked_call import PROMPTS, hooked_pipeline_call
from lora_factory import save_lora
from safetensors.torch import load_file, save_file

from fixtures.activations.activations import pooled_rms
from fixtures.activations.capture import capture
from fixtures.activations.images import prepare_images
from fixtures.activations.presentation import Stimulus
from fixtures.common.errors import ProbeError
from fixtures.models import quantised
from fixtures.models.flux2_klein import klein_tiny
from fixtures.models.flux2_klein.sites import find_sites
from fixtures.models.loading import load_model
from fixtures.models.model import Model
from fixtures.models.units import attention_heads, channel_groups
from fixtures.session.options import resolve_settings
from fixtures.stimuli.sets import load_stimuli

WEIGHTS = "diffusion_pytorch_model.safetensors"
MEMBERS = {  # as the family differs: blocks, heads, depth and width of the text encoder, distillation
    "distilled": ({"num_layers": 3, "num_single_layers": 4}, {}, True),
    "wide": (
        {"num_layers": 4, "num_single_layers": 6, "num_attention_heads": 6, "joint_attention_dim": 3 * 48},
        {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 36},
        False,
    ),
    "fine": ({"attention_head_dim": 16, "num_attention_heads": 5, "axes_dims_rope": (4, 4, 4, 4)}, {}, True),
}


def model_of(folder, store, **options) -> Model:
    given = {"model": str(folder), "store": str(store), "device": "cpu", "resolution": "64"} | options
    return Model(resolve_settings(given, {}, folder, environment={}))


@pytest.fixture(scope="module", params=MEMBERS)
def member(request, tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("family") / f"klein-{request.param}"
    klein_tiny.build(folder, *MEMBERS[request.param])
    return model_of(folder, cache)


def test_the_unit_table_follows_from_the_modules(member):
    transformer, described = member.pipeline.transformer, member.description
    config = transformer.config
    hidden = config.num_attention_heads * config.attention_head_dim
    joint, single = hidden // 16, hidden * (1 + int(config.mlp_ratio)) // 16
    blocks = [unit.block for unit in member.groups.units]
    expected = {f"joint[{i}]": joint for i in range(config.num_layers)}
    expected |= {f"single[{i}]": single for i in range(config.num_single_layers)}
    assert {block: blocks.count(block) for block in dict.fromkeys(blocks)} == expected
    for site in member.sites:
        assert transformer.get_submodule(site.name).in_features == site.channels
    heads = (config.num_layers + config.num_single_layers) * config.num_attention_heads
    assert described["units"] == {"channel_groups": sum(expected.values()), "attention_heads": heads}
    assert described["parameters"] == sum(parameter.numel() for parameter in transformer.parameters())
    assert described["published_geometry"] is False and described["label"] is None


def test_capture_equals_a_hooked_pipeline_call_on_every_member(member, photos):
    stimuli = [Stimulus(f"s{i}", prompt, photos[i] if i else None) for i, prompt in enumerate(PROMPTS[:2])]
    for stimulus in stimuli:
        (ours,) = pooled_rms(capture(member.loaded, member.sites, [stimulus], member.protocol), member.groups)
        np.testing.assert_allclose(ours, hooked_pipeline_call(member, stimulus), rtol=2e-6)


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_has_the_geometry_and_the_distillation_of_its_model(member, kind):
    twin = member.twin(kind, 3)
    assert find_sites(twin.transformer) == member.sites
    assert twin.pipeline.config.is_distilled == member.description["is_distilled"]


IMAGES = """hypothesis = "toy"
presentation = "image_pairs"
prompt = "Describe."
image_seed = 3
a = "left"
b = "right"
[[pairs]]
id = "p"
category = "c"
a = "a cat"
b = "a dog"
"""


def test_a_distilled_model_draws_as_it_was_made_to_and_the_record_says_so(member, tmp_path, monkeypatch):
    (tmp_path / "toy.toml").write_text(IMAGES)
    steps, loaded = [], member.loaded
    whole = loaded.transformer.forward
    monkeypatch.setattr(loaded.transformer, "forward", lambda **given: steps.append(1) or whole(**given))
    found = prepare_images(
        load_stimuli(tmp_path / "toy.toml"), tmp_path / "images", member.source, member.protocol, lambda: loaded
    )
    distilled = member.description["is_distilled"]
    expected, guidance, passes = (4, 1.0, 1) if distilled else (14, 4.0, 2)  # guidance takes a second pass
    assert len(steps) == len(found) * expected * passes
    written = json.loads((tmp_path / "images" / "toy" / "manifest.json").read_text())["images"]["p.a"]
    assert (written["steps"], written["guidance"]) == (expected, guidance)
    assert (member.protocol.generation_steps, member.protocol.steps, member.protocol.guidance) == (expected, 1, 1.0)


def test_klein_9b_has_the_units_of_its_own_geometry():
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(
            num_layers=8, num_single_layers=24, num_attention_heads=32, joint_attention_dim=12288, guidance_embeds=False
        )
    sites = find_sites(transformer)
    assert len(channel_groups(sites).units) == 8 * 256 + 24 * 1024
    assert len(attention_heads(sites).units) == 32 * 32


def test_klein_tiny_is_what_it_was(tmp_path):
    """Its bits decide every stored activation and recorded verdict of the tests."""
    klein_tiny.build(tmp_path)
    digest = sha256((tmp_path / "transformer" / WEIGHTS).read_bytes()).hexdigest()
    assert digest == "f75af272779ecba7f59a0d2439a6161ae7f588685b0f179d01e7eebc0fa07215"


def test_a_related_pipeline_is_refused_for_what_it_is(checkpoint_copy, tmp_path):
    index = json.loads((checkpoint_copy / "model_index.json").read_text())
    (checkpoint_copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "Flux2KleinKVPipeline"}))
    with pytest.raises(ProbeError, match=r"is 'Flux2KleinKVPipeline', expected .*Its reference tokens attend to them"):
        _ = model_of(checkpoint_copy, tmp_path / "store").source


QUANTISERS = ("torchao", "quanto")


def quantise(folder, how):
    """Quantise the transformer of a checkpoint to 8 bits and save it, as diffusers does."""
    if how == "torchao":
        pytest.importorskip("torchao")
        from diffusers import TorchAoConfig
        from torchao.quantization import Int8WeightOnlyConfig

        config = TorchAoConfig(Int8WeightOnlyConfig(version=2))
    else:
        pytest.importorskip("optimum.quanto")
        from diffusers import QuantoConfig

        config = QuantoConfig(weights_dtype="int8")
    part = folder / "transformer"
    transformer = Flux2Transformer2DModel.from_pretrained(part, quantization_config=config, dtype=torch.float32)
    (part / WEIGHTS).unlink()
    transformer.save_pretrained(part)


@pytest.mark.parametrize("how", QUANTISERS)
def test_a_quantised_checkpoint_is_measured_and_says_what_it_is(checkpoint_copy, tmp_path, tiny, photos, how):
    quantise(checkpoint_copy, how)
    model = model_of(checkpoint_copy, tmp_path / "store")
    assert model.sites == tiny.sites
    assert model.description["quantised"] == {"transformer": how}
    assert model.description["label"] == f"transformer quantised by {how}"
    assert model.description["parameters"] == tiny.description["parameters"]
    stimulus = Stimulus("s", PROMPTS[0], photos[0])
    (ours,) = pooled_rms(capture(model.loaded, model.sites, [stimulus], model.protocol), model.groups)
    np.testing.assert_allclose(ours, hooked_pipeline_call(model, stimulus), rtol=2e-6)
    plain = model_of(tiny.source.folder, tmp_path / "store")
    (before,) = pooled_rms(capture(plain.loaded, plain.sites, [stimulus], plain.protocol), plain.groups)
    change = np.abs(ours / before - 1)
    assert 0 < np.median(change) < 0.02  # 8 bits are near, and are not the same


@pytest.mark.parametrize("how", QUANTISERS)
def test_quantised_components_take_turns_too(checkpoint_copy, tmp_path, how):
    quantise(checkpoint_copy, how)
    stimuli = [Stimulus("s", PROMPTS[0])]
    found = []
    for memory in ("whole", "turns"):
        model = model_of(checkpoint_copy, tmp_path / "store", memory=memory)
        found.append(capture(model.loaded, model.sites, stimuli, model.protocol).mean_square)
    assert np.array_equal(*found)


@pytest.mark.parametrize("how", QUANTISERS)
def test_a_missing_part_of_a_quantised_checkpoint_is_refused(checkpoint_copy, tmp_path, how):
    quantise(checkpoint_copy, how)
    file = checkpoint_copy / "transformer" / WEIGHTS
    tensors = {name: tensor for name, tensor in load_file(file).items() if "0.attn.to_q." not in name}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ProbeError, match=r"transformer: the tensor transformer_blocks.0.attn.to_q.weight is missing"):
        _ = model_of(checkpoint_copy, tmp_path / "store").pipeline


@pytest.mark.parametrize("how", QUANTISERS)
def test_twins_and_loras_of_packed_weights_are_refused(checkpoint_copy, tmp_path, tiny, how):
    adapter = save_lora(tiny.pipeline.transformer, tmp_path / "lora" / "update", size=1.0)
    quantise(checkpoint_copy, how)
    with pytest.raises(ProbeError, match=f"quantised by {how}, and an untrained twin is not defined on packed weights"):
        model_of(checkpoint_copy, tmp_path / "store").twin("shuffled", 1)
    with pytest.raises(ProbeError, match=f"quantised by {how}, and adding a LoRA is not defined on packed weights"):
        _ = model_of(checkpoint_copy, tmp_path / "store", lora=str(adapter)).pipeline


def declare(folder, component, **config):
    file = folder / component / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": config}))


@pytest.mark.parametrize(
    ("config", "installed", "message"),
    [
        ({"quant_method": "torchao"}, False, "by torchao, which needs the package torchao: `pip install torchao"),
        ({"quant_method": "quanto"}, False, "by quanto, which needs the package optimum-quanto: `pip install opt"),
        ({"load_in_4bit": True}, False, "by bitsandbytes, which needs the package bitsandbytes: `pip install bits"),
        ({"quant_method": "bitsandbytes"}, True, "by bitsandbytes, which diffusers loads on a GPU only, not on cpu"),
        ({"quant_method": "gguf"}, True, "by gguf; expected plain weights or one of bitsandbytes, quanto, torchao"),
        ({"bits": 4}, True, "by an unnamed method; expected plain weights"),
    ],
)
@pytest.mark.parametrize("component", ["transformer", "text_encoder"])
def test_what_cannot_be_loaded_here_says_what_it_needs(
    checkpoint_copy, tmp_path, monkeypatch, component, config, installed, message
):
    declare(checkpoint_copy, component, **config)
    monkeypatch.setattr(quantised, "_installed", lambda module: installed)
    with pytest.raises(ProbeError, match=f"{component}/config.json: quantised {message}"):
        _ = model_of(checkpoint_copy, tmp_path / "store").pipeline


def narrow(folder, dtype, scale):
    """Store one weight in 8 bits, with a scale beside it or without."""
    file = folder / "transformer" / WEIGHTS
    tensors = load_file(file)
    name = "transformer_blocks.0.attn.to_q.weight"
    tensors[name] = tensors[name].to(dtype)
    if scale:
        tensors[name + "_scale"] = torch.ones(1)
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(("dtype", "scale"), [(torch.int8, False), (torch.int8, True), (torch.float8_e4m3fn, True)])
def test_narrow_weights_without_a_configuration_are_refused(checkpoint_copy, tmp_path, dtype, scale):
    narrow(checkpoint_copy, dtype, scale)
    with pytest.raises(ProbeError, match=r"the tensor transformer_blocks.0.attn.to_q.weight is stored as (I8|F8_E4M3)"):
        _ = model_of(checkpoint_copy, tmp_path / "store").pipeline


def test_weights_cast_to_8_bits_for_storage_are_cast_back(checkpoint_copy, tmp_path):
    """As diffusers' layerwise casting saves them: values of float8, without scales."""
    transformer = Flux2Transformer2DModel.from_pretrained(checkpoint_copy / "transformer")
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    transformer.save_pretrained(checkpoint_copy / "transformer")
    source = model_of(checkpoint_copy, tmp_path / "store").source
    loaded = load_model(source, "cpu", "float32").transformer.transformer_blocks[0].attn.to_q.weight
    stored = load_file(checkpoint_copy / "transformer" / WEIGHTS)["transformer_blocks.0.attn.to_q.weight"]
    assert stored.dtype == torch.float8_e4m3fn and torch.equal(loaded, stored.float())
