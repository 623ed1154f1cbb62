"""Shared by the project's own tests: one klein-tiny, built and loaded once, and toy projects that run on it."""

import os
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_project import CONTROL, PLACEBO, PROBE, STIMULI, pairs, write

from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.statistics.held_out import held_out_selection
from fixtures.statistics.sign_flips import sign_flip_null
from fixtures.statistics.split_half_null import split_half_null

ROOT = Path(__file__).parents[1]
ONCE = (
    "statsmodels.stats.multitest",
    *("torch._inductor.compile_fx", "torch._dynamo.repro.after_dynamo", "torch._dynamo.repro.after_aot"),
)
LONGEST = (  # minutes each: begun first, so that no worker is left with one of them at the end
    "calibration",
    "undecided",
    "plugin_workers",
    "plugin",
    "plugin_robust",
    "baseline_plugin",
    "positive_control",
    "ground_truth_score",
    "mini_training",
    "plugin_surroundings",
    "docs",
    "controls_causal",
    "ordering",
    "terminal",
)


def pytest_collection_modifyitems(items):
    """The longest files first; `--dist loadfile --no-loadscope-reorder` hands them out in this order."""
    rank = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A store of the tests' own, shared by all of them."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny(cache) -> Model:
    """klein-tiny on the CPU in float32."""
    settings = resolve_settings({"model": "klein-tiny", "store": str(cache), "device": "cpu"}, {}, ROOT, environment={})
    return Model(settings)


@pytest.fixture
def transformer(tiny):
    """klein-tiny's transformer; whoever changes it copies it."""
    return tiny.pipeline.transformer


@pytest.fixture
def checkpoint_copy(tiny, tmp_path) -> Path:
    """A copy of klein-tiny's folder that a test may damage."""
    import shutil

    return Path(shutil.copytree(tiny.source.folder, tmp_path / "checkpoint"))


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """Five images of 64 x 64 random pixels."""
    generator = np.random.default_rng(0)
    files = []
    for index in range(5):
        files.append(tmp_path / f"photo{index}.png")
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(files[-1])
    return files


@pytest.fixture(scope="session", autouse=True)
def imported_once():
    """pytester forgets what is first imported in a project of its own, and these cannot be imported twice."""
    for name in ONCE:
        import_module(name)
    torch._dynamo.list_backends()  # registers those that are imported when asked for


@pytest.fixture(scope="session")
def compiled():
    """Import and compile all of numba that a run needs: pytester forgets what its tests import, and numba can be
    imported only once."""
    differences = np.random.default_rng(0).normal(size=(8, 20))
    sign_flip_null(differences, (3.0,), method="exact", permutations=200, seed=0)
    split_half_null(differences, seed=0)
    held_out_selection(differences, seed=0)


@pytest.fixture
def project(pytester, compiled, cache, monkeypatch):
    """A toy project with ten prompt pairs; every member of a pair differs a lot, so units respond."""
    for variable in [name for name in os.environ if name.startswith("PROBES_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PROBES_STORE", str(cache))
    monkeypatch.setenv("PROBES_MODEL", "klein-tiny")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["fixtures.session.plugin"]')
    pytester.makeini("[pytest]\naddopts = --strict-config\n")
    write(pytester, "stimuli/toy.toml", STIMULI + pairs(10))
    write(pytester, "probes/test_toy.py", PROBE)
    return pytester


@pytest.fixture
def ladder(project):
    """The toy project with controls: a constant change of wording, and a placebo that is another of the same kind."""
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    placebo = "".join(
        PLACEBO.format(number=n, a=f"a dog runs in the park {n}", b=f"four different short words on painting {n}")
        for n in range(10)
    )
    write(project, "stimuli/toy.toml", STIMULI + pairs(10) + placebo)
    return project
