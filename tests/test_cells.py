"""Cells: noise tokens are told apart by their quadrant of the image, and pooled they are what they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hooked_call import PROMPTS
from hypothesis import given
from hypothesis import strategies as st

from fixtures.activations.activations import Activations, pooled_rms
from fixtures.activations.capture import capture
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.activations.references import encode_images
from fixtures.models.flux2_klein.tokens import TokenLayout
from fixtures.models.hooks.reduction import Reduction
from fixtures.models.units import CELLS, Site, channel_groups


@pytest.mark.parametrize("resolution", [64, 80])
def test_quadrants_of_the_noise_are_those_of_the_image(tiny, photos, resolution):
    """Of 4 x 4 and 5 x 5 tokens, against what enters the sites, laid out by the pipeline's own positions."""
    loaded, protocol = tiny.loaded, replace(tiny.protocol, batch_size=1, resolution=resolution)
    side, text = resolution // 16, protocol.text_length
    stimulus = Stimulus("s", PROMPTS[0], photos[0])
    captured = capture(loaded, tiny.sites, [stimulus], protocol)
    entered, counts = {}, []

    def look(module, arguments):
        entered[of_module[module]] = arguments[0][0].double()

    of_module = {loaded.transformer.get_submodule(site.name): site for site in tiny.sites}
    references = encode_images(loaded, [stimulus.reference], protocol)
    embedded = encode_prompts(loaded, [stimulus.prompt], protocol)[stimulus.prompt]
    inputs, rows = loaded.family.passes(loaded.pipeline, protocol).inputs([embedded], [references[stimulus.reference]])
    with torch.inference_mode():
        handles = [module.register_forward_pre_hook(look) for module in of_module]
        loaded.transformer(**inputs)
        for handle in handles:
            handle.remove()
    places = inputs["img_ids"][0]
    noise = places[:, 0] == 0  # reference tokens have another time
    assert noise.sum() == side**2
    for name, lower, right in (
        ("upper left", 0, 0),
        ("upper right", 0, 1),
        ("lower left", 1, 0),
        ("lower right", 1, 1),
    ):
        here = noise & ((places[:, 1] >= side // 2) == lower) & ((places[:, 2] >= side // 2) == right)
        expected = []
        for site in tiny.sites:
            image = entered[site] if site.stream == "image" else entered[site][text:]
            expected.append(image[here].unflatten(-1, (-1, 16)).square().mean(dim=(0, 2)))
        cell = CELLS.index(f"noise, {name}")
        np.testing.assert_allclose(captured.mean_square[0, cell], torch.cat(expected).numpy(), rtol=1e-5)
        assert captured.token_counts[0, cell] == here.sum()
        counts.append(int(here.sum()))
    assert counts == ([4, 4, 4, 4] if side == 4 else [4, 6, 6, 9])


@given(
    prompt_tokens=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    reference=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_pooled_rms_is_that_of_all_tokens_of_the_token_groups(prompt_tokens, grid, reference, seed):
    """Cells without tokens, of a grid of one row or column, among them."""
    text, noise = 6, grid[0] * grid[1]
    layout = TokenLayout(text, grid, reference)
    tokens = text + noise + reference
    values = np.random.default_rng(seed).standard_normal((len(prompt_tokens), tokens, 32)).astype(np.float32)
    reduced = Reduction(layout, prompt_tokens, "cpu")(torch.from_numpy(values), "text+image").numpy()
    activations = Activations(reduced, layout.counts(prompt_tokens))
    assert (activations.token_counts.sum(axis=1) == tokens).all()
    partition = channel_groups((Site("s", "b", "text+image", 32, 32, 32),))
    squares = values.astype(float).reshape(len(prompt_tokens), tokens, 2, 16) ** 2
    pooled = pooled_rms(activations, partition)
    np.testing.assert_allclose(pooled, np.sqrt(squares.mean(axis=(1, 3))), rtol=1e-5)
    on_noise = pooled_rms(activations, partition, ("noise",))
    np.testing.assert_allclose(on_noise, np.sqrt(squares[:, text : text + noise].mean(axis=(1, 3))), rtol=1e-5)
    for n, row, found in zip(prompt_tokens, squares, pooled_rms(activations, partition, ("prompt",)), strict=True):
        np.testing.assert_allclose(found, np.sqrt(row[:n].mean(axis=(0, 2))) if n else 0, rtol=1e-5)


def test_a_unit_without_tokens_has_rms_zero(tiny):
    empty = Activations(np.ones((1, 7, len(tiny.groups.units)), np.float32), np.zeros((1, 7), np.int64))
    assert (pooled_rms(empty, tiny.groups) == 0).all()
