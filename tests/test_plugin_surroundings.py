"""Runs where something that is mostly there is missing: plugins, links, a name and a home, a writable folder."""

import pytest
from toy_project import folder, run

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
    assert left == {"cards", "model_index.yaml", "results.json", "summary.md", "toy.units.csv.gz"}


def test_without_the_page_workers_run_too(project):
    outcome = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:html", "-n", "2", "probes")
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
