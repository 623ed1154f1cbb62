"""What `verify` says of a run that follows, and of every way in which one does not."""

import argparse
import copy
import gzip
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registered_project import LOCK, command, commit, under_git
from safetensors.numpy import load_file, save
from toy_project import PROBE, folder, run

from fixtures.common.errors import ProbeError
from fixtures.common.files import readable_json, sha256_of
from fixtures.results.verification import compared, holm_differs, is_same, tables_differ
from fixtures.session.verify_command import verify

pytest_plugins = "pytester"
CONTROLS = "familywise,replication,confounds"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "project"


@pytest.fixture
def place(ladder, kept, tmp_path, monkeypatch) -> Path:
    """A project that was registered and run, with its store in it: the run is ``reports/run``."""
    if not kept.exists():
        monkeypatch.setenv("PROBES_STORE", str(ladder.path / "store"))
        under_git(ladder)
        assert command(ladder, monkeypatch, "register") == 0
        commit(ladder)
        run(ladder, "--controls", CONTROLS)
        folder(ladder).rename(ladder.path / "reports" / "run")
        shutil.copytree(ladder.path, kept, symlinks=True)
    return Path(shutil.copytree(kept, tmp_path / "project", symlinks=True))


def verified(place: Path, store: str = "store") -> tuple[int, str]:
    """The exit code, and what was said."""
    said: list[str] = []
    chosen = argparse.Namespace(folder=place / "reports" / "run", store=str(place / store))
    return verify(chosen, place, said.append), "\n".join(said)


def change(place: Path, edit) -> None:
    """Edit results.json."""
    file = place / "reports" / "run" / "results.json"
    data = json.loads(file.read_text())
    edit(data)
    file.write_bytes(readable_json(data))


def test_a_run_follows_from_its_store(place):
    code, said = verified(place)
    assert code == 0 and said.endswith("Everything follows."), said
    assert "follows      registration: registration.lock.json, commit" in said
    assert "follows      toy: " in said and "files: 5 of 5" in said


def test_every_figure_that_was_changed_is_named(place):
    def edit(data):
        (toy,) = data["hypotheses"]
        toy["counts"][0]["observed"] += 1
        toy["counts"][1]["null"]["p99"] += 1
        toy["effect"]["percent"] *= 1.00001
        toy["split_half_r"]["null"]["p"] += 1e-9
        toy["claims"][0]["p_holm"] = 0.5
        toy["claims"][1] |= {"verdict": "supported"}
        toy["controls"][0]["number"] = "9"
        toy["activations"]["key"] = "0" * 64
        toy["registration"]["verdict"] = "after capture"
        toy["stimuli"]["pairs"][0]["a"]["sha256"] = "0" * 64
        toy["statement"]["represents"] = True

    change(place, edit)
    table = place / "reports/run/toy.units.csv.gz"
    lines = gzip.decompress(table.read_bytes()).decode().split("\n")
    cells = lines[5].split(",")
    place_of_t = lines[0].split(",").index("t")
    cells[place_of_t] = str(float(cells[place_of_t]) + 1)
    table.write_bytes(gzip.compress("\n".join([*lines[:5], ",".join(cells), *lines[6:]]).encode()))
    code, said = verified(place)
    assert code == 1
    for words in (
        "counts[0].observed: ",
        "counts[1].null.p99: ",
        "effect.percent: ",
        "split_half_r.null.p: ",
        "toy/count_t3: p_holm: 0.5 recorded",
        "count_t5: verdict: 'supported' recorded, 'refuted' computed again",
        "familywise: number: '9' recorded",
        "activations.key: ",
        "toy: 'after capture' recorded, 'before capture' computed again",
        "stimuli.pairs[0].a.sha256: ",
        "statement: it does not follow",
        "toy.units.csv.gz: row 5, t: ",
    ):
        assert words in said, (words, said)
    assert f"{said.count('DIFFERS')} differences, 0 not checked." in said


def test_activations_that_were_changed_and_signed_again(place):
    """The store's own hashes hold, and what follows from them is something else."""
    for sidecar in (place / "store" / "activations").rglob("*.json"):
        content = json.loads(sidecar.read_text())
        tensors = load_file(sidecar.with_suffix(".safetensors"))
        if "untrained_twin" in content["key"] or content["key"]["protocol"]["seed"]:
            continue
        tensors["mean_square"][0::2] *= np.float32(1.5)
        data = save(tensors)
        sidecar.with_suffix(".safetensors").write_bytes(data)
        content["tensors_sha256"] = hashlib.sha256(data).hexdigest()
        content.pop("sidecar_sha256")
        sidecar.write_bytes(readable_json(content | {"sidecar_sha256": sha256_of(content)}))
    code, said = verified(place)
    assert code == 1 and "DIFFERS      toy: counts[0]." in said and "DIFFERS      toy: max_abs_t: " in said


def test_inputs_that_were_changed(place):
    """The keys of other stimuli are not in the store: nothing is computed of them."""
    stimuli = place / "stimuli/toy.toml"
    stimuli.write_text(stimuli.read_text().replace("a cat sits", "a dog sits"))
    (place / "probes/test_toy.py").unlink()
    (place / LOCK).write_text("{}")
    code, said = verified(place)
    assert code == 1
    assert "stimuli/toy.toml (stimuli): sha256 " in said and "test_toy.py (probe file): cannot be read" in said
    assert "NOT CHECKED  registration: registration.lock.json is not the file" in said
    assert "NOT CHECKED  toy: " in said
    (place / "probes/test_toy.py").write_text(PROBE)
    code, said = verified(place)
    assert code == 1 and "NOT CHECKED  toy: " in said and "nothing stored of toy's images" in said


def test_another_store_other_code_and_what_takes_weights_is_not_checked(place):
    def edit(data):
        data["provenance"]["suite"]["code_sha256"] = "0" * 64
        data["calibration"] = {"model": "", "seed": 0, "rows": [], "power": POWER}

    change(place, edit)
    code, said = verified(place, "nowhere")
    assert code == 1 and "NOT CHECKED  code: " in said and "NOT CHECKED  calibration: " in said
    assert "nothing was captured here of model" in said and "`--store DIR`" in said


POWER = {"n_pairs": 0, "n_units": 0, "n_planted": 0, "runs": 0, "effects": [], "curves": []}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: data["run"].update(finished=None), "was not finished"),
        (lambda data: data.pop("provenance"), "names no sources"),
        (lambda data: data.update(schema=0), "field schema"),
    ],
)
def test_what_cannot_be_used_is_refused(place, monkeypatch, capsys, edit, words):
    change(place, edit)
    with pytest.raises(ProbeError, match=words):
        verified(place)


def test_the_command_refuses_a_folder_without_results(ladder, monkeypatch, capsys):
    assert command(ladder, monkeypatch, "verify", "nowhere") == 4
    assert "results.json" in capsys.readouterr().err


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False, width=32)
records = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, min_size=1)
    ),
    max_leaves=12,
)


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [path] if items is None else [leaf for name, inner in items for leaf in leaves(inner, (*path, name))]


@settings(max_examples=40)
@given(record=st.dictionaries(st.text("abc", min_size=1), records, min_size=1), data=st.data())
def test_a_record_follows_from_itself_and_one_leaf_that_was_changed_is_the_only_difference(record, data):
    places = leaves(record)
    assert (compared(record, record).leaves, compared(record, record).different) == (len(places), [])
    *way, last = data.draw(st.sampled_from(places))
    changed = copy.deepcopy(record)
    inner = changed
    for step in way:
        inner = inner[step]
    inner[last] = "another word"
    assert len(compared(record, changed).different) == 1 and len(compared(changed, record).different) == 1


def test_what_is_the_same():
    assert is_same("percent", 1.0, 1.0 + 1e-7) and not is_same("percent", 1.0, 1.0 + 1e-5)
    assert is_same("p", 0.5, 0.5 + 1e-15) and not is_same("p", 0.5, 0.5 + 1 / 2**30)
    assert is_same("percent", 2, 2.0) and not is_same("observed", 2, 3) and not is_same("ok", True, 1)
    assert not is_same("observed", 10**12, 10**12 + 1)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), max_size=5))
def test_holm_by_brute_force(values):
    """The adjusted p of a claim: the largest, over claims with no larger p, of p times how many are not smaller."""
    adjusted = [
        min(1.0, max(other * sum(third >= other for third in values) for other in values if other <= p)) for p in values
    ]
    both = zip(values, adjusted, strict=True)
    claims = [{"id": f"c{n}", "kind": "effect", "p": p, "p_holm": holm} for n, (p, holm) in enumerate(both)]
    assert holm_differs([{"id": "h", "claims": claims}], ("effect",)) == []
    for claim in claims:
        wrong = [one | ({"p_holm": one["p_holm"] + 0.01} if one is claim else {}) for one in claims]
        assert len(holm_differs([{"id": "h", "claims": wrong}], ("effect",))) == 1


def test_a_table_that_cannot_be_read_differs(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(b"t\n1\n2\n"))
    (tmp_path / "b").write_bytes(gzip.compress(b"t\n1\n"))
    (tmp_path / "c").write_bytes(b"no gzip")
    (tmp_path / "d").write_bytes(gzip.compress(b"t\n1\n2.0000000001\n"))
    assert "2 rows recorded, 1" in tables_differ(tmp_path / "a", tmp_path / "b")
    assert "cannot be read" in tables_differ(tmp_path / "c", tmp_path / "a")
    assert tables_differ(tmp_path / "a", tmp_path / "d") is None
