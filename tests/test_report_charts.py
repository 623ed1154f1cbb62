"""Charts of the page: bars as high as their counts, lines where their numbers belong, whatever the numbers are."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hostile import PAYLOADS
from hypothesis import given
from hypothesis import strategies as st
from report_factory import stored_run

from fixtures.report.axes.axes import KINDS, THRESHOLDS, Axis
from fixtures.report.axes.figures import blocks_figure, correlation_figure, shares_figure
from fixtures.report.axes.ordering import ordering_html
from fixtures.report.calibration import power_figure
from fixtures.report.change.figure import change_figure
from fixtures.report.claim.histogram import null_histogram, split_half_histogram
from fixtures.report.overview import claims_table_html
from fixtures.report.parts.templating import stylesheet

distributions = st.dictionaries(st.integers(0, 20_000), st.integers(1, 10**9), min_size=1, max_size=60)


def drawing(svg) -> ElementTree.Element:
    root = ElementTree.fromstring(str(svg))
    assert root.tag == "svg" and root.get("role") == "img"
    assert not re.search(r"nan|inf|None|–", "".join(e.get("d", "") + e.get("transform", "") for e in root.iter()))
    return root


def classed(root, tag, *names) -> list[ElementTree.Element]:
    return [e for e in root.iter(tag) if set(names) <= set(e.get("class", "").split())]


def texts(root) -> list[str]:
    return [element.text for element in root.iter("text")]


def bars(root) -> list[list[tuple[float, float, float]]]:
    """Left edge, right edge and height of every upright bar, by panel, from left to right."""
    shape = re.compile(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V[\d.]+z")
    panels = [shape.findall(path.get("d")) for path in classed(root, "path", "bar")]
    return [[(float(x), float(right), float(base) - float(y)) for x, base, y, right in found] for found in panels]


def ticks_across(root) -> list[dict[float, float]]:
    """By panel, the places of the numbers under it."""
    groups = [group for group in classed(root, "g", "mid", "small") if group.get("transform", "").startswith("tr")]
    return [
        {float(e.text.replace(",", "").replace("−", "-")): float(e.get("x")) for e in group.iter("text")}
        for group in groups
    ]


def marks(root) -> dict[str, float]:
    """Place of the line of each label."""
    return {
        group.find("text").text: float(re.match(r"M([\d.]+) ", group.find("path").get("d"))[1])
        for group in classed(root, "g", "mark")
    }


def exceedance(null, observed=0, required=None, p99=1, **more):
    record = {"counts": list(null), "count_flips": list(null.values()), "p99": p99, "max": max(null)}
    return {"observed": observed, "required": required, "threshold": 5.0, "verdict": "refuted", "null": record} | more


# histograms


@given(distributions, st.integers(0, 40_000), st.none() | st.floats(0, 1e6), st.integers(0, 20_000))
def test_any_null_is_drawn_whole_with_every_line_in_order_inside_the_chart(null, observed, required, p99):
    root = drawing(null_histogram(exceedance(null, observed, required, p99)))
    found = marks(root)
    values = {"observed": observed, "null p99": p99, "null max": max(null)}
    values |= {} if required is None else {"required": required}
    named = {name: x for name in values for text, x in found.items() if text.startswith(name)}
    assert len(named) == len(values) == len(found)
    order = sorted(values, key=values.get)
    assert [named[name] for name in order] == sorted(named.values())
    assert all(66 <= x <= 580 for x in named.values())
    for group in classed(root, "g", "mark"):
        text = group.find("text")
        assert float(text.get("x")) + 7 * len(text.text) < 590
    high = [height for panel in bars(root) for _, _, height in panel]
    assert 0 < len(high) <= 140 and max(high) <= 186 and min(high) > 0


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40).filter(any))
def test_bars_are_as_high_as_their_counts_and_stand_at_them(flips):
    """Up to 120 counts have a bar each, and zeros have none."""
    root = drawing(null_histogram(exceedance(dict(enumerate(flips)), 3, 5, len(flips))))
    (panel,), (places,) = bars(root), ticks_across(root)
    shown = [count for count in flips if count]
    assert len(panel) == len(shown)
    unit = (places[max(places)] - places[0]) / (max(places) or 1)
    heights = [height for _, _, height in panel]
    for (left, right, _), value in zip(panel, [n for n, count in enumerate(flips) if count], strict=True):
        if max(places):
            assert (left + right) / 2 == pytest.approx(places[0] + unit * value, abs=0.5)
    order = np.argsort(shown, kind="stable")
    assert all(heights[a] <= heights[b] for a, b in zip(order, order[1:], strict=False))
    if max(shown) <= 50 * min(shown):
        assert heights == pytest.approx([count / max(shown) * max(heights) for count in shown], abs=0.2)
        assert "sign flips" in texts(root)
    else:
        logs = np.log(np.array(shown) / 0.6)
        assert heights == pytest.approx((logs / logs.max() * max(heights)).tolist(), abs=0.2)
        assert "sign flips (log scale)" in texts(root)


@pytest.mark.parametrize("observed", [0, 4, 17, 16320])
@pytest.mark.parametrize(
    "null", [{0: 200}, {0: 9000, 1: 900, 5: 1}, {n: 16_000_000 // (n + 1) ** 2 for n in range(900)}, {7: 0, 9: 2}]
)
@pytest.mark.parametrize("required", [None, 2, 30_000])
def test_lines_far_beyond_the_null_stand_behind_a_break_on_ticks_of_their_own(observed, null, required):
    root = drawing(null_histogram(exceedance(null, observed, required)))
    panels, far = ticks_across(root), classed(root, "rect", "far")
    assert len(panels) == len(bars(root)) == 1 + len(far) == 1 + texts(root).count("//")
    assert far or max(observed, required or 0) < 2000
    for text, x in marks(root).items():
        value = float(re.search(r"[\d.,]+$", text)[0].replace(",", ""))
        places = panels[-1] if far and x >= float(far[0].get("x")) else panels[0]
        if len(places) > 1:
            (one, low), *_, (other, high) = sorted(places.items())
            assert x == pytest.approx(low + (value - one) / (other - one) * (high - low), abs=0.5)


def test_no_flip_is_left_out_behind_the_break():
    root = drawing(null_histogram(exceedance({0: 100_000, 3: 10, 300: 2, 390: 3}, 0, 5, 2)))
    near, far = bars(root)
    assert (len(near), len(far)) == (2, 2) and far[0][2] < far[1][2] < near[1][2] < near[0][2]
    assert any(re.search(r"width of the bars: 1 and \d+\)", text) for text in texts(root))


def test_lines_wear_their_verdict():
    for verdict, classes in (("supported", {"is-supported"}), ("refuted", {"is-refuted"}), ("<b>", set())):
        root = drawing(null_histogram(exceedance({0: 3, 1: 2}, verdict=verdict)))
        (group,) = classed(root, "g", "mark", "observed")
        assert set(group.get("class").split()) == {"mark", "observed"} | classes


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=80), st.floats(-1, 1), st.floats(-2, 2))
def test_every_split_is_in_a_bar(values, observed, required):
    claim = {"observed": observed, "required": required, "kind": "split_half", "verdict": "supported"}
    root = drawing(split_half_histogram(claim, {"r": values}, "in words"))
    (panel,), (places,) = bars(root), ticks_across(root)
    assert root.get("aria-label") == "in words" and len(panel) <= 100
    first = min(0, observed, required, *values)
    counts = np.histogram(values, bins=np.arange(np.floor(50 * max(first, -1)), 51) / 50)[0]
    counts = counts[counts > 0]
    heights = [height for _, _, height in panel]
    assert heights == pytest.approx((counts / counts.max() * max(heights)).tolist(), abs=0.2)
    (one, low), *_, (other, high) = sorted(places.items())
    for text, x in marks(root).items():
        value = observed if text.startswith("observed median") else required
        assert x == pytest.approx(low + (value - one) / (other - one) * (high - low), abs=0.5)


def test_without_a_distribution_there_is_no_histogram():
    assert null_histogram({"observed": 3, "null": None}) is None
    assert null_histogram({"observed": 3, "null": {"p99": 4, "counts": None}}) is None
    assert null_histogram(exceedance({0: 0, 4: 0})) is None
    assert split_half_histogram({"observed": 0.4}, None) is None
    assert split_half_histogram({"observed": 0.4}, {"r": [None]}) is None
    assert split_half_histogram({"observed": -0.4, "kind": "split_half"}, {"r": [-0.5, None, 0.1]}) is not None


# axes side by side


def axis(name, beyond, p99, attention, mlp, blocks, reliability=0.5):
    both = dict(zip(THRESHOLDS, (beyond, beyond / 2), strict=True)), dict(zip(THRESHOLDS, (p99, p99), strict=True))
    return Axis(name, name, *both, dict(zip(KINDS, (attention, mlp), strict=True)), blocks, reliability, True)


AXES = [
    axis("one", 80.0, 10.0, 60.0, 90.0, {"joint[0]": 0.0, "single[0]": 96.0}),
    axis("two", 20.0, None, None, 30.0, {"joint[0]": 4.25}, None),
]


def test_shares_and_their_null_are_on_one_axis():
    root = drawing(shares_figure(AXES, THRESHOLDS, KINDS, "in words"))
    places = ticks_across(root)[0]
    unit = (places[80] - places[0]) / 80
    widths = re.findall(r"M([\d.]+) [\d.]+H([\d.]+)v15", classed(root, "path", "bar")[1].get("d"))
    assert [(float(x) - float(left)) / unit for left, x in widths] == pytest.approx([80, 20], abs=0.1)
    (bound,) = re.findall(r"M([\d.]+) [\d.]+v20", classed(root, "path", "bound")[1].get("d"))
    assert (float(bound) - places[0]) / unit == pytest.approx(10, abs=0.1)
    (round_,) = re.findall(r"M([\d.]+) [\d.]+a", classed(root, "path", "dot")[2].get("d"))
    assert (float(round_) + 4 - places[0]) / unit == pytest.approx(60, abs=0.2)
    diamonds = re.findall(r"M([\d.]+) [\d.]+l", classed(root, "path", "dot")[3].get("d"))
    assert [(float(x) - places[0]) / unit for x in diamonds] == pytest.approx([90, 30], abs=0.2)
    assert {"one", "two", "99th percentile of the null", "attention units", "MLP units"} <= set(texts(root))


def test_cells_say_their_share_and_unknown_is_not_nothing():
    root = drawing(blocks_figure(AXES, ["joint[0]", "single[0]"]))
    assert {"0", "96", "4.2", "–", "joint[0]", "single[0]"} <= set(texts(root))
    opacity = [float(path.get("fill-opacity")) for path in classed(root, "path", "cell")[:4]]
    assert len(classed(root, "path", "cell", "none")) == 1 and opacity == [0.0, 0.025, 0.5, 0.6]
    many = drawing(blocks_figure(AXES, [f"single[{n}]" for n in range(60)]))
    assert "0" not in texts(many)[4:-5] and len(
        re.findall("rotate", "".join(e.get("transform", "") for e in many.iter()))
    )


def test_correlations_are_coloured_by_sign_and_the_diagonal_is_outlined():
    root = drawing(correlation_figure(AXES, [[1.0, -0.8], [-0.8, 1.0]]))
    assert {"0.50", "−0.80", "–"} <= set(texts(root))
    colours = {path.get("class").strip(): path.get("fill-opacity") for path in classed(root, "path", "cell")[:3]}
    assert colours == {"cell": "0.25", "cell below": "0.4", "cell none": "0.6"}
    (own,) = classed(root, "path", "own")
    assert own.get("d").count("M") == 2


def test_differences_of_axes_have_their_intervals():
    row = {"larger": "a < b", "difference": 0.1, "low": -0.1, "high": 0.3, "holds": False, "ratio": 2.0}
    html = ordering_html({"id": "h"}, {"id": "c", "differences": [row]}, {})
    root = drawing(re.search(r'<svg class="pr-chart".*?</svg>', html, re.DOTALL)[0])
    (places,) = ticks_across(root)
    (group,) = classed(root, "g", "series", "is-refuted")
    ends, dot = (path.get("d") for path in group.iter("path"))
    low, high, middle = (
        float(re.match(p, d)[1]) for p, d in (("M([^ ]+)", ends), (".*?H([\\d.]+)", ends), ("M([^ ]+)", dot))
    )
    unit = (places[20] - places[0]) / 20
    assert [(x - places[0]) / unit for x in (low, middle, high)] == pytest.approx([-10, 10, 30], abs=0.2)
    assert "a < b" in texts(root)


# calibration and change


def test_power_curves_rise_as_their_numbers_do():
    results = stored_run()
    figure, power = power_figure(results), results["calibration"]["power"]
    assert figure in claims_table_html(results)
    root = drawing(figure)
    (places,) = ticks_across(root)
    unit = (places[1] - places[0]) / 1
    curves = classed(root, "g", "series")
    assert [curve.find("text").text for curve in curves] == [curve["name"] for curve in power["curves"]]
    for group, curve in zip(curves, power["curves"], strict=True):
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", group.find("path").get("d"))[:-1]
        assert [(float(x) - places[0]) / unit for x, _ in points] == pytest.approx(power["effects"], abs=0.01)
        heights = [236 - float(y) for _, y in points]
        assert heights == pytest.approx([part * 226 / 1.02 for part in curve["power"]], abs=0.1)
    assert {"80%", "95%"} <= set(texts(root))


def changed(n_units, movements, **more):
    rows = [
        {"block": f"b[{n}]", "n_units": n_units, "moved": n == 1, "movement": movement, "bound": 2.0, "typical": 1.0}
        for n, movement in enumerate(movements)
    ]
    return {"blocks": rows, "weights": {"differ": ["b[1]"]}} | more


def test_every_block_has_a_bar_of_its_movement_and_its_bound():
    t = np.arange(6.0)
    root = drawing(change_figure(changed(2, [0.5, 8.0, None]), t, -t))
    shape = re.compile(r"M[\d.]+ (\d+)V([\d.]+)h")
    heights = [float(b) - float(y) for path in classed(root, "path", "bar") for b, y in shape.findall(path.get("d"))]
    assert heights == pytest.approx([0.5 * 320 / 9.44, 8 * 320 / 9.44, 0], abs=0.1)
    assert len(classed(root, "path", "bar", "moved")) == 1 and len(classed(root, "path", "bound")) == 3
    assert {"b[0]", "b[1]", "b[2]", "weights", "differ", "in blocks that moved"} <= set(texts(root))
    still, moved = (path.get("d").count("M") for path in classed(root, "path", "unit")[:2])
    assert (still, moved) == (4, 2)


def test_units_without_t_are_left_out_and_many_units_stay_small():
    t = np.random.default_rng(0).normal(0, 2, 60_000)
    t[:100] = np.nan
    svg = change_figure(changed(20_000, [0.5, 8.0, 1.0]), t, t[::-1])
    drawing(svg)
    assert len(svg) < 150_000
    nothing = drawing(change_figure(changed(1, [0.0, 0.0]), np.full(2, np.nan), np.full(2, np.nan)))
    assert not classed(nothing, "path", "unit")
    assert change_figure(changed(2, [1.0]), np.zeros(3), np.zeros(3)) is None


# all


@pytest.mark.parametrize("payload", PAYLOADS)
def test_strings_stay_text(payload):
    curve = {"name": payload, "power": [0.1, 0.9]}
    change = changed(1, [1.0, 2.0])
    change["blocks"][0]["block"] = payload
    charts = [
        null_histogram(exceedance({0: 3}, threshold=payload, verdict=payload, kind=payload), payload.split("\x1b")[0]),
        power_figure({"calibration": {"power": {"effects": [0, 1], "curves": [curve]}}}),
        change_figure(change, np.zeros(2), np.ones(2)),
        blocks_figure(AXES, [payload], ""),
    ]
    for chart in charts:
        root = drawing(chart)
        assert {element.tag for element in root.iter()} <= {"svg", "g", "path", "text", "rect"}
        assert not any(name.lower().startswith(("on", "href", "style")) for e in root.iter() for name in e.attrib)


def test_charts_wear_the_colours_of_the_page():
    css, charts = stylesheet(), [shares_figure(AXES, THRESHOLDS, KINDS), null_histogram(exceedance({0: 3, 1: 1}))]
    assert "invert(" not in css and not re.search(r"#[0-9a-f]{3}", "".join(charts))
    used = {name for chart in charts for each in re.findall(r'class="([^"]*)"', chart) for name in each.split()}
    assert all(re.search(rf"\.{name}\b", css) for name in used)
