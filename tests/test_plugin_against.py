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


def test_a_lora_against_its_base(asked, lora):
    outcome = run(asked, "--lora", str(lora), "--against", "klein-tiny", "--controls", "untrained", "--gate", "none")
    assert outcome.ret == 0 and outcome.parseoutcomes()["passed"] >= 3, outcome.stdout.str()
    place = folder(asked)
    data, second = results(asked, place), results(asked, place / "against")
    validate(data)
    validate(second)
    assert (data["model"]["name"], second["model"]["name"]) == ("klein-tiny+update", "klein-tiny")
    found = one(data)
    assert found["id"] == "toy" and found["difference"]["of"] == "amplification" and found["difference"]["twins"] == 6
    assert found["by_unit"]["r"] < 1 and found["first"]["units"] == found["second"]["units"] == 144
    assert [row["id"] for row in found["rungs"]] == ["null", "untrained"]
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


def test_the_comparison_of_the_two_files_says_the_same(asked, lora, capsys):
    run(asked, "--against", "klein-tiny", "--lora", str(lora), "--controls", "none")
    place = folder(asked)
    capsys.readouterr()
    files = [str(place / "results.json"), str(place / "against" / "results.json")]
    assert main(["compare", *files]) == 0
    data = results(asked, place)
    assert one(data)["reason"].split(";")[1] in capsys.readouterr().out
    assert main(["compare", files[0], str(asked.path / "stimuli" / "toy.toml")]) == 4
