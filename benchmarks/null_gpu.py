"""Time of the exact sign-flip null on a GPU, beside the least that its arithmetic takes, and checked against the CPU.

    python -m benchmarks.null_gpu --json null_gpu.json

Tries several tilings of the kernel first, then times the whole of `sign_flip_null` with the built-in one and, where
another was faster, with that. The exit status is 1 if a result differs from the CPU's.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import triton
import triton.language as tl

from benchmarks.null_speed import correlated_data
from fixtures.statistics.kernels import gpu_flips, gpu_kernels
from fixtures.statistics.kernels.exact_flips import exact_tables
from fixtures.statistics.null import SignFlipNull
from fixtures.statistics.random_flips import evaluate
from fixtures.statistics.sign_flips import sign_flip_null
from fixtures.statistics.signed_sums import sum_bound, sum_from_t, unit_vectors

THRESHOLDS = (3, 5)
FACTORS = {"independent": 0, "correlated": 4}

# Partial sums stay below 1, so each of the 29 additions of a total rounds by 2**-54 at most, in whatever order.
ROUNDING = 2 * 29 * 2**-54

# An addition, a comparison with each bound and one with the maximum so far.
INSTRUCTIONS = 4

# (rows, columns, warps, unroll, registers)
TILES = (
    (32, 64, 4, 8, None),
    (32, 64, 4, 8, 128),
    (32, 64, 4, 4, None),
    (32, 64, 4, 16, None),
    (32, 64, 4, 16, 128),
    (64, 32, 4, 8, None),
    (32, 32, 2, 8, None),
    (64, 64, 8, 8, 128),
    (64, 64, 4, 2, None),
    (64, 64, 4, 4, None),
    (64, 128, 8, 4, None),
    (32, 64, 8, 8, None),
    (32, 64, 8, 16, None),
    (16, 32, 2, 8, None),
    (16, 32, 2, 16, None),
)


def seconds_of(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median wall time on an idle device, and the last result."""
    seconds = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = function()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


@triton.jit
def add_chains(out, step, n_turns):
    at = tl.program_id(0) * 1024 + tl.arange(0, 1024)
    x = at.to(tl.float64)
    d = tl.load(step)
    for _ in range(n_turns):
        for _ in tl.static_range(32):
            x += d
    tl.store(out + at, x)


def float64_rate(programs: int = 8192, turns: int = 2000) -> float:
    """Double-precision additions a second, outside tensor cores: chains of them that stay in registers."""
    out = torch.empty(programs * 1024, dtype=torch.float64, device="cuda")
    step = torch.ones(1, dtype=torch.float64, device="cuda")

    def run() -> None:
        add_chains[(programs,)](out, step, turns, num_warps=4, enable_fp_fusion=False)

    run()
    seconds, _ = seconds_of(run, 5)
    if out[0].item() != 32 * turns:
        raise RuntimeError("the loop of the rate measurement did not add what it should")
    return programs * 1024 * turns * 32 / seconds


@contextmanager
def built_in(tile: gpu_kernels.Tile) -> Iterator[None]:
    """``tile`` in place of the built-in one."""
    before, gpu_kernels.TILE = gpu_kernels.TILE, tile
    try:
        yield
    finally:
        gpu_kernels.TILE = before


def flips_of(differences: np.ndarray) -> tuple[gpu_flips.GpuFlips, np.ndarray]:
    """The flips on the device, and the bounds."""
    vectors, bounds = unit_vectors(differences), sum_bound(THRESHOLDS, len(differences))
    return gpu_flips.GpuFlips(vectors, *gpu_flips.open_device("cuda")), bounds


def try_tiles(differences: np.ndarray) -> list[dict]:
    """Speed of the kernel in each tiling, fastest first; ``wrong`` where its tables differ from the first one's."""
    flips, bounds = flips_of(differences)
    evaluations = flips.rows_at_a_time * flips.n_columns * differences.shape[1]
    rows, expected = [], None
    for numbers in TILES:
        tile = gpu_kernels.Tile(*numbers)
        row = {"tile": asdict(tile)}
        rows.append(row)
        try:
            with built_in(tile):
                start = time.perf_counter()
                tables = flips.tables(0, bounds)
                maxima_alone = flips.tables(0, None)[1]
                row["first_call_seconds"] = time.perf_counter() - start
                row["seconds"], _ = seconds_of(lambda: flips.tables(0, bounds), 5)
                row["maxima_alone_seconds"], _ = seconds_of(lambda: flips.tables(0, None), 5)
        except RuntimeError as error:
            row["error"] = str(error)[:300]
            continue
        expected = expected or tables
        pairs = [(tables[0], expected[0]), (tables[1], expected[1]), (maxima_alone, expected[1])]
        row["wrong"] = not all(bool((a == b).all()) for a, b in pairs)
        row["evaluations_per_second"] = evaluations / row["seconds"]
    return sorted(rows, key=lambda row: row.get("seconds", np.inf))


def timed_null(differences: np.ndarray, repeats: int, rate: float) -> tuple[dict, SignFlipNull]:
    """The whole of `sign_flip_null`, the kernel's part of it, and the least that the additions and comparisons take."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds, null = seconds_of(lambda: sign_flip_null(differences, THRESHOLDS, device="cuda"), repeats)
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    flips, bounds = flips_of(differences)
    starts = range(0, flips.n_rows, flips.rows_at_a_time)
    flips.tables(0, bounds)
    one_part, _ = seconds_of(lambda: flips.tables(0, bounds), 3)
    evaluations = null.flips * differences.shape[1]
    floor = evaluations * INSTRUCTIONS / rate
    row = {
        "pairs": len(differences),
        "units": differences.shape[1],
        "flips": null.flips,
        "repeats": repeats,
        "seconds": seconds,
        "tables_seconds": one_part * len(starts),
        "floor_seconds": floor,
        "share_of_floor": floor / seconds,
        "tables_share_of_floor": floor / (one_part * len(starts)),
        "peak_allocated_mib": peak / 2**20,
        "peak_reserved_mib": reserved / 2**20,
        "counts": [
            {"threshold": c.threshold, "p": c.p, "mean": c.mean, "p99": c.p99, "max": c.max} for c in null.counts
        ],
    }
    return row, null


def compared_tables(differences: np.ndarray) -> dict:
    """Every flip's counts and maximum against the CPU's."""
    flips, bounds = flips_of(differences)
    expected = exact_tables(unit_vectors(differences), bounds)
    wrong, difference, relative, step = 0, 0.0, 0.0, flips.rows_at_a_time
    for start in range(0, flips.n_rows, step):
        counts, maxima = (table.cpu().numpy() for table in flips.tables(start, bounds))
        wrong += int(np.count_nonzero(counts != expected.counts[start : start + step].transpose(1, 0, 2)))
        cpu = expected.maxima.reshape(-1, flips.n_columns)[start : start + step]
        difference = max(difference, float(np.abs(maxima - cpu).max()))
        relative = max(relative, float((np.abs(maxima - cpu) / np.maximum(cpu, np.finfo(float).tiny)).max()))
    return {
        "counts_that_differ": wrong,
        "maxima_difference": difference,
        "maxima_relative_difference": relative,
        "equal": wrong == 0 and difference <= ROUNDING,
    }


def compared_nulls(gpu: SignFlipNull, cpu: SignFlipNull) -> dict:
    """Two nulls of the same data; |t| compared as |x|, which does not blow rounding up."""
    a, b, n_pairs = gpu.max_abs_t, cpu.max_abs_t, gpu.n_pairs
    tail = sum_from_t(a.upper_tail, n_pairs) - sum_from_t(b.upper_tail, n_pairs)
    quantiles = sum_from_t(list(a.quantiles.values()), n_pairs) - sum_from_t(list(b.quantiles.values()), n_pairs)
    found = {
        "counts_equal": all(
            np.array_equal(x.null_counts, y.null_counts) and np.array_equal(x.null_flips, y.null_flips) and x.p == y.p
            for x, y in zip(gpu.counts, cpu.counts, strict=True)
        ),
        "adjusted_p_equal": np.array_equal(a.adjusted_p, b.adjusted_p, equal_nan=True),
        "bins_equal": np.array_equal(a.edges, b.edges) and np.array_equal(a.bin_flips, b.bin_flips),
        "tail_difference": float(np.abs(tail).max()),
        "quantile_difference": float(np.abs(quantiles).max()),
    }
    found["equal"] = bool(
        found["counts_equal"]
        and found["adjusted_p_equal"]
        and found["bins_equal"]
        and max(found["tail_difference"], found["quantile_difference"]) <= ROUNDING
    )
    return found


def compared_samples(differences: np.ndarray, null: SignFlipNull, seed: int = 0) -> dict:
    """Some flips of a null too long for the CPU, by matrix products; and whether the null is complete."""
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(differences)
    flips, bounds = flips_of(differences)
    n_right = flips.n_columns.bit_length() - 1
    n_left = len(differences) - n_right
    parts = flips.n_rows // flips.rows_at_a_time
    wrong, difference, n_sampled = 0, 0.0, 0
    for part in {0, parts // 3, parts - 1}:
        start = part * flips.rows_at_a_time
        counts, maxima = flips.tables(start, bounds)
        some = rng.integers(0, maxima.numel(), 300)
        rows, columns = (start + some // flips.n_columns) * 2, some % flips.n_columns
        bits = [rows[:, None] >> np.arange(n_left) & 1, columns[:, None] >> np.arange(n_right) & 1]
        expected_counts, expected_maxima = evaluate(vectors, 1.0 - 2.0 * np.hstack(bits), bounds)
        wrong += int(np.count_nonzero(counts.flatten(1).cpu().numpy()[:, some] != expected_counts))
        difference = max(difference, float(np.abs(maxima.flatten().cpu().numpy()[some] - expected_maxima).max()))
        n_sampled += some.size
    tail = null.max_abs_t.upper_tail
    complete = (
        all(count.flips == null.flips == 2 ** (len(differences) - 1) for count in null.counts)
        and int(null.max_abs_t.bin_flips.sum()) == null.flips
        and tail.size == -(-null.flips // 10)
        and bool((np.diff(tail) >= 0).all())
    )
    return {
        "flips": n_sampled,
        "counts_that_differ": wrong,
        "maxima_difference": difference,
        "complete": complete,
        "equal": wrong == 0 and difference <= ROUNDING and complete,
    }


def device_record() -> dict:
    """What the numbers were measured on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 2**30,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
    }


def print_tiles(rows: list[dict]) -> None:
    """A line per tiling."""
    print(f"\n{'rows':>5}{'columns':>9}{'warps':>7}{'unroll':>8}{'registers':>11}{'1e12/s':>8}{'max alone':>11}")
    for row in rows:
        tile = row["tile"]
        head = f"{tile['rows']:5}{tile['columns']:9}{tile['warps']:7}{tile['unroll']:8}{tile['registers'] or '':>11}"
        if "error" in row:
            print(f"{head}  {row['error'][:60]}")
            continue
        rate = row["evaluations_per_second"] / 1e12
        alone = rate * row["seconds"] / row["maxima_alone_seconds"]
        print(f"{head}{rate:8.2f}{alone:11.2f}{'  WRONG' if row['wrong'] else ''}")


def print_null(name: str, row: dict) -> None:
    """One timed null."""
    print(
        f"{name:34}{row['pairs']:3} pairs{row['units']:7} units: {row['seconds']:.3f} s "
        f"(tables {row['tables_seconds']:.3f} s, floor {row['floor_seconds']:.3f} s, "
        f"{row['share_of_floor']:.0%} of it reached, tables {row['tables_share_of_floor']:.0%}), "
        f"{row['peak_allocated_mib']:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=25, help="of the null that the CPU repeats")
    parser.add_argument("--long-pairs", type=int, default=30, help="of the null that only the GPU evaluates")
    parser.add_argument("--units", type=int, default=16320)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-cpu", action="store_true", help="leave out the comparison with the CPU's null")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()

    if not torch.cuda.is_available():
        raise SystemExit(f"PyTorch {torch.__version__} finds no CUDA device")
    record = {**device_record(), "pairs": options.pairs, "units": options.units, "seed": options.seed}
    print(", ".join(f"{key} {value}" for key, value in record.items()), flush=True)
    checks = []

    def save() -> None:
        record["all_equal"] = all(check["equal"] for check in checks)
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")

    rate = record["float64_instructions_per_second"] = float64_rate()
    print(f"measured {rate:.3g} float64 additions a second, {INSTRUCTIONS} instructions per flip and unit", flush=True)
    data = {
        name: correlated_data(options.pairs, options.units, options.seed, factors) for name, factors in FACTORS.items()
    }
    record["tiles"] = try_tiles(data["independent"][:, :4096])
    print_tiles(record["tiles"])
    right = [row for row in record["tiles"] if not row.get("wrong", True)]
    checks.append({"equal": bool(right) and not any(row.get("wrong") for row in record["tiles"])})
    if not right:
        save()
        raise SystemExit("no tiling of the kernel works")
    best = gpu_kernels.Tile(**right[0]["tile"])
    print(f"best: {best}; built in: {gpu_kernels.TILE}\n", flush=True)
    save()

    record["nulls"], nulls = [], {}
    for tile_name, tile in {"built in": gpu_kernels.TILE, "best": best}.items():
        if tile_name == "best" and tile == gpu_kernels.TILE:
            continue
        with built_in(tile):
            for name, differences in data.items():
                sign_flip_null(differences, THRESHOLDS, device="cuda")
                row, nulls[name] = timed_null(differences, options.repeats, rate)
                record["nulls"].append({"data": name, "tile": tile_name, **row})
                print_null(f"{name}, {tile_name} tile", row)
            save()

    if options.long_pairs:
        longer = correlated_data(options.long_pairs, options.units, options.seed + 1, FACTORS["correlated"])
        with built_in(best):
            row, null = timed_null(longer, min(3, options.repeats), rate)
            print_null("correlated, best tile", row)
            row["sampled_flips"] = compared_samples(longer, null)
        record["nulls"].append({"data": "correlated", "tile": "best", **row})
        checks.append(row["sampled_flips"])
        print(f"  sampled flips against matrix products: {row['sampled_flips']}", flush=True)
        save()

    if not options.no_cpu:
        record["against_cpu"] = {}
        for name, differences in data.items():
            start = time.perf_counter()
            cpu = sign_flip_null(differences, THRESHOLDS)
            seconds = time.perf_counter() - start
            found = {
                "cpu_seconds": seconds,
                "tables": compared_tables(differences),
                "null": compared_nulls(nulls[name], cpu),
            }
            record["against_cpu"][name] = found
            checks += [found["tables"], found["null"]]
            print(f"{name} against the CPU ({seconds:.1f} s, compilation included): {found['tables']} {found['null']}")
            save()
    save()
    print("all results equal" if record["all_equal"] else "RESULTS DIFFER")
    sys.exit(not record["all_equal"])


if __name__ == "__main__":
    main()
