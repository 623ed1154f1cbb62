"""The exact null on a GPU against the CPU's: with a stand-in for the kernel, with it interpreted, and on a device."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.statistics.kernels import exact_flips, gpu_flips
from fixtures.statistics.random_flips import evaluate
from fixtures.statistics.sign_flips import MAX_EXACT_PAIRS_GPU, sign_flip_null
from fixtures.statistics.signed_sums import sum_bound, unit_vectors
from fixtures.statistics.summaries import Bracket

quick = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
small_integers = arrays(np.int64, st.tuples(st.integers(2, 12), st.integers(1, 8)), elements=st.integers(-3, 3))
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

INTERPRETED = """
import sys
import numpy as np
import torch
from triton.runtime import interpreter
from fixtures.statistics.kernels import exact_flips, gpu_flips, gpu_kernels
from fixtures.statistics.signed_sums import sum_bound, unit_vectors

prepare = interpreter._patch_lang_tensor


def prepare_for_numpy(tensor, *scope):
    # Triton 3.6 reads a loop's limit with int(array of one element), which NumPy refuses since 2.4.
    prepare(tensor, *scope)
    tensor.__index__ = lambda self: self.handle.data.item()


interpreter._patch_lang_tensor = prepare_for_numpy
differences = np.load(sys.argv[1])
vectors, bounds = unit_vectors(differences), sum_bound((1, 3), len(differences))
tables = exact_flips.exact_tables(vectors, bounds)
for tile in gpu_kernels.Tile(), gpu_kernels.Tile(rows=4, columns=8, warps=1, unroll=2):
    flips = gpu_flips.GpuFlips(vectors, torch.device("cpu"), lambda *tensors: gpu_kernels.add_units(*tensors, tile))
    counts, maxima = flips.tables(0, bounds)
    assert (counts.numpy() == tables.counts.transpose(1, 0, 2)).all()
    np.testing.assert_allclose(maxima.numpy().reshape(-1), tables.maxima, rtol=1e-15, atol=4e-16)
    assert (flips.tables(0, None)[1] == maxima).all()
"""


def add_units(left, right, limits, counts, maxima, check):
    """What the kernel computes."""
    x = (left[:, :, None] + right[:, None, :]).abs()
    if check:
        x[x > limits[2]] = 0
    if counts is not None:
        counts += torch.where(x > limits[1], 65537, torch.where(x > limits[0], 1, 0)).sum(dim=0)
    torch.maximum(maxima, x.amax(dim=0), out=maxima)


@pytest.fixture
def stand_in(monkeypatch):
    """The CPU in place of any device, and PyTorch in place of the kernel."""
    monkeypatch.setattr(gpu_flips, "open_device", lambda name: (torch.device("cpu"), add_units))


def hostile_data(n_pairs, n_units, seed=0):
    """Correlated units, and among them ties, zeros, constant ones, and ones that a flip makes constant."""
    rng = np.random.default_rng(seed)
    differences = rng.standard_normal((n_pairs, 2)) @ rng.standard_normal((2, n_units))
    differences += rng.standard_normal((n_pairs, n_units))
    differences[:, :2], differences[:, 2] = 0, 0.1
    differences[:, 3:6] = 0.7 * rng.choice((-1, 1), (n_pairs, 3))
    differences[:, 6:12] = rng.integers(-2, 3, (n_pairs, 6))
    differences[1:, 12] = 0
    differences[:, 13] = differences[:, 14]
    return differences


def assert_same(actual, expected):
    assert (actual.method, actual.flips, actual.seed) == (expected.method, expected.flips, expected.seed)
    assert actual.undefined.tolist() == expected.undefined.tolist()
    for a, b in zip(actual.counts, expected.counts, strict=True):
        assert (a.threshold, a.observed, a.flips, a.p) == (b.threshold, b.observed, b.flips, b.p)
        assert a.null_counts.tolist() == b.null_counts.tolist()
        assert a.null_flips.tolist() == b.null_flips.tolist()
    a, b = actual.max_abs_t, expected.max_abs_t
    np.testing.assert_array_equal(a.observed, b.observed)
    np.testing.assert_array_equal(a.adjusted_p, b.adjusted_p)
    assert (a.flips, a.added) == (b.flips, b.added)
    assert a.edges.tolist() == b.edges.tolist()
    assert a.bin_flips.tolist() == b.bin_flips.tolist()
    assert a.quantiles == pytest.approx(b.quantiles, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(a.upper_tail, b.upper_tail, rtol=1e-9, atol=1e-12)
    assert a.critical(0.05) == pytest.approx(b.critical(0.05), rel=1e-9)


@quick
@given(small_integers, st.sampled_from([(3, 5), (1,), (0.5, 1.5, 3), (5, 4, 2, 1)]))
def test_integers_with_ties(stand_in, differences, thresholds):
    assert_same(sign_flip_null(differences, thresholds, device="cuda"), sign_flip_null(differences, thresholds))


@quick
@given(st.integers(2, 13), st.integers(15, 50), st.integers(0, 2**32 - 1))
def test_correlated_units_among_odd_ones(stand_in, n_pairs, n_units, seed):
    differences = hostile_data(n_pairs, n_units, seed)
    assert_same(sign_flip_null(differences, (2, 4), device="cuda:0"), sign_flip_null(differences, (2, 4)))


@pytest.mark.parametrize("differences", [np.zeros((6, 3)), np.ones((7, 2)), np.eye(2), [[1e-200], [3e-200], [2e-200]]])
def test_degenerate_units(stand_in, differences):
    assert_same(sign_flip_null(differences, device="cuda"), sign_flip_null(differences))


@pytest.mark.parametrize("pool", [0, 100, 2**26])
@pytest.mark.parametrize("flips, units", [(2**11, 1), (2**7, 5), (1, 64)])
def test_parts_of_any_size_change_nothing(stand_in, monkeypatch, flips, units, pool):
    differences = hostile_data(13, 70)
    expected = sign_flip_null(differences, (1, 3, 5))
    monkeypatch.setattr(gpu_flips, "_FLIPS", flips)
    monkeypatch.setattr(gpu_flips, "_UNITS", units)
    monkeypatch.setattr(gpu_flips, "_PACKED", 64)
    monkeypatch.setattr(gpu_flips, "_POOL", pool)
    monkeypatch.setattr(gpu_flips, "_SORTED", 37)
    assert_same(sign_flip_null(differences, (1, 3, 5), device="cuda"), expected)


def test_more_units_than_sixteen_bits_count(stand_in):
    differences = np.repeat(np.random.default_rng(5).standard_normal((5, 1)), 140_000, axis=1)
    differences[:, 40_000:] = 0
    null = sign_flip_null(differences, (1e-6, 2e-6), device="cuda")
    assert [count.null_counts.tolist() for count in null.counts] == [[40_000]] * 2
    differences[:, 40_000:] = 1.5 * differences[:, :1]
    null = sign_flip_null(differences, (2e-6, 1e-6), device="cuda")
    assert [count.null_counts.tolist() for count in null.counts] == [[140_000]] * 2


def test_tables_flip_by_flip():
    differences = hostile_data(14, 300)
    vectors, bounds = unit_vectors(differences), sum_bound((1, 3), 14)
    expected = exact_flips.exact_tables(vectors, bounds)
    flips = gpu_flips.GpuFlips(vectors, torch.device("cpu"), add_units)
    counts, maxima = flips.tables(0, bounds)
    assert (counts.numpy() == expected.counts.transpose(1, 0, 2)).all()
    np.testing.assert_allclose(maxima.numpy().reshape(-1), expected.maxima, rtol=1e-15, atol=4e-16)


def test_thirty_pairs_some_rows(monkeypatch):
    """Positions of flips in a table too long for the CPU's null."""
    monkeypatch.setattr(gpu_flips, "_FLIPS", 2**14)
    rng = np.random.default_rng(1)
    vectors, bounds = unit_vectors(rng.standard_normal((30, 40))), sum_bound((2, 3), 30)
    flips = gpu_flips.GpuFlips(vectors, torch.device("cpu"), add_units)
    assert (flips.n_rows, flips.n_columns, flips.rows_at_a_time) == (2**17, 2**12, 4)
    for start in (0, 4 * 777, 2**17 - 4):
        counts, maxima = flips.tables(start, bounds)
        some = rng.integers(0, maxima.numel(), 500)
        rows, columns = (start + (some >> 12)) * 2, some & 4095
        signs = 1.0 - 2.0 * np.hstack([rows[:, None] >> np.arange(18) & 1, columns[:, None] >> np.arange(12) & 1])
        expected_counts, expected_maxima = evaluate(vectors, signs, bounds)
        assert (counts.numpy().reshape(2, -1)[:, some] == expected_counts).all()
        np.testing.assert_allclose(maxima.numpy().reshape(-1)[some], expected_maxima, rtol=1e-12)


@quick
@given(arrays(np.float64, st.integers(1, 200), elements=st.sampled_from([0, 0.25, 1 / 3, 0.5, 1])))
def test_sorting_in_parts(values):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_flips, "_SORTED", 7)
        assert gpu_flips._ascending(torch.from_numpy(values)).tolist() == sorted(values)


def test_a_pool_must_be_filled_exactly():
    flips = gpu_flips.GpuFlips(unit_vectors(np.eye(4)), torch.device("cpu"), add_units)
    with pytest.raises(RuntimeError):
        flips.values_within([Bracket(0, np.inf, 7)])


def test_the_cpu_path_imports_neither_torch_nor_triton():
    script = "import sys, numpy; from fixtures.statistics.sign_flips import sign_flip_null; "
    script += "sign_flip_null(numpy.eye(4)); sys.exit(not {'torch', 'triton'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1]).returncode == 0


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps", "", 0])
@pytest.mark.parametrize("method", ["exact", "monte-carlo"])
def test_bad_devices(device, method):
    with pytest.raises(ValueError, match='expected None, "cpu", "cuda" or "cuda:N"'):
        sign_flip_null(np.eye(4), method=method, device=device)


def test_limits_by_device():
    with pytest.raises(ValueError, match="26 pairs.*at most 25 pairs on device 'cpu'"):
        sign_flip_null(np.ones((26, 2)), device="cpu")
    with pytest.raises(ValueError, match="31 pairs.*at most 30 pairs on device 'cuda:1'"):
        sign_flip_null(np.ones((MAX_EXACT_PAIRS_GPU + 1, 2)), device="cuda:1")


def test_no_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="'cuda' asked for, but this PyTorch .* finds no CUDA device"):
        sign_flip_null(np.eye(4), device="cuda")


def test_no_such_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="only 1 CUDA device"):
        sign_flip_null(np.eye(4), device="cuda:1")


def test_no_triton(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "fixtures.statistics.kernels.gpu_kernels", raising=False)
    with pytest.raises(RuntimeError, match="'cuda' needs triton, which is not installed"):
        sign_flip_null(np.eye(4), device="cuda")


@pytest.mark.parametrize("method", ["monte-carlo", "published"])
def test_random_flips_ignore_the_device(method):
    differences = np.random.default_rng(2).standard_normal((12, 9))
    actual = sign_flip_null(differences, method=method, permutations=50, device="cuda")
    assert_same(actual, sign_flip_null(differences, method=method, permutations=50))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("n_pairs", [2, 3, 8, 11])
def test_interpreted_kernel(tmp_path, n_pairs):
    np.save(tmp_path / "differences.npy", hostile_data(n_pairs, 50))
    finished = subprocess.run(
        [sys.executable, "-c", INTERPRETED, str(tmp_path / "differences.npy")],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr


@on_gpu
@pytest.mark.parametrize("n_pairs, n_units", [(2, 20), (7, 40), (13, 300), (20, 500)])
def test_gpu(n_pairs, n_units):
    pytest.importorskip("triton")
    differences = hostile_data(n_pairs, n_units)
    assert_same(sign_flip_null(differences, (1, 3, 5), device="cuda"), sign_flip_null(differences, (1, 3, 5)))


@on_gpu
@pytest.mark.parametrize("flips", [2**18, 2**24])
def test_gpu_flip_by_flip_at_25_pairs(monkeypatch, flips):
    pytest.importorskip("triton")
    monkeypatch.setattr(gpu_flips, "_FLIPS", flips)
    vectors, bounds = unit_vectors(hostile_data(25, 2000)), sum_bound((3, 5), 25)
    expected = exact_flips.exact_tables(vectors, bounds)
    on_device = gpu_flips.GpuFlips(vectors, *gpu_flips.open_device("cuda"))
    step = on_device.rows_at_a_time
    for start in range(0, on_device.n_rows, step):
        counts, maxima = on_device.tables(start, bounds)
        assert (counts.cpu().numpy() == expected.counts[start : start + step].transpose(1, 0, 2)).all()
        found = expected.maxima.reshape(-1, on_device.n_columns)[start : start + step]
        np.testing.assert_allclose(maxima.cpu().numpy(), found, rtol=1e-15, atol=4e-16)


@on_gpu
def test_gpu_beyond_the_pairs_of_the_cpu():
    """26 pairs of which one is zero: the sums are those of 25, every flip has a twin, only the scale of t changes."""
    pytest.importorskip("triton")
    differences = hostile_data(25, 100)[:, 6:]
    square = np.array([3.0, 5.0]) ** 2
    ratio = 25 * square / (24 + square)  # S**2 / Q at the threshold
    shorter = sign_flip_null(differences)
    longer = sign_flip_null(
        np.vstack([differences, np.zeros(94)]), tuple(np.sqrt(25 * ratio / (26 - ratio))), device="cuda"
    )
    assert longer.flips == 2**25
    for a, b in zip(shorter.counts, longer.counts, strict=True):
        assert a.null_counts.tolist() == b.null_counts.tolist()
        assert (2 * a.null_flips).tolist() == b.null_flips.tolist()
    np.testing.assert_allclose(longer.max_abs_t.adjusted_p, shorter.max_abs_t.adjusted_p, rtol=1e-12)
