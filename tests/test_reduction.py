"""The reduction inside the hooks: both ways against the plain definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.models.flux2_klein.tokens import TokenLayout
from fixtures.models.hooks.reduction import Reduction, one_pass_kernel

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def plain(hidden, layout, prompt_tokens, stream):
    """Mean squares by loops over stimuli and token groups."""
    found = np.zeros((len(hidden), 4, hidden.shape[2] // 16))
    for stimulus, n in enumerate(prompt_tokens):
        sizes = [n, layout.text_length - n] if stream == "text+image" else [0, 0]
        start = 0
        for group, size in enumerate([*sizes, layout.noise_tokens, layout.reference_tokens]):
            part = hidden[stimulus, start : start + size]
            if size:
                found[stimulus, group] = (part.reshape(size, -1, 16) ** 2).mean(axis=(0, 2))
            start += size
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stream", ["image", "text+image"])
@settings(deadline=None)  # the kernel is compiled at its first call
@given(
    prompt_tokens=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    noise=st.integers(1, 300),
    reference=st.integers(0, 40),
    groups=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_reduction_is_the_mean_over_tokens_and_channels(
    device, stream, prompt_tokens, noise, reference, groups, seed
):
    layout = TokenLayout(6, noise, reference)
    tokens = noise + reference + (6 if stream == "text+image" else 0)
    shape = (len(prompt_tokens), tokens, 16 * groups)
    hidden = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    reduce = Reduction(layout, prompt_tokens, device)
    found = reduce(torch.from_numpy(hidden).to(device), stream).cpu().numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(hidden.astype(float), layout, prompt_tokens, stream), rtol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available() or one_pass_kernel() is None, reason="needs a GPU and triton")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_kernel_reads_a_slice_of_tokens_as_it_is(dtype):
    layout = TokenLayout(512, 1024, 1024)
    whole = torch.randn(2, 2560, 3072, device="cuda", dtype=dtype)
    hidden = whole[:, 512:]  # as joint blocks give it: tokens of a longer sequence
    reduce = Reduction(layout, [30, 40], "cuda")
    assert torch.equal(reduce(hidden, "image"), reduce(hidden.contiguous(), "image"))
    expected = plain(hidden.double().cpu().numpy(), layout, [30, 40], "image")
    np.testing.assert_allclose(reduce(hidden, "image").cpu().numpy(), expected, rtol=1e-5)
