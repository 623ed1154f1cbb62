"""Amodal completion: does the model tell a request for the visible part of a covered thing from one for all of it?

Twenty-five pairs of prompts without an image, five each of kitchen, animals, furnishings, vehicles and landmarks. In
each, one thing hides part of another; object, cover, scene and the number of words and tokens are the same within a
pair. One member gives of the object only what shows beside its cover, the other the whole, with the part behind it. The
contrast is visible part only minus whole object: a positive t is a stronger response to the visible part only.

Source: the model card "ghost-plantain" (N = 25, 16,320 units, 1,000 random sign flips): 6,399 units at |t| > 3, 8.7
times the null's 99th percentile; 2,537 at |t| > 5, 507 times; max |t| 29.63; median split-half r 0.833. The order of
the contrast is the card's; which sign prevails is not in what is known of it, so no claim is made about the sign.

Margins: the counts must reach half of the published ratios to the 99th percentile, 4.35 at |t| > 3 and 253.5 at
|t| > 5, and the median split-half r half of the published one, 0.417.

Sign flips test only whether the two members of a pair are exchangeable, and prompts that ask for more are not. The
whole object is more to draw than a part of it, and to show it some sentences make the cover see-through: a network that
answers to the amount of content, or to words of drawing, would pass without any notion of a thing behind a thing. The
placebo holds the amount fixed, and so cannot tell that answer from completion.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Published, PublishedCount, SplitHalf

HYPOTHESIS = Hypothesis(
    id="amodal_completion",
    title="Amodal completion",
    sentence="Units respond differently to prompts for the visible part of a covered object and for the whole object.",
    contrast="visible part only minus whole object",
    positive="stronger response to the visible part only",
    card="ghost-plantain",
    published=Published(
        n_pairs=25,
        n_units=16320,
        null_flips=1000,
        counts={
            3.0: PublishedCount(count=6399, ratio=8.7),
            5.0: PublishedCount(count=2537, ratio=507, null_p99=5),
        },
        max_abs_t=29.63,
        split_half_r=0.833,
    ),
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=4.35))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=253.5))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(SplitHalf(required=0.417))
def test_halves_of_the_pairs_agree(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
