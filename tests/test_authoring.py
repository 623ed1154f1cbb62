"""Tables of pairs read, refused by line and column, and written as stimulus files that the loader takes."""

import ast
import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.claims.probe_file import literal, probe_source
from fixtures.common.characters import JOINERS, fault, seen
from fixtures.common.errors import ProbeError
from fixtures.stimuli.authoring.draft import Draft
from fixtures.stimuli.authoring.names import ids_of, is_picture, slug
from fixtures.stimuli.authoring.tables import Row, read_table, rows_of
from fixtures.stimuli.authoring.written import toml_of
from fixtures.stimuli.sets import IDENTIFIER, load_stimuli

ROOT = Path(__file__).parents[1]
NASTY = ['say "so"', "C:\\new\\", "it's", "'''", '"""', "\\", "#", "= [x]", "Würfel", "猫が落ちる", "1,5; 2", "a x.png"]
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(max_size=30)).map(str.strip).filter(lambda text: usable(text))


def usable(text):
    if is_picture(text) and len(text.split()) == 1:  # which is refused as a caption
        return False
    return not fault(text) and bool(seen(text).strip(JOINERS)) and text not in ("None", "nan", "<NA>", "NaT")


def draft(rows, folder=Path("."), presentation="prompt_pairs", **given):
    return Draft("gravity", "Gravity", presentation, "falling", "resting", rows, folder, **given)


def written(made, folder):
    file = folder / "gravity.toml"
    file.write_text(toml_of(made, lambda image, name: str(image.resolve())), encoding="utf-8")
    return load_stimuli(file)


def table(folder, text, name="pairs.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def as_csv(rows, delimiter):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_toml(rows):
    quoted = [{name: json.dumps(text, ensure_ascii=False) for name, text in row.items()} for row in rows]
    return "".join("[[pairs]]\n" + "".join(f"{name} = {text}\n" for name, text in row.items()) for row in quoted)


@given(
    texts=st.lists(TEXTS, min_size=4, max_size=12, unique_by=lambda text: normalize("NFC", text)),
    delimiter=st.sampled_from(",;\t"),
    mark=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_every_table_of_valid_texts_comes_back_from_the_stimulus_file(tmp_path_factory, texts, delimiter, mark):
    folder = tmp_path_factory.mktemp("tables")
    rows = [
        {"a": a, "b": b, "category": f"K {n}"} for n, (a, b) in enumerate(zip(texts[::2], texts[1::2], strict=False))
    ]
    start = "\ufeff" if mark else ""
    tables = (
        table(folder, start + as_csv(rows, delimiter)),
        table(folder, start + "\n".join(json.dumps(row, ensure_ascii=mark) for row in rows), "pairs.jsonl"),
        table(folder, as_toml(rows), "pairs.toml"),
    )
    read = [read_table(file) for file in tables] + [rows_of(rows)]
    for found in read:
        stimuli = written(draft(found), folder)
        assert [(p.a.prompt, p.b.prompt, p.category) for p in stimuli.pairs] == [
            (row["a"], row["b"], f"k_{n}") for n, row in enumerate(rows)
        ]
    assert len({tuple(ids_of(found)) for found in read}) == 1


@given(st.lists(st.tuples(TEXTS, st.none() | st.from_regex(IDENTIFIER, fullmatch=True)), min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_ids_are_identifiers_each_once_and_those_above_stay_when_a_row_is_added(entries):
    given_ids = [name for _, name in entries if name]
    rows = [Row(str(n), {"a": text, **({"id": name} if name else {})}) for n, (text, name) in enumerate(entries)]
    clash = any(f"{name}_placebo" in given_ids for name in given_ids)
    if len(set(given_ids)) < len(given_ids) or clash:
        with pytest.raises(ProbeError):
            ids_of(rows)
        return
    found = ids_of(rows)
    everything = [*found, *(f"{name}_placebo" for name in found)]
    assert len(set(everything)) == len(everything) and all(map(IDENTIFIER.fullmatch, found))
    assert [name for name, (_, own) in zip(found, entries, strict=True) if own] == given_ids
    assert ids_of([*rows, Row("new", {"a": "placebo"})])[:-1] == found


def test_an_id_is_the_beginning_of_the_text():
    rows = [Row("1", {"a": text}) for text in ("A ball falls.", "A ball falls!", "猫", "Ça " + "tombe " * 20)]
    assert ids_of(rows) == ["a_ball_falls", "a_ball_falls_2", "pair", "ca_tombe_tombe_tombe_tombe_tombe_tombe"]
    assert slug("Free Fall – 2") == "free_fall_2"


HEAD = "a,b,category,template,id\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "pairs.csv, line 1: has no columns a and b ('x,y')"),
        ("a,b,A\n1,2,3\n", "pairs.csv, line 1: column a stands there twice"),
        ("a,b\n1,2\n3,4,5\n", "pairs.csv, line 3: 3 cells, the header has 2. Put a text that has the delimiter ','"),
        ("a,b\n1,2\n", "pairs.csv: 1 pair; expected at least 2"),
        ("a,b\n1,2\n\n ,\n3,\n", "pairs.csv, line 5, column b: is empty"),
        ('a,b\n1,2\n"3" x,4\n', "pairs.csv, line 3: not valid CSV"),
        ('a,b\n"1\n1",2\n3,4\n', "pairs.csv, line 2, column a: has U+000A"),
        ('a,b,n\n1,2,\n"3",4,"5\n6"\n', "pairs.csv, line 3, column n: is not known; expected columns a and b"),
        ("a,b\n1,2\n3,4\u202e\n", "pairs.csv, line 3, column b: has U+202E"),
        ("a,b\n1,2\n3,1\n", "pairs.csv, line 3, column b: is the same as pairs.csv, line 2, column a"),
        ("a,b\né,2\n3,e\u0301\n", "line 3, column b: is the same as pairs.csv, line 2, column a"),
        (HEAD + "1,2,c,,\n3,4,,,\n", "line 3, column category: is empty and filled in other rows"),
        (HEAD + "1,2,,,x\n3,4,,,x\n", "line 3, column id: is 'x', as in pairs.csv, line 2"),
        (
            HEAD + "1,2,,,x\n3,4,,,A b\n",
            "id: is 'A b'; expected lower-case letters, digits and _, such as a_b",
        ),
        (HEAD + "1,2,,,x\n3,4,,,x_placebo\n", "line 3, column id: is that of the placebo of x"),
        (HEAD + "1,2,A b,,\n3,4,a-b,,\n", "line 3, column category: is 'a-b', which as a_b is also 'A b'"),
        (HEAD + "1,2,,猫,\n3,4,,t,\n", "line 2, column template: is '猫'; expected letters a to z or digits"),
        ("a,b,placebo_a\n1,2,3\n4,5,6\n", "line 2, column placebo_b: is missing beside placebo_a"),
        ("a,b,reference\n1,2,3\n4,5,6\n", "pairs.csv, line 2: 'reference' is for reference_prompt_pairs"),
        (b"a,b\n\xe9,2\n", "pairs.csv: not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "pairs.csv: not UTF-8 (it is in UTF-16). Save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_line_and_column(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, text)
    with pytest.raises(ProbeError) as error:
        toml_of(draft(read_table(Path("pairs.csv"))), lambda image, name: name)
    assert message in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"a": "1", "b": "2"}\n{"a": 1\n', "x.jsonl, line 2: not valid JSON"),
        ("x.jsonl", '{"a": "1", "b": "2"}\n\n["a"]\n', 'x.jsonl, line 3: is ["a"]; expected an object'),
        ("x.jsonl", '{"a": "1", "b": 2}\n', "x.jsonl, line 1, column b: is 2; expected a text"),
        ("x.toml", 'title = "x"\n', "x.toml: has title; expected [[pairs]]"),
        ("x.toml", '[[pairs]]\na = "1"\nb = ["2"]\n', "x.toml, pair 1, column b: is ['2']"),
        ("x.xlsx", "", "x.xlsx: expected a table of pairs that ends in .csv, .tsv, .jsonl, .toml"),
    ],
)
def test_other_tables_too(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, text, name)
    with pytest.raises(ProbeError) as error:
        read_table(Path(name))
    assert message in str(error.value)


def test_headers_have_any_case_and_missing_values_of_a_data_frame_are_none():
    nan = float("nan")
    rows = rows_of([{"A": " x ", "B": "y", "Category": nan}, {"A": "z", "B": "w", "Category": None}])
    assert [row.cells for row in rows] == [{"a": "x", "b": "y"}, {"a": "z", "b": "w"}]
    with pytest.raises(ProbeError, match=r"pairs\[1\]: is 'ab'; expected a pair"):
        rows_of([("a", "b"), "ab"])


def test_images_stand_in_the_file_with_their_sha256_and_an_altered_placebo(tmp_path, photos):
    rows = rows_of([(photos[0].name, photos[1].name), (photos[2].name, "a prompt")])
    stimuli = written(draft(rows, tmp_path, "image_pairs"), tmp_path)
    assert [member.image for _, _, member in stimuli.members()] == [*photos[:3], None]
    assert all(member.sha256 for _, _, member in stimuli.members() if member.image) and stimuli.image_seed == 1000
    assert stimuli.alterations == ("brightness", "scale", "crop", "mirror")
    drawn = written(draft(rows_of([("1", "2"), ("3", "4")]), tmp_path, "image_pairs", prompt="Look."), tmp_path)
    assert drawn.alterations[0] == "seed" and drawn.prompt == "Look."
    with pytest.raises(ProbeError, match=r"pairs\[1\], column b: names the image .*gone.png, which is not there"):
        written(draft(rows_of([("1", "2"), ("3", "gone.png")]), tmp_path, "image_pairs"), tmp_path)


def test_references_are_of_the_set_or_of_each_pair(tmp_path, photos):
    two = [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    kind = "reference_prompt_pairs"
    one = written(draft(rows_of(two), tmp_path, kind, image=photos[0].name), tmp_path)
    assert one.reference.image == photos[0]
    assert written(draft(rows_of(two), tmp_path, kind, reference="a room"), tmp_path).reference.prompt == "a room"
    own = [row | {"image": photo.name} for row, photo in zip(two, photos, strict=False)]
    stimuli = written(draft(rows_of(own), tmp_path, kind), tmp_path)
    assert [pair.reference.image for pair in stimuli.pairs] == photos[:2]
    for rows, given_ in ((two, {}), (own, {"reference": "a room"}), (two, {"reference": "x", "image": "y"})):
        with pytest.raises(ProbeError, match="Expected one of: a column reference"):
            written(draft(rows_of(rows), tmp_path, kind, **given_), tmp_path)


def test_a_placebo_stands_below_the_pairs(tmp_path):
    rows = [{"a": f"a{n}", "b": f"b{n}", "placebo_a": f"c{n}", "placebo_b": f"d{n}", "template": "t"} for n in range(2)]
    stimuli = written(draft(rows_of(rows)), tmp_path)
    assert [(p.id, p.a.prompt, p.template) for p in stimuli.placebo] == [
        ("a0_placebo", "c0", "t"),
        ("a1_placebo", "c1", "t"),
    ]
    with pytest.raises(ProbeError, match="placebo_a: is not for image_pairs"):
        written(draft(rows_of(rows), presentation="image_pairs"), tmp_path)


@given(TEXTS, TEXTS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_the_probe_file_says_in_python_what_was_given(title, a, b):
    tree = ast.parse(probe_source("gravity", title, a, b, "prompt_pairs"))
    (declared,) = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in declared.keywords}
    assert values["title"] == title and values["contrast"] == f"{a} minus {b}"
    assert ast.get_docstring(tree, clean=False).startswith(f"Does the model tell {a} (A) from {b} (B)? {title}.")
    assert ast.literal_eval(literal(title)) == title


def test_the_probe_file_is_formatted(tmp_path):
    for number, (title, a) in enumerate([("Gravity", "falling"), *zip(NASTY, reversed(NASTY), strict=True)]):
        (tmp_path / f"test_{number}.py").write_text(probe_source("g", title, a, "b", "image_pairs"), encoding="utf-8")
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True, env=os.environ | {"RUFF_NO_CACHE": "true"})
        assert done.returncode == 0, done.stdout


def test_a_text_too_long_for_its_line_is_refused():
    with pytest.raises(ProbeError, match="characters too long for a line of the probe file"):
        probe_source("g", "T", "a" * 90, "b", "prompt_pairs")


def test_image_files_are_not_taken_for_captions(tmp_path):
    with pytest.raises(ProbeError, match=r"column a: is an image file; .*--presentation image_pairs"):
        draft(rows_of([("imgs/a0.png", "imgs/b0.png"), ("imgs/a1.PNG", "imgs/b1.png")]), tmp_path).check()
    draft(rows_of([("a drawing of a.png", "one of b.png"), ("c", "d")]), tmp_path).check()


def test_two_conditions_have_two_names(tmp_path):
    with pytest.raises(ProbeError, match=r"a and b: are both 'x'"):
        replace(draft(rows_of([("1", "2"), ("3", "4")]), tmp_path), a="x", b="x").check()
