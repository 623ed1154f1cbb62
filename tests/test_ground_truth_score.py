"""What statistics say of the ground truth."""

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures.activations.activations import Activations
from fixtures.common.files import file_sha256, load_json
from fixtures.common.forms import check_form
from fixtures.klein_mini.truth.record import labels, read_behaviour
from fixtures.klein_mini.truth.score import STATISTICS, ScoreRecord, figures, score_sets, score_table
from fixtures.models.units import CELLS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "stimuli" / "ground_truth"


def stored() -> ScoreRecord:
    return load_json(FOLDER / "score.json")


def network(groups, effect, seed, shown=0.3) -> Activations:
    """Activations of 12 pairs, of which A is stronger by ``effect`` in directions of the network's own."""
    rng = np.random.default_rng(seed)
    level = np.random.default_rng(0).normal(0, shown, (12, 1, groups.groups.max() + 1))  # what all are shown
    own = effect * rng.standard_normal(groups.groups.max() + 1)
    noise = 0.02 * rng.standard_normal((24, len(CELLS), groups.groups.max() + 1))
    logs = np.repeat(level, 2, axis=0) + noise
    logs[0::2] += own
    return Activations(np.exp(2 * logs).astype(np.float32), np.full((24, len(CELLS)), 8))


@pytest.fixture
def twins(tiny):
    kinds = ("re-initialised", "shuffled")
    return [(kind, n, network(tiny.groups, 0.05, 10 * k + n)) for k, kind in enumerate(kinds, 1) for n in range(3)]


def test_a_model_that_amplifies_is_told_from_one_more_twin(tiny, twins):
    templates = [f"wording_{number % 4}" for number in range(12)]
    found = figures(network(tiny.groups, 0.3, 99), twins, tiny.groups, templates, 0)
    assert list(found) == list(STATISTICS)
    assert all(found[name]["says"] for name in ("count", "effect", "amplification", "across_wordings"))
    other = figures(network(tiny.groups, 0.05, 98), twins, tiny.groups, templates, 0)
    assert other["effect"]["says"] and not other["amplification"]["says"] and not other["across_wordings"]["says"]
    assert found["effect"]["value"] == pytest.approx(30, rel=0.2) and other["effect"]["value"] == pytest.approx(
        5, rel=0.3
    )


def test_one_wording_says_nothing_across_wordings(tiny, twins):
    found = figures(network(tiny.groups, 0.3, 99), twins, tiny.groups, ["only"] * 12, 0)
    assert found["across_wordings"] == {"value": None, "says": None} and found["amplification"]["says"]


def test_sets_are_measured_and_asked(cache, tmp_path):
    """On klein-tiny, by labels as if they were of it."""
    from fixtures.models.model import Model
    from fixtures.session.options import resolve_settings

    options = {"model": "klein-tiny", "store": str(cache), "device": "cpu", "twins": "3"}
    behaviour = read_behaviour(FOLDER / "behaviour.json")
    for entry in behaviour["sets"]:
        entry["model"] = entry["model"].replace("klein-mini", "klein-tiny")
    model = Model(resolve_settings(options, {}, ROOT, environment={}))
    score = score_sets(model, behaviour, FOLDER, ["pose"])
    check_form(ScoreRecord, json.loads(json.dumps(score)), "score", "")
    assert [row["set"] for row in score["sets"]] == ["pose"] and score["sets"][0]["label"] == "has it"
    assert not score["sets"][0]["twin"]["amplification"]["says"]


def test_the_stored_score_is_of_the_labelled_sets_and_the_shipped_weights():
    score, found = stored(), labels(read_behaviour(FOLDER / "behaviour.json"))
    check_form(ScoreRecord, score, "score.json", "")
    assert {row["set"]: row["label"] for row in score["sets"]} == {
        name: label for name, label in found.items() if label != "unclear"
    }
    for entry in read_behaviour(FOLDER / "behaviour.json")["sets"]:
        assert entry["sha256"] == file_sha256(FOLDER / f"{entry['set']}.toml")


def test_the_page_has_the_stored_score():
    assert score_table(stored()) in (ROOT / "docs" / "ground_truth.md").read_text()


def test_the_table_counts_what_is_said():
    say = {name: {"value": 1.0, "says": True} for name in STATISTICS}
    silent = {name: {"value": 0.0, "says": False} for name in STATISTICS}
    undefined = {name: {"value": None, "says": None} for name in STATISTICS}
    rows = [{"set": name, "label": "has it", "model": say, "twin": silent} for name in ("x", "v")]
    rows += [{"set": name, "label": "has it not", "model": silent, "twin": say} for name in ("y", "w")]
    rows += [{"set": "z", "label": "wording only", "model": say, "twin": undefined}]
    shown = score_table(stored() | {"sets": rows})
    assert "| 2 of 2 | 0 of 2 | 1 of 1 | 2 of 4 | 1.00 (1.00 to 1.00) | – |" in shown
    assert "- `count`: z" in shown
