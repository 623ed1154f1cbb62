"""The suite on models of which the truth is known: taught the arrow of time, taught to copy, and not taught at all."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fixtures.capture import capture
from fixtures.evidence import evaluate
from fixtures.images import prepare_images
from fixtures.model import Model
from fixtures.run import presentation_order
from fixtures.settings import resolve_settings
from fixtures.stimuli import load_stimuli

ROOT = Path(__file__).resolve().parents[1]


def claims():
    """The claims of the probe of the drawings."""
    spec = spec_from_file_location("probe", ROOT / "probes" / "test_arrow_of_time_rendered.py")
    probe = module_from_spec(spec)
    spec.loader.exec_module(probe)
    tests = [test for name, test in vars(probe).items() if name.startswith("test_")]
    return [mark.args[0] for test in tests for mark in test.pytestmark if mark.name == "claim"]


def verdicts(name, cache, tmp_path, twin=None):
    """Verdicts of the probe's claims on a model or on its untrained twin."""
    settings = resolve_settings({"model": name, "store": str(cache), "device": "cpu"}, {}, ROOT, environment={})
    model = Model(settings)
    stimuli = load_stimuli(ROOT / "stimuli" / "arrow_of_time_rendered.toml")
    images = prepare_images(stimuli, tmp_path, model.source, model.protocol, lambda: model.pipeline)
    sequence = [stimulus for stimulus, _ in presentation_order(stimuli, images)]
    pipeline = model.pipeline if twin is None else model.twin(twin)
    activations = capture(pipeline, model.sites, sequence, model.protocol)
    evidence, _ = evaluate(activations, model.groups, model.heads, "exact", 0, 0)
    return [claim.judge(evidence) for claim in claims()]


@pytest.mark.slow
def test_a_model_that_was_taught_the_arrow_of_time_is_found(cache, tmp_path):
    found = verdicts("klein-mini+arrow", cache, tmp_path)
    assert [verdict.outcome for verdict in found] == ["supported", "supported"], found
    assert found[0].record["p"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("twin", [None, 0, 1, 2])
def test_a_model_that_was_taught_to_copy_is_not_and_neither_are_untrained_twins(cache, tmp_path, twin):
    found = verdicts("klein-mini", cache, tmp_path, twin)
    assert [verdict.outcome for verdict in found] == ["refuted", "refuted"], found
