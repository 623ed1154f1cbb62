"""Intrinsic image: does the model tell a lit scene from its lighting-free surface colour?

Twenty-five pairs of prompts without an image, five each of cast shadows, shading, highlights, reflections and
coloured light. The object, the scene and the number of tokens are the same within a pair; a describes the scene as
light makes it look, b as surface colour alone. The contrast is lit photograph minus albedo: a positive t is a
stronger response to the lit scene.

Source: the model card "ray-plantain" (N = 25, 16,320 units, 1,000 random sign flips, as in its family): 10,846 units
at |t| > 3, 7.6 times the null's 99th percentile; 7,445 at |t| > 5, 1,489 times; max |t| 34.48; median split-half r
0.912. The sign of the card's difference is not known; its A is the photograph, as here.

Margins: the counts must reach half of the published ratios to the 99th percentile, 3.8 at |t| > 3 and 744.5 at |t| >
5, and the median split-half r half of the published one, 0.456. A model of fewer than 745 units cannot decide the
claim at |t| > 5: it comes out inconclusive.

Sign flips test only whether the two members of a pair are exchangeable. To be lit and to be albedo are said in
different words, so they never are: support for these claims may be support for two vocabularies, of light and of
colour. The card's A and B ask for different kinds of picture as well; here the kind is named in both members or in
neither. In ten pairs both members name the light, and five of these use the same words in another order.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Published, PublishedCount, SplitHalf

HYPOTHESIS = Hypothesis(
    id="intrinsic_image",
    title="Intrinsic image",
    sentence="Units respond differently to prompts about a lit scene and about its lighting-free surface colour.",
    contrast="lit photograph minus albedo only",
    positive="stronger response to the lit scene",
    card="ray-plantain",
    published=Published(
        n_pairs=25,
        n_units=16320,
        null_flips=1000,
        counts={
            3.0: PublishedCount(count=10846, ratio=7.6),
            5.0: PublishedCount(count=7445, ratio=1489, null_p99=5),
        },
        max_abs_t=34.48,
        split_half_r=0.912,
    ),
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=3.8))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=744.5))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(SplitHalf(required=0.456))
def test_halves_of_the_pairs_agree(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
