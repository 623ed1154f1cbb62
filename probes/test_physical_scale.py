"""Physical scale: does the model tell a claim that an object is kilometres large from one that it is millimetres large?

Twenty-five pairs of prompts about "the object", shown with one reference image of a plain grey object that gives no cue
to its size. Five pairs each compare it with landscape, buildings, transport, animals and things at hand, in five
sentence patterns. The contrast is kilometre scale minus millimetre scale: a positive t is a stronger response to the
claim of a large object.

Source: the model card "measure-plantain" (25 pairs, 16,320 units). Of its results only a share is known here, quoted on
another card: about 43 % of the units, at a threshold that is not stated and is probably |t| = 5.

Margins: the card's ratios to the null are not known, so 2 at |t| > 3 and 10 at |t| > 5 are this suite's own. The share
must reach half of the quoted one, 21.5 %; as its threshold is not stated, that is claimed at both.

Sign flips test only whether the two members of a pair are exchangeable, and any constant change of wording is not. Here
the particular weakness is that in about half of the pairs large things are named in one member only: units that respond
to "forest" or "tanker" need not hold any reading of the object itself. Eleven pairs use the same words in another
order, and the placebo keeps the large and the small thing of four of these while it compares colour or gloss.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Share

HYPOTHESIS = Hypothesis(
    id="physical_scale",
    title="Physical scale",
    sentence="Units respond differently to claims that one object is of kilometre scale and of millimetre scale.",
    contrast="kilometre scale minus millimetre scale",
    positive="stronger response to the claim of a large object",
    card="measure-plantain",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Share(threshold=3.0, required=0.215))
def test_share_of_units_beyond_t3(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Share(threshold=5.0, required=0.215))
def test_share_of_units_beyond_t5(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
