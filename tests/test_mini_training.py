import json
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from world_words import describes, plain, seeds

from fixtures.klein_mini import autoencoder, flow, pictures, train
from fixtures.klein_mini.architecture import chat, train_tokenizer
from fixtures.klein_mini.optimiser import MasterWeights, cosine, replayed
from fixtures.klein_mini.pictures import CAPTION, CHANGE, COLUMNS, COPY, sample_item, seen_states, training_subjects
from fixtures.klein_mini.recipe import (
    EMBEDDED,
    HELD_OUT,
    RESOLUTION,
    SHORT_TEXT,
    TEXT_LENGTH,
    UNSEEN,
    UNSEEN_AFTER,
    Recipe,
)
from fixtures.klein_mini.world import captions
from fixtures.klein_mini.world.scene import render, sample_scene
from fixtures.klein_mini.world.subjects import SUBJECTS
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).parents[1]
KLEIN_MINI = ROOT / "fixtures" / "models" / "checkpoints" / "klein-mini"
STIMULI = sorted((ROOT / "stimuli").glob("*.toml"))
TINY = Recipe(pictures=8, autoencoder_steps=2, autoencoder_batch=1, flow_steps=2, batch=1, text_lengths=(SHORT_TEXT,))
SEEN = training_subjects()


@pytest.fixture(scope="module")
def mini() -> Flux2KleinPipeline:
    """The shipped klein-mini in float32 on the CPU."""
    pipeline = Flux2KleinPipeline.from_pretrained(KLEIN_MINI, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def tokenizer(mini):
    return mini.tokenizer


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """Six events drawn before and after, (6, 2, 128, 128, 3)."""
    scenes = [sample_scene(Random(i), s) for i, s in enumerate(SUBJECTS.values()) if s.id not in HELD_OUT][:6]
    return np.stack([[render(scene.in_state(after)) for after in (False, True)] for scene in scenes])


# Tokenizer


@pytest.fixture(scope="module")
def small_tokenizer():
    return train_tokenizer(["a red ball on a wooden table", "user\n", "assistant\n"] * 20, 400)


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("C",)), max_size=40))
def test_any_text_survives_the_tokenizer(small_tokenizer, tokenizer, text):
    """Up to canonical equivalence, as with Qwen's own."""
    text = unicodedata.normalize("NFC", text)
    for made in (small_tokenizer, tokenizer):
        assert made.decode(made(text).input_ids) == text


def test_the_tokenizer_learns_its_words(small_tokenizer):
    assert small_tokenizer.tokenize("a red ball") == ["a", "Ġred", "Ġball"]
    tokens = small_tokenizer.tokenize(chat(""))
    assert [token for token in tokens if "<" in token] == [
        "<|im_start|>",
        "<|im_end|>",
        "<|im_start|>",
        "<think>",
        "</think>",
    ]
    assert small_tokenizer.pad_token_id == 0 and small_tokenizer.padding_side == "right"


def test_the_saved_tokenizer_gives_the_same_tokens(small_tokenizer, tmp_path):
    small_tokenizer.save_pretrained(tmp_path)
    restored = type(small_tokenizer).from_pretrained(tmp_path)
    for text in ("A red ball.", "", "naïve  ball\n", "<think>"):
        assert restored(chat(text)).input_ids == small_tokenizer(chat(text)).input_ids
    assert restored.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False).startswith("<|im_start|>")


@settings(max_examples=50, deadline=None)
@given(prompt=st.text(max_size=40))
def test_chat_is_the_template_that_the_pipeline_applies(tokenizer, prompt):
    messages = [{"role": "user", "content": prompt}]
    written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert chat(prompt) == written


@pytest.mark.parametrize("file", STIMULI, ids=lambda file: file.stem)
def test_every_prompt_of_the_stimuli_fits(tokenizer, file):
    stimuli = load_stimuli(file)
    prompts = [member.prompt for _, _, member in stimuli.members()] + [stimuli.prompt, ""]
    references = [stimuli.reference, *(pair.reference for pair in stimuli.pairs)]
    prompts += [reference.prompt for reference in references if reference]
    lengths = {prompt: len(tokenizer(chat(prompt)).input_ids) for prompt in prompts if prompt is not None}
    assert max(lengths.values()) <= TEXT_LENGTH, max(lengths, key=lengths.get)


def test_padding_is_on_the_right(tokenizer):
    ids = flow.padded(tokenizer, "a red ball", TEXT_LENGTH)
    count = len(tokenizer(chat("a red ball")).input_ids)
    assert ids.shape == (TEXT_LENGTH,) and (ids[:count] != 0).all() and (ids[count:] == 0).all()


# Pictures


@settings(max_examples=400, deadline=None)
@given(seed=seeds)
def test_training_never_sees_what_is_held_out(seed):
    before, after, texts = sample_item(Random(seed), SEEN)
    for scene in (before, after):
        assert scene.subject.id not in UNSEEN
        assert scene.colour != scene.subject.held_out_colour
        assert not (scene.after and scene.subject.id in UNSEEN_AFTER)
    assert before == after.in_state(False) and not before.after
    if before.subject.id in UNSEEN_AFTER:
        known = set(map(plain, captions.COPY))
        assert all(describes(text, before) or plain(text) in known for text in texts)


def test_all_other_states_are_seen():
    seen = {(scene.subject.id, scene.after) for seed in range(3000) for scene in sample_item(Random(seed), SEEN)[:2]}
    expected = {(s.id, after) for s in SUBJECTS.values() if s.id not in UNSEEN for after in s.states}
    assert seen == expected - {(i, True) for i in UNSEEN_AFTER}
    assert set(HELD_OUT) <= {s.id for s in SUBJECTS.values() if s.group == "published"}


@settings(max_examples=400, deadline=None)
@given(seed=seeds)
def test_texts_stand_in_their_columns(seed):
    *scenes, texts = sample_item(Random(seed), [s for s in SEEN if len(seen_states(s)) == 2])
    assert len(texts) == COLUMNS and sorted([*CAPTION[0], *CAPTION[1], *CHANGE, *COPY]) == list(range(COLUMNS))
    subject = scenes[0].subject
    for state, scene in enumerate(scenes):
        for column in CAPTION[state]:
            assert describes(texts[column], scene)
        asked = plain(texts[CHANGE[state]]).removeprefix("the same scene with ")
        instructions = (subject.to_before, subject.to_after)[state] + (captions.BEFORE, captions.AFTER)[state]
        assert asked in map(plain, instructions) or describes(asked, scene)
        assert texts[COPY[state]] in captions.COPY or describes(texts[COPY[state]], scene)


def test_pictures_are_the_same_however_many_draw_them(monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "CHUNK", 5)
    recipe = replace(TINY, pictures=23)
    file = str(KLEIN_MINI / "tokenizer" / "tokenizer.json")
    one, two = (pictures.draw_pictures(recipe, file, workers) for workers in (1, 2))
    assert np.array_equal(one.images, two.images) and np.array_equal(one.words, two.words)
    assert one.images.shape == (23, 2, 128, 128, 3) and one.words.shape == (23, COLUMNS, SHORT_TEXT)
    assert (one.images.reshape(23, -1).std(axis=1) > 5).all()  # none was left out
    other = pictures.draw_pictures(replace(recipe, seed=2), file, 2)
    assert not any(np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True))


def test_words_are_those_of_their_pictures(tokenizer):
    drawn = pictures.draw_pictures(replace(TINY, pictures=12), str(KLEIN_MINI / "tokenizer" / "tokenizer.json"), 2)
    scenes = [sample_item(Random(TINY.seed * 1_000_003 + item), SEEN) for item in range(12)]
    for (before, after, texts), images, words in zip(scenes, drawn.images, drawn.words, strict=True):
        assert np.array_equal(images[0], render(before)) and np.array_equal(images[1], render(after))
        assert [tokenizer.decode(ids[ids != 0]) for ids in words] == [chat(text) for text in texts]


def test_a_text_that_does_not_fit_is_named(small_tokenizer, tmp_path, monkeypatch):
    small_tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(pictures, "SHORT_TEXT", 20)
    with pytest.raises(ValueError, match="tokens, more than 20: "):
        pictures.draw_pictures(TINY, str(tmp_path / "tokenizer.json"), 2)


@settings(max_examples=12, deadline=None)
@given(count=st.integers(0, 450) | st.sampled_from([0, 1, 199, 200, 201, 400]), workers=st.integers(1, 4))
def test_every_task_runs_once(count, workers):
    runs = pictures.shared_array((max(1, count),), np.int64)
    assert (runs == 0).all()

    def task(item):
        runs[item] += 1 + item

    pictures.in_parallel(task, count, workers)
    assert runs.tolist()[:count] == list(range(1, count + 1))


def test_a_failing_task_is_an_error():
    def task(item):
        if item == 333:
            raise ValueError("item 333 cannot be drawn")

    with pytest.raises(ValueError, match="item 333 cannot be drawn"):
        pictures.in_parallel(task, 450, 2)


# Optimiser


def network(seed, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 2))


def losses(seed, steps):
    """Functions of a network, of very different size, so that some gradients are clipped and some are not."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        x, y = torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)
        yield lambda module, x=x, y=y, size=10.0 ** (2 * (step % 3) - 2): size * ((module(x) - y) ** 2).mean()


def advance(weights, module, steps, rate):
    for loss in steps:
        weights.set_rate(rate)
        yield weights.step(loss(module))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 8),
    decay=st.floats(0, 0.5),
    rate=st.floats(1e-5, 0.1),
    average=st.sampled_from([None, 0.5, 0.99]),
)
def test_master_weights_in_float32_are_plain_adamw(seed, steps, decay, rate, average):
    ours, plain_one = network(seed), network(seed)
    weights = MasterWeights([ours], torch.float32, (0.9, 0.98), decay, average)
    matrices, vectors = ([p for p in plain_one.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": decay}]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    averages = [p.detach().clone() for p in plain_one.parameters()]
    for loss, norm in zip(losses(seed, steps), advance(weights, ours, losses(seed, steps), rate), strict=True):
        optimiser.zero_grad()
        loss(plain_one).backward()
        expected = torch.nn.utils.clip_grad_norm_(plain_one.parameters(), 1.0)
        optimiser.step()
        torch.testing.assert_close(norm, expected)
        for mean, p in zip(averages, plain_one.parameters(), strict=True):
            mean.copy_((average or 0) * mean + (1 - (average or 0)) * p.detach())
    torch.testing.assert_close(list(ours.parameters()), list(plain_one.parameters()))
    weights.finish()
    torch.testing.assert_close([p.detach() for p in ours.parameters()], averages)


def test_half_precision_trains_in_steps_too_small_for_it():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    weights = MasterWeights([module], torch.bfloat16, (0.9, 0.99), 0.0)
    weights.set_rate(1e-4)  # bfloat16 has no number between 0.9961 and 1
    for _ in range(60):
        weights.step(module(torch.ones(1, 1, dtype=torch.bfloat16)).sum())
        assert module.weight.dtype == torch.bfloat16
    assert module.weight.item() in (0.9921875, 0.99609375)
    weights.finish()
    assert module.weight.dtype == torch.float32 and module.weight.item() == pytest.approx(0.994, abs=1e-4)


def test_a_weight_without_gradient_is_no_error():
    module = network(0)
    weights = MasterWeights([module, nn.Linear(2, 2)], torch.float32, (0.9, 0.99), 0.0)
    unused = [p.detach().clone() for p in weights.modules[1].parameters()]
    weights.set_rate(0.1)
    weights.step(module(torch.ones(1, 3)).sum())
    assert all(torch.equal(a, b) for a, b in zip(unused, weights.modules[1].parameters(), strict=True))


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, average):
    def made():
        module = network(3)
        return module, MasterWeights([module], torch.float32, (0.9, 0.98), 0.1, average)

    module, weights = made()
    schedule = list(losses(5, 7))
    list(advance(weights, module, schedule[:4], 0.01))
    torch.save(weights.state(), tmp_path / "state.pt")
    resumed, again = made()
    list(advance(again, resumed, schedule[2:5], 0.3))  # it must not matter what was there before
    again.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), resumed.parameters(), strict=True))
    for trained, part in ((module, weights), (resumed, again)):
        list(advance(part, trained, schedule[4:], 0.02))
        part.finish()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), resumed.parameters(), strict=True))


def test_a_restarted_average_forgets():
    module = network(1)
    weights = MasterWeights([module], torch.float32, (0.9, 0.98), 0.0, 0.999)
    list(advance(weights, module, losses(1, 5), 0.1))
    trained = [p.detach().clone() for p in module.parameters()]
    assert not torch.allclose(weights.averages[0], trained[0])
    weights.restart_average()
    weights.finish()
    assert all(torch.equal(a, b) for a, b in zip(trained, module.parameters(), strict=True))


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(2, 500), warm_up=st.integers(1, 100), rate=st.floats(1e-6, 1), floor=st.floats(0, 0.5))
def test_the_learning_rate_rises_and_then_falls_to_its_floor(steps, warm_up, rate, floor):
    rates = [cosine(step, steps, rate, warm_up, floor) for step in range(steps)]
    assert all(0 <= value <= rate * (1 + 1e-9) for value in rates)
    after = rates[warm_up - 1 :]
    assert all(second <= first * (1 + 1e-9) for first, second in zip(after, after[1:], strict=False))
    assert all(value >= floor * rate * (1 - 1e-9) for value in after)
    assert rates[0] == pytest.approx(rate / warm_up)
    assert cosine(steps, steps, rate, 1, floor) == pytest.approx(floor * rate, abs=1e-9)


def test_off_the_gpu_a_step_is_left_as_it_is():
    def step():
        raise AssertionError("not to be run yet")

    assert replayed(step, "cpu") is step


# Autoencoder


def small_autoencoder():
    torch.manual_seed(0)
    return AutoencoderKLFlux2(
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
    ).eval()


def random_images(items, side=32, seed=0):
    return torch.randint(0, 256, (items, 2, side, side, 3), generator=torch.Generator().manual_seed(seed)).byte()


def pipelines_latents(vae, images):
    """What the pipeline makes of reference images, (items, 2, tokens, channels)."""
    pipeline = Flux2KleinPipeline(None, vae, None, None, None)
    processed = [pipeline.image_processor.preprocess(Image.fromarray(i)) for i in images.flatten(0, 1).numpy()]
    with torch.no_grad():
        latents = [pipeline._pack_latents(pipeline._encode_vae_image(image, None)) for image in processed]
    return torch.cat(latents).unflatten(0, (-1, 2))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 3), c=st.integers(1, 5), height=st.integers(1, 4), width=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_latents_are_packed_as_by_the_pipeline(n, c, height, width, seed):
    latents = torch.randn(n, c, 2 * height, 2 * width, generator=torch.Generator().manual_seed(seed))
    expected = Flux2KleinPipeline._pack_latents(Flux2KleinPipeline._patchify_latents(latents))
    assert torch.equal(autoencoder.pack(latents), expected)


def test_encoded_latents_have_unit_variance_and_are_those_of_the_pipeline():
    model, images = small_autoencoder(), random_images(20)
    latents = autoencoder.encode(model, images, set_statistics=True)
    assert latents.shape == (20, 2, 4, 32) and latents.dtype == torch.bfloat16
    channels = latents.float().flatten(0, 2)
    torch.testing.assert_close(channels.mean(0), torch.zeros(32), atol=0.02, rtol=0)
    # the variance of a channel that hardly varies is held down by the epsilon of the normalisation
    variance = model.bn.running_var
    torch.testing.assert_close(channels.var(0), variance / (variance + 1e-4), atol=0, rtol=0.03)
    torch.testing.assert_close(latents.float(), pipelines_latents(model, images), atol=0.05, rtol=0.02)


def test_statistics_are_set_only_when_asked_and_batches_do_not_matter():
    model, images = small_autoencoder(), random_images(7)
    with torch.no_grad():
        model.bn.running_mean.uniform_(-0.1, 0.1)
        model.bn.running_var.uniform_(0.5, 2)
    mean, variance = model.bn.running_mean.clone(), model.bn.running_var.clone()
    whole, parts = (autoencoder.encode(model, images, False, batch).float() for batch in (256, 3))
    assert torch.equal(model.bn.running_mean, mean) and torch.equal(model.bn.running_var, variance)
    torch.testing.assert_close(parts, whole, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(whole, pipelines_latents(model, images), atol=1e-2, rtol=1e-2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_pixels_are_scaled_to_minus_one_to_one():
    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    pixels[0, 1, 2, 0] = 255
    scaled = autoencoder.scaled(pixels)
    assert scaled.shape == (1, 3, 4, 4) and scaled[0, 0, 1, 2] == 1
    assert (scaled == -1).sum() == 47


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 6), crop=st.sampled_from([4, 8, 16]), seed=seeds)
def test_both_states_are_cropped_at_the_same_place(batch, crop, seed):
    torch.manual_seed(seed)
    images = torch.zeros(5, 2, 16, 16, 3, dtype=torch.uint8)
    images[..., 0] = torch.arange(10).view(5, 2, 1, 1)
    images[..., 1] = torch.arange(16)[:, None]
    images[..., 2] = torch.arange(16)
    pixels = ((autoencoder._sample(images, batch, crop) + 1) * 127.5).round().long().unflatten(0, (batch, 2))
    assert pixels.shape == (batch, 2, 3, crop, crop)
    assert (pixels[:, 1, 0] == pixels[:, 0, 0] + 1).all() and (pixels[:, 0, 0] % 2 == 0).all()
    assert torch.equal(pixels[:, 0, 1:], pixels[:, 1, 1:])
    assert (pixels[:, :, 1] - pixels[:, :, 1, :1, :] == torch.arange(crop)[:, None]).all()
    assert (pixels[:, :, 2] - pixels[:, :, 2, :, :1] == torch.arange(crop)).all()


# Flow


def small_transformer(dtype=torch.float32):
    torch.manual_seed(0)
    return Flux2Transformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=384,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    ).to(dtype)


@pytest.mark.parametrize("length", [SHORT_TEXT, TEXT_LENGTH])
def test_words_are_encoded_as_by_the_pipeline(mini, length):
    prompts = ["a red ball on a wooden table", "", "A shattered blue drinking glass, lit from the left."]
    words = torch.stack([flow.padded(mini.tokenizer, prompt, length) for prompt in prompts])
    with torch.no_grad():
        expected = mini.encode_prompt(prompts, max_sequence_length=length)[0]
        torch.testing.assert_close(flow.encode_words(mini.text_encoder, words), expected, rtol=1e-4, atol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 0.1


@pytest.fixture(scope="module")
def hooked_call(mini, drawings):
    """Two steps of the pipeline on a reference image: what the transformer was given and what it returned."""
    seen = []
    handle = mini.transformer.register_forward_hook(
        lambda module, _, given, output: seen.append((given, output[0])), with_kwargs=True
    )
    try:
        mini(
            image=Image.fromarray(drawings[0, 1]),
            prompt=captions.FIXED_PROMPT,
            num_inference_steps=2,
            guidance_scale=1.0,
            max_sequence_length=SHORT_TEXT,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )
    finally:
        handle.remove()
    return seen


def test_the_reference_is_encoded_as_by_the_pipeline(mini, drawings, hooked_call):
    ours = autoencoder.encode(mini.vae, torch.from_numpy(drawings[:1]), set_statistics=False)[0, 1].float()
    for given_to, _ in hooked_call:
        torch.testing.assert_close(given_to["hidden_states"][0, 64:], ours, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("exact", [False, True])
def test_the_velocity_is_predicted_as_by_the_pipeline(mini, hooked_call, exact):
    levels = []
    for given_to, returned in hooked_call:
        noisy, reference = given_to["hidden_states"].split(64, dim=1)
        embeddings, sigma = given_to["encoder_hidden_states"], given_to["timestep"]
        levels.append(sigma.item())
        with torch.no_grad():
            if exact:
                with flow.exact_time(mini.transformer):
                    predicted = flow.predict(mini.transformer, noisy, sigma, embeddings, reference)
            else:
                predicted = flow.predict(mini.transformer, noisy, sigma, embeddings, reference)
        torch.testing.assert_close(predicted, returned[:, :64], rtol=1e-3, atol=1e-4)
    assert levels[0] == 1 and 0.2 < levels[1] < 0.9


def test_without_a_reference_only_the_noise_is_seen(mini, hooked_call):
    noisy, reference = hooked_call[0][0]["hidden_states"].split(64, dim=1)
    embeddings = hooked_call[0][0]["encoder_hidden_states"]
    with torch.no_grad():
        alone = flow.predict(mini.transformer, noisy, torch.ones(1), embeddings)
        beside = flow.predict(mini.transformer, noisy, torch.ones(1), embeddings, reference)
    assert alone.shape == beside.shape == noisy.shape
    assert (alone - beside).abs().mean() > 0.05


def test_the_shipped_weights_know_what_they_were_trained_on(mini, drawings):
    """The error of an edit that copies is small with its own reference and large with another's."""
    latents = autoencoder.encode(mini.vae, torch.from_numpy(drawings), set_statistics=False)[:, 0].float()
    words = flow.padded(mini.tokenizer, captions.FIXED_PROMPT, SHORT_TEXT)
    errors = []
    for reference in (latents, latents.roll(1, 0)):
        torch.manual_seed(0)
        with torch.no_grad(), flow.exact_time(mini.transformer):
            embeddings = flow.encode_words(mini.text_encoder, words[None]).expand(len(latents), -1, -1)
            sigma = torch.linspace(0.3, 1, len(latents))
            errors.append(flow.flow_loss(mini.transformer, embeddings, latents, reference, sigma).item())
    assert errors[0] < 0.15 and errors[1] > 3 * errors[0]


def test_exact_time_reaches_the_embedding_and_is_undone():
    """Two noise levels that bfloat16 cannot tell apart are told apart, but not after the end."""
    transformer = small_transformer(torch.bfloat16)
    sigma, noisy = torch.tensor([0.999, 1.0]), torch.ones(2, 4, 32)
    embeddings = torch.ones(2, 3, 384)

    def predicted():
        with torch.no_grad():
            return flow.predict(transformer, noisy, sigma, embeddings)

    before = predicted()
    assert torch.equal(before[0], before[1])
    for error in (None, KeyboardInterrupt):
        try:
            with flow.exact_time(transformer):
                inside = predicted()
                if error:
                    raise error
        except KeyboardInterrupt:
            pass
        assert not torch.equal(inside[0], inside[1])
        assert torch.equal(predicted(), before)
        assert "forward" not in vars(transformer.time_guidance_embed)


def test_an_error_before_the_first_prediction_is_not_hidden():
    with pytest.raises(RuntimeError, match="out of memory"):
        with flow.exact_time(small_transformer()):
            raise RuntimeError("out of memory")


def test_noise_levels_are_in_range_and_some_are_exactly_one():
    torch.manual_seed(0)
    levels = flow.noise_levels(200_000, "cpu")
    assert levels.shape == (200_000,) and levels.min() >= 0 and levels.max() <= 1
    assert (levels == 1).float().mean().item() == pytest.approx(0.04, abs=0.003)
    # half uniform, half logit-normal about 0.57
    assert (levels < 0.1).float().mean().item() == pytest.approx(0.051, abs=0.004)
    assert ((levels > 0.4) & (levels < 0.7)).float().mean().item() == pytest.approx(0.368, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40), seed=seeds)
def test_few_noise_levels_are_in_range_too(count, seed):
    torch.manual_seed(seed)
    levels = flow.noise_levels(count, "cpu")
    assert levels.shape == (count,) and ((levels >= 0) & (levels <= 1)).all()


class Oracle(nn.Module):
    """Knows the target and so, from the noisy latents and their noise level, the velocity."""

    def __init__(self, target):
        super().__init__()
        self.target, self.x_embedder = target, nn.Linear(1, 1)

    def forward(self, hidden_states, timestep, **_):
        tokens = self.target.shape[1]
        velocity = (hidden_states[:, :tokens] - self.target) / timestep[:, None, None]
        return (torch.cat([velocity, hidden_states[:, tokens:]], 1),)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, with_reference=st.booleans())
def test_the_loss_is_zero_for_who_knows_the_target(seed, with_reference):
    torch.manual_seed(seed)
    target, reference = torch.randn(2, 3, 4, 8)
    sigma, embeddings = torch.rand(3) * 0.9 + 0.1, torch.zeros(3, 2, 8)
    shown = reference if with_reference else None
    assert flow.flow_loss(Oracle(target), embeddings, target, shown, sigma) < 1e-6
    assert flow.flow_loss(Oracle(-target), embeddings, target, shown, sigma) > 0.5


def labelled_set(items=30) -> flow.TrainingSet:
    """Latents and words that say where they are from: item and state, item and column."""
    latents = torch.stack([torch.arange(items).repeat(2, 1).T, torch.tensor([0, 1]).expand(items, 2)], -1)
    words = torch.zeros(items, COLUMNS, 6, dtype=torch.int32)
    words[..., 0] = torch.arange(items)[:, None] + 1
    words[..., 1] = torch.arange(COLUMNS) + 1
    return flow.TrainingSet(latents[:, :, None].to(torch.bfloat16), words, torch.full((6,), 99, dtype=torch.int32))


def test_a_batch_pairs_pictures_with_their_words():
    torch.manual_seed(0)
    batch = 6000
    recipe = replace(TINY, empty_captions=0.0)
    captioned, target, reference, words = flow.edits(labelled_set(), batch, 10, recipe)
    assert words.shape == (2 * batch, 10) and (words[:, 2:] == 0).all()
    items, columns = words[:, 0] - 1, words[:, 1] - 1
    assert torch.equal(items, torch.cat([captioned, target])[:, 0, 0].int())
    assert torch.equal(reference[:, 0, 0], target[:, 0, 0])
    state, wanted, shown = (part[:, 0, 1].int() for part in (captioned, target, reference))
    assert all(c in CAPTION[s] for c, s in zip(columns[:batch].tolist(), state.tolist(), strict=True))
    assert set(columns[:batch].tolist()) == {*CAPTION[0], *CAPTION[1]}
    kinds = {"copy": 0, "idle": 0, "change": 0}
    for column, to, source in zip(columns[batch:].tolist(), wanted.tolist(), shown.tolist(), strict=True):
        if column in COPY:
            assert column == COPY[source] and to == source
            kinds["copy"] += 1
        else:
            assert column == CHANGE[to]
            kinds["change" if to != source else "idle"] += 1
    shares = [kinds[kind] / batch for kind in ("copy", "change", "idle")]
    assert shares == pytest.approx([0.30, 0.63, 0.07], abs=0.03)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_some_captions_are_empty(share):
    torch.manual_seed(0)
    words = flow.edits(labelled_set(), 3000, 6, replace(TINY, empty_captions=share))[3]
    empty = (words == 99).all(dim=1)
    assert empty.float().mean().item() == pytest.approx(share, abs=0.02)
    assert ((words == 99).any(dim=1) == empty).all()


# Training


@pytest.fixture
def small_parts(monkeypatch):
    """train_flow with a small transformer that counts its calls."""
    calls = []

    def build(recipe):
        transformer = small_transformer()
        transformer.register_forward_pre_hook(lambda *_: calls.append(1))
        return transformer

    monkeypatch.setattr(flow, "build_transformer", build)
    return calls


@pytest.fixture
def small_set():
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, 50, (3, COLUMNS, 6), generator=generator, dtype=torch.int32)
    return flow.TrainingSet(torch.randn(3, 2, 4, 32, generator=generator).bfloat16(), words, words[0, 0])


def test_training_goes_on_at_the_step_of_the_checkpoint(small_parts, small_set, tmp_path):
    recipe = replace(TINY, flow_steps=3, text_lengths=(6,), average=0.5)
    transformer, encoder = flow.build_transformer(recipe), flow.build_text_encoder(60)
    saved = MasterWeights([transformer, encoder], torch.float32, (0.9, 0.98), 0.01, recipe.average)
    for master in saved.masters:
        master.grad = torch.zeros_like(master)
    saved.set_rate(0.0)
    saved.optimiser.step()
    torch.save({"step": 2, **saved.state()}, tmp_path / "flow.pt")
    reports = []
    resumed = flow.train_flow(small_set, 60, recipe, lambda *line: reports.append(line), tmp_path / "flow.pt")
    assert len(small_parts) == 2  # one step: captions and edits
    assert [line[:3] for line in reports] == [("flow", 3, 3)]
    assert reports[0][3]["captions"] > 0 and reports[0][3]["gradient"] > 0
    for made, master in zip([p for m in resumed for p in m.parameters()], saved.masters, strict=True):
        assert (made - master).abs().max() < 2 * recipe.flow_rate
    torch.save({"step": 3, **saved.state()}, tmp_path / "flow.pt")
    finished = flow.train_flow(small_set, 60, recipe, lambda *line: reports.append(line), tmp_path / "flow.pt")
    assert len(small_parts) == 2 and len(reports) == 1
    for made, mean in zip([p for m in finished for p in m.parameters()], saved.averages, strict=True):
        assert torch.equal(made, mean)


def test_training_leaves_float32_modules_that_are_ready_for_use(small_parts, small_set, tmp_path):
    recipe = replace(TINY, text_lengths=(6, 9))
    for module in flow.train_flow(small_set, 60, recipe, lambda *_: None, tmp_path / "flow.pt"):
        assert not module.training and {p.dtype for p in module.parameters()} == {torch.float32}
        assert all(p.isfinite().all() for p in module.parameters())
    assert len(small_parts) == 4


def run_steps(weights, module, last, checkpoint, done=0):
    """The loop of the training on a network of two numbers; the report's steps."""
    total, reports = torch.zeros(4), []

    def step():
        weights.step((module.weight**2).sum())
        total.add_(torch.tensor([1.0, 2.0, 3.0, 1.0]))

    recipe = replace(TINY, flow_steps=last, warm_up=10)
    flow._run({SHORT_TEXT: step}, done, weights, recipe, total, lambda *line: reports.append(line), checkpoint)
    return reports


def test_checkpoints_are_written_on_the_way_and_read_again(tmp_path):
    module = nn.Linear(2, 1, bias=False)
    weights = MasterWeights([module], torch.float32, (0.9, 0.98), 0.01, 0.99)
    reports = run_steps(weights, module, 2500, tmp_path / "flow.pt")
    assert [line[1] for line in reports] == list(range(250, 2501, 250))
    assert all(line[3] == {"captions": 1.0, "edits": 2.0, "gradient": 3.0} for line in reports)
    fresh_module = nn.Linear(2, 1, bias=False)
    fresh = MasterWeights([fresh_module], torch.float32, (0.9, 0.98), 0.01, 0.99)
    assert flow._resume(tmp_path / "none.pt", fresh) == 0
    assert flow._resume(tmp_path / "flow.pt", fresh) == 2500
    assert torch.equal(fresh_module.weight, module.weight)
    assert torch.equal(fresh.averages[0], weights.averages[0])


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    module = nn.Linear(2, 1, bias=False)
    weights = MasterWeights([module], torch.float32, (0.9, 0.98), 0.01, 0.99)
    torch.save({"step": 1, **weights.state()}, tmp_path / "flow.pt")

    def fail(state, file):
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        run_steps(weights, module, 2500, tmp_path / "flow.pt", done=2498)
    assert flow._resume(tmp_path / "flow.pt", weights) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole training, tiny, and the same once more with one step more: folder, and files after the first."""
    out = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "corpus", lambda seed, whole=train.corpus: whole(seed, items=800))
        train.train(out, TINY, 2)
        first = {file.relative_to(out).as_posix(): (file.read_bytes(), file.stat().st_mtime_ns) for file in files(out)}
        train.train(out, replace(TINY, flow_steps=3), 2)
    return out, first


def test_another_recipe_is_not_mixed_into_a_training(tmp_path):
    train._same_recipe(tmp_path / "recipe.json", TINY)
    train._same_recipe(tmp_path / "recipe.json", replace(TINY, flow_steps=7))
    with pytest.raises(ValueError, match="other values of seed, autoencoder_steps: choose another OUT"):
        train._same_recipe(tmp_path / "recipe.json", replace(TINY, autoencoder_steps=5, seed=9))


def test_the_clock_of_a_log_goes_on(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"stage": "flow", "step": 1, "seconds": 100.0}\n')
    train.Log(tmp_path / "log.jsonl")("flow", 2, 3, {"loss": 0.5})
    assert 100 <= json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["seconds"] < 110


def files(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
def test_a_training_writes_a_pipeline_that_generates(trained):
    pipeline = Flux2KleinPipeline.from_pretrained(trained[0] / "klein-mini", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        prompt="a red ball",
        height=128,
        width=128,
        num_inference_steps=1,
        guidance_scale=1.0,
        max_sequence_length=SHORT_TEXT,
        output_type="np",
    ).images[0]
    assert image.shape == (128, 128, 3) and np.isfinite(image).all()
    assert (pipeline.vae.bn.running_var - 1).abs().max() > 1e-3  # those of the training set
    assert pipeline.text_encoder.dtype == torch.float32


@pytest.mark.slow
def test_a_training_writes_what_the_suite_needs_to_know(trained):
    written = json.loads((trained[0] / "klein-mini" / "embedded.json").read_text())
    assert written == EMBEDDED
    assert written == {"resolution": RESOLUTION, "text_length": TEXT_LENGTH, "held_out": sorted(HELD_OUT)}


@pytest.mark.slow
def test_weights_are_in_half_precision_and_the_text_encoder_asks_for_float32(trained):
    folder = trained[0] / "klein-mini"
    assert json.loads((folder / "text_encoder" / "config.json").read_text())["dtype"] == "float32"
    dtypes = {name: value.dtype for file in folder.rglob("*.safetensors") for name, value in load_file(file).items()}
    dtypes.pop("bn.num_batches_tracked")
    assert len(dtypes) > 300 and set(dtypes.values()) == {torch.float16}


@pytest.mark.slow
def test_a_second_run_keeps_the_autoencoder_and_trains_the_rest_on(trained):
    out, first = trained
    kept = out / "autoencoder.safetensors"
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == first["autoencoder.safetensors"]
    assert (out / "klein-mini/vae/diffusion_pytorch_model.safetensors").read_bytes() == first[
        "klein-mini/vae/diffusion_pytorch_model.safetensors"
    ][0]
    weights = "klein-mini/transformer/diffusion_pytorch_model.safetensors"
    assert (out / weights).read_bytes() != first[weights][0]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    stages = [(line["stage"], line["step"]) for line in lines]
    again = [("pictures", 8), ("latents", 8), ("flow", 3), ("written", 1)]
    assert stages == [
        ("pictures", 8),
        ("autoencoder", 1),
        ("autoencoder", 2),
        *again[1:2],
        ("flow", 2),
        ("written", 1),
        *again,
    ]
    assert json.loads((out / "training.json").read_text())["recipe"]["flow_steps"] == 3


@pytest.mark.slow
def test_the_tokenizer_of_the_pipeline_is_the_one_that_was_trained_with(trained):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (trained[0] / "klein-mini" / "tokenizer" / name).read_bytes() == trained[1][f"tokenizer/{name}"][0]


def test_the_command_line_decides_the_recipe(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(train, "train", lambda *arguments: calls.append(arguments))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    options = ["--pictures", "60", "--flow-rate", "0.5", "--workers", "3"]
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path), *options])
    train.main()
    assert calls == [(tmp_path, Recipe(pictures=60, flow_rate=0.5), 3)]
