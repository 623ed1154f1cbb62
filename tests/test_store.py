import multiprocessing
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.activations.activations import Activations
from fixtures.activations.store import Store
from fixtures.common.errors import ProbeError

NEVER_FRESH = "9999"
KEY = {"model": "m", "stimuli": ["a", "b"], "seed": 0}


def make(seed=0, stimuli=2, groups=3) -> Activations:
    generator = np.random.default_rng(seed)
    mean_square = generator.random((stimuli, 7, groups), dtype=np.float32)
    return Activations(mean_square, generator.integers(0, 9, (stimuli, 7)))


def same(one: Activations, other: Activations) -> bool:
    return np.array_equal(one.mean_square, other.mean_square) and np.array_equal(one.token_counts, other.token_counts)


def never():
    raise AssertionError("computed although stored")


@pytest.fixture
def notes():
    return []


@pytest.fixture
def store(tmp_path, notes):
    return Store(tmp_path / "store", notes.append)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    key=st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.lists(st.text()), st.none()), max_size=4),
    seed=st.integers(0, 99),
    stimuli=st.integers(1, 4),
)
def test_what_is_stored_comes_back_bit_by_bit(tmp_path, key, seed, stimuli):
    store = Store(tmp_path / "store")
    written, _ = store.get(key, lambda: make(seed, stimuli), refresh=NEVER_FRESH)
    read, stored = store.get(key, never)
    assert stored["from_store"] and same(read, written) and read.mean_square.dtype == np.float32


@dataclass(frozen=True)
class Other:
    numbers: np.ndarray
    name: np.ndarray


def test_transposed_arrays_come_back_as_they_are(store):
    written = Activations(make(0).mean_square.T, make(0).token_counts[::-1])
    store.get(KEY, lambda: written)
    found, origin = store.get(KEY, never)
    assert origin["from_store"] and same(found, written)


def test_any_dataclass_of_arrays_is_stored_and_none_is_taken_for_another(store):
    value = Other(np.arange(6.0).reshape(2, 3), np.array([True, False]))
    store.get(KEY, lambda: value, kind=Other)
    found, stored = store.get(KEY, never, kind=Other)
    assert stored["from_store"] and np.array_equal(found.numbers, value.numbers)
    assert np.array_equal(found.name, value.name) and found.name.dtype == bool
    found, stored = store.get(KEY, make)
    assert not stored["from_store"] and same(found, make())


def test_an_entry_remembers_what_it_was_made_with(store):
    _, fresh = store.get(KEY, make, made_with=lambda: {"packages": {"torch": "1"}})
    _, stored = store.get(KEY, never, made_with=lambda: {"packages": {"torch": "2"}})
    assert stored == fresh | {"from_store": True} and stored["made_with"] == {"packages": {"torch": "1"}}


def test_a_different_key_is_a_different_entry(store):
    store.get(KEY, make)
    other, stored = store.get({**KEY, "seed": 1}, lambda: make(1))
    assert not stored["from_store"] and same(other, make(1))
    assert same(store.get(KEY, never)[0], make())


def test_the_order_of_stimuli_matters_and_the_order_of_fields_does_not(store):
    assert store.path(KEY) != store.path({**KEY, "stimuli": ["b", "a"]})
    assert store.path(KEY) == store.path(dict(reversed(KEY.items())))


def test_refresh_computes_again(store):
    store.get(KEY, make)
    again, stored = store.get(KEY, lambda: make(5), refresh=NEVER_FRESH)
    assert not stored["from_store"] and same(again, make(5)) and same(store.get(KEY, never)[0], make(5))


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", ["delete", "truncate", "empty", "edit one byte", "replace"])
def test_every_damage_is_noticed_and_mended(store, notes, suffix, damage):
    store.get(KEY, make)
    file = store.path(KEY).with_suffix(suffix)
    data = file.read_bytes()
    if damage == "delete":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(data[:-7])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "edit one byte":
        position = len(data) // 2
        file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    else:
        other = Store(store.folder.parent / "other")
        other.get({"another": 1}, lambda: make(9))
        file.write_bytes(other.path({"another": 1}).with_suffix(suffix).read_bytes())
    again, stored = store.get(KEY, make)
    assert not stored["from_store"] and same(again, make())
    assert store.get(KEY, never)[1]["from_store"]
    deleted_sidecar = damage == "delete" and suffix == ".json"  # the same as a writer that was killed
    if not deleted_sidecar:
        assert store.path(KEY).stem in notes[0] and "damaged" in notes[0]
        assert list((store.folder / "damaged").iterdir())


def test_tensors_of_a_killed_writer_are_not_trusted(store):
    store.get(KEY, make)
    store.path(KEY).unlink()
    again, stored = store.get(KEY, lambda: make(3))
    assert not stored["from_store"] and same(again, make(3))


def test_an_error_while_computing_leaves_no_entry_and_no_lock(store):
    with pytest.raises(ZeroDivisionError):
        store.get(KEY, lambda: 1 // 0)
    assert not store.path(KEY).exists()
    assert store.get(KEY, make)[1]["from_store"] is False


def test_two_threads_compute_once(store):
    computed, results = [], []

    def compute():
        computed.append(1)
        return make()

    threads = [threading.Thread(target=lambda: results.append(store.get(KEY, compute))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1 and sorted(stored["from_store"] for _, stored in results) == [False, True, True, True]


def _get_in_process(folder, queue):
    def compute():
        queue.put("computed")
        return make()

    Store(folder).get(KEY, compute)


def test_two_processes_compute_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_get_in_process, args=(tmp_path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert queue.get(timeout=5) == "computed" and queue.empty()


def test_a_store_that_cannot_be_written_can_be_read(store, monkeypatch):
    store.get(KEY, make)
    monkeypatch.setattr("fixtures.activations.store.write_together", never)
    monkeypatch.setattr("fixtures.common.locks.FileLock", never)
    assert same(store.get(KEY, never)[0], make())


def test_an_entry_of_another_format_is_computed_again(store, notes, monkeypatch):
    monkeypatch.setattr("fixtures.activations.store.FORMAT", 0)
    store.get(KEY, make)
    monkeypatch.undo()
    assert not store.get(KEY, make)[1]["from_store"] and "its format is 0" in notes[0]


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ProbeError, match=r"cannot be written .*--store DIR"):
        Store(tmp_path / "file").get(KEY, make)
