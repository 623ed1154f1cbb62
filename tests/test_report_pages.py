import copy
import json
import re
from html import escape

import pytest
from report_factory import claim_effects, evidence_html, full_size, make_results

from fixtures.report.claim.measured import SIZE_LIMIT
from fixtures.report.claim.stimuli import word_diff
from fixtures.report.overview import claims_table_html
from fixtures.report.parts.formats import count
from fixtures.report.parts.templating import stylesheet
from fixtures.report.text_views import model_lines, summary_markdown, terminal_lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def results(folder):
    return make_results(folder)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A hypothesis of the full-size geometry with 25 image pairs, and its folder."""
    folder = tmp_path_factory.mktemp("full")
    return full_size(folder), folder


def evidence(results, folder, hypothesis=0, claim=0):
    entry = results["hypotheses"][hypothesis]
    return evidence_html(entry, entry["claims"][claim], folder, results["model"])


def all_evidence(results, folder):
    for index, hypothesis in enumerate(results["hypotheses"]):
        for number in range(len(hypothesis["claims"])):
            yield evidence(results, folder, index, number)


@pytest.fixture(scope="module")
def blocks(results, folder):
    """The evidence of all ten claims."""
    return list(all_evidence(results, folder))


def test_a_protocol_of_its_own_stands_under_the_claims_of_a_hypothesis(results):
    data = copy.deepcopy(results)
    for hypothesis in data["hypotheses"]:
        hypothesis["protocol"] = dict(data["protocol"])
    assert "protocol of its own" not in claims_table_html(data) + summary_markdown(data)
    entry = data["hypotheses"][0]
    entry["protocol"] |= {"batch_size": 4, "device": "<b>"}
    device, size = data["protocol"]["device"], data["protocol"]["batch_size"]
    line = (
        f"Captured under a protocol of its own: device &lt;b&gt; (the run: {device}), batch size 4 (the run: {size})."
    )
    html, text = claims_table_html(data), summary_markdown(data)
    assert html.count(line) == len(entry["claims"]) and text.count(line) == 1
    for one_missing in (data | {"protocol": {}}, data | {"hypotheses": [entry | {"protocol": None}]}):
        assert "protocol of its own" not in claims_table_html(one_missing) + summary_markdown(one_missing)


def test_evidence_is_a_pure_function_and_leaves_its_input_alone(results, folder):
    before = copy.deepcopy(results)
    assert evidence(results, folder) == evidence(results, folder)
    assert results == before


def test_evidence_needs_nothing_but_what_json_and_the_folder_hold(results, folder):
    read = json.loads((folder / "results.json").read_text())
    assert evidence(read, folder) == evidence(results, folder)


def test_verdict_leads_with_all_figures(results, folder):
    html = evidence(results, folder, 2, 0)
    claim = results["hypotheses"][2]["claims"][0]
    assert html.index("pr-badge") < html.index("<dl") < html.index("<svg")
    for figure in (claim["observed"], claim["required"], claim["null"]["p99"], claim["null"]["max"]):
        assert re.search(rf"<dd>(≥ )?{count(figure)}</dd>", html)
    for heading in ("Null distribution", "t of every unit", "Strongest units", "Blocks", "Published and observed"):
        assert f"<h4>{heading}</h4>" in html


@pytest.mark.parametrize("kind", ["effect", "amplification"])
def test_a_claim_without_a_null_shows_no_figures_of_one(results, folder, kind):
    entry = copy.deepcopy(results["hypotheses"][2])
    claim = next(claim for claim in claim_effects(entry) if claim["kind"] == kind)
    html = evidence_html(entry, claim, folder, results["model"])
    names = re.findall("<dt>(.*?)</dt>", html[: html.index("</dl>")])
    assert names == ["Observed", "Required", "p"]
    for absent in ("Null distribution", "No distribution is stored", "<dt>Null</dt>", "Ratio to p99"):
        assert absent not in html
    assert "<h4>t of every unit</h4>" in html and "<h4>Effect on activations</h4>" in html and "None" not in html
    data = results | {"hypotheses": [entry]}
    line = next(line for line in terminal_lines(data) if f"/{kind}: " in line)
    figures = {"effect": "27.0 % (required 0.391 %; p 6.0e-7)", "amplification": "68.5x (required 1.25x; p 6.0e-7)"}
    assert line == f"SUPPORTED     ethical_valence/{kind}: {figures[kind]}"
    row = next(line for line in summary_markdown(data).splitlines() if claim["sentence"] in line).split("|")
    assert [cell.strip() for cell in row[6:9]] == ["–"] * 3


def test_a_count_and_a_split_half_keep_what_they_are_held_against(results, folder):
    lines = terminal_lines(results)
    assert any(line.endswith("/count_t3: 179 (required 88.8; p99 37, null max 182; 4.84x; p 6.6e-7)") for line in lines)
    assert any("/split_half: 0.600 (required 0.287; p 0.38)" in line for line in lines)
    html = evidence(results, folder, 2, 2)
    assert "<h4>Split halves</h4>" in html and "<dt>Null p99" not in html
    entry = copy.deepcopy(results["hypotheses"][2])
    del entry["claims"][0]["null"]["counts"]  # a count whose distribution is missing says so
    missing = evidence_html(entry, entry["claims"][0], folder, results["model"])
    assert "<h4>Null distribution</h4>" in missing and "No distribution is stored for this claim" in missing


def test_every_claim_renders_within_the_size_limit(blocks):
    assert [len(html.encode()) <= SIZE_LIMIT for html in blocks] == [True] * 10


def test_full_size_with_25_image_pairs_stays_within_the_limit(full):
    hypothesis, folder = full
    for claim in hypothesis["claims"]:
        html = evidence_html(hypothesis, claim, folder, {"name": "m"})
        assert len(html.encode()) <= SIZE_LIMIT
        assert html.count("data:image/jpeg") == 50
        assert html.count("<image ") == 3


def test_pictures_that_do_not_compress_and_long_prompts_stay_within_the_limit(results, folder, full, tmp_path):
    import numpy as np
    from PIL import Image

    hypothesis, full_folder = copy.deepcopy(full[0]), full[1]
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(full_folder / "noise.png")
    for pair in hypothesis["stimuli"]["pairs"]:
        pair["a"]["image"] = pair["b"]["image"] = "noise.png"
    html = evidence_html(hypothesis, hypothesis["claims"][0], full_folder, {"name": "m"})
    assert len(html.encode()) <= SIZE_LIMIT and html.count('class="pr-pair"') == 25

    hypothesis = copy.deepcopy(results["hypotheses"][2])
    pair = {"id": "long", "category": None, "a": {"prompt": "word & " * 900}, "b": {"prompt": "other <word> " * 900}}
    hypothesis["stimuli"]["pairs"] = [pair] * 300
    html = evidence_html(hypothesis, hypothesis["claims"][0], folder, {"name": "m"})
    assert len(html.encode()) <= SIZE_LIMIT and "pairs are not shown here" in html


def test_image_pairs_are_thumbnails_that_link_to_the_files(results, folder):
    html = evidence(results, folder)
    links = re.findall(r'<a href="([^"#]+)" target="_blank" rel="noopener"><img src="data:image/jpeg;base64,', html)
    assert len(links) == 50
    assert links[0] == "images/arrow_of_time_rendered/00%20a.png"


def test_prompt_pairs_are_text_with_the_differing_words_marked(results, folder):
    html = evidence(results, folder, 2)
    a, b = (results["hypotheses"][2]["stimuli"]["pairs"][0][letter]["prompt"] for letter in "ab")
    for letter, parts in zip("ab", word_diff(a, b), strict=True):
        differing = [escape(text) for text, differs in parts if differs]
        assert differing and all(f'<mark class="pr-{letter}">{text}</mark>' in html for text in differing)
    assert "data:image/jpeg" not in html
    assert "data:image/jpeg" in evidence(results, folder, 1)  # the reference image


def test_long_lists_of_stimuli_are_folded(results, folder):
    assert "<summary>21 more pairs</summary>" in evidence(results, folder, 2)


def test_an_untrained_model_is_labelled_wherever_a_verdict_stands(results, blocks):
    label = results["model"]["label"]
    pages = [*blocks, claims_table_html(results), "\n".join(model_lines(results))]
    assert all(label in page for page in [*pages, summary_markdown(results)])


def test_counts_are_not_compared_across_geometries(results, folder, full):
    note = "does not have the published geometry"
    assert note in evidence(results, folder, 2) and note in claims_table_html(results)
    same = {"name": "m", "published_geometry": True}
    assert note not in evidence_html(full[0], full[0]["claims"][0], full[1], same)


def test_a_refutation_on_record_is_named_as_such(results, folder):
    assert "On record" in evidence(results, folder, 1, 0)
    assert "On record" not in evidence(results, folder, 0, 0)


def test_the_command_can_be_pasted_into_a_shell(results, folder):
    entry = results["hypotheses"][0]
    claim = entry["claims"][0] | {"test": "probes/test_x.py::test_count[t3]"}
    html = evidence_html(entry, claim, folder, results["model"])
    assert "pytest &#39;probes/test_x.py::test_count[t3]&#39;" in html
    html = evidence_html(entry, claim, folder, results["model"], "pytest x --model y")
    assert "<pre>pytest x --model y</pre>" in html


def test_a_claim_that_was_not_evaluated_shows_its_reason_and_no_figures(results, folder):
    html = evidence(results, folder, 3)
    assert "not evaluated" in html and "self_reference.toml: no such file" in html
    assert '<dl class="pr-figures">' not in html and "<img" not in html and "<svg" not in html


def test_the_table_lists_every_claim_under_its_hypothesis(results):
    html = claims_table_html(results)
    for verdict in ("supported", "refuted", "inconclusive", "not evaluated"):
        assert f"</span>{verdict}</span>" in html  # the badge says it in words
    assert html.count('<td><span class="pr-badge') == 10
    assert "self_reference.toml: no such file" in html
    assert "interchangeable within a pair" in html and "<details" in html


def test_subsets_and_twins_stand_side_by_side_with_their_own_null(results):
    results = copy.deepcopy(results)
    untrained = next(control for control in results["hypotheses"][2]["controls"] if control["id"] == "untrained")
    untrained["evidence"]["kinds"][0]["twins"][2] |= {"counts": None, "reason": "no memory for a twin"}
    html, text = claims_table_html(results), summary_markdown(results)
    assert html.count("<td>all pairs</td>") == text.count("| all pairs |") == 3
    hypothesis = results["hypotheses"][0]
    for subset in hypothesis["comparisons"]:
        first, second = subset["counts"]
        row = re.search(f"<td>{subset['name']}</td>(.*?)</tr>", html[html.index(f"<h4>{hypothesis['title']}") :])[1]
        cells = re.findall(r"<td class=\"pr-num\">(?:<b>)?([^<]*)", row)
        assert cells[0] == count(subset["n_pairs"])
        assert row.count("untrained twin") == 0
        assert (cells[1], cells[2]) == (count(first["observed"]), count(first["p99"]))
        assert (cells[4], cells[5]) == (count(second["observed"]), count(second["p99"]))
    assert "not evaluated: no memory for a twin" in html and "not evaluated: no memory for a twin" in text


def test_table_and_evidence_agree_on_anchors(results, blocks):
    linked = re.findall(r'href="#([^"]+)"', claims_table_html(results))
    anchors = [re.search(r'id="([^"]+)"', html)[1] for html in blocks]
    assert len(set(anchors)) == 10 and linked[-10:] == anchors


def emptied(value, keep):
    """A copy with everything optional set to None."""
    return {key: value[key] if key in keep else None for key in value}


def test_whatever_may_be_absent_may_be_absent(results, folder):
    claim_keys = ("id", "test", "kind", "sentence", "verdict", "reason", "observed")
    sparse = copy.deepcopy(results)
    sparse["model"] = {"name": "m"}
    sparse["protocol"] = sparse["environment"] = {}
    sparse["run"] = {"id": "r"}
    for hypothesis in sparse["hypotheses"]:
        hypothesis["claims"] = [emptied(claim, claim_keys) for claim in hypothesis["claims"]]
    for index, hypothesis in enumerate(sparse["hypotheses"]):
        for key in list(hypothesis):
            if key not in ("id", "title", "sentence", "contrast", "claims"):
                changed = copy.deepcopy(sparse)
                changed["hypotheses"][index][key] = None
                assert evidence(changed, folder, index)
        sparse["hypotheses"][index] = emptied(hypothesis, ("id", "title", "sentence", "contrast", "claims"))
    for html in all_evidence(sparse, folder):
        assert "None" not in html
    for page in (claims_table_html(sparse), summary_markdown(sparse), "\n".join(terminal_lines(sparse))):
        assert "None" not in page


def test_terminal_figures_are_plain_ascii(results):
    lines = terminal_lines(results)
    assert all(line.isascii() for line in lines)
    assert any(line.startswith("REFUTED") and "[refutation on record]" in line for line in lines)
    assert lines[0].endswith("1 not evaluated") and "self_reference.toml: no such file" in lines[-3]


def test_an_empty_or_unfinished_run_renders():
    assert "no hypotheses" in claims_table_html({"hypotheses": []})
    for run, words in (
        ({"finished": None, "complete": False}, "did not finish"),
        ({"finished": "2026-01-01T00:00:00", "complete": False}, "Incomplete run"),
    ):
        results = {"run": run, "hypotheses": []}
        assert words in claims_table_html(results) and words in summary_markdown(results)
    whole = {"run": {"finished": "2026-01-01T00:00:00", "complete": True}, "hypotheses": []}
    assert "ncomplete" not in claims_table_html(whole) and "not finish" not in summary_markdown(whole)
    assert terminal_lines({}) and summary_markdown({})


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b broken"])
def test_a_damaged_unit_table_or_picture_is_named_not_fatal(results, folder, content, tmp_path):
    hypothesis = copy.deepcopy(results["hypotheses"][0])
    (tmp_path / "damaged.csv.gz").write_bytes(content)
    (tmp_path / "damaged.png").write_bytes(content)
    hypothesis["units_file"] = "damaged.csv.gz"
    hypothesis["stimuli"]["pairs"][0]["a"]["image"] = "damaged.png"
    html = evidence_html(hypothesis, hypothesis["claims"][0], tmp_path, results["model"])
    assert "damaged.csv.gz cannot be read" in html or "no unit has a t" in html
    assert html.count("no preview") == 50


def test_the_style_sheet_is_plain_css():
    css = stylesheet()
    assert css.count("{") == css.count("}") > 50
    assert "<" not in css and "url(" not in css and "@import" not in css
