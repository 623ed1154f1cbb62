"""Confounds of images: each measure answers to what it is named after, and to that alone where a picture allows it."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fixtures.stimuli.image_measures import IMAGE_CONFOUNDS, image_confounds


@pytest.fixture
def measure():
    def of(image: Image.Image) -> dict[str, float]:
        return dict(zip(IMAGE_CONFOUNDS, image_confounds(image), strict=True))

    return of


def square(fill, ground=(60, 60, 60)) -> Image.Image:
    image = Image.new("RGB", (64, 64), ground)
    ImageDraw.Draw(image).rectangle((20, 20, 43, 43), fill=fill)
    return image


def test_a_plain_grey_has_its_luminance_and_nothing_else(measure):
    found = measure(Image.new("RGB", (64, 64), (51, 51, 51)))
    assert found["mean luminance"] == pytest.approx(0.2)
    assert [found[name] for name in ("RMS contrast", "edge density", "colourfulness")] == pytest.approx([0, 0, 0])


def test_luminance_weighs_green_most(measure):
    values = [measure(Image.new("RGB", (8, 8), colour))["mean luminance"] for colour in ("#00f", "#f00", "#0f0")]
    assert values == pytest.approx([0.0722, 0.2126, 0.7152])


def test_contrast_is_the_standard_deviation(measure):
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    assert measure(Image.fromarray(halves))["RMS contrast"] == pytest.approx(0.5)


def test_edges_and_bytes_grow_with_detail(measure):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    plain, edged, noisy = (measure(image) for image in (square((60, 60, 60)), square((255, 255, 255)), noise))
    assert plain["edge density"] == 0 < edged["edge density"] < noisy["edge density"]
    assert plain["compressed size"] < edged["compressed size"] < noisy["compressed size"]


def test_colourfulness_is_that_of_colour(measure):
    assert measure(square((200, 60, 60)))["colourfulness"] > measure(square((100, 60, 60)))["colourfulness"] > 0
    assert measure(square((250, 250, 250)))["colourfulness"] == pytest.approx(0)
