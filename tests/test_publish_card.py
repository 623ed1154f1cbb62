"""The cards: in the shape of the published ones, and plain about what was not shown."""

import copy
import re
import shlex
from itertools import groupby

import pytest
from hostile import PAYLOADS, attacked
from huggingface_hub import ModelCard
from report_factory import klein, make_results

from fixtures.claims.ladder import LADDER
from fixtures.claims.limits import CORRELATIONAL, OF_CHANGED_UNITS, OF_EVERY_RUN
from fixtures.report.cards.card import card
from fixtures.report.cards.card_results import TOP_BLOCKS
from fixtures.report.cards.command import command

HEADINGS = ["Method", "Results", "Top blocks by max |t|", "Controls", "Limitations", "How to reproduce"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("run"), side=16)


def rows_after(text, heading):
    """Cells of the first table under a heading, without its two lines of head."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    table = next(list(rows) for is_row, rows in groupby(section, lambda line: line.startswith("|")) if is_row)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table[2:]]


def section(text, heading):
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_the_hub_reads_the_front_matter(results):
    found = klein(results)
    data = ModelCard(card(found, found["hypotheses"][0])).data
    assert data.base_model == found["model"]["source"] and data.license == "apache-2.0"
    assert {"probing", "flux2", "arrow-of-time-rendered"} <= set(data.tags)


def test_a_model_that_is_not_klein_is_named_in_the_first_line_of_both_parts(results):
    text = card(results, results["hypotheses"][0])
    assert text.startswith("---\n# Not evidence about FLUX.2 Klein: measured on klein-mini+arrow, a positive control")
    read = ModelCard(text)
    assert read.text.strip().startswith("**Not evidence about FLUX.2 Klein: measured on klein-mini+arrow, a positive")
    assert read.data.base_model is None


def test_klein_itself_has_no_such_line(results):
    found = klein(results)
    assert "Not evidence" not in card(found, found["hypotheses"][0])


def test_results_hold_every_threshold_with_its_figures(results):
    hypothesis = results["hypotheses"][0]
    rows = rows_after(card(results, hypothesis), "Results")
    assert len(rows) == len(hypothesis["counts"])
    for row, count, claim in zip(rows, hypothesis["counts"], hypothesis["claims"], strict=False):
        observed, null, units = count["observed"], count["null"], hypothesis["n_units"]
        assert row[0] == rf"\|t\| &gt; {count['threshold']:g}" and row[1] == f"{observed} of {units}"
        assert float(row[2].rstrip("%")) == pytest.approx(100 * observed / units, abs=0.06)
        assert float(row[3]) == pytest.approx(null["mean"], abs=0.06) and float(row[4]) == null["p99"]
        assert float(row[5].rstrip("×")) == pytest.approx(observed / max(null["p99"], 1), rel=0.02)
        assert row[-1] == claim["verdict"]


def test_top_blocks_are_the_strongest_in_order(results):
    hypothesis = results["hypotheses"][2]
    rows = rows_after(card(results, hypothesis), "Top blocks by max |t|")
    expected = sorted((block["max_abs_t"] for block in hypothesis["blocks"]), reverse=True)[:TOP_BLOCKS]
    assert [float(row[1]) for row in rows] == pytest.approx(expected, abs=0.006)


def test_the_ladder_has_every_rung_with_its_verdict(results):
    for hypothesis in results["hypotheses"][:3]:
        rows = rows_after(card(results, hypothesis), "Controls")
        verdicts = {control["id"]: control["verdict"] for control in hypothesis["controls"]}
        assert len(rows) == len(LADDER)
        for row, step in zip(rows[1:], LADDER[1:], strict=True):
            assert row[0] == f"{step.number} {step.title}" and row[3].endswith(verdicts.get(step.id, "not run"))


def test_limitations_are_what_was_not_shown_and_the_fixed_limits(results):
    found = copy.deepcopy(results)
    for hypothesis in found["hypotheses"]:
        for claim in hypothesis["claims"]:
            claim |= {"verdict": "supported", "p_holm": 0.01}
    some, none = (section(card(found, found["hypotheses"][number]), "Limitations") for number in (0, 2))
    assert "Not shown: **selective**, failed" in some and "Not shown: **learned**, not evaluated" in some
    assert "Not shown" not in none and all(limit in some and limit in none for limit in OF_EVERY_RUN)
    assert CORRELATIONAL in some and CORRELATIONAL not in none
    assert all(limit in none and limit not in some for limit in OF_CHANGED_UNITS)


def test_which_units_carry_it_is_said_where_units_were_changed(results):
    carried, unchanged = (section(card(results, results["hypotheses"][number]), "Controls") for number in (2, 0))
    text = results["hypotheses"][2]["controls"][-1]["evidence"]["reading"]["text"]
    assert f"Where it is carried, by rung 12: {text}" in carried and "Where it is carried" not in unchanged


def test_refuted_and_not_evaluated_claims_are_said_plainly(results):
    refuted, missing = (card(results, results["hypotheses"][number]) for number in (1, 3))
    assert "- **Claim refuted.** The number of units with" in refuted
    assert "- **Claim inconclusive.**" in refuted and "**Outcome.** Absent: 1.25 times the effect" in refuted
    assert "**Not evaluated.** stimuli/self" in missing and "- **Claim not evaluated.**" in missing
    assert "Top blocks" not in missing


def test_a_run_that_is_not_complete_says_so(results):
    partial = copy.deepcopy(results)
    partial["run"]["complete"] = False
    assert "**Incomplete run:" in card(partial, partial["hypotheses"][0])


def options(results, **values):
    changed = copy.deepcopy(results)
    changed["run"]["options"] = {
        name: {"value": value, "source": "environment"} for name, value in values.items() if value is not ...
    }
    return changed


def words(results):
    return shlex.split(command(results, results["hypotheses"][0]))


def test_the_command_measures_the_same_commit_with_every_deciding_option(results):
    found = options(klein(results), model="klein", revision="main", seed=3, null="published")
    expected = ["--model", found["model"]["source"], "--revision", "a" * 40, "--seed", "3", "--null", "published"]
    assert words(found) == ["pytest", "probes/test_arrow_of_time_rendered.py", *expected]


def test_the_command_holds_no_path_of_the_machine(results):
    found = options(results, model="/data/mine", store="/data/store", reports="/r", lora="/data/taste.safetensors:0.5")
    found["model"] |= {"name": "mine", "source": "/data/mine", "label": None, "embedded": False}
    expected = ["--model", "path/to/mine", "--lora", "path/to/taste.safetensors:0.5"]
    assert words(found) == ["pytest", "probes/test_arrow_of_time_rendered.py", *expected]
    assert "/data" not in card(found, found["hypotheses"][0])


def test_a_lora_is_named_with_the_model_that_it_was_added_to(results):
    found = options(klein(results), model="klein", lora="owner/taste:0.5")
    base = {"name": found["model"]["name"], "revision": "b" * 40, "weights_sha256": None, "fingerprint": "f"}
    adapters = [{"name": "owner/taste", "sha256": "c" * 64, "weight": 0.5}]
    found["model"] |= {"name": "klein+taste:0.5", "revision": None, "base": base, "adapters": adapters}
    found["model"]["label"] = "with the LoRA owner/taste at weight 0.5"
    source = found["model"]["source"]
    assert words(found)[2:] == ["--model", source, "--revision", "b" * 40, "--lora", "owner/taste:0.5"]
    text = card(found, found["hypotheses"][0])
    assert ModelCard(text).data.base_model == source and f"sha256 {'c' * 64}, weight 0.5" in text
    assert "Not evidence about FLUX.2 Klein: measured on klein+taste:0.5, with the LoRA" in text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_adds_no_markup(results, payload):
    attack = attacked(results, payload)
    for hypothesis in attack["hypotheses"]:
        text = card(attack, hypothesis)
        text.encode()
        front, body = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
        assert ModelCard(text).data.license == "apache-2.0" and front.startswith("# Not evidence about FLUX.2 Klein")
        lines = body.splitlines()
        assert [line[3:] for line in lines if line.startswith("## ")] == [
            name for name in HEADINGS if hypothesis.get("blocks") or "blocks" not in name
        ]
        assert sum(line.startswith("# ") for line in lines) == 1 and lines.count("```") == 2
        fence = lines.index("```")
        prose = "\n".join(lines[:fence] + lines[fence + 3 :])
        assert not re.search(r"<|(?<!\\)`|(?<!\\)\]\(|\x1b|\x00", prose)
        for is_row, rows in groupby(lines, lambda line: line.startswith("|")):
            assert not is_row or len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows}) == 1
