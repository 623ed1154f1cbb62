"""``--steer``: whose pictures are made, where they lie, and what is said where there are none."""

import pytest
from PIL import Image
from toy_project import CONTROL, PROBE, STIMULI, folder, pairs, results, run, write

import fixtures.session.steering  # pytester forgets what is first imported in a project of its own
from fixtures.common.errors import ProbeError
from fixtures.results.schema import validate
from fixtures.session.options import resolve_settings

pytest_plugins = "pytester"
SETS = ["found", "matched random"]
RECIPIENTS = 2


@pytest.fixture
def whole(project, monkeypatch, tmp_path):
    """The toy project with pairs enough for roles, and with controls."""
    monkeypatch.setenv("PROBES_STORE", str(tmp_path / "own_store"))  # others capture under other protocols
    write(project, "stimuli/toy.toml", STIMULI + pairs(21))
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    return project


def steering(project):
    return results(project, f"reports/{folder(project).name}")["hypotheses"][0]["steering"]


def test_a_hypothesis_that_is_named_is_steered_and_again_from_the_store(whole, monkeypatch):
    for name, few in (("MOST_PAIRS", 2), ("RECIPIENTS", RECIPIENTS)):
        monkeypatch.setattr(fixtures.session.steering, name, few)
    run(whole, "--steer", "toy", "--controls", "none")
    record, where = steering(whole), folder(whole)
    validate(results(whole, f"reports/{where.name}"))
    assert record["doses"] == [-2, -1, 0, 1, 2] and record["scored_by"] is None
    assert [entry["name"] for entry in record["sets"]] == SETS
    recipients = [entry["id"] for entry in record["recipients"]]
    assert len(recipients) == RECIPIENTS and not {*recipients} & {*record["pairs"]}
    files = {entry["a"] for entry in record["recipients"]}
    for entry in record["sets"]:
        assert 0 < entry["n_units"] <= 144 // 8
        assert [one["recipient"] for one in entry["pictures"]] == [name for name in recipients for _ in range(5)]
        assert all((one["distance"] == 0) == (one["dose"] == 0) and one["score"] is None for one in entry["pictures"])
        files |= {one["file"] for one in entry["pictures"]}
    assert len(files) == RECIPIENTS * (2 + 2 * 4)
    assert {Image.open(where / file).size for file in files} == {(64, 64)}
    assert Image.open(where / "steering/toy/strip.png").width > 5 * 96
    page = (where / "report.html").read_text()
    assert "Steered pictures" in page and all(page.count(f'href="{file.replace("+", "%2B")}"') == 1 for file in files)

    monkeypatch.setattr("fixtures.models.model.load_model", lambda *arguments: pytest.fail("loaded the model"))
    run(whole, "--steer", "toy", "--controls", "none", "--store-only")
    assert steering(whole) == record and folder(whole) != where
    assert all((folder(whole) / file).read_bytes() == (where / file).read_bytes() for file in files)


def test_without_a_name_it_is_those_that_pass_rung_9(whole, monkeypatch):
    run(whole, "--steer")
    found = "not climbed: rung 4: failed; `--controls causal` changes units all the same"
    assert steering(whole) == {"reason": f"rung 'sufficient': {found}"}
    monkeypatch.setattr(fixtures.session.steering, "_steered", lambda run, hypothesis: {"reason": hypothesis.id})
    run(whole, "--controls", "sufficient", "--steer")
    (control,) = results(whole, f"reports/{folder(whole).name}")["hypotheses"][0]["controls"]
    assert (steering(whole)["reason"] == "toy") == (control["verdict"] == "passed")


def test_too_few_pairs_are_said_and_change_no_verdict(project):
    run(project)
    before = results(project, f"reports/{folder(project).name}")["hypotheses"][0]["claims"]
    run(project, "--steer", "toy")
    assert steering(project) == {
        "reason": "not evaluated: 10 pairs, at least 21 are needed: to choose units, to give, to be changed"
    }
    assert results(project, f"reports/{folder(project).name}")["hypotheses"][0]["claims"] == before
    assert "No pictures were steered." in (folder(project) / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steer", "other"], "--steer: 'other' is no hypothesis of the chosen tests, which are of toy."),
        (["--controls", "none", "--steer"], "--steer: no chosen test decides the rung 'sufficient'. Name hypotheses"),
        (["--steer", "a b"], "--steer: 'a b' is no id of a hypothesis. Without ids, put it last"),
    ],
)
def test_what_names_nothing_is_refused_before_anything_is_captured(whole, arguments, message):
    outcome = run(whole, *arguments)
    assert outcome.ret == 4 and message in outcome.stderr.str() + outcome.stdout.str()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": "openai/clip"}, "--judge openai/clip: expected --steer with it"),
        ({"steer": "toy", "capture-only": True}, "leave --steer out"),
    ],
)
def test_options_that_do_not_go_together(options, message, tmp_path):
    with pytest.raises(ProbeError, match=message):
        resolve_settings(options, {}, tmp_path, {})


def test_names_are_taken_apart(tmp_path):
    settings = resolve_settings({"steer": "pose, place,pose"}, {}, tmp_path, {})
    assert settings.steer == ("pose", "place") and settings.record()["steer"]["value"] == "pose,place"


def test_a_judge_that_cannot_be_loaded_is_said(whole):
    outcome = run(whole, "--steer", "toy", "--controls", "none", "--judge", str(whole.path / "nowhere"))
    outcome.stdout.fnmatch_lines(
        ["*toy: steered pictures are placed on the way to A and not scored*", "*toy: steered pic*"]
    )
    assert "reason" not in steering(whole)  # pictures need no judge
