"""Power before the run: pairs like a pilot's, what the suite says of them, and how many it takes."""

import argparse
import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from toy_project import PROBE, run, write

import fixtures.__main__
from fixtures.calibration.planning.assumed import Assumed
from fixtures.calibration.planning.curves import clopper_pearson, crossing, planned, stopping
from fixtures.calibration.planning.decide import EVERY, RUNGS, askable, decide
from fixtures.calibration.planning.drawn import Drawn
from fixtures.calibration.planning.pilot import Design, Network, Pilot, of_networks, spread_along
from fixtures.calibration.planning.unit_means import UnitMeans
from fixtures.claims.claims import Amplification, Effect, Exceedance, Share, SplitHalf
from fixtures.claims.controls.held_out import across_wordings, held_out
from fixtures.claims.controls.replication import replication, second_seed_record
from fixtures.report.figures.power import power_figure
from fixtures.session.power_options import add_power_arguments
from fixtures.statistics.cross_products import Products, mean_product
from fixtures.statistics.effect_power import Spread
from fixtures.statistics.log_effect import log_effect

pytest_plugins = "pytester"

CLAIMS = (Effect(), Exceedance(3.0, 2.4))


class Truth:
    """Pairs of 60 units with heavy tails and shared factors, a third of which respond."""

    def __init__(self, effect, n_units=60):
        rng = np.random.default_rng(0)
        self.factors = 0.5 * rng.standard_normal((4, n_units))
        self.means = effect * (np.arange(n_units) % 3 == 0) * rng.choice((-1, 1), n_units)

    def ratios(self, n_pairs, rng):
        shared = rng.standard_normal((n_pairs, 4)) @ self.factors
        return 0.03 * (self.means + shared + 0.8 * rng.standard_t(6, (n_pairs, len(self.means))))

    def draw(self, n_pairs, rng):
        ratios = self.ratios(n_pairs, rng)
        return Drawn(Products.of(ratios), ratios, list(range(n_pairs)))


def middle_of_pilots(truth, sizes, pilots, simulations):
    """Middle over pilots of 25 pairs of the predicted powers: by item, one for each size."""
    found = []
    for number in range(pilots):
        ratios = truth.ratios(25, np.random.default_rng([1, number]))
        pilot = Pilot(Products.of(ratios), ratios)
        found.append(planned(pilot, CLAIMS, simulations, number, sizes)[1])
    return {item["id"]: np.median([one[k]["power"] for one in found], axis=0) for k, item in enumerate(found[0])}


@pytest.mark.parametrize("effect", [0.3, 0.6, 1.0], ids=["small", "medium", "large"])
def test_predictions_from_pilots_are_near_the_power_on_a_planted_effect(effect):
    truth, sizes = Truth(effect), (12, 25)
    predicted = middle_of_pilots(truth, sizes, 15, 16)
    for item in planned(truth, CLAIMS, 60, 7, sizes)[1]:
        if item["reason"] is None:
            # 10 points, and what the median of 15 pilots and 60 sets leave open
            assert np.abs(predicted[item["id"]] - item["power"]).max() < 0.2, item["id"]


def test_new_pairs_have_the_pilots_common_effect_and_no_larger_one():
    """To draw the pilot's own pairs again would find 1 + tr / (n effect) times as much."""
    rng = np.random.default_rng(2)
    found, naive = [], []
    for _ in range(60):
        ratios = 0.02 + 0.2 * rng.standard_normal((12, 40))
        products = Products.of(ratios)
        effect = mean_product(products.values, np.arange(12))
        if effect > 0:
            drawn = [Pilot(products, None).draw(20, rng).products.values for _ in range(20)]
            found.append(np.mean([mean_product(values, np.arange(20)) for values in drawn]) - effect)
            again = rng.integers(12, size=20)
            naive.append(mean_product(products.values[np.ix_(again, again)], np.arange(20)) - effect)
    assert abs(np.mean(found)) < 1e-4 < 2e-3 < np.mean(naive)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 7), st.integers(1, 5), st.integers(0, 1000))
def test_the_spread_along_the_effect_is_its_definition(n, n_units, seed):
    ratios = np.random.default_rng(seed).standard_normal((n, n_units)) + 0.5
    products = ratios @ ratios.T
    covariances = []
    for i, j in permutations(range(n), 2):
        rest = [k for k in range(n) if k not in (i, j)]
        covariances.append(np.cov(products[i, rest], products[j, rest])[0, 1])
    assert spread_along(products) == pytest.approx(np.mean(covariances), abs=1e-9)


def test_pairs_of_one_wording_share_what_the_pilots_share():
    """Wordings that differ much: products of pairs of one wording are larger than of two."""
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(8), 3)
    ratios = (rng.standard_normal((8, 50)))[labels] + 0.5 * rng.standard_normal((24, 50))
    pilot = Pilot(Products.of(ratios), None, labels.tolist(), templates=True)
    within, across = [], []
    for _ in range(40):
        drawn = pilot.draw(36, rng)
        same = np.equal.outer(drawn.wordings, drawn.wordings)
        values = drawn.products.values
        within.append(values[same & ~np.eye(36, dtype=bool)].mean())
        across.append(values[~same].mean())
        assert len(set(drawn.wordings)) in range(10, 17)  # twelve pairs beyond the pilot's are of new wordings
    assert np.mean(within) == pytest.approx(1, abs=0.35) and abs(np.mean(across)) < 0.1


def test_designs_have_the_covariance_of_their_pairs():
    values = np.random.default_rng(5).standard_normal((9, 4))
    design = Design.of(range(9))
    rows = design.within @ values
    np.testing.assert_allclose(rows.T @ rows, np.cov(values.T), atol=1e-12)
    grouped = Design.of([0, 0, 0, 1, 1, 1, 2, 2, 2])
    means = values.reshape(3, 3, 4).mean(axis=1)
    of_means, inside = grouped.between @ values, grouped.within @ values
    np.testing.assert_allclose(of_means.T @ of_means, np.cov(means.T), atol=1e-12)
    left = values - np.repeat(means, 3, axis=0)
    np.testing.assert_allclose(inside.T @ inside, left.T @ left / 6, atol=1e-12)


def test_pairs_without_a_difference_have_none():
    network = Network.of(Products(np.zeros((9, 9)), 3), Design.of(range(9)))
    assert not network.products(np.ones((4, 9)), np.ones((4, 0))).values.any()


def test_twins_that_differ_by_their_pairs_alone_are_alike_in_a_plan():
    """Twins of one effect look unlike by the noise of a few pairs; twins of several keep their differences."""
    rng = np.random.default_rng(9)
    design, unlike, kept = Design.of(range(25)), [], []

    def effects(networks):
        """Of new pairs without deviations."""
        values = [network.products(np.zeros((4, 25)), np.zeros((4, 0))).values for network in networks]
        return [mean_product(each, np.arange(4)) for each in values]

    for _ in range(20):
        same = [Products.of(0.3 + rng.standard_normal((25, 40))) for _ in range(4)]
        observed = np.std([mean_product(one.values, np.arange(25)) for one in same])
        unlike.append(np.std(effects(of_networks(same, design))) / observed)
        other = [Products.of(size + rng.standard_normal((25, 40))) for size in (0.2, 0.6, 1.0)]
        kept.append(np.std(effects(of_networks(other, design))))
    assert np.median(unlike) < 0.5
    assert np.mean(kept) == pytest.approx(np.std([0.04, 0.36, 1.0]), rel=0.15)
    assert of_networks([], design) == []


def test_sizes_of_units_lose_the_pilots_noise():
    """Of units without an effect the drawn means are near 0, although the observed ones are not."""
    rng = np.random.default_rng(6)
    differences = rng.standard_normal((25, 300)) * rng.lognormal(0, 1, 300)
    differences[:, 0] = 0
    means = UnitMeans.of(differences, Design.of(range(25)).within)
    drawn = means.draw(rng.standard_normal((4000, 25)), rng)
    observed, left = (np.abs(values.mean(axis=0)[1:] / means.scale[1:]).mean() for values in (differences, drawn))
    assert left < 0.5 * observed
    np.testing.assert_allclose(drawn.std(axis=0)[1:], differences.std(axis=0, ddof=1)[1:], rtol=0.15)
    assert not drawn[:, 0].any()


@pytest.mark.parametrize("size", [0.0, 0.004, 0.01, 0.03])
def test_rungs_are_decided_as_a_run_decides_them(size):
    """Rungs 7 and 8 leave out the p-values that take every flip; their verdicts are those of the rungs."""
    rng = np.random.default_rng(int(1000 * size))
    for _ in range(4):
        own, other = (size + 0.02 * rng.standard_normal((10, 30)) for _ in range(2))
        labels = list(rng.permutation(10) % 4)
        drawn = Drawn(Products.of(own), own, labels, True, second=Products.of(other))
        found = decide((Effect(),), drawn, 0, ["effect", "null", "replication", "held_out"])
        second = second_seed_record(other, 1, [], None, 0)
        by_rung = replication(own, {"pair": [str(n) for n in range(10)], "template": labels}, second, None, 0)
        assert found["replication"] == by_rung.passed
        assert found["held_out"] == held_out(own, across_wordings(own, labels, 0), 0).passed
        effect = log_effect(own)
        assert found["effect"] == found["null"] == (effect.mean_square >= 2.0**-16 and effect.p <= 0.05)


def test_what_cannot_be_predicted_says_why():
    pairs = Products.of(np.ones((10, 3)))
    few = Drawn(pairs, None, [0] * 10)
    claims = (Effect(), Amplification(), SplitHalf(0.3), Share(3.0, 0.1))
    why = askable(claims, few, True, {"untrained": "not in the store"})
    assert list(why) == ["effect", "amplification", "split_half", "share_t3", *RUNGS, EVERY]
    assert why["effect"] is None and why["null"] is None and why["untrained"] == "not in the store"
    assert all(why[name] for name in ("amplification", "split_half", "share_t3", "placebo", "held_out", EVERY))
    every = Drawn(pairs, np.ones((10, 3)), list(range(10)), twins=[pairs, pairs], second=pairs)
    assert not [name for name, reason in askable(claims, every).items() if reason and name != "placebo"]


@given(st.integers(1, 300), st.integers(0, 300))
def test_intervals_are_clopper_and_pearsons(n, hits):
    hits = min(n, hits)
    low, high = clopper_pearson(hits, n)
    exact = binomtest(hits, n).proportion_ci(0.95, "exact")
    assert (low, high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_a_crossing_lies_between_sizes():
    assert crossing([10, 20], [0.7, 0.9], 0.8) == 15 and crossing([10, 20], [0.9, 0.9], 0.8) == 10
    assert crossing([10, 20, 40], [0.1, 0.2, 0.3], 0.8) is None
    assert crossing([10, 20], [0.1, 0.8], 0.8) == 20


def test_more_effect_takes_fewer_pairs_and_stops_earlier():
    plans = []
    for effect in (0.01, 0.03):
        assumed = Assumed(effect, 0.08, 0.2, 50)
        _, items = planned(assumed, (Effect(),), 25, 1, (8, 16, 32))
        plans.append((items[0]["needed"][0]["pairs"] or 99, stopping(assumed, 0.01, 60, 25)["expected"]))
    assert plans[1][0] < plans[0][0] and plans[1][1] < plans[0][1]
    again = planned(Assumed(0.03, 0.08, 0.2, 50), (Effect(),), 25, 1, (8, 16, 32))[1]
    assert again == items


@pytest.mark.parametrize(
    "bad", [{"effect": -1}, {"spread": 0}, {"correlation": 1.5}, {"n_units": 0}, {"share": 0}], ids=str
)
def test_an_assumption_without_sense_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        Assumed(**{"effect": 0.1, "spread": 0.1, "correlation": 0.1, "n_units": 5} | bad)


def test_the_two_estimates_of_pairs_are_one():
    """An undecided hypothesis's number of pairs is that of the command."""
    ratios = np.random.default_rng(8).standard_normal((12, 40)) * 0.02
    found = log_effect(ratios)
    spread = Spread.of(Products.of(ratios).values)
    assert found.pairs == spread.pairs(2.0**-8, 0.9, 0.05) and found.power == spread.power(2.0**-8, 12, 0.05)
    with pytest.raises(ValueError, match="at least 4 pairs"):
        Spread.of(np.eye(3))


@pytest.fixture
def command(project, monkeypatch, capsys):
    """Run ``python -m fixtures power`` on the toy project: exit code, output and errors."""
    monkeypatch.setattr(fixtures.__main__, "ROOT", project.path)

    def call(*words):
        code = fixtures.__main__.main(["power", *words])
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


SMALL = ("--simulations", "3", "--most", "16")


def test_a_pilot_in_the_store_is_planned_from(project, command):
    write(project, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1.01"))
    assert run(project, "--store", "kept").ret == 0
    code, out, _ = command("toy", "--model", "klein-tiny", "--store", str(project.path / "kept"), *SMALL)
    assert code == 0, out
    assert "toy: " in out and "count_t3" in out and "`--controls replication` fills" in out
    record = json.loads((project.path / "reports/power/toy.json").read_text())
    assert record["source"]["kind"] == "pilot" and record["absence"]["pairs_80"] <= record["absence"]["pairs_95"]
    svg = (project.path / "reports/power/toy.svg").read_text()
    assert "count t3" in svg and svg == power_figure(record).svg


def test_an_assumption_is_planned_from(project, command):
    code, out, _ = command("--effect", "3", "--correlation", "0.2", "--units", "30", *SMALL)
    assert code == 0 and "assumed effect 3 %" in out and "e-value of 100" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--correlation", "0.3", "--effect", "nan"], "expected finite numbers"),
        (["gone"], "no hypothesis 'gone' in its files"),
        (["--correlation", "0.5"], "--correlation: goes with --effect"),
        (["--effect", "2"], "expected --correlation R"),
        (["--effect", "2", "--correlation", "0.5", "--store", "x"], "leave --store out"),
        (["--effect", "2", "--correlation", "7"], "a correlation from 0 to 1"),
        (["--simulations", "0"], "--simulations 0: expected at least 1"),
        (["--most", "3"], "--most 3: expected at least 8"),
        (["--alpha", "2"], "--alpha 2.0"),
        (["--store", "nowhere", "--model", "klein-tiny"], "nowhere"),
    ],
)
def test_what_cannot_be_used_is_named(command, words, said):
    code, out, err = command(*words)
    assert code == 4 and said in err and not out


def test_options_have_help():
    parser = argparse.ArgumentParser()
    add_power_arguments(parser)
    assert "--cautious" in parser.format_help()
