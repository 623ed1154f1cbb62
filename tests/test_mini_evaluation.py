"""The frozen evaluation of klein-mini, its result, and the card that shows it."""

import json
from random import Random

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline

from fixtures.klein_mini.card import arrow_card, model_card
from fixtures.klein_mini.card_tables import percent, task_rows
from fixtures.klein_mini.evaluate import (
    MODEL,
    STEPS,
    Question,
    answer,
    drawing,
    figures,
    freeze,
    frozen_questions,
    write_questions,
)
from fixtures.klein_mini.judge import CLASSES, NAMES, load_judge
from fixtures.klein_mini.recipe import HELD_OUT, RESOLUTION, UNSEEN
from fixtures.klein_mini.world.scene import sample_scene, scene_from_record, scene_record
from fixtures.klein_mini.world.subjects import SUBJECTS
from fixtures.models.checkpoint import fingerprint
from fixtures.models.judge import Opinion

ASKED, SHA256 = frozen_questions()
RESULT = json.loads((MODEL / "evaluation.json").read_text())
ARROW = MODEL.with_name("klein-mini+arrow")


def images_per_task() -> dict[str, int]:
    tasks = [question.task for question in ASKED]
    return {task: tasks.count(task) for task in tasks}


def was_trained_on(subject: str, after: bool) -> bool:
    return subject not in (HELD_OUT if after else UNSEEN)


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_a_scene_survives_its_record(subject):
    scene = sample_scene(Random(3), subject, subject.states[-1])
    assert scene_from_record(json.loads(json.dumps(scene_record(scene))), SUBJECTS) == scene


def test_what_is_frozen_is_what_is_read(tmp_path):
    freeze(tmp_path / "set.json")
    assert frozen_questions(tmp_path / "set.json")[0] == write_questions()


def test_the_frozen_set_asks_for_every_state_and_the_judge_knows_all_of_them():
    assert set(images_per_task()) == {question.task for question in write_questions()}
    for question in ASKED:
        assert (question.expected.subject, question.expected.after) in CLASSES
        assert question.expected.colour in NAMES
    for task in ("caption", "copy"):
        asked = {(q.expected.subject, q.expected.after) for q in ASKED if q.task.startswith(task)}
        assert asked == set(CLASSES)


def test_what_training_left_out_is_asked_for_in_held_out_tasks_and_copies_alone():
    for question in ASKED:
        expected = question.expected
        new = not was_trained_on(expected.subject, expected.after)
        if question.task.startswith("caption"):
            assert new == ("held-out" in question.task)
        elif question.task.startswith("edit"):
            assert (expected.subject in HELD_OUT) == ("held-out" in question.task)
        elif question.task == "held-out colour":
            assert not new and expected.colour == SUBJECTS[expected.subject].held_out_colour
        else:
            assert question.task == "copy, one step"


def test_only_the_task_of_held_out_colours_asks_for_one():
    for question in ASKED:
        held_out = SUBJECTS[question.expected.subject].held_out_colour
        assert (question.expected.colour == held_out) == (question.task == "held-out colour")


def test_figures_agree_with_counting_by_hand():
    right = Opinion("ball", False, "red")
    asked = [Question(task, "", 0, right) for task in ("one", "one", "one", "one", "two")]
    seen = [
        right,
        Opinion("ball", True, "red"),
        Opinion("ball", False, "blue"),
        Opinion("key", False, "red"),
        Opinion("key", True, "blue"),
    ]
    assert figures(asked, seen) == {
        "one": {"images": 4, "subject": 0.75, "state": 0.5, "colour": 0.75},
        "two": {"images": 1, "subject": 0.0, "state": 0.0, "colour": 0.0},
    }


def test_the_pipeline_answers_captions_and_edits_and_its_copy_is_right():
    captions = [q for q in ASKED if q.task == "caption, neutral"][:2]
    edits = [next(q for q in ASKED if q.task == task) for task in ("copy, one step", "edit forward")]
    pipeline = Flux2KleinPipeline.from_pretrained(MODEL, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    images = answer(pipeline, captions + edits)
    assert images.shape == (4, RESOLUTION, RESOLUTION, 3) and images.dtype == np.uint8
    copied, drawn = images[2].astype(float), drawing(edits[0]).astype(float)
    assert np.abs(copied - drawn).mean() < 10
    assert load_judge().look(images)[2] == edits[0].expected


def test_the_result_is_of_these_questions_and_these_weights():
    assert RESULT["questions_sha256"] == SHA256
    assert RESULT["weights_sha256"] == fingerprint(MODEL)[1]
    assert RESULT["settings"]["steps"] == STEPS
    for table in ("tasks", "drawings"):
        assert {task: row["images"] for task, row in RESULT[table].items()} == images_per_task()


def test_the_list_of_what_was_missed_agrees_with_the_figures():
    for task, row in RESULT["tasks"].items():
        missed = [entry for entry in RESULT["missed"] if entry["task"] == task]
        assert row["state"] == pytest.approx(1 - len(missed) / row["images"], abs=1e-4)


@pytest.mark.parametrize("folder, write", [(MODEL, model_card), (ARROW, arrow_card)], ids=["klein-mini", "arrow"])
def test_the_card_is_what_the_command_writes(folder, write):
    assert (folder / "README.md").read_text(encoding="utf-8").strip() == write(folder).strip()


def test_the_card_shows_the_result():
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    assert task_rows(RESULT) in card
    for task, row in RESULT["tasks"].items():
        assert f"| {task} | {row['images']} | {percent(row['subject'])} | {percent(row['state'])} |" in card
