"""Z-Image: what is captured, changed and generated equals what its pipeline does; the rest is refused by name."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ZImageTransformer2DModel
from published_layout import edit, shard, split_vocabulary
from safetensors.torch import load_file, save_file
from toy_project import IMAGES, pairs, results, run, write

from fixtures.activations.attribution import attribution
from fixtures.activations.capture import capture
from fixtures.activations.generations import Generations
from fixtures.activations.interventions import channels_of
from fixtures.activations.patching import INTO, Doses, patch, written
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.hooks.compiled import compile_blocks
from fixtures.models.hooks.interventions import Change
from fixtures.models.model import Model
from fixtures.models.units import CELLS, attention_heads, channel_groups
from fixtures.models.z_image import tiny
from fixtures.models.z_image.forward import packed, unpacked
from fixtures.models.z_image.sites import block_of, find_sites
from fixtures.models.z_image.tokens import ZImageRows
from fixtures.session.options import resolve_settings

pytest_plugins = "pytester"

SHORT, LONG = "A glass on a table.", "Two men and a dog in the street " * 4
PROMPTS = [SHORT, "Describe what is depicted in this image.", LONG, "x"]
STIMULI = [Stimulus(prompt[:9], prompt) for prompt in PROMPTS]


def model_of(folder: Path, store: Path, **options) -> Model:
    given = {"model": str(folder), "store": str(store), "device": "cpu", "resolution": "128"} | options
    return Model(resolve_settings(given, {}, folder, environment={}))


@pytest.fixture(scope="module")
def model(tmp_path_factory, cache) -> Model:
    folder = tmp_path_factory.mktemp("z_image") / "z-image-tiny"
    tiny.build(folder)
    return model_of(folder, cache)


@pytest.fixture
def copy(model, tmp_path) -> Path:
    return Path(shutil.copytree(model.source.folder, tmp_path / "copy"))


def call(model, prompts, steps=1, guidance=0.0, **options):
    """The pipeline's own call."""
    protocol = model.protocol
    return model.pipeline(
        prompt=list(prompts),  # which it changes
        height=protocol.resolution,
        width=protocol.resolution,
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=protocol.text_length,
        generator=[torch.Generator().manual_seed(protocol.seed) for _ in prompts],
        **options,
    ).images


def hooked_call(model, prompt, steps=1) -> list[dict[str, torch.Tensor]]:
    """By pass, what enters each site in the pipeline's own call of one prompt."""
    passes = {}
    handles = [
        model.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(
            lambda module, arguments, name=site.name: passes.setdefault(name, []).append(arguments[0][0].double())
        )
        for site in model.sites
    ]
    try:
        call(model, [prompt], steps, output_type="latent")
    finally:
        for handle in handles:
            handle.remove()
    assert {len(found) for found in passes.values()} == {steps} and len(passes) == len(model.sites)  # each fires once
    return [{name: found[number] for name, found in passes.items()} for number in range(steps)]


def expected(model, prompt, found) -> np.ndarray:
    """Mean squares by cell and channel group of one hooked pass, shape (n_cells, n_groups)."""
    grid = model.protocol.resolution // 16
    tokens = model.loaded.family.count_tokens(model.pipeline, prompt)
    cells = ZImageRows((grid, grid)).cells([tokens])
    columns = []
    for site in model.sites:
        of_rows = torch.from_numpy(cells[site.stream][0])
        assert len(of_rows) == len(found[site.name])
        groups = found[site.name].unflatten(-1, (-1, 16)).square().mean(dim=-1)
        rows = [groups[of_rows == cell] for cell in range(len(CELLS))]
        columns.append(torch.stack([part.mean(dim=0) if len(part) else torch.zeros(site.n_groups) for part in rows]))
    return torch.cat(columns, dim=1).numpy()


def test_capture_equals_a_hooked_pipeline_call_of_each_prompt_alone(model):
    """Prompts of three windows of 32 rows in one batch."""
    found = capture(model.loaded, model.sites, STIMULI, model.protocol)
    for prompt, ours in zip(PROMPTS, found.mean_square, strict=True):
        theirs = expected(model, prompt, hooked_call(model, prompt)[0])
        np.testing.assert_allclose(np.sqrt(ours), np.sqrt(theirs), rtol=2e-6)


def test_the_rows_are_those_that_the_transformer_fills_up(model):
    tokens = [model.loaded.family.count_tokens(model.pipeline, prompt) for prompt in PROMPTS]
    assert [-(-number // 32) for number in tokens] == [1, 1, 3, 1]
    counts = capture(model.loaded, model.sites, STIMULI, model.protocol).token_counts
    assert counts[:, CELLS.index("prompt")].tolist() == tokens
    assert counts[:, CELLS.index("padding")].tolist() == [-number % 32 for number in tokens]
    assert (counts[:, 2:6] == 16).all() and (counts[:, 6] == 0).all()


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_any_composition_give_the_same(model, size):
    found = capture(model.loaded, model.sites, STIMULI, model.protocol).mean_square
    turned = capture(model.loaded, model.sites, STIMULI[::-1], replace(model.protocol, batch_size=size)).mean_square
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-5)


def test_what_nothing_else_has_entered_is_equal(model):
    """The noise before it meets the prompt: in every bit where prompts are filled up to one length, and but for the
    rounding of its place where they are not."""
    found = capture(model.loaded, model.sites, STIMULI, replace(model.protocol, batch_size=1)).mean_square
    closed = np.repeat([site.stream == "noise" for site in model.sites], [site.n_groups for site in model.sites])
    short, like, long, _ = found[..., closed]
    assert np.array_equal(short, like) and np.array_equal(short, found[3][..., closed])
    np.testing.assert_allclose(long, short, rtol=5e-6)
    assert not np.allclose(found[0][..., ~closed], found[1][..., ~closed], rtol=1e-3)


def test_a_resolution_at_which_the_noise_would_depend_on_the_prompts_length_is_refused(model):
    with pytest.raises(ProbeError, match="--resolution 64: 16 tokens, expected a multiple of 32"):
        capture(model.loaded, model.sites, STIMULI, replace(model.protocol, resolution=64))


def test_the_published_geometry_has_29920_units():
    """The configuration of Tongyi-MAI/Z-Image and Z-Image-Turbo."""
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel(axes_lens=[1536, 512, 512])
    sites = find_sites(transformer)
    assert len(channel_groups(sites).units) == (2 + 2 + 30) * (3840 + 10240) // 16 == 29_920
    assert len(attention_heads(sites).units) == 34 * 30
    assert {kind: sum(unit.kind == kind for unit in channel_groups(sites).units) for kind in ("attention", "mlp")} == {
        "attention": 34 * 240,
        "mlp": 34 * 640,
    }
    assert block_of("layers.29.attention.to_q.weight") == "layer[29]" and block_of("cap_embedder.1.weight") is None


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
    assert not torch.equal(twin.transformer.layers[0].attention.to_q.weight, layer(model).attention.to_q.weight)


def layer(model):
    return model.pipeline.transformer.layers[0]


def given(model, prompts):
    """Embeddings of prompts and of as many empty ones."""
    length = model.protocol.text_length
    text = model.loaded.embed([*prompts, ""], length)
    return text[:-1], text[-1:].expand(len(prompts), -1, -1)


@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_a_generation_is_the_pipelines_own_call(model, guidance):
    prompts, family = [SHORT, LONG], model.loaded.family
    protocol = replace(model.protocol, generation_steps=2, generation_guidance=guidance)
    images = family.generate(model.pipeline, *given(model, prompts), protocol, [protocol.seed] * 2)
    theirs = call(model, prompts, 2, guidance)
    for ours, other in zip(images, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(ours, dtype=int), np.asarray(other, dtype=int), atol=1)
    assert family.passes_per_step(model.pipeline, protocol) == (2 if guidance else 1)


def test_a_level_is_what_a_generation_comes_through(model):
    protocol = replace(model.protocol, generation_steps=3, generation_guidance=0.0)
    prompts = [SHORT, LONG]
    levels = model.loaded.family.trajectory(model.pipeline, *given(model, prompts), protocol, [1, 2, 3])
    assert [level.sigma for level in levels] == pytest.approx([1.0, 0.857142, 0.6])  # shifted by 3
    for number, prompt in enumerate(prompts):
        passes = hooked_call(model, prompt, 3)
        for level in levels[1:]:
            found = capture(model.loaded, model.sites, [Stimulus("s", prompt)], protocol, level=level.of([number]))
            theirs = expected(model, prompt, passes[level.step - 1])
            np.testing.assert_allclose(np.sqrt(found.mean_square[0]), np.sqrt(theirs), rtol=1e-5)


def test_packed_latents_come_back():
    latents = torch.randn(2, 4, 6, 8)
    tokens = packed(latents)
    assert tokens.shape == (2, 12, 16) and torch.equal(unpacked(tokens, (3, 4)), latents)
    assert torch.equal(tokens[0, 1], latents[0, :, :2, 2:4].flatten())


def test_all_units_of_a_pair_are_the_whole_way_and_none_are_none(model):
    """Every way by which a prompt reaches the noise leads through a site, whatever the lengths of A's and B's."""
    own = [Stimulus("a", LONG), Stimulus("b", SHORT)]
    doses = Doses.whole(np.array([[True], [False]]) & np.ones(len(model.groups.units), dtype=bool))
    with WholePasses(model.loaded, model.sites, [*own, *own], model.protocol) as passes:
        found = patch(passes, model.groups, doses, INTO)
        np.testing.assert_allclose(found.along[0, 0] / found.wanted[0], 1, atol=1e-5)
        np.testing.assert_allclose(found.size[0, 0] / found.wanted[0], 1, atol=1e-5)
        assert (np.abs(found.along[0, 1] / found.wanted[0]) < 1e-5).all()
        assert found.wanted[0] > 1e-4 * found.whole[0]
        norms = written(passes, 1)[0]
    streams = np.array([unit.stream for unit in model.groups.units])
    assert (norms[streams == "text"] == 0).all() and (norms[streams == "noise"] < 1e-4).all()
    assert (norms[streams == "text+image"] > 0).all()


def test_gradients_pass_what_the_transformer_keeps(model):
    capture(model.loaded, model.sites, STIMULI, model.protocol)
    with WholePasses(model.loaded, model.sites, STIMULI, model.protocol) as passes:
        found = attribution(passes, 1, 1, INTO)
    streams = np.array([unit.stream for unit in model.groups.units])
    assert (found[:, streams == "text"] == 0).all()  # nothing is written there
    assert np.isfinite(found).all() and np.abs(found[:, streams == "text+image"]).min() > 0


def test_what_is_predicted_is_what_the_scheduler_is_given(model, monkeypatch):
    """Of the opposite sign of what the transformer returns."""
    given_to = []
    step = model.pipeline.scheduler.step
    monkeypatch.setattr(
        model.pipeline.scheduler, "step", lambda *of, **more: given_to.append(of[0]) or step(*of, **more)
    )
    call(model, [SHORT], output_type="latent")
    with WholePasses(model.loaded, model.sites, STIMULI[:1], model.protocol) as passes:
        np.testing.assert_allclose(passes([0]), packed(given_to[0]), atol=1e-5)


def test_with_guidance_the_pass_of_the_prompt_alone_is_changed(model):
    """What a unit is given in every step moves the picture as far as in the pipeline's call with a hook by hand."""
    protocol = replace(model.protocol, generation_steps=2, generation_guidance=2.0)
    number = next(n for n, site in enumerate(model.sites) if site.stream == "text+image")
    units = np.array([unit.site == model.sites[number].name for unit in model.groups.units])
    channels = channels_of(units, model.groups, model.sites)
    with Generations(model.loaded, model.sites, STIMULI[:1], protocol) as made:
        changed = made([0], [protocol.seed], lambda step: {number: [Change(channels[number], 0.0)]})
        plain = made([0], [protocol.seed])

    def by_hand(module, arguments):
        hidden = arguments[0].clone()
        hidden[:1, : (protocol.resolution // 16) ** 2] = 0  # the first half of the batch has the prompt
        return (hidden,)

    handle = model.pipeline.transformer.get_submodule(model.sites[number].name).register_forward_pre_hook(by_hand)
    try:
        theirs = call(model, [SHORT], 2, 2.0)
    finally:
        handle.remove()
    ours, theirs, plain = (np.asarray(images[0], dtype=int) for images in (changed, theirs, plain))
    np.testing.assert_allclose(ours, theirs, atol=1)
    assert np.abs(ours - plain).max() > 1


@pytest.mark.parametrize(("shift", "distilled", "steps", "guidance"), [(3.0, True, 8, 0.0), (6.0, False, 50, 4.0)])
def test_turbo_and_base_are_told_apart(copy, shift, distilled, steps, guidance, model):
    file, family = copy / "scheduler" / "scheduler_config.json", model.loaded.family
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shift": shift}))
    assert family.is_distilled(copy) is distilled
    assert family.own_protocol(copy) == {"generation_steps": steps, "generation_guidance": guidance}


def save_lora(model, folder: Path, style: str) -> Path:
    """A LoRA on one attention output projection, by diffusers' names or by those of trainers."""
    generator = torch.Generator().manual_seed(0)
    width = model.pipeline.transformer.dim
    down, up = torch.randn(2, width, generator=generator), torch.randn(width, 2, generator=generator)
    name, parts = {
        "diffusers": ("transformer.layers.1.attention.to_out.0", ("lora_A", "lora_B")),
        "original": ("diffusion_model.layers.1.attention.out", ("lora_A", "lora_B")),
        "kohya": ("lora_unet_layers_1_attention_to_out_0", ("lora_down", "lora_up")),
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
    before, after = (of.layers[1].attention.to_out[0].weight for of in (model.pipeline.transformer, changed))
    torch.testing.assert_close(after - before, 0.5 * up @ down, rtol=1e-4, atol=1e-5)
    differing = [
        name
        for (name, own), other in zip(model.pipeline.transformer.named_parameters(), changed.parameters(), strict=True)
        if not torch.equal(own, other)
    ]
    assert differing == ["layers.1.attention.to_out.0.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "ZImageOmniPipeline"}, "is 'ZImageOmniPipeline'.*by another encoder"),
        ({"_class_name": "ZImageImg2ImgPipeline"}, "is 'ZImageImg2ImgPipeline'.*begins from a picture"),
        (
            {"vae": ["diffusers", "AutoencoderKLFlux2"]},
            "component 'vae' is .*AutoencoderKLFlux2.*expected AutoencoderKL",
        ),
        ({"text_encoder": None}, "component 'text_encoder' is None, expected Qwen3ForCausalLM or Qwen3Model"),
    ],
)
def test_what_is_something_else_is_refused_by_name(copy, cache, change, message):
    index = copy / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(ProbeError, match=message):
        _ = model_of(copy, cache).source


def test_a_missing_tensor_is_refused_by_name(copy, cache):
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if name != "cap_pad_token"}, file)
    with pytest.raises(ProbeError, match="transformer: the tensor cap_pad_token is missing"):
        _ = model_of(copy, cache).loaded


def test_a_folder_of_the_published_layout_computes_the_same(model, copy, cache):
    """That of Tongyi-MAI/Z-Image: the body of a language model is loaded from the files of all of it."""
    assert json.loads((copy / "model_index.json").read_text())["text_encoder"] == ["transformers", "Qwen3Model"]
    edit(copy / "transformer" / "config.json", siglip_feat_dim=None)
    config = edit(copy / "text_encoder" / "config.json", transformers_version="4.51.0", rope_theta=10000.0)
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    for component in ("text_encoder", "transformer"):
        shard(copy / component)
    split_vocabulary(copy / "tokenizer")
    read = model_of(copy, cache)
    found, expected = (capture(of.loaded, of.sites, STIMULI, of.protocol).mean_square for of in (read, model))
    assert np.array_equal(found, expected) and type(read.pipeline.text_encoder).__name__ == "Qwen3Model"


def test_reference_images_are_refused_with_the_reason(model, photos):
    with pytest.raises(ProbeError, match="Z-Image: its pipeline, .* is given a prompt alone"):
        capture(model.loaded, model.sites, [Stimulus("s", SHORT, photos[0])], model.protocol)


def test_a_whole_run_is_stored_compared_and_repeated(project, model):
    chosen = ["--model", str(model.source.folder), "--resolution", "128", "--controls", "none"]
    run(project, *chosen, "--save-baseline", "then.json").assert_outcomes(passed=2)
    then = results(project)["hypotheses"][0]
    assert then["claims"][0]["verdict"] == "supported"
    again = run(project, *chosen, "--store-only", "--baseline", "then.json")
    again.stdout.no_fnmatch_line("*FAILED*")
    assert results(project)["hypotheses"][0]["counts"] == then["counts"]


def test_image_pairs_are_not_evaluated_and_the_reason_is_said(project, model):
    write(project, "stimuli/toy.toml", IMAGES + pairs(10))
    outcome = run(project, "--model", str(model.source.folder), "--resolution", "128", "--controls", "none")
    outcome.stdout.fnmatch_lines(["*no reference images with this family: its pipeline, *is given a prompt alone*"])
