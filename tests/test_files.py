import ast
import codecs
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.common.files import (
    canonical_json,
    load_json,
    parse_toml,
    read_json,
    read_toml,
    remembered_in,
    sha256_of,
    write_atomically,
    write_json,
)

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


SOURCES = Path(__file__).parents[1] / "fixtures"
JSON, TOML = '{"x": "漢 ä"}', 'x = "漢 ä"\n'
READ = {"utf-8": True, "utf-8-sig": True, "utf-16": False, "utf-16-le": False, "utf-32": False, "cp1252": False}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("encoding", "read"), READ.items())
@pytest.mark.parametrize(("text", "load"), [(JSON, load_json), (TOML, read_toml)], ids=["json", "toml"])
def test_utf_8_is_read_with_a_byte_order_mark_or_without_and_nothing_else_is(
    tmp_path, text, load, encoding, read, newline
):
    file = tmp_path / "file"
    text = text if encoding != "cp1252" else text.replace("漢", "é")
    file.write_bytes(("# one\n" * (load is read_toml) + text).replace("\n", newline).encode(encoding))
    if read:
        assert load(file) == {"x": "漢 ä"}
    else:
        with pytest.raises(ProbeError, match=f"{file}: not valid (JSON|TOML) in UTF-8: "):
            load(file)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE])
def test_an_encoding_that_the_file_itself_names_is_named(tmp_path, mark):
    (tmp_path / "file").write_bytes(mark + b"\0\0\0\0")
    for load in (load_json, read_toml):
        with pytest.raises(ProbeError, match=r"it is in UTF-(16|32).*\. Save it as UTF-8"):
            load(tmp_path / "file")


DEEP = b"[" * 100_000
DAMAGED = [b"", b"\0", b"\xff\xfe", b"{", DEEP, b"x = " + DEEP, b'{"x": 1}garbage', b"9" * 10_000, b"\xef"]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:20]))
def test_whatever_is_in_a_file_it_is_read_or_named(tmp_path, content):
    file = tmp_path / "file"
    file.write_bytes(content)
    for load in (load_json, read_toml):
        try:
            load(file)
        except ProbeError as error:
            assert str(error).startswith(f"{file}: not valid ")
    assert read_json(file) is None


@given(content=st.binary(max_size=40))
def test_whatever_bytes_there_are_toml_is_read_or_named(content):
    try:
        assert isinstance(parse_toml(content, Path("file.toml")), dict)
    except ProbeError as error:
        assert str(error).startswith("file.toml: not valid TOML in UTF-8: ")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    for load in (load_json, read_toml):
        with pytest.raises(ProbeError, match=r"cannot be read \(Is a directory\)"):
            load(tmp_path)
    assert read_json(tmp_path) is None


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "{", ""])
def test_what_is_remembered_in_a_damaged_file_is_nothing(tmp_path, content):
    (tmp_path / "hashes.json").write_text(content)
    assert remembered_in(tmp_path / "hashes.json") == remembered_in(tmp_path / "gone.json") == remembered_in(None) == {}


def test_every_file_of_json_or_toml_is_read_by_the_one_reader_of_its_format():
    """The only other things that are parsed are no files of their own: a header, a line of a log, a value in memory."""
    for file in SOURCES.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        if file == SOURCES / "common" / "files.py":
            continue
        for node in ast.walk(ast.parse(source)):
            called = ast.get_source_segment(source, node) or "" if isinstance(node, ast.Call) else ""
            assert not called.startswith("json.load("), file
            assert not (called.startswith("json.loads(") and ("read_text" in called or "read_bytes" in called)), file
        assert "tomllib" not in source, file
