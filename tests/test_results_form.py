"""The form of results.json: real documents have it, and every departure from it is refused by the path of the field."""

import copy
import json
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jsonschema import Draft202012Validator
from report_factory import full_size, make_results, stored_run
from typing_extensions import get_type_hints, is_typeddict

from fixtures.__main__ import main
from fixtures.common.errors import ProbeError
from fixtures.common.forms import OneOf, check_form, closest
from fixtures.results.form_tables import form_lines
from fixtures.results.results import Results
from fixtures.results.schema import ResultsRecord, json_schema, validate
from fixtures.session.options import resolve_settings
from fixtures.statistics.records import (
    CountRecord,
    NullRecord,
    ResampledNullRecord,
    count_null_record,
    count_records,
    null_record,
)
from fixtures.statistics.sign_flips import sign_flip_null
from fixtures.statistics.split_half_null import split_half_null

RUN = stored_run()
UNKNOWN = "no_such_field"


def records_in(hint: Any, value: Any, path: str = "") -> list[tuple[str, type, dict]]:
    """The records in a value of a type: where each stands, its form and itself."""
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        marks = [note for note in notes if isinstance(note, OneOf)]
        if marks and marks[0].by:
            by = marks[0].by
            hint = next(form for form in get_args(hint) if value[by] in get_args(get_type_hints(form)[by]))
        elif marks:
            hint = closest(get_args(hint), value)
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        inner = [records_in(hints[name], item, f"{path}.{name}".lstrip(".")) for name, item in value.items()]
        return [(path, hint, value), *(record for found in inner for record in found)]
    parts = get_args(hint)
    if get_origin(hint) is list:
        return [one for number, item in enumerate(value) for one in records_in(parts[0], item, f"{path}[{number}]")]
    if get_origin(hint) is dict:
        return [one for name, item in value.items() for one in records_in(parts[1], item, f"{path}{_key(name)}")]
    forms = [part for part in parts if is_typeddict(part) or get_args(part)]
    return records_in(forms[0], value, path) if forms and isinstance(value, dict | list) else []


def _key(name: str) -> str:
    return f".{name}" if name.isidentifier() else f"[{name!r}]"


RECORDS = records_in(ResultsRecord, RUN)
fields = st.sampled_from(
    [(number, name) for number, (_, form, record) in enumerate(RECORDS) for name in record if record]
)


def refused(data: Any, field: str) -> None:
    with pytest.raises(ProbeError) as refusal:
        validate(data)
    assert f"field {field}" in str(refusal.value) and "expected" in str(refusal.value)


def fresh(number: int) -> tuple[dict, str, type, dict]:
    """A copy of the run, and one of its records in it."""
    run = copy.deepcopy(RUN)
    return run, *records_in(ResultsRecord, run)[number]


def test_a_real_run_has_the_form_and_every_record_in_it_is_known():
    validate(RUN)
    assert {form.__name__ for _, form, _ in RECORDS} >= {
        "MeasuredHypothesisRecord",
        "OrderedHypothesisRecord",
        "ListedRecord",
        "DecidedChangeRecord",
        "PowerRecord",
        "HeldOutControlRecord",
    }


@settings(max_examples=60, deadline=None)
@given(fields)
def test_a_missing_field_is_named(chosen):
    run, path, form, record = fresh(chosen[0])
    del record[chosen[1]]
    if chosen[1] in form.__required_keys__:
        refused(run, f"{path}.{chosen[1]}: missing".lstrip("."))
    else:
        validate(run)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(RECORDS) - 1))
def test_an_unknown_field_is_named(number):
    run, path, _, record = fresh(number)
    record[UNKNOWN] = 1
    refused(run, f"{path}.{UNKNOWN}: unknown".lstrip("."))


@settings(max_examples=60, deadline=None)
@given(fields)
def test_a_value_of_another_type_is_named(chosen):
    run, path, _, record = fresh(chosen[0])
    record[chosen[1]] = "x" if isinstance(record[chosen[1]], list) else ["x"]
    refused(run, f"{path}.{chosen[1]}".lstrip("."))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3", True, None])
def test_a_threshold_is_a_finite_number(value):
    run = copy.deepcopy(RUN)
    run["hypotheses"][0]["counts"][1]["threshold"] = value
    refused(run, "hypotheses[0].counts[1].threshold: expected a")


@pytest.mark.parametrize("data", [None, [], "x", {}])
def test_what_is_no_document_is_refused(data):
    with pytest.raises(ProbeError, match="results.json: field .*expected"):
        validate(data)


def test_a_run_that_was_killed_has_the_form_too(tmp_path):
    chosen = resolve_settings({}, {}, Path("/root"), {})
    results = Results(tmp_path, chosen, "pytest probes/")
    validate(results.data)
    assert results.fault() is None
    results.data["run"]["complete"] = "yes"
    assert "run.complete: expected a valid boolean" in results.fault() and str(tmp_path) in results.fault()


def test_the_samples_of_the_report_tests_have_the_form(tmp_path):
    for results in (make_results(tmp_path / "run"), make_results(tmp_path / "ordering", ordering=True)):
        validate(results)
    results["hypotheses"] = [full_size(tmp_path / "full")]
    validate(json.loads(json.dumps(results)))


def test_the_json_schema_accepts_a_real_run_and_explains_its_fields():
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(RUN)
    assert schema["$defs"]["CountRecord"]["properties"]["p99"]["description"] == "99th percentile of the null"


def test_the_documentation_is_what_the_forms_say(capsys):
    written = Path(__file__).parents[1] / "docs" / "results.md"
    assert written.read_text().splitlines() == form_lines(), "run: python -m fixtures results-form > docs/results.md"
    assert main(["results-form"]) == 0 and capsys.readouterr().out == written.read_text()
    assert main(["results-form", "--json"]) == 0 and json.loads(capsys.readouterr().out) == json_schema()


def test_every_field_says_what_it_means():
    assert not [line for line in form_lines() if line.startswith("| `") and line.endswith("|  |")]


values = arrays(np.float64, (9, 6), elements=st.floats(-100, 100, width=32))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values, st.sampled_from(["exact", "monte-carlo", "published"]))
def test_records_of_nulls_have_their_form_whatever_the_numbers(differences, method):
    null = sign_flip_null(differences, (0.5, 3.0), method=method, permutations=50)
    for count, record in zip(null.counts, count_records(null.counts), strict=True):
        check_form(CountRecord, record, "count", "")
        check_form(NullRecord, count_null_record(count, null.method, null.seed), "null", "")
    check_form(ResampledNullRecord, null_record(split_half_null(differences, seed=0)), "split half", "")


def test_a_fault_names_the_first_of_several():
    with pytest.raises(ProbeError, match=r"here: field observed: missing; expected one .*\(5 more\)\. Do\."):
        check_form(ResampledNullRecord, {}, "here", "Do.")
