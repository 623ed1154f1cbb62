"""Sites that nothing has reached in which the members of a pair differ."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.activations.activations import Activations
from fixtures.activations.on_disk import StoredActivations
from fixtures.activations.untouched import DIFFERS, LARGEST, check_untouched, largest_difference, untouched
from fixtures.common.errors import ProbeError
from fixtures.models.units import CELLS, CLOSED_STREAMS, Site
from fixtures.stimuli.sets import PRESENTATIONS

STREAMS = ("text", "noise", "reference", "text+image")
SITES = tuple(Site(f"{stream}.out", stream, stream, 32, 32, 16) for stream in STREAMS)


def activations(seed: int, pairs: int = 3) -> Activations:
    values = np.random.default_rng(seed).random((pairs, len(CELLS), 8), dtype=np.float32)
    return Activations(np.repeat(values, 2, axis=0), np.ones((2 * pairs, len(CELLS)), dtype=np.int64))


def test_every_presentation_is_known():
    assert set(DIFFERS) == set(PRESENTATIONS) and set(DIFFERS.values()) <= set(CLOSED_STREAMS)


@given(st.sampled_from(list(DIFFERS)), st.integers(0, 5), st.integers(0, 6), st.integers(0, 7), st.floats(0.01, 4))
def test_a_difference_is_seen_where_none_can_be_and_nowhere_else(presentation, stimulus, cell, group, factor):
    found, groups = activations(stimulus), untouched(SITES, presentation)
    assert largest_difference(found, groups) == 0
    before = found.mean_square[stimulus, cell, group]
    found.mean_square[stimulus, cell, group] = changed = np.float32(before * factor)
    stream = STREAMS[group // 2]
    expected = 0.0
    if stream in CLOSED_STREAMS and stream != DIFFERS[presentation]:
        expected = abs(changed - before) / max(changed, before)
    assert largest_difference(found, groups) == pytest.approx(expected, rel=1e-6)


@given(st.sampled_from(list(DIFFERS)), st.integers(2, 7), st.integers(0, 3))
def test_it_is_taken_away_from_what_is_read_and_nothing_else_is(presentation, n, seed):
    counts = np.ones((n, len(CELLS)), dtype=np.int64)
    values = np.random.default_rng(seed).random((n, len(CELLS), 8), dtype=np.float32)
    segment, groups = SimpleNamespace(read=lambda: Activations(values, counts)), untouched(SITES, presentation)
    found = replace(StoredActivations.of([segment], [counts], 8), same=groups).mean_square
    pairs = n // 2 * 2
    np.testing.assert_array_equal(found[1:pairs:2][..., groups], values[0:pairs:2][..., groups])
    np.testing.assert_array_equal(found[..., ~groups], values[..., ~groups])
    np.testing.assert_array_equal(found[0::2], values[0::2])


def test_where_every_site_can_differ_there_is_nothing_to_say():
    assert untouched(SITES[3:], "prompt_pairs") is None


@pytest.mark.parametrize("dtype", LARGEST)
def test_more_than_rounding_is_refused(dtype):
    found, groups = activations(0), untouched(SITES, "prompt_pairs")
    assert check_untouched(found, groups, "toy", dtype) == 0
    found.mean_square[2, 3, 2] *= 1 + LARGEST[dtype] / 2
    assert 0 < check_untouched(found, groups, "toy", dtype) <= LARGEST[dtype]
    found.mean_square[2, 3, 2] *= 1 + LARGEST[dtype]
    with pytest.raises(ProbeError, match=r"toy: the members of a pair differ by .*`--refresh`"):
        check_untouched(found, groups, "toy", dtype)
