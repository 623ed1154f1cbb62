"""Real results of older versions of the suite, one of each version of results.json; see test_results_versions.py."""

import json
from pathlib import Path

from fixtures.results.schema import SCHEMA
from fixtures.results.versions import OLDEST

FILES = {int(file.stem): file for file in (Path(__file__).parent / "data" / "old_results").glob("*.json")}
READ = range(OLDEST, SCHEMA + 1)  # versions that are read


def old(version: int) -> dict:
    """The document of a version, as it was written."""
    return json.loads(FILES[version].read_text())
