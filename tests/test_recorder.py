"""Hooks that write as well as read, and forward passes that run to their end."""

import pytest
import torch

from fixtures.activations.prompts import encode_prompts
from fixtures.activations.references import encode_images
from fixtures.common.errors import ProbeError
from fixtures.models.hooks.compiled import CompiledRecorder
from fixtures.models.hooks.recorder import SiteRecorder
from fixtures.models.hooks.reduction import Reduction

A, B = "A glass on a table.", "Two men and a dog in the street"


@pytest.fixture
def passes(tiny, photos):
    """Arguments, rows and prompt tokens of a pass of A and of one of B, beside the same image, and what reads them."""
    loaded, protocol = tiny.loaded, tiny.protocol
    text = encode_prompts(loaded, [A, B], protocol)
    reference = encode_images(loaded, [(photos[0], None)], protocol)[photos[0], None]
    made = loaded.family.passes(loaded.pipeline, protocol)
    size = protocol.batch_size
    given = []
    for prompt in (A, B):
        inputs, rows = made.inputs([text[prompt]] * size, [reference] * size)
        tokens = loaded.family.count_tokens(loaded.pipeline, prompt)
        given.append((inputs, Reduction(rows, [tokens] * size, "cpu")))
    return *given, made


def whole(tiny, given, made, write=None):
    """The prediction of a pass to its end, and what was recorded."""
    inputs, reduce = given
    with torch.inference_mode(), SiteRecorder(tiny.loaded.transformer, tiny.sites, reduce, write) as recorder:
        return made.read(recorder.forward_whole(**inputs)), recorder.collect()


def kept(tiny, given, made):
    """What enters every site in a pass."""
    seen = {}

    def look(hidden, site):
        seen[site.name] = hidden.clone()
        return hidden

    whole(tiny, given, made, look)
    return seen


def ratio(changed, b, a):
    """How much of the way from B's prediction to A's a changed one of B has gone."""
    wanted = a - b
    return float(((changed - b) * wanted).sum() / wanted.square().sum())


def test_a_whole_pass_records_the_same_as_one_that_ends_at_the_last_site(tiny, passes):
    a, _, made = passes
    prediction, recorded = whole(tiny, a, made)
    with torch.inference_mode(), SiteRecorder(tiny.loaded.transformer, tiny.sites, a[1]) as recorder:
        assert torch.equal(recorder.forward(**a[0]), recorded)
        plain = made.read(tiny.loaded.transformer(**a[0]))
    assert torch.equal(prediction, plain)
    noise = (tiny.protocol.resolution // 16) ** 2
    assert prediction.shape == (tiny.protocol.batch_size, noise, tiny.loaded.transformer.config.in_channels)


def test_what_is_written_back_unchanged_changes_nothing(tiny, passes):
    _, b, made = passes
    before, recorded = whole(tiny, b, made)
    after, again = whole(tiny, b, made, lambda hidden, site: hidden)
    assert torch.equal(before, after) and torch.equal(recorded, again)


def test_all_of_a_written_into_b_is_a_and_none_is_b(tiny, passes):
    """Every way by which text reaches the noise tokens leads through a site."""
    a, b, made = passes
    from_a, (of_a, recorded_a), (of_b, _) = kept(tiny, a, made), whole(tiny, a, made), whole(tiny, b, made)
    patched, recorded = whole(tiny, b, made, lambda hidden, site: from_a[site.name])
    assert ratio(patched, of_b, of_a) == pytest.approx(1, abs=1e-5)
    assert ratio(of_b, of_b, of_a) == 0 and not torch.allclose(of_a, of_b, rtol=1e-2)
    noise = 2  # of the token groups: prompt, padding, noise, reference
    torch.testing.assert_close(recorded[:, noise], recorded_a[:, noise])  # what is recorded is what then enters


def test_writing_equals_a_hand_written_hook(tiny, passes):
    _, b, made = passes
    site = tiny.sites[-2]
    found, _ = whole(tiny, b, made, lambda hidden, at: 2 * hidden if at == site else hidden)
    module = tiny.loaded.transformer.get_submodule(site.name)
    handle = module.register_forward_pre_hook(lambda module, arguments: (2 * arguments[0],))
    try:
        with torch.inference_mode():
            expected = made.read(tiny.loaded.transformer(**b[0]))
    finally:
        handle.remove()
    assert torch.equal(found, expected)


def test_compiled_blocks_refuse_to_be_changed(tiny):
    recorder = CompiledRecorder(tiny.loaded.transformer, tiny.sites, write=lambda hidden, site: hidden)
    with pytest.raises(ProbeError, match="--compile: compiled blocks can be read, not changed"), recorder:
        pass
