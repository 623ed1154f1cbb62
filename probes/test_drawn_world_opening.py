"""Openings: does the model tell 'a picture of' from 'a photo of'?

Twenty-five captions that klein-mini draws alike with either opening, to a few levels of 255. One constant wording
runs through all pairs, as it may in a published set of prompts, and moves most units beyond |t| = 3. The contrast is
picture minus photo.

Source: none; the set is one of the suite's own ground truth (docs/ground_truth.md), false of klein-mini by what it
draws. Claims: the smallest effect of interest, and the smallest amplification over untrained twins (docs/method.md).
"""

import pytest

from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(
    id="opening",
    title="Opening, drawn world",
    sentence="Activations move with the opening of a caption.",
    contrast="a picture of minus a photo of",
    positive="stronger response to a picture of",
    stimuli="ground_truth/opening.toml",
    known="has it not",
)


@pytest.mark.claim(Effect())
def test_activations_move_with_it(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Amplification())
def test_more_than_in_untrained_twins(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
