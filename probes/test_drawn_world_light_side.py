"""Light, in a drawn world: does the model tell light from the left from light from the right?

Twenty-five captions of one thing each, in five wordings, in the language that klein-mini was trained on. The strength
of a unit over the whole picture cannot see where something is; that in its quadrants can. The contrast is left minus
right.

Source: none; the set is one of the suite's own ground truth (docs/ground_truth.md), true of klein-mini by what it
draws, and weak. Claims: the smallest effect of interest, and the smallest amplification over untrained twins
(docs/method.md).
"""

import pytest

from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(
    id="light_side",
    title="Side of the light, drawn world",
    sentence="Activations move with the side that a caption lights a scene from.",
    contrast="lit from the left minus lit from the right",
    positive="stronger response to light from the left",
    stimuli="ground_truth/light_side.toml",
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
