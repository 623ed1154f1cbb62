"""Sites that nothing has reached in which the members of a pair differ."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.activations.activations import Activations
from fixtures.activations.untouched import DIFFERS, LARGEST, check_untouched, largest_untouched
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
    found = activations(stimulus)
    assert largest_untouched(found, SITES, presentation) == 0
    before = found.mean_square[stimulus, cell, group]
    found.mean_square[stimulus, cell, group] = changed = np.float32(before * factor)
    stream = STREAMS[group // 2]
    expected = 0.0
    if stream in CLOSED_STREAMS and stream != DIFFERS[presentation] and changed != before:
        expected = abs(changed - before) / max(changed, before)
    assert largest_untouched(found, SITES, presentation) == pytest.approx(expected, rel=1e-6)


def test_where_every_site_can_differ_there_is_nothing_to_say():
    found = Activations(activations(0).mean_square[..., 6:], activations(0).token_counts)
    assert largest_untouched(found, SITES[3:], "prompt_pairs") is None


@pytest.mark.parametrize("dtype", LARGEST)
def test_more_than_rounding_is_refused(dtype):
    stimuli = SimpleNamespace(file=Path("set.toml"), presentation="prompt_pairs")
    found = activations(0)
    assert check_untouched(found, SITES, stimuli, dtype) == 0
    found.mean_square[2, 3, 2] *= 1 + LARGEST[dtype] / 2
    assert 0 < check_untouched(found, SITES, stimuli, dtype) <= LARGEST[dtype]
    found.mean_square[2, 3, 2] *= 1 + LARGEST[dtype]
    with pytest.raises(ProbeError, match=r"set\.toml: the members of a pair differ by .*`--refresh`"):
        check_untouched(found, SITES, stimuli, dtype)
