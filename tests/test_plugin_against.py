"""Two models in one run: a toy project on klein-tiny, against itself with a LoRA and against klein-mini."""

import csv

import pytest
from lora_factory import save_lora
from toy_project import CONTROL, PROBE, folder, results, run, write

from fixtures.__main__ import main
from fixtures.results.schema import validate

pytest_plugins = "pytester"

CLAIMS = PROBE.replace("margin=47", "margin=1.01")


@pytest.fixture
def asked(project):
    write(project, "probes/test_toy.py", CLAIMS + CONTROL)
    return project


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory):
    return save_lora(tiny.pipeline.transformer, tmp_path_factory.mktemp("lora") / "update", size=1.0)


def one(data):
    return data["against"]["hypotheses"][0]


def test_a_lora_against_its_base(asked, lora, capsys):
    outcome = run(asked, "--lora", str(lora), "--against", "klein-tiny", "--controls", "none", "--gate", "none")
    assert outcome.ret == 0 and outcome.parseoutcomes()["passed"] >= 3, outcome.stdout.str()
    place = folder(asked)
    data, second = results(asked, place), results(asked, place / "against")
    validate(data)
    validate(second)
    assert (data["model"]["name"], second["model"]["name"]) == ("klein-tiny+update", "klein-tiny")
    found = one(data)
    assert found["id"] == "toy" and found["difference"]["of"] == "amplification" and found["difference"]["twins"] == 6
    assert found["by_unit"]["r"] < 1 and found["first"]["units"] == found["second"]["units"] == 144
    assert [row["id"] for row in found["rungs"]] == ["null"]
    claims = {claim["id"]: claim["verdict"] for claim in second["hypotheses"][0]["claims"]}
    assert set(claims) == {"count_t3", "count_t5"} and "not evaluated" not in claims.values()
    outcome.stdout.fnmatch_lines(
        ["first klein-tiny+update (*); second klein-tiny (*)", "toy *1.*", "toy: *over pairs*"]
    )
    page = (place / "report.html").read_text()
    assert page.index("klein-tiny+update against klein-tiny") < page.index('class="pr-matrix"')
    rows = list(csv.DictReader((place / "against.csv").open()))
    assert rows[0]["hypothesis"] == "toy" and float(rows[0]["ratio"]) == found["difference"]["ratio"]
    assert data["against"]["file"] == "against.csv"
    capsys.readouterr()
    files = [str(place / "results.json"), str(place / "against" / "results.json")]
    assert main(["compare", *files]) == 0
    assert found["reason"] in " ".join(capsys.readouterr().out.split())
    assert main(["compare", files[0], str(asked.path / "stimuli" / "toy.toml")]) == 4


def test_from_the_store_a_model_that_was_not_captured_is_refused_with_what_captures_it(project):
    write(project, "probes/test_toy.py", CLAIMS)
    own = ("--store", "store", "--twins", "0")
    run(project, *own).assert_outcomes(passed=2)
    outcome = run(project, *own, "--store-only", "--against", "klein-mini")
    outcome.assert_outcomes(passed=2, errors=1)
    outcome.stdout.fnmatch_lines(["*Capture it first by `pytest probes/ --model klein-mini --capture-only`."])
    found = one(results(project, folder(project)))
    assert found["verdict"] == "not comparable" and "not evaluated with klein-mini" in found["reason"]
    again = run(project, *own, "--store-only", "--against", "klein-tiny")
    again.assert_outcomes(passed=3)
    found = one(results(project, folder(project)))
    assert found["difference"]["of"] == "effect" and found["difference"]["ratio"] == 1 and found["words"] == []


def test_what_names_no_model_is_told_before_the_first_one_is_asked(project):
    outcome = run(project, "--against", "klein-minni")
    assert outcome.ret == 4 and not [*project.path.glob("reports/*/results.json")]
    outcome.stderr.fnmatch_lines(["*--against klein-minni: no such folder*Perhaps `--against klein-mini`?*"])


def test_what_captures_alone_compares_nothing(project):
    outcome = run(project, "--capture-only", "--against", "klein-mini")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*--capture-only compares nothing*"])


def test_a_hypothesis_that_compares_others_is_left_out(project):
    ordering = PROBE.partition("@pytest")[0].replace('id="toy"', 'id="order", compares=("toy", "other")')
    write(project, "probes/test_order.py", ordering)
    outcome = run(project, "--against", "klein-tiny", "--collect-only", "-q")
    text = outcome.stdout.str()
    assert "test_against[toy]" in text and "test_against[order]" not in text
