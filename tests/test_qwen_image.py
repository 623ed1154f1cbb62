"""Qwen-Image: what is captured, changed and generated equals what its pipeline does; the rest is refused by name."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from published_layout import edit, shard, split_vocabulary
from safetensors.torch import load_file, save_file
from toy_project import IMAGES, pairs, results, run, write

from fixtures.activations.attribution import attribution
from fixtures.activations.capture import capture
from fixtures.activations.patching import INTO, Doses, patch
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.hooks.compiled import compile_blocks
from fixtures.models.model import Model
from fixtures.models.qwen_image import tiny
from fixtures.models.qwen_image.sites import block_of, find_sites
from fixtures.models.qwen_image.tokens import QwenImageRows
from fixtures.models.units import CELLS, attention_heads, channel_groups
from fixtures.session.options import resolve_settings

pytest_plugins = "pytester"

SHORT, LONG = "A glass on a table.", "Two men and a dog in the street " * 4
PROMPTS = [SHORT, "Describe what is depicted in this image.", LONG, "x"]
STIMULI = [Stimulus(prompt[:9], prompt) for prompt in PROMPTS]


def model_of(folder: Path, store: Path, **options) -> Model:
    given = {"model": str(folder), "store": str(store), "device": "cpu", "resolution": "64"} | options
    return Model(resolve_settings(given, {}, folder, environment={}))


@pytest.fixture(scope="module")
def model(tmp_path_factory, cache) -> Model:
    folder = tmp_path_factory.mktemp("qwen_image") / "qwen-image-tiny"
    tiny.build(folder)
    return model_of(folder, cache)


@pytest.fixture
def copy(model, tmp_path) -> Path:
    return Path(shutil.copytree(model.source.folder, tmp_path / "copy"))


def call(model, prompts, steps=2, guidance=1.0, **options):
    """The pipeline's own call."""
    protocol = model.protocol
    return model.pipeline(
        prompt=list(prompts),
        negative_prompt=[""] * len(prompts) if guidance > 1 else None,
        true_cfg_scale=guidance,
        height=protocol.resolution,
        width=protocol.resolution,
        num_inference_steps=steps,
        max_sequence_length=protocol.text_length,
        generator=[torch.Generator().manual_seed(protocol.seed) for _ in prompts],
        **options,
    ).images


def hooked_call(model, prompt, steps=2, guidance=1.0) -> list[np.ndarray]:
    """By pass with the prompt, mean squares by cell and channel group in the pipeline's own call of one prompt, each of
    shape (n_cells, n_groups)."""
    passes = {}
    handles = [
        model.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(
            lambda module, arguments, name=site.name: passes.setdefault(name, []).append(arguments[0][0].double())
        )
        for site in model.sites
    ]
    per_step = 2 if guidance > 1 else 1
    try:
        call(model, [prompt], steps, guidance, output_type="latent")
    finally:
        for handle in handles:
            handle.remove()
    assert {len(found) for found in passes.values()} == {steps * per_step}  # each fires once in a pass
    assert len(passes) == len(model.sites)
    side = model.protocol.resolution // 16
    cells = torch.from_numpy(QwenImageRows((side, side)).cells([0])["image"][0])
    return [
        np.concatenate([_by_cell(passes[site.name][number], cells) for site in model.sites], axis=1)
        for number in range(0, steps * per_step, per_step)
    ]


def _by_cell(hidden: torch.Tensor, cells: torch.Tensor) -> np.ndarray:
    groups = hidden.unflatten(-1, (-1, 16)).square().mean(dim=-1)
    rows = [groups[cells == cell] for cell in range(len(CELLS))]
    return torch.stack([part.mean(dim=0) if len(part) else groups[0] * 0 for part in rows]).numpy()


def test_capture_equals_a_hooked_pipeline_call_of_each_prompt_alone(model):
    """Its first pass: the schedule of one step is not a number where the scheduler's last noise level is given."""
    found = capture(model.loaded, model.sites, STIMULI, model.protocol)
    for prompt, ours in zip(PROMPTS, found.mean_square, strict=True):
        np.testing.assert_allclose(np.sqrt(ours), np.sqrt(hooked_call(model, prompt)[0]), rtol=2e-6)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        call(model, [SHORT], 1, output_type="latent")
    assert model.pipeline.scheduler.timesteps.isnan().all()


def test_what_comes_before_a_prompt_is_dropped_and_its_tokens_are_counted(model):
    tokens = [model.loaded.family.count_tokens(model.pipeline, prompt) for prompt in PROMPTS]
    own = [len(model.pipeline.tokenizer(prompt)["input_ids"]) for prompt in PROMPTS]
    assert tokens == [number + 5 for number in own]  # the end of the message and the beginning of the next one
    text = model.loaded.embed(PROMPTS, model.protocol.text_length)
    assert (text != 0).any(dim=-1).sum(dim=1).tolist() == tokens
    counts = capture(model.loaded, model.sites, STIMULI, model.protocol).token_counts
    assert counts.tolist() == [[number, 0, 4, 4, 4, 4, 0] for number in tokens]


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_any_composition_give_the_same(model, size):
    found = capture(model.loaded, model.sites, STIMULI, model.protocol).mean_square
    turned = capture(model.loaded, model.sites, STIMULI[::-1], replace(model.protocol, batch_size=size)).mean_square
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-5)


def test_a_longer_window_gives_the_same(model):
    found, longer = (
        capture(model.loaded, model.sites, STIMULI, replace(model.protocol, text_length=length)).mean_square
        for length in (128, 200)
    )
    np.testing.assert_allclose(longer, found, rtol=1e-5)
    with pytest.raises(ProbeError, match=r"Two men a: its prompt has \d+ tokens .* expected at most 30"):
        capture(model.loaded, model.sites, STIMULI, replace(model.protocol, text_length=30))


def test_the_published_geometry_has_57600_units():
    """The configuration of Qwen/Qwen-Image."""
    with torch.device("meta"):
        transformer = QwenImageTransformer2DModel()
    sites = find_sites(transformer)
    assert len(channel_groups(sites).units) == 60 * (3072 + 12288) // 16 == 57_600
    assert len(attention_heads(sites).units) == 60 * 24
    assert sum(unit.kind == "attention" for unit in channel_groups(sites).units) == 60 * 192
    assert block_of("transformer_blocks.59.txt_mlp.net.2.weight") == "joint[59]" and block_of("img_in.weight") is None


def test_components_that_take_turns_give_the_same(model, cache):
    turning = model_of(model.source.folder, cache, memory="turns")
    found, expected = (capture(of.loaded, of.sites, STIMULI, of.protocol).mean_square for of in (turning, model))
    assert turning.loaded.turns is not None and np.array_equal(found, expected)


def test_compiled_blocks_give_the_same(model):
    copied = model.loaded.like({"transformer": deepcopy(model.pipeline.transformer)})
    compile_blocks(copied.family, copied.transformer, backend="eager")
    found, expected = (
        capture(of, model.sites, STIMULI[:2], model.protocol).mean_square for of in (copied, model.loaded)
    )
    np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), rtol=1e-5)


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_keeps_the_geometry_and_every_other_component(model, kind):
    twin = model.twin(kind, 3)
    assert find_sites(twin.transformer) == model.sites
    assert all(getattr(twin.pipeline, name) is getattr(model.pipeline, name) for name in ("text_encoder", "vae"))
    weights = [of.transformer_blocks[0].attn.to_q.weight for of in (twin.transformer, model.pipeline.transformer)]
    assert not torch.equal(*weights)


def given(model, prompts):
    """Embeddings of prompts and of as many empty ones."""
    text = model.loaded.embed([*prompts, ""], model.protocol.text_length)
    return text[:-1], text[-1:].expand(len(prompts), -1, -1)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_generation_is_the_pipelines_own_call(model, guidance):
    prompts, family = [SHORT, LONG], model.loaded.family
    protocol = replace(model.protocol, generation_steps=2, generation_guidance=guidance)
    passes = []
    handle = model.pipeline.transformer.register_forward_pre_hook(lambda *of: passes.append(1))
    try:
        images = family.generate(model.pipeline, *given(model, prompts), protocol, [protocol.seed] * 2)
    finally:
        handle.remove()
    for ours, other in zip(images, call(model, prompts, 2, guidance), strict=True):
        np.testing.assert_allclose(np.asarray(ours, dtype=int), np.asarray(other, dtype=int), atol=1)
    assert len(passes) == 2 * family.passes_per_step(model.pipeline, protocol)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_level_is_what_a_generation_comes_through(model, guidance):
    protocol = replace(model.protocol, generation_steps=3, generation_guidance=guidance)
    prompts = [SHORT, LONG]
    levels = model.loaded.family.trajectory(model.pipeline, *given(model, prompts), protocol, [1, 2, 3])
    assert levels[0].sigma == 1 and levels[0].timestep == 1000
    assert levels[2].sigma == pytest.approx(0.02)  # what the scheduler is told to end at
    for number, prompt in enumerate(prompts):
        passes = hooked_call(model, prompt, 3, guidance)
        for level in levels:
            found = capture(model.loaded, model.sites, [Stimulus("s", prompt)], protocol, level=level.of([number]))
            np.testing.assert_allclose(np.sqrt(found.mean_square[0]), np.sqrt(passes[level.step - 1]), rtol=1e-5)


def test_all_units_of_a_pair_are_the_whole_way_and_none_are_none(model):
    """A prompt reaches the noise by attention alone, so that its units are the whole way too."""
    own = [Stimulus("a", LONG), Stimulus("b", SHORT)]
    attention = np.array([unit.kind == "attention" for unit in model.groups.units])
    doses = Doses.whole(np.array([attention | True, attention, attention & False]))
    with WholePasses(model.loaded, model.sites, [*own, *own], model.protocol) as passes:
        found = patch(passes, model.groups, doses, INTO)
    np.testing.assert_allclose(found.along[0, :2] / found.wanted[0], 1, atol=1e-5)
    np.testing.assert_allclose(found.size[0, :2] / found.wanted[0], 1, atol=1e-5)
    assert (np.abs(found.along[0, 2] / found.wanted[0]) < 1e-5).all()
    assert found.wanted[0] > 1e-4 * found.whole[0]


def test_gradients_pass_what_the_transformer_keeps(model):
    """The places of tokens are kept where they were first computed; on a GPU those of prompts are a copy."""
    twin = model.twin("shuffled", 5)
    rope = twin.transformer.pos_embed
    rope.pos_freqs, rope.neg_freqs = _Elsewhere(rope.pos_freqs), _Elsewhere(rope.neg_freqs)
    capture(twin, model.sites, STIMULI, model.protocol)
    with WholePasses(twin, model.sites, STIMULI, model.protocol) as passes:
        found = attribution(passes, 1, 1, INTO)
    assert np.isfinite(found).all() and np.abs(found).max() > 0


class _Elsewhere:
    """A tensor that is copied to any device."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def to(self, device) -> torch.Tensor:
        return self.tensor.clone()


def save_lora(model, folder: Path, style: str) -> Path:
    """A LoRA on one attention output projection, by diffusers' names or by those of trainers."""
    generator = torch.Generator().manual_seed(0)
    width = model.pipeline.transformer.inner_dim
    down, up = torch.randn(2, width, generator=generator), torch.randn(width, 2, generator=generator)
    name, parts = {
        "diffusers": ("transformer.transformer_blocks.1.attn.to_out.0", ("lora_A", "lora_B")),
        "original": ("diffusion_model.transformer_blocks.1.attn.to_out.0", ("lora_A", "lora_B")),
        "kohya": ("lora_unet_transformer_blocks_1_attn_to_out_0", ("lora_down", "lora_up")),
    }[style]
    folder.mkdir()
    file = folder / "lora.safetensors"
    save_file({f"{name}.{parts[0]}.weight": down, f"{name}.{parts[1]}.weight": up}, file)
    return file


@pytest.mark.parametrize("style", ["diffusers", "original", "kohya"])
def test_a_lora_is_added_to_the_module_that_it_names(model, tmp_path, cache, style):
    file = save_lora(model, tmp_path / "lora", style)
    changed = model_of(model.source.folder, cache, lora=f"{file}:0.5").pipeline.transformer
    state = load_file(file)
    down, up = (state[key] for key in sorted(state, key=lambda key: "up" in key or "lora_B" in key))
    plain = model.pipeline.transformer
    before, after = (of.transformer_blocks[1].attn.to_out[0].weight for of in (plain, changed))
    torch.testing.assert_close(after - before, 0.5 * up @ down, rtol=1e-4, atol=1e-5)
    pairs = zip(plain.named_parameters(), changed.parameters(), strict=True)
    differing = [name for (name, own), other in pairs if not torch.equal(own, other)]
    assert differing == ["transformer_blocks.1.attn.to_out.0.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "QwenImageEditPipeline"}, "is 'QwenImageEditPipeline'.*together with the pictures"),
        ({"_class_name": "QwenImageLayeredPipeline"}, "is 'QwenImageLayeredPipeline'.*takes a picture apart"),
        ({"vae": ["diffusers", "AutoencoderKL"]}, "component 'vae' is .*expected AutoencoderKLQwenImage"),
        ({"text_encoder": ["transformers", "Qwen3Model"]}, "'text_encoder' is .*Qwen2_5_VLForConditionalGeneration"),
    ],
)
def test_what_is_something_else_is_refused_by_name(copy, cache, change, message):
    index = copy / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(ProbeError, match=message):
        _ = model_of(copy, cache).source


@pytest.mark.parametrize(
    ("component", "file", "tensor", "loaded"),
    [
        ("transformer", "diffusion_pytorch_model", "transformer_blocks.0.attn.add_q_proj.weight", None),
        # the name that transformers gives it while loading
        (
            *("text_encoder", "model", "model.layers.0.self_attn.q_proj.weight"),
            "model.language_model.layers.0.self_attn.q_proj.weight",
        ),
    ],
)
def test_a_missing_tensor_is_refused_by_name(copy, cache, component, file, tensor, loaded):
    file = copy / component / f"{file}.safetensors"
    stored = load_file(file)
    del stored[tensor]
    save_file(stored, file, {"format": "pt"})
    with pytest.raises(ProbeError, match=f"{component}: the tensor {loaded or tensor} is missing"):
        _ = model_of(copy, cache).loaded


def test_a_folder_of_the_published_layout_computes_the_same(model, copy, cache):
    """That of Qwen/Qwen-Image: options of an older class, and those of the language model a second time."""
    edit(copy / "transformer" / "config.json", pooled_projection_dim=768)
    file = copy / "text_encoder" / "config.json"
    inner = json.loads(file.read_text())["text_config"]
    rope = inner.pop("rope_parameters")
    inner |= {"rope_scaling": {"mrope_section": rope["mrope_section"], "rope_type": "default", "type": "default"}}
    inner |= {"rope_theta": rope["rope_theta"], "torch_dtype": "float32"}
    outer = {name: value for name, value in inner.items() if name not in ("model_type", "layer_types", "pad_token_id")}
    edit(file, text_config=inner, **outer, transformers_version="4.54.0")
    for component in ("text_encoder", "transformer"):
        shard(copy / component)
    split_vocabulary(copy / "tokenizer")
    read = model_of(copy, cache)
    found, expected = (capture(of.loaded, of.sites, STIMULI, of.protocol).mean_square for of in (read, model))
    assert np.array_equal(found, expected)


def test_an_option_that_somebody_may_compute_by_is_still_refused(copy, cache):
    edit(copy / "transformer" / "config.json", pooled_projection_dim=768, zero_everything=True)
    with pytest.raises(ProbeError, match="the option 'zero_everything' is not known"):
        _ = model_of(copy, cache).loaded


def test_what_sees_pictures_is_not_kept(model):
    encoder = model.pipeline.text_encoder
    assert not [name for name, _ in encoder.named_parameters() if "visual" in name or "lm_head" in name]


def test_reference_images_are_refused_with_the_reason(model, photos):
    with pytest.raises(ProbeError, match="Qwen-Image: its pipeline, .* is given a prompt alone"):
        capture(model.loaded, model.sites, [Stimulus("s", SHORT, photos[0])], model.protocol)


def test_a_whole_run_is_stored_compared_and_repeated(project, model):
    chosen = ["--model", str(model.source.folder), "--resolution", "64", "--controls", "none"]
    run(project, *chosen, "--save-baseline", "then.json").assert_outcomes(passed=2)
    then = results(project)["hypotheses"][0]
    assert then["claims"][0]["verdict"] == "supported"
    again = run(project, *chosen, "--store-only", "--baseline", "then.json")
    again.stdout.no_fnmatch_line("*FAILED*")
    assert results(project)["hypotheses"][0]["counts"] == then["counts"]


def test_image_pairs_are_not_evaluated_and_the_reason_is_said(project, model):
    write(project, "stimuli/toy.toml", IMAGES + pairs(10))
    outcome = run(project, "--model", str(model.source.folder), "--resolution", "64", "--controls", "none")
    outcome.stdout.fnmatch_lines(["*no reference images with this family: its pipeline, *is given a prompt alone*"])
