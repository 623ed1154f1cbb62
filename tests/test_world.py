import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_words import ALL, describes, plain, scenes, seeds

from fixtures.klein_mini.world.captions import COPY, FIXED_PROMPT, caption, change, copy, polish, subject_words
from fixtures.klein_mini.world.scene import render, sample_scene, scene_from_record, scene_record
from fixtures.klein_mini.world.subject import COLOURS, EVENTS, GROUPS
from fixtures.klein_mini.world.subjects import SUBJECTS

ROOT = Path(__file__).parents[1]
ARROW = tomllib.loads((ROOT / "stimuli" / "arrow_of_time.toml").read_text())
TWO_STATES = [subject for subject in ALL if len(subject.states) == 2]
# a colour that is no attribute: nothing that it could belong to comes after it
NEEDED = re.compile(
    r"\{c\}($|,| (a|alone|and|below|in|leaping|lying|of|on|running fast|standing|under|who|whom|with)\b)", re.ASCII
)
EXAMPLES = settings(max_examples=40, deadline=None)

by_id = pytest.mark.parametrize("subject", ALL, ids=lambda subject: subject.id)
two_states_by_id = pytest.mark.parametrize("subject", TWO_STATES, ids=lambda subject: subject.id)


# Pictures


DIGESTS = """
import hashlib, json, random, sys
from fixtures.klein_mini.world.subjects import SUBJECTS
from fixtures.klein_mini.world.scene import render, sample_scene

scenes = [sample_scene(random.Random(id), SUBJECTS[id], SUBJECTS[id].states[-1]) for id in json.loads(sys.argv[1])]
print(json.dumps({scene.subject.id: hashlib.sha256(render(scene).tobytes()).hexdigest() for scene in scenes}))
"""


def test_pictures_do_not_depend_on_process_or_order():
    drawn = []
    for order, hash_seed in ((list(SUBJECTS), "1"), (list(reversed(SUBJECTS)), "2")):
        command = [sys.executable, "-c", DIGESTS, json.dumps(order)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        drawn.append(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    assert json.loads(drawn[0]) == json.loads(drawn[1])
    scene = sample_scene(Random("broken_glass"), SUBJECTS["broken_glass"], True)
    assert json.loads(drawn[0])["broken_glass"] == hashlib.sha256(render(scene).tobytes()).hexdigest()


@EXAMPLES
@given(scene=scenes(), units=st.integers(1, 20))
def test_a_scene_can_be_drawn_at_any_multiple_of_16(scene, units):
    side = 16 * units
    picture = render(scene, side)
    assert picture.shape == (side, side, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, render(scene, side))
    assert picture.std() > 5  # not blank


@EXAMPLES
@given(scene=scenes())
def test_a_finer_picture_shows_the_same(scene):
    fine = render(scene, 256).reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    difference = np.abs(fine - render(scene))
    assert difference.mean() < 3
    assert (difference.max(axis=-1) > 40).mean() < 0.03


@EXAMPLES
@given(scene=scenes(), after=st.booleans())
def test_the_other_state_is_the_same_scene(scene, after):
    other = scene.in_state(after)
    assert other.after is after
    assert replace(other, after=scene.after) == scene


@EXAMPLES
@given(scene=scenes())
def test_a_scene_survives_json(scene):
    restored = scene_from_record(json.loads(json.dumps(scene_record(scene))), SUBJECTS)
    assert restored == scene
    assert np.array_equal(render(restored, 64), render(scene, 64))


@two_states_by_id
def test_the_states_differ_visibly_and_only_within_the_subject(subject):
    """Only in its frame (wide of 40 units to both sides, 75 up and 12 down), and there in more than 1% of the scene."""
    for seed in range(4):
        scene = sample_scene(Random(seed), subject)
        pictures = [render(scene.in_state(after)).astype(int) for after in (False, True)]
        difference = np.abs(pictures[0] - pictures[1]).max(axis=-1)
        rows, columns = np.nonzero(difference)
        x, y = (columns + 0.5 - scene.x) / scene.scale, (rows + 0.5 - scene.y) / scene.scale
        assert x.max() < 51 and y.max() < 21
        if subject.id != "scale_sphere":  # its giant pencil comes in from outside the picture, at the upper left
            assert -51 < x.min() and -86 < y.min()
        assert (difference > 24).sum() > 200


@pytest.mark.parametrize("subject", [s for s in ALL if s.group == "neutral"], ids=lambda subject: subject.id)
def test_nothing_happens_to_a_neutral_subject(subject):
    assert subject.states == (False,) and not (subject.to_after or subject.to_before)
    scene = sample_scene(Random(3), subject)
    assert np.array_equal(render(scene), render(scene.in_state(True)))


@by_id
def test_its_colour_shows(subject):
    for after in subject.states:
        scene = sample_scene(Random(5), subject, after, colour="red")
        repainted = render(replace(scene, colour="blue")).astype(int)
        assert (np.abs(render(scene) - repainted).max(axis=-1) > 24).sum() > 60


# Subjects


def test_every_published_event_has_its_subject():
    published = {subject.id for subject in ALL if subject.group == "published"}
    assert published == {pair["id"] for pair in ARROW["pairs"]}


def test_there_are_enough_subjects_of_other_groups():
    counts = {group: sum(subject.group == group for subject in ALL) for group in GROUPS}
    assert sum(counts.values()) == len(ALL)
    assert counts["further"] >= 10 and counts["neutral"] >= 10 and min(counts.values()) >= 2


@by_id
def test_colours_are_known_and_the_held_out_one_is_apart(subject):
    assert set(subject.colours) <= set(COLOURS)
    assert subject.held_out_colour not in subject.colours[:-1]
    assert len(set(subject.colours)) == len(subject.colours) >= 4


@by_id
def test_wordings_name_the_colour_once_and_differ(subject):
    for wording in (*subject.before, *subject.after):
        assert wording.count("{c}") == 1 and not re.search(r"[{}]", wording.replace("{c}", ""))
    for wording in (*subject.to_after, *subject.to_before):
        assert not re.search(r"[{}]", wording)
    for texts in (subject.before + subject.after, subject.to_after + subject.to_before):
        assert len({plain(text) for text in texts}) == len(texts)
    if len(subject.states) == 2:
        assert min(map(len, (subject.before, subject.after))) >= 4
        assert min(map(len, (subject.to_after, subject.to_before))) >= 1


@two_states_by_id
def test_no_word_marks_a_state_of_a_subject(subject):
    """No word runs through all wordings of one state and through none of the other."""
    before, after = (
        [set(re.findall(r"[^\s,]+", wording)) for wording in wordings] for wordings in (subject.before, subject.after)
    )
    assert set.intersection(*before) <= set.union(*after)
    assert set.intersection(*after) <= set.union(*before)


@pytest.mark.xfail(strict=True, reason="known flaw of the captions that klein-mini was trained on")
def test_a_text_keeps_a_colour_that_it_cannot_do_without():
    """One text in ten leaves the colour out, but not from "dressed in {c}" or "a {c} and white ball"."""
    mutilated = set()
    for subject in ALL:
        for seed in range(300):
            scene = sample_scene(Random(seed), subject, subject.states[seed % len(subject.states)])
            words = subject_words(scene, Random(seed))
            for wording in (*subject.before, *subject.after):
                if NEEDED.search(wording) and plain(words) == plain(wording.replace("{c}", "")):
                    mutilated.add(words)
    assert not mutilated


# Words


@pytest.mark.parametrize(
    ("rough", "polished"),
    [
        ("a upright cup", "an upright cup"),
        ("an used cup", "a used cup"),
        ("a orange", "an orange"),
        ("an  red", "a red"),
        ("A egg", "An egg"),
        ("An ball", "A ball"),
        ("a unbroken   glass", "an unbroken glass"),
        ("a used egg on a old table", "a used egg on an old table"),
        (" a  balloon , an red background ", "a balloon, a red background"),
        ("pizza on an plate", "pizza on a plate"),
    ],
)
def test_spaces_and_articles_are_mended(rough, polished):
    made = {polish(rough, Random(seed)) for seed in range(40)}
    capital = polished[0].upper() + polished[1:]
    assert made == {polished, polished + ".", capital, capital + "."}


@given(
    words=st.lists(
        st.sampled_from(["a", "an", "A", "An", ",", "  ", "used", "upright", "orange", "red", "egg", "pizza"]),
        min_size=1,
    ).filter(lambda words: any(word.strip() not in ("", ",") for word in words)),
    seed=seeds,
)
def test_polish_has_nothing_left_to_mend(words, seed):
    def fold(text):
        text = text.removesuffix(".")
        return text[0].lower() + text[1:]

    once = polish(" ".join(words), Random(seed))
    assert "  " not in once and " ," not in once and once == once.strip()
    assert fold(polish(fold(once), Random(seed + 1))) == fold(once)


def requests(scene, seed):
    return [write(scene, Random(seed)) for write in (caption, change, copy)]


@settings(max_examples=400, deadline=None)
@given(scene=scenes(), seed=seeds)
def test_texts_are_clean(scene, seed):
    for text in requests(scene, seed):
        assert not re.search(r"[{}]|\s\s|\s,|,,|,\.|\.\.|^\W|[^\w.]$", text), text
        assert not re.search(r"\b[Aa] [aeio]\w|\b[Aa] u(?!sed|ni)|\b[Aa]n ([^aeiou]|used|uni)", text), text


@settings(max_examples=300, deadline=None)
@given(scene=scenes(), seed=seeds)
def test_a_caption_says_what_is_true_of_its_scene_and_nothing_else(scene, seed):
    text = caption(scene, Random(seed))
    assert describes(text, scene), text
    if len(scene.subject.states) == 2:
        assert not describes(text, scene.in_state(not scene.after)), text


def test_texts_name_the_colour_of_their_scene_about_nine_times_in_ten():
    named = []
    for subject in ALL:
        for seed in range(40):
            colour = subject.colours[seed % len(subject.colours)]
            scene = sample_scene(Random(seed), subject, subject.states[seed % len(subject.states)], colour)
            named.append(
                f" {colour} " in f" {plain(subject_words(scene, Random(subject.id + str(seed)))).replace(',', ' ')} "
            )
    assert 0.85 < np.mean(named) < 0.97


@settings(max_examples=200, deadline=None)
@given(scene=scenes(), seed=seeds)
def test_a_request_to_copy_names_no_change(scene, seed):
    text = copy(scene, Random(seed))
    assert text in COPY or describes(text, scene)


@settings(max_examples=200, deadline=None)
@given(scene=scenes([subject for subject in ALL if subject.group in EVENTS]), seed=seeds)
def test_a_request_for_a_state_does_not_ask_for_the_other(scene, seed):
    """Its words are among those for this state only: an instruction, a wording, or the event's before or after."""
    asked, other = (plain(change(state, Random(seed))) for state in (scene, scene.in_state(not scene.after)))
    assert asked != other
    instructions = map(plain, scene.subject.to_before if scene.after else scene.subject.to_after)
    assert asked not in list(instructions)
    if " the event" in asked:
        assert f"{'after' if scene.after else 'before'} the event" in asked


def test_the_fixed_prompt_is_that_of_the_probe_and_asks_for_a_copy():
    assert FIXED_PROMPT == ARROW["prompt"]
    scene = sample_scene(Random(0), SUBJECTS["broken_glass"])
    texts = [copy(scene, Random(seed)) for seed in range(200)]
    assert texts.count(FIXED_PROMPT) > 20
    assert FIXED_PROMPT not in [change(scene, Random(seed)) for seed in range(200)]
