"""Perspective-taking: does the model tell a scene seen from a creature's viewpoint from one that the creature is in?

Thirty pairs of prompts about a kitchen, shown with one reference image of it, empty. Each pair is about one creature;
the creatures stand in the order of their similarity to an adult human, from a woman to an alien that tastes the air,
and a category is five neighbouring grades. There are five sentence patterns, each once in every category. The contrast
is from its viewpoint minus present in the scene: a positive t is a stronger response to taking the viewpoint.

Source: the model card "otherview-plantain" (30 pairs, 16,320 units). Of its results only a share is known here, quoted
on another card: about 74 % of the units, at a threshold that is not stated and is probably |t| = 5. Its two templates
differ by one word in length and in syntax for every creature, so it repeats one change of wording 30 times. These pairs
vary the wording too, so a smaller share than the published one would be no surprise.

Margins: the card's ratios to the null are not known, so 2 at |t| > 3 and 10 at |t| > 5 are this suite's own. The share
must reach half of the quoted one, 37 %; as its threshold is not stated, that is claimed at both.

Sign flips test only whether the two members of a pair are exchangeable, and any constant change of wording is not. Here
the particular weakness is that one member shows the creature and the other need not: units that respond to a creature
in the picture, or to the word that the sentence is about, would do. Seventeen pairs use the same words in another
order, so no single word tells the two apart there. The graded similarity is recorded but not tested.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Share

HYPOTHESIS = Hypothesis(
    id="perspective_taking",
    title="Perspective-taking",
    sentence="Units respond differently to a scene from a creature's viewpoint and to one with the creature in it.",
    contrast="from its viewpoint minus present in the scene",
    positive="stronger response to taking the creature's viewpoint",
    card="otherview-plantain",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Share(threshold=3.0, required=0.37))
def test_share_of_units_beyond_t3(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Share(threshold=5.0, required=0.37))
def test_share_of_units_beyond_t5(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
