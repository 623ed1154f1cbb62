"""The suite on models of which the truth is known: taught the arrow of time, taught to copy, and not taught at all."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fixtures.activations.activations import Activations
from fixtures.activations.measurement import Measurement
from fixtures.activations.store import Store
from fixtures.calibration.verdicts import hypothesis_record
from fixtures.claims.claims import Exceedance
from fixtures.claims.controls.measured import Case
from fixtures.claims.controls.rungs import evaluate_control
from fixtures.claims.effects import effect_record
from fixtures.claims.evidence import evaluate
from fixtures.claims.ladder import CONTROLS, OBSERVED
from fixtures.claims.statement import statement
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.statistics.amplification import MARGIN
from fixtures.statistics.null_plan import NullPlan
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).resolve().parents[1]
PLAN = NullPlan()


def probe():
    """The hypothesis and the claims of the probe of the drawings."""
    spec = spec_from_file_location("probe", ROOT / "probes" / "test_arrow_of_time_rendered.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    marks = [mark for test in vars(module).values() for mark in getattr(test, "pytestmark", ()) if mark.name == "claim"]
    return module.HYPOTHESIS, [mark.args[0] for mark in marks]


def measurement(name, cache, tmp_path) -> Measurement:
    settings = resolve_settings({"model": name, "store": str(cache), "device": "cpu"}, {}, ROOT, environment={})
    stimuli = load_stimuli(ROOT / "stimuli" / "arrow_of_time_rendered.toml")
    store = Store(settings.store)
    return Measurement(stimuli, Model(settings), store, tmp_path, lambda what: lambda done, total: None)


def record(measured: Measurement, activations: Activations) -> dict:
    return evaluate(activations, measured.model.groups, measured.model.heads, PLAN)[0]


@pytest.mark.slow
def test_a_model_that_was_taught_the_arrow_of_time_represents_it(cache, tmp_path):
    measured = measurement("klein-mini+arrow", cache, tmp_path)
    evidence = record(measured, measured.activations)
    evidence["effect"] = effect_record(measured.activations, measured.model.groups, PLAN.seed)
    claims = probe()[1]
    assert [claim.judge(evidence).outcome for claim in claims] == ["supported", "supported"]
    assert claims[0].judge(evidence).p < 1e-4
    assert all(isinstance(claim, Exceedance) for claim in claims)
    case = Case(measured, evidence, claims, probe()[0].thresholds, PLAN)
    verdicts = {name: evaluate_control(name, case) for name in OBSERVED}
    assert probe()[0].controls == CONTROLS and all(verdict.passed for verdict in verdicts.values()), verdicts
    sets = {row["name"]: row["selectivity"]["interval"] for row in verdicts["placebo"].figures["sets"]}
    assert set(sets) == {"brightness", "scale", "crop", "mirror"}
    assert min(low for low, _ in sets.values()) > 2 * MARGIN  # far from where another machine could turn it
    assert verdicts["untrained"].figures["amplification"]["interval"][0] > 10 * MARGIN
    said = statement(hypothesis_record(evidence, {claim: claim.judge(evidence) for claim in claims}, verdicts))
    assert (said["outcome"], said["represents"], said["failed"]) == ("represents", True, [])


@pytest.mark.slow
@pytest.mark.parametrize("twin", [None, ("re-initialised", 0), ("re-initialised", 1), ("shuffled", 0)])
def test_a_model_that_was_taught_to_copy_is_not_and_neither_are_untrained_twins(cache, tmp_path, twin):
    measured = measurement("klein-mini", cache, tmp_path)
    activations = measured.twin_activations(*twin)[0] if twin else measured.activations
    verdicts = [claim.judge(record(measured, activations)).outcome for claim in probe()[1]]
    assert verdicts == ["refuted", "refuted"]
