"""Ethical valence in a fixed scene: does the model tell helping from ignoring when the scene is shown?

The 25 scenes of ethical valence, five each of physical assistance, social inclusion, honesty, restraint from theft,
and care for vulnerable parties. Each scene is a reference image of its own, which draws the need (or the damage, or
what can be taken) and no act; both prompts of a pair are shown with it, so that only the words differ. The contrast
is helping minus ignoring: a positive t is a stronger response to helping.

Source: none of its own. It is the stronger version that the model card "moral-plantain" asks for, whose prompts come
without an image; no figures are published for it.

Margins: 2 times the null's 99th percentile at |t| > 3 and 10 times at |t| > 5. They are this suite's own, and no
split-half claim is made.

Sign flips test only whether the two members of a pair are exchangeable. The image rules out that the scene differs,
not that the wording does. Known weakness: in the image the agent stands by, which is nearer to ignoring than to
helping, so that a response to how far the words depart from the image would pass as valence.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="ethical_valence_fixed_scene",
    title="Ethical valence, fixed scene",
    sentence="Units respond differently to prompts about helping and about ignoring in a scene that is shown.",
    contrast="helping minus ignoring",
    positive="stronger response to helping",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
