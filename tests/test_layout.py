"""How tests and fixtures are laid out: what tests share is in modules that are no tests; the workshop stands apart."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FIXTURES = TESTS.parent / "fixtures"
WORKSHOP = "fixtures.klein_mini"  # made the embedded model; the suite uses the model alone


def imported(source: str) -> set[str]:
    """Names of all modules that a source imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names |= {module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)}
    return names


def those_of_tests(names: set[str]) -> set[str]:
    return {name for name in names if any(part.startswith("test_") for part in name.split("."))}


@pytest.mark.parametrize("file", sorted(TESTS.rglob("*.py")), ids=lambda file: file.name)
def test_no_module_imports_a_test(file):
    found = those_of_tests(imported(file.read_text()))
    assert not found, f"{file.name} imports {sorted(found)}: move what is shared into a module that is no test"


@pytest.mark.parametrize(
    "source",
    [
        "from test_plugin import run",
        "import test_plugin",
        "import tests.test_plugin as plugin",
        "from tests import test_plugin",
        "from . import test_plugin",
        "def late():\n    from .test_plugin import run",
    ],
)
def test_every_form_of_import_is_seen(source):
    assert those_of_tests(imported(source))


def test_no_other_room_imports_the_workshop():
    files = [file for file in FIXTURES.rglob("*.py") if not file.is_relative_to(FIXTURES / "klein_mini")]
    assert len(files) > 100
    found = {
        str(file.relative_to(FIXTURES))
        for file in files
        if any(name.startswith(WORKSHOP) for name in imported(file.read_text()))
    }
    assert not found, f"{sorted(found)} import {WORKSHOP}: what they need of the model belongs in its embedded.json"
