"""What enters the transformer, measured: equal to what the pipeline's own methods give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.activations.inputs import LATENTS, TEXT, match_alteration, measure_inputs, relative_distance
from fixtures.activations.presentation import Stimulus
from fixtures.klein_mini.world.captions import FIXED_PROMPT

PROMPTS = ("a cat sits on the mat", "a dog sits on the mat", "one two three four", "one two three four")


@torch.inference_mode()
def test_text_is_what_the_pipeline_encodes(tiny):
    stimuli = [Stimulus(str(n), prompt) for n, prompt in enumerate(PROMPTS)]
    found = measure_inputs(tiny.loaded, stimuli, TEXT, tiny.protocol)
    expected, _ = tiny.pipeline.encode_prompt(list(PROMPTS), max_sequence_length=tiny.protocol.text_length)
    expected = expected.double().numpy()
    grouped = expected.reshape(4, expected.shape[1], -1, 4)
    np.testing.assert_allclose(found.rms, np.sqrt(np.square(grouped).mean(axis=(1, 3))), rtol=1e-5)
    size = np.sqrt(np.square(expected[:2]).mean())
    np.testing.assert_allclose(
        found.distance[0], np.sqrt(np.square(expected[0] - expected[1]).mean()) / size, rtol=1e-5
    )
    assert found.distance[1] == 0


@torch.inference_mode()
def test_latents_are_what_the_pipeline_prepares(tiny, photos):
    stimuli = [Stimulus(str(n), FIXED_PROMPT, photo) for n, photo in enumerate(photos[:2])]
    found = measure_inputs(tiny.loaded, stimuli, LATENTS, tiny.protocol)
    assert found.rms.shape == (2, tiny.pipeline.transformer.config.in_channels // 4) and (found.rms > 0).all()
    assert 0.5 < found.distance[0] < 2


def test_a_change_is_matched_to_the_target(tiny, photos):
    stimuli = [Stimulus(str(n), FIXED_PROMPT, photo) for n, photo in enumerate(photos)]
    matched = match_alteration(tiny.loaded, "brightness", stimuli, 0.1, tiny.protocol)
    assert matched.distance.shape == (5,) and matched.distance.mean() == pytest.approx(0.1, rel=0.05)
    assert 0 < matched.amount[0] < 0.9


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-10, 10), min_size=3, max_size=3), scale=st.floats(0.01, 100), other=st.floats(-10, 10)
)
def test_the_distance_has_no_unit_and_no_direction(values, scale, other):
    a, b = torch.tensor(values), torch.tensor([other, 1.0, 2.0])
    assert relative_distance(a, a) == 0
    assert relative_distance(a, b) == pytest.approx(relative_distance(b, a))
    assert relative_distance(scale * a, scale * b) == pytest.approx(relative_distance(a, b), rel=1e-3, abs=1e-6)
