"""Kinematic state: does the model tell a thing in motion from the same thing at rest, by its prompt?

Twenty-five pairs of prompts without an image, five each of vehicles, animals, people, machines, and things that wind or
water moves. The thing, the scene and the number of tokens are the same within a pair; the wording of the state differs,
in five ways. The contrast is in motion minus at rest: a positive t is a stronger response to motion.

Source: no card. The card "after-plantain" (arrow of time) only says that its own signal is substantially smaller than
that of kinematic state and that of surface roughness; it gives no figures, so nothing published is compared here.

Margins: 2 times the null's 99th percentile at |t| > 3 and 10 times at |t| > 5. They are this suite's own.

Sign flips test only whether the two members of a pair are exchangeable. Words of motion are mostly words of action and
words of rest are not, so support for these claims may come from the kind of word. The placebo has no such difference.
Moving bodies also hold other poses than resting ones.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="kinematic_state",
    title="Kinematic state",
    sentence="Units respond differently to prompts about things in motion and at rest.",
    contrast="in motion minus at rest",
    positive="stronger response to things in motion",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
