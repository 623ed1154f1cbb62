"""Whole generations with changed units: what is added, where, and that nothing else changes."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from fixtures.activations import steering
from fixtures.activations.generations import Generations
from fixtures.activations.image_manifest import ImageFile
from fixtures.activations.interventions import channels_of, patched
from fixtures.activations.measurement import Measurement
from fixtures.activations.picture_scores import WorldScorer
from fixtures.activations.presentation import Stimulus
from fixtures.activations.segments import Captures
from fixtures.activations.steering import Strip, direction, dosed, steer
from fixtures.activations.store import Store
from fixtures.claims.controls.causal import choose
from fixtures.claims.controls.specific import random_sets
from fixtures.common.errors import ProbeError
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.stimuli.alterations import Alteration
from fixtures.stimuli.sets import load_stimuli

PROMPTS = [
    "a cat sits",
    "seven unrelated words about machinery",
    "A glass on a table.",
    "Two dogs in the street, running",
]
STEPS = 3


@pytest.fixture
def made(tiny):
    """``made(guidance, steps, photo)``: generations from the prompts, which are A and B of two pairs."""

    def make(guidance=4.0, steps=STEPS, photo=None):
        protocol = replace(tiny.protocol, generation_steps=steps, generation_guidance=guidance)
        stimuli = [Stimulus(f"toy, {number}", prompt, photo) for number, prompt in enumerate(PROMPTS)]
        return Generations(tiny.loaded, tiny.sites, stimuli, protocol)

    return make


@pytest.fixture
def some(tiny):
    """A quarter of the units, at random."""
    return np.random.default_rng(0).random(len(tiny.groups.units)) < 0.25


def called(tiny, prompts, seeds, guidance=4.0, steps=STEPS, **more):
    """A plain call of the pipeline."""
    return tiny.pipeline(
        prompt=prompts,
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=tiny.protocol.text_length,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        **more,
    ).images


def same(pictures, others) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(pictures, others, strict=True))


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_without_changes_it_is_the_pipelines_own_call(tiny, made, guidance):
    with made(guidance) as generations:
        (batch,) = generations.batches([1, 3])
        pictures = generations(batch, [5, 6])
    with torch.inference_mode():
        assert same(pictures, called(tiny, [PROMPTS[1], PROMPTS[3]], [5, 6], guidance))


def test_an_image_is_shown_beside_the_prompts_and_one_call_has_one_image(tiny, made, photos):
    with made(photo=photos[0]) as generations:
        assert list(generations.batches([1, 3])) == [[1, 3]]
        pictures = generations([1, 3], [5, 6])
        plain = [replace(stimulus, image=photos[number % 3]) for number, stimulus in enumerate(generations.stimuli)]
        generations.stimuli = plain
        assert list(generations.batches([0, 1, 3])) == [[0], [1], [3]]
    with torch.inference_mode():
        own = called(tiny, [PROMPTS[1], PROMPTS[3]], [5, 6], image=Image.open(photos[0]))
    assert same(pictures, own)


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_steering_is_what_hooks_written_by_hand_do(tiny, made, some, guidance):
    channels = channels_of(some, tiny.groups, tiny.sites)
    with made(guidance) as generations:
        found = direction(generations, [0], [5, 6], channels)
        pictures = generations([3], [6], dosed(found, channels, channels, 2.0))
    handles, per_step = [], 2 if guidance > 1 else 1
    for number, site in enumerate(tiny.sites):
        if number not in channels:
            continue
        calls, first = count(), tiny.protocol.text_length if site.stream == "text+image" else 0

        def add(module, arguments, number=number, calls=calls, first=first):
            step, later = divmod(next(calls), per_step)
            hidden = arguments[0].clone()
            if not later:  # the pass with the prompt
                hidden[:, first:, channels[number]] += 2.0 * found[step][number]
            return (hidden, *arguments[1:])

        handles.append(tiny.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(add))
    try:
        with torch.inference_mode():
            own = called(tiny, [PROMPTS[3]], [6], guidance)
            assert same(pictures, own)
    finally:
        for handle in handles:
            handle.remove()
    with torch.inference_mode():
        assert not same(pictures, called(tiny, [PROMPTS[3]], [6], guidance))


def test_a_dose_of_nothing_and_units_of_none_change_no_bit(tiny, made, some):
    channels, none = (channels_of(units, tiny.groups, tiny.sites) for units in (some, np.zeros_like(some)))
    with made() as generations:
        found = direction(generations, [0], [5, 6], channels)
        plain = generations([1, 3], [5, 6])
        assert same(generations([1, 3], [5, 6], dosed(found, channels, channels, 0.0)), plain)
        assert same(generations([1, 3], [5, 6], dosed(found, channels, none, 2.0)), plain)
        assert not same(generations([1, 3], [5, 6], dosed(found, channels, channels, 2.0)), plain)


@pytest.mark.parametrize("site", [0, 4])
def test_in_one_site_the_dose_of_a_pair_itself_is_what_its_a_has_there(tiny, made, site):
    """In one step. In several sites what changes in the first changes what enters the others, to which their own dose
    comes; in several steps the direction is that of B's own latents, which the picture leaves."""
    units = np.array([unit.site == tiny.sites[site].name for unit in tiny.groups.units])
    channels, kept = channels_of(units, tiny.groups, tiny.sites), {}
    assert list(channels) == [site]
    with made(steps=1) as generations:
        found = direction(generations, [0], [5, 6], channels)
        generations([0], [5], keep=lambda step, number, hidden: kept.setdefault(number, hidden.clone()))
        changes = (None, lambda step: patched(channels, kept), dosed(found, channels, channels, 1.0))
        plain, own, steered = (np.asarray(generations([1], [5], change)[0], dtype=int) for change in changes)
    assert np.abs(steered - own).max() <= 1 < np.abs(own - plain).max()


def test_the_direction_is_a_minus_b_on_the_latents_that_b_comes_by(tiny, made, some):
    channels, apart = channels_of(some, tiny.groups, tiny.sites), {}
    with made() as generations:
        found = direction(generations, [0, 1], [5, 6], channels)
        assert list(generations.batches([1, 3])) == [[1, 3]], "both pairs at once"
        for pair in (0, 1):
            noise, latents, seen = [5 + pair], [], [{}, {}]
            generations([2 * pair + 1], noise, on_step=lambda step, own, latents=latents: latents.append(own))
            for side in (0, 1):

                def keep(step, site, hidden, kept=seen[side]):
                    kept[step, site] = hidden[0].clone()

                generations([2 * pair + side], noise, None, keep, lambda step, own, latents=latents: latents[step])
            for place, a in seen[0].items():
                apart.setdefault(place, []).append(a - seen[1][place])
    assert len(apart) == STEPS * len(tiny.sites)
    for (step, site), differences in apart.items():
        if site in channels:
            expected = torch.stack(differences).mean(dim=0)[:, channels[site]]
            torch.testing.assert_close(found[step][site][0], expected, rtol=1e-4, atol=1e-5)


def test_altered_images_are_refused(made, photos):
    generations = made(photo=photos[0])
    generations.stimuli[0] = replace(generations.stimuli[0], alteration=Alteration("brightness", 0.1))
    with pytest.raises(ProbeError, match="altered images"), generations:
        pass


def test_a_strip_is_made_once_and_shows_every_dose_of_every_set(tiny, some, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "protocol", replace(tiny.protocol, generation_steps=2))
    told = []
    captures = Captures("toy", tiny, Store(tmp_path), lambda what: lambda done, total: told.append((done, total)))
    shown = [(Stimulus(f"toy, {number}", prompt), None) for number, prompt in enumerate(PROMPTS)]
    units = {"found": some, "random": np.roll(some, 7), "none": np.zeros_like(some)}
    strip = steer(captures, shown, units, [0], [1], (-1.0, 0.0, 1.0))
    assert strip.steered.shape == (3, 3, 1, 64, 64, 3) and strip.a.shape == (1, 64, 64, 3)
    assert strip.steered.dtype == strip.a.dtype == np.uint8
    with torch.inference_mode():
        a, b = (np.asarray(called(tiny, [PROMPTS[n]], [tiny.protocol.seed + 1], steps=2)[0]) for n in (2, 3))
    assert np.array_equal(strip.a[0], a) and all(np.array_equal(own[1, 0], b) for own in strip.steered)
    assert np.array_equal(strip.steered[2, 0, 0], b) and np.array_equal(strip.steered[2, 2, 0], b)
    assert len({strip.steered[number, dose, 0].tobytes() for number in (0, 1) for dose in (0, 2)}) == 4
    assert told[-1] == (2 + 2 + 3 * 2,) * 2 and sorted(told) == told
    monkeypatch.setattr(steering, "Generations", lambda *arguments: pytest.fail("generated again"))
    again = steer(captures, shown, units, np.array([0]), np.array([1]), (-1.0, 0.0, 1.0))
    assert isinstance(again, Strip) and np.array_equal(again.steered, strip.steered)


def test_images_are_steered_one_by_one(tiny, some, photos, tmp_path, monkeypatch):
    """The direction from B's picture to A's, under one prompt; a recipient is generated from its B picture."""
    monkeypatch.setattr(tiny, "protocol", replace(tiny.protocol, generation_steps=2))
    captures = Captures("toy", tiny, Store(tmp_path), lambda what: lambda done, total: None)
    files = [ImageFile(photo, photo.stem, None) for photo in photos]
    shown = [(Stimulus(f"toy, {number}", PROMPTS[0], files[number].path), files[number]) for number in range(4)]
    strip = steer(captures, shown, {"found": some}, [0], [1], (0.0, 1.0))
    with torch.inference_mode():
        seeds = [tiny.protocol.seed + 1]
        a, b = (called(tiny, [PROMPTS[0]], seeds, steps=2, image=Image.open(photos[number])) for number in (2, 3))
    assert np.array_equal(strip.a[0], np.asarray(a[0])) and np.array_equal(strip.steered[0, 0, 0], np.asarray(b[0]))
    assert not np.array_equal(strip.steered[0, 1, 0], np.asarray(b[0]))


def test_pose_is_steered_on_klein_mini(tmp_path):
    """Trained behaviour: the found units make a T-pose a dance, by the judge, and random ones do not."""
    settings = resolve_settings({"store": str(tmp_path), "device": "cpu"}, {}, ROOT, environment={})
    stimuli = load_stimuli(ROOT / "stimuli" / "ground_truth" / "pose.toml")
    measurement = Measurement(stimuli, Model(settings), Store(tmp_path), ROOT, lambda what: lambda done, total: None)
    choice = choose(measurement, 0)
    units = {"found": choice.found, "random": random_sets(choice, measurement.model.groups, 1, 0)[0]}
    recipient = choice.roles.recipients[2:3]
    strip = steer(measurement.captures, measurement.sequence, units, choice.roles.selection[:4], recipient, (0.0, 1.0))
    scores = [WorldScorer().score(strip.a, own[0], own[:, 0]) for own in strip.steered]
    assert scores[0][0] < 0.1 and scores[0][1] > 0.9 and scores[1][1] < 0.1
