"""The pictures that klein-mini draws for the shipped sets, in the repository: whole, its own, nothing beside them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.activations.image_manifest import ImageRequest
from fixtures.activations.images import generate, prepare_images
from fixtures.activations.prompts import encode_prompts
from fixtures.common.files import read_json
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).parents[1]
SETS = sorted((ROOT / "stimuli").glob("*.toml"))


@pytest.fixture(scope="module")
def mini(cache):
    settings = {"model": "klein-mini", "store": str(cache), "device": "cpu", "dtype": "float32"}
    return Model(resolve_settings(settings, {}, ROOT, environment={}))


@pytest.fixture(scope="module")
def folder(mini):
    return ROOT / "stimuli" / "images" / f"{mini.source.slug}-{mini.protocol.resolution}px"


def not_drawn():
    raise AssertionError("a picture is missing; `pytest probes/ --capture-only --refresh` draws them")


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.stem)
def test_the_default_run_draws_nothing(file, mini, folder):
    images = prepare_images(load_stimuli(file), folder, mini.source, mini.protocol, not_drawn)
    drawn = {f"{name}.png" for name, image in images.items() if image.seed is not None}
    there = {path.name for path in (folder / load_stimuli(file).hypothesis).glob("*.png")}
    assert drawn == there


def test_they_are_small_and_of_the_shipped_sets_alone(folder):
    known = {load_stimuli(file).hypothesis for file in SETS}
    assert {path.name for path in folder.iterdir()} <= known
    assert sum(path.stat().st_size for path in folder.rglob("*.png")) < 4e6


def test_the_model_draws_what_is_shipped(mini, folder):
    name, entry = next(iter(read_json(folder / "arrow_of_time" / "manifest.json")["images"].items()))
    texts = encode_prompts(mini.loaded, [entry["prompt"], ""], mini.protocol)
    drawn = []

    def keep(batch, encoded, compiled):
        assert not compiled
        drawn.extend(encoded)

    request = ImageRequest(name, entry["prompt"], entry["seed"])
    generate(lambda: mini.loaded, [request], texts, mini.protocol, keep, 1)
    with Image.open(folder / "arrow_of_time" / f"{name}.png") as shipped:
        own, again = np.asarray(shipped, float), np.asarray(Image.open(io.BytesIO(drawn[0])), float)
    assert np.abs(own - again).mean() < 1  # of 255: other hardware rounds otherwise
