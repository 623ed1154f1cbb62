"""How well `python -m fixtures power` predicts, on data whose power is known.

The truth is the noise pool of the calibration (the same pictures under other noise, klein-tiny) with an effect planted
in a quarter of the units. Its power at each number of pairs is what the suite says of many sets; a prediction is made
from one pilot, many times. Also counts false alarms of the e-value on sets without an effect.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from fixtures.calibration.no_effect import NoisePool, noise_pool, relabelled, same_stimuli
from fixtures.calibration.planning.curves import clopper_pearson, planned
from fixtures.calibration.planning.drawn import Drawn
from fixtures.calibration.planning.pilot import Pilot
from fixtures.claims.claims import Effect, Exceedance
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.statistics.cross_products import Products
from fixtures.statistics.e_values import e_process
from fixtures.statistics.log_effect import log_ratios

ROOT = Path(__file__).parents[1]
CLAIMS = (Effect(), Exceedance(3.0, 2.4))
EFFECTS = {"small": 0.4, "medium": 0.6, "large": 0.9}  # in standard deviations of a unit's differences
SIZES = (12, 25, 40)
PAIRS = 25  # of a pilot
SHARE = 0.25  # of the units
TRUE = 4  # times as many sets tell the power as a prediction
TWINS = (0.3, 0.3, 0.3, 0.3)  # what untrained twins have of the effect


class Planted:
    """A population of pairs: a stimulus of the pool under two of its noise seeds, and the planted effect on top."""

    def __init__(self, pool: NoisePool, effect: float, seed: int = 0):
        rng = np.random.default_rng([seed, 9])
        n_units = pool.rms.shape[2]
        signs = np.zeros(n_units)
        signs[rng.choice(n_units, round(SHARE * n_units), replace=False)] = effect
        signs *= rng.choice((-1, 1), n_units)
        sd, sd_log = (np.sqrt(2 * each.var(axis=0, ddof=1).mean(axis=0)) for each in (pool.rms, np.log(pool.noise)))
        self.pool, self.shift, self.log_shift = pool, signs * sd, signs[pool.units] * sd_log

    def draw(self, n_pairs: int, rng: np.random.Generator) -> Drawn:
        """So many pairs, with twins and other noise."""
        n_seeds, n_stimuli, _ = self.pool.rms.shape
        chosen = rng.integers(n_stimuli, size=n_pairs)

        def pairs(part: float) -> tuple[np.ndarray, np.ndarray]:
            a, b = rng.permuted(np.tile(np.arange(n_seeds), (n_pairs, 1)), axis=1)[:, :2].T
            differences = self.pool.rms[a, chosen] - self.pool.rms[b, chosen]
            ratios = log_ratios(self.pool.noise[a, chosen], self.pool.noise[b, chosen])
            return differences + part * self.shift, ratios + part * self.log_shift

        differences, ratios = pairs(1.0)
        twins = [Products.of(pairs(part)[1]) for part in TWINS]
        second = Products.of(pairs(1.0)[1])
        return Drawn(Products.of(ratios), differences, list(range(n_pairs)), twins=twins, second=second)


def pilot_of(drawn: Drawn) -> Pilot:
    """What a run with so many pairs leaves in the store."""
    return Pilot(drawn.products, drawn.differences, twins=drawn.twins, second=drawn.second)


def compared(truth, pilots: int, simulations: int, sizes=SIZES, claims=CLAIMS, n_pairs: int = PAIRS) -> list[tuple]:
    """Rows (what, pairs, power, middle prediction, 10 % and 90 % of predictions)."""
    true = planned(truth, claims, TRUE * simulations, sizes=sizes)[1]
    found = [
        planned(pilot_of(truth.draw(n_pairs, np.random.default_rng([5, number]))), claims, simulations, number, sizes)[
            1
        ]
        for number in range(pilots)
    ]
    rows = []
    for place, item in enumerate(true):
        if item["reason"] is None:
            predicted = np.array([one[place]["power"] for one in found])
            ends = np.quantile(predicted, (0.5, 0.1, 0.9), axis=0).T
            rows += [(item["id"], size, item["power"][k], *ends[k]) for k, size in enumerate(sizes)]
    return rows


def false_alarms(pool: NoisePool, data_sets: int) -> list[tuple[str, float, int]]:
    """Kind of set, level, and in how many the e-value reached one over it."""
    planted = Planted(pool, 1.0)
    contrast = next(same_stimuli(pool, 3))
    contrast = type(contrast)(contrast.differences + planted.shift, contrast.ratios + planted.log_shift)
    rows = []
    for kind, sets in (("A/A", same_stimuli(pool, 11)), ("relabelled", relabelled([contrast], 11))):
        processes = [e_process(data.ratios) for data in islice(sets, data_sets)]
        rows += [(kind, level, sum(one.decided(level) is not None for one in processes)) for level in (0.01, 0.05)]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pilots", type=int, default=40, help="predictions of each effect")
    parser.add_argument("--simulations", type=int, default=100, help="sets of a prediction, for each number of pairs")
    parser.add_argument("--data-sets", type=int, default=5000, help="without an effect")
    parser.add_argument("--store", help="folder of stored activations")
    chosen = parser.parse_args()
    started = time.monotonic()
    model = Model(resolve_settings({"model": "klein-tiny", "device": "cpu", "store": chosen.store}, {}, ROOT), print)
    with tempfile.TemporaryDirectory() as folder:
        pool = noise_pool(model, 0, Path(folder), lambda done, total: None)
    print("| Effect | Claim or rung | Pairs | Power | Predicted, middle | 10 % to 90 % of pilots |")
    print("|---|---|---:|---:|---:|---:|")
    far = 0.0
    for name, effect in EFFECTS.items():
        truth = Planted(pool, effect)
        for what, size, power, middle, low, high in compared(truth, chosen.pilots, chosen.simulations):
            print(f"| {name} | {what} | {size} | {power:.0%} | {middle:.0%} | {low:.0%} to {high:.0%} |", flush=True)
            far = max(far, abs(middle - power))
    print(f"\nlargest distance of the middle prediction: {100 * far:.0f} points\n")
    print("| Sets without an effect | Level | Ever reached | Share |")
    print("|---|---:|---:|---:|")
    for kind, level, alarms in false_alarms(pool, chosen.data_sets):
        low, high = clopper_pearson(alarms, chosen.data_sets)
        share = f"{alarms / chosen.data_sets:.2%} ({low:.2%} to {high:.2%})"
        print(f"| {kind} | {level:g} | {alarms} of {chosen.data_sets} | {share} |")
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
