"""Options and fixtures of the suite: see fixtures/session/plugin.py."""

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

OPTIONAL = {"pytest-html"}  # without it there is no page


def missing() -> list[str]:
    """Packages that pyproject.toml asks for and that are not installed for this Python."""
    import tomllib

    project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for name in {re.match(r"[\w.-]+", wanted)[0] for wanted in project["dependencies"]} - OPTIONAL:
        try:
            distribution(name)
        except PackageNotFoundError:
            found.append(name)
    return sorted(found)


if sys.version_info < (3, 11):  # noqa: UP036 - who has an older one is to be told so
    raise SystemExit(f"ERROR: this is Python {sys.version.split()[0]}; 3.11 or newer is needed.")
if names := missing():
    raise SystemExit(
        f"ERROR: not installed for {sys.executable}: {', '.join(names)}. Run `make probes`, which has an environment "
        "of its own, or `pip install -r requirements.txt`."
    )

pytest_plugins = ["fixtures.session.plugin"]
