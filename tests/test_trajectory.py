"""What a generation comes through: equal, bit by bit, to what the transformer is given in the pipeline's own call."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hooked_call import PROMPTS
from PIL import Image

from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.activations.references import encode_images
from fixtures.activations.whole_passes import WholePasses

STEPS = 6


def given_in_the_pipelines_call(model, protocol, prompt, image=None):
    """Arguments of the conditional pass of each step of a whole call of the pipeline."""
    seen = []
    handle = model.pipeline.transformer.register_forward_pre_hook(
        lambda module, arguments, given: seen.append(given), with_kwargs=True
    )
    try:
        model.pipeline(
            image=image,
            prompt=prompt,
            height=protocol.resolution,
            width=protocol.resolution,
            num_inference_steps=protocol.generation_steps,
            guidance_scale=protocol.generation_guidance,
            max_sequence_length=protocol.text_length,
            generator=torch.Generator().manual_seed(protocol.seed),
        )
    finally:
        handle.remove()
    return seen[:: 2 if protocol.generation_guidance > 1 else 1]


@torch.inference_mode()
def trajectory(model, protocol, prompts, steps, image=None):
    embedded = encode_prompts(model.loaded, [*dict.fromkeys(prompts), ""], protocol)
    text, without = torch.stack([embedded[one] for one in prompts]), torch.stack([embedded[""]] * len(prompts))
    return text, model.loaded.family.trajectory(model.pipeline, text, without, protocol, steps, image)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("with_image", [False, True])
def test_every_step_equals_the_pipelines_own_call(tiny, photos, guidance, with_image):
    protocol = replace(tiny.protocol, generation_steps=STEPS, generation_guidance=guidance, seed=3)
    image = Image.open(photos[0]) if with_image else None
    expected = given_in_the_pipelines_call(tiny, protocol, PROMPTS[0], image)
    assert len(expected) == STEPS
    references = list(encode_images(tiny.loaded, [(photos[0], None)], protocol).values()) if with_image else None
    text, levels = trajectory(tiny, protocol, PROMPTS[:1], range(1, STEPS + 1), image)
    passes = tiny.loaded.family.passes(tiny.pipeline, protocol)
    for number, (level, theirs) in enumerate(zip(levels, expected, strict=True)):
        ours, _ = passes.inputs(list(text), references, level)
        assert (level.step, len(level.latents)) == (number + 1, 1)
        assert level.timestep == pytest.approx(1000 * level.sigma)
        for name in ("hidden_states", "timestep", "encoder_hidden_states", "img_ids"):
            assert torch.equal(ours[name], theirs[name]), name
    assert levels[0].sigma == 1.0 and np.diff([level.sigma for level in levels]).max() < 0
    distances = [np.abs(level.latents[0] - levels[0].latents[0]).max() for level in levels]
    assert distances[0] == 0 and min(distances[1:]) > 0


def test_prompts_of_a_batch_come_through_their_own_latents_and_steps_can_be_left_out(tiny):
    protocol = replace(tiny.protocol, generation_steps=STEPS)
    _, together = trajectory(tiny, protocol, PROMPTS[:2], (1, 4))
    assert [level.step for level in together] == [1, 4]
    assert np.array_equal(*together[0].latents) and not np.array_equal(*together[1].latents)
    for number, prompt in enumerate(PROMPTS[:2]):
        expected = given_in_the_pipelines_call(tiny, protocol, prompt)[3]["hidden_states"][0]
        assert np.allclose(together[1].latents[number], expected, atol=1e-5)


def test_the_pipeline_generates_after_it_as_before(tiny):
    protocol = replace(tiny.protocol, generation_steps=2)
    first = given_in_the_pipelines_call(tiny, protocol, PROMPTS[0])
    trajectory(tiny, protocol, PROMPTS[:1], (1,))
    again = given_in_the_pipelines_call(tiny, protocol, PROMPTS[0])
    assert len(first) == len(again) == 2 and torch.equal(first[1]["hidden_states"], again[1]["hidden_states"])


def test_the_first_level_is_the_published_protocols_pass(tiny, photos):
    """A generation in 14 steps begins at the time step of one in a single step: both are of pure noise."""
    stimuli = [Stimulus(f"s{i}", prompt, photos[i]) for i, prompt in enumerate(PROMPTS[:2])]
    _, (first, later) = trajectory(tiny, tiny.protocol, PROMPTS[:2], (1, 5))
    with WholePasses(tiny.loaded, tiny.sites, stimuli, tiny.protocol) as passes:
        published = passes([0, 1])
    found = []
    for level in (first, later, later.of([1, 0])):
        with WholePasses(tiny.loaded, tiny.sites, stimuli, tiny.protocol, level) as passes:
            found.append(passes([0, 1]))
    assert torch.equal(found[0], published)
    assert not torch.allclose(found[1], published) and not torch.allclose(found[1], found[2])
    assert first.timestep == 1000
