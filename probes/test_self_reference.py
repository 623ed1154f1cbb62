"""Self-reference: does the model tell a statement about itself from the same statement about another thing?

Twenty-five pairs of prompts without an image, five each of pictures within a scene, lettering, the act of drawing, the
image that is asked for and the model that makes it. What bears the statement speaks of itself in one member and of
another thing in the other, in five sentence patterns, each once in every category. The contrast is about itself minus
about another thing: a positive t is a stronger response to self-reference.

Source: no card of this probe is public. Another card, "moral-plantain", quotes a share of about 13 % of the units, at a
threshold that is not stated and is probably |t| = 5. What the published pairs were is not known; these are this
project's own, so agreement with that share would mean little, and so would disagreement.

Margins: no ratio to the null is known, so 2 at |t| > 3 and 10 at |t| > 5 are this suite's own. The share must reach
half of the quoted one, 6.5 %; as its threshold is not stated, that is claimed at both.

Sign flips test only whether the two members of a pair are exchangeable, and any constant change of wording is not. Here
the particular weakness is that a statement about itself ties two mentions of one thing together. Units that notice that
the subject and the object are one word would do, without any sense of a self; the placebo takes away the loop and, in
most pairs, the repeated noun with it. Only ten pairs are about the image as a whole or about its generator.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Share

HYPOTHESIS = Hypothesis(
    id="self_reference",
    title="Self-reference",
    sentence="Units respond differently to a statement about itself and to the same statement about another thing.",
    contrast="about itself minus about another thing",
    positive="stronger response to self-reference",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Share(threshold=3.0, required=0.065))
def test_share_of_units_beyond_t3(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Share(threshold=5.0, required=0.065))
def test_share_of_units_beyond_t5(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
