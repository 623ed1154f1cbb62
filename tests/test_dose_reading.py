"""Which units carry a concept, as the curve of units is read."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.claims.controls.dose import reading
from fixtures.claims.ladder import LEVEL

COUNTS = 40, 320
WANTED = np.ones(8)
NOISE = 0.02 * np.array([1, -1, 2, -2, 1, -1, 0.5, -0.5])
STEADY = 0.001 * np.arange(8)


def shares(found, every):
    """What eight donors move: beyond chance where it is much, for chance where it is 0."""
    return np.stack([value + (STEADY if value else NOISE * sign) for value, sign in ((found, 1), (every, -1))], axis=1)


@pytest.mark.parametrize(
    ("found", "every", "kind", "said"),
    [
        (
            0.6,
            0.6,
            "found",
            "Carried by the found units: all 320 units recover 0.60 of the way, the 40 found ones 0.60",
        ),
        (0.4, 0.9, "spread", "Spread: all 320 units recover 0.90 of the way, the 40 found ones 0.40"),
        (0.1, 0.9, "others", "Carried by other units: all 320 units recover 0.90 of the way, the 40 found ones 0.10"),
        (0.0, 0.9, "others", "Carried by other units"),
        (0.65, 0.24, "opposed", "Carried by the found units, against others"),
        (0.0, 0.0, "nothing", "Carried by none"),
    ],
)
def test_what_found_and_all_units_move_says_which_carry_the_concept(found, every, kind, said):
    along = shares(found, every)
    if kind == "found":
        along[:, 1] += NOISE  # not told apart
    record = reading(along, WANTED, COUNTS, 0)
    assert record["kind"] == kind and record["text"].startswith(said) and record["text"].endswith(".")


def test_what_differs_neither_from_none_nor_from_all_is_open():
    every = np.array([0.1, 0.9, 0.2, 0.8, 0.1, 0.9, 0.2, 0.8])
    along = np.stack([np.array([1.0, -0.6, 0.9, -0.5, 1.1, -0.4, 0.8, -0.5]), every], axis=1)
    record = reading(along, WANTED, COUNTS, 0)
    assert record["kind"] == "open" and record["found_p"] > LEVEL >= record["all_p"] and record["differ_p"] > LEVEL


@settings(deadline=None, max_examples=60)
@given(along=arrays(np.float64, (6, 2), elements=st.floats(-1, 1).map(lambda value: round(value, 3))))
def test_the_figures_are_sums_and_exact_sign_flips(along):
    record = reading(along, np.full(6, 2.0), COUNTS, 0)
    signs = np.array(list(itertools.product((-1, 1), repeat=6)))

    def p(values):
        reached = (signs * values).sum(axis=1) >= values.sum() - 1e-9
        return reached.mean() if np.any(values) else 1.0

    more = along[:, 1] - along[:, 0]
    assert np.allclose([record["found"], record["all_units"]], along.sum(axis=0) / 12)
    assert np.allclose([record["found_p"], record["all_p"]], [p(along[:, 0]), p(along[:, 1])])
    assert np.isclose(record["differ_p"], min(1, 2 * min(p(more), p(-more))))
    carried = record["kind"] not in ("nothing",)
    assert carried == (min(record["found_p"], record["all_p"]) <= LEVEL)
    if record["kind"] in ("spread", "others"):
        assert record["differ_p"] <= LEVEL and record["found"] <= record["all_units"]
    if record["kind"] == "spread":
        assert record["found"] * COUNTS[1] > record["all_units"] * COUNTS[0] and record["found_p"] <= LEVEL
    if record["kind"] in ("found", "opposed"):
        assert record["found_p"] <= LEVEL
