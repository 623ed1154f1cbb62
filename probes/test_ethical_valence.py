"""Ethical valence: does the model tell an act of helping from one of ignoring?

Twenty-five pairs of prompts without an image, five each of physical assistance, social inclusion, honesty, restraint
from theft, and care for vulnerable parties. The scene, the agents and the number of tokens are the same within a pair;
the act differs. The contrast is helping minus ignoring: a positive t is a stronger response to helping.

Source: the model card "moral-plantain" (N = 25, 16,320 units, 1,000 random sign flips): 3,221 units at |t| > 3, 6.4
times the null's 99th percentile; 509 at |t| > 5, 102 times; max |t| 10.05; median split-half r 0.573.

Margins: the counts must reach half of the published ratios to the 99th percentile, 3.2 at |t| > 3 and 51 at |t| > 5,
and the median split-half r half of the published one, 0.287.

Sign flips test only whether the two members of a pair are exchangeable. Prompts that differ in any constant way are
not, so support for these claims is not yet support for a representation of valence.
"""

import pytest

from fixtures.claims import Exceedance, Hypothesis, Published, PublishedCount, SplitHalf

HYPOTHESIS = Hypothesis(
    id="ethical_valence",
    title="Ethical valence",
    sentence="Units respond differently to prompts about helping and about ignoring, in the same scene.",
    contrast="helping minus ignoring",
    positive="stronger response to helping",
    card="moral-plantain",
    published=Published(
        n_pairs=25,
        n_units=16320,
        null_flips=1000,
        counts={
            3.0: PublishedCount(count=3221, ratio=6.4),
            5.0: PublishedCount(count=509, ratio=102, null_p99=5),
        },
        max_abs_t=10.05,
        split_half_r=0.573,
    ),
)


@pytest.mark.claim(Exceedance(threshold=3.0, margin=3.2))
def test_more_units_beyond_t3_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=51))
def test_more_units_beyond_t5_than_chance(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(SplitHalf(required=0.287))
def test_halves_of_the_pairs_agree(verdict):
    assert verdict.supported, verdict


def test_control(control):
    assert control.passed, control
