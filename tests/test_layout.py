"""What tests share is in modules that are no tests."""

from pathlib import Path

import pytest
from imports import imported

TESTS = Path(__file__).parent


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
