"""Arrow of time on drawings: does the model tell a state from the one before it, with everything else equal?

The 25 published events, drawn. In the published design the model draws both images of a pair itself, and they may
differ in anything: background, framing, light. Here the two differ in the event and are equal to the pixel outside it.
Any model can be shown these images. They are drawings in one style, so that a model which was never shown such pictures
may take them for something else: a refutation here speaks about drawings.

No figures are published for these stimuli. The margins are those of the published design, in
``test_arrow_of_time.py``, so that the two can be read side by side.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="arrow_of_time_rendered",
    title="Arrow of time, drawn",
    sentence="Units respond differently to drawings of the states after and before an irreversible event.",
    contrast="post-event minus pre-event",
    positive="stronger response to the post-event drawing",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2.4))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=26))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
