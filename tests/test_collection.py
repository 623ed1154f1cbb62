"""Collecting the probes is quick: what evaluation needs is imported when a probe runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
REPORT = f"""
import sys, fixtures.session.reporter, fixtures.report.evidence_section, fixtures.report.cards.card
print("imported:", sorted({ {"diffusers", "torch", "transformers"} } & set(sys.modules)))
"""


def test_collecting_the_probes_imports_nothing_that_takes_seconds():
    found = subprocess.run([sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0 and "imported: []" in found.stdout, found.stdout[-500:] + found.stderr[-500:]


def test_a_process_that_reports_for_workers_imports_no_torch():
    found = subprocess.run([sys.executable, "-c", REPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "imported: []" in found.stdout
