"""The reduction inside the hooks: both ways against the plain definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.models.flux2_klein.tokens import TokenLayout
from fixtures.models.hooks.reduction import Reduction, one_pass_kernel
from fixtures.models.units import CELLS

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def plain(hidden, layout, prompt_tokens, stream):
    """Mean squares and counts by loops over stimuli and cells."""
    rows, columns = layout.noise_grid
    places = [
        f"noise, {'upper' if row < rows // 2 else 'lower'} {'left' if column < columns // 2 else 'right'}"
        for row in range(rows)
        for column in range(columns)
    ]
    found = np.zeros((len(hidden), len(CELLS), hidden.shape[2] // 16))
    counts = np.zeros((len(hidden), len(CELLS)), int)
    for stimulus, n in enumerate(prompt_tokens):
        text = ["prompt"] * n + ["padding"] * (layout.text_length - n) if stream == "text+image" else []
        names = np.array([*text, *places, *["reference"] * layout.reference_tokens])
        for number, cell in enumerate(CELLS):
            part = hidden[stimulus, names == cell]
            counts[stimulus, number] = len(part)
            if len(part):
                found[stimulus, number] = (part.reshape(len(part), -1, 16) ** 2).mean(axis=(0, 2))
    return found, counts


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stream", ["image", "text+image"])
@settings(deadline=None)  # the kernel is compiled at its first call
@given(
    prompt_tokens=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    grid=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    reference=st.integers(0, 40),
    groups=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_reduction_is_the_mean_over_tokens_and_channels(
    device, stream, prompt_tokens, grid, reference, groups, seed
):
    layout = TokenLayout(6, grid, reference)
    tokens = grid[0] * grid[1] + reference + (6 if stream == "text+image" else 0)
    shape = (len(prompt_tokens), tokens, 16 * groups)
    hidden = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    reduce = Reduction(layout, prompt_tokens, device)
    found = reduce(torch.from_numpy(hidden).to(device), stream).cpu().numpy()
    assert found.dtype == np.float32
    expected, counts = plain(hidden.astype(float), layout, prompt_tokens, stream)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    if stream == "text+image":
        assert (layout.counts(prompt_tokens) == counts).all()


@pytest.mark.skipif(not torch.cuda.is_available() or one_pass_kernel() is None, reason="needs a GPU and triton")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_kernel_reads_a_slice_of_tokens_as_it_is(dtype):
    layout = TokenLayout(512, (32, 32), 1024)
    whole = torch.randn(2, 2560, 3072, device="cuda", dtype=dtype)
    hidden = whole[:, 512:]  # as joint blocks give it: tokens of a longer sequence
    reduce = Reduction(layout, [30, 40], "cuda")
    assert torch.equal(reduce(hidden, "image"), reduce(hidden.contiguous(), "image"))
    expected, _ = plain(hidden.double().cpu().numpy(), layout, [30, 40], "image")
    np.testing.assert_allclose(reduce(hidden, "image").cpu().numpy(), expected, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available() or one_pass_kernel() is None, reason="needs a GPU and triton")
def test_the_kernel_gives_the_same_bits_again():
    reduce = Reduction(TokenLayout(512, (31, 33), 1024), [30, 40], "cuda")
    hidden = torch.randn(2, 512 + 31 * 33 + 1024, 3072, device="cuda", dtype=torch.bfloat16)
    first = reduce(hidden, "text+image")
    assert all(torch.equal(reduce(hidden, "text+image"), first) for _ in range(5))


@pytest.mark.parametrize("device", DEVICES)
def test_cells_of_other_tokens_are_refused(device):
    reduce = Reduction(TokenLayout(6, (4, 4), 0), [3], device)
    with pytest.raises((RuntimeError, ValueError)):
        reduce(torch.zeros(1, 23, 32, device=device), "text+image")
