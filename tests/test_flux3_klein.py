"""FLUX.3 Klein, base and distilled: what is captured, generated and changed equals what the pipeline's own call has."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from diffusers import Flux3Transformer2DModel
from hooked_call import PROMPTS
from lora_factory import save_lora
from PIL import Image
from published_layout import edit, shard, split_vocabulary
from safetensors.torch import load_file, save_file
from toy_project import IMAGES, STIMULI, pairs, results, run, write

from fixtures.activations.activations import pooled_rms
from fixtures.activations.attribution import attribution
from fixtures.activations.capture import capture
from fixtures.activations.interventions import channels_of, steered
from fixtures.activations.patching import INTO, Doses, patch
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.activations.references import encode_images, fitted_picture
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.flux2_klein.klein_tiny import build_tokenizer
from fixtures.models.flux3_klein import fullsize
from fixtures.models.flux3_klein import tiny as flux3_tiny
from fixtures.models.flux3_klein.components import TEXT_LAYERS
from fixtures.models.flux3_klein.family import Flux3Klein, Flux3KleinDistilled
from fixtures.models.flux3_klein.sites import block_of, find_sites
from fixtures.models.hooks.compiled import compile_blocks
from fixtures.models.lora.adapter import resolve_adapter
from fixtures.models.lora.additions import additions_of
from fixtures.models.model import Model
from fixtures.models.source import resolve_model
from fixtures.models.units import attention_heads, channel_groups
from fixtures.session.options import resolve_settings

pytest_plugins = "pytester"

INDEX = "modular_model_index.json"
DISTILLED = "Flux3DistilledModularPipeline"
WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = 5


def model_of(folder, store, **options) -> Model:
    given = {"model": str(folder), "store": str(store), "device": "cpu", "resolution": "64"} | options
    return Model(resolve_settings(given, {}, folder, environment={}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Base and distilled."""
    found = {distilled: tmp_path_factory.mktemp("flux3") / f"distilled-{distilled}" for distilled in (False, True)}
    for distilled, folder in found.items():
        flux3_tiny.build(folder, distilled)
    return found


@pytest.fixture(scope="module")
def models(folders, cache):
    return {distilled: model_of(folder, cache) for distilled, folder in folders.items()}


@pytest.fixture
def base(models):
    return models[False]


@pytest.fixture(params=[False, True], ids=["base", "distilled"])
def model(request, models):
    return models[request.param]


@pytest.fixture
def copied(folders, tmp_path):
    """A copy of the base model's folder that a test may damage."""
    return shutil.copytree(folders[False], tmp_path / "copy")


@contextmanager
def guided(model, scale):
    """The pipeline's own guider at this scale, where it has one."""
    guider = getattr(model.pipeline, "guider", None)
    before = guider and guider.guidance_scale
    if guider:
        guider.guidance_scale = scale
    try:
        yield
    finally:
        if guider:
            guider.guidance_scale = before


def call(model, prompt, image=None, steps=1, guidance=1.0, seed=0):
    """The pipeline's own call, from the words of a prompt to images."""
    side = model.protocol.resolution
    with guided(model, guidance):
        state = model.pipeline(
            prompt=prompt,
            **({} if image is None else {"image": image}),
            height=side,
            width=side,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
        )
    return state.get("images")


def hooked_call(model, stimulus):
    """RMS per channel group in the pipeline's own call of one step, by hooks that keep every activation."""
    seen = {}
    handles = [
        model.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(
            lambda module, arguments, name=site.name: seen.update({name: arguments[0].double()})
        )
        for site in model.sites
    ]
    try:
        call(model, stimulus.prompt, Image.open(stimulus.image) if stimulus.image else None)
    finally:
        for handle in handles:
            handle.remove()
    rms = [
        seen[site.name].unflatten(-1, (-1, 16)).square().mean(dim=(0, 1, 3)).sqrt()
        if site.name in seen
        else torch.zeros(site.n_groups)
        for site in model.sites
    ]
    return torch.cat(rms).numpy(), set(seen)


def picture(tmp_path, width, height, seed=7):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / f"{width}x{height}.png")
    return tmp_path / f"{width}x{height}.png"


def test_the_published_geometry_has_these_units():
    with torch.device("meta"):
        transformer = Flux3Transformer2DModel()
    sites = find_sites(transformer)
    assert len(sites) == 2 * (3 * 5 + 28)
    assert len(channel_groups(sites).units) == 43 * (192 + 576) == 33024
    assert len(attention_heads(sites).units) == 43 * 24 == 1032
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 5_538_458_368
    kinds = [kind for kind, _ in groupby(site.block.split("[")[0] for site in sites)]
    assert kinds == ["text", "noise", "reference", "single"]
    mlp = [unit for unit in channel_groups(sites).units if unit.kind == "mlp"]
    assert {unit.site.rpartition(".")[2] for unit in mlp} == {"linear_out"} and len(mlp) == 43 * 576
    described = Flux3Klein().geometry(transformer.config)
    assert described["blocks"] == {"text": 5, "noise": 5, "reference": 5, "single": 28}
    assert (described["heads"], described["head_dim"], described["published_geometry"]) == (24, 128, False)


def test_every_tensor_of_a_block_belongs_to_it(base):
    of = {block_of(name) for name, _ in base.pipeline.transformer.named_parameters()}
    assert of - {None} == {site.block for site in base.sites}
    assert block_of("early_stream_modulations.image.linear") is block_of("norm_out.linear") is None
    assert block_of("mode_blocks.image_cond.1.attn.to_q") == "reference[1]" and block_of("mode_blocks.image") is None


def test_capture_of_prompts_equals_the_pipelines_call(model):
    for prompt in PROMPTS:
        stimulus = Stimulus(prompt, prompt)
        expected, fired = hooked_call(model, stimulus)
        (ours,) = pooled_rms(capture(model.loaded, model.sites, [stimulus], model.protocol), model.groups)
        np.testing.assert_allclose(ours, expected, rtol=2e-6)
        assert fired == {site.name for site in model.sites if site.stream != "reference"}


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (20, 24)])
def test_capture_beside_a_reference_equals_the_pipelines_call(model, tmp_path, size):
    stimulus = Stimulus("s", PROMPTS[0], picture(tmp_path, *size))
    expected, fired = hooked_call(model, stimulus)
    (ours,) = pooled_rms(capture(model.loaded, model.sites, [stimulus], model.protocol), model.groups)
    np.testing.assert_allclose(ours, expected, rtol=2e-6)
    assert fired == {site.name for site in model.sites}


def test_what_is_shown_is_what_the_pipeline_fills_up(base, tmp_path):
    file = picture(tmp_path, 50, 70)
    shown = fitted_picture(base.source, file, 64).image
    assert shown.size == (64, 80)
    pixels = base.pipeline.image_processor.preprocess(Image.open(file), resize_mode="fill")[0]
    ours = torch.tensor(np.asarray(shown)).permute(2, 0, 1)[None] / 255 * 2 - 1
    np.testing.assert_allclose(pixels, ours, atol=1e-6)


def test_the_trimmed_text_encoder_gives_what_the_whole_one_gives(base, folders):
    whole = Flux3Klein().load(folders[False], torch.float32, ())
    trimmed = base.pipeline.text_encoder.model
    assert (
        len(trimmed.language_model.layers) == max(TEXT_LAYERS) + 1 < len(whole.text_encoder.model.language_model.layers)
    )
    assert not list(trimmed.visual.parameters())
    ours = base.loaded.embed(PROMPTS, 80)
    for own, prompt in zip(ours, PROMPTS, strict=True):
        theirs = whole(prompt=prompt, height=64, width=64, num_inference_steps=1).get("prompt_embeds")[0]
        torch.testing.assert_close(own, theirs, rtol=2e-6, atol=1e-6)
        assert own.shape == (80, flux3_tiny.TRANSFORMER["joint_attention_dim"])


def test_a_prompt_beyond_the_window_is_refused_and_a_wider_window_takes_it(base, folders, tmp_path):
    stimulus = Stimulus("long", "glass " * 100)
    with pytest.raises(ProbeError, match="long: its prompt has .* tokens .* expected at most 80"):
        capture(base.loaded, base.sites, [stimulus], base.protocol)
    wide = model_of(folders[False], tmp_path, **{"text-length": "640"})
    values = capture(wide.loaded, wide.sites, [stimulus, Stimulus("short", "x")], wide.protocol)
    assert (values.token_counts[:, :2].sum(axis=1) == 640).all()
    with pytest.raises(ProbeError, match="--text-length 100: expected a multiple of 80"):
        _ = model_of(folders[False], tmp_path, **{"text-length": "100"}).protocol


def by_stream(model, activations, streams):
    inside = np.repeat([site.stream in streams for site in model.sites], [site.n_groups for site in model.sites])
    return activations.mean_square[..., inside]


def test_what_tells_a_pair_apart_leaves_the_other_streams_as_they_are(model, photos):
    prompts = [Stimulus(prompt, prompt) for prompt in PROMPTS[:2]]
    a, b = by_stream(model, capture(model.loaded, model.sites, prompts, model.protocol), ("noise", "reference"))
    assert np.array_equal(a, b) and a.any()
    images = [Stimulus("s", PROMPTS[0], photo) for photo in photos[:2]]
    found = capture(model.loaded, model.sites, images, model.protocol)
    assert np.array_equal(*by_stream(model, found, ("text", "noise")))
    assert not np.array_equal(*by_stream(model, found, ("reference",)))
    assert not np.array_equal(*by_stream(model, found, ("text+image",)))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_batches_of_any_composition_give_the_same(model, photos, size):
    for stimuli in (
        [Stimulus(prompt, prompt) for prompt in PROMPTS],
        [Stimulus(prompt, prompt, photo) for prompt, photo in zip(PROMPTS, photos, strict=False)],
    ):
        expected = capture(model.loaded, model.sites, stimuli, model.protocol)
        protocol = replace(model.protocol, batch_size=size, text_batch_size=size)
        model.loaded.text_embeddings.clear()
        found = capture(model.loaded, model.sites, stimuli[::-1], protocol)
        np.testing.assert_allclose(found.mean_square[::-1], expected.mean_square, rtol=1e-5, atol=1e-7)
        assert np.array_equal(found.token_counts[::-1], expected.token_counts)


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_keeps_all_but_the_transformer(model, kind):
    twin = model.twin(kind, 3)
    assert find_sites(twin.transformer) == model.sites and type(twin.pipeline) is type(model.pipeline)
    for name, component in model.pipeline.components.items():
        assert (getattr(twin.pipeline, name) is component) == (name != "transformer")
    capture(twin, model.sites, [Stimulus("s", "x")], model.protocol)


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_in_bfloat16_keeps_in_float32_what_the_model_does(folders, tmp_path, kind):
    model = model_of(folders[False], tmp_path, dtype="bfloat16")
    own, twin = (
        {name: tensor.dtype for name, tensor in each.state_dict().items()}
        for each in (model.loaded.transformer, model.twin(kind, 0).transformer)
    )
    assert own == twin and set(own.values()) == {torch.float32, torch.bfloat16}


def test_compiled_blocks_record_the_same(base, photos):
    model, twin = base, base.twin("shuffled", 4)
    stimuli = [Stimulus(prompt, prompt, image) for prompt, image in zip(PROMPTS[:2], (None, photos[0]), strict=True)]
    expected = [capture(twin, model.sites, [one], model.protocol).mean_square for one in stimuli]
    compile_blocks(twin.family, twin.transformer, backend="eager")
    for one, values in zip(stimuli, expected, strict=True):
        np.testing.assert_allclose(capture(twin, model.sites, [one], model.protocol).mean_square, values, rtol=1e-6)


def test_components_that_take_turns_give_the_same(tmp_path, models):
    model = models[True]
    stimuli = [Stimulus(prompt, prompt) for prompt in PROMPTS[:2]]
    turning = model_of(model.source.folder, tmp_path, memory="turns")
    found = capture(turning.loaded, turning.sites, stimuli, turning.protocol).mean_square
    assert np.array_equal(found, capture(model.loaded, model.sites, stimuli, model.protocol).mean_square)


@torch.inference_mode()
def texts(model, prompts):
    embedded = encode_prompts(model.loaded, [*prompts, ""], model.protocol)
    return torch.stack([embedded[one] for one in prompts]), torch.stack([embedded[""]] * len(prompts))


@pytest.mark.parametrize("with_image", [False, True])
def test_images_are_those_of_the_pipelines_call(model, photos, with_image):
    protocol = replace(model.protocol, generation_steps=3)
    image = Image.open(photos[0]) if with_image else None
    family, seen = model.loaded.family, []
    handle = model.pipeline.transformer.register_forward_pre_hook(lambda *given: seen.append(1))
    made = family.generate(model.pipeline, *texts(model, PROMPTS[:2]), protocol, [5, 6], image)
    handle.remove()
    assert len(seen) == 3 * family.passes_per_step(model.pipeline, protocol)
    guidance = protocol.generation_guidance
    for prompt, seed, own in zip(PROMPTS, (5, 6), made, strict=False):
        (theirs,) = call(model, prompt, image, 3, guidance, seed)
        assert np.abs(np.asarray(own, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1


def test_how_each_is_made_to_draw(models):
    for distilled, expected in ((False, (50, 4.0, 2)), (True, (16, 1.0, 1))):
        protocol, source = models[distilled].protocol, models[distilled].source
        passes = source.family.passes_per_step(models[distilled].pipeline, protocol)
        assert (protocol.generation_steps, protocol.generation_guidance, passes) == expected
        assert (protocol.text_length, protocol.steps, protocol.guidance) == (80, 1, 1.0)
        assert models[distilled].description["is_distilled"] is distilled


def test_latents_can_be_replaced_after_a_step(model):
    protocol, seen = replace(model.protocol, generation_steps=3), []

    def on_step(step, latents):
        seen.append((step, latents.clone()))
        return torch.zeros_like(latents) if step == 1 else None

    text, without = texts(model, PROMPTS[:1])
    generate = model.loaded.family.generate
    changed = generate(model.pipeline, text, without, protocol, [0], on_step=on_step)
    assert [step for step, _ in seen] == [0, 1, 2] and seen[0][1].shape == (1, 16, 32)
    other = generate(model.pipeline, text, without, protocol, [1], on_step=on_step)
    assert np.array_equal(*map(np.asarray, (*changed, *other)))  # other noise is forgotten
    plain = generate(model.pipeline, text, without, protocol, [0])
    assert not np.array_equal(*map(np.asarray, (*changed, *plain)))


@pytest.mark.parametrize("with_image", [False, True])
def test_every_step_is_given_what_the_pipelines_call_gives_it(model, photos, with_image):
    guidance = model.protocol.generation_guidance
    protocol = replace(model.protocol, generation_steps=STEPS, seed=3)
    image, seen = Image.open(photos[0]) if with_image else None, []
    handle = model.pipeline.transformer.register_forward_pre_hook(
        lambda module, arguments, given: seen.append(given), with_kwargs=True
    )
    call(model, PROMPTS[0], image, STEPS, guidance, seed=3)
    handle.remove()
    seen = seen[:: model.loaded.family.passes_per_step(model.pipeline, protocol)]
    references = list(encode_images(model.loaded, [(photos[0], None)], protocol).values()) if with_image else None
    text, without = texts(model, PROMPTS[:1])
    family, steps = model.loaded.family, range(1, STEPS + 1)
    levels = family.trajectory(model.pipeline, text, without, protocol, steps, image)
    passes = family.passes(model.pipeline, protocol)
    for level, theirs in zip(levels, seen, strict=True):
        ours, _ = passes.inputs(list(text), references, level)
        assert set(ours) == set(theirs)
        for name in set(ours) - {"return_dict"}:
            assert torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype, name
    (last,) = family.trajectory(model.pipeline, text, without, protocol, [4], image)
    assert np.array_equal(last.latents[0], levels[3].latents[0])


def test_the_protocols_step_is_that_of_a_call_in_one_step(model):
    seen = []
    handle = model.pipeline.transformer.register_forward_pre_hook(
        lambda module, arguments, given: seen.append(given), with_kwargs=True
    )
    call(model, PROMPTS[0])
    handle.remove()
    (theirs,) = seen
    ours, _ = model.loaded.family.passes(model.pipeline, model.protocol).inputs(
        list(texts(model, PROMPTS[:1])[0]), None
    )
    assert set(ours) == set(theirs) and ours["timestep"].item() == 1
    assert ("target_timestep" in ours) == model.description["is_distilled"]
    for name in set(ours) - {"return_dict"}:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


@pytest.mark.parametrize("beside", ["nothing", "images", "images alone"])
def test_all_units_of_the_own_pair_are_the_whole_way_and_none_are_none(model, photos, beside):
    prompts = ["Describe."] * 4 if beside == "images alone" else PROMPTS
    shown = [None] * 4 if beside == "nothing" else photos
    stimuli = [Stimulus(str(n), prompt, image) for n, (prompt, image) in enumerate(zip(prompts, shown, strict=False))]
    doses = Doses.whole(np.array([[True], [False]]) & np.ones(len(model.groups.units), dtype=bool))
    with WholePasses(model.loaded, model.sites, [*stimuli[2:], *stimuli[2:]], model.protocol) as passes:
        found = patch(passes, model.groups, doses, INTO)
    np.testing.assert_allclose(found.along[0, 0] / found.wanted[0], 1, atol=1e-5)
    assert (np.abs(found.along[0, 1] / found.wanted[0]) < 1e-5).all()
    assert found.wanted[0] > 1e-6 * found.whole[0]


@pytest.mark.parametrize("with_images", [False, True])
def test_attribution_is_the_derivative_of_steering(model, photos, with_images):
    """Of the strongest unit of every site that noise or reference tokens pass through; it is 0 elsewhere."""
    shown = photos if with_images else [None] * 4
    stimuli = [Stimulus(prompt, prompt, image) for prompt, image in zip(PROMPTS, shown, strict=False)]
    with WholePasses(model.loaded, model.sites, stimuli, model.protocol) as passes:
        (found,) = attribution(passes, 1, 1, ("b",))
        own, size = passes([0, 1]), 0.02
        d = (own[0] - own[1]).flatten().double()
        _, kept = passes.keeping([2, 3])
        along = {site: value[:1] - value[1:] for site, value in kept.items()}
        places = np.array([unit.site for unit in model.groups.units])
        for site in model.sites:
            inside = places == site.name
            if site.stream == "text" or (site.stream == "reference" and not with_images):
                assert not found[inside].any()
                continue
            unit = np.argmax(np.abs(found) * inside)
            one = channels_of(np.arange(found.size) == unit, model.groups, passes.sites)
            ends = [passes([1], steered(one, along, sign * size))[0].flatten().double() for sign in (1, -1)]
            expected = float((ends[0] - ends[1]) @ d / (2 * size) / (d @ d))
            assert found[unit] == pytest.approx(expected, rel=0.02, abs=2e-3 * np.abs(found).max())


def original(name):
    """The name of a module of a block as the original code has it."""
    inner = {"attn.to_q": "q_proj", "attn.to_k": "k_proj", "attn.to_v": "v_proj", "attn.to_out.0": "attn_out"}
    for ours, theirs in (inner | {"ff.linear_in": "mlp_in", "ff.linear_out": "mlp_out"}).items():
        name = name.replace(ours, theirs)
    name = name.replace("single_transformer_blocks.", "single_blocks.")
    return f"content_{name}" if name.startswith("mode_blocks.") else name


def test_a_lora_is_added_under_diffusers_names_and_the_originals(base, tmp_path):
    transformer, family = base.pipeline.transformer, base.source.family
    blocks = ("txt_mode_blocks.0.", "mode_blocks.image_cond.1.", "single_transformer_blocks.2.")
    file = save_lora(transformer, tmp_path, blocks)
    state = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    renamed = tmp_path / "original.safetensors"
    save_file({f"diffusion_model.{original(name)}": tensor for name, tensor in state.items()}, renamed)
    found = [additions_of(family, resolve_adapter(str(one)), transformer) for one in (file, renamed)]
    assert [sorted(addition.module for addition in one) for one in found][0] == sorted(a.module for a in found[1])
    assert {block_of(addition.module) for addition in found[0]} == {"text[0]", "reference[1]", "single[2]"}
    for own, theirs in zip(*(sorted(one, key=lambda a: a.module) for one in found), strict=True):
        assert all(torch.equal(a, b) for (a, b) in zip(own.factors.values(), theirs.factors.values(), strict=True))
    adapted = [model_of(base.source.folder, tmp_path, lora=str(one)) for one in (file, renamed)]
    stimulus = [Stimulus("s", PROMPTS[0])]
    with_lora = [capture(one.loaded, one.sites, stimulus, one.protocol).mean_square for one in adapted]
    assert np.array_equal(*with_lora)
    assert not np.allclose(with_lora[0], capture(base.loaded, base.sites, stimulus, base.protocol).mean_square)


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_model.final_layer.image.adaLN_modulation.1",
        "diffusion_model.early_stream_modulations.image.lin",
        "diffusion_model.double_blocks.0.img_attn.proj",
        "lora_unet_single_blocks_0_attn_out",
    ],
)
def test_what_diffusers_does_not_convert_is_refused(base, tmp_path, name):
    file = tmp_path / "lora.safetensors"
    ends = ("lora_down", "lora_up") if name.startswith("lora_unet") else ("lora_A", "lora_B")
    shapes = dict(zip(ends, ((1, 64), (64, 1)), strict=True))
    save_file({f"{name}.{end}.weight": torch.ones(shape) for end, shape in shapes.items()}, file)
    with pytest.raises(ProbeError, match="the LoRA cannot be added: its tensor"):
        additions_of(base.source.family, resolve_adapter(str(file)), base.pipeline.transformer)


def edited(folder, name, change):
    file = folder / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def test_an_index_of_the_hubs_form_names_classes_in_its_hints(copied, base, tmp_path):
    """What is written of a pipeline that is not loaded; a scheduler, a guider and an upsampler may be listed."""

    def change(index):
        for name, entry in index.items():
            if isinstance(entry, list):
                index[name] = [None, None, entry[2]]
        hint = {"type_hint": ["transformers", "Qwen3_5ForConditionalGeneration"], "subfolder": ""}
        upsampler = hint | {"pretrained_model_name_or_path": "black-forest-labs/flux-3-image-klein-pup"}
        return index | {"prompt_upsampler": [None, None, upsampler | {"variant": None, "revision": None}]}

    edited(copied, INDEX, change)
    listed = model_of(copied, tmp_path / "store")
    stimulus = [Stimulus("s", PROMPTS[0])]
    found = capture(listed.loaded, listed.sites, stimulus, listed.protocol).mean_square
    assert np.array_equal(found, capture(base.loaded, base.sites, stimulus, base.protocol).mean_square)


def test_a_scheduler_that_the_index_lists_is_read(copied, base, tmp_path):
    base.pipeline.scheduler.save_pretrained(copied / "scheduler")
    edited(copied, "scheduler/scheduler_config.json", lambda config: config | {"shift": 2.0})
    kind = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    place = {"pretrained_model_name_or_path": "x/y", "variant": None, "revision": None, "subfolder": "scheduler"}
    edited(copied, INDEX, lambda index: index | {"scheduler": [*kind, place | {"type_hint": kind}]})
    listed = model_of(copied, tmp_path / "store")
    assert (base.pipeline.scheduler.config.shift, listed.pipeline.scheduler.config.shift) == (6.93, 2.0)


def test_a_folder_in_the_files_of_the_hub_is_read_as_one_of_ours(copied, base, tmp_path):
    """Shards, the vocabulary in two files, Qwen3-VL's configuration as its repository has it, and its processor's."""
    for component in ("transformer", "text_encoder"):
        shard(copied / component)
    tokenizer, file = copied / "tokenizer", copied / "text_encoder" / "config.json"
    split_vocabulary(tokenizer)
    template = (tokenizer / "chat_template.jinja").read_text()
    (tokenizer / "chat_template.jinja").unlink()
    (tokenizer / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (tokenizer / name).write_text('{"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16}')
    config = json.loads(file.read_text())
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    sections = {"mrope_interleaved": True, "mrope_section": rope["mrope_section"], "rope_type": "default"}
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": sections, "bos_token_id": 151643}
    config["vision_config"]["model_type"] = "qwen3_vl"
    edit(file, **config | {"transformers_version": "4.57.0.dev0"})
    found = model_of(copied, tmp_path / "store")
    stimulus = [Stimulus("s", PROMPTS[0])]
    values = capture(found.loaded, found.sites, stimulus, found.protocol).mean_square
    assert np.array_equal(values, capture(base.loaded, base.sites, stimulus, base.protocol).mean_square)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "vae"), r"vae.config.json: this file is missing"),
        (lambda folder: (folder / "tokenizer/tokenizer.json").unlink(), r"tokenizer: no vocabulary"),
        (lambda folder: (folder / "tokenizer/chat_template.jinja").unlink(), r"tokenizer: no chat template"),
        (
            lambda folder: edited(folder, INDEX, lambda index: index | {"_class_name": "Flux2ModularPipeline"}),
            r"the pipeline is 'Flux2ModularPipeline', expected .*Flux3ModularPipeline",
        ),
        (
            lambda folder: edited(
                folder, INDEX, lambda index: index | {"_class_name": "Flux3DistilledModularPipeline"}
            ),
            r"transformer.config.json: flow_map is False, expected True in a Flux3DistilledModularPipeline",
        ),
        (
            lambda folder: edited(folder, INDEX, lambda index: index | {"vae": ["diffusers", "AutoencoderKL", {}]}),
            r"component 'vae' is .*expected AutoencoderKLFlux2",
        ),
    ],
)
def test_what_is_missing_or_foreign_is_refused(copied, tmp_path, damage, message):
    damage(copied)
    with pytest.raises(ProbeError, match=message):
        _ = model_of(copied, tmp_path / "store").pipeline


def test_a_missing_weight_is_refused_unless_nothing_reads_it(copied, tmp_path):
    file = copied / "transformer" / WEIGHTS
    tensors = load_file(file)
    del tensors["mode_blocks.image_cond.0.ff.linear_out.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ProbeError, match=r"the tensor mode_blocks.image_cond.0.ff.linear_out.weight is missing"):
        _ = model_of(copied, tmp_path / "store").source
    family = resolve_model(str(copied), None, tmp_path).family
    assert not family.is_needed("text_encoder", "model.visual.patch_embed.proj.weight")
    assert family.is_needed("text_encoder", "model.language_model.embed_tokens.weight")
    assert family.is_needed("transformer", "proj_out.weight")


def test_a_run_by_turns_and_one_from_the_store_agree(project, folders, tmp_path):
    write(project, "stimuli/toy.toml", STIMULI + pairs(8))
    options = ("--model", str(folders[False]), "--resolution", "64", "--store", str(tmp_path), "--controls", "none")
    run(project, *options, "--memory", "turns", "--save-baseline", "then.json", "--baseline-seeds", "3")
    found = results(project)
    assert found["model"]["units"] == {"channel_groups": 9 * 16, "attention_heads": 18}
    (toy,) = found["hypotheses"]
    assert found["protocol"]["text_length"] == 80 and toy["activations"]["largest_untouched"] == 0
    whole = run(project, *options, "--baseline", "then.json")
    whole.stdout.fnmatch_lines(["UNCHANGED     toy: *", "WEIGHTS       differ nowhere*"])
    run(project, *options, "--store-only")
    assert results(project)["hypotheses"][0]["counts"] == toy["counts"]


def test_a_run_on_images_that_the_distilled_model_draws(project, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(Flux3KleinDistilled, "own", Flux3KleinDistilled.own | {"generation_steps": 3})
    write(project, "stimuli/toy.toml", IMAGES.replace('placebo = ["seed", "brightness"]\n', "") + pairs(6))
    options = ("--model", str(folders[True]), "--resolution", "64", "--store", str(tmp_path / "store"))
    run(project, *options, "--controls", "none", "--twins", "0", "--steps", "1,3")
    (found,) = results(project)["hypotheses"]
    assert found["activations"]["largest_untouched"] == 0 and found["counts"]
    assert [level["step"] for level in found["schedule"]["levels"]] == [1, 3]
    assert all("untrained twins" in reason for reason in found["schedule"]["missing"])


def test_what_the_writer_of_full_size_checkpoints_writes_is_captured(tmp_path, monkeypatch):
    """At a small size, with a small vocabulary."""
    monkeypatch.setattr(fullsize, "build_tokenizer", build_tokenizer)
    text = fullsize.TEXT | {name: flux3_tiny.TEXT[name] for name in set(fullsize.TEXT) & set(flux3_tiny.TEXT)}
    text |= {"num_hidden_layers": fullsize.TEXT["num_hidden_layers"]}
    fullsize.write(tmp_path / "model", "cpu", 0, True, flux3_tiny.TRANSFORMER, text, flux3_tiny.VAE)
    model = model_of(tmp_path / "model", tmp_path / "store", dtype="float32")
    assert model.description["is_distilled"] and model.protocol.generation_steps == 16
    layers = model.pipeline.text_encoder.model.language_model.layers
    assert len(layers) == fullsize.TEXT["num_hidden_layers"] == max(TEXT_LAYERS) + 1
    values = capture(model.loaded, model.sites, [Stimulus("s", "Two men on a wet road.")], model.protocol)
    assert (values.mean_square[:, :6].mean(axis=(0, 2)) > 0).all()
