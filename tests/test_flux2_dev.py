"""FLUX.2 dev: Klein's transformer with its guidance as an input, prompts read by Mistral behind a system message."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel
from hooked_call import PROMPTS, hooked_pipeline_call
from lora_factory import TOUCHED, save_lora
from PIL import Image
from published_layout import edit, shard
from toy_project import results, run

from fixtures.activations.activations import pooled_rms
from fixtures.activations.capture import capture
from fixtures.activations.patching import INTO, Doses, patch
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.flux2_dev import tiny
from fixtures.models.flux2_dev.components import TEXT_LAYERS
from fixtures.models.flux2_dev.family import Flux2Dev
from fixtures.models.flux2_dev.processor import TextPixtralProcessor
from fixtures.models.flux2_klein.sites import find_sites
from fixtures.models.model import Model
from fixtures.models.units import CELLS, attention_heads, channel_groups
from fixtures.models.weight_files import tensor_headers
from fixtures.session.options import resolve_settings

pytest_plugins = "pytester"
BEFORE = ("language_model.model.", "language_model.lm_head.", "vision_tower.", "multi_modal_projector.")
SHORT = {"text_length": 160, "generation_steps": 3}


def model_of(folder, store, **options) -> Model:
    given = {"model": str(folder), "store": str(store), "device": "cpu", "resolution": "64"} | options
    model = Model(resolve_settings(given, {}, folder, environment={}))
    model.protocol = replace(model.protocol, **SHORT)
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flux2_dev") / "dev-tiny"
    tiny.build(folder)
    return folder


@pytest.fixture(scope="module")
def dev(checkpoint, cache) -> Model:
    return model_of(checkpoint, cache)


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A copy of the checkpoint that a test may damage."""
    return shutil.copytree(checkpoint, tmp_path / "dev")


def prompts(photos=None, number=4):
    return [Stimulus(f"s{i}", PROMPTS[i], photos[i] if photos else None) for i in range(number)]


@pytest.mark.parametrize("step", [None, 1, 3])
def test_capture_equals_a_hooked_pipeline_call(dev, photos, step):
    for stimulus in [*prompts(number=2), *prompts(photos, number=1)]:
        level = None
        if step:
            text = dev.loaded.embed([stimulus.prompt], dev.protocol.text_length)
            image = Image.open(stimulus.image) if stimulus.image else None
            (level,) = dev.source.family.trajectory(dev.pipeline, text, text, dev.protocol, [step], image)
        (ours,) = pooled_rms(capture(dev.loaded, dev.sites, [stimulus], dev.protocol, level=level), dev.groups)
        np.testing.assert_allclose(ours, hooked_pipeline_call(dev, stimulus, step), rtol=2e-6)


def test_the_guidance_is_the_protocols_and_enters_every_block(dev):
    """1.0 where one step is probed, the generation's at one of its steps."""
    passes, text = dev.source.family.passes(dev.pipeline, dev.protocol), dev.loaded.embed(PROMPTS[:2], 160)
    inputs, _ = passes.inputs(text, None)
    assert inputs["guidance"].tolist() == [1.0, 1.0] and inputs["guidance"].dtype == torch.float32
    levels = dev.source.family.trajectory(dev.pipeline, text, text, dev.protocol, [1])
    at_a_step, _ = passes.inputs(text, None, levels[0])
    assert at_a_step["guidance"].tolist() == [4.0, 4.0]
    with torch.inference_mode():
        one, four = (dev.loaded.transformer(**(inputs | {"guidance": at["guidance"]}))[0] for at in (inputs, at_a_step))
    assert not torch.allclose(one, four, rtol=1e-3)


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_any_composition_give_the_same(dev, photos, size):
    stimuli = prompts(photos)
    whole = capture(dev.loaded, dev.sites, stimuli, replace(dev.protocol, batch_size=4, text_batch_size=4))
    parts = capture(dev.loaded, dev.sites, stimuli[::-1], replace(dev.protocol, batch_size=size, text_batch_size=size))
    np.testing.assert_allclose(parts.mean_square[::-1], whole.mean_square, rtol=1e-5)


def test_the_prompt_is_the_last_of_the_text(dev):
    """Mistral's tokenizer pads on the left: the embeddings of what lies before a prompt do not depend on it."""
    length = dev.protocol.text_length
    inputs, rows = dev.source.family.passes(dev.pipeline, dev.protocol).inputs(
        dev.loaded.embed(PROMPTS[:1], length), None
    )
    n = dev.source.family.count_tokens(dev.pipeline, PROMPTS[0])
    cells = rows.cells([n])["text+image"][0]
    prompt, padding = CELLS.index("prompt"), CELLS.index("padding")
    assert (cells[: length - n] == padding).all() and (cells[length - n : length] == prompt).all() and 0 < n < length
    tokenizer = dev.pipeline.tokenizer.tokenizer
    read = dev.pipeline.tokenizer.apply_chat_template(
        [[{"role": "user", "content": [{"type": "text", "text": "a"}]}]],
        **{"tokenize": True, "return_dict": True, "padding": "max_length", "max_length": 8, "truncation": True},
    )
    assert tokenizer.convert_ids_to_tokens(read["input_ids"][0]) == ["<pad>"] * 4 + ["<s>", "[INST]", "a", "[/INST]"]
    other = dev.loaded.embed([PROMPTS[0].replace("glass", "table")], length)
    differ = (other[0] != inputs["encoder_hidden_states"][0]).any(dim=-1)
    assert differ[length - n :].any() and not differ[: length - n].any()


def test_the_text_is_read_as_the_processors_own_class_reads_it(dev, checkpoint):
    pytest.importorskip("torchvision")
    from diffusers.pipelines.flux2.pipeline_flux2 import format_input
    from transformers import PixtralProcessor

    messages = format_input([*PROMPTS, "[IMG] <s> [INST] é", ""], dev.pipeline.system_message)
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "padding": "max_length"}
    for length in (160, 100):
        ours, theirs = (
            kind.from_pretrained(checkpoint / "tokenizer").apply_chat_template(
                messages, **options, truncation=True, max_length=length
            )
            for kind in (TextPixtralProcessor, PixtralProcessor)
        )
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_the_pipeline_never_reads_of_mistral_is_dropped(dev, checkpoint):
    whole = dev.source.family.load(checkpoint, torch.float32, ["transformer", "vae"])
    with torch.inference_mode():
        expected = whole.encode_prompt(PROMPTS, max_sequence_length=160)[0]
    assert torch.equal(dev.loaded.embed(PROMPTS, 160), expected)
    kept = dev.pipeline.text_encoder.model
    assert len(kept.language_model.layers) == max(TEXT_LAYERS) + 1 < len(whole.text_encoder.model.language_model.layers)
    assert not [name for name, _ in kept.named_parameters() if not name.startswith("language_model.")]


def test_images_are_the_pipelines_own(dev, photos):
    text = dev.loaded.embed(PROMPTS[:2], 160)
    shown = Image.open(photos[0])
    with torch.inference_mode():
        ours = dev.source.family.generate(dev.pipeline, text, text, dev.protocol, [3, 4], shown)
    for prompt, seed, image in zip(PROMPTS, (3, 4), ours, strict=False):
        (theirs,) = dev.pipeline(
            image=shown,
            prompt=prompt,
            height=64,
            width=64,
            num_inference_steps=3,
            guidance_scale=4.0,
            max_sequence_length=160,
            generator=torch.Generator().manual_seed(seed),
        ).images
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(theirs)).max() <= 1  # a batch of two rounds otherwise
    assert dev.source.family.passes_per_step(dev.pipeline, dev.protocol) == 1


@pytest.mark.parametrize("with_images", [False, True])
def test_all_units_of_a_are_the_whole_way_and_none_are_none(dev, photos, with_images):
    stimuli = [*prompts(photos if with_images else None, 2)] * 2
    both = Doses.whole(np.array([[True], [False]]) & np.ones(len(dev.groups.units), dtype=bool))
    with WholePasses(dev.loaded, dev.sites, stimuli, dev.protocol) as passes:
        found = patch(passes, dev.groups, both, INTO)
    np.testing.assert_allclose(found.along[0, 0] / found.wanted[0], 1, atol=1e-5)
    assert (np.abs(found.along[0, 1] / found.wanted[0]) < 1e-5).all() and found.wanted[0] > 1e-4 * found.whole[0]


def test_components_that_take_turns_give_the_same(dev, checkpoint, cache):
    turning = model_of(checkpoint, cache, memory="turns")
    found, expected = (capture(m.loaded, m.sites, prompts(), m.protocol).mean_square for m in (turning, dev))
    assert turning.loaded.turns and np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_keeps_the_geometry_and_all_but_the_transformer(dev, kind):
    twin = dev.twin(kind, 3)
    assert find_sites(twin.transformer) == dev.sites
    for name, component in dev.pipeline.components.items():
        assert (getattr(twin.pipeline, name) is component) == (name != "transformer")


def test_a_lora_by_diffusers_names_moves_the_blocks_it_names(dev, checkpoint, cache, tmp_path):
    adapter = save_lora(dev.pipeline.transformer, tmp_path / "lora")
    changed = model_of(checkpoint, cache, lora=str(adapter)).pipeline.transformer.state_dict()
    moved = {
        name for name, tensor in dev.pipeline.transformer.state_dict().items() if not torch.equal(tensor, changed[name])
    }
    assert moved and all(name.startswith(TOUCHED) for name in moved)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("double_blocks.7.txt_mlp.2", "transformer_blocks.7.ff_context.linear_out"),
        ("lora_unet_single_blocks_47_linear2", "single_transformer_blocks.47.attn.to_out"),
        ("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"),  # which Klein has not
    ],
)
def test_original_names_of_a_lora_are_the_modules_they_are(name, module):
    factors = {"lora_A": torch.randn(2, 5), "lora_B": torch.randn(7, 2)}
    found = Flux2Dev().convert_adapter(name, dict(factors))
    expected = {f"transformer.{module}.{part}.weight": tensor for part, tensor in factors.items()}
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_record_says_what_it_is(dev):
    own = dev.description
    assert (own["pipeline_class"], own["is_distilled"], own["published_geometry"]) == ("Flux2Pipeline", False, False)
    assert dev.source.family.own_protocol(dev.source.folder) == {"generation_steps": 28}
    assert dev.protocol.generation_guidance == 4.0


def test_the_units_of_the_published_configuration():
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel()  # the class's own defaults, which are those of the hub's config.json
    assert (transformer.config.num_layers, transformer.config.num_single_layers) == (8, 48)
    assert (transformer.config.joint_attention_dim, transformer.config.guidance_embeds) == (3 * 5120, True)
    sites = find_sites(transformer)
    assert len(channel_groups(sites).units) == 8 * 384 + 48 * 1536 == 76800
    assert len(attention_heads(sites).units) == 56 * 48
    assert {site.channels for site in sites[8:]} == {6144 + 18432}


def test_a_folder_in_the_files_of_the_hub_computes_the_same(dev, broken, tmp_path):
    """Mistral's tensors and options by the names that its class had before, shards, the tokenizer's class as told."""
    assert all(name.startswith(BEFORE) for name in tensor_headers(broken / "text_encoder"))
    shard(broken / "text_encoder", 3)
    shard(broken / "transformer")
    edit(broken / "tokenizer" / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast")
    config = broken / "text_encoder" / "config.json"
    options = json.loads(config.read_text())["text_config"]
    theta = options.pop("rope_parameters")["rope_theta"]
    edit(config, text_config=options | {"rope_theta": theta, "torch_dtype": "float32"}, transformers_version="4.57.1")
    published = model_of(broken, tmp_path / "store")
    found, expected = (capture(m.loaded, m.sites, prompts(), m.protocol).mean_square for m in (published, dev))
    assert np.array_equal(found, expected)


def test_a_foreign_or_missing_component_is_refused_by_name(broken, tmp_path):
    edit(broken / "model_index.json", tokenizer=["transformers", "Qwen2TokenizerFast"])
    with pytest.raises(ProbeError, match=r"component 'tokenizer' is .*Qwen2TokenizerFast.*, expected PixtralProcessor"):
        _ = model_of(broken, tmp_path / "store").source
    edit(broken / "model_index.json", tokenizer=["transformers", "PixtralProcessor"])
    (broken / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ProbeError, match=r"tokenizer.json: this file is missing"):
        _ = model_of(broken, tmp_path / "store").source


def test_a_folder_without_the_chat_template_is_refused(broken, tmp_path):
    (broken / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(ProbeError, match="no chat template"):
        _ = model_of(broken, tmp_path / "store").pipeline


def test_a_run_and_its_baseline(project, checkpoint):
    chosen = (f"--model={checkpoint}", "--resolution=64", "--text-length=200", "--device=cpu", "--controls=none")
    run(project, *chosen, "--save-baseline=then.json", "--baseline-seeds=3").assert_outcomes(passed=2)
    found = results(project)
    assert found["protocol"]["text_length"] == 200 and found["model"]["pipeline_class"] == "Flux2Pipeline"
    run(project, *chosen, "--baseline=then.json").assert_outcomes(passed=3)  # the baseline's own test among them
