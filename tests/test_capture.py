from dataclasses import replace

import numpy as np
import pytest
import torch
from hooked_call import PROMPTS, hooked_pipeline_call
from PIL import Image

import fixtures.activations.capture
from fixtures.activations.activations import Activations, pooled_rms, split_members
from fixtures.activations.capture import capture, capture_batches
from fixtures.activations.presentation import Stimulus
from fixtures.common.errors import ProbeError
from fixtures.models.flux2_klein.forward import count_tokens
from fixtures.models.flux2_klein.tokens import TokenLayout
from fixtures.models.hooks.recorder import SiteRecorder
from fixtures.models.hooks.reduction import Reduction
from fixtures.models.model import Model
from fixtures.models.units import CELLS


@pytest.mark.parametrize("with_image", [True, False])
def test_capture_equals_a_hooked_pipeline_call(tiny, photos, with_image):
    stimuli = [Stimulus(f"s{i}", prompt, photos[i] if with_image else None) for i, prompt in enumerate(PROMPTS)]
    captured = pooled_rms(capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol), tiny.groups)
    for stimulus, ours in zip(stimuli, captured, strict=True):
        np.testing.assert_allclose(ours, hooked_pipeline_call(tiny, stimulus), rtol=2e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_capture_on_a_gpu_equals_a_hooked_pipeline_call_and_the_cpu(tiny, photos, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # convolutions would round to 10 bits
    settings = replace(tiny.settings, device="cuda", dtype="float32")
    on_gpu = Model(settings)
    stimuli = [Stimulus(f"s{i}", prompt, photos[i]) for i, prompt in enumerate(PROMPTS)]
    captured = pooled_rms(capture(on_gpu.loaded, on_gpu.sites, stimuli, on_gpu.protocol), on_gpu.groups)
    for stimulus, ours in zip(stimuli, captured, strict=True):
        np.testing.assert_allclose(ours, hooked_pipeline_call(on_gpu, stimulus), rtol=1e-4)
    on_cpu = pooled_rms(capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol), tiny.groups)
    np.testing.assert_allclose(captured, on_cpu, rtol=1e-2)


def test_a_fixed_reference_image_is_shown_with_every_prompt(tiny, photos):
    stimuli = [Stimulus(prompt, prompt, photos[0]) for prompt in PROMPTS]
    captured = pooled_rms(capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol), tiny.groups)
    np.testing.assert_allclose(captured[2], hooked_pipeline_call(tiny, stimuli[2]), rtol=2e-6)


def test_attention_heads_are_the_rms_of_their_channels(tiny):
    activations = capture(tiny.loaded, tiny.sites, [Stimulus("s", PROMPTS[0])], tiny.protocol)
    groups = pooled_rms(activations, tiny.groups)[0]
    heads = pooled_rms(activations, tiny.heads)[0]
    np.testing.assert_allclose(heads, [np.sqrt((groups[members] ** 2).mean()) for members in tiny.heads.groups])


def test_token_counts_add_up_and_joint_blocks_see_no_text(tiny, photos):
    stimuli = [Stimulus(prompt, prompt, photos[0]) for prompt in PROMPTS]
    activations = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol)
    counts = dict(zip(CELLS, activations.token_counts.T, strict=True))
    assert list(counts["prompt"]) == [count_tokens(tiny.pipeline, prompt) for prompt in PROMPTS]
    assert set(counts["prompt"] + counts["padding"]) == {tiny.protocol.text_length}
    assert set(counts["reference"]) == {16}
    assert all(set(counts[cell]) == {4} for cell in CELLS if cell.startswith("noise"))
    joint = [index for index, unit in enumerate(tiny.groups.units) if unit.stream == "image"]
    assert (pooled_rms(activations, tiny.groups, ("prompt", "padding"))[:, joint] == 0).all()
    assert (pooled_rms(activations, tiny.groups, ("noise", "reference"))[:, joint] > 0).all()


def test_results_do_not_depend_on_what_else_is_in_the_list(tiny):
    stimuli = [Stimulus(prompt, prompt) for prompt in PROMPTS]
    everything = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol).mean_square
    alone = capture(tiny.loaded, tiny.sites, stimuli[2:3], tiny.protocol).mean_square
    np.testing.assert_allclose(everything[2], alone[0], rtol=1e-5)


def test_every_batch_is_full_for_both_encoder_and_transformer(tiny, monkeypatch):
    sizes = []
    tiny.loaded.text_embeddings.clear()  # of other tests
    encode = tiny.pipeline.encode_prompt

    def recorded(prompts, **options):
        sizes.append(len(prompts))
        return encode(prompts, **options)

    monkeypatch.setattr(tiny.pipeline, "encode_prompt", recorded)
    handle = tiny.pipeline.transformer.x_embedder.register_forward_hook(lambda *call: sizes.append(len(call[2])))
    try:
        stimuli = [Stimulus(str(number), f"prompt {number}") for number in range(13)]
        captured = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol)
    finally:
        handle.remove()
    assert sizes == [10, 10, 10, 10] and len(captured.mean_square) == 13


def test_the_same_run_twice_gives_the_same_bits(tiny):
    stimuli = [Stimulus(prompt, prompt) for prompt in PROMPTS]
    first, second = (capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol) for _ in range(2))
    assert np.array_equal(first.mean_square, second.mean_square)


def test_batches_come_one_by_one_and_those_before_a_failure_are_not_lost(tiny, photos, tmp_path):
    odd = tmp_path / "odd.png"
    Image.new("RGB", (64, 128)).save(odd)
    files = [photos[0]] * 10 + [photos[1]] * 10 + [odd]
    stimuli = [Stimulus(str(number), PROMPTS[0], file) for number, file in enumerate(files)]
    tiny_batches = replace(tiny.protocol, batch_size=1)
    found = capture_batches(tiny.loaded, tiny.sites, stimuli, tiny_batches)
    kept = [next(found) for _ in range(19)]  # one batch is under way while the last one is taken
    with pytest.raises(ProbeError, match="odd.png: its size, .* differs from"):
        next(found)
    expected = capture(tiny.loaded, tiny.sites, stimuli[:19], tiny_batches)
    assert np.array_equal(Activations.joined(kept).mean_square, expected.mean_square)
    assert np.array_equal(Activations.joined(kept).token_counts, expected.token_counts)


def test_progress_reaches_the_total(tiny):
    seen = []
    stimuli = [Stimulus(str(number), f"prompt {number}") for number in range(12)]
    capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol, lambda done, total: seen.append((done, total)))
    assert seen == [(10, 12), (12, 12)]


def test_a_prompt_longer_than_the_text_length_names_the_stimulus(tiny):
    with pytest.raises(ProbeError, match="set.toml, pair p, a: its prompt has .* at most 160"):
        capture(tiny.loaded, tiny.sites, [Stimulus("set.toml, pair p, a", "zq" * 200)], tiny.protocol)


def test_images_of_different_sizes_are_refused(tiny, photos):
    Image.new("RGB", (128, 64)).save(photos[1])
    stimuli = [Stimulus(f"s{index}", "same", photo) for index, photo in enumerate(photos)]
    for batch_size in (1, 10):
        protocol = replace(tiny.protocol, batch_size=batch_size)
        with pytest.raises(ProbeError, match="photo1.png: its size, .* differs from .*photo0.png"):
            capture(tiny.loaded, tiny.sites, stimuli, protocol)


@pytest.mark.parametrize("size", [(40, 40), (640, 64), (1, 3000)])
def test_an_image_that_the_pipeline_refuses_is_refused(tiny, photos, size):
    Image.new("RGB", size).save(photos[0])
    with pytest.raises(ProbeError, match="photo0.png: the pipeline refuses it: "):
        capture(tiny.loaded, tiny.sites, [Stimulus("s", "x", photos[0])], tiny.protocol)


@pytest.mark.parametrize("side", [65, 66, 67, 99, 130, 300])
def test_an_image_of_more_pixels_than_the_resolution_is_scaled_down_to_it(tiny, photos, side):
    """To 64 x 64 here, not to the next smaller multiple of 16."""
    with Image.open(photos[0]) as image:
        image.resize((side, side)).save(photos[1])
    layout = capture(tiny.loaded, tiny.sites, [Stimulus("s", "x", photos[1])], tiny.protocol).token_counts
    assert layout[0, -1] == (64 // 16) ** 2


def test_a_non_finite_activation_names_stimulus_and_block(tiny):
    module = tiny.pipeline.transformer.single_transformer_blocks[1].attn.to_qkv_mlp_proj
    weight = module.weight.data.clone()
    try:
        module.weight.data.fill_(float("nan"))
        with pytest.raises(ProbeError, match=r"first: non-finite activation in single\[1\]"):
            capture(tiny.loaded, tiny.sites, [Stimulus("first", "x")], tiny.protocol)
    finally:
        module.weight.data.copy_(weight)


@pytest.mark.parametrize(("cell", "group"), [("prompt", "prompt"), ("noise, lower left", "noise")])
def test_a_non_finite_activation_names_the_token_group(tiny, monkeypatch, cell, group):
    class Damaged(Reduction):
        def __call__(self, hidden, stream):
            found = super().__call__(hidden, stream)
            found[:, CELLS.index(cell)] = torch.nan
            return found

    monkeypatch.setattr(fixtures.activations.capture, "Reduction", Damaged)
    with pytest.raises(ProbeError, match=rf"s: non-finite activation in joint\[0\] \({group} tokens\)"):
        capture(tiny.loaded, tiny.sites, [Stimulus("s", "x")], tiny.protocol)


def test_a_site_that_does_not_fire_is_an_error(tiny):
    rows = TokenLayout(text_length=4, noise_grid=(2, 2), reference_tokens=0)
    with SiteRecorder(tiny.pipeline.transformer, tiny.sites, Reduction(rows, [2], "cpu")) as recorder:
        with pytest.raises(ProbeError, match=r"to_out\.0 fired 0 times"):
            recorder.collect()


def test_hooks_are_gone_after_capture(tiny):
    capture(tiny.loaded, tiny.sites, [Stimulus("s", "x")], tiny.protocol)
    assert not any(module._forward_pre_hooks for module in tiny.pipeline.transformer.modules())


def test_chunks_do_not_change_what_is_captured_and_bound_what_is_held(tiny, photos, monkeypatch):
    stimuli = [Stimulus(str(number), f"prompt {number % 7}", photos[number % 5]) for number in range(33)]
    whole = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol)
    held = []
    encode = fixtures.activations.capture.encode_prompts

    def recorded(pipeline, prompts, protocol):
        held.append(len(prompts))
        return encode(pipeline, prompts, protocol)

    monkeypatch.setattr(fixtures.activations.capture, "CHUNK", 15)  # rounded down to the batch size of 10
    monkeypatch.setattr(fixtures.activations.capture, "encode_prompts", recorded)
    seen = []
    parts = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol, lambda done, total: seen.append(done))
    np.testing.assert_allclose(parts.mean_square, whole.mean_square, rtol=1e-5)
    assert held == [7, 7, 7, 3] and seen == [10, 20, 30, 33]


def test_split_members_takes_the_stimuli_in_turn():
    a, b = split_members(np.arange(6))
    assert (list(a), list(b)) == ([0, 2, 4], [1, 3, 5])
