"""Which modules a source imports, wherever it does: in functions, under TYPE_CHECKING, or named in a string."""

import ast
import re
from collections.abc import Iterable

NAMED = re.compile(r"\w+(\.\w+)+")


def imported(source: str, modules: Iterable[str] = ()) -> set[str]:
    """Modules that a source imports: those of import statements, and those of ``modules`` that a string names whole
    (``pytest_plugins``, ``import_module``) or, where it is put together, begins with the package of.

    Of ``from a import b``, it is ``a.b`` where ``modules`` has that, else ``a``; without ``modules``, both.
    """
    known, found = set(modules), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}".lstrip(".")
                found |= ({whole} if whole in known else {module}) if known else {module, whole}
        elif isinstance(node, ast.JoinedStr):
            start = node.values[0].value if node.values and isinstance(node.values[0], ast.Constant) else ""
            found |= {start.rpartition(".")[0]} & known if isinstance(start, str) else set()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            found |= {node.value} & known
    return found
