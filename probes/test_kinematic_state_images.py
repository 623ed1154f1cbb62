"""Kinematic state in pictures: does the model tell the image of a thing in motion from that of the thing at rest?

The twenty-five things of ``kinematic_state.toml``, each as two generated images of the same scene: in motion, as a
still picture shows it, and at rest. Both are shown under one fixed prompt, "Describe what is depicted in this image.",
for one inference step. The contrast is in motion minus at rest: a positive t is a stronger response to the image of
motion.

Source: no card. The card "after-plantain" (arrow of time) only says that its own signal is substantially smaller than
that of kinematic state and that of surface roughness; it gives no figures and no stimuli, and whether it means prompts
or images is not known.

Margins: 2 times the null's 99th percentile at |t| > 3 and 10 times at |t| > 5. They are this suite's own.

Sign flips test only whether the two images of a pair are exchangeable. Motion shows by poses, blur, spray and streaming
cloth, and the model draws both images itself: support may come from any of these, or from whatever else differs.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="kinematic_state_images",
    title="Kinematic state in pictures",
    sentence="Units respond differently to images of things in motion and at rest.",
    contrast="in motion minus at rest",
    positive="stronger response to the image of motion",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
