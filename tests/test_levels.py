"""Activations and interventions at levels of generations, and what the store keeps of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hooked_call import PROMPTS, hooked_pipeline_call

from fixtures.activations.activations import pooled_rms
from fixtures.activations.causal import Causal
from fixtures.activations.image_manifest import ImageFile
from fixtures.activations.patching import INTO, Doses
from fixtures.activations.presentation import Stimulus
from fixtures.activations.segments import Captures
from fixtures.activations.store import Store
from fixtures.activations.trajectories import levels, pair_levels
from fixtures.common.errors import ProbeError
from fixtures.common.files import file_sha256, sha256_of
from fixtures.models.model import Model

STEPS = (1, 3, 6)


def shown_of(photos=None):
    """Two pairs of prompts, each with a picture of its own or without any."""
    found = []
    for number, prompt in enumerate(PROMPTS):
        path = photos[number] if photos else None
        image = ImageFile(path, file_sha256(path), None) if path else None
        found.append((Stimulus(f"s{number}", prompt, path), image))
    return found


@pytest.fixture
def model(tiny):
    """klein-tiny with generations of six steps."""
    own = Model(tiny.settings)
    own.protocol = replace(tiny.protocol, generation_steps=6)
    own._loaded = tiny.loaded
    return own


@pytest.fixture
def captures(model, tmp_path):
    return Captures("toy", model, Store(tmp_path / "store"), lambda what: lambda done, total: None)


def forbid(model, monkeypatch):
    """Have the model say that it cannot be loaded, as `--store-only` does."""

    def refuse(self):
        raise ProbeError("not in the store")

    monkeypatch.setattr(Model, "loaded", property(refuse))


def test_the_keys_of_the_published_protocol_are_what_they_were(tiny, captures):
    shown = [(Stimulus(f"s{number}", f"prompt {number}"), None) for number in range(10)]
    captures.model = tiny
    (key,), _, _ = captures._segments(shown, "", None, None, None, None)
    assert sha256_of(key) == "d3b8b938e8256c73a3f0e450e1445e207ab2cf4abd19102a8d1bd3a57add86e9"


@pytest.mark.parametrize("with_images", [False, True])
def test_activations_at_a_level_are_those_of_the_pipelines_own_call(captures, photos, with_images):
    model, shown = captures.model, shown_of(photos if with_images else None)
    found = pair_levels(captures, shown, STEPS)
    assert [level.step for level in found] == list(STEPS)
    own = captures.activations(shown)[0]
    first = captures.activations(shown, level=found[0])[0]
    assert np.array_equal(first.mean_square, own.mean_square)  # step 1 is of pure noise, as the published protocol
    for level in found[1:]:
        at = captures.activations(shown, level=level)[0]
        for number in (1, 3):  # B of each pair: its own generation, the conditional pass of each step
            expected = hooked_pipeline_call(model, shown[number][0], level.step)
            np.testing.assert_allclose(pooled_rms(at, model.groups)[number], expected, rtol=1e-5)
        # A is shown what its B comes through, and not what it would come through itself
        assert level.latents[0] is level.latents[1] and not np.array_equal(level.latents[1], level.latents[3])
        theirs = hooked_pipeline_call(model, shown[0][0], level.step)
        assert not np.allclose(pooled_rms(at, model.groups)[0], theirs, rtol=1e-5)


def test_a_second_run_takes_levels_and_activations_from_the_store(captures, monkeypatch):
    shown = shown_of()
    found = pair_levels(captures, shown, STEPS)
    before = captures.activations(shown, level=found[2])[0]
    forbid(captures.model, monkeypatch)
    again = pair_levels(captures, shown, STEPS[1:])
    for level, other in zip(found[1:], again, strict=True):
        assert (level.step, level.timestep, level.sigma) == (other.step, other.timestep, other.sigma)
        assert np.array_equal(level.latents, other.latents) and level.key() == other.key()
    activations, origin = captures.activations(shown, level=again[1])
    assert origin["from_store"] and np.array_equal(activations.mean_square, before.mean_square)
    with pytest.raises(ProbeError, match="not in the store"):
        pair_levels(captures, shown, (2,))
    with pytest.raises(ProbeError, match="not in the store"):
        captures.activations(shown, level=again[0])


def test_prompts_that_are_the_same_are_generated_once(captures):
    shown = [*shown_of(), *shown_of()[2:]]
    calls, family = [], type(captures.model.loaded.family)
    whole = family.trajectory
    try:
        family.trajectory = lambda self, pipeline, text, *rest: (
            calls.append(len(text)) or whole(self, pipeline, text, *rest)
        )
        (level,) = levels(captures, shown, (3,))
    finally:
        family.trajectory = whole
    size = captures.model.protocol.batch_size
    assert sum(calls) == -(-4 // size) * size
    assert level.latents[4] is level.latents[2] and len(level.latents) == 6


def test_out_of_memory_halves_the_batches_of_generations(captures, monkeypatch):
    model, family = captures.model, type(captures.model.loaded.family)
    whole, size, calls = family.trajectory, captures.model.protocol.batch_size, []

    def short_of_memory(self, pipeline, text, *rest):
        calls.append(len(text))
        if len(text) == size:
            raise torch.OutOfMemoryError("no room")
        return whole(self, pipeline, text, *rest)

    monkeypatch.setattr(family, "trajectory", short_of_memory)
    (level,) = levels(captures, shown_of(), (3,))
    assert size > 1 and calls[0] == size and set(calls[1:]) == {size // 2}
    assert model.protocol.batch_size == size // 2 and len(level.latents) == 4


def test_a_level_is_captured_as_one_of_its_own_whatever_is_beside_it(captures):
    """Latents go with their stimuli through batches that are filled up, and through segments."""
    shown = [(Stimulus(f"s{number}", f"{number} dogs in the park"), None) for number in range(18)]
    (level,) = pair_levels(captures, shown, (6,))
    whole = captures.activations(shown, level=level)[0].mean_square
    alone = captures.activations(shown[16:], level=level.of([16, 17]))[0].mean_square
    assert np.array_equal(whole[16:], alone)
    assert not np.array_equal(captures.activations(shown[16:], level=level.of([0, 1]))[0].mean_square, alone)


def test_twins_are_shown_the_latents_of_the_model(captures):
    model, shown = captures.model, shown_of()
    (level,) = pair_levels(captures, shown, (6,))
    options = {"make": lambda: model.twin("shuffled", 0), "twin": {"kind": "shuffled", "seed": 0}}
    at = captures.activations(shown, level=level, **options)[0]
    noise = captures.activations(shown, **options)[0]
    assert at.mean_square.shape == noise.mean_square.shape and not np.allclose(at.mean_square, noise.mean_square)


def test_at_a_level_all_units_move_the_donors_contrast_and_none_nothing(captures, monkeypatch):
    causal = Causal("toy", captures, shown_of())
    n = len(captures.model.groups.units)
    doses = Doses.whole(np.array([np.ones(n, bool), np.zeros(n, bool), np.arange(n) % 8 == 0]))
    first, last = pair_levels(captures, causal.shown, (1, 6))
    jobs = [(0, 1), (1, 0), (0, 0)]
    moved = causal.moved(jobs, doses, INTO, level=last)
    np.testing.assert_allclose(moved.along[:, 0], np.repeat(moved.foreign[:, None], 2, axis=1), rtol=1e-4)
    assert (moved.along[:, 1] == 0).all() and (moved.along[:, 2] != 0).all()
    np.testing.assert_allclose(moved.foreign[2], moved.wanted[2], rtol=1e-6)
    published, at_first = causal.moved(jobs, doses, INTO), causal.moved(jobs, doses, INTO, level=first)
    assert np.array_equal(published.along, at_first.along) and not np.allclose(moved.along[:, 2], published.along[:, 2])
    forbid(captures.model, monkeypatch)
    assert np.array_equal(causal.moved(jobs, doses, INTO, level=last).along, moved.along)
