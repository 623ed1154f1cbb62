"""Time of the exact sign-flip null beside other libraries' random flips, on the same data in one run.

nilearn is measured where it is installed.

    python -m benchmarks.null_speed --pairs 25 --units 16320 --json null_speed.json
    taskset -c 0,1 python -m benchmarks.null_speed --rounds 10

Each entry runs in a process of its own, so that its peak memory is its own, and reports the median of a few repeats.
With ``--rounds`` the exact null and SciPy take turns on three kinds of data, each time in a fresh process: units are
independent, or share 4 factors and have noise of their own, 0.7 or 0.1 of a factor's standard deviation, which is 11 %
or 0.25 % of a unit's mean variance. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

FLIPS = 1000
REPEATS = 3
KINDS = {  # shared factors, and the noise of a unit of its own
    "independent": {"factors": 0, "noise": 1.0},
    "correlated": {"factors": 4, "noise": 0.7},
    "strongly correlated": {"factors": 4, "noise": 0.1},
}


def correlated_data(n_pairs: int, n_units: int, seed: int, factors: int = 4, noise: float = 0.7) -> np.ndarray:
    """Differences without an effect, shape (n_pairs, n_units), in which few factors move many units together.

    With ``factors=0`` units are independent.
    """
    rng = np.random.default_rng(seed)
    differences = rng.standard_normal((n_pairs, n_units))
    if factors:
        shared = rng.standard_normal((n_pairs, factors)) @ rng.standard_normal((factors, n_units))
        differences = noise * differences + shared
    return differences


def exact(differences: np.ndarray) -> dict:
    """All flips: counts beyond 3 and 5, and max |t|; timed once compiled."""
    start = time.perf_counter()
    from fixtures.statistics.sign_flips import sign_flip_null

    for maximum in (False, True):
        sign_flip_null(differences[:6, :9], maximum=maximum)
    ready = time.perf_counter() - start
    seconds, memory, null = _measure(lambda: sign_flip_null(differences))
    count = null.counts[0]
    return {
        "flips": null.flips,
        "seconds": seconds,
        "memory_mib": memory,
        "import_and_compile_seconds": ready,
        "mean": count.mean,
        "p99": count.p99,
    }


def scipy_permutation_test(differences: np.ndarray) -> dict:
    """1,000 random flips of the count beyond 3 alone, vectorised over a batch of flips."""
    from scipy import stats

    root = np.sqrt(len(differences))

    def statistic(d: np.ndarray, axis: int = -1) -> np.ndarray:
        t = d.mean(axis=axis) / (d.std(axis=axis, ddof=1) / root)
        return (np.abs(t) > 3).sum(axis=-1)

    def run():
        # One sample under "samples" has its signs flipped; 20 flips at a time was the fastest of 5, 20 and 100.
        return stats.permutation_test(
            (differences,),
            statistic,
            permutation_type="samples",
            vectorized=True,
            n_resamples=FLIPS,
            batch=20,
            alternative="greater",
            rng=np.random.default_rng(0),
        )

    seconds, memory, result = _measure(run)
    null = np.asarray(result.null_distribution)
    return {
        "flips": FLIPS,
        "seconds": seconds,
        "memory_mib": memory,
        "mean": float(null.mean()),
        "p99": int(np.quantile(null, 0.99, method="inverted_cdf")),
    }


def mne_permutation_t_test(differences: np.ndarray) -> dict:
    """1,000 random flips of max |t| alone."""
    import mne

    seconds, memory, _ = _measure(
        lambda: mne.stats.permutation_t_test(differences, FLIPS, tail=0, n_jobs=1, seed=0, verbose=False)
    )
    return {"flips": FLIPS, "seconds": seconds, "memory_mib": memory}


def nilearn_permuted_ols(differences: np.ndarray) -> dict:
    """1,000 random flips of max |t| alone."""
    from nilearn.mass_univariate import permuted_ols

    ones = np.ones((len(differences), 1))
    seconds, memory, _ = _measure(
        lambda: permuted_ols(ones, differences, model_intercept=False, n_perm=FLIPS, random_state=0, n_jobs=1)
    )
    return {"flips": FLIPS, "seconds": seconds, "memory_mib": memory}


ENTRIES = {
    "exact": exact,
    "scipy": scipy_permutation_test,
    "mne": mne_permutation_t_test,
    "nilearn": nilearn_permuted_ols,
}


def _measure(function: Callable[[], object]) -> tuple[float, float, object]:
    """Median seconds, rise of the process's peak memory in MiB, and the result."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit
    return statistics.median(seconds), memory, result


def _in_a_process(name: str, options: argparse.Namespace, kind: dict) -> dict:
    """Result of one entry."""
    command = [sys.executable, "-m", "benchmarks.null_speed", "--entry", name]
    setting = {"pairs": options.pairs, "units": options.units, "seed": options.seed, **kind}
    for option, value in setting.items():
        command += [f"--{option}", str(value)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def by_turns(options: argparse.Namespace) -> dict:
    """Seconds of exact null and SciPy on every kind of data, round by round, and what they come to."""
    seconds = {kind: {"exact": [], "scipy": []} for kind in KINDS}
    for number in range(options.rounds):
        for kind, setting in KINDS.items():
            for name in ("exact", "scipy") if number % 2 == 0 else ("scipy", "exact"):
                seconds[kind][name].append(_in_a_process(name, options, setting)["seconds"])
        last = {kind: {name: round(values[-1], 2) for name, values in both.items()} for kind, both in seconds.items()}
        print(f"round {number + 1}: {json.dumps(last)}", flush=True)
    record = {}
    for kind, both in seconds.items():
        ratios = [a / b for a, b in zip(both["exact"], both["scipy"], strict=True)]
        medians = {name: statistics.median(values) for name, values in both.items()}
        record[kind] = {
            **KINDS[kind],
            **{name: {"median": medians[name], "seconds": values} for name, values in both.items()},
            "median_ratio": statistics.median(ratios),
            "ratio_of_medians": medians["exact"] / medians["scipy"],
            "ahead": sum(ratio < 1 for ratio in ratios),
        }
    return record


def _print_turns(record: dict, rounds: int) -> None:
    print(f"{'':20}{'exact (s)':>22}{'scipy (s)':>22}{'median of':>11}{'ratio of':>10}")
    print(f"{'':20}{'median  least - most':>22}{'median  least - most':>22}{'ratios':>11}{'medians':>10}  ahead")
    for kind, row in record.items():
        spread = [
            f"{row[name]['median']:.2f}  {min(row[name]['seconds']):.2f} - {max(row[name]['seconds']):.2f}"
            for name in ("exact", "scipy")
        ]
        ratios = f"{row['median_ratio']:>11.2f}{row['ratio_of_medians']:>10.2f}"
        print(f"{kind:20}{spread[0]:>22}{spread[1]:>22}{ratios}  {row['ahead']} of {rounds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--units", type=int, default=16320)
    parser.add_argument("--factors", type=int, default=4, help="shared factors; 0 for independent units")
    parser.add_argument("--noise", type=float, default=0.7, help="of a unit of its own, where factors are shared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="exact null and SciPy by turns, N times, on three kinds"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--entry", choices=ENTRIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.entry:
        data = correlated_data(options.pairs, options.units, options.seed, options.factors, options.noise)
        print(json.dumps(ENTRIES[options.entry](data)))
        return
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    setting = {"pairs": options.pairs, "units": options.units, "seed": options.seed, "repeats": REPEATS, "cores": cores}
    if options.rounds:
        print(f"{options.pairs} pairs, {options.units} units, {cores} cores, {options.rounds} rounds")
        kinds = by_turns(options)
        _print_turns(kinds, options.rounds)
        record = {**setting, "rounds": options.rounds, "kinds": kinds}
    else:
        shared = {"factors": options.factors, "noise": options.noise}
        record = {**setting, **shared, **_all_entries(options, shared, cores)}
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def _all_entries(options: argparse.Namespace, kind: dict, cores: int) -> dict:
    names = [name for name in ENTRIES if name not in ("mne", "nilearn") or importlib.util.find_spec(name)]
    results = {name: _in_a_process(name, options, kind) for name in names}
    ratio = results["exact"]["seconds"] / results["scipy"]["seconds"]
    print(f"{options.pairs} pairs, {options.units} units, {options.factors} shared factors, {cores} cores")
    print(f"{'':8}{'flips':>12}{'seconds':>10}{'MiB':>8}{'mean >3':>10}{'p99 >3':>8}")
    for name, row in results.items():
        mean, p99 = (f"{row['mean']:.1f}", row["p99"]) if "mean" in row else ("", "")
        print(f"{name:8}{row['flips']:>12,}{row['seconds']:>10.2f}{row['memory_mib']:>8.0f}{mean:>10}{p99:>8}")
    print(f"exact / scipy: {ratio:.2f}; import and compilation: {results['exact']['import_and_compile_seconds']:.1f} s")
    return {"exact_over_scipy": ratio, "results": results}


if __name__ == "__main__":
    main()
