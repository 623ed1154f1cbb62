"""``from fixtures import probe``: the evidence and the ladder of a pytest run, without pytest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy_project
from toy_project import write

from fixtures import probe
from fixtures.claims import Effect, Exceedance, Ordering
from fixtures.claims.ladder import CONTROLS, LADDER
from fixtures.claims.probe_file import probe_source
from fixtures.common.errors import ProbeError
from fixtures.report.notebook import notebook_html, notebook_text
from fixtures.results.schema import validate
from fixtures.session import notebook
from fixtures.stimuli.authoring.draft import Draft
from fixtures.stimuli.authoring.tables import rows_of
from fixtures.stimuli.authoring.written import toml_of

pytest_plugins = "pytester"
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "notebook.md"
PAIRS = [(f"a cat sits on the mat {n}", f"seven unrelated long words about machinery {n}") for n in range(10)]
OF_THE_CALL = (
    "seconds",
    "activations",
    "evaluated",
    "test",
    "declaration",
    "registration",
)  # how long it took, what was in the store, what test and stimulus file are called; a notebook registers nothing


@pytest.fixture
def tiny_store(cache, monkeypatch):
    monkeypatch.setenv("PROBES_STORE", str(cache))
    monkeypatch.setenv("PROBES_DEVICE", "cpu")
    return cache


def first_look(pairs=PAIRS, **given):
    return probe(pairs, "klein-tiny", **{"twins": 0, "controls": "none", "quiet": True} | given)


def comparable(value):
    """A record without what differs from call to call, as plain JSON."""
    if isinstance(value, dict):
        return {name: comparable(entry) for name, entry in value.items() if name not in OF_THE_CALL}
    return [comparable(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def test_evidence_claims_ladder_and_words_are_those_of_a_pytest_run(project, tiny_store):
    for file in ("stimuli/toy.toml", "probes/test_toy.py"):
        (project.path / file).unlink()
    draft = Draft("pets", "Pets", "prompt_pairs", "cats", "machines", rows_of(PAIRS), Path("."))
    write(project, "stimuli/pets.toml", toml_of(draft, lambda image, name: name))
    write(project, "probes/test_pets.py", probe_source("pets", "Pets", "cats", "machines", "prompt_pairs"))
    toy_project.run(project)
    results = toy_project.results(project)
    found = probe(PAIRS, "klein-tiny", a="cats", b="machines", id="pets", title="Pets", quiet=True, refresh=True)
    (theirs,), ours = results["hypotheses"], json.loads(json.dumps(found.record))
    assert len(ours["controls"]) == len(theirs["controls"]) == len(CONTROLS) and ours["effect"]["p"] < 1
    assert comparable(ours) == comparable(theirs)
    assert found.results["multiple_testing"] == results["multiple_testing"]
    assert found.units_file.read_bytes() == (project.path / "reports/latest/pets.units.csv.gz").read_bytes()


def test_the_result_has_the_form_of_results_json_and_shows_every_rung(tiny_store):
    found = first_look()
    validate(json.loads(json.dumps(found.results)), "probe()", "Mend it.")
    assert found.outcome in ("represented", "stopped", "absent", "undecided")
    assert found.sentence == found.record["statement"]["sentence"] and found.record["n_pairs"] == 10
    html, text = found._repr_html_(), str(found)
    for words in (*(f"{step.number} {step.title}" for step in LADDER), "effect", "supported", found.sentence):
        assert words in text
        assert words.replace("'", "&#39;").replace(">", "&gt;") in html
    assert "no evidence" in text or found.results["model"]["label"] in text
    assert all(line == line.rstrip() for line in text.splitlines()) and html.count("<tr>") == 3 + len(LADDER)


def test_foreign_text_is_escaped(tiny_store):
    found = first_look(title="<script>x</script>")
    assert "<script>" not in found._repr_html_() and "&lt;script&gt;" in found._repr_html_()


def test_a_record_that_lacks_everything_is_shown_too():
    bare = {"hypotheses": [{"id": "x\x1by"}]}
    assert "x y: not evaluated" in notebook_text(bare) and "pr-notebook" in notebook_html(bare)


def test_tables_records_and_data_frames_are_the_same_pairs(tiny_store, tmp_path):
    rows = [{"a": a, "b": b} for a, b in PAIRS[:3]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))

    class Frame:
        def to_dict(self, orient):
            return {"records": rows}[orient]

    sources = (PAIRS[:3], rows, Frame(), tmp_path / "pairs.jsonl", str(tmp_path / "pairs.jsonl"))
    found = [first_look(pairs).record["stimuli"]["sha256"] for pairs in sources]
    assert len(set(found)) == 1


def test_the_model_stays_until_an_option_or_its_weights_change(tiny_store, checkpoint_copy):
    def model(name=str(checkpoint_copy), **options):
        return notebook._model(notebook._settings(name, options), print)

    held = model()
    assert model(controls="familywise") is held and model(controls=[]) is held
    assert model(seed=1) is not held and model("klein-tiny") is not held
    held = model()
    weights = next((checkpoint_copy / "transformer").glob("*.safetensors"))
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert model() is not held
    first_look(PAIRS[:3])
    (held,) = notebook._held
    first_look(PAIRS[:4])
    assert notebook._held == [held]


def test_images_are_shown_from_where_they_lie(tiny_store, photos, monkeypatch):
    monkeypatch.chdir(photos[0].parent)
    monkeypatch.setenv("PROBES_SAVE_BASELINE", "never.json")
    found = first_look([(photos[0].name, photos[1].name), (photos[2].name, photos[3].name)], presentation="image_pairs")
    (first, _), check = found.record["stimuli"]["pairs"], found.record["stimuli"]["placebo"]
    assert first["a"]["image"].endswith(photos[0].name) and first["a"]["prompt"] is None
    assert check == ["brightness", "scale", "crop", "mirror"] and "baseline" not in found.record


def test_claims_of_ones_own_are_decided(tiny_store):
    found = first_look(claims=[Exceedance(threshold=4.0, margin=1.5), Effect(percent=50)])
    assert [claim["id"] for claim in found.record["claims"]] == ["count_t4", Effect(percent=50).id]
    assert [count["threshold"] for count in found.record["counts"]] == [3, 4, 5]
    assert found.outcome != "represented"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"twin": 3}, "twin=: no option of probe(); expected one of its parameters, or of model, revision"),
        ({"gate": "none"}, "gate=: no option of probe()"),
        ({"seed": "x"}, "--seed: 'x' is not valid"),
        ({"controls": ["nix"]}, "--controls: 'nix' is not known"),
        ({"claims": []}, "claims=: is empty"),
        ({"claims": [Effect(), Effect()]}, "claims=: has effect twice"),
        ({"claims": ["effect"]}, "claims=: has 'effect'"),
        ({"claims": [Ordering(smaller="x", larger=("y",), threshold=3.0, factor=2.0)]}, "claims=: has Ordering"),
        ({"id": "Bad id"}, "id: is 'Bad id'"),
        ({"pairs": [("a", "b"), ("a", "c")]}, "pairs[1], column a: is the same as pairs[0], column a"),
        ({"pairs": "gone.csv"}, "gone.csv: cannot be read"),
        ({"pairs": [("a", "b"), ("c", "c ")]}, "pairs[1], column b: is the same as"),
        ({"presentation": "pictures"}, "presentation: 'pictures' is not known"),
    ],
)
def test_what_cannot_be_used_is_named(tiny_store, given, message):
    with pytest.raises(ProbeError) as error:
        first_look(**given)
    assert message in str(error.value)


def test_progress_goes_to_standard_error_unless_quiet(tiny_store, capsys):
    first_look(PAIRS[:8], quiet=False, refresh=True)
    assert "capturing probe: 16 in" in capsys.readouterr().err
    first_look(PAIRS[:8], refresh=True)
    assert capsys.readouterr() == ("", "")


def test_asking_for_the_package_imports_nothing_heavy():
    code = "import sys, fixtures; print([name for name in ('torch', 'pytest', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(ImportError):
        from fixtures import nothing_of_this_name  # noqa: F401


def test_the_page_runs(tiny_store):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names = {}
    exec(code.replace('model="klein-mini"', 'model="klein-tiny", twins=0, controls="none"'), names)
    found = names["found"]
    assert found.record["n_pairs"] == 8 and (found.record["a"], found.record["b"]) == ("dancing", "T-pose")
    for name in re.findall(r"`found\.(\w+)`", PAGE.read_text(encoding="utf-8")):
        assert getattr(found, name)
    assert {claim["kind"] for claim in found.record["claims"]} == {"effect", "amplification"}


@pytest.mark.parametrize("pairs", [None, 5, {"a": "x"}])
def test_what_is_no_table_of_pairs_is_refused(pairs):
    with pytest.raises(ProbeError, match="expected pairs"):
        probe(pairs)


def test_results_of_two_calls_keep_a_table_each(tiny_store):
    one, other = first_look(), first_look(seed=3)
    assert one.units_file != other.units_file and one.units_file.read_bytes() != other.units_file.read_bytes()
