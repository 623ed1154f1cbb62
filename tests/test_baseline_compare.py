import copy
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from baseline_factory import BLOCKS, UNITS, baseline, entry, head, t_maps

from fixtures.__main__ import main
from fixtures.baseline.compare import compare_files, compare_hypothesis
from fixtures.baseline.document import save_baseline
from fixtures.baseline.moved_units import unit_name
from fixtures.baseline.records import compare_runs, side_by_side
from fixtures.report.change.change import change_html, changes_html
from fixtures.report.change.lines import change_lines
from fixtures.report.text_views import summary_markdown

ROOT = Path(__file__).parents[1]
MAPS = t_maps(9, np.random.default_rng(0))
THEN = baseline(MAPS[:6])


def moved(block="single[1]", by=2.0):
    t = MAPS[:1].copy()
    t[:, [name == block for name in BLOCKS]] += by
    return np.vstack([t, t, t])


def test_the_same_run_again_is_unchanged():
    change = compare_hypothesis("one", THEN, THEN)
    assert (
        change["verdict"] == "unchanged"
        and change["whole"]["r"] == pytest.approx(1)
        and change["whole"]["difference"] == 0
    )
    assert not any(row["moved"] for row in (change["whole"], *change["blocks"], *change["counts"]))
    assert change["movers"] == [] and change["weights"]["differ"] == []
    json.dumps(change, allow_nan=False)


def test_the_same_model_at_another_seed_is_unchanged_and_the_seed_is_listed():
    now = replace(baseline(MAPS[7:]), head=head(seed=7))
    change = compare_hypothesis("one", THEN, now)
    assert change["verdict"] == "unchanged"
    assert change["listed"] == [{"field": "protocol.seed", "then": 0, "now": 7}]


def test_a_change_names_the_block_its_units_and_the_weights():
    weights = head()["weights"] | {"single[1]": "f" * 64}
    change = compare_hypothesis("one", THEN, replace(baseline(moved()), head=head("update", weights=weights)))
    assert change["verdict"] == "changed" and change["weights"] == {"differ": ["single[1]"], "parts": 6}
    assert [row["block"] for row in change["blocks"] if row["moved"]] == ["single[1]"]
    assert "first single[1]" in change["reason"] and "t differs from single[1] on" in change["reason"]
    assert "weights differ in single[1]" in change["reason"]
    assert all(row["name"].startswith("single[1] ") for row in change["movers"])
    json.dumps(change, allow_nan=False)


def test_a_count_beyond_what_seeds_give_is_a_change():
    now = copy.deepcopy(THEN)
    now.hypotheses["one"]["counts"][0]["observed"] += 40
    change = compare_hypothesis("one", THEN, now)
    assert change["verdict"] == "changed" and "units beyond |t| = 3" in change["reason"]


def test_family_wise_units_by_name():
    t = MAPS[:2].copy()
    strong = np.flatnonzero(np.abs(MAPS[0]) >= 3.5)
    weak = np.flatnonzero(np.abs(MAPS[0]) < 1)[:2]
    t[:, strong[0]], t[:, weak] = 0.0, -9.0
    found = compare_hypothesis("one", THEN, baseline(t))["familywise"]
    assert (found["then"], found["now"]) == (len(strong), len(strong) + 1)
    assert found["gone"] == [unit_name(UNITS[strong[0]])]
    assert sorted(found["appeared"]) == sorted(unit_name(UNITS[index]) for index in weak)
    assert found["jaccard"] == pytest.approx((len(strong) - 1) / (len(strong) + 2))


@pytest.mark.parametrize(
    ("field", "change_head", "change_entry"),
    [
        ("protocol.resolution", {"protocol": head()["protocol"] | {"resolution": 64}}, {}),
        ("protocol.dtype", {"protocol": head()["protocol"] | {"dtype": "bfloat16"}}, {}),
        ("null.method", {"null": {"method": "published", "permutations": None}}, {}),
        ("sites", {"sites": head()["sites"][:-1]}, {}),
        ("stimuli.sha256", {}, {"stimuli": entry(MAPS)["stimuli"] | {"sha256": "2" * 64}}),
        ("stimuli.given_images", {}, {"stimuli": entry(MAPS)["stimuli"] | {"given_images": "3" * 64}}),
        ("null.flips", {}, {"null": {"method": "exact", "flips": 512}}),
    ],
)
def test_another_question_is_not_comparable(field, change_head, change_entry):
    now = replace(
        THEN, head=head() | change_head, hypotheses={"one": copy.deepcopy(THEN.hypotheses["one"]) | change_entry}
    )
    change = compare_hypothesis("one", THEN, now)
    assert change["verdict"] == "not comparable" and [row["field"] for row in change["differs"]] == [field]
    assert change["reason"].startswith(f"{field} was ") and "whole" not in change


def test_another_place_is_compared_and_listed():
    now = copy.deepcopy(THEN)
    now.head["protocol"] |= {"device": "cuda", "compiled": True}
    now.hypotheses["one"]["environment"] = {"python": "3", "device_name": "a gpu", "packages": {"torch": "3"}}
    now.hypotheses["one"]["stimuli"]["generated_images"] = "4" * 64
    change = compare_hypothesis("one", THEN, now)
    assert change["verdict"] == "unchanged"
    fields = {row["field"] for row in change["listed"]}
    assert fields == {"protocol.device", "protocol.compiled", "device_name", "torch", "stimuli.generated_images"}


def test_new_and_missing_hypotheses_are_said():
    other = baseline(MAPS[:6], ("two",))
    assert compare_hypothesis("two", THEN, other)["verdict"] == "new"
    assert compare_hypothesis("one", THEN, other)["verdict"] == "not evaluated"
    lines = change_lines(compare_files(THEN, other))
    assert any(line.startswith("NEW") and "two" in line for line in lines)
    assert any(line.startswith("NOT EVALUATED") and "one" in line for line in lines)


def test_flips_are_of_decided_verdicts_and_tell_another_claim():
    old, new = copy.deepcopy(THEN.hypotheses["one"]), copy.deepcopy(THEN.hypotheses["one"])
    new["claims"]["count_t3"] |= {"verdict": "refuted", "margin": 3.0}
    new["controls"] = {}
    rows = {row["id"]: row for row in side_by_side(old, new)}
    assert rows["count_t3"]["flipped"] and rows["count_t3"]["other_claim"]
    assert rows["placebo"]["now"] == "not evaluated" and not rows["placebo"]["flipped"]


def flipped():
    now = replace(baseline(moved()), head=head("update"))
    now.hypotheses["one"]["claims"]["count_t3"]["verdict"] = "refuted"
    return now


def test_flips_come_first_in_every_view():
    results = compare_files(THEN, flipped())
    assert change_lines(results)[1] == "FLIPPED       one/count_t3: supported then, refuted now"
    page = changes_html(results)
    assert page.index("count_t3") < page.index("pr-badge")
    text = summary_markdown(results)
    assert text.index("supported then, refuted now") < text.index("✗ changed")


def test_the_figure_and_tables_are_drawn(tmp_path):
    from safetensors.numpy import save_file

    results = compare_files(THEN, flipped())
    hypothesis = results["hypotheses"][0]
    hypothesis["change"]["t_file"] = "one.change.safetensors"
    save_file({"then": MAPS[0], "now": moved()[0]}, tmp_path / "one.change.safetensors")
    html = change_html(hypothesis, tmp_path, "pytest x")
    assert html.count('<svg class="pr-chart"') == 1 and "single[1]" in html and "pytest x" in html
    hypothesis["change"]["t_file"] = "../elsewhere.safetensors"
    assert "<svg" not in change_html(hypothesis, tmp_path, "pytest x")


def test_foreign_text_is_escaped(tmp_path):
    hostile = "<script>alert(1)</script>"
    now = flipped()
    now.head["model"]["name"] = hostile
    now.hypotheses["one"] |= {"title": hostile, "environment": {"python": hostile, "packages": {}}}
    now.hypotheses["one"]["claims"] = {hostile: now.hypotheses["one"]["claims"]["count_t3"]}
    results = compare_files(THEN, now) | {"model": {"name": hostile}}
    for text in (
        changes_html(results),
        change_html(results["hypotheses"][0], tmp_path, hostile),
        summary_markdown(results),
    ):
        assert "<script" not in text and "&lt;script" in text


def test_the_command_compares_two_files_in_under_two_seconds_without_torch(tmp_path, capsys):
    for name, content in (("then", THEN), ("same", THEN), ("now", flipped()), ("new", baseline(MAPS, ("two",)))):
        save_baseline(tmp_path / f"{name}.json", content)
    assert main(["compare", str(tmp_path / "then.json"), str(tmp_path / "same.json")]) == 0
    assert "UNCHANGED     one" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "then.json"), str(tmp_path / "new.json")]) == 0
    assert main(["compare", str(tmp_path / "then.json"), str(tmp_path / "none.json")]) == 4
    assert f"{tmp_path}/none.json: no such file" in capsys.readouterr().err
    program = (
        "import sys; from fixtures.__main__ import main; code = main(['compare', *sys.argv[1:]]); "
        "print({'torch', 'numba'} & set(sys.modules)); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "then.json"), str(tmp_path / "now.json")]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 2
    assert done.returncode == 1 and done.stdout.endswith("set()\n") and "CHANGED       one" in done.stdout


def test_runs_say_what_differs():
    runs = compare_runs(THEN, replace(THEN, head=head("update", weights={"joint[0]": "a", "added": "b"})))
    assert runs["differs"] == [] and set(runs["weights"]["differ"]) == {*dict.fromkeys(BLOCKS), "vae", "added"}
    assert runs["model"]["now"]["name"] == "update"
