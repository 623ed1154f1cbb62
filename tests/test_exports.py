"""Exports read back by the formats' own tools: huggingface_hub, schemas of Every Eval Ever and of the Citation File
Format, a parser of BibTeX, pandas, pyarrow."""

import copy
import gzip
import json
import math
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import bibtexparser
import numpy as np
import pandas
import pytest
import yaml
from hostile import PAYLOADS, attacked
from huggingface_hub import parse_eval_result_entries
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jsonschema import Draft7Validator
from old_results import READ, old
from report_factory import DATA, klein, make_results

from fixtures.__main__ import main
from fixtures.claims.effects import _without_each
from fixtures.report.exports.citation import citation_bib, citation_cff
from fixtures.report.exports.every_eval_ever import every_eval_ever, pair_scores
from fixtures.report.exports.export import export
from fixtures.report.exports.hub import entries, hub_yaml
from fixtures.report.exports.metrics import metrics, model_id
from fixtures.results.versions import brought_up
from fixtures.statistics.log_effect import log_effect_square, percent

SCHEMAS = {
    name: Draft7Validator(json.loads((DATA / "schemas" / f"{name}.json").read_text()))
    for name in ("every_eval_ever", "every_eval_ever_instance", "cff_1.2.0")
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("run"), side=16, ordering=True)


def eee(results):
    """Aggregates and lines of pairs, by hypothesis; every one is valid, and belongs to the other."""
    files = every_eval_ever(results)
    found = {}
    for path, content in files.items():
        if not path.endswith(".json"):
            continue
        record = json.loads(content)
        SCHEMAS["every_eval_ever"].validate(record)
        lines = []
        if "detailed_evaluation_results" in record:
            about = record["detailed_evaluation_results"]
            assert about["file_path"] == path.replace(".json", "_samples.jsonl")
            text = files[about["file_path"]]
            assert sha256(text.encode()).hexdigest() == about["checksum"]
            lines = [json.loads(line) for line in text.splitlines()]
            assert len(lines) == about["total_rows"]
        for line in lines:
            SCHEMAS["every_eval_ever_instance"].validate(line)
            assert line["evaluation_id"] == record["evaluation_id"] and line["model_id"] == record["model_info"]["id"]
        found[path] = record, lines
    assert len(files) == len(found) + sum(bool(lines) for _, lines in found.values())
    return list(found.values())


def test_the_hub_reads_every_number_back(results):
    found = parse_eval_result_entries(yaml.safe_load(hub_yaml(results)))
    assert found == entries(results)
    by_task = {entry.task_id: entry for entry in found}
    assert len(by_task) == len(found)
    for hypothesis in results["hypotheses"]:
        for metric in metrics(hypothesis):
            assert by_task[f"{hypothesis['id']}.{metric.id}"].value == metric.value
        for claim in hypothesis["claims"]:
            entry = by_task.get(f"{hypothesis['id']}.claim.{claim['id']}")
            assert (entry and entry.value) == claim["observed"]
            assert entry is None or f"verdict: {claim['verdict']}" in entry.notes
    entry = by_task["arrow_of_time_rendered.effect_percent"]
    assert entry.date == results["run"]["finished"] and entry.source_url is entry.dataset_revision is None
    assert results["hypotheses"][0]["stimuli"]["sha256"] in entry.notes and "Self-reported" in entry.notes
    assert "Not evidence about FLUX.2 Klein" in entry.notes


def test_klein_itself_is_no_warning(results):
    assert not any("Not evidence" in entry.notes for entry in entries(klein(results)))


def test_every_hypothesis_is_a_valid_record_with_every_number(results):
    found = eee(results)
    assert len(found) == len(results["hypotheses"])
    for (record, _), hypothesis in zip(found, results["hypotheses"], strict=True):
        scores = {
            entry["metric_config"]["metric_id"].partition(".")[2]: entry["score_details"]["score"]
            for entry in record["evaluation_results"]
        }
        assert scores == {metric.id: metric.value for metric in metrics(hypothesis)}
        stated = record["source_metadata"]["additional_details"]
        for claim in hypothesis["claims"]:
            assert (f"claim.{claim['id']}" in scores) != (f"without a number: {claim['id']}" in stated)
        if "effect" in hypothesis:
            (effect,) = [e for e in record["evaluation_results"] if e["metric_config"]["metric_unit"] == "percent"]
            ends = effect["score_details"]["uncertainty"]["confidence_interval"]
            assert [ends["lower"], ends["upper"]] == hypothesis["effect"]["interval"]


def test_a_pair_is_a_line_and_the_scores_average_to_the_square_of_the_effect(results):
    for (_, lines), hypothesis in zip(eee(results), results["hypotheses"], strict=True):
        pairs = hypothesis.get("stimuli", {}).get("pairs", [])
        assert [line["sample_id"] for line in lines] == [pair["id"] for pair in pairs]
        if lines:
            mean = np.mean([line["evaluation"]["score"] for line in lines])
            effect = hypothesis["effect"]["percent"]
            assert math.isclose(mean, math.copysign(effect**2, effect), rel_tol=1e-6)
            assert all(line["evaluation"]["is_correct"] == (line["evaluation"]["score"] > 0) for line in lines)
            assert "/" not in "".join(line["input"]["raw"] for line in lines if ".png" in line["input"]["raw"])


ratios = arrays(np.float64, st.tuples(st.integers(3, 9), st.integers(1, 5)), elements=st.floats(-1, 1, width=16))


@settings(max_examples=60, deadline=None)
@given(ratios)
def test_a_score_is_the_mean_product_with_the_other_pairs(ratios):
    effect = {"percent": percent(log_effect_square(ratios)), "without_each": _without_each(ratios)}
    products = ratios @ ratios.T / ratios.shape[1] * 1e4
    n = len(ratios)
    expected = [np.mean([products[i, j] for j in range(n) if j != i]) for i in range(n)]
    np.testing.assert_allclose(pair_scores(effect), expected, atol=1e-6)


@pytest.mark.parametrize("change", [{"without_each": None}, {"without_each": [1.0, 2.0]}, {"percent": None}])
def test_without_figures_of_pairs_there_are_no_lines(results, change):
    changed = copy.deepcopy(results)
    changed["hypotheses"] = changed["hypotheses"][:1]
    changed["hypotheses"][0]["effect"] |= change
    ((_, lines),) = eee(changed)
    assert lines == []


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({}, "black-forest-labs/FLUX.2-klein-base-4B"),
        (
            {"name": "FLUX.2-klein-base-4B+x", "adapters": [{"name": "x", "sha256": "0", "weight": 1.0}]},
            "black-forest-labs/FLUX.2-klein-base-4B+x",
        ),
        ({"name": "mine", "source": "/home/me/mine", "revision": None, "embedded": False}, "local/mine"),
        ({"name": "klein-mini", "source": "embedded", "revision": None, "embedded": True}, "embedded/klein-mini"),
    ],
)
def test_a_model_has_the_hubs_name_or_says_that_it_has_none(results, model, expected):
    assert model_id(klein(results, **model)["model"]) == expected


def test_the_citations_are_valid_and_say_the_same(results):
    cff = yaml.safe_load(citation_cff(results))
    SCHEMAS["cff_1.2.0"].validate(cff)
    (entry,) = bibtexparser.loads(citation_bib(results)).entries
    assert cff["version"] == entry["version"] == results["run"]["id"] and cff["title"] == "Probes of klein-mini+arrow"
    assert cff["date-released"] == results["run"]["finished"][:10]
    assert f"{entry['year']}-{int(entry['month']):02d}" == cff["date-released"][:7]
    assert entry["title"] == "{Probes of klein-mini+arrow}" and entry["ENTRYTYPE"] == "misc"
    assert "Not evidence" in cff["abstract"] and "Not evidence" in entry["note"]
    fingerprints = [one["value"] for one in cff["identifiers"]]
    assert results["model"]["fingerprint"] in fingerprints


def test_the_schemas_refuse_what_is_not_of_their_form(results):
    cff = yaml.safe_load(citation_cff(results))
    assert not SCHEMAS["cff_1.2.0"].is_valid(cff | {"authors": []})
    (record, lines), *_ = eee(results)
    assert not SCHEMAS["every_eval_ever"].is_valid(record | {"rungs": 3})
    assert not SCHEMAS["every_eval_ever_instance"].is_valid(lines[0] | {"output": None})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_stays_text_in_every_format(results, payload):
    hostile = attacked(results, payload)
    for number, hypothesis in enumerate(hostile["hypotheses"]):
        hypothesis["id"] += str(number)  # which are unique in a run
    assert len(parse_eval_result_entries(yaml.safe_load(hub_yaml(hostile)))) > 10
    for path in every_eval_ever(hostile):
        assert Path(path).parts[:2] == ("data", "flux2-klein-probes") and len(Path(path).parts) == 5
        assert ".." not in Path(path).parts
    eee(hostile)
    SCHEMAS["cff_1.2.0"].validate(yaml.safe_load(citation_cff(hostile)))
    bib = citation_bib(hostile)
    (entry,) = bibtexparser.loads(bib).entries
    assert set(entry) == {"ENTRYTYPE", "ID", "author", "title", "version", "howpublished", "note"}
    bare = bib.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize("version", READ)
def test_a_run_of_any_version_is_exported(version):
    results, _ = brought_up(old(version))
    eee(results)
    SCHEMAS["cff_1.2.0"].validate(yaml.safe_load(citation_cff(results)))
    assert parse_eval_result_entries(yaml.safe_load(hub_yaml(results)))


def test_the_command_writes_pure_functions_of_the_run(results, tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
        assert main(["export", str(tmp_path / name)]) == 0
    printed = capsys.readouterr().out.splitlines()
    one, two = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("exports/**/*.*")}
        for name in ("one", "two")
    )
    assert one == two and len(printed) == 2 * len(one) and all(Path(line).is_file() for line in printed)
    assert main(["export", str(tmp_path / "gone")]) == 4 and "gone/results.json" in capsys.readouterr().err


def test_the_table_of_units_is_csv_and_where_pyarrow_is_the_same_parquet(results, tmp_path):
    hypothesis = results["hypotheses"][0]
    table = tmp_path / hypothesis["units_file"]
    table.write_bytes((DATA / hypothesis["units_file"]).read_bytes())
    csv = pandas.read_csv(table)
    assert len(csv) == hypothesis["n_units"] and math.isclose(csv.t.abs().max(), hypothesis["max_abs_t"], rel_tol=1e-6)
    files = export(tmp_path, results)
    parquet = [file for file in files if file.suffix == ".parquet"]
    assert bool(parquet) == (find_spec("pyarrow") is not None)
    if parquet:
        pandas.testing.assert_frame_equal(pandas.read_parquet(parquet[0]).astype(csv.dtypes), csv)


def test_parquet_keeps_types_and_says_whose_units_they_are(results, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is optional")
    from fixtures.report.exports.unit_parquet import unit_parquet

    table = tmp_path / "x.units.csv.gz"
    table.write_bytes(gzip.compress(b"unit,name,start,t\n0,a,0,1.5\n1,b,16,\n"))
    (tmp_path / "x.parquet").write_bytes(unit_parquet(table, {"run": "r"}))
    read = pq.read_table(tmp_path / "x.parquet")
    assert read.to_pydict() == {"unit": [0, 1], "name": ["a", "b"], "start": [0, 16], "t": [1.5, None]}
    assert read.schema.metadata[b"run"] == b"r" and str(read.schema.field("start").type) == "int64"
