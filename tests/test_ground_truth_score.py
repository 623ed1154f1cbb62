"""What statistics say of the ground truth."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fixtures.activations.activations import Activations
from fixtures.claims.ladder import CAUSAL, CONTROLS, LADDER
from fixtures.common.files import file_sha256, load_json
from fixtures.common.forms import check_form
from fixtures.klein_mini.truth.record import labels, read_behaviour
from fixtures.klein_mini.truth.score import STATISTICS, ScoreRecord, figures, score_sets
from fixtures.klein_mini.truth.score_table import score_table
from fixtures.models.units import CELLS
from fixtures.results.ground_truth import GroundTruthRecord, ground_truth_record
from fixtures.statistics.amplification import MARGIN
from fixtures.statistics.auroc import auroc

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
    return [network(tiny.groups, 0.05, number) for number in range(10, 16)]


def test_a_model_that_amplifies_is_told_from_one_more_twin(tiny, twins):
    templates = [f"wording_{number % 4}" for number in range(12)]
    found = figures(network(tiny.groups, 0.3, 99), twins, tiny.groups, templates, 0)
    assert list(found) == list(STATISTICS)
    assert all(found[name]["says"] for name in ("count", "effect", "amplification", "across_wordings"))
    other = figures(network(tiny.groups, 0.05, 98), twins, tiny.groups, templates, 0)
    assert other["effect"]["says"] and not other["amplification"]["says"]
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

    options = {"model": "klein-tiny", "store": str(cache), "device": "cpu", "twins": "3", "random-sets": "19"}
    behaviour = read_behaviour(FOLDER / "behaviour.json")
    for entry in behaviour["sets"]:
        entry["model"] = entry["model"].replace("klein-mini", "klein-tiny")
    model = Model(resolve_settings(options, {}, ROOT, environment={}))
    score = score_sets([model], behaviour, FOLDER, ["pose", "opening"])
    check_form(ScoreRecord, json.loads(json.dumps(score)), "score", "")
    pose, opening = score["sets"]
    assert (pose["set"], pose["label"]) == ("pose", "has it") and [*pose["rungs"]] == ["null", *CONTROLS]
    assert pose["outcome"] != "represents" and not pose["twin"]["amplification"]["says"]
    assert not pose["uses"] and pose["rungs"]["sufficient"] == "failed" and pose["causal"]["moved"] < 1
    assert [*pose["twin_rungs"]] == [*CAUSAL] and pose["twin_rungs"]["sufficient"] == "failed"
    assert pose["rungs"]["untrained"] == "failed" and pose["rungs"]["placebo"] == "not evaluated"
    assert opening["figures"]["across_wordings"]["says"] is None and opening["rungs"]["held_out"] == "not evaluated"


def test_the_stored_score_is_of_the_labelled_sets_and_the_shipped_weights():
    score = stored()
    check_form(ScoreRecord, score, "score.json", "")
    for name in ("klein-mini", "klein-mini+arrow"):
        found = labels(read_behaviour(FOLDER / "behaviour.json"), name)
        assert {row["set"]: row["label"] for row in score["sets"] if row["model"] == name} == {
            name: label for name, label in found.items() if label != "unclear"
        }
    for entry in read_behaviour(FOLDER / "behaviour.json")["sets"]:
        assert entry["sha256"] == file_sha256(FOLDER / f"{entry['set']}.toml")


def test_the_page_has_the_stored_score():
    assert score_table(stored()) in (ROOT / "docs" / "ground_truth.md").read_text()


def row(label, says, twin, rungs, outcome, name="x"):
    def of(value):
        return {name: {"value": None if value is None else float(value), "says": value} for name in STATISTICS}

    verdicts = {step.id: "passed" for step in LADDER} | rungs
    found = {"model": "m", "set": name, "label": label, "figures": of(says), "twin": of(twin)}
    causal = {"found": 0.5, "random": 0.1, "all_units": 0.6, "moved": 12.0}
    used = {"uses": outcome == "represents", "causal": causal, "twin_rungs": dict.fromkeys(CAUSAL, "failed")}
    return found | {"rungs": verdicts, "outcome": outcome, **used}


def test_the_table_counts_what_is_said():
    rows = [row("has it", True, False, {}, "represents"), row("has it", True, False, {"null": "failed"}, "absent", "v")]
    rows += [row("has it not", False, True, {"untrained": "failed"}, "absent", name) for name in ("y", "w")]
    rows += [row("wording only", True, None, {"held_out": "not evaluated"}, "undecided", "z")]
    shown = score_table(stored() | {"sets": rows})
    assert "| 2 of 2 | 0 of 2 | 1 of 1 | 2 of 4 | 1.00 (1.00 to 1.00) | – |" in shown
    assert "“learned” | always | 2 of 2 | 0 of 2 | 1 of 1 | – | 2 |" in shown
    assert "“carries over” | always | 2 of 2 | 2 of 2 | – | – | 1 |" in shown and "“localised” | never |" in shown
    assert "“sufficient” | uses | 2 of 2 | 2 of 2 | 1 of 1 | 0 of 5 | 0 |" in shown
    assert "| represents and uses | 1 | 0 | 0 |" in shown and "| `x`, m | 0.50 | 0.10 | 0.60 | 12 % | – |" in shown
    assert "| represents | 1 | 0 | 0 |" in shown and "| absent | 1 | 2 | 0 |" in shown
    assert shown.endswith("- `v`, m (has it): absent; not passed: null\n")


def test_what_is_represented_and_should_not_be_is_listed():
    shown = score_table(stored() | {"sets": [row("wording only", True, True, {}, "represents")]})
    assert "- `x`, m (wording only): represents; not passed: none" in shown


def test_results_json_is_given_the_sets_that_the_page_is_made_of():
    """What figures of a run show as the truth is what docs/ground_truth.md says of the amplification."""
    record = ground_truth_record()
    check_form(GroundTruthRecord, record, "ground_truth", "")
    assert record["sha256"] == file_sha256(FOLDER / "score.json") and record["file"] == "score.json"
    (line,) = [
        line for line in (ROOT / "docs" / "ground_truth.md").read_text().splitlines() if line.startswith("| `ampl")
    ]
    ratios = {
        label: [entry["ratio"] for entry in record["sets"] if entry["label"] == label]
        for label in ("has it", "has it not", "wording only")
    }
    for label, ratio in ratios.items():
        assert f" of {len(ratio)} |" in line, label
    found = re.findall(r"(\d+) of (\d+) \|", line)
    largest = [sum(value >= MARGIN for value in ratio) for ratio in ratios.values()]
    assert all(int(yes) <= most for (yes, _), most in zip(found, largest, strict=False))  # p decides too
    assert f"| {auroc(ratios['has it'], ratios['has it not']):.2f} (" in line
    assert [entry["twin_ratio"] for entry in record["sets"]] == [
        entry["twin"]["amplification"]["value"] for entry in stored()["sets"]
    ]
