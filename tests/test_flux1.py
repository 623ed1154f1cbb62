"""FLUX.1, dev and schnell: text by T5, and once more as CLIP's pooled vector; no reference images."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from hooked_call import PROMPTS, hooked_pipeline_call
from lora_factory import TOUCHED, save_lora
from PIL import Image
from published_layout import edit, shard, split_vocabulary
from toy_project import CONTROL, IMAGES, PROBE, STIMULI, folder, pairs, results, run, write

from fixtures.activations.activations import pooled_rms
from fixtures.activations.capture import capture
from fixtures.activations.patching import INTO, Doses, patch
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.flux1 import tiny
from fixtures.models.flux1.family import Flux1
from fixtures.models.flux1.sites import find_sites
from fixtures.models.model import Model
from fixtures.models.units import CELLS, attention_heads, channel_groups
from fixtures.models.weight_files import tensor_headers
from fixtures.session.options import resolve_settings

pytest_plugins = "pytester"
LENGTH = 64
KINDS = ("dev", "schnell")


def model_of(path, store, **options) -> Model:
    given = {"model": str(path), "store": str(store), "device": "cpu", "resolution": "64"} | options
    model = Model(resolve_settings(given, {}, path, environment={}))
    model.own = model.protocol
    model.protocol = replace(model.protocol, text_length=LENGTH, generation_steps=3)
    return model


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    found = {kind: tmp_path_factory.mktemp("flux1") / f"{kind}-tiny" for kind in KINDS}
    for kind, path in found.items():
        tiny.build(path, schnell=kind == "schnell")
    return found


@pytest.fixture(scope="module")
def members(checkpoints, cache):
    return {kind: model_of(path, cache) for kind, path in checkpoints.items()}


@pytest.fixture(params=KINDS)
def member(request, members) -> Model:
    return members[request.param]


@pytest.fixture
def dev(members) -> Model:
    return members["dev"]


@pytest.fixture
def broken(checkpoints, tmp_path):
    """A copy of dev's checkpoint that a test may damage."""
    return shutil.copytree(checkpoints["dev"], tmp_path / "dev")


def prompts(number=4):
    return [Stimulus(f"s{i}", prompt) for i, prompt in enumerate(PROMPTS[:number])]


@pytest.mark.parametrize("step", [None, 1, 3])
def test_capture_equals_a_hooked_pipeline_call(member, step):
    for stimulus in prompts(2):
        level = None
        if step:
            text = member.loaded.embed([stimulus.prompt], LENGTH)
            (level,) = member.source.family.trajectory(member.pipeline, text, text, member.protocol, [step])
        (ours,) = pooled_rms(
            capture(member.loaded, member.sites, [stimulus], member.protocol, level=level), member.groups
        )
        np.testing.assert_allclose(ours, hooked_pipeline_call(member, stimulus, step), rtol=2e-6)


def test_dev_has_its_guidance_as_an_input_and_a_shifted_schedule_schnell_neither(members):
    given, second = {}, {}
    for kind, member in members.items():
        family, text = member.source.family, member.loaded.embed(PROMPTS[:2], LENGTH)
        passes = family.passes(member.pipeline, member.protocol)
        (level,) = family.trajectory(member.pipeline, text, text, member.protocol, [2])
        guidance = [passes.inputs(text, None, at)[0]["guidance"] for at in (None, level)]
        given[kind] = [scale if scale is None else scale.tolist() for scale in guidance]
        second[kind] = level.sigma
    assert given == {"dev": [[1.0, 1.0], [3.5, 3.5]], "schnell": [None, None]}
    assert second["schnell"] == pytest.approx(2 / 3) and second["dev"] > 0.75


def test_each_member_draws_as_it_was_made_to(members):
    own = {kind: member.own for kind, member in members.items()}
    found = {kind: (p.generation_steps, p.generation_guidance, p.text_length) for kind, p in own.items()}
    assert found == {"dev": (28, 3.5, 512), "schnell": (4, 0.0, 256)}
    assert {kind: member.description["is_distilled"] for kind, member in members.items()} == {
        "dev": False,
        "schnell": True,
    }


def test_the_pooled_text_is_one_more_row(dev):
    """CLIP's vector, filled up with zeros: whatever measures what enters the transformer measures it too."""
    with torch.inference_mode():
        text = dev.loaded.embed(PROMPTS, LENGTH)
        words, pooled, _ = dev.pipeline.encode_prompt(PROMPTS, max_sequence_length=LENGTH)
    assert text.shape == (len(PROMPTS), LENGTH + 1, words.shape[2]) and torch.equal(text[:, :-1], words)
    assert torch.equal(text[:, -1, : pooled.shape[1]], pooled) and (text[:, -1, pooled.shape[1] :] == 0).all()
    inputs, _ = dev.source.family.passes(dev.pipeline, dev.protocol).inputs(list(text), None)
    assert torch.equal(inputs["encoder_hidden_states"], words) and torch.equal(inputs["pooled_projections"], pooled)


def test_rows_of_the_text_are_counted_in_tokens_of_t5(dev):
    tokenizer = dev.pipeline.tokenizer_2
    passes = dev.source.family.passes(dev.pipeline, dev.protocol)
    _, rows = passes.inputs(dev.loaded.embed(PROMPTS[:1], LENGTH), None)
    n = dev.source.family.count_tokens(dev.pipeline, PROMPTS[0])
    read = tokenizer(PROMPTS[0], padding="max_length", max_length=LENGTH)["input_ids"]
    assert read[n - 1] == tokenizer.eos_token_id and set(read[n:]) == {tokenizer.pad_token_id}
    cells = rows.cells([n])
    text = cells["text+image"][0, :LENGTH]
    assert (text[:n] == CELLS.index("prompt")).all() and (text[n:] == CELLS.index("padding")).all()
    assert np.array_equal(cells["text+image"][0, LENGTH:], cells["image"][0]) and cells["image"].shape == (1, 16)


def test_attention_comes_first_and_then_the_mlp_of_text_before_image(dev):
    """Of what enters a single block's output projection."""
    block, seen = dev.loaded.transformer.single_transformer_blocks[1], {}
    handles = [
        module.register_forward_hook(lambda module, given, out, name=name: seen.update({name: (given, out)}))
        for name, module in (("attn", block.attn), ("mlp", block.act_mlp), ("out", block.proj_out))
    ]
    last = dev.loaded.transformer.transformer_blocks[-1].register_forward_hook(
        lambda module, given, out: seen.update(joint=out)
    )
    first = dev.loaded.transformer.single_transformer_blocks[0].norm.register_forward_pre_hook(
        lambda module, given: seen.update(single=given[0])
    )
    passes = dev.source.family.passes(dev.pipeline, dev.protocol)
    with torch.inference_mode():
        dev.loaded.transformer(**passes.inputs(dev.loaded.embed(PROMPTS[:1], LENGTH), None)[0])
    for handle in (*handles, last, first):
        handle.remove()
    (entered,), site = seen["out"][0], dev.sites[3]
    assert site.name == "single_transformer_blocks.1.proj_out" and site.channels == entered.shape[-1]
    assert torch.equal(entered[..., : site.attention_channels], seen["attn"][1])
    assert torch.equal(entered[..., site.attention_channels :], seen["mlp"][1])
    assert torch.equal(seen["single"], torch.cat(seen["joint"], dim=1))  # which are text, image
    assert seen["joint"][0].shape[1] == LENGTH


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_any_composition_give_the_same(dev, size):
    stimuli = prompts()
    whole = capture(dev.loaded, dev.sites, stimuli, replace(dev.protocol, batch_size=4, text_batch_size=4))
    parts = capture(dev.loaded, dev.sites, stimuli[::-1], replace(dev.protocol, batch_size=size, text_batch_size=size))
    np.testing.assert_allclose(parts.mean_square[::-1], whole.mean_square, rtol=1e-5)


def test_components_that_take_turns_give_the_same(dev, checkpoints, cache):
    turning = model_of(checkpoints["dev"], cache, memory="turns")
    found, expected = (capture(m.loaded, m.sites, prompts(), m.protocol).mean_square for m in (turning, dev))
    assert turning.loaded.turns and np.array_equal(found, expected)
    assert turning.pipeline.text_encoder_2 is None and turning.pipeline.text_encoder is not None


def test_images_are_the_pipelines_own(member):
    text, guidance = member.loaded.embed(PROMPTS[:2], LENGTH), member.protocol.generation_guidance
    with torch.inference_mode():
        ours = member.source.family.generate(member.pipeline, text, text, member.protocol, [3, 4])
    for prompt, seed, image in zip(PROMPTS, (3, 4), ours, strict=False):
        (theirs,) = member.pipeline(
            prompt=prompt,
            height=64,
            width=64,
            num_inference_steps=3,
            guidance_scale=guidance,
            max_sequence_length=LENGTH,
            generator=torch.Generator().manual_seed(seed),
        ).images
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(theirs)).max() <= 1  # a batch of two rounds otherwise
    assert member.source.family.passes_per_step(member.pipeline, member.protocol) == 1


def test_what_writes_all_of_a_does_not_give_its_prediction(dev):
    """Which is why patching is refused: the pooled text enters by another way than the sites."""
    both = Doses.whole(np.array([[True], [False]]) & np.ones(len(dev.groups.units), dtype=bool))
    with WholePasses(dev.loaded, dev.sites, prompts(2) * 2, dev.protocol) as passes:
        found = patch(passes, dev.groups, both, INTO)
    assert (np.abs(found.along[0, 0] / found.wanted[0] - 1) > 0.02).all()
    assert (np.abs(found.along[0, 1] / found.wanted[0]) < 1e-5).all()
    text = dev.loaded.embed(PROMPTS[:2], LENGTH)
    text[1, -1] = text[0, -1]
    same = dict(zip(PROMPTS, text, strict=False))
    dev.loaded.text_embeddings.clear()
    dev.loaded.text_embeddings.update(
        {(prompt, dev.protocol.text_batch_size, LENGTH): row for prompt, row in same.items()}
    )
    with WholePasses(dev.loaded, dev.sites, prompts(2) * 2, dev.protocol) as passes:
        found = patch(passes, dev.groups, both, INTO)
    dev.loaded.text_embeddings.clear()
    np.testing.assert_allclose(found.along[0, 0] / found.wanted[0], 1, atol=1e-5)
    assert "modulation" in dev.source.family.layout.refused["patching"]


def test_images_are_refused_with_the_reason(dev):
    family, image = dev.source.family, Image.new("RGB", (64, 64))
    asked = {
        "check": lambda: family.check_image(image),
        "fitted": lambda: family.fitted(image, 16),
        "pixels": lambda: family.pixels(dev.pipeline, image),
        "latents": lambda: family.latents(dev.pipeline, torch.zeros(1, 3, 64, 64)),
    }
    for ask in asked.values():
        with pytest.raises(
            ProbeError, match=r"no reference images with FLUX.1: its pipeline, FluxPipeline, takes none \(that of"
        ):
            ask()


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_keeps_the_geometry_and_all_but_the_transformer(dev, kind):
    twin = dev.twin(kind, 3)
    assert find_sites(twin.transformer) == dev.sites
    for name, component in dev.pipeline.components.items():
        assert (getattr(twin.pipeline, name) is component) == (name != "transformer" or component is None)


def test_a_lora_by_diffusers_names_moves_the_blocks_it_names(dev, checkpoints, cache, tmp_path):
    adapter = save_lora(dev.pipeline.transformer, tmp_path / "lora")
    changed = model_of(checkpoints["dev"], cache, lora=str(adapter)).pipeline.transformer.state_dict()
    before = dev.pipeline.transformer.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, changed[name])}
    assert moved and all(name.startswith(TOUCHED) for name in moved)


ORIGINAL = {  # names of the original modules: those of diffusers that they are, with their widths
    "double_blocks.3.img_attn.qkv": {f"transformer_blocks.3.attn.to_{part}": 3072 for part in "qkv"},
    "double_blocks.3.txt_attn.proj": {"transformer_blocks.3.attn.to_add_out": 3072},
    "double_blocks.3.img_mlp.0": {"transformer_blocks.3.ff.net.0.proj": 12288},
    "single_blocks.5.linear1": {f"single_transformer_blocks.5.attn.to_{part}": 3072 for part in "qkv"}
    | {"single_transformer_blocks.5.proj_mlp": 12288},
    "single_blocks.5.linear2": {"single_transformer_blocks.5.proj_out": 3072},
    "img_in": {"x_embedder": 3072},
    "guidance_in.in_layer": {"time_text_embed.guidance_embedder.linear_1": 3072},
    "vector_in.out_layer": {"time_text_embed.text_embedder.linear_2": 3072},
    "final_layer.adaLN_modulation.1": {"norm_out.linear": 6144},
}


@pytest.mark.parametrize("name", ORIGINAL)
@pytest.mark.parametrize("spelled", ["{}", "lora_unet_{}"])
def test_original_names_of_a_lora_are_the_modules_they_are(name, spelled):
    widths = ORIGINAL[name]
    own = spelled.format(name if spelled == "{}" else name.replace(".", "_"))
    factors = {"lora_A": torch.randn(2, 5), "lora_B": torch.randn(sum(widths.values()), 2)}
    found = Flux1().convert_adapter(own, dict(factors))
    assert set(found) == {f"transformer.{module}.lora_{side}.weight" for module in widths for side in "AB"}
    added = [
        found[f"transformer.{module}.lora_B.weight"] @ found[f"transformer.{module}.lora_A.weight"] for module in widths
    ]
    expected = factors["lora_B"] @ factors["lora_A"]
    if name.startswith("final_layer"):  # shift before scale, and diffusers scale before shift
        expected = torch.cat(expected.chunk(2)[::-1])
    torch.testing.assert_close(torch.cat(added), expected)


def test_the_units_of_the_published_configuration():
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)  # the class's own defaults, which are the hub's
    sites = find_sites(transformer)
    assert len(channel_groups(sites).units) == 19 * 192 + 38 * 960 == 40128
    assert len(attention_heads(sites).units) == 57 * 24
    assert {site.channels for site in sites[19:]} == {3072 + 12288}


def test_a_folder_in_the_files_of_the_hub_computes_the_same(dev, broken, tmp_path):
    """As older libraries wrote it: CLIP's tensors behind a prefix and its vocabulary in two files, T5's tied tensors
    once, shards, and options that are the classes' own defaults left out."""
    clip, t5 = (tensor_headers(broken / name) for name in ("text_encoder", "text_encoder_2"))
    assert all(name.startswith("text_model.") for name in clip)
    assert "shared.weight" in t5 and "encoder.embed_tokens.weight" not in t5
    shard(broken / "text_encoder_2")
    shard(broken / "transformer", 3)
    split_vocabulary(broken / "tokenizer")
    (broken / "tokenizer" / "tokenizer.json").unlink()
    edit(broken / "model_index.json", tokenizer_2=["transformers", "T5TokenizerFast"])
    published = model_of(broken, tmp_path / "store")
    found, expected = (capture(m.loaded, m.sites, prompts(), m.protocol).mean_square for m in (published, dev))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("pipeline", ["FluxKontextPipeline", "FluxFillPipeline", "FluxControlPipeline"])
def test_related_pipelines_are_refused_for_what_they_are(broken, tmp_path, pipeline):
    edit(broken / "model_index.json", _class_name=pipeline)
    with pytest.raises(ProbeError, match=rf"is '{pipeline}', expected .*Its .*; it cannot be probed here"):
        _ = model_of(broken, tmp_path / "store").source


def test_a_foreign_or_missing_component_is_refused_by_name(broken, tmp_path):
    edit(broken / "model_index.json", text_encoder_2=["transformers", "UMT5EncoderModel"])
    with pytest.raises(
        ProbeError, match=r"component 'text_encoder_2' is .*UMT5EncoderModel.*, expected T5EncoderModel"
    ):
        _ = model_of(broken, tmp_path / "store").source
    edit(broken / "model_index.json", text_encoder_2=["transformers", "T5EncoderModel"])
    (broken / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(ProbeError, match=r"text_encoder_2: no weights, expected model.safetensors"):
        _ = model_of(broken, tmp_path / "store").source


def test_a_run_measures_what_it_can_and_says_what_it_does_not(project, checkpoints):
    drawn = IMAGES.replace('"toy"', '"drawn"') + pairs(4)
    write(project, "stimuli/toy.toml", STIMULI + pairs(24))
    write(project, "stimuli/drawn.toml", drawn)
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    write(project, "probes/test_drawn.py", PROBE.replace('"toy"', '"drawn"'))
    chosen = (f"--model={checkpoints['dev']}", "--resolution=64", "--text-length=64", "--controls=sufficient")
    run(project, *chosen, "--device=cpu")
    found = {one["id"]: one for one in results(project, folder(project))["hypotheses"]}
    run(project, *chosen, "--device=cpu", "--store-only")
    again = {one["id"]: one for one in results(project, folder(project))["hypotheses"]}
    assert [claim["observed"] for claim in again["toy"]["claims"]] == [c["observed"] for c in found["toy"]["claims"]]
    assert [claim["verdict"] for claim in found["toy"]["claims"]][0] == "supported"
    assert {claim["verdict"] for claim in found["drawn"]["claims"]} == {"not evaluated"}
    (sufficient,) = (control for control in found["toy"]["controls"] if control["id"] == "sufficient")
    assert sufficient["verdict"] == "not evaluated" and "modulation of every block" in sufficient["reason"]
    assert "takes none (that of FLUX.1 Kontext" in found["drawn"]["claims"][0]["reason"]
