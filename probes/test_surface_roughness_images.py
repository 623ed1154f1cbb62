"""Surface roughness in pictures: does the model tell the image of a rough surface from that of a smooth one?

The twenty-five things of ``surface_roughness.toml``, each as two generated images of the same scene: with a rough
surface and with a smooth one of the same material. Both are shown under one fixed prompt, "Describe what is depicted in
this image.", for one inference step. The contrast is rough minus smooth: a positive t is a stronger response to the
rough one.

Source: no card. The card "after-plantain" (arrow of time) only says that its own signal is substantially smaller than
that of kinematic state and that of surface roughness; it gives no figures and no stimuli, and whether it means prompts
or images is not known.

Margins: 2 times the null's 99th percentile at |t| > 3 and 10 times at |t| > 5. They are this suite's own.

Sign flips test only whether the two images of a pair are exchangeable. A rough surface has more edges and detail than a
smooth one, so a unit that follows edges passes; the control for confounds takes edges, contrast and file size out, and
with them part of the concept. The model draws both images itself: other things in them may differ.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="surface_roughness_images",
    title="Surface roughness in pictures",
    sentence="Units respond differently to images of rough and of smooth surfaces.",
    contrast="rough minus smooth",
    positive="stronger response to the image of a rough surface",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
