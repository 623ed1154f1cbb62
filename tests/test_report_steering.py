"""Steered pictures in the report: strips that link to their files, a curve, one sheet."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from report_factory import PROMPTS, REFERENCE, make_results, stored_run

from fixtures.report.claim.steering import composed, curve, means, steering_html, write_strips
from fixtures.report.evidence_section import evidence_section

LIMIT = 150_000  # bytes of a strip


@pytest.fixture
def run(tmp_path):
    """A run folder with steered pictures of 256 pixels, and its results."""
    results = make_results(tmp_path)
    record = results["hypotheses"][PROMPTS]["steering"]
    for number, file in enumerate(sorted(files(record))):
        grain = np.random.default_rng(number).integers(0, 60, (256, 256, 3), dtype=np.uint8)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grain + np.uint8(8 * number)).save(tmp_path / file)
    return tmp_path, results


def files(record):
    found = {one["file"] for entry in record["sets"] for one in entry["pictures"]}
    return found | {recipient["a"] for recipient in record["recipients"]}


def test_every_picture_stands_once_small_and_links_to_its_file(run):
    folder, results = run
    entry = results["hypotheses"][PROMPTS]
    html = steering_html(entry, folder)
    linked = re.findall(r'<a href="(steering/[^"]+)"', html)
    assert sorted(name.replace("%2B", "+") for name in linked) == sorted(files(entry["steering"]))
    assert html.count("data:image/jpeg;base64,") == len(linked) == 2 * (2 + 2 * 4)
    assert len(html.encode()) < LIMIT and "<script" not in html and "–" not in html
    for recipient in entry["steering"]["recipients"]:
        assert recipient["prompt"] in html and f"seed {recipient['seed']}" in html
    assert "Steered pictures" in evidence_section(results, folder, lambda test: test)


def test_pictures_that_are_gone_leave_the_figures(tmp_path):
    entry = stored_run()["hypotheses"][PROMPTS]
    html = steering_html(entry, tmp_path)
    assert "data:image" not in html and "no preview" in html and "<figcaption>0.32</figcaption>" in html


def test_the_curve_is_of_the_means_of_what_was_scored():
    record = stored_run()["hypotheses"][PROMPTS]["steering"]
    found = dict(means(record))
    for entry in record["sets"]:
        for dose, mean in zip(record["doses"], found[entry["name"]], strict=True):
            assert mean == pytest.approx(np.mean([p["score"] for p in entry["pictures"] if p["dose"] == dose]))
    drawn = ElementTree.fromstring(curve(record))
    assert "by the judge of the drawn world by dose. found: 0.02, 0.00" in drawn.get("aria-label")
    assert len(re.findall('class="series', curve(record))) == 2
    first = record["sets"][0]["pictures"][0]
    first["score"] = None
    assert means(record)[0][1][0] == record["sets"][0]["pictures"][len(record["doses"])]["score"]
    for entry in record["sets"]:
        for picture in entry["pictures"]:
            picture["score"] = None
    assert means(record)[0][1][-1] == pytest.approx((0.5906 + 0.6807) / 2)
    assert "Place on the way" in curve(record) and curve({"doses": [0, 1], "sets": []}) is None


def test_all_pictures_are_one_sheet(run):
    folder, results = run
    (file,) = write_strips(folder, results)
    assert file == folder / "steering/ethical_valence/strip.png"
    record = results["hypotheses"][PROMPTS]["steering"]
    sheet = np.asarray(Image.open(file).convert("RGB"), dtype=int)
    first = Image.open(folder / record["sets"][0]["pictures"][0]["file"]).resize((96, 96), Image.Resampling.LANCZOS)
    assert np.abs(sheet[18 : 18 + 96, 116 : 116 + 96] - np.asarray(first, dtype=int)).mean() < 8
    assert sheet.shape[1] == 116 + 6 * 98 and sheet.shape[0] == 18 + 4 * 112
    assert composed({}, folder) is None and composed({"reason": "x"}, folder) is None


def test_a_reason_stands_in_the_place_of_pictures(tmp_path):
    hypotheses = stored_run()["hypotheses"]
    assert "rung 1 does not hold" in steering_html(hypotheses[REFERENCE], tmp_path)
    del hypotheses[REFERENCE]["steering"]
    assert steering_html(hypotheses[REFERENCE], tmp_path) == ""
