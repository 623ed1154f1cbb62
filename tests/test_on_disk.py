"""Activations that stay in the store: reductions of parts, damage between two readings, and memory of a run."""

import gc
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.activations import activations as in_memory
from fixtures.activations.activations import (
    LEAST,
    Activations,
    cell_rms,
    pair_differences,
    pooled_members,
    pooled_rms,
    tile_rows,
)
from fixtures.activations.measurement import Measurement
from fixtures.activations.on_disk import StoredActivations
from fixtures.activations.store import Entry, Store
from fixtures.claims.claims import Exceedance
from fixtures.claims.evidence import group_ratios, noise_ratios, noise_rms
from fixtures.claims.hypothesis import Hypothesis
from fixtures.common.errors import ProbeError
from fixtures.models.units import CELL_VISIBILITY, CELLS, TOKEN_GROUPS, Site, attention_heads, cells_of, channel_groups
from fixtures.session.options import resolve_settings
from fixtures.session.run import Run
from fixtures.statistics.log_effect import log_ratios
from fixtures.stimuli.sets import load_stimuli

SITES = (
    Site("a", "joint[0]", "image", 384, 256, 128),
    Site("b", "single[0]", "text+image", 512, 256, 128),
)
PARTITIONS = (channel_groups(SITES), attention_heads(SITES))  # a head is 8 groups, which NumPy may add up in two orders
N_GROUPS = sum(site.n_groups for site in SITES)
TOY = 'hypothesis = "{name}"\npresentation = "prompt_pairs"\na = "left"\nb = "right"\n'
PAIR = (
    '[[pairs]]\nid = "p{number}"\ncategory = "c"\na = "a cat {number} of {name}"\nb = "seven dogs {number} of {name}"\n'
)


@dataclass
class Segment:
    """What an `Entry` reads, and how often it was read; ``alive`` holds a weak reference to each reading."""

    activations: Activations
    alive: list = field(default_factory=list)

    def read(self) -> Activations:
        found = Activations(self.activations.mean_square.copy(), self.activations.token_counts)
        self.alive.append(weakref.ref(found))
        return found


@st.composite
def shown(draw):
    """Activations of some pairs, and the same in segments of any size."""
    n_stimuli = 2 * draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.integers(0, 5, (n_stimuli, len(CELLS)))
    counts[:, list(CELLS).index("noise, upper left")] += 1
    counts[:, draw(st.lists(st.integers(0, len(CELLS) - 1), max_size=2))] = 0
    whole = Activations(rng.lognormal(0, 2, (n_stimuli, len(CELLS), N_GROUPS)).astype(np.float32), counts)
    cuts = sorted({0, n_stimuli, *draw(st.lists(st.integers(1, n_stimuli - 1), max_size=5))})
    parts = [slice(start, end) for start, end in zip(cuts, cuts[1:], strict=False)]
    segments = [Segment(Activations(whole.mean_square[rows], whole.token_counts[rows])) for rows in parts]
    return whole, StoredActivations.of(segments, [counts[rows] for rows in parts], N_GROUPS)


def at_once(activations: Activations, partition, token_groups) -> np.ndarray:
    """Pooled RMS of all stimuli in one go."""
    cells = cells_of(token_groups)
    weights = activations.token_counts[:, cells, None] * partition.visible(CELL_VISIBILITY)[cells]
    mean_square = activations.mean_square[:, cells].astype(np.float64)[..., partition.groups].mean(axis=-1)
    return np.sqrt((weights * mean_square).sum(axis=1) / np.maximum(weights.sum(axis=1), 1))


def cells_at_once(activations: Activations, partition, token_group) -> np.ndarray:
    cells = cells_of((token_group,))
    present = (activations.token_counts[:, cells, None] > 0) & partition.visible(CELL_VISIBILITY)[cells]
    mean_square = activations.mean_square[:, cells].astype(np.float64)[..., partition.groups].mean(axis=-1)
    return np.sqrt(np.where(present, mean_square, 0))


@given(shown(), st.sampled_from([(group,) for group in TOKEN_GROUPS] + [TOKEN_GROUPS]), st.sampled_from([0, 2**22]))
@settings(deadline=None, max_examples=60)
def test_reductions_by_segment_equal_those_at_once_bit_by_bit(both, token_groups, tile_bytes):
    whole, stored = both
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_memory, "TILE_BYTES", tile_bytes)
        for partition in PARTITIONS:
            rms = at_once(whole, partition, token_groups)
            for found in (whole, stored):
                assert np.array_equal(pooled_rms(found, partition, token_groups), rms)
                a, b = pooled_members(found, partition, token_groups)
                assert np.array_equal(a, rms[0::2]) and np.array_equal(b, rms[1::2])
                assert a.flags.c_contiguous and b.flags.c_contiguous
                assert np.array_equal(pair_differences(found, partition, token_groups), a - b)
                for group in token_groups:
                    assert np.array_equal(cell_rms(found, partition, group), cells_at_once(whole, partition, group))


@given(shown())
@settings(deadline=None, max_examples=40)
def test_log_ratios_by_segment_equal_those_at_once_bit_by_bit(both):
    whole, stored = both
    whole = Activations(whole.mean_square, np.where(whole.token_counts.any(axis=0), whole.token_counts + 1, 0))
    stored = StoredActivations(stored.segments, stored.places, whole.token_counts, N_GROUPS)
    filled = [cell for cell in cells_of(("noise",)) if whole.token_counts[0, cell]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_memory, "TILE_BYTES", 0)
        for partition in PARTITIONS:
            squares = whole.mean_square[:, filled].astype(np.float64)[..., partition.groups].mean(axis=-1)
            rms = np.sqrt(squares).reshape(len(squares), -1)
            assert np.array_equal(noise_rms(stored, partition), rms)
            assert np.array_equal(noise_ratios(stored, partition), log_ratios(rms[0::2], rms[1::2]))
            for row, group in enumerate(TOKEN_GROUPS):
                through = partition.visible({"image": (0, 0, 1, 1), "text+image": (1, 1, 1, 1)})[row] > 0
                pooled = at_once(whole, partition, (group,))[:, through]
                found = group_ratios(stored, partition, group)
                if pooled.any():
                    assert np.array_equal(found, log_ratios(pooled[0::2], pooled[1::2]))
                else:
                    assert found is None


@given(st.integers(0, 200), st.integers(1, 7), st.integers(1, 2**16))
def test_tiles_are_whole_pairs_and_never_a_single_one_of_several(n_stimuli, n_cells, n_groups):
    rows = tile_rows(2 * n_stimuli, n_cells, n_groups)
    assert [row for tile in rows for row in range(tile.start, tile.stop)] == list(range(2 * n_stimuli))
    sizes = [tile.stop - tile.start for tile in rows]
    assert all(size % 2 == 0 for size in sizes) and (len(sizes) == 1 or min(sizes) >= LEAST)


@given(shown())
@settings(deadline=None, max_examples=30)
def test_a_reduction_reads_each_segment_once_and_holds_few(both):
    whole, stored = both
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_memory, "TILE_BYTES", 0)
        for tile in stored.tiles():
            held = sum(reading() is not None for segment in stored.segments for reading in segment.alive)
            assert held <= len(tile.token_counts)  # those that the tile is of
            del tile
    assert [len(segment.alive) for segment in stored.segments] == [1] * len(stored.segments)
    assert all(reading() is None for segment in stored.segments for reading in segment.alive)


@given(shown(), st.data())
@settings(deadline=None, max_examples=30)
def test_stimuli_beside_those_of_another_list(both, data):
    whole, stored = both
    half = len(whole.token_counts) // 2
    first = stored.rows(slice(0, half)).paired(stored.rows(slice(1, None, 2)))
    for name in ("mean_square", "token_counts"):
        values = getattr(whole, name)
        expected = np.stack([values[:half], values[1::2]], axis=1).reshape(2 * half, *values.shape[1:])
        assert np.array_equal(getattr(first, name), expected)


# damage


def entry_of(store, key, value):
    return store.get_all([key], lambda numbers: [value], hold=lambda value, entry: entry)[0][0]


@pytest.mark.parametrize("damage", ["delete", "truncate", "edit one byte", "another entry"])
def test_an_entry_that_is_damaged_between_two_readings_is_said_to_be_and_computed_again(tmp_path, damage):
    notes = []
    store = Store(tmp_path, notes.append)
    value = Activations(np.ones((2, 7, 3), np.float32), np.ones((2, 7), np.int64))
    entry = entry_of(store, {"own": 1}, value)
    assert np.array_equal(entry.read().mean_square, value.mean_square)
    data = entry.file.read_bytes()
    if damage == "delete":
        entry.file.unlink()
    elif damage == "truncate":
        entry.file.write_bytes(data[:-3])
    elif damage == "edit one byte":
        entry.file.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    else:
        entry.file.write_bytes(
            entry_of(store, {"own": 2}, Activations(value.mean_square * 2, value.token_counts)).file.read_bytes()
        )
    with pytest.raises(ProbeError, match=f"{entry.file.stem} was whole when this run found it.*Run again"):
        entry.read()
    again = entry_of(store, {"own": 1}, value)
    assert len(notes) == 1 and "computing it again" in notes[0]
    assert np.array_equal(again.read().mean_square, value.mean_square)


def test_an_entry_that_another_process_has_made_again_is_not_mixed_with_what_was_read(tmp_path):
    store = Store(tmp_path)
    value = Activations(np.ones((2, 7, 3), np.float32), np.ones((2, 7), np.int64))
    entry = entry_of(store, {"own": 1}, value)
    store.keep({"own": 1}, Activations(value.mean_square * 2, value.token_counts))
    with pytest.raises(ProbeError, match="Run again"):
        entry.read()


def write_toy(folder, name, count=8):
    (folder / "stimuli").mkdir(exist_ok=True)
    file = folder / "stimuli" / f"{name}.toml"
    file.write_text(TOY.format(name=name) + "".join(PAIR.format(number=n, name=name) for n in range(count)))
    return file


def test_a_measurement_says_what_was_damaged_and_the_next_one_captures_it_again(tiny, tmp_path):
    notes = []

    def measured():
        stimuli = load_stimuli(write_toy(tmp_path, "toy"))
        return Measurement(
            stimuli, tiny, Store(tmp_path / "store", notes.append), tmp_path, lambda what: lambda *done: None
        )

    first = measured()
    expected = first.differences
    first.release()
    damaged = first.activations.segments[1].file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ProbeError, match=damaged.stem):
        _ = first.differences
    again = measured()
    assert np.array_equal(again.differences, expected) and len(notes) == 1 and damaged.stem in notes[0]
    assert not again.origin["from_store"]


# memory of a run


@pytest.fixture
def alive(monkeypatch):
    """Weak references to what is read of activations, by its number of stimuli, and to pair differences."""
    seen = []
    read = Entry.read

    def noted(self):
        found = read(self)
        seen.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Entry, "read", noted)
    return seen


def test_what_a_run_has_read_is_gone_when_it_has_moved_on(tiny, tmp_path, alive, compiled):
    names = ("one", "two", "three")
    for name in names:
        write_toy(tmp_path, name)
    asked = {"model": "klein-tiny", "store": str(tmp_path / "store"), "device": "cpu", "null": "monte-carlo"}
    folder = tmp_path / "run"
    folder.mkdir()
    hypotheses = [Hypothesis(name, name, "s", "left minus right", "left") for name in names]
    order = Hypothesis("order", "order", "s", "c", "p", controls=(), compares=names)
    run = Run(
        resolve_settings(asked, {}, tmp_path, environment={}),
        tmp_path,
        folder,
        lambda what: lambda done, total: None,
        lambda line: None,
        order=hypotheses,
    )
    differences = []
    try:
        for hypothesis in hypotheses:
            assert run.evidence(hypothesis)["n_pairs"] == 8
            assert all(reference() is None for reference in differences)
            run.control(hypothesis, "confounds", [Exceedance(threshold=3.0, margin=1.01)])
            differences.append(weakref.ref(run.measured(hypothesis)[0].differences))
            assert differences[-1]() is not None
        records = [run.measured(hypothesis)[0].differences.copy() for hypothesis in hypotheses]  # from the store again
        compared = run.evidence(order)["compared"]
    finally:
        run.close()
    assert [axis["n_pairs"] for axis in compared] == [8, 8, 8] and len(records) == 3
    gc.collect()
    held = [run.measured(hypothesis)[0] for hypothesis in hypotheses]
    assert sum("differences" in vars(measurement) for measurement in held) == 0
    assert len(alive) > 2 * len(names) and all(reference() is None for reference in alive)
    assert all(reference() is None for reference in differences)
