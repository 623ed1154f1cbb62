"""Counterfactual frame: does the model tell the cause of an event as a fact from the same cause as a counterfactual?

Twenty-five pairs of prompts without an image, five events each of physical, thermodynamic, biological, mechanical and
optical causation, in five sentence patterns, each once in every category. Both members tell the same event as a fact.
One states its cause as a fact too, the other says what would be otherwise without it, in as many words and tokens. The
contrast is factual minus counterfactual: a positive t is a stronger response to the factual frame.

Source: the model card "counterfact-plantain" (N = 25, 16,320 units, 1,000 random sign flips): 3,469 units at |t| > 3,
5.9 times the null's 99th percentile; 835 at |t| > 5, whose ratio is not known here. The card speaks of pairs matched in
length, but its example has 8 words against 15: an added clause may have made part of its figures.

Margins: the count must reach half of the published ratio, 2.95, at |t| > 3. At |t| > 5 no ratio is known, and 10 is
this suite's own. No split-half consistency is known, so none is claimed.

Sign flips test only whether the two members of a pair are exchangeable, and any constant change of wording is not. Here
the particular weakness is that a counterfactual names an outcome that is not there, and its factual partner often
denies that outcome: units that respond to where a negation stands, or to the named alternative, would do. Both members
ask for the same picture, so a difference shows how the prompt is read, not what is depicted.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Published, PublishedCount

HYPOTHESIS = Hypothesis(
    id="counterfactual_frame",
    title="Counterfactual frame",
    sentence="Units respond differently to the cause of an event told as a fact and in a counterfactual.",
    contrast="factual minus counterfactual",
    positive="stronger response to the factual frame",
    card="counterfact-plantain",
    published=Published(
        n_pairs=25,
        n_units=16320,
        null_flips=1000,
        counts={3.0: PublishedCount(count=3469, ratio=5.9)},
    ),
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2.95))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
