"""What leaves a run: the figures in pytest's own JUnit file, and the files beside results.json."""

import json
from xml.etree import ElementTree

import pytest
import yaml
from toy_project import PROBE, results, run, write

from fixtures.report.cards.publish import publish

pytest_plugins = "pytester"


def properties(file):
    """Per test, its properties; every name stands once."""
    found = {}
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        entries = [(entry.get("name"), entry.get("value")) for entry in case.iter("property")]
        found[case.get("name")] = dict(entries)
        assert len(found[case.get("name")]) == len(entries)
    return found


def check_properties(found, data):
    hypothesis = data["hypotheses"][0]
    assert len(found) == len(hypothesis["claims"]) + len(hypothesis["controls"])
    for kind in ("claim", "control"):
        for entry in hypothesis[f"{kind}s"]:
            written = found[entry["test"].split("::")[1]]
            assert (written["hypothesis"], written[kind], written["verdict"]) == ("toy", entry["id"], entry["verdict"])
            assert written["model"] == "klein-tiny" and written["fingerprint"] == data["model"]["fingerprint"]
            assert written["label"] == data["model"]["label"] and "revision" not in written
            assert written["stimuli_sha256"] == hypothesis["stimuli"]["sha256"]
            for figure in ("observed", "required", "ratio", "margin", "threshold", "p"):
                expected = entry.get(figure)
                assert (float(written[figure]) if figure in written else None) == expected
            null = entry.get("null")
            assert null is None or (float(written["null_p99"]), written["null_method"]) == (null["p99"], "exact")


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_junit_holds_the_figures_of_every_claim_and_control(ladder, workers):
    file = ladder.path / "junit.xml"
    arguments = ("--controls", "familywise,held_out", "--junitxml", str(file))
    started = ladder.runpytest_subprocess if workers else ladder.runpytest_inprocess
    started("-p", "no:cacheprovider", *workers, "probes", *arguments)
    check_properties(properties(file), results(ladder))


def test_junit_says_why_a_claim_was_not_evaluated(project):
    file = project.path / "junit.xml"
    run(project, "--model", "no-such-model", "--junitxml", str(file))
    written = properties(file)["test_supported"]
    assert written["verdict"] == "not evaluated" and "no such folder" in written["reason"]
    assert "observed" not in written and "model" not in written


def test_other_tests_have_no_properties(project):
    file = project.path / "junit.xml"
    write(project, "probes/test_toy.py", PROBE + "\n\ndef test_plain():\n    assert True\n")
    run(project, "--junitxml", str(file))
    assert properties(file)["test_plain"] == {}


def test_the_run_folder_holds_what_is_published_of_it(project, tmp_path):
    run(project)
    folder = project.path / "reports/latest"
    publish(tmp_path, json.loads((folder / "results.json").read_text()))
    for name in ("model_index.yaml", "cards/toy.md"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    index = yaml.safe_load((folder / "model_index.yaml").read_text())["model-index"][0]
    assert index["name"] == "klein-tiny" and [entry["dataset"]["config"] for entry in index["results"]] == ["toy"]
    assert "- **Claim refuted.**" in (folder / "cards/toy.md").read_text()
