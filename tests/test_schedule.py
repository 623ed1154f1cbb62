"""`--steps` in whole runs on klein-tiny, and what the report shows of it."""

import copy
import json
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import stored_run
from toy_project import CONTROL, PROBE, STIMULI, controls, entries, pairs, results, run, write

from fixtures.common.errors import ProbeError
from fixtures.models.model import Model
from fixtures.report.claim.schedule import schedule_html
from fixtures.report.figures.figures import all_figures
from fixtures.report.figures.schedule import schedule_figure
from fixtures.results.schema import validate

pytest_plugins = "pytester"
SVG = "{http://www.w3.org/2000/svg}"


def hypothesis_of(project):
    return results(project)["hypotheses"][0]


def without_time(record):
    return {name: value for name, value in record.items() if name not in ("seconds", "evaluated", "activations")}


@pytest.fixture
def stored(project, monkeypatch):
    """The toy project with a store of its own."""
    store = project.path / "store"
    monkeypatch.setenv("PROBES_STORE", str(store))
    return project, store


def test_levels_come_beside_what_a_run_decides_and_change_nothing_of_it(project):
    run(project, "--controls", "none", "--refresh")
    before = hypothesis_of(project)
    assert "schedule" not in before
    run(project, "--controls", "none", "--steps", "2")
    after = hypothesis_of(project)
    schedule = after.pop("schedule")
    assert without_time(after) == without_time(before)
    assert results(project)["run"]["options"]["steps"] == {"value": "2", "source": "command line"}
    first, last = schedule["levels"]
    assert (first["step"], first["sigma"], last["step"]) == (1, 1.0, 14) and 0 < last["sigma"] < 1
    assert (schedule["steps"], schedule["guidance"]) == (14, 4.0)
    assert first["percent"] == pytest.approx(after["effect"]["percent"])  # the published protocol, on the same pairs
    assert first["interval"] == pytest.approx(after["effect"]["interval"]) and last["percent"] != first["percent"]
    for level in schedule["levels"]:
        assert len(level["amplification"]["twins"]) == 6 and level["amplification"]["ratio"] > 0
        assert level["recovered"] == []
    assert schedule["patching"] is None and schedule["missing"] == []
    page = (project.path / "reports/latest/report.html").read_text()
    assert "Along the schedule: 2 of the generation’s 14 steps" in page and "schedule-toy.svg" in page


def test_what_is_captured_first_is_evaluated_without_the_model(stored, monkeypatch):
    project, store = stored
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    run(project, "--capture-only", "--steps", "1,3", "--controls", "untrained")
    captured = entries(store)

    def refuse(self):
        raise ProbeError("loaded all the same")

    monkeypatch.setattr(Model, "loaded", property(refuse))
    run(project, "--store-only", "--steps", "1,3", "--controls", "untrained")
    schedule = hypothesis_of(project)["schedule"]
    assert [level["step"] for level in schedule["levels"]] == [1, 3] and schedule["missing"] == []
    untrained = controls(project)["untrained"]["evidence"]["amplification"]
    assert schedule["levels"][0]["amplification"] == untrained  # on pure noise it is that of rung 4
    assert entries(store) == captured
    run(project, "--store-only", "--steps", "1,2", "--controls", "none")
    schedule = hypothesis_of(project)["schedule"]
    assert schedule["levels"] == [] and "not in the store" in schedule["missing"][0]


def test_where_units_are_patched_they_are_patched_at_every_level(stored):
    project, store = stored
    write(project, "stimuli/toy.toml", STIMULI + pairs(21))
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    run(project, "--controls", "sufficient", "--steps", "2", "--twins", "0")
    schedule, decided = hypothesis_of(project)["schedule"], controls(project)["sufficient"]
    assert decided["verdict"] in ("passed", "failed")
    first, last = schedule["levels"]
    found, everything = first["recovered"]
    own = decided["evidence"]["own"]
    for name in ("share", "interval", "moved", "p"):
        assert found[name] == own[name]  # step 1 is what rung 9 measured
    assert everything["share"] == own["all_units"] and everything["n_units"] > found["n_units"] > 0
    assert last["recovered"][0]["share"] != found["share"] and len(last["recovered"]) == 2
    assert schedule["patching"]["found"] == decided["evidence"]["found"]
    assert schedule["patching"]["roles"] == decided["evidence"]["roles"]
    assert [level["amplification"] for level in schedule["levels"]] == [None, None]
    assert any("at least 3 untrained twins" in line for line in schedule["missing"])
    captured = entries(store)
    run(project, "--store-only", "--controls", "sufficient", "--steps", "2", "--twins", "0")
    again = hypothesis_of(project)["schedule"]
    assert again == schedule and entries(store) == captured


def test_what_patching_moves_is_captured_first_too(stored):
    project, store = stored
    write(project, "stimuli/toy.toml", STIMULI + pairs(21))
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    options = ("--controls", "sufficient", "--steps", "1,5", "--twins", "0")
    run(project, "--capture-only", *options)
    captured = entries(store)
    run(project, *options)
    assert [len(level["recovered"]) for level in hypothesis_of(project)["schedule"]["levels"]] == [2, 2]
    assert entries(store) == captured


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("15", "*--steps 15: the model's generations have 14 steps; expected at most that.*"),
        ("0", "*--steps (command line): '0' has a 0; expected a number of steps*"),
        ("1,1", "*'1,1' has step 1 twice*"),
        ("late", "*'late' is not valid; expected a number of steps*"),
    ],
)
def test_steps_that_there_are_not_are_refused(project, steps, message):
    outcome = run(project, "--controls", "none", "--steps", steps)
    assert outcome.ret != 0
    (outcome.stdout if steps == "15" else outcome.stderr).fnmatch_lines([message])


# the report


def level(step, sigma, ratio=2.0, interval=(1.5, 3.0), share=0.5, all_units=0.8):
    """One level as a run records it."""
    amplification = copy.deepcopy(
        next(
            control["evidence"]["amplification"]
            for control in stored_run()["hypotheses"][0]["controls"]
            if control["id"] == "untrained"
        )
    )
    amplification |= {"ratio": ratio, "interval": list(interval) if interval else None}
    return {
        "step": step,
        "sigma": sigma,
        "percent": 3.0,
        "interval": [2.0, 4.0],
        "amplification": amplification,
        "recovered": [
            {"units": "found", "n_units": 40, "share": share, "interval": [0.4, 0.6], "moved": 5.0, "p": 0.004},
            {"units": "all", "n_units": 320, "share": all_units, "interval": None, "moved": 8.0, "p": 0.004},
        ],
    }


@pytest.fixture
def shown():
    """A stored run, of which the first hypothesis has three levels."""
    data = stored_run()
    found = {"share": 0.125, "n_units": 40, "written": 0.5, "kinds": {"mlp": 40}, "blocks": {"joint[0]": 40}}
    roles = {"seed": 0, "selection": ["a"], "donors": ["b"], "recipients": ["c"]}
    data["hypotheses"][0]["schedule"] = {
        "steps": 14,
        "guidance": 4.0,
        "confidence": 0.95,
        "levels": [level(1, 1.0), level(8, 0.7, ratio=4.0), level(14, 0.2, ratio=0.5, interval=None, share=-0.1)],
        "patching": {"roles": roles, "found": found, "jobs": 16},
        "missing": [],
    }
    validate(json.loads(json.dumps(data)))
    return data


def marks(figure, tag, style):
    root = ElementTree.fromstring(figure.svg)
    return [element for element in root.iter(SVG + tag) if style in element.get("class", "").split()]


def test_the_chart_has_every_level_at_its_step_and_its_size(shown):
    figure = schedule_figure(shown["hypotheses"][0])
    assert figure.name.startswith("schedule-") and figure in all_figures(shown, None)
    model = [(float(mark.get("cx")), float(mark.get("cy"))) for mark in marks(figure, "circle", "model")]
    model = [mark for mark in model if mark[1] != -4]  # without the legend's
    amplified, recovered = model[:3], model[3:]
    assert len(recovered) == 3
    (x1, y1), (x8, y8), (x14, y14) = amplified
    assert (x8 - x1) / (x14 - x1) == pytest.approx(7 / 13, abs=0.01)
    assert (y1 - y8) / (y14 - y1) == pytest.approx(math.log(2) / math.log(4), abs=0.01)  # a logarithmic axis
    assert recovered[0][1] == recovered[1][1] < recovered[2][1]
    assert len(marks(figure, "path", "reach")) == 2 + 3 and len(marks(figure, "path", "other")) == 0
    assert "step 8: 4.00×" in figure.alt and "step 14: found units recover −0.10" in figure.alt


def test_there_is_no_chart_and_no_table_without_the_option():
    for hypothesis in stored_run()["hypotheses"]:
        assert schedule_figure(hypothesis) is None and schedule_html(hypothesis) == ""


def test_the_table_says_what_was_measured_and_what_not(shown):
    hypothesis = shown["hypotheses"][0]
    html = schedule_html(hypothesis)
    assert "3 of the generation’s 14 steps" in html and "Recovered by 40 units" in html
    assert html.count("<tr>") == 4 and "4.00×" in html and "1.50 to 3.00" in html
    hypothesis["schedule"] |= {"patching": None, "levels": [], "missing": ["levels: not <here>"]}
    html = schedule_html(hypothesis)
    assert "Not measured: levels: not &lt;here&gt;" in html and "Recovered by" not in html
    assert schedule_figure(hypothesis) is None


def test_levels_that_were_not_patched_have_one_chart(shown):
    hypothesis = shown["hypotheses"][0]
    both = schedule_figure(hypothesis)
    for entry in hypothesis["schedule"]["levels"]:
        entry["recovered"] = []
    alone = schedule_figure(hypothesis)
    assert alone.width < both.width and "Recovered" not in alone.svg


@given(st.data())
def test_whatever_a_record_holds_the_page_is_made(data):
    found = {"levels": [level(1, 1.0), level(2, 0.5)], "steps": 14, "guidance": 4.0, "patching": {}, "missing": []}
    value = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.lists(st.none(), max_size=2))
    place = data.draw(st.sampled_from(found["levels"]))
    for holder in (found, place, place["amplification"], place["recovered"][0]):
        if data.draw(st.booleans()):
            holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(value)
    hypothesis = {"id": "x", "schedule": found}
    figure = schedule_figure(hypothesis)
    if figure:
        ElementTree.fromstring(figure.svg)
        assert "nan" not in figure.svg.lower() and "inf" not in figure.svg.lower()
    schedule_html(hypothesis)
