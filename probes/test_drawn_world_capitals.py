"""Capital letters: does the model tell a thing in capitals from the same thing in small letters?

Training never saw capitals, and klein-mini answers them with another picture all the same. The effect is large, and
training made it; but it is one constant wording, and no set of one wording can tell that from a concept. The contrast
is capitals minus small letters.

Source: none; the set is one of the suite's own ground truth (docs/ground_truth.md), wording only by what klein-mini
draws. Claims: the smallest effect of interest, and the smallest amplification over untrained twins (docs/method.md).
"""

import pytest

from fixtures.claims import Amplification, Effect, Hypothesis

HYPOTHESIS = Hypothesis(
    id="capitals",
    title="Capital letters, drawn world",
    sentence="Activations move with the letter case of a caption's thing.",
    contrast="capitals minus small letters",
    positive="stronger response to capitals",
    stimuli="ground_truth/capitals.toml",
    known="wording only",
)


@pytest.mark.claim(Effect())
def test_activations_move_with_it(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Amplification())
def test_more_than_in_untrained_twins(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
