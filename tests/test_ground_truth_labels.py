"""From pictures to labels: the rules, the record of behaviour, and the table of it."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.common.files import file_sha256
from fixtures.klein_mini.judge import load_judge
from fixtures.klein_mini.truth import __main__ as command
from fixtures.klein_mini.truth.behaviour import CAPTIONS, COPIES, NOISE_SEED, draw, entry_of, record_behaviour
from fixtures.klein_mini.truth.files import STIMULI, file_of, write_set
from fixtures.klein_mini.truth.record import Settings, labels, read_behaviour, write_behaviour
from fixtures.klein_mini.truth.rules import CHANGED, ENOUGH, SAME, Label, changes, decide, keeps
from fixtures.klein_mini.truth.sets import SEED, truth_sets
from fixtures.klein_mini.truth.specs import Truth
from fixtures.klein_mini.truth.table import HEADING, page_with, table
from fixtures.models.judge import FILES
from fixtures.models.loading import load_model
from fixtures.models.source import resolve_model

RECORD = STIMULI / "ground_truth" / "behaviour.json"
PAGE = STIMULI.parent / "docs" / "ground_truth.md"
TRUTHS = get_args(Truth)
FEW = Settings(steps=2, guidance=4.0)


def pair(number=0, pixels=0.5, seen=False, template=None, meant=True):
    return {
        "id": f"{number:02d}",
        "template": template or f"w{number % 5}",
        "meant": meant,
        "pixels": pixels,
        "a": "ball before red",
        "b": "ball before blue" if seen else "ball before red",
    }


def pairs(*pixels, **more):
    return [pair(number, value, **more) for number, value in enumerate(pixels)]


@st.composite
def behaviours(draw):
    """Pairs of a set, each of which may change or keep the picture."""
    count = draw(st.integers(1, 30))
    values = st.tuples(st.floats(0, 255), st.booleans(), st.sampled_from("wxyz"), st.booleans())
    return [pair(number, *draw(values)) for number in range(count)]


def short(name, count=2):
    """A set of the repository with its first pairs alone."""
    truth = next(truth for truth in truth_sets() if truth.name == name)
    return replace(truth, pairs=truth.pairs[:count])


@pytest.mark.parametrize(
    "truth, found, label",
    [
        ("has it", pairs(*[20.0] * 25), "has it"),
        ("has it", pairs(*[CHANGED] * 25), "has it"),
        ("has it", pairs(*[CHANGED - 0.01] * 25), "unclear"),
        ("has it", pairs(*[1.0] * 25, seen=True), "has it"),  # a small thing of another colour
        ("has it", pairs(*[20.0] * 23, 1.0, 1.0), "has it"),
        ("has it", pairs(*[20.0] * 22, 1.0, 1.0, 1.0), "unclear"),
        ("has it", pairs(*[20.0] * 5) + pairs(*[0.5] * 20, meant=False), "has it"),
        ("has it", pairs(*[20.0] * 5) + pairs(*[0.5] * 19, 9.0, meant=False), "has it"),
        ("has it", pairs(*[20.0] * 5) + pairs(*[0.5] * 18, 9.0, 9.0, meant=False), "unclear"),
        ("has it", pairs(*[20.0] * 4, 0.5) + pairs(*[0.5] * 20, meant=False), "unclear"),
        ("has it", pairs(*[20.0] * 28, template="w") + pairs(1.0, 1.0, 9.0, template="v"), "unclear"),
        ("has it", pairs(*[20.0] * 25, meant=False), "unclear"),
        ("has it not", pairs(*[0.5] * 25), "has it not"),
        ("has it not", pairs(*[SAME] * 25), "has it not"),
        ("has it not", pairs(*[SAME + 0.01] * 25), "unclear"),
        ("has it not", pairs(*[0.5] * 24, 22.0), "has it not"),
        ("has it not", pairs(*[0.5] * 23, 22.0, 22.0), "unclear"),
        ("has it not", pairs(*[0.5] * 24) + [pair(24, 0.5, seen=True)], "unclear"),
        ("has it not", pairs(*[0.5] * 24) + [pair(24, 0.5, meant=False)], "unclear"),
        ("has it not", pairs(*[0.5] * 97, template="w") + pairs(9.0, 9.0, 9.0, template="v"), "unclear"),
        ("wording only", pairs(*[20.0] * 13, *[0.5] * 12), "wording only"),
        ("wording only", pairs(*[20.0] * 12, *[0.5] * 13), "unclear"),
        *((truth, [], "unclear") for truth in TRUTHS),
    ],
)
def test_labels_of_sets(truth, found, label):
    assert decide(truth, found)[0] == label


@given(st.sampled_from(TRUTHS), behaviours())
def test_a_set_is_what_it_was_meant_to_be_or_unclear_and_why_is_said(truth, found):
    label, why = decide(truth, found)
    assert label in (truth, "unclear") and why
    assert decide(truth, found[::-1])[0] == label  # the order of pairs does not matter
    assert not (decide("has it", found)[0] == "has it" and decide("has it not", found)[0] == "has it not")
    assert not (decide("wording only", found)[0] != "unclear" and decide("has it not", found)[0] != "unclear")


@given(behaviours(), st.data())
def test_more_change_never_makes_a_true_set_less_true_nor_a_false_one_less_false(found, data):
    number = data.draw(st.integers(0, len(found) - 1))
    more = [dict(entry) for entry in found]
    more[number]["pixels"] += data.draw(st.floats(0, 100))
    if found[number]["meant"] and decide("has it", found)[0] == "has it":
        assert decide("has it", more)[0] == "has it"
    if decide("has it not", more)[0] == "has it not":
        assert decide("has it not", found)[0] == "has it not"


@given(st.floats(0, 255), st.booleans())
def test_no_pair_both_changes_and_keeps_the_picture(pixels, seen):
    assert not (changes(pair(0, pixels, seen)) and keeps(pair(0, pixels, seen)))
    assert SAME < CHANGED


def test_one_wording_that_strays_needs_pairs_enough():
    rest = pairs(*[0.5] * 60, template="w")
    for count in range(1, ENOUGH + 1):
        label = decide("has it not", rest + pairs(*[9.0] * count, template="v"))[0]
        assert label == ("has it not" if count < ENOUGH else "unclear")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pairs each of a set of captions, of one of drawings, and of one that two models draw."""
    stimuli = tmp_path_factory.mktemp("stimuli")
    for name in ("colour", "noisy", "drawn_event"):
        write_set(short(name), stimuli)
    return stimuli


@pytest.fixture(scope="module")
def behaviour(folder):
    """What is drawn of them in a few steps on the CPU."""
    sets = [short(name) for name in ("colour", "noisy", "drawn_event")]
    return record_behaviour(sets, folder, "cpu", lambda line: None, FEW)


def test_what_is_drawn_is_recorded(behaviour, folder):
    assert [(entry["set"], entry["model"]) for entry in behaviour["sets"]] == [
        ("colour", "klein-mini"),
        ("noisy", "klein-mini"),
        ("drawn_event", "klein-mini"),
        ("drawn_event", "klein-mini+arrow"),
    ]
    assert list(behaviour["models"]) == ["klein-mini", "klein-mini+arrow"] and behaviour["device"] == "cpu"
    assert behaviour["models"]["klein-mini"] == resolve_model("klein-mini", None, folder).weights_sha256
    assert behaviour["judge_sha256"] == file_sha256(FILES / "judge.safetensors")
    assert (behaviour["captions"], behaviour["copies"], behaviour["seed"]) == (FEW, COPIES, SEED)
    for entry in behaviour["sets"]:
        assert entry["sha256"] == file_sha256(file_of(short(entry["set"]), folder))
        assert len(entry["pairs"]) == 2 and all(
            ("shown" in pair) == (entry["set"] != "colour") for pair in entry["pairs"]
        )
    colour, noisy, event, arrow = behaviour["sets"]
    assert all(changes(pair) for pair in colour["pairs"])
    assert all(keeps(pair) and 0.5 < pair["shown"] < 0.8 for pair in noisy["pairs"])
    assert [pair["shown"] for pair in event["pairs"]] == [pair["shown"] for pair in arrow["pairs"]]
    assert event["pairs"] != arrow["pairs"]  # the adapter was added
    assert labels(behaviour) == {"colour": "has it", "noisy": "has it not", "drawn_event": event["label"]}
    assert labels(behaviour, "klein-mini+arrow") == {"drawn_event": arrow["label"]}


def test_members_of_a_pair_are_drawn_with_the_same_noise(folder):
    """The same caption twice gives the same picture, whatever else is in the batch."""
    truth = short("colour")
    twice = replace(truth, pairs=tuple(replace(pair, b=pair.a) for pair in truth.pairs))
    pipeline = load_model(resolve_model("klein-mini", None, folder), "cpu", "float32").pipeline
    drawn = draw(pipeline, twice, FEW)
    assert drawn.shape == (4, 128, 128, 3) and drawn.dtype == np.uint8
    entry = entry_of(twice, "klein-mini", "0" * 64, drawn, load_judge())
    assert all(pair["pixels"] < 0.01 for pair in entry["pairs"])
    assert np.abs(drawn[0].astype(int) - drawn[2]).mean() > 1


def test_a_record_survives_its_file(behaviour, tmp_path):
    write_behaviour(tmp_path / "behaviour.json", behaviour)
    assert read_behaviour(tmp_path / "behaviour.json") == behaviour
    lines = (tmp_path / "behaviour.json").read_text().splitlines()
    assert sum('"pixels"' in line for line in lines) == 8 and max(map(len, lines)) < 400


@pytest.mark.parametrize(
    "spoil, named",
    [
        (lambda b: b.pop("models"), "models"),
        (lambda b: b.update(sets={}), "sets"),
        (lambda b: b.update(more=1), "more"),
        (lambda b: b["sets"][0].update(label="true"), "label"),
        (lambda b: b["sets"][0].update(label="has it not"), "colour of klein-mini"),
        (lambda b: b["sets"][0].update(pairs=[]), "colour of klein-mini"),
        (lambda b: b["sets"][0]["pairs"][0].update(pixels=None), "pixels"),
        (lambda b: b["sets"][0]["pairs"][0].update(pixels=float("nan")), "pixels"),
        (lambda b: b["sets"][0]["pairs"][0].pop("meant"), "meant"),
        (lambda b: b["sets"].append(b["sets"][0]), "twice"),
        (lambda b: b["sets"].clear(), "klein-mini"),
    ],
)
def test_labels_of_a_faulty_record_are_refused(behaviour, spoil, named):
    spoilt = json.loads(json.dumps(behaviour))
    spoil(spoilt)
    with pytest.raises(ProbeError) as caught:
        labels(spoilt)
    assert named in str(caught.value) and "expected" in str(caught.value)


def test_labels_of_a_model_that_was_not_looked_at_are_refused(behaviour):
    with pytest.raises(ProbeError, match="'klein-tiny'; expected one of klein-mini, klein-mini\\+arrow"):
        labels(behaviour, "klein-tiny")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"sets": []}'])
def test_a_file_that_is_no_record_is_refused(tmp_path, content):
    file = tmp_path / "behaviour.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ProbeError, match="behave"):
        read_behaviour(file)


def test_the_command_replaces_no_record_unasked(behaviour, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "record_behaviour", lambda sets, stimuli, device: behaviour)
    out = tmp_path / "kept.json"
    assert command.main(["behave", "--out", str(out)]) == 0 and read_behaviour(out) == behaviour
    out.write_text("kept")
    assert command.main(["behave", "--out", str(out)]) == 4 and out.read_text() == "kept"
    assert "--replace" in capsys.readouterr().err
    assert command.main(["behave", "--out", str(out), "--replace"]) == 0 and read_behaviour(out) == behaviour


def test_a_set_that_is_not_there_stops_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fixtures.klein_mini.truth.behaviour.load_model", None)
    assert command.main(["behave", "--stimuli", str(tmp_path), "--device", "cpu"]) == 4
    assert f"write` with seed {SEED}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_table_has_a_line_for_each_set_and_names_the_unclear(behaviour, tmp_path, capsys):
    lines = table(behaviour).splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    assert [(row[0], row[2]) for row in rows[:2]] == [("| `colour`", "has it"), ("| `noisy`", "has it not")]
    assert [row[0] for row in rows[2:]] == ["| `drawn_event`", "| `drawn_event`, klein-mini+arrow"]
    count = sum(entry["label"] == "has it" for entry in behaviour["sets"])
    assert f"4 rows: {count} has it, 1 has it not, 0 wording only, {3 - count} unclear." in lines[0]
    spoilt = json.loads(json.dumps(behaviour))
    entry = spoilt["sets"][0]
    entry["pairs"] = [{**pair, "pixels": 0.5, "b": pair["a"]} for pair in entry["pairs"]]
    entry["label"], entry["why"] = decide(entry["truth"], entry["pairs"])
    assert "- `colour`: 0 of 2 pairs change the picture" in table(spoilt)
    (tmp_path / "ground_truth").mkdir()
    write_behaviour(tmp_path / "ground_truth" / "behaviour.json", behaviour)
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{HEADING}\n\nOld.\n")
    assert command.main(["table", "--stimuli", str(tmp_path), "--page", str(page)]) == 0
    assert page.read_text() == f"# Page\n\n{HEADING}\n\n{table(behaviour)}"
    assert command.main(["table", "--stimuli", str(tmp_path)]) == 0 and capsys.readouterr().out == table(behaviour)


def test_a_page_without_its_heading_is_refused():
    with pytest.raises(ProbeError, match="What is drawn"):
        page_with("# Page\n", "table\n")
    assert page_with(PAGE.read_text(), "new\n").endswith(f"{HEADING}\n\nnew\n")


recorded = pytest.mark.skipif(not RECORD.exists(), reason="nothing was recorded")


@recorded
def test_the_record_is_of_the_sets_of_the_repository():
    behaviour, sets = read_behaviour(RECORD), list(truth_sets())
    found = {(entry["model"], entry["set"]): entry for entry in behaviour["sets"]}
    assert set(found) == {(model, truth.name) for truth in sets for model in truth.models}
    assert (behaviour["seed"], behaviour["noise_seed"]) == (SEED, NOISE_SEED)
    assert (behaviour["captions"], behaviour["copies"]) == (CAPTIONS, COPIES)
    for truth in sets:
        for model in truth.models:
            entry = found[model, truth.name]
            assert entry["sha256"] == file_sha256(file_of(truth, STIMULI)) and entry["truth"] == truth.spec["truth"]
            ids = [(truth.id_of(number), pair.template, pair.meant) for number, pair in enumerate(truth.pairs)]
            assert [(pair["id"], pair["template"], pair["meant"]) for pair in entry["pairs"]] == ids
    for model, weights in behaviour["models"].items():
        assert resolve_model(model, None, STIMULI).weights_sha256 == weights
    assert behaviour["judge_sha256"] == file_sha256(FILES / "judge.safetensors")


@recorded
def test_there_are_as_many_labels_of_each_kind_as_a_score_needs():
    found = list(labels(read_behaviour(RECORD)).values())
    assert {label: found.count(label) for label in get_args(Label)}["has it"] >= 16
    assert found.count("has it not") >= 16 and found.count("wording only") >= 5


@recorded
def test_the_page_shows_the_record():
    assert PAGE.read_text().endswith(f"\n{HEADING}\n\n{table(read_behaviour(RECORD))}")
