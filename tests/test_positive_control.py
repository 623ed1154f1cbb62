"""The suite on models of which the truth is known: taught the arrow of time, taught to copy, and not taught at all."""

from pathlib import Path

import pytest

from fixtures.capture import capture
from fixtures.evidence import compare
from fixtures.images import prepare_images
from fixtures.model import Model
from fixtures.run import presentation_order
from fixtures.settings import resolve_settings
from fixtures.stimuli import load_stimuli

ROOT = Path(__file__).resolve().parents[1]
MARGINS = {3.0: 2.4, 5.0: 26}  # as claimed in probes/test_arrow_of_time_rendered.py


def counts(name, cache, tmp_path, twin=None):
    """Counts on the drawings, and whether each reaches its margin."""
    settings = resolve_settings({"model": name, "store": str(cache), "device": "cpu"}, {}, ROOT, environment={})
    model = Model(settings)
    stimuli = load_stimuli(ROOT / "stimuli" / "arrow_of_time_rendered.toml")
    images = prepare_images(stimuli, tmp_path, model.source, model.protocol, lambda: model.pipeline)
    sequence = [stimulus for stimulus, _ in presentation_order(stimuli, images)]
    pipeline = model.pipeline if twin is None else model.twin(twin)
    activations = capture(pipeline, model.sites, sequence, model.protocol)
    rows = compare(activations, model.groups, list(range(25)), "exact", 0, 0)
    return rows, [row["observed"] >= MARGINS[row["threshold"]] * max(row["p99"], 1) for row in rows]


@pytest.mark.slow
def test_a_model_that_was_taught_the_arrow_of_time_is_found(cache, tmp_path):
    rows, reached = counts("klein-mini+arrow", cache, tmp_path)
    assert reached == [True, True], rows
    assert rows[0]["p"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("twin", [None, 0, 1, 2])
def test_a_model_that_was_taught_to_copy_is_not_and_neither_are_untrained_twins(cache, tmp_path, twin):
    rows, reached = counts("klein-mini", cache, tmp_path, twin)
    assert reached == [False, False], rows
