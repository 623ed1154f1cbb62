"""Runs where something that is mostly there is missing: plugins, links, a name and a home, a writable folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_project import PROBE, STIMULI, folder, pairs, results, run, write

from fixtures.common.errors import ProbeError
from fixtures.session.options import resolve_settings

ROOT = Path(__file__).parents[1]

pytest_plugins = "pytester"

LEFT_OUT = {
    "no page": (("-p", "no:html"), "pytest-html"),
    "no metadata": (("-p", "no:metadata"), "pytest-metadata"),
    "neither": (("-p", "no:html", "-p", "no:metadata"), "pytest-html"),
    "nothing found by itself": (("--disable-plugin-autoload",), "pytest-html"),
    "metadata alone": (("--disable-plugin-autoload", "-p", "pytest_metadata.plugin"), "pytest-html"),
    "everything that may go": (
        tuple(f"-pno:{name}" for name in ("html", "xdist", "junitxml", "stepwise", "logging", "tmpdir", "legacypath")),
        "pytest-html",
    ),
}


@pytest.mark.parametrize(("arguments", "missing"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_without_the_plugins_of_the_page_a_run_says_so_in_a_line(project, arguments, missing):
    outcome = run(project, *arguments)
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["results: *results.json", f"no report.html: the plugin {missing} is not loaded"])
    outcome.stdout.no_fnmatch_line("*INTERNALERROR*")
    left = {file.name for file in folder(project).iterdir()}
    assert left == {"cards", "exports", "figures", "model_index.yaml", "results.json", "summary.md", "toy.units.csv.gz"}


def test_without_the_page_workers_run_too(project):
    outcome = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:html", "-n", "1", "probes")
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["no report.html: *"])


def test_plugins_that_are_asked_for_by_their_module_make_the_page(project):
    asked = ("--disable-plugin-autoload", "-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin")
    run(project, *asked).assert_outcomes(passed=1, failed=1)
    assert (folder(project) / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "no:metadata", "--html", "own.html"), "--html own.html: expected the plugin pytest-metadata with it*"),
        (("--html", "."), "--html .: a folder. Expected the name of a file*"),
        (("--css", "nowhere.css"), "--css nowhere.css: no such file."),
    ],
)
def test_a_page_that_cannot_be_made_is_a_usage_error_and_leaves_no_folder(project, arguments, message):
    outcome = run(project, *arguments)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert not list((project.path / "reports").glob("*"))


REFUSING = """
import pytest
pytest_plugins = ["fixtures.session.plugin"]

def pytest_configure(config):
    raise RuntimeError("a plugin that does not start")
"""


def test_a_plugin_that_does_not_start_leaves_no_run_folder(project):
    project.makeconftest(REFUSING)
    project.runpytest_subprocess("-p", "no:cacheprovider", "probes")
    assert not list((project.path / "reports").glob("*"))


@pytest.fixture
def linked(project, tmp_path_factory):
    """Another way to the toy project."""
    link = tmp_path_factory.mktemp("elsewhere") / "a link, 100% of it"
    link.symlink_to(project.path)
    return link


@pytest.mark.parametrize("where", ["", "probes", "probes/test_toy.py", "probes/..", "stimuli/../probes"])
@pytest.mark.parametrize("inside", ["elsewhere", "the link"])
def test_a_clone_reached_through_a_link_is_the_clone(project, linked, monkeypatch, where, inside):
    monkeypatch.chdir(linked.parent if inside == "elsewhere" else linked)
    run(project, probes=str(linked / where)).assert_outcomes(passed=1, failed=1)
    found = results(project)
    assert found["run"]["complete"] is True
    assert found["hypotheses"][0]["claims"][0]["test"] == "probes/test_toy.py::test_supported"


def test_one_test_of_a_clone_reached_through_a_link(project, linked, monkeypatch):
    monkeypatch.chdir(linked.parent)
    run(project, probes=f"{linked}/probes/test_toy.py::test_supported").assert_outcomes(passed=1)
    monkeypatch.chdir(linked / "probes")
    run(project, probes="test_toy.py::test_supported").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["probes", "probes/test_toy.py", "stimuli", "stimuli/toy.toml", "reports"])
@pytest.mark.parametrize("asked", ["probes", "."])
def test_any_part_of_a_clone_may_be_a_link(project, tmp_path_factory, photos, name, asked):
    write(project, "probes/test_toy.py", PROBE)
    photos[0].rename(project.path / "stimuli" / "own.png")
    text = STIMULI.replace("prompt_pairs", "reference_prompt_pairs") + 'reference = { image = "own.png" }\n'
    write(project, "stimuli/toy.toml", text + pairs(10))
    (project.path / "reports").mkdir()
    target = tmp_path_factory.mktemp("much") / "deeper" / "there" / Path(name).name
    target.parent.mkdir(parents=True)
    (project.path / name).rename(target)
    (project.path / name).symlink_to(target)
    run(project, probes=asked).assert_outcomes(passed=2)
    found, place = results(project), folder(project).resolve()
    assert found["run"]["complete"] is True
    assert (place / found["hypotheses"][0]["stimuli"]["reference"]["image"]).is_file()


def test_what_was_captured_of_a_folder_is_found_again_through_a_link(project, checkpoint_copy, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(checkpoint_copy)
    store = ("--store", str(tmp_path / "store"), "--device", "cpu")
    for model in (str(checkpoint_copy), str(tmp_path / "link")):
        outcome = run(project, "--model", model, *store, *(("--store-only",) if "link" in model else ()))
        outcome.assert_outcomes(passed=2)


def test_a_clone_may_have_any_name(project, tmp_path_factory, monkeypatch):
    """pytest-html would replace $HOME in the path of its page."""
    clone = tmp_path_factory.mktemp("any") / "a $HOME of 100%d, ünï漢 #1 [2] ~'\""
    shutil.copytree(project.path, clone)
    monkeypatch.chdir(clone)
    run(project).assert_outcomes(passed=1, failed=1)
    assert (clone / "reports/latest/report.html").exists()
    monkeypatch.chdir(project.path)
    outcome = run(project, "--reports", f"{clone}/reports")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: *pytest-html replaces $NAME in a path. Choose another with `--reports DIR`."])
    assert len(list(clone.glob("reports/2*"))) == 1


@pytest.fixture
def nobody(project, tmp_path_factory):
    """How to run a command as a user without a name, whose one writable folder is the returned one, and who may read
    all others, as in a container that is started with a user id."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root may become another user")
    own = tmp_path_factory.mktemp("own")
    own.chmod(0o777)
    rights = [f"--{which}=-all,+dac_read_search" for which in ("inh-caps", "ambient-caps", "bounding-set")]
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *rights]
    if subprocess.run([*become, "true"], capture_output=True).returncode:
        pytest.skip("no right to become another user")
    shutil.copytree(ROOT / "fixtures", project.path / "fixtures", ignore=shutil.ignore_patterns("__pycache__"))

    def run_as(*arguments, **variables):
        command = [*become, sys.executable, "-m", "pytest", "probes", "--model", "klein-tiny", *arguments]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project.path), **variables}
        done = subprocess.run(command, cwd=project.path, env=environment, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stdout + done.stderr and "INTERNALERROR" not in done.stdout + done.stderr
        return done

    return own, run_as


def test_a_user_without_name_and_home_runs_a_clone_that_is_read_only(nobody):
    own, run_as = nobody
    done = run_as("--store", str(own / "store"), "--reports", str(own / "reports"))
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
    assert (own / "reports/latest/report.html").exists() and list((own / "store/kernels").rglob("*.nbc"))


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (
            (),
            {},
            "--store: no home folder is known for this user, so there is no cache folder either. Expected",
        ),
        (("--store", "~/x"), {}, "--store ~/x: no home folder is known for this user"),
        (("--store", "{own}", "--model", "~/x"), {}, "--model ~/x: no home folder is known for this user"),
        (("--store", "{own}", "--lora", "~/x:2"), {}, "--lora ~/x:2: no home folder is known for this user"),
        ((), {"HOME": "/"}, "cannot be written (Permission denied). Choose another with `--reports DIR`."),
        (("--store", "{own}", "--save-baseline", "~/x.json"), {}, "--save-baseline ~/x.json: no home folder"),
    ],
)
def test_what_a_user_without_a_home_has_to_name_is_said(nobody, arguments, variables, message):
    own, run_as = nobody
    done = run_as(*(argument.format(own=own) for argument in arguments), **variables)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR and message in done.stderr


def test_a_home_that_cannot_be_written_is_named_with_the_option(nobody):
    own, run_as = nobody
    done = run_as("--reports", str(own / "reports"), HOME="/")
    assert "the store /.cache/flux2-klein-probes cannot be written (Permission denied)" in done.stdout
    assert "`--store DIR`" in done.stdout and done.returncode == 1


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 5000, "a\0b"])
@pytest.mark.parametrize("option", ["store", "reports", "baseline", "save-baseline"])
def test_a_path_that_is_none_is_named_with_its_option(tmp_path, option, name):
    with pytest.raises(ProbeError, match=f"^--{option} .*(Give the path without ~|Give another path)"):
        resolve_settings({option: name}, {}, tmp_path, {})


@pytest.mark.parametrize("flags", [["-O"], ["-OO"]])
def test_an_interpreter_that_leaves_assertions_out_is_refused(project, flags):
    command = [sys.executable, *flags, "-m", "pytest", "-p", "no:cacheprovider", "probes"]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: python -O (or PYTHONOPTIMIZE): tests decide by assert statements")
    assert not (project.path / "reports").exists()


def test_no_folder_for_temporary_files_is_a_usage_error(project, monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    with monkeypatch.context() as patched:
        patched.setattr("fixtures.session.surroundings.tempfile", SimpleNamespace(gettempdir=nowhere))
        outcome = run(project)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: no folder for temporary files can be written*Set TMPDIR*"])


def test_a_python_without_the_requirements_is_told_so(tmp_path):
    """One without any package but pytest's, as where the environment was not activated."""
    for name in ("conftest.py", "pytest.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "probes").mkdir()
    bare = "import importlib.metadata as m, sys, pytest\n"
    bare += "def none(name):\n    raise m.PackageNotFoundError(name)\n"
    bare += "m.distribution = none\nsys.exit(pytest.main(['probes', '-p', 'no:cacheprovider']))\n"
    done = subprocess.run([sys.executable, "-c", bare], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"ERROR: not installed for {sys.executable}: accelerate, ")
    assert "pip install -r requirements.txt" in done.stderr and "Traceback" not in done.stderr + done.stdout
