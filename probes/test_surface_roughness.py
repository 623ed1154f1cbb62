"""Surface roughness: does the model tell a rough surface from a smooth one of the same thing, by its prompt?

Twenty-five pairs of prompts without an image, five each of wood, stone, metal, cloth and leather, and clay and plaster.
The thing, its material, the scene and the number of tokens are the same within a pair; the wording of the surface
differs, in five ways and with many words. The contrast is rough minus smooth: a positive t is a stronger response to
rough surfaces.

Source: no card. The card "after-plantain" (arrow of time) only says that its own signal is substantially smaller than
that of kinematic state and that of surface roughness; it gives no figures, so nothing published is compared here.

Margins: 2 times the null's 99th percentile at |t| > 3 and 10 times at |t| > 5. They are this suite's own.

Sign flips test only whether the two members of a pair are exchangeable. Smooth words often suggest gloss and rough ones
damage, so support for these claims may come from either. The placebo changes colours, patterns, light and position.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis

HYPOTHESIS = Hypothesis(
    id="surface_roughness",
    title="Surface roughness",
    sentence="Units respond differently to prompts about rough and about smooth surfaces.",
    contrast="rough minus smooth",
    positive="stronger response to rough surfaces",
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=10))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
