"""Canonical pose: does the model tell the T-pose from an expressive pose of the same body?

Twenty-five pairs of prompts without an image, five each of performers, workers, athletes, figures and people in
costume. The subject, the clothes, the setting and the number of words and tokens are the same within a pair; the pose
differs: upright with the arms straight out and level with the shoulders, in 25 wordings, or one of many expressive
poses. The contrast is canonical T-pose minus expressive pose: a positive t is a stronger response to the T-pose.

Source: the model card "dense-plantain" (N = 25, 16,320 units, 1,000 random sign flips): 8,263 units at |t| > 3, 6.2
times the null's 99th percentile; 4,614 at |t| > 5, 659 times its 7; max |t| 22.45; median split-half r 0.863. The sign
of the contrast is not in what is known of the card, so no claim is made about the sign.

Margins: the counts must reach half of the published ratios to the 99th percentile, 3.1 at |t| > 3 and 329.5 at |t| > 5,
and the median split-half r half of the published one, 0.432.

Sign flips test only whether the two members of a pair are exchangeable. One pose against many is not, whatever the one
pose is: a network that has no notion of a canonical pose, but answers to arms held out, to symmetry or to stillness,
would pass. The placebo sets expressive poses against each other, and so cannot tell these answers from the concept.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Published, PublishedCount, SplitHalf

HYPOTHESIS = Hypothesis(
    id="canonical_pose",
    title="Canonical pose",
    sentence="Units respond differently to prompts for a T-pose and for an expressive pose of the same body.",
    contrast="canonical T-pose minus expressive pose",
    positive="stronger response to the T-pose",
    card="dense-plantain",
    published=Published(
        n_pairs=25,
        n_units=16320,
        null_flips=1000,
        counts={
            3.0: PublishedCount(count=8263, ratio=6.2),
            5.0: PublishedCount(count=4614, ratio=659, null_p99=7),
        },
        max_abs_t=22.45,
        split_half_r=0.863,
    ),
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=3.1))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=329.5))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(SplitHalf(required=0.432))
def test_halves_of_the_pairs_agree(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
