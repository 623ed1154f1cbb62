"""Changes of images: nothing at an amount of 0, more with a larger one, and the amount that makes a given distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fixtures.stimuli.alterations import KINDS, LARGEST, Alteration, matching_amount

kinds = pytest.mark.parametrize("kind", KINDS)
shares = st.floats(0, 1)


def picture(seed=0, size=(48, 32)) -> Image.Image:
    """Smooth random colours, no symmetry."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def distance(a: Image.Image, b: Image.Image) -> float:
    return float(np.sqrt(np.square(np.asarray(a, float) - np.asarray(b, float)).mean()))


@kinds
def test_an_amount_of_zero_changes_nothing(kind):
    assert np.array_equal(Alteration(kind, 0.0).apply(picture()), picture())


@kinds
@settings(max_examples=25, deadline=None)
@given(share=shares, seed=st.integers(0, 99))
def test_every_amount_keeps_size_and_mode_and_gives_the_same_picture_again(kind, share, seed):
    change = Alteration(kind, share * LARGEST[kind])
    changed = change.apply(picture(seed))
    assert (changed.size, changed.mode) == ((48, 32), "RGB")
    assert np.array_equal(changed, change.apply(picture(seed)))


@kinds
def test_more_of_a_change_is_further_away(kind):
    found = [distance(Alteration(kind, share * LARGEST[kind]).apply(picture()), picture()) for share in (0, 0.1, 0.5)]
    assert found[0] < found[1] < found[2]


def test_what_each_change_does():
    pixels = np.asarray(picture(), float)
    np.testing.assert_allclose(np.asarray(Alteration("brightness", 0.5).apply(picture()), float), pixels / 2, atol=1)
    assert np.array_equal(Alteration("mirror", 1.0).apply(picture()), pixels[:, ::-1])
    window = np.asarray(Alteration("mirror", 0.5).apply(picture()))
    assert np.array_equal(window[:8], pixels[:8]) and np.array_equal(window[8:24, 12:36], pixels[8:24, 12:36][:, ::-1])
    plain = Image.new("RGB", (32, 32), (10, 20, 30))
    assert np.array_equal(Alteration("scale", 0.3).apply(plain), plain)
    assert np.array_equal(Alteration("crop", 0.3).apply(plain), plain)


@kinds
@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.1, 0.9))
def test_the_matching_amount_makes_the_wanted_distance(kind, share):
    def measure(change):
        return distance(change.apply(picture()), picture())

    target = share * measure(Alteration(kind, 0.5 * LARGEST[kind]))
    amount = matching_amount(kind, measure, target)
    # a window of whole pixels moves in steps
    assert measure(Alteration(kind, amount)) == pytest.approx(target, rel=0.25 if kind == "mirror" else 0.03)


@kinds
def test_a_distance_out_of_reach_takes_the_largest_amount(kind):
    assert matching_amount(kind, lambda change: change.amount, 2.0) == LARGEST[kind]
