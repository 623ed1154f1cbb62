"""The ground truth: what the generators make, the files in the repository, and what stands in specifications."""

import re
from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from fixtures.__main__ import check
from fixtures.common.errors import ProbeError
from fixtures.klein_mini.architecture import chat
from fixtures.klein_mini.recipe import HELD_OUT, RESOLUTION, TEXT_LENGTH
from fixtures.klein_mini.truth.__main__ import main
from fixtures.klein_mini.truth.files import STIMULI, file_of, load_set, picture_files, text_of, write_set
from fixtures.klein_mini.truth.pairs import PAIRS, distinct
from fixtures.klein_mini.truth.pictures import ALTERATIONS, Picture
from fixtures.klein_mini.truth.sets import EVERY, SEED, truth_sets
from fixtures.klein_mini.truth.specs import FILE, read_specs
from fixtures.klein_mini.world.captions import FIXED_PROMPT, mend
from fixtures.klein_mini.world.scene import render
from fixtures.models.embedded import CHECKPOINTS

SHIPPED = {truth.name: truth for truth in truth_sets()}
PROMPTS = [truth for truth in SHIPPED.values() if not truth.is_drawn]
DRAWN = [truth for truth in SHIPPED.values() if truth.is_drawn]
TOKENIZER = Tokenizer.from_file(str(CHECKPOINTS / "klein-mini" / "tokenizer" / "tokenizer.json"))
SPEC = 'truth = "has it"\nabout = "One."\nweak_points = "None."\na = "a"\nb = "b"\n'


def members(truth):
    return list(chain.from_iterable((pair.a, pair.b) for pair in truth.pairs))


def named(sets):
    return pytest.mark.parametrize("truth", sets, ids=lambda truth: truth.name)


def test_there_are_as_many_sets_as_a_score_needs():
    counts = Counter(truth.spec["truth"] for truth in SHIPPED.values())
    assert counts["has it"] >= 16 and counts["has it not"] >= 16 and counts["wording only"] >= 5
    assert Counter(truth.spec.get("strength") for truth in SHIPPED.values())["weak"] >= 5
    assert {len(truth.pairs) for truth in SHIPPED.values()} == {PAIRS} == {25}
    assert all(("strength" in truth.spec) == (truth.spec["truth"] == "has it") for truth in SHIPPED.values())


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32))
def test_no_stimulus_of_a_set_comes_twice_whatever_the_seed(seed):
    for truth in truth_sets(seed, every=True):
        found = members(truth)
        assert len(set(found)) == len(found) == 2 * PAIRS, truth.name
        assert not {pair.subject.id for pair in truth.pairs} & set(HELD_OUT)
        assert all(re.fullmatch(r"[a-z0-9_]+", pair.template) for pair in truth.pairs)
        meant = [pair.meant for pair in truth.pairs]
        assert sum(meant) == (PAIRS // EVERY if "some" in truth.spec else PAIRS)


def test_a_seed_makes_the_same_sets_again_and_another_one_makes_other_pairs():
    assert {truth.name: truth for truth in truth_sets()} == SHIPPED
    for other in truth_sets(SEED + 1):
        assert other.seed == SEED + 1
        assert len(set(other.pairs) & set(SHIPPED[other.name].pairs)) <= 1  # of some hundred that a set can have


def test_a_set_does_not_depend_on_the_others():
    specs = read_specs()
    (alone,) = truth_sets(specs={"side": specs["side"]})
    assert alone == SHIPPED["side"]


def test_sets_that_are_not_shipped_come_on_top():
    every = [truth.name for truth in truth_sets(every=True)]
    assert list(SHIPPED) == [name for name in every if name in SHIPPED] and len(every) >= len(SHIPPED) + 8


@named(PROMPTS)
def test_captions_fit_and_their_articles_are_right(truth):
    for text in members(truth):
        assert len(TOKENIZER.encode(chat(text)).ids) <= TEXT_LENGTH, text
        assert "{" not in text and "  " not in text
        assert text == text.strip() and (text.upper() == text or mend(text) == text)


@named([truth for truth in PROMPTS if "states" in truth.spec])
def test_what_a_state_is_said_with_is_the_same_in_both_members(truth):
    for pair in truth.pairs:
        a, b = (text.rpartition(" on a ") for text in (pair.a, pair.b))
        assert a[2] == b[2] and a[0] != b[0]


@named([truth for truth in PROMPTS if truth.spec["truth"] == "has it not"])
def test_what_is_meant_to_change_nothing_says_where_the_light_is_from(truth):
    assert all("lit from" in text for text in members(truth))


@named([truth for truth in PROMPTS if "order" in truth.name])
def test_another_order_has_the_same_words(truth):
    for pair in truth.pairs:
        a, b = (re.findall(r"\w+", text) for text in (pair.a, pair.b))
        assert a != b and Counter(a) == Counter(b)


def test_one_wording_is_one_template_and_wordings_come_by_turns():
    for truth in SHIPPED.values():
        for way in ("patterns", "colours", "scenes", "altered"):
            if way in truth.spec:
                counts = Counter(pair.template for pair in truth.pairs)
                assert set(counts) == set(truth.spec[way]) and max(counts.values()) <= min(counts.values()) + 2
    several = [t.name for t in SHIPPED.values() if len({pair.template for pair in t.pairs if pair.meant}) > 1]
    assert {"side", "distance", "light_side", "several_words", "some_pose", "pose"} <= set(several)
    assert all(name in several for name, truth in SHIPPED.items() if truth.spec["truth"] == "has it")


def test_a_pair_in_five_is_of_the_concept_and_the_others_are_not():
    patterns = {*read_specs()["openings"]["patterns"]}
    for number, pair in enumerate(SHIPPED["some_pose"].pairs):
        assert pair.meant == (number % EVERY == 0) == (pair.subject.group == "pose" and pair.template not in patterns)


@named(DRAWN)
def test_two_pictures_differ_in_what_the_set_says(truth):
    ways = truth.spec.get("scenes", {})
    for pair in truth.pairs:
        a, b = vars(pair.a.scene), vars(pair.b.scene)
        changed = {key for key in a if a[key] != b[key]}
        if pair.a.alteration:
            assert not changed and pair.b.alteration is None
        else:
            assert changed == (set(ways[pair.template][0]) if ways else {"after"})


@pytest.mark.parametrize(
    "kind, amount, most", [("jpeg", 60, 8), ("noise", 1, 0.7), ("brighter", 1, 3), ("shift", 1, 9)]
)
def test_alterations_are_small_repeat_and_leave_the_drawing_as_it_was(kind, amount, most):
    drawing = render(SHIPPED["drawn_pose"].pairs[0].a.scene, RESOLUTION)
    before = drawing.copy()
    altered = ALTERATIONS[kind](drawing, amount)
    assert np.array_equal(altered, ALTERATIONS[kind](drawing, amount)) and np.array_equal(drawing, before)
    assert altered.shape == drawing.shape and altered.dtype == np.uint8
    assert 0 < np.abs(altered.astype(int) - drawing).mean() < most


def test_a_shift_moves_every_pixel_and_noise_keeps_its_bound():
    drawing = Picture(SHIPPED["shifted"].pairs[0].b.scene).pixels()
    assert np.array_equal(ALTERATIONS["shift"](drawing, 3)[:, 3:], drawing[:, :-3])
    noise = ALTERATIONS["noise"](drawing, 2).astype(int) - drawing
    assert set(np.unique(noise)) == {-2, -1, 0, 1, 2} and abs(noise.mean()) < 0.1


@named(SHIPPED.values())
def test_the_files_are_what_the_generator_makes(truth):
    stimuli = load_set(truth, STIMULI)  # compares the text
    assert [pair.id for pair in stimuli.pairs] == [truth.id_of(number) for number in range(PAIRS)]
    assert file_of(truth, STIMULI).read_bytes() == text_of(truth, STIMULI).encode()
    if truth.is_drawn:
        assert stimuli.prompt == FIXED_PROMPT
        for file, picture in picture_files(truth, STIMULI).items():
            with Image.open(file) as image:
                assert np.array_equal(np.asarray(image), picture.pixels()), file
    else:
        assert [m.prompt for _, _, m in stimuli.members()] == members(truth)


def test_there_are_no_other_files_and_they_are_small():
    folder, pictures = STIMULI / "ground_truth", STIMULI / "rendered" / "ground_truth"
    assert {file.stem for file in folder.glob("*.toml")} == set(SHIPPED)
    expected = set(chain.from_iterable(picture_files(truth, STIMULI) for truth in DRAWN))
    found = {file for file in pictures.rglob("*") if file.is_file()}
    assert found == expected and sum(file.stat().st_size for file in found) < 5e6


def test_the_suite_reads_none_of_them_unasked(capsys):
    """Probe files of the drawn world name theirs, others a file of stimuli/ itself; so does the checker."""
    assert not {file.stem for file in STIMULI.glob("*.toml")} & set(SHIPPED)
    probes = (STIMULI.parent / "probes").glob("*.py")
    asking = {file.stem for file in probes if "ground_truth/" in file.read_text()}
    assert all(name.startswith("test_drawn_world_") for name in asking) and len(asking) == 5


def test_the_checker_reads_all_of_them(capsys):
    check(sorted((STIMULI / "ground_truth").glob("*.toml")))
    shown, errors = capsys.readouterr()
    assert not errors and all(re.search(rf"^{name} ", shown, re.MULTILINE) for name in SHIPPED)


def test_write_makes_the_same_bytes_again(tmp_path):
    truth = replace(SHIPPED["shifted"], pairs=SHIPPED["shifted"].pairs[:2])
    write_set(truth, tmp_path)
    first = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    write_set(truth, tmp_path)
    assert len(first) == 5 and {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == first


@pytest.mark.parametrize("options", [["--seed", "2"], ["--all"]])
def test_other_sets_are_not_written_over_those_of_the_repository(options, capsys):
    assert main(["write", *options]) == 4
    assert "--stimuli DIR" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", ["text", "picture", "no picture", "no file"])
def test_a_set_that_is_not_what_the_generator_makes_is_refused(tmp_path, spoil):
    truth = replace(SHIPPED["noisy"], pairs=SHIPPED["noisy"].pairs[:2])
    write_set(truth, tmp_path)
    file, picture = file_of(truth, tmp_path), next(iter(picture_files(truth, tmp_path)))
    if spoil == "text":
        file.write_text(file.read_text().replace("as drawn", "as it is"))
    elif spoil == "picture":
        Image.fromarray(np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8)).save(picture)
    else:
        (picture if spoil == "no picture" else file).unlink()
    with pytest.raises(ProbeError, match="noisy.toml") as caught:
        load_set(truth, tmp_path)
    assert "xpected" in str(caught.value)


@pytest.mark.parametrize(
    "text, named",
    [
        (SPEC, "nothing"),
        (SPEC + 'states = ["pose"]\nreworded = ["pose"]\n', "one of"),
        (SPEC + 'states = "pose"\n', "states"),
        (SPEC + 'state = ["pose"]\n', "state"),
        (SPEC + 'states = ["poses"]\n', "poses"),
        (SPEC + 'states = ["neutral"]\n', "neutral"),
        (SPEC + "states = []\n", "states"),
        (SPEC + 'some = ["x", "y"]\n', "'x'"),
        (SPEC + 'some = ["one"]\n', "some"),
        (SPEC + 'some = ["one", "one"]\n', "'one'"),
        (SPEC + 'patterns = { p = ["{scene}, left"] }\n', "patterns, p"),
        (SPEC + 'patterns = { p = ["{scene}, left", "{scene}, left"] }\n', "patterns, p"),
        (SPEC + 'patterns = { p = ["{scene}, left", "{colour}"] }\n', "colour"),
        (SPEC + 'patterns = { p = ["{scene}, left", "{scene"] }\n', "patterns, p"),
        (SPEC + 'patterns = { P = ["{scene}, left", "{scene}"] }\n', "patterns, P"),
        (SPEC + 'patterns = { p = ["left", "right"] }\n', "names nothing"),
        (SPEC + 'patterns = { p = ["{light}", "{light}."] }\n', "differ"),
        (SPEC + "patterns = {}\n", "patterns"),
        (SPEC + 'colours = { c = ["red", "mauve"] }\n', "mauve"),
        (SPEC + "scenes = { s = [{ place = 3.0 }, { place = 4.0 }] }\n", "place"),
        (SPEC + 'scenes = { s = [{ wall = "brick" }, { wall = "pink" }] }\n', "brick"),
        (SPEC + "altered = { a = { blur = 1 } }\n", "blur"),
        (SPEC + "altered = { a = {} }\n", "altered, a"),
        (SPEC + 'altered = { a = { jpeg = 90 } }\nsurfaces = ["moon"]\n', "moon"),
        (SPEC.replace("has it", "maybe") + 'states = ["pose"]\n', "truth"),
        (SPEC.replace("about", "on") + 'states = ["pose"]\n', "about"),
    ],
)
def test_a_faulty_specification_is_named(tmp_path, text, named):
    file = tmp_path / "sets.toml"
    file.write_text(f"[one]\n{text}")
    with pytest.raises(ProbeError) as caught:
        list(truth_sets(specs=read_specs(file)))
    assert named in str(caught.value) and "one" in str(caught.value)


def test_all_sets_of_the_file_are_read_in_its_order():
    assert list(read_specs()) == re.findall(r"^\[(\w+)\]$", FILE.read_text(), re.MULTILINE)


def test_too_few_pairs_that_differ_are_an_error():
    pair = SHIPPED["side"].pairs[0]
    with pytest.raises(ProbeError, match="toy: 1 pairs that differ; expected 25"):
        distinct(iter([pair] * 30), "toy")
