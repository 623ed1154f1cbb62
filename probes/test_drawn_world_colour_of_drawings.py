"""Colour, on drawings: does the model tell a thing in a warm colour from the same thing in a cool one?

Twenty-five pairs of drawings that are equal but for the colour of one thing, eight pairs of colours, shown under one
fixed prompt. The contrast is warm minus cool.

Source: none; the set is one of the suite's own ground truth (docs/ground_truth.md), true of klein-mini, which copies
what it is shown. Claims: the smallest effect of interest, and the smallest amplification over untrained twins
(docs/method.md).
"""

import pytest

from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(
    id="drawn_colour",
    title="Colour, on drawings",
    sentence="Activations move with the colour of the one thing in a drawing.",
    contrast="warm colour minus cool colour",
    positive="stronger response to the warm colour",
    stimuli="ground_truth/drawn_colour.toml",
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
