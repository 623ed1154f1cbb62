"""Transparency: does the model tell a thing that can be seen through from the same thing that cannot, by its prompt?

Twenty-five pairs of prompts without an image, five each of windows and doors, vessels, cloth, water and ice, and
plastic and paper. Something is behind or inside a thing that is transparent in one member and opaque in the other.
The scene and the number of tokens are the same within a pair; the wording of transparency differs, in five ways and
with many words. The contrast is transparent minus opaque: a positive t is a stronger response to transparent things.

Source: none. No card and no other published probe of this axis is known, so nothing published is compared here.

Margins: 2 times the null's 99th percentile at |t| > 3 and 10 times at |t| > 5. They are this suite's own.

Sign flips test only whether the two members of a pair are exchangeable. Words for opaque often suggest white, black
or dirt and words for transparent suggest cleanness, so support for these claims may come from either. What is hidden
is named in both members, so units that only follow what is in view can respond too. The placebo changes colours,
shapes, fittings and what a thing does apart from the view.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="transparency",
    title="Transparency",
    sentence="Units respond differently to prompts about transparent and about opaque things.",
    contrast="transparent minus opaque",
    positive="stronger response to transparent things",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
