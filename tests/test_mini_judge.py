import json
import shutil
from random import Random

import numpy as np
import pytest
import torch

from fixtures.klein_mini.judge import CLASSES, NAMES, disturbed, draw_labelled, load_judge, train_judge
from fixtures.klein_mini.world.scene import render, sample_scene
from fixtures.klein_mini.world.subject import COLOURS
from fixtures.klein_mini.world.subjects import SUBJECTS
from fixtures.models.judge import FILES, Opinion


@pytest.fixture(scope="module")
def judge():
    return load_judge()


@pytest.fixture(scope="module")
def labelled():
    """200 drawings that the judge has not seen, with their classes and colours."""
    return draw_labelled(200, 20_260_101, 2)


def right(opinions, labels) -> float:
    return np.mean([(o.subject, o.after) == CLASSES[label] for o, label in zip(opinions, labels, strict=True)])


def test_the_judge_knows_fresh_drawings(judge, labelled):
    images, states, colours = labelled
    opinions = judge.look(images)
    assert right(opinions, states) >= 0.98
    assert np.mean([o.colour == NAMES[label] for o, label in zip(opinions, colours, strict=True)]) >= 0.95


def test_the_judge_bears_soft_and_noisy_images(judge, labelled):
    images, states, _ = labelled
    torch.manual_seed(0)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    rough = ((disturbed(pixels).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert not np.array_equal(rough, images)
    assert right(judge.look(rough), states) >= 0.95


def test_every_state_of_every_subject_is_recognised(judge):
    """In one of two drawings at least, so that no class is lost in the total."""
    images = [render(sample_scene(Random(f"{i}{seed}"), SUBJECTS[i], after)) for i, after in CLASSES for seed in (1, 2)]
    opinions = judge.look(np.stack(images))
    lost = [c for k, c in enumerate(CLASSES) if c not in [(o.subject, o.after) for o in opinions[2 * k : 2 * k + 2]]]
    assert not lost


def test_opinions_are_about_the_world(judge, labelled):
    for opinion in judge.look(labelled[0][:70]):
        assert isinstance(opinion, Opinion)
        assert type(opinion.after) is bool and opinion.after in SUBJECTS[opinion.subject].states
        assert opinion.colour in COLOURS


def test_opinions_do_not_depend_on_what_else_is_in_the_list(judge, labelled):
    images = labelled[0][:70]  # two batches
    assert judge.look(images) == [judge.look(images[i : i + 1])[0] for i in range(70)]


def test_the_size_of_an_image_hardly_matters(judge):
    scenes = [sample_scene(Random(seed), subject) for seed, subject in enumerate(list(SUBJECTS.values())[:24])]
    opinions = [judge.look(np.stack([render(scene, side) for scene in scenes])) for side in (64, 128, 256)]
    for other in (opinions[0], opinions[2]):
        assert sum(a == b for a, b in zip(opinions[1], other, strict=True)) >= 22


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(FILES, tmp_path / "judge")


@pytest.mark.parametrize("change", ["fewer", "another", "order"])
def test_a_judge_of_another_world_is_refused(copied, change):
    about = json.loads((copied / "judge.json").read_text())
    assert load_judge(copied)
    classes = about["classes"]
    about["classes"] = {
        "fewer": classes[:-1],
        "another": [*classes[:-1], ["a_new_subject", True]],
        "order": classes[::-1],
    }[change]
    (copied / "judge.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="trained on another set of subjects; train it again"):
        load_judge(copied)


def test_labelled_drawings_are_the_same_however_many_draw_them(monkeypatch):
    monkeypatch.setattr("fixtures.klein_mini.pictures.CHUNK", 4)
    one, two = (draw_labelled(17, 3, workers) for workers in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert len(np.unique(one[1])) > 10


def test_a_judge_can_be_trained(tmp_path):
    accuracies = train_judge(tmp_path / "judge", pictures=60, steps=3, batch=4, workers=2)
    assert set(accuracies) == {"pictures", "state", "colour"} and accuracies["pictures"] == 100
    assert 0 <= accuracies["state"] < 0.5  # three steps teach nothing
    assert len(load_judge(tmp_path / "judge").look(np.zeros((2, 128, 128, 3), np.uint8))) == 2
