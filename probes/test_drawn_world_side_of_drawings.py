"""Place, on drawings: does the model tell a thing on the left from the same thing on the right?

Twenty-five pairs of drawings that are equal but for the place of one thing, shown under one fixed prompt. The
contrast is left minus right.

Source: none; the set is one of the suite's own ground truth (docs/ground_truth.md), true of klein-mini, which copies
what it is shown, and weak. Claims: the smallest effect of interest, and the smallest amplification over untrained
twins (docs/method.md).
"""

import pytest

from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(
    id="drawn_side",
    title="Side, on drawings",
    sentence="Activations move with the side on which a drawing has its one thing.",
    contrast="on the left minus on the right",
    positive="stronger response to the thing on the left",
    stimuli="ground_truth/drawn_side.toml",
)


@pytest.mark.claim(Effect())
def test_activations_move_with_it(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Amplification())
def test_more_than_in_untrained_twins(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
