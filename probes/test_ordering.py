"""Is the arrow of time a smaller axis than four others?

The card of the arrow of time compares its own signal with those of other cards: substantially smaller than physical
scale, perspective-taking, kinematic state and surface roughness. No single card can test that; this file compares the
axes' responses on one model under one protocol. It has no stimuli of its own and measures those of the five hypotheses,
captured here or taken from the store.

Source: the model card "after-plantain", which states the order in words and gives no test of it. Compared is the cards'
own statistic, the share of units beyond |t| = 3: each larger axis minus the arrow of time.

Margins: all four differences must have an interval above 0, and each share must be at least twice that of the arrow of
time. The factor is this suite's own reading of "substantially". The intervals come from a bootstrap over blocks, drawn
with the counts of both axes (Cameron & Miller 2015, A practitioner's guide to cluster-robust inference): units of one
block move together, so that an interval over single units would be far too narrow. Bonferroni over the four, 95 %
together. They say how the difference varies over blocks of this network. Pairs are not drawn: other stimuli for either
axis are no part of it.

What a share at one |t| compares is how consistently units respond, not how much. |t| grows with the root of the number
of pairs, and perspective-taking has 30 where the others have 25: this favours it slightly, as a |t| of 3 at 25 pairs is
one of 3.29 at 30. The same |t| is compared all the same, since that is how the cards' shares were counted. A share also
grows with any constant change of wording; three of the larger axes change the prompt beside one fixed image, while the
arrow of time changes the image under one fixed prompt. The order may be one of presentations as much as of concepts.
"""

import pytest

from fixtures.claims import Hypothesis, Ordering

SMALLER = "arrow_of_time"
LARGER = ("physical_scale", "perspective_taking", "kinematic_state", "surface_roughness")

HYPOTHESIS = Hypothesis(
    id="ordering",
    title="Order of the axes",
    sentence="The arrow of time moves a substantially smaller share of the units than four other axes do.",
    contrast="share of units of each larger axis minus that of the arrow of time",
    positive="",
    card="after-plantain",
    controls=(),
    compares=(SMALLER, *LARGER),
)


@pytest.mark.claim(Ordering(smaller=SMALLER, larger=LARGER, threshold=3.0, factor=2))
def test_larger_axes_have_at_least_twice_the_share(verdict):
    assert verdict.supported, verdict
