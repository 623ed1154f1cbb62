"""Shared by the project's own tests: one klein-tiny, built and loaded once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.models.model import Model
from fixtures.session.options import resolve_settings

ROOT = Path(__file__).parents[1]


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
