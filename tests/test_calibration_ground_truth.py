"""What the calibration says of the ground truth on record."""

import json

import pytest

from fixtures.calibration.ground_truth import ROWS, ground_truth_rows


def entry(label, outcome, ratio, says=False):
    figures = {"amplification": {"value": ratio, "says": ratio > 1.25}, "count": {"value": 3.0, "says": True}}
    twin = {"amplification": {"value": 1.0, "says": says}}
    return {"set": f"{label} {ratio}", "label": label, "figures": figures, "twin": twin, "outcome": outcome}


@pytest.fixture
def rows(tmp_path):
    def of(*sets):
        file = tmp_path / "score.json"
        file.write_text(json.dumps({"weights_sha256": {"m": None}, "device": "d", "sets": sets}))
        return dict(zip(ROWS, ground_truth_rows(file), strict=True))

    return of


def test_the_record_meets_what_is_asked_of_the_ladder():
    found = ground_truth_rows()
    assert [row["name"] for row in found] == list(ROWS) and all(row["ok"] for row in found), found


def test_a_true_set_that_is_not_represented_counts_and_is_named(rows):
    sets = [entry("has it", "represents", 2.0)] * 8 + [entry("has it", "stopped", 1.1)]
    found = rows(*sets, entry("has it not", "absent", 1.0))[ROWS[0]]
    assert found["observed"] == pytest.approx(8 / 9) and not found["ok"] and "has it 1.1" in found["detail"]


@pytest.mark.parametrize("label", ["has it not", "wording only"])
def test_what_is_represented_and_should_not_be_fails(rows, label):
    found = rows(
        entry("has it", "represents", 2.0), entry("has it not", "absent", 1.0), entry(label, "represents", 3.0)
    )
    assert found[ROWS[1]]["observed"] == 0.5 and not found[ROWS[1]]["ok"]


def test_the_area_is_of_true_against_false_alone_and_twins_are_counted(rows):
    sets = [entry("has it", "represents", 2.0), entry("has it not", "absent", 1.0, says=True)]
    found = rows(*sets, entry("wording only", "stopped", 9.0))
    assert found[ROWS[2]]["observed"] == 1.0 and found[ROWS[2]]["n"] == 2 and "count: 0.50" in found[ROWS[2]]["detail"]
    assert found[ROWS[3]]["observed"] == pytest.approx(1 / 3) and not found[ROWS[3]]["ok"]
