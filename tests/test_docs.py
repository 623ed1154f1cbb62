"""Every command of README.md, CONTRIBUTING.md and docs/ is run, unless NOT_RUN says why not.

It is run on small things in the place of what its line names (`replaced`): for pytest, the toy project on klein-tiny in
the place of `probes/` and Klein. What is not run is taken by the program that it names: pytest collects what it is
given, in this repository; a command of Python parses it; make says what it would do, which pytest collects.
"""

import argparse
import csv
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, commands, name, snippets
from lora_factory import save_lora
from toy_project import PROBE, run, write

import fixtures.__main__

pytest_plugins = "pytester"

SINGLE_FILE = next(one for one in commands((ROOT / "docs/single_file.md").read_text()) if "<<END" in one)
ARROW = next(one for one in commands((ROOT / "docs/compare_models.md").read_text()) if "klein-mini+arrow" in one)
NOT_RUN = {
    # minutes, or this suite itself
    "make probes": "minutes: the default run",
    "make probes ARGS=probes/test_canonical_pose.py": "minutes, of klein-mini",
    "make probes ARGS=--calibrate": "minutes; tests/test_calibration.py calibrates with fewer data sets",
    "make benchmark": "minutes, and speeds want a quiet machine",
    "make test": "these tests; run by .github/workflows/tests.yml",
    "make test ARGS=tests/test_claims.py": "these tests",
    ".ci/run": "these tests",
    "make lint": "run by .github/workflows/tests.yml",
    "python -m benchmarks.power": "minutes; tests/test_planning.py predicts a few",
    "python -m benchmarks.ground_truth": "minutes; tests/test_ground_truth_score.py scores two sets",
    ARROW: "minutes, of klein-mini; tests/test_plugin_against.py compares klein-tiny with a LoRA of it",
    "pytest probes/ --steer": "minutes; tests/test_plugin_steering.py steers the toy",
    "pytest probes/ --model klein -n auto": "starts workers; tests/test_plugin_workers.py runs two",
    # a GPU
    "python -m benchmarks.ground_truth --device cuda": "a GPU",
    "python -m benchmarks.full_size DIR": "a GPU, and a checkpoint of 16 GB",
    "python -m fixtures.klein_mini.truth behave --device cuda": "a GPU; tests/test_ground_truth_labels.py draws two",
    "python -m fixtures.klein_mini.truth behave --all --seed 7 --stimuli DIR": "the same, of more sets",
    # the network
    "pytest probes/ --model klein --steer --judge openai/clip-vit-base-patch32": (
        "the network; tests/test_picture_scores.py has a model of the kind"
    ),
    "pytest probes/ --model owner/name --revision main": "the network; tests/test_model_source.py has a hub's cache",
    'hf download black-forest-labs/FLUX.2-klein-base-4B --local-dir FOLDER --exclude "transformer/*.safetensors*"': (
        "the network, 16 GB"
    ),
    # run elsewhere
    SINGLE_FILE: "run by tests/test_model_name.py",
    "python -m fixtures.klein_mini.truth write": "writes into stimuli/, see tests/test_ground_truth.py",
    "python -m fixtures.klein_mini.truth write --all --seed 7 --stimuli DIR": "half a minute; the same",
}
EXIT_CODES = {  # where it is not 0
    "pytest probes/ --model klein --lora my_lora.safetensors:0.8 --baseline then.json": 1,  # the LoRA changes much
    "pytest probes/ --model klein --lora my_lora.safetensors:0.8 --baseline then.json --gate baseline": 1,
    "python -m fixtures compare then.json now.json": 1,
    "python -m fixtures check stimuli/ground_truth/*.toml": 1,  # as the page says
    "pytest probes/test_drawn_world_pose.py --steer pose": 1,  # the toy has too few pairs for units to be steered
}
SUPPORTED = PROBE.replace("margin=47", "margin=1.01")
GIVEN = {line for page in PAGES for line in commands(page.read_text())}
OWN = "python -m fixtures "
ALL = sorted(  # a command of ours that is named in passing is the beginning of its whole line elsewhere
    line for line in GIVEN if not (line.startswith(OWN) and any(other.startswith(f"{line} ") for other in GIVEN))
)
MADE = [f"probes/test_{line.removeprefix(OWN).split()[1]}.py" for line in ALL if line.startswith(f"{OWN}new ")]


def of(lines):
    return pytest.mark.parametrize("line", lines, ids=[line.partition("\n")[0] for line in lines])


def started(text: str) -> str:
    """The command that a launcher starts, or the command itself."""
    words = shlex.split(text)
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        chosen = get_args_parser().parse_args(words[1:])
        assert chosen.module
        return shlex.join([chosen.training_script, *chosen.training_script_args])
    return words[words.index("--wrap") + 1] if words[0] == "sbatch" else text


class Parsed(Exception):
    """Raised in the place of what a command does."""


def parse(text: str, monkeypatch) -> None:
    """Have a command of ``python -m`` parse its arguments and end there."""
    program, *arguments = shlex.split(text.partition(">")[0])[2:]
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, *given, **more):
        original(self, *given, **more)
        raise Parsed

    if program == "benchmarks.full_size":
        pytest.importorskip("triton")
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(Parsed):
        runpy.run_module(program, run_name="__main__")


def collect(text: str, pytester) -> None:
    """Have pytest collect, in this repository, what it is given."""
    arguments = [str(ROOT / word) if word.startswith("probes/") else word for word in shlex.split(text)[1:]]
    files = [word for word in arguments if word.startswith(str(ROOT))]
    found = pytester.runpytest_inprocess(
        *("--rootdir", ROOT, "-c", ROOT / "pytest.ini", "--collect-only", "-q"),
        "--import-mode=importlib",  # tests of ours have names of probe files
        *arguments,
    )
    assert found.ret == 0, found.stderr.str() or found.stdout.str()
    assert files and "tests collected" in found.stdout.str()


def make(text: str, pytester) -> None:
    """Have make say what it would do, and pytest collect what it would run; of all of these tests, one file."""
    words = shlex.split(text)
    told = subprocess.run([words[0], "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.rpartition("-m pytest")[2].split() for line in told.stdout.splitlines() if "-m pytest" in line]
    assert bool(lines) == (words[1] in ("probes", "test")), told.stdout
    for line in lines:
        given = [word for word in line if not word.startswith("tests")] if words[1] == "test" else line
        chosen = [word for word in line if word.startswith("tests/")] or ["tests/test_layout.py"]
        files = [str(ROOT / word) for word in chosen] if words[1] == "test" else [str(ROOT / "probes")]
        options = [str(ROOT / word) if word.startswith("probes/") else word for word in given]
        collect(shlex.join(["pytest", *options, *files]), pytester)


@of(NOT_RUN)
def test_the_program_takes_it(line, pytester, monkeypatch):
    if line.startswith("pytest"):
        collect(line, pytester)
    elif line.startswith("make"):
        make(line, pytester)
    elif line.startswith("python -m "):
        parse(line, monkeypatch)
    elif line.startswith("hf "):
        asked = [Path(sys.executable).with_name("hf"), *line.split()[1:2], "--help"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert all(word in told for word in line.split() if word.startswith("--"))
    elif line == ".ci/run":
        assert os.access(ROOT / line, os.X_OK)
    else:
        assert "python - <<END" in line
        compile(line.partition("\n")[2].rpartition("\n")[0], line, "exec")


def test_what_is_not_run_is_named_by_its_very_line_and_exists():
    assert set(NOT_RUN) <= set(ALL) and set(EXIT_CODES) <= set(ALL) - set(NOT_RUN)
    for reason in NOT_RUN.values():
        for file in [word.rstrip(";,") for word in reason.split() if word.endswith((".py", ".yml"))]:
            assert (ROOT / file).exists(), file
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    assert all(f"run: {text}\n" in workflow for text, reason in NOT_RUN.items() if "tests.yml" in reason)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What a command leaves for those after it: baselines, a LoRA, a store."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def done():
    """Exit codes and output of what was run, by its words: two lines may come to the same."""
    return {}


@pytest.fixture
def place(project, tiny, kept, monkeypatch):
    """The toy project, in which every claim is supported."""
    write(project, "probes/test_toy.py", SUPPORTED)
    write(project, "docs/ground_truth.md", (ROOT / "docs/ground_truth.md").read_text())
    write(project, "probes/known_verdicts.toml", "")
    if not (kept / "my_lora.safetensors").exists():
        save_lora(tiny.pipeline.transformer, kept, size=1.0).rename(kept / "my_lora.safetensors")
    with (project.path / "pairs.csv").open("w", newline="") as stream:
        rows = [(f"a red ball number {n} falling down", f"a red ball number {n} resting here") for n in range(25)]
        csv.writer(stream).writerows([("a", "b"), *rows])
    return project


def replaced(text: str, tiny, kept) -> list[str]:
    """The words of a command line, with what is small and there in the place of what it names."""
    there = {
        **dict.fromkeys(("klein", "klein-mini"), "klein-tiny"),
        **dict.fromkeys(("/path/to/folder", "FOLDER"), [str(tiny.source.folder), "--resolution", "64"]),
        **dict.fromkeys(("reports/<run>", "RUN_FOLDER", "reports/*"), "reports/latest"),
        "old.json": str(ROOT / "tests/data/old_results/3.json"),
        "my_lora.safetensors:0.8": f"{kept}/my_lora.safetensors:0.8",
        "/shared": f"{kept}/shared",
        "pose": "toy",
        "stimuli/<id>.toml": str(ROOT / "stimuli/transparency.toml"),
        "stimuli/ground_truth/*.toml": [str(file) for file in sorted((ROOT / "stimuli/ground_truth").glob("*.toml"))],
    }
    words = []
    for word in shlex.split(text):
        if "probes" in Path(word).parts:
            file = word.replace("/path/to/the/clone/", "").replace("<id>", "transparency")
            assert file in MADE or (ROOT / file).exists(), text
            word = "probes"
        found = there.get(word, word)
        words += [found] if isinstance(found, str) else found
    return words


def prepare(words: list[str], place, kept, lora: str) -> None:
    """Make what a command finds there, as the commands before it on its page make it."""
    for file, more in (("then.json", []), ("now.json", ["--lora", lora])):
        if file in words and "--save-baseline" not in words:
            if not (kept / file).exists():
                assert run(place, *more, "--save-baseline", file).ret == 0
                for made in place.path.glob(f"{Path(file).stem}*"):
                    shutil.copy(made, kept)
            for made in kept.glob(f"{Path(file).stem}*"):
                shutil.copy(made, place.path)
    for file in {"a.json", "b.json"} & {*words}:
        assert run(place).ret == 0
        shutil.copy(place.path / "reports/latest/results.json", place.path / file)
    if "--store-only" in words or "power" in words and "--store" in words:
        assert run(place, "--store", words[words.index("--store") + 1]).ret == 0
    if "reports/latest" in words:
        assert run(place).ret == 0


@of([text for text in ALL if text not in NOT_RUN])
def test_it_is_run(line, place, tiny, kept, done, monkeypatch, capsys):
    command, _, page = started(line).partition(" > ")
    words = replaced(command, tiny, kept)
    prepare(words, place, kept, f"{kept}/my_lora.safetensors:0.8")
    capsys.readouterr()
    if tuple(words) not in done:
        done[*words] = pytest_run(words, place) if words[0] == "pytest" else module_run(words, place, monkeypatch)
        done[*words] = done[*words], capsys.readouterr().out
    code, printed = done[*words]
    assert code == EXIT_CODES.get(line, 0), printed
    if page:
        assert printed == (ROOT / page).read_text()
    if "--page" in words:
        assert (place.path / words[-1]).read_text() == (ROOT / words[-1]).read_text()


def pytest_run(words: list[str], place) -> int:
    return place.runpytest_inprocess("-p", "no:cacheprovider", *words[1:]).ret


def module_run(words: list[str], place, monkeypatch) -> int:
    assert words[:2] == ["python", "-m"]
    monkeypatch.setattr("fixtures.session.power_options.SIMULATIONS", 2)
    if words[3] in (
        "new",
        "known-verdicts",
        "register",
        "verify",
        "power",
    ):  # they write, or read what is beside pytest.ini
        for constant, value in (("ROOT", ""), ("STIMULI", "stimuli"), ("KNOWN", "probes/known_verdicts.toml")):
            monkeypatch.setattr(fixtures.__main__, constant, place.path / value)
    return import_module(f"{words[2]}.__main__").main(words[3:])


SNIPPETS = [(name(page), snippet) for page in PAGES for snippet in snippets(page.read_text())]


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS, ids=[page for page, _ in SNIPPETS])
def test_snippets_run(page, snippet, place, monkeypatch):
    from fixtures.session.notebook import probe

    monkeypatch.setattr(probe, "__defaults__", ("klein-tiny",))  # the model
    names = {}
    for module in ("fixtures.claims.controls.measured", "fixtures.claims.verdict"):  # what a page takes as known
        names |= vars(import_module(module))
    exec(compile(snippet.replace('"klein-mini"', '"klein-tiny"'), page, "exec"), names)
