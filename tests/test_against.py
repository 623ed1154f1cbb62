"""Two models from two results.json: a stored run beside changed copies of it, of which the difference is known."""

import copy
import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import DATA, IMAGES, PROMPTS, stored_run
from statsmodels.stats.multitest import multipletests

from fixtures.__main__ import main
from fixtures.claims.statement import statement
from fixtures.common.forms import check_form
from fixtures.report.against.against import against_html
from fixtures.report.against.lines import against_lines
from fixtures.results.against.compare import OneRun, compare_models
from fixtures.results.against.records import AgainstRecord
from fixtures.results.against.sides import amplification_of
from fixtures.results.against.table import against_table

RUN = stored_run()
NAME = RUN["hypotheses"][IMAGES]["id"]
FILE = DATA / "sample_run.json"


def scaled(factor, name="other"):
    """The stored run of a model with this many times the effect in one hypothesis."""
    data = copy.deepcopy(RUN)
    data["model"]["name"] = name
    effect = data["hypotheses"][IMAGES]["effect"]
    effect["percent"] *= factor
    effect["without_each"] = [factor * value for value in effect["without_each"]]
    return data


def compared(data, other=RUN, folder=DATA):
    record = compare_models(OneRun(data, folder / "results.json"), OneRun(other, DATA / "results.json"))
    check_form(AgainstRecord, record, "the record", "")
    json.dumps(record, allow_nan=False)
    return record


def of(record, name=NAME):
    return next(one for one in record["hypotheses"] if one["id"] == name)


def test_a_model_against_itself_is_a_tie_where_there_is_an_effect_and_undecided_where_noise_hides_it():
    record = compared(RUN)
    found = of(record)
    assert found["verdict"] == "tie" and found["difference"]["interval"] == [1, 1] and found["words"] == []
    assert found["by_unit"]["r"] == pytest.approx(1) and found["by_unit"]["first"] == found["by_unit"]["second"] == 0
    noisy = of(record, RUN["hypotheses"][PROMPTS]["id"])
    assert noisy["verdict"] == "undecided" and "too noisy" in noisy["reason"] and noisy["first"]["power"] < 0.9
    assert record["differs"] == []


@pytest.mark.parametrize(("factor", "verdict"), [(3.0, "more"), (1 / 3, "less"), (1.05, "tie")])
def test_a_known_factor_is_found(factor, verdict):
    found = of(compared(scaled(factor)))
    assert found["verdict"] == verdict and found["difference"]["of"] == "amplification"
    assert found["difference"]["ratio"] == pytest.approx(factor, rel=0.01)
    assert found["difference"]["twins"] == 6 and found["difference"]["p_holm"] <= 0.05
    assert found["reason"].startswith({"more": "other makes", "less": "klein-mini+arrow makes"}.get(verdict, "a tie"))


def test_a_difference_below_the_margin_is_slight_where_pairs_do_not_agree_on_a_tie():
    data, rng = scaled(1.2), np.random.default_rng(0)
    effect = data["hypotheses"][IMAGES]["effect"]
    effect["without_each"] = [value * rng.uniform(0.985, 1.015) for value in effect["without_each"]]
    found = of(compared(data))
    assert found["verdict"] == "slight" and found["difference"]["p_holm"] <= 0.05
    assert found["difference"]["interval"][1] > 1.25 > found["difference"]["ratio"]


def test_a_factor_that_untrained_twins_show_too_is_taken_out():
    """What the other network makes more of anything: effects differ, amplifications do not."""
    data, other = scaled(1.0), scaled(2.0)
    for run, percent in ((data, 4.0), (other, 8.0)):
        for number, twin in enumerate(amplification_of(run["hypotheses"][IMAGES])["twins"]):
            twin |= {"percent": percent * 1.02**number, "without_each": [percent * 1.02**number] * 25}
    found = of(compared(other, data))
    assert found["first"]["effect"]["value"] == pytest.approx(2 * found["second"]["effect"]["value"])
    assert found["verdict"] == "tie"


@settings(max_examples=5, deadline=None)
@given(st.floats(0.2, 5))
def test_models_swapped_give_the_opposite(factor):
    data = scaled(factor)
    one, other = of(compared(data)), of(compared(RUN, data))
    assert other["verdict"] == {"more": "less", "less": "more"}.get(one["verdict"], one["verdict"])
    assert other["difference"]["ratio"] == pytest.approx(1 / one["difference"]["ratio"])
    assert other["difference"]["p_holm"] == pytest.approx(one["difference"]["p_holm"])


def test_p_is_the_largest_of_three_and_corrected_over_hypotheses():
    rows = [one for one in compared(scaled(3.0))["hypotheses"] if "difference" in one]
    assert len(rows) == 3
    for one in rows:
        found, larger = one["difference"], one["first"] if one["difference"]["ratio"] > 1 else one["second"]
        assert found["decisive_p"] == max(found["p"], found["networks_p"] or 0.0, larger["effect_p"])
    expected = multipletests([one["difference"]["decisive_p"] for one in rows], method="holm")[1]
    assert [one["difference"]["p_holm"] for one in rows] == pytest.approx(list(expected))


def test_of_one_architecture_it_is_said_of_these_two_sets_of_weights_alone():
    data = scaled(3.0)
    alike, others = of(compared(data)), of(compared(data | {"model": data["model"] | {"heads": 9}}))
    assert (alike["difference"]["over_networks"], alike["difference"]["networks_p"]) == (None, None)
    assert "these two sets of weights" in alike["reason"] and "over networks" not in alike["reason"]
    assert others["difference"]["networks_p"] > 0 and "over networks too" in others["reason"]
    assert others["difference"]["ratio"] == alike["difference"]["ratio"]


def test_a_difference_without_twins_is_of_the_effect_and_says_so():
    data = scaled(3.0)
    control = next(one for one in data["hypotheses"][IMAGES]["controls"] if one["id"] == "untrained")
    control["evidence"] = {}
    found = of(compared(data))
    assert (found["difference"]["of"], found["difference"]["over_networks"]) == ("effect", None)
    assert found["first"]["amplification"] is None and "twins of both were not measured" in found["reason"]
    data["hypotheses"][IMAGES]["amplification"] = amplification_of(RUN["hypotheses"][IMAGES])
    assert of(compared(data))["difference"]["of"] == "amplification"


def test_words_that_one_shows_and_the_other_does_not():
    data = scaled(1.0)
    entry = data["hypotheses"][IMAGES]
    verdicts = {"untrained": "failed", "held_out": "not evaluated"}
    for control in entry["controls"]:
        control["verdict"] = verdicts.get(control["id"], control["verdict"])
    entry["statement"] = statement(entry)
    found = {row["word"]: (row["first"], row["second"]) for row in of(compared(data))["words"]}
    assert found["learned"] == ("failed", "shown") and found["represents"] == ("not shown", "shown")
    assert ("not evaluated", "shown") in found.values()
    rungs = {row["id"]: (row["first"]["verdict"], row["second"]["verdict"]) for row in of(compared(data))["rungs"]}
    assert rungs["untrained"] == ("failed", "passed") and list(rungs)[0] == "null"
    text = "\n".join(against_lines(compared(data)))
    assert "klein-mini+arrow alone: learned, " in text and "other alone" not in text


@pytest.mark.parametrize("what", ["file", "image"])
def test_other_pairs_are_refused_by_name(what):
    data = scaled(1.0)
    shown = data["hypotheses"][IMAGES]["stimuli"]
    if what == "file":
        shown["sha256"] = "1" * 64
    else:
        shown["pairs"][0]["a"]["sha256"] = "1" * 64
    record = compared(data)
    found = of(record)
    assert found["verdict"] == "not comparable" and shown["file"] in found["reason"]
    assert [one["id"] for one in record["hypotheses"] if "difference" in one] == [
        RUN["hypotheses"][number]["id"] for number in (1, 2)
    ]


def test_pictures_that_each_model_generates_itself_are_compared_and_said():
    data = scaled(1.0)
    member = data["hypotheses"][IMAGES]["stimuli"]["pairs"][0]["a"]
    member["prompt"], member["sha256"] = "a picture", "1" * 64
    other = copy.deepcopy(data)
    other["hypotheses"][IMAGES]["stimuli"]["pairs"][0]["a"]["sha256"] = "2" * 64
    found = of(compared(data, other))
    assert found["own_pictures"] and "pictures of its own" in found["reason"]


def test_another_partition_is_compared_but_never_by_unit(tmp_path):
    data = scaled(3.0)
    found = of(compared(data, folder=tmp_path))  # no table of units there
    assert found["by_unit"] is None and found["verdict"] == "more"


def test_what_is_in_one_run_alone_is_named():
    data = copy.deepcopy(RUN)
    del data["hypotheses"][IMAGES]
    found = of(compared(data))
    assert found["verdict"] == "in one alone" and "alone" in found["reason"]


def test_protocols_that_differ_are_listed():
    data = scaled(1.0)
    data["protocol"]["resolution"] = 256
    assert compared(data)["differs"] == [{"field": "resolution", "first": 256, "second": 128}]


def written(folder, data, name):
    """A run without the hypothesis that was not evaluated, which no comparison is whole with."""
    data = copy.deepcopy(data)
    data["hypotheses"] = [one for one in data["hypotheses"] if "n_pairs" in one or one.get("compares")]
    (folder / name).write_text(json.dumps(data))
    return str(folder / name)


def test_the_command_tells_by_content_what_it_was_given(tmp_path, capsys):
    one, other = written(tmp_path, scaled(3.0), "a.json"), written(tmp_path, RUN, "b.json")
    assert main(["compare", one, other]) == 0
    text = capsys.readouterr().out
    assert "more in other" in text and "3.00x" in text and "rung 4 Untrained twin" in text
    assert main(["compare", str(FILE), str(FILE)]) == 1  # self_reference was not evaluated
    data = scaled(1.0)
    data["hypotheses"][IMAGES]["stimuli"]["sha256"] = "1" * 64
    assert main(["compare", one, written(tmp_path, data, "c.json")]) == 1
    data["hypotheses"] = []
    assert main(["compare", one, written(tmp_path, data, "d.json")]) == 1  # nothing in common


def test_the_command_refuses_what_it_cannot_use(tmp_path, capsys):
    results = written(tmp_path, RUN, "a.json")
    saved, cut, odd = (tmp_path / name for name in ("baseline.json", "cut.json", "odd.json"))
    saved.write_text('{"schema": 1, "tensors_sha256": "0"}')
    cut.write_text("{")
    odd.write_text(json.dumps({**json.loads(FILE.read_text()), "model": {}}))
    assert main(["compare", results, str(saved)]) == 4
    assert "is a baseline: expected two of one kind" in capsys.readouterr().err.replace(str(saved) + " ", "is ")
    for file in (cut, odd, tmp_path / "none.json"):
        assert main(["compare", results, str(file)]) == 4
        assert file.name in capsys.readouterr().err


def test_the_table_has_the_figures_of_both():
    record = compared(scaled(3.0))
    rows = {row["hypothesis"]: row for row in csv.DictReader(io.StringIO(against_table(record).decode()))}
    assert list(rows) == [one["id"] for one in record["hypotheses"]]
    row, found = rows[NAME], of(record)
    assert float(row["ratio"]) == found["difference"]["ratio"] and row["first"] == "other"
    assert float(row["first_effect"]) == pytest.approx(3 * float(row["second_effect"]))
    assert int(row["first_beyond_t5"]) == 107 and row["own_pictures"] == "False" and row["reason"] == found["reason"]
    assert rows["self_reference"]["ratio"] == "" and rows["self_reference"]["verdict"] == "not comparable"


def test_the_page_has_a_section_and_escapes_names():
    assert against_html({}) == "" and against_lines(None) == []
    page = against_html({"against": compared(scaled(3.0, name="<b>other"))})
    assert "&lt;b&gt;other against klein-mini+arrow" in page and "<b>other" not in page
    assert "more in &lt;b&gt;other" in page and "rung 12 Dose" in page and "self_reference" in page
    assert np.all([f"<td>{name}</td>" in page for name in ("amplification", "effect", "outcome")])
