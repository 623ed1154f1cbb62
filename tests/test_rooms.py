"""The plan of the engine: a room imports only from rooms before it, and no two files import each other."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from imports import imported

import fixtures

ROOT = Path(__file__).parents[1]
ROOMS = re.findall(r"^    (\w+)  +\S", fixtures.__doc__, re.MULTILINE)
COMMANDS = "fixtures.__main__"  # stands above all rooms, and so does the door, which is the package itself
LARGEST_MODULE, LONGEST_CLASS = 12_000, 150  # bytes, lines
SMALL = {  # an engine that keeps to the plan
    "fixtures": "",
    "fixtures.__main__": "from fixtures.session.run import Run",
    "fixtures.stimuli.sets": "",
    "fixtures.claims.verdict": "",
    "fixtures.claims.claims": "from fixtures.claims.verdict import Verdict",
    "fixtures.session": "",
    "fixtures.session.run": "from fixtures.claims import claims\nfrom fixtures.stimuli.sets import StimulusSet",
}
EXEMPT = ("klein_mini/world/drawings/", "statistics/kernels/", "models/hooks/reduction_kernel.py")


def sources() -> dict[str, str]:
    """Every module of the engine by name, with its source."""
    found = {}
    for file in sorted((ROOT / "fixtures").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text()
    return found


def graph(modules: dict[str, str]) -> dict[str, set[str]]:
    """By module, the modules of the engine that it imports."""
    return {name: imported(source, modules) & modules.keys() - {name} for name, source in modules.items()}


def uphill(modules: dict[str, str], rooms: list[str]) -> list[str]:
    """Imports from a room that comes later, or from the commands above all rooms."""

    def floor(module: str) -> int:
        room = (*module.split("."), "")[1]
        return rooms.index(room) if room in rooms else len(rooms)

    return [
        f"{module} imports {other}"
        for module, others in graph(modules).items()
        for other in sorted(others)
        if floor(other) > floor(module)
    ]


def circle(modules: dict[str, str]) -> list[str] | None:
    """Modules of which each imports the next one, and the last one the first; None where there are none."""
    try:
        TopologicalSorter(graph(modules)).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_the_rooms_are_the_folders():
    entries = {path.name for path in (ROOT / "fixtures").iterdir()} - {"__pycache__"}
    assert entries == {*ROOMS, "__init__.py", "__main__.py"} and len(ROOMS) == 12


def test_a_room_imports_only_from_rooms_before_it():
    assert uphill(sources(), ROOMS) == []


def test_no_files_form_a_circle():
    assert circle(sources()) is None


def test_no_other_room_imports_the_workshop():
    """Not even the session, which stands above it: what they need of the model lies beside its weights."""
    workshop = "fixtures.klein_mini"
    others = {name: found for name, found in graph(sources()).items() if not name.startswith(workshop)}
    assert len(others) > 100
    assert {name for name, found in others.items() if any(one.startswith(workshop) for one in found)} == set()


@pytest.mark.parametrize(
    "line",
    [
        "from fixtures.session.run import Run",
        "import fixtures.session.run",
        "from fixtures.session import run",
        "def late():\n    from fixtures.session.run import Run",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fixtures.session.run import Run",
        'pytest_plugins = ["fixtures.session.run"]',
        'import_module("fixtures.session.run")',
        'import_module(f"fixtures.session.{name}")',
        "from fixtures.__main__ import main",
    ],
)
def test_one_forbidden_import_is_found_however_it_is_written(line):
    modules = SMALL | {"fixtures.stimuli.sets": line}
    assert uphill(SMALL, ROOMS) == []
    (found,) = uphill(modules, ROOMS)
    assert re.fullmatch(r"fixtures\.stimuli\.sets imports fixtures\.(session|__main__)(\.run)?", found)


def test_a_circle_is_found_although_its_files_are_of_one_room():
    late = "def late():\n    from fixtures.claims.claims import Exceedance"
    modules = SMALL | {"fixtures.claims.verdict": late}
    assert circle(SMALL) is None and uphill(modules, ROOMS) == []
    assert set(circle(modules)) == {"fixtures.claims.verdict", "fixtures.claims.claims"}


def test_imports_are_absolute():
    """A relative one does not say which room it is from."""
    relative = [
        module
        for module, source in sources().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_modules_and_classes_are_small():
    large = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "fixtures").rglob("*.py")
        if file.stat().st_size > LARGEST_MODULE and not any(part in file.as_posix() for part in EXEMPT)
    ]
    long = [
        f"{module}: {node.name}"
        for module, source in sources().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= LONGEST_CLASS
    ]
    assert large == [] and long == []
