"""Evaluations that the store keeps: what was put in comes out, and whatever could change it makes it again."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.claims.hypothesis import compared_hypothesis
from fixtures.session import remembered
from fixtures.session.evaluation import asked
from fixtures.session.remembered import Remembered, code_sha256
from fixtures.statistics.null_plan import NullPlan

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def never():
    raise AssertionError("computed although it is kept")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(st.text(), JSON), file=st.binary())
def test_a_second_run_gets_what_the_first_computed(store, value, file):
    asked = {"value": value, "file": file.hex(), "thresholds": (3.0, 5.0)}
    first = Remembered(store).get(asked, lambda: (value, file))
    again = Remembered(store).get(asked, never)
    assert first[:2] == again[:2] == (json.loads(json.dumps(value)), file)
    assert again[2]["from_store"]
    assert first[2]["created"] == again[2]["created"] is not None


def test_what_comes_from_the_store_says_so(tmp_path):
    record = {"twins": [{"origin": {"from_store": False, "key": "x"}}], "from_store": False}
    assert Remembered(tmp_path).get({"what": 1}, lambda: (record, b""))[0] == record
    found = Remembered(tmp_path).get({"what": 1}, never)[0]
    assert found == {"twins": [{"origin": {"from_store": True, "key": "x"}}], "from_store": True}


def test_another_question_or_other_code_is_computed(store, monkeypatch):
    kept = Remembered(store)
    kept.get({"what": 1}, lambda: ({"n": 1}, b""))
    assert kept.get({"what": 2}, lambda: ({"n": 2}, b""))[0] == {"n": 2}
    monkeypatch.setattr(remembered, "code_sha256", lambda: "other")
    assert kept.get({"what": 1}, lambda: ({"n": 3}, b""))[0] == {"n": 3}


def test_refresh_makes_again_what_is_older(store):
    Remembered(store).get({"what": 1}, lambda: ({"n": 1}, b""))
    assert Remembered(store, "9999").get({"what": 1}, lambda: ({"n": 2}, b""))[0] == {"n": 2}
    assert Remembered(store).get({"what": 1}, never)[0] == {"n": 2}


def test_what_went_wrong_once_is_tried_again(store):
    kept = Remembered(store)
    value, _, origin = kept.get({"what": 1}, lambda: ({"fine": False}, b""), lambda value: value["fine"])
    assert value == {"fine": False} and origin["created"] is None
    assert kept.get({"what": 1}, lambda: ({"fine": True}, b""), lambda value: value["fine"])[0] == {"fine": True}
    assert kept.get({"what": 1}, never)[0] == {"fine": True}


def test_a_damaged_entry_is_computed_again(store):
    Remembered(store).get({"what": 1}, lambda: ({"n": 1}, b"table"))
    for file in store.rglob("*.safetensors"):
        file.write_bytes(b"cut")
    assert Remembered(store).get({"what": 1}, lambda: ({"n": 2}, b""))[0] == {"n": 2}
    assert Remembered(store).get({"what": 1}, never)[0] == {"n": 2}


def test_a_store_that_cannot_be_written_keeps_nothing_and_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    kept = Remembered(tmp_path / "file")
    for number in (1, 2):
        value, _, origin = kept.get({"what": 1}, lambda: ({"n": number}, b""))  # noqa: B023 - called at once
        assert value == {"n": number} and not origin["from_store"] and origin["created"] is None


def test_the_code_is_hashed_with_its_names(tmp_path, monkeypatch):
    def hashed(**files):
        for name, text in files.items():
            (tmp_path / "statistics" / f"{name}.py").write_text(text)
        code_sha256.cache_clear()
        return code_sha256()

    for folder in ("statistics", "session"):
        (tmp_path / folder).mkdir()
    (tmp_path / "session" / "evaluation.py").write_text("")
    monkeypatch.setattr(remembered, "ROOT", tmp_path)
    try:
        one = hashed(a="1", b="2")
        assert hashed(a="1", b="2") == one
        assert hashed(a="2", b="1") != one
        assert hashed(a="1", b="2 ") != one
    finally:
        monkeypatch.undo()
        code_sha256.cache_clear()


def test_activations_that_were_captured_again_are_other_ones():
    def about(created):
        stimuli, model = SimpleNamespace(sha256="s"), SimpleNamespace(split=lambda name: None)
        origin = {"key": "k", "created": created}
        return asked(
            compared_hypothesis("one"), SimpleNamespace(origin=origin, stimuli=stimuli, model=model), NullPlan()
        )

    assert about("2026") == about("2026") != about("2027")
