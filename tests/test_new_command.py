"""``python -m fixtures new``: one command from a table to a probe that runs; all files or none."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import toy_project
from toy_project import run

import fixtures.claims.new_hypothesis as new_hypothesis
from fixtures import __main__ as commands
from fixtures.claims.ladder import CONTROLS
from fixtures.session.new_command import ADVISED
from fixtures.stimuli.sets import load_stimuli

pytest_plugins = "pytester"
PAIRS = [
    {"a": f"a cat sits on the mat {n}", "b": f"seven unrelated long words about machinery {n}", "template": f"t{n % 3}"}
    for n in range(10)
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project of its own, and a table in the working directory."""
    folder = tmp_path / "root"
    for name in ("stimuli", "probes"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setattr(commands, "ROOT", folder)
    monkeypatch.chdir(tmp_path)
    save(PAIRS)
    return folder


def save(rows, file="pairs.csv"):
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def new(*more, name="gravity"):
    return commands.main(["new", name, "--pairs", "pairs.csv", "--a", "falling", "--b", "resting", *more])


def files(root):
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def test_one_command_writes_both_files_checks_the_wording_and_says_what_is_next(root, capsys):
    assert new() == 0
    assert files(root) == ["probes/test_gravity.py", "stimuli/gravity.toml"]
    assert len(load_stimuli(root / "stimuli/gravity.toml").pairs) == 10
    shown = capsys.readouterr().out
    assert "problem: pairs, giveaway word" in shown and "note: set, placebo: there is none" in shown
    assert f"pairs:   10, enough for a verdict; {ADVISED} are advised" in shown
    assert "lacks:   rung 3, placebo" in shown and "lacks:   rung 8" not in shown
    assert "next:    pytest probes/test_gravity.py\n" in shown


@pytest.mark.parametrize(
    ("count", "words"),
    [(7, "lacks:   7 pairs; a verdict needs at least 8"), (26, "pairs:   26; beyond 25 the null is a Monte Carlo one")],
)
def test_what_a_set_lacks_is_said(root, capsys, count, words):
    save([{"a": f"a cat {n}", "b": f"a dog {n}"} for n in range(count)])
    assert new() == 0
    shown = capsys.readouterr().out
    assert words in shown and "lacks:   rung 8, other wordings: 1 of the contrast, at least 3 are needed" in shown


@pytest.mark.parametrize(
    ("there", "content"),
    [
        ("stimuli/gravity.toml", "x"),
        ("probes/test_gravity.py", "x"),
        ("stimuli/rendered/gravity/x.png", "x"),
        ("probes/test_other.py", 'HYPOTHESIS = Hypothesis(id="gravity")'),
    ],
)
def test_what_exists_is_refused_and_left_alone(root, capsys, there, content):
    write_file(root / there, content)
    assert new() == 4
    assert "gravity" in capsys.readouterr().err and files(root) == [there] and (root / there).read_text() == content


@pytest.mark.parametrize("name", ["Gravity", "class", "a-b", "../x", "", "_x", "x y"])
def test_a_name_that_is_no_identifier_is_refused(root, capsys, name):
    assert new(name=name) == 4
    assert "expected lower-case letters, digits and _" in capsys.readouterr().err and files(root) == []


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([*PAIRS, {"a": "x", "b": "", "template": "t"}], (), "pairs.csv, line 12, column b: is empty"),
        (PAIRS, ("--image-seed", "-1"), "field 'image_seed' is -1"),
        (PAIRS, ("--prompt", "x"), "--prompt: is for image_pairs"),
        (PAIRS, ("--title", "x\ny"), "title: has U+000A"),
        (PAIRS, ("--sentence", "x" * 120), "too long for a line of the probe file"),
        (PAIRS, ("--image", "x.png"), "'image' is for reference_prompt_pairs"),
    ],
)
def test_nothing_is_written_unless_everything_is_valid(root, capsys, rows, options, message):
    save(rows)
    if "--image-seed" in options:
        options = (*options, "--presentation", "image_pairs")
    assert new(*options) == 4
    found = capsys.readouterr()
    assert message in found.err and found.out == "" and files(root) == []
    assert str(Path("/tmp")) not in found.err


def test_two_texts_of_the_same_tokens_are_refused_before_anything_is_written(root, capsys, monkeypatch):
    monkeypatch.setattr("fixtures.session.new_command.qwen_vocabulary", lambda: Fold)
    save([{"a": "A cat", "b": "a dog"}, {"a": "a cat", "b": "a bird"}])
    assert new() == 4
    assert "shares a member with pair" in capsys.readouterr().err and files(root) == []


class Fold:
    encode = staticmethod(lambda text: text.lower().encode())


def test_a_disk_that_fills_leaves_nothing(root, capsys, monkeypatch):
    def full(path, mode):
        if path.suffix == ".py" and path.is_relative_to(root):
            raise OSError(28, "No space left on device", str(path))
        return original(path, mode)

    original = Path.open
    monkeypatch.setattr(new_hypothesis.Path, "open", full)
    assert new() == 4
    assert "cannot be written (No space left on device)" in capsys.readouterr().err and files(root) == []


def test_images_are_copied_beside_the_set(root, photos, capsys):
    names = [photo.name for photo in photos]
    save([{"a": names[0], "b": names[1], "id": "one"}, {"a": names[2], "b": names[3], "id": "two"}])
    assert new("--presentation", "image_pairs", "--prompt", "Look at it.") == 0
    copied = [f"stimuli/rendered/gravity/{pair}.{member}.png" for pair in ("one", "two") for member in "ab"]
    assert files(root) == ["probes/test_gravity.py", "stimuli/gravity.toml", *copied]
    assert [(root / name).read_bytes() for name in copied] == [photo.read_bytes() for photo in photos[:4]]
    assert load_stimuli(root / "stimuli/gravity.toml").prompt == "Look at it."
    assert "copied:  the images, to" in capsys.readouterr().out


def test_a_picture_that_viewers_do_not_agree_on_is_refused(root, photos, capsys):
    photos[1].write_bytes(b"x")
    save([{"a": photos[0].name, "b": photos[1].name}, {"a": photos[2].name, "b": photos[3].name}])
    assert new("--presentation", "image_pairs") == 4
    assert "not a readable image" in capsys.readouterr().err and files(root) == []


def test_the_written_probe_is_collected_and_decides_its_hypothesis(project, monkeypatch, capsys):
    for file in ("stimuli/toy.toml", "probes/test_toy.py"):
        (project.path / file).unlink()
    monkeypatch.setattr(commands, "ROOT", project.path)
    monkeypatch.chdir(project.path)
    save(PAIRS)
    assert new() == 0
    collected = run(project, "--collect-only", "-q")
    collected.stdout.re_match_lines_random([r"probes/test_gravity.py::test_control\[placebo\]"])
    run(project, "--twins", "0", probes="probes/test_gravity.py")
    (found,) = toy_project.results(project, toy_project.folder(project))["hypotheses"]
    assert found["id"] == "gravity" and found["n_pairs"] == 10 and found["contrast"] == "falling minus resting"
    verdicts = {claim["id"]: claim["verdict"] for claim in found["claims"]}
    assert verdicts == {"effect": "supported", "amplification": "not evaluated"}
    assert len(found["controls"]) == len(CONTROLS) and found["stimuli"]["file"] == "gravity.toml"


def test_the_page_shows_a_command_that_runs_and_a_table_that_it_takes(root, capsys):
    page = (Path(__file__).parents[1] / "docs" / "add_a_hypothesis.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ *python -m fixtures new (.*(?:\\\n.*)*)$", page, re.MULTILINE)
    (table,) = re.findall(r"^ *```csv\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    write_file(Path("pairs.csv"), "".join(line.strip() + "\n" for line in table.splitlines()))
    assert commands.main(["new", *shlex.split(command.replace("\\\n", " "))]) == 0
    assert "probes/test_gravity.py" in capsys.readouterr().out


def write_file(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
