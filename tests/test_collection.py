"""Collecting the probes is quick: what evaluation needs is imported when a probe runs."""

import subprocess
import sys
from pathlib import Path

HEAVY = {
    "diffusers",
    "numba",
    "pydantic",
    "scipy.optimize",  # the bare package imports its parts when they are asked for
    "scipy.stats",
    "statsmodels",
    "torch",
    "transformers",
}
COLLECT = f"""
import sys, pytest
code = pytest.main(["-p", "no:cacheprovider", "--collect-only", "-q", "probes"])
print("imported:", sorted({HEAVY} & set(sys.modules)))
sys.exit(code)
"""


def test_collecting_the_probes_imports_nothing_that_takes_seconds():
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", COLLECT], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0 and "imported: []" in found.stdout, found.stdout[-500:] + found.stderr[-500:]
