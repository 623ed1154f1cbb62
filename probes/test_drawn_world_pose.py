"""Pose, in a drawn world: does the model tell a dance from a T-pose?

Twenty-five captions of a figure or a robot, in twelve wordings of both poses, in the language that klein-mini was
trained on. It draws the two poses without a mistake: a suite that can confirm a claim confirms this one. The contrast
is dance minus T-pose.

Source: none; the set is one of the suite's own ground truth (docs/ground_truth.md), true of klein-mini by what it
draws. Claims: the smallest effect of interest, and the smallest amplification over untrained twins (docs/method.md).
"""

import pytest

from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(
    id="pose",
    title="Pose, drawn world",
    sentence="Activations move with the pose that a caption asks for.",
    contrast="dance minus T-pose",
    positive="stronger response to the dance",
    stimuli="ground_truth/pose.toml",
    known="has it",
)


@pytest.mark.claim(Effect())
def test_activations_move_with_it(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Amplification())
def test_more_than_in_untrained_twins(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
