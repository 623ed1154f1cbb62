"""Rungs 9 to 12 on a network of two lines of algebra: each passes what it must and fails what it must."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.activations.activations import Activations
from fixtures.activations.measurement import Measurement
from fixtures.activations.patching import INTO, Doses, Moved
from fixtures.activations.placebo import PlaceboShown
from fixtures.activations.store import Store
from fixtures.calibration.prompts import noun_pairs, prompt_set
from fixtures.calibration.stand_in import Captured
from fixtures.claims.controls import dose, sufficient
from fixtures.claims.controls.causal import EACH, FOUND, choose, judged
from fixtures.claims.controls.measured import Case
from fixtures.claims.controls.rungs import evaluate_control
from fixtures.claims.controls.specific import random_sets, specific
from fixtures.claims.ladder import CAUSAL
from fixtures.claims.verdict import SILENT
from fixtures.common.errors import ProbeError
from fixtures.models.model import Model
from fixtures.models.units import CELLS, Site, channel_groups
from fixtures.statistics.causal_roles import LEAST_PAIRS, roles
from fixtures.statistics.null_plan import NullPlan

SITES = (Site("joint", "joint[0]", "image", 128, 128, 32), Site("single", "single[0]", "text+image", 512, 128, 32))
GROUPS = channel_groups(SITES)
UNITS = len(GROUPS.units)
N_FOUND = round(FOUND * UNITS)
PLACEBO = object()  # stimuli of the placebo
OUTPUT, WHOLE = 64, 100.0  # numbers and squared norm of the output


@dataclass
class Network:
    """The output is the sum of what units write, each its own vector times its own change from B to A.

    Attributes
    ----------
    responds : mean log ratio of each unit's RMS.
    changes : mean of each unit's change.
    signs : by pair, which way its units change.
    grown : what is left of what is written into A and into B, of the strength.
    """

    responds: np.ndarray
    changes: np.ndarray
    seed: int = 0
    pairs: int = 24
    signs: np.ndarray | None = None
    grown: dict[str, object] = field(default_factory=lambda: dict.fromkeys(INTO, lambda strength: strength))
    whole: float = WHOLE

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.weights = rng.standard_normal((UNITS, OUTPUT)) / np.sqrt(OUTPUT)
        self.ratios = self.responds * (1 + 0.1 * rng.standard_normal((self.pairs, UNITS)))
        signs = np.ones(self.pairs) if self.signs is None else self.signs
        self.deltas = self.changes * (1 + 0.1 * rng.standard_normal((self.pairs, UNITS))) * signs[:, None]
        self.unlike = self.changes * rng.choice((-1, 1), (self.pairs, UNITS))  # the placebo's: either way

    def activations(self) -> Activations:
        log = np.empty((2 * self.pairs, 1, UNITS))
        log[0::2, 0], log[1::2, 0] = self.ratios / 2, -self.ratios / 2
        mean_square = np.exp(2 * log) * np.ones((1, len(CELLS), 1))
        return Activations(mean_square.astype(np.float32), np.ones((2 * self.pairs, len(CELLS)), np.int64))

    def moved(self, jobs, doses: Doses, into, deltas) -> Moved:
        own = self.deltas @ self.weights
        written = np.array([[(deltas[donor] * units) @ self.weights for units in doses.units] for donor, _ in jobs])
        d = np.array([own[recipient] for _, recipient in jobs])
        factor = np.array([[self.grown[one](strength) for one in into] for strength in doses.strength])
        along = np.einsum("jdo,jo->jd", written, d)[..., None] * factor
        size = np.square(written).sum(axis=-1)[..., None] * factor**2
        donors = np.array([deltas[donor] @ self.weights for donor, _ in jobs])
        square = np.square(d).sum(axis=1)
        return Moved(along, size, square, np.full(len(jobs), self.whole), (donors * d).sum(axis=1))


@dataclass
class FakeCausal:
    own: Network
    twins: dict
    noise_seed: int = 0
    random_sets: int = 39
    error: str | None = None
    placebo_deltas: np.ndarray | None = None

    def written(self, pairs, twin=None):
        network = self.twins[twin] if twin else self.own
        return (np.abs(network.deltas) * np.linalg.norm(network.weights, axis=1))[pairs]

    def moved(self, jobs, doses, into=INTO[:1], twin=None, seed=None, placebo=None):
        if self.error:
            raise ProbeError(self.error)
        network = self.twins[twin] if twin else self.own
        deltas = network.deltas if placebo is None else self.placebo_deltas
        assert placebo in (None, PLACEBO)
        if seed not in (None, self.noise_seed):
            deltas = deltas * 0.5  # under other noise
        return network.moved(jobs, doses, into, deltas)


@dataclass
class Fake:
    """What the causal rungs ask of a measurement."""

    model: Captured
    stimuli: object
    activations: Activations
    causal: FakeCausal
    placebo: list
    twin_values: dict

    def twin_activations(self, kind, seed):
        return self.twin_values[kind, seed], {}


@dataclass(frozen=True)
class Declared:
    """What is asked of a stimulus set."""

    pairs: list
    placebo: bool = True
    alterations: bool = False
    hypothesis: str = "toy"


@dataclass(frozen=True)
class Named:
    id: str


def of_units(first, value, others=0.0):
    """By unit: ``first`` ones with a value, the others with another; every third unit, so that blocks are mixed."""
    found = np.full(UNITS, others)
    found[np.arange(0, UNITS, 3)[:first]] = value
    return found


QUIET = 0.02
CARRIES = {"responds": of_units(N_FOUND, 0.3, 0.01), "changes": of_units(N_FOUND, 2.0, QUIET)}


def fake(own=None, twin_changes=None, twins=3, placebo_deltas=None, declared=True, **causal):
    own = own or Network(**CARRIES)
    twin_changes = of_units(N_FOUND, 0.1, QUIET) if twin_changes is None else twin_changes
    made = {
        (kind, number): Network(
            CARRIES["responds"], twin_changes * (1 + 0.05 * number), 10 + 5 * place + number, own.pairs
        )
        for place, kind in enumerate(("re-initialised", "shuffled"))
        for number in range(twins)
    }
    unlike = own.unlike if placebo_deltas is None else placebo_deltas
    return Fake(
        Captured(GROUPS, None, twins),
        Declared([Named(f"p{number}") for number in range(own.pairs)], placebo=declared),
        own.activations(),
        FakeCausal(own, made, placebo_deltas=unlike, **causal),
        [PlaceboShown("placebo prompts", PLACEBO, 1.0)],
        {name: network.activations() for name, network in made.items()},
    )


def test_attribution_that_cannot_be_had_takes_no_rung_with_it():
    measured = fake()
    measured.differences = np.zeros((measured.causal.own.pairs, UNITS))

    def attribution(*arguments, **options):
        raise ProbeError("out of memory on cuda")

    measured.causal.attribution = attribution
    case = Case(measured, {"familywise": {"n_units": 3}}, (), (3.0, 5.0), NullPlan(seed=0))
    found = evaluate_control("specific", case)
    assert found.passed and found.table == b""
    assert found.figures["carriers"] == {"reason": "out of memory on cuda"}


def verdict(name, measured=None, seed=0):
    found = evaluate_control(name, Case(measured or fake(), {}, (), (3.0, 5.0), NullPlan(seed=seed)))
    told = {name: value for name, value in vars(found).items() if name != "table"}
    assert json.loads(json.dumps(told, allow_nan=False)) == told and found.table == b""
    return found


def test_units_that_respond_and_carry_pass_every_rung():
    for name in CAUSAL:
        for seed in (0, 1):
            found = verdict(name, seed=seed)
            assert found.passed, found


def test_the_units_and_roles_are_on_record():
    figures = verdict("sufficient", seed=3).figures
    split = roles(24, 3)
    assert figures["roles"] == {
        "seed": 3,
        "selection": [f"p{number}" for number in split.selection],
        "donors": [f"p{number}" for number in split.donors],
        "recipients": [f"p{number}" for number in split.recipients],
    }
    choice = choose(fake(), 3)
    assert np.array_equal(choice.found, CARRIES["changes"] == 2.0) and figures["found"]["n_units"] == N_FOUND
    assert sum(figures["found"]["kinds"].values()) == sum(figures["found"]["blocks"].values()) == N_FOUND
    assert figures["found"]["written"] > 0.7 and figures["jobs"] == EACH * len(split.donors)
    assert choice.first(1.0).all() and choice.first(2 / UNITS).sum() == 2
    assert not (choice.first(2 / UNITS) & ~choice.found).any()


def test_units_are_chosen_by_the_selection_alone():
    """What donors and recipients do changes nothing of the choice."""
    measured = fake()
    expected = choose(measured, 0)
    others = np.setdiff1d(np.arange(24), expected.roles.selection)
    measured.causal.own.deltas[others] *= 100
    values = measured.activations.mean_square.copy()
    values[2 * others] *= 7
    measured.activations = replace(measured.activations, mean_square=values)
    assert np.array_equal(choose(measured, 0).scores, expected.scores)


def test_figures_are_those_of_the_network():
    measured = fake()
    found, split = verdict("sufficient", measured), roles(24, 0)
    network, jobs = measured.causal.own, split.jobs(EACH)
    found_units = CARRIES["changes"] == 2.0
    d = network.deltas @ network.weights
    along = [((network.deltas[donor] * found_units) @ network.weights) @ d[recipient] for donor, recipient in jobs]
    wanted = [d[recipient] @ d[recipient] for _, recipient in jobs]
    own = found.figures["own"]
    assert own["share"] == pytest.approx(sum(along) / sum(wanted)) and 0.9 < own["share"] < 1.1
    assert own["moved"] == pytest.approx(100 * sum(along) / np.sqrt(sum(wanted) * WHOLE * len(jobs)))
    assert own["all_units"] == pytest.approx(sum(d[donor] @ d[own] for donor, own in jobs) / sum(wanted))
    assert found.figures["other_noise"]["share"] == pytest.approx(own["share"] / 2)
    assert found.figures["other_noise"]["noise_seed"] == own["noise_seed"] + 1
    assert own["p"] == 2**-8 and own["flips"] == 2**8 and own["off"] < 0.5


@pytest.mark.parametrize("name", CAUSAL)
def test_too_few_pairs_are_not_evaluated(name):
    found = verdict(name, fake(Network(**CARRIES, pairs=LEAST_PAIRS - 1)))
    assert found.outcome == "not evaluated" and found.reason.startswith(f"{LEAST_PAIRS - 1} pairs, at least")
    assert verdict(name, fake(Network(**CARRIES, pairs=LEAST_PAIRS))).passed


@pytest.mark.parametrize("name", CAUSAL)
def test_a_unit_that_is_silent_in_one_member_is_not_evaluated(name):
    measured = fake()
    values = measured.activations.mean_square.copy()
    values[4, :, 7] = 0
    measured.activations = replace(measured.activations, mean_square=values)
    assert (verdict(name, measured).outcome, verdict(name, measured).reason) == ("not evaluated", SILENT)


@pytest.mark.parametrize("name", CAUSAL)
def test_no_unit_that_responds_is_not_evaluated(name):
    """None writes anything of the contrast."""
    found = verdict(name, fake(Network(CARRIES["responds"], np.zeros(UNITS))))
    assert found.outcome == "not evaluated" and "no unit responds" in found.reason


@pytest.mark.parametrize("name", CAUSAL)
def test_what_cannot_be_patched_is_not_evaluated(name):
    found = verdict(name, fake(error="--compile: compiled blocks can be read, not changed"))
    assert found.outcome == "not evaluated" and found.reason.startswith("--compile")


@pytest.mark.parametrize("name", ["sufficient", "necessary", "dose"])
def test_a_move_below_one_percent_of_the_output_fails_however_sure(name):
    small = verdict(name, fake(Network(**CARRIES, whole=1e6)))
    moved = small.figures["moved"] if name == "dose" else small.figures["own"]["moved"]
    assert small.outcome == "failed" and small.p == 2**-8 and 0 < moved < 1
    assert verdict(name, fake(Network(**CARRIES, whole=5e4))).passed


@pytest.mark.parametrize("name", ["sufficient", "necessary", "dose"])
def test_units_that_respond_either_way_carry_nothing(name):
    """RMS tells A from B; what is written does not."""
    signs = np.random.default_rng(1).choice((-1, 1), 24)
    found = verdict(name, fake(Network(**CARRIES, signs=signs)))
    assert found.outcome == "failed" and found.p > 0.05, found


def test_units_that_mark_fail_where_others_carry():
    """The largest responses write a hundredth of what is written by units without one."""
    responds = of_units(N_FOUND, 0.3)
    carriers = np.roll(of_units(N_FOUND, 4.0), 1)
    measured = fake(Network(responds, carriers + of_units(N_FOUND, 0.02)))
    assert np.array_equal(choose(measured, 0).found, responds > 0)
    for name in ("sufficient", "necessary"):
        found = verdict(name, measured)
        assert found.outcome == "failed" and abs(found.figures["own"]["share"]) < 0.05, found
    assert found.figures["own"]["all_units"] == pytest.approx(1, abs=0.1)
    assert verdict("specific", measured).outcome == "failed"


def test_the_two_directions_are_two_questions():
    """Where others replace what is taken away, units are sufficient and not necessary."""
    grown = {"b": lambda strength: strength, "a": lambda strength: 0.001 * strength}
    measured = fake(Network(**CARRIES, grown=grown))
    assert verdict("sufficient", measured).passed and verdict("necessary", measured).outcome == "failed"
    assert verdict("sufficient", measured).figures["into"] == "b"
    assert "of the way to B" in verdict("necessary", measured).reason


@pytest.mark.parametrize("p, moved, passes", [(0.05, 1.0, True), (0.051, 9.0, False), (0.01, 0.99, False)])
def test_both_bounds_decide(p, moved, passes):
    figures = verdict("sufficient").figures
    assert judged(figures | {"own": figures["own"] | {"p": p, "moved": moved}}).passed == passes


# specific


def test_random_units_that_do_as_much_fail_it():
    """All units carry alike: the found ones only respond the most."""
    measured = fake(Network(CARRIES["responds"], np.full(UNITS, 0.7)))
    found = verdict("specific", measured)
    assert found.outcome == "failed" and found.figures["random"]["p"] > 0.05, found
    assert verdict("sufficient", measured).passed


def test_random_sets_are_of_the_same_blocks_and_kinds():
    choice = choose(fake(), 0)
    sets = random_sets(choice, GROUPS, 10, 0)
    names = np.array([f"{unit.block} {unit.kind}" for unit in GROUPS.units])
    for chosen in sets:
        assert sorted(names[chosen]) == sorted(names[choice.found]) and not (chosen & choice.found).any()
    figures = verdict("specific").figures["random"]
    assert figures["sets"] == len(figures["shares"]) == len(figures["written"]) == len(figures["per_written"]) == 39
    assert figures["p"] == pytest.approx(1 / 40)


def test_twins_that_move_as_far_fail_it():
    found = verdict("specific", fake(twin_changes=CARRIES["changes"]))
    networks = found.figures["networks"]
    assert found.outcome == "failed" and networks["p"] > 0.05 and networks["ratio"] == pytest.approx(1, abs=0.3)
    assert len(networks["twins"]) == 6 and all(twin["share"] > 0.8 for twin in networks["twins"])


def test_a_little_further_than_twins_is_not_enough():
    figures = verdict("specific").figures
    for change in ({"ratio": 1.24, "p": 0.001}, {"ratio": 3.0, "p": 0.06}):
        assert specific(figures | {"networks": figures["networks"] | change}).outcome == "failed"
    assert specific(figures | {"networks": figures["networks"] | {"ratio": 1.25, "p": 0.05}}).passed


def test_too_few_twins_are_not_evaluated():
    found = verdict("specific", fake(twins=2))
    assert found.outcome == "not evaluated" and "--twins 3" in found.reason


def test_a_placebo_that_moves_it_as_far_fails_it():
    """Whatever is written moves the output along: it is not of the concept."""
    own = Network(**CARRIES)
    found = verdict("specific", fake(own, placebo_deltas=own.deltas * 1.02))
    (row,) = found.figures["placebos"]
    assert found.outcome == "failed" and not row["beaten"] and row["share"] == pytest.approx(1, abs=0.1)
    backwards = verdict("specific", fake(own, placebo_deltas=-own.deltas))  # as far, the other way
    assert backwards.outcome == "failed" and not backwards.figures["placebos"][0]["beaten"]
    half = verdict("specific", fake(own, placebo_deltas=own.deltas / 2))
    assert half.passed and half.figures["placebos"][0]["beaten"]


def test_a_set_without_a_placebo_is_held_against_the_others():
    found = verdict("specific", fake(declared=False))
    assert found.passed and found.figures["placebos"] == []


# dose


def test_doses_are_all_on_record():
    figures = verdict("dose").figures
    units, strength = figures["units"], figures["strength"]
    counts = [point["n_units"] for point in units["points"]]
    assert counts == sorted(set(counts)) and counts[-1] == UNITS and units["range"][1] == FOUND
    assert [point["dose"] for point in strength["points"]] == list(dose.STRENGTHS)
    shares = [point["share"] for point in strength["points"]]
    np.testing.assert_allclose(shares, shares[-1] * np.array(dose.STRENGTHS))
    full = next(point for point in units["points"] if point["dose"] == FOUND)
    assert full["share"] == shares[-1] and full["interval"] == strength["points"][-1]["interval"]


def test_a_strength_beyond_which_it_falls_fails():
    grown = dict.fromkeys(INTO, lambda strength: strength if strength < 0.9 else 0.5)
    found = verdict("dose", fake(Network(**CARRIES, grown=grown)))
    assert found.outcome == "failed" and found.figures["strength"]["falls_p"] <= 0.05
    assert found.figures["units"]["falls_p"] > 0.05


def test_a_strength_without_effect_fails():
    grown = dict.fromkeys(INTO, lambda strength: 1.0)
    found = verdict("dose", fake(Network(**CARRIES, grown=grown)))
    assert found.outcome == "failed" and found.figures["strength"]["trend_p"] > 0.05


def test_units_that_work_against_the_first_ones_fail():
    """The last of the found units take back what the first ones bring, and others bring the rest."""
    own = Network(**CARRIES)
    order = np.argsort(-choose(fake(own), 0).scores, kind="stable")
    own.weights[order[2:N_FOUND]] = -0.3 * own.weights[order[0]]
    own.weights[order[N_FOUND:]] += own.weights[order[0]]
    found = verdict("dose", fake(own))
    assert found.outcome == "failed" and found.figures["units"]["falls_p"] <= 0.05, found


def test_one_unit_that_responds_has_no_doses():
    changes = of_units(1, 2.0)
    found = verdict("dose", fake(Network(of_units(1, 0.3), changes)))
    assert found.outcome == "not evaluated" and "too few for two doses" in found.reason


def test_units_beyond_the_found_ones_decide_nothing():
    """All units of another pair bring its whole picture: they may take back what the found ones brought."""
    own = Network(CARRIES["responds"], of_units(N_FOUND, 2.0, 0.3))
    order = np.argsort(-choose(fake(own), 0).scores, kind="stable")
    own.weights[order[N_FOUND:]] = -0.1 * own.weights[order[:N_FOUND]].sum(axis=0)
    found = verdict("dose", fake(own))
    shares = [point["share"] for point in found.figures["units"]["points"]]
    assert found.passed and shares[-1] < shares[-4], found


# for real


@pytest.fixture(scope="module")
def real(tiny, tmp_path_factory):
    """klein-tiny on prompts that differ in one word."""
    folder = tmp_path_factory.mktemp("causal")
    model = Model(replace(tiny.settings, store=folder, random_sets=19))
    model.__dict__.update(source=tiny.source, loaded=tiny.loaded)
    model.__dict__["protocol"] = replace(tiny.protocol, text_length=64)
    concept, placebo = noun_pairs(np.random.default_rng(0))
    stimuli = prompt_set(concept[: 2 * LEAST_PAIRS], placebo[: 2 * LEAST_PAIRS])
    return Measurement(stimuli, model, Store(folder), Path(folder), lambda what: lambda done, total: None)


def test_an_untrained_model_is_measured_by_every_rung_and_passes_not_all(real):
    found = {name: verdict(name, real) for name in CAUSAL}
    assert {one.outcome for one in found.values()} <= {"passed", "failed"}, found
    assert found["specific"].outcome == "failed", found["specific"]  # it is no more than a twin of itself
    assert found["sufficient"].figures["own"]["all_units"] == found["necessary"].figures["own"]["all_units"]
    networks = found["specific"].figures["networks"]
    assert networks["ratio"] < 2 and len(networks["twins"]) == 6
    counts = [point["n_units"] for point in found["dose"].figures["units"]["points"]]
    assert counts[-1] == len(real.model.groups.units)
    assert sufficient.evaluate(Case(real, {}, (), (3.0, 5.0), NullPlan(seed=0))).figures == found["sufficient"].figures
