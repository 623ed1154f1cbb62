"""Arrow of time: does the model tell the state after an irreversible event from the state before it?

Twenty-five everyday events, each as two generated images of the same scene: the pre-event and the post-event state.
Both are shown under one fixed prompt, "Describe what is depicted in this image.", for one inference step. The contrast
is post-event minus pre-event: a positive t is a stronger response to the post-event image.

Source: the model card "after-plantain" (N = 25, 16,320 units, 200 random sign flips): 2,426 units at |t| > 3, 4.8 times
the null's 99th percentile of 501; 159 units at |t| > 5, 53 times its 3; max |t| 7.56. The card reports no split-half
consistency, so none is claimed.

Margins: the count must reach half of the published ratio to the 99th percentile: 2.4 at |t| > 3 and 26 at |t| > 5. The
published ratios rest on the two or three largest of 200 flips; half of them leaves room for that.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Published, PublishedCount

HYPOTHESIS = Hypothesis(
    id="arrow_of_time",
    title="Arrow of time",
    sentence="Units respond differently to images of the states after and before an irreversible event.",
    contrast="post-event minus pre-event",
    positive="stronger response to the post-event image",
    card="after-plantain",
    published=Published(
        n_pairs=25,
        n_units=16320,
        null_flips=200,
        counts={
            3.0: PublishedCount(count=2426, ratio=4.8, null_p99=501, null_mean=82),
            5.0: PublishedCount(count=159, ratio=53, null_p99=3, null_mean=0),
        },
        max_abs_t=7.56,
    ),
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2.4))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=26))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
