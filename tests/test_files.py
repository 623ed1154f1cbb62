import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.common.files import canonical_json, read_json, read_toml, sha256_of, write_atomically, write_json

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda children: st.one_of(st.lists(children, max_size=3), st.dictionaries(st.text(), children, max_size=3)),
)


@given(value=st.dictionaries(st.text(), json_values, max_size=4))
def test_the_hash_does_not_depend_on_the_order_of_fields(value):
    assert sha256_of(value) == sha256_of(dict(reversed(value.items())))
    assert json.loads(canonical_json(value)) == value


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "x"
    write_atomically(file, b"old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_what_is_not_json_reads_as_none(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    assert read_json(tmp_path / "bad.json") is None and read_json(tmp_path / "gone.json") is None


def test_toml_is_read_or_named(tmp_path):
    assert read_toml(tmp_path / "gone.toml") == {}
    (tmp_path / "bad.toml").write_text("x = [")
    with pytest.raises(ProbeError, match="bad.toml: not valid TOML"):
        read_toml(tmp_path / "bad.toml")
