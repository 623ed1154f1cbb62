"""No string of a run becomes markup: tags, attributes and addresses are the templates' own, whatever the strings."""

import copy
import csv
import gzip
import re
from html.parser import HTMLParser
from itertools import groupby

import pytest
from hostile import CHOICES, PAYLOADS, attacked
from report_factory import claim_effects, evidence_html, leave_ladder, make_results

from fixtures.claims.ladder import CONTROLS
from fixtures.report.calibration import power_figure
from fixtures.report.control.evidence import control_html
from fixtures.report.evidence_section import evidence_section
from fixtures.report.overview import claims_table_html
from fixtures.report.text_views import model_lines, summary_markdown, terminal_lines

TAGS = set(
    "a article b br circle code dd details div dl dt em figcaption figure g h3 h4 h5 header i image img li mark p path "
    "pre q rect section span strong summary svg table tbody td text th thead tr ul".split()
)
ATTRIBUTES = set(
    "alt aria-hidden aria-label class colspan cx cy d fill fill-opacity height href id preserveaspectratio r rel role "
    "rowspan scope src stroke stroke-width style target text-anchor title transform viewbox width x y".split()
)


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_comment(self, data):
        raise AssertionError(f"comment {data!r}")

    def handle_data(self, data):
        self.text.append(data)


def check(html: str) -> Page:
    page = Page(html)
    assert set(page.tags) <= TAGS
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    html.encode("utf-8")
    for name, value in page.attributes:
        if name == "href":
            assert re.fullmatch(r"#claim-[\w-]+|data:image/png;base64,[\w+/=]+|[\w.~%-][\w.~%/-]*", value, re.ASCII)
        if name == "src":
            assert re.fullmatch(r"data:image/(png|jpeg|svg\+xml);base64,[\w+/=]+", value, re.ASCII)
        if name == "style":
            assert re.fullmatch(r"(width|left):[\d.]+%", value)
        if name == "id":
            assert re.fullmatch(r"claim-[\w-]+", value, re.ASCII)
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return make_results(folder, side=16), folder


@pytest.fixture(params=PAYLOADS, ids=range(len(PAYLOADS)))
def hostile(request, run):
    """Results with every string replaced, but for the ids of the controls, which choose what is shown of them."""
    results = attacked(run[0], request.param)
    for hypothesis, original in zip(results["hypotheses"], run[0]["hypotheses"], strict=True):
        for control, kept in zip(hypothesis["controls"], original["controls"], strict=True):
            control["id"] = kept["id"]
    return results, run[1], request.param


def test_evidence(hostile):
    results, folder, payload = hostile
    for hypothesis in results["hypotheses"]:
        page = check(evidence_html(hypothesis, hypothesis["claims"][0], folder, results["model"]))
        shown = payload.encode("utf-8", "replace").decode().replace("\x00", "")
        assert shown.split("\n")[0][:8] in "".join(page.text)


@pytest.mark.parametrize("rung", CONTROLS)
def test_controls(hostile, rung):
    results, folder, payload = hostile
    hypothesis = results["hypotheses"][2]
    found = next(entry for entry in hypothesis["controls"] if entry["id"] == rung)
    page = check(control_html(hypothesis, found, folder))
    shown = payload.encode("utf-8", "replace").decode().replace("\x00", "")
    assert shown.split("\n")[0][:8] in "".join(page.text) and "td" in page.tags


def test_claims_table(hostile):
    page = check(claims_table_html(hostile[0]))
    assert "script" not in page.tags
    assert page.tags.count("img") == 8  # the figures
    charts = [value for name, value in page.attributes if name == "class" and value == "pr-chart"]
    assert len(charts) == 4  # shares, blocks and correlations of the axes, power curves


def test_the_first_screen_with_pictures_and_the_folded_evidence(hostile):
    results, folder, payload = hostile
    for entry in results["hypotheses"]:
        entry["known"] = payload
    page = check(claims_table_html(results, folder) + evidence_section(results, folder, str))
    assert "script" not in page.tags and page.tags.count("details") > 20


def test_names_of_power_curves(hostile):
    page = check(power_figure(hostile[0]))
    assert set(page.tags) == {"svg", "g", "path", "text"}
    assert "".join(hostile[2].split("\x1b")[0].split("\n")[0].split())[:8] in "".join("".join(page.text).split())


@pytest.mark.parametrize("key", [*CHOICES, "test", "id", "by", "partition"])
@pytest.mark.parametrize("payload", PAYLOADS[:3])
def test_words_that_choose_a_presentation(run, key, payload):
    results, folder = copy.deepcopy(run[0]), run[1]

    def replace(value):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            if name == key and isinstance(item, str):
                value[name] = payload
            elif isinstance(item, dict | list):
                replace(item)

    replace(results)
    check(claims_table_html(results))
    for hypothesis in results["hypotheses"][2:]:
        check(evidence_html(hypothesis, hypothesis["claims"][0], folder, results["model"]))
        for control in hypothesis["controls"]:
            check(control_html(hypothesis, control, folder))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_names_in_the_unit_table(run, payload, tmp_path):
    results, folder = run
    hypothesis = results["hypotheses"][2]
    with gzip.open(folder / hypothesis["units_file"], "rt", newline="") as stream:
        rows = list(csv.reader(stream))
    text = payload.encode("utf-8", "replace").decode().replace("\x00", "")
    with gzip.open(tmp_path / hypothesis["units_file"], "wt", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [rows[0], *([row[0], text, text, text + row[3], text, text, *row[6:]] for row in rows[1:])]
        )
    page = check(evidence_html(hypothesis, hypothesis["claims"][0], tmp_path, results["model"]))
    assert "svg" in page.tags


def test_markdown_stays_a_table(hostile):
    text = summary_markdown(hostile[0])
    text.encode("utf-8")
    lines = text.splitlines()
    tables = [list(rows) for is_table, rows in groupby(lines, lambda line: line.startswith("|")) if is_table]
    # changes, the ladder, the claims, the axes, what stands side by side, the checked stimuli, the calibration
    assert [len(rows) for rows in tables] == [6, 6, 12, 5, 11, 9, 9, 7, 18, 6]
    for rows, separators in zip(tables, (4, 15, 13, 9, 9, 9, 9, 16, 7, 4), strict=True):
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {separators}
    assert not re.search(r"<|(?<!\\)`|(?<!\\)\]\(|\x1b|\x00", text)
    assert sum(line.startswith("#") for line in lines) == 1


def test_terminal_lines_hold_no_control_characters(hostile):
    lines = terminal_lines(hostile[0]) + model_lines(hostile[0])
    assert len(lines) == 1 + 10 + 25 + 4 + 3  # outcomes, claims, controls, statements; model, label, registration
    assert all(line.isprintable() for line in lines)
    "\n".join(lines).encode("utf-8")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_verdict_that_is_not_known_in_the_headline(run, payload):
    results = copy.deepcopy(run[0])
    results["hypotheses"][0]["claims"][0]["verdict"] = results["hypotheses"][0]["statement"]["outcome"] = payload
    first = summary_markdown(results).splitlines()[0]
    assert first.startswith("# Hypotheses: 1 represented") and terminal_lines(results)[0].isprintable()
    assert not re.search(r"<|(?<!\\)`|(?<!\\)\]\(|\x1b|\x00", first)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_was_not_climbed_and_claims_of_effects(run, payload):
    results, folder = copy.deepcopy(run[0]), run[1]
    claim_effects(results["hypotheses"][2])
    leave_ladder(results["hypotheses"][1])
    results = attacked(results, payload)
    check(claims_table_html(results))
    for hypothesis in results["hypotheses"][1:3]:
        for claim in hypothesis["claims"]:
            check(evidence_html(hypothesis, claim, folder, results["model"]))
        for control in hypothesis["controls"]:
            check(control_html(hypothesis, control, folder))
    lines = terminal_lines(results)
    assert len(lines) == 1 + 12 + 21 + 4 and all(line.isprintable() for line in lines)
    assert sum(line.startswith("NOT CLIMBED ") for line in lines) == 2
