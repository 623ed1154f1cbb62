"""Twins that stay in memory: the same ones, only where there is room, and gone when the room is needed."""

import pytest
import torch

from fixtures.models import kept_twins
from fixtures.models.kept_twins import KeptTwins, free_memory, size_of
from fixtures.models.loaded import LoadedModel


@pytest.fixture
def made(tiny):
    """A function that makes a twin, and counts in ``calls``."""

    def make() -> LoadedModel:
        make.calls += 1
        return tiny.loaded.like({"transformer": tiny.loaded.transformer})

    make.calls = 0
    return make


def test_a_twin_is_made_once_where_there_is_room(made):
    kept = KeptTwins()
    first = kept.get("shuffled", 0, made)
    assert kept.get("shuffled", 0, made) is first
    assert kept.get("shuffled", 1, made) is not first
    assert kept.get("re-initialised", 0, made) is not first
    assert made.calls == 3


@pytest.mark.parametrize(("room", "calls"), [(-1, 2), (0, 1)])
def test_it_stays_where_it_takes_a_quarter_of_what_is_free(made, tiny, monkeypatch, room, calls):
    needed = kept_twins.SHARE * size_of(tiny.loaded.transformer)
    monkeypatch.setattr(kept_twins, "free_memory", lambda device: needed + room)
    kept = KeptTwins()
    for _ in range(2):
        kept.get("shuffled", 0, made)
    assert made.calls == calls


def test_room_is_made_by_releasing_them_first(made):
    kept = KeptTwins()
    assert not kept.release()
    kept.get("shuffled", 0, made)
    assert kept.release()
    assert not kept.release()
    kept.get("shuffled", 0, made)
    assert made.calls == 2


def test_the_others_go_where_there_is_no_room_for_one_more(made):
    kept = KeptTwins()
    kept.get("shuffled", 0, made)

    def full() -> LoadedModel:
        if kept.twins:
            raise MemoryError
        return made()

    kept.get("shuffled", 1, full)
    assert set(kept.twins) == {("shuffled", 1)}
    with pytest.raises(ZeroDivisionError):
        kept.get("shuffled", 2, lambda: 1 / 0)
    kept.release()
    with pytest.raises(MemoryError):
        kept.get("shuffled", 3, lambda: (_ for _ in ()).throw(MemoryError()))


def test_a_transformer_that_comes_by_turns_is_not_kept(made, tiny):
    from fixtures.models.turns import Turns

    def by_turns() -> LoadedModel:
        made.calls += 1
        return LoadedModel(tiny.loaded.family, tiny.loaded.pipeline, Turns({}))

    kept = KeptTwins()
    for _ in range(2):
        kept.get("shuffled", 0, by_turns)
    assert made.calls == 2


def test_a_container_may_have_less_than_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_twins, "CONTAINER", tmp_path)
    whole = free_memory(torch.device("cpu"))
    for limit, used, expected in (("1000", "400", 600), ("1000", "2000", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        assert free_memory(torch.device("cpu")) == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) > whole / 2


def test_sizes_are_those_of_the_weights(tiny):
    transformer = tiny.loaded.transformer
    assert size_of(transformer) == 4 * sum(parameter.numel() for parameter in transformer.parameters())
    assert free_memory(transformer.device) > size_of(transformer)
