"""Words of the drawn world as files: each mistake is an error that names the file and the entry."""

import re
import tomllib
from pathlib import Path

import pytest

from fixtures.common.errors import ProbeError
from fixtures.klein_mini.world import captions
from fixtures.klein_mini.world.scene import SURFACES
from fixtures.klein_mini.world.subjects import DRAWINGS, SUBJECTS, WORDS
from fixtures.klein_mini.world.word_files import read_phrases, read_subjects

GLASS = """[glass]
group = "published"
colours = ["red", "blue"]
before = ["a whole {c} glass"]
after = ["a broken {c} glass"]
to_after = ["break the glass"]
to_before = ["mend the glass"]
"""
BALL = '[ball]\ngroup = "neutral"\ncolours = ["red", "blue"]\nbefore = ["a {c} ball"]\n'
DRAWN = {"toys": dict.fromkeys(("glass", "ball"), print)}
PHRASES = (Path(captions.__file__).with_name("phrases.toml")).read_text(encoding="utf-8")


def written(folder, text, name="toys.toml"):
    (folder / name).write_text(text)
    return folder


def test_drawings_and_words_meet_in_the_order_of_the_file(tmp_path):
    found = read_subjects(written(tmp_path, BALL + GLASS), DRAWN)
    assert list(found) == ["ball", "glass"] and found["glass"].draw is print
    assert found["glass"].to_before == ("mend the glass",) and found["glass"].states == (False, True)
    assert found["ball"].states == (False,) and found["ball"].held_out_colour == "blue"


def test_the_shipped_words_are_those_of_the_shipped_drawings():
    tables = {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in WORDS.iterdir()}
    assert {name: list(table) for name, table in tables.items()} == {name: list(DRAWINGS[name]) for name in DRAWINGS}
    assert list(SUBJECTS) == [subject for drawn in DRAWINGS.values() for subject in drawn]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[ball]", "[bell]", "bell: words without a drawing"),
        (BALL, "", "ball: a drawing without words"),
        (BALL, "ball = 3\n", "ball: is 3; expected a table"),
        ('group = "neutral"\n', "", "ball: no key 'group'"),
        ('to_after = ["break the glass"]\n', "", "glass: no key 'to_after'"),
        ('after = ["a', 'afterwards = ["a', "glass: unknown key 'afterwards'"),
        ('before = ["a {c} ball"]\n', 'before = ["a {c} ball"]\nafter = ["a {c} bill"]\n', "ball: unknown key 'after'"),
        ('"published"', '"public"', "glass, group: is 'public'; expected one of published"),
        ('"blue"', '"bleu"', "colours: holds 'bleu'; expected some of red"),
        ('["red", "blue"]', '"red"', "colours: is 'red'; expected a list of texts"),
        ('["a {c} ball"]', "[]", "ball, before: is []; expected a list of texts, at least one"),
        ('["a {c} ball"]', "[3]", "ball, before: is [3]; expected a list of texts"),
        ("a {c} ball", "a red ball", "ball, before: 'a red ball'; expected {c} once"),
        ("broken {c}", "{c} broken {c}", "glass, after: 'a {c} broken {c} glass'; expected {c} once"),
        ("[glass]", "[glass", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_entry(tmp_path, old, new, message):
    text = BALL + GLASS
    assert old in text
    with pytest.raises(ProbeError, match=f"{re.escape(str(tmp_path / 'toys.toml'))}.*{re.escape(message)}"):
        read_subjects(written(tmp_path, text.replace(old, new)), DRAWN)


def test_files_and_modules_of_drawings_match(tmp_path):
    with pytest.raises(ProbeError, match="toys.toml: no such file; expected the words for glass, ball"):
        read_subjects(tmp_path, DRAWN)
    written(tmp_path, BALL + GLASS)
    with pytest.raises(ProbeError, match="more.toml: words without drawings"):
        read_subjects(written(tmp_path, BALL, "more.toml"), DRAWN)
    with pytest.raises(ProbeError, match="more.toml, ball: the id is taken"):
        read_subjects(tmp_path, DRAWN | {"more": {"ball": print}})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("styles = ", "style = ", "unknown key 'style'"),
        ('fixed_prompt = "', 'fixed_prompt = 3 # "', "expected fixed_prompt as a text"),
        ('"red carpet" = ', '"red rug" = ', "places: unknown key 'red rug'"),
        ('"red carpet" = [', '"red carpet" = [1, ', "places, red carpet: is .*; expected a list of texts"),
        ("copy = [", "copy = [1,", "copy: is .*; expected a list of texts"),
    ],
)
def test_a_mistake_in_phrases_is_named(tmp_path, old, new, message):
    assert old in PHRASES
    file = tmp_path / "phrases.toml"
    file.write_text(PHRASES.replace(old, new))
    with pytest.raises(ProbeError, match=f"phrases.toml.*{message}"):
        read_phrases(file, tuple(SURFACES))


def test_a_surface_without_words_is_named(tmp_path):
    file = tmp_path / "phrases.toml"
    file.write_text(PHRASES)
    with pytest.raises(ProbeError, match="places: no key 'ice'"):
        read_phrases(file, (*SURFACES, "ice"))
