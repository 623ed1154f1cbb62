"""Figures to show to others: every mark where its number belongs, whatever results.json lacks or holds."""

import copy
import json
import math
import re
from xml.etree import ElementTree

import pytest
from hostile import PAYLOADS, attacked
from hypothesis import given
from hypothesis import strategies as st
from report_factory import DATA, claim_effects, leave_ladder, stored_run

from fixtures.__main__ import main
from fixtures.report.figures.figure import file_name, step
from fixtures.report.figures.figures import all_figures, figures_view, write_figures
from fixtures.report.figures.t_maps import t_map_figures
from fixtures.report.figures.truth import swarm, truth_figure
from fixtures.report.figures.twins import twins_figure
from fixtures.report.figures.where import AMPLIFIED, where_figure
from fixtures.report.overview import claims_table_html
from fixtures.statistics.amplification import MARGIN
from fixtures.statistics.log_effect import SMALLEST_EFFECT

SVG = "{http://www.w3.org/2000/svg}"
TAGS = {"svg", "title", "style", "rect", "g", "text", "tspan", "path", "circle"}


@pytest.fixture
def results():
    return stored_run()


def drawing(figure) -> ElementTree.Element:
    return ElementTree.fromstring(figure.svg)


def marks(root, tag, style) -> list[ElementTree.Element]:
    return [element for element in root.iter(SVG + tag) if style in element.get("class", "").split()]


def texts(root) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(SVG + "text")]


def rung_4(hypothesis) -> dict:
    return next(control for control in hypothesis["controls"] if control["id"] == "untrained")["evidence"]


def ticks(root) -> dict[float, float]:
    """Place of each number on the horizontal axis."""
    named = [(element.text, float(element.get("x"))) for element in marks(root, "text", "mid")]
    return {float(text): x for text, x in named if re.fullmatch(r"[\d.]+", text)}


def test_a_run_has_its_figures_and_each_is_an_svg_with_text_for_light_and_dark(results):
    figures = all_figures(results, DATA)
    names = [figure.name for figure in figures]
    assert names[:2] == ["trained-against-twins", "ground-truth"] and len(set(names)) == 8
    assert sum(name.startswith("t-map-") for name in names) == sum(name.startswith("where-") for name in names) == 3
    for figure in figures:
        root = drawing(figure)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= TAGS
        assert "prefers-color-scheme:dark" in figure.svg and len(texts(root)) > 8
        assert root.get("aria-label") and figure.alt and figure.reading and int(root.get("width")) == figure.width


def test_twenty_two_hypotheses_with_all_figures_stay_small(results):
    one = results["hypotheses"][0]
    results["hypotheses"] = [one | {"id": f"axis_{number}"} for number in range(22)]
    figures = all_figures(results, DATA)
    assert len(figures) == 2 + 3 + 22 and sum(len(figure.uri) for figure in figures) < 600_000


# where an axis lies


def test_each_cell_has_its_amplification_and_its_bound_and_is_outlined_where_the_interval_leaves_out_1(results):
    hypothesis = results["hypotheses"][0]
    cells, bounds = rung_4(hypothesis)["cells"], hypothesis["discoveries"]["cells"]
    cells[0]["interval"], cells[1]["interval"], cells[2]["interval"] = [0.9, 2.0], [1.1, 2.0], None
    root = drawing(where_figure(hypothesis))
    boxes = [group for group in root.iter(SVG + "g") if group.find(SVG + "rect") is not None]
    assert len(boxes) == len(cells) == 14
    for box, cell in zip(boxes, cells, strict=True):
        number, bound = (element.text for element in box.iter(SVG + "text"))
        (own,) = [entry for entry in bounds if (entry["block"], entry["kind"]) == (cell["block"], cell["kind"])]
        assert float(number.rstrip("×")) == pytest.approx(cell["ratio"], rel=0.01)
        assert bound == f"≥ {own['at_least']} of {own['n_units']}"
        colour, *sure = box.find(SVG + "rect").get("class").split()
        assert colour == f"a{sum(cell['ratio'] >= edge for edge in AMPLIFIED)}"
        ends = cell["interval"]
        assert sure == (["sure"] if ends and (ends[0] > 1 or ends[1] < 1) else [])
    places = [box.get("transform") for box in boxes]
    assert len(set(places)) == 14 and any("image tokens" in text for text in texts(root))


def test_without_twins_the_map_shows_the_effect_and_says_so(results):
    hypothesis = results["hypotheses"][0]
    leave_ladder(hypothesis)
    figure = where_figure(hypothesis)
    assert "no untrained twins" in figure.reading and "Effect on noise tokens, %, without twins" in texts(
        drawing(figure)
    )
    shown = [text for text in texts(drawing(figure)) if text.endswith(" %")]
    assert len(shown) == len(hypothesis["effect"]["cells"])
    assert float(shown[0].split()[0].replace("−", "-")) == pytest.approx(
        hypothesis["effect"]["cells"][0]["percent"], rel=0.01
    )
    hypothesis["effect"] = None
    assert where_figure(hypothesis) is None


@given(st.floats(0, 1e6))
def test_steps_part_the_numbers(value):
    number = step(value, AMPLIFIED)
    assert (number == 0 or AMPLIFIED[number - 1] <= value) and (number == len(AMPLIFIED) or value < AMPLIFIED[number])


# trained against twins


def test_distances_are_amplifications(results):
    """From the bar, the margin times the twins' mean, to the dot of the model, on the axis of its own ticks."""
    hypothesis = results["hypotheses"][0]
    results["hypotheses"] = [hypothesis]
    root = drawing(twins_figure(results))
    (dot,) = [float(e.get("cx")) for e in marks(root, "circle", "model") if e.get("cy") != "-4"]
    *_, bar = [e.get("d") for e in marks(root, "path", "needed")]
    floor, places = 100 * SMALLEST_EFFECT, ticks(root)

    def over_floor(percent):
        return 0.5 * math.log(percent**2 + floor**2)

    unit = (places[20] - places[1]) / (over_floor(20) - over_floor(1))
    assert places[0] == pytest.approx(places[1] - unit * (over_floor(1) - math.log(floor)), abs=0.2)
    found = rung_4(hypothesis)["amplification"]
    distance = (dot - float(bar[1:].split()[0])) / unit
    assert distance == pytest.approx(math.log(found["ratio"] / MARGIN), abs=0.01)
    squares = [e for e in marks(root, "path", "twin") if "h8v8h-8z" in e.get("d")]
    assert len(marks(root, "circle", "twin")) == len(squares) == 1 + 3  # one of each in the legend


def test_rows_are_sorted_and_those_without_twins_stand_apart(results):
    leave_ladder(results["hypotheses"][0])
    rows = [e.text for e in marks(drawing(twins_figure(results)), "text", "end") if e.text]
    names = [entry["title"] for entry in results["hypotheses"][:3]]
    order = [text for text in rows if text in names]
    ratios = {
        entry["title"]: rung_4(entry).get("amplification", {}).get("ratio") for entry in results["hypotheses"][:3]
    }
    assert order[-1] == names[0] and ratios[order[0]] >= ratios[order[1]]
    assert "no twins on record: rung 4 not climbed" in texts(drawing(twins_figure(results)))


# the ground truth


def test_all_labelled_sets_and_the_runs_own_lie_on_one_axis(results):
    claim_effects(results["hypotheses"][1])
    leave_ladder(results["hypotheses"][1])  # its amplification is that of its claim
    root, sets = drawing(truth_figure(results)), results["ground_truth"]["sets"]
    places = ticks(root)
    unit = (places[10] - places[1]) / math.log(10)
    known = marks(root, "circle", "known")
    assert len(known) == 2 * len(sets)
    for label in ("has it", "wording only", "has it not"):
        for entry in (entry for entry in sets if entry["label"] == label):
            near = [c for c in known if c.find(SVG + "title").text.startswith(f"{entry['set']}: ")]
            at = places[1] + unit * math.log(entry["ratio"])
            assert any(abs(float(circle.get("cx")) - at) < 0.2 for circle in near)
    own = sorted(float(circle.get("cx")) for circle in marks(root, "circle", "model"))
    ratios = [rung_4(entry)["amplification"]["ratio"] for entry in (results["hypotheses"][0], results["hypotheses"][2])]
    ratios.append(results["hypotheses"][1]["claims"][-1]["observed"])
    assert own == pytest.approx(sorted(places[1] + unit * math.log(ratio) for ratio in ratios), abs=0.2)
    assert len(marks(root, "path", "reach")) == 3


def test_it_says_whose_truth_it_is(results):
    assert "The truth is klein-mini’s; this run is of klein-mini+arrow." in truth_figure(results).reading
    results["model"]["weights_sha256"] = results["ground_truth"]["weights_sha256"]["klein-mini"]
    assert "Truth and run are of one model, klein-mini." in truth_figure(results).reading
    del results["ground_truth"]
    assert truth_figure(results) is None


@given(st.lists(st.floats(0, 60), max_size=40))
def test_dots_of_a_strip_keep_their_place_and_hide_no_other_while_there_is_room(values):
    placed = swarm([(value, str(number)) for number, value in enumerate(values)])
    assert {text: x for x, _, text in placed} == {str(number): value for number, value in enumerate(values)}
    assert all(abs(away) < 27 for _, away, _ in placed)
    if len(values) <= 5:
        apart = [math.hypot(a[0] - b[0], a[1] - b[1]) for n, a in enumerate(placed) for b in placed[:n]]
        assert all(distance > 7 for distance in apart)


# t maps


def test_squares_stand_where_the_units_are(results):
    record = results["axes"]["maps"][0]
    record |= {"x_limit": 4.0, "y_limit": 2.0, "bins": 4, "columns": [0, 3], "rows": [0, 3], "units": [1, 12]}
    figure = t_map_figures(results)[0]
    few, many = (marks(drawing(figure), "path", f"n{level}")[0].get("d") for level in (0, 3))
    (x, y), (u, v) = (map(float, re.match(r"M([\d.]+) ([\d.]+)h", path).groups()) for path in (few, many))
    side = float(re.search(r"h([\d.]+)v", few)[1])
    assert u - x == pytest.approx(3 * side, abs=0.2) and y - v == pytest.approx(3 * side, abs=0.2)
    assert len(marks(drawing(figure), "path", "three")) == 2  # ±3 is within x alone
    assert "13 units" in texts(drawing(figure))


def test_halves_that_do_not_agree_are_told(results):
    record = results["axes"]["maps"][0]
    for reliable, words in ((True, "halves of both axes agree"), (False, "r means nothing: halves do not agree")):
        record["reliable"] = reliable
        assert any(words in text for text in texts(drawing(t_map_figures(results)[0])))


# whatever results.json is like


@pytest.mark.parametrize("payload", PAYLOADS)
def test_strings_stay_text(results, payload):
    hostile = attacked(results, payload)
    for hypothesis, original in zip(hostile["hypotheses"], results["hypotheses"], strict=True):
        for control, kept in zip(hypothesis["controls"], original["controls"], strict=True):
            control["id"] = kept["id"]
    figures = all_figures(hostile, DATA)
    assert len(figures) >= 6
    for figure in figures:
        root = drawing(figure)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= TAGS
        assert not any(name.lower().startswith(("on", "href")) for e in root.iter() for name in e.attrib)
        assert re.fullmatch(r"[\w-]+", figure.name, re.ASCII)


def parts(value, path=()):
    """Every place in results.json."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, item in entries:
        yield (*path, name)
        yield from parts(item, (*path, name))


def test_anything_may_be_missing_or_of_another_kind(results):
    kept = {"id", "title", "statement", "effect", "discoveries", "controls", "claims"}
    results["hypotheses"] = [
        {name: entry[name] for name in kept if name in entry} for entry in results["hypotheses"][:1]
    ]
    results["hypotheses"][0]["controls"] = [
        control for control in results["hypotheses"][0]["controls"] if control["id"] == "untrained"
    ]
    results = {name: results[name] for name in ("model", "hypotheses", "axes", "ground_truth")}
    places = list(parts(results))
    assert len(places) > 100
    text = json.dumps(results)
    for place in places:
        for instead in (None, "text", [], -1):
            broken = json.loads(text)
            *way, last = place
            inside = broken
            for name in way:
                inside = inside[name]
            inside[last] = copy.copy(instead)
            for figure in all_figures(broken, DATA):
                drawing(figure)


def test_nothing_measured_gives_no_figure_and_no_section(results):
    assert all_figures({}, DATA) == [] and figures_view({"hypotheses": [{"id": "a"}]}, DATA) == []
    assert "Figures" not in claims_table_html({"hypotheses": []})
    leave_ladder(results["hypotheses"][0])
    *shown, last = figures_view(results, DATA)
    assert last["folded"] and len(last["figures"]) == 1 and not any(group["folded"] for group in shown)
    html = claims_table_html(results)
    assert html.count("data:image/svg+xml;base64,") >= 8 and 'href="figures/ground-truth.svg"' in html


@given(st.lists(st.text(max_size=100), min_size=1, max_size=3))
def test_names_of_files_are_safe(words):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,90}", file_name("where", *words))
    assert file_name("where", *words) != file_name("where", *words, "more")


def test_the_command_draws_them_again_from_results_json_alone(results, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert main(["figures", str(tmp_path)]) == 0
    written = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert len(written) == len(capsys.readouterr().out.splitlines()) == 8
    files = write_figures(tmp_path, results)
    assert {file.name: file.read_bytes() for file in files} == written
    (tmp_path / "results.json").write_text("{}")
    assert main(["figures", str(tmp_path)]) == 4
    assert "results.json" in capsys.readouterr().err
    assert main(["figures", str(tmp_path / "gone")]) == 4
    assert "No such file" in capsys.readouterr().err
