"""model_index.yaml read back as the Hub's own client reads it."""

import copy
import json

import pytest
import yaml
from hostile import PAYLOADS, attacked
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from report_factory import claim_effects, klein, make_results

from fixtures.claims.ladder import LADDER
from fixtures.claims.statement import null_verdict
from fixtures.report.cards.model_index import eval_results, model_index
from fixtures.report.cards.publish import publish


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("run"), side=16)


def read_back(text):
    return model_index_to_eval_results(yaml.safe_load(text)["model-index"])


def test_what_is_read_back_is_what_was_measured(results):
    name, found = read_back(model_index(results))
    assert name == "klein-mini+arrow" and found == eval_results(results)
    assert all(result.verified is False and result.verify_token is None for result in found)
    metrics = {(result.dataset_config, result.metric_type): result for result in found}
    for hypothesis in results["hypotheses"]:
        for claim in hypothesis["claims"]:
            result = metrics[hypothesis["id"], claim["id"]]
            assert claim["verdict"] in result.metric_name
            expected = claim["verdict"] if claim["observed"] is None else claim["observed"]
            assert result.metric_value == expected
            for figure in ("ratio", "p", "p_holm"):
                beside = metrics.get((hypothesis["id"], f"{claim['id']}_{figure}"))
                assert (beside and beside.metric_value) == claim[figure]


def test_every_hypothesis_is_a_config_of_its_stimulus_set(results):
    entries = yaml.safe_load(model_index(results))["model-index"][0]["results"]
    assert [entry["dataset"]["config"] for entry in entries] == [entry["id"] for entry in results["hypotheses"]]
    for entry, hypothesis in zip(entries, results["hypotheses"], strict=True):
        assert entry["dataset"].get("revision") == hypothesis.get("stimuli", {}).get("sha256")


def test_the_ladder_travels_with_the_counts(results):
    rungs = [result for result in eval_results(results) if result.metric_type == "rungs_passed"]
    for result, hypothesis in zip(rungs, results["hypotheses"], strict=True):
        verdicts = {control["id"]: control["verdict"] for control in hypothesis["controls"]}
        verdicts["null"] = null_verdict(hypothesis)
        expected = {step.title: verdicts.get(step.id, "not run") for step in LADDER}
        assert result.metric_args == expected
        assert result.metric_value == list(expected.values()).count("passed")
    assert [result.metric_value > 3 for result in rungs] == [True, False, True, False]


def test_what_patching_recovered_travels_where_units_were_changed(results):
    found = {(result.dataset_config, result.metric_type): result for result in eval_results(results)}
    for name in ("sufficient", "necessary"):
        control = next(entry for entry in results["hypotheses"][2]["controls"] if entry["id"] == name)
        result, own = found["ethical_valence", f"{name}_share"], control["evidence"]["own"]
        assert result.metric_value == own["share"] and result.metric_name.endswith(f"{name}: passed")
        assert result.metric_args["p"] == own["p"] and result.metric_args["units"] == 40
    assert [key[0] for key in found if key[1].endswith("t_share")] == ["ethical_valence"]


def test_a_refutation_and_a_gap_are_said_in_the_name_and_the_value(results):
    found = {(result.dataset_config, result.metric_type): result for result in eval_results(results)}
    assert found["physical_scale", "count_t3"].metric_name == "Units with |t| > 3: refuted"
    missing = found["self_reference", "count_t3"]
    assert missing.metric_value == "not evaluated" and "no such file" in missing.metric_args["reason"]


def test_an_effect_has_its_figures_and_no_ratio_to_a_null(results):
    entry = copy.deepcopy(results["hypotheses"][2])
    effect, amplification = claim_effects(entry)
    found = {result.metric_type: result for result in eval_results(results | {"hypotheses": [entry]})}
    assert found["effect"].metric_name == "Effect on noise tokens, %: supported"
    assert found["effect"].metric_value == effect["observed"]
    assert found["effect"].metric_args == {"verdict": "supported", "required": effect["required"]}
    assert found["amplification"].metric_value == amplification["observed"]
    assert found["effect_p"].metric_name.endswith("p under sign flips: supported")
    assert found["amplification_p"].metric_name.endswith("p of no more than the twins: supported")
    assert found["amplification_p"].metric_value == amplification["p"]
    assert not {"effect_ratio", "amplification_ratio"} & set(found) and "count_t3_ratio" in found


def test_it_is_the_front_matter_of_a_card(results):
    card = ModelCard(f"---\n{model_index(results)}---\n\n# A model\n")
    assert card.data.model_name == "klein-mini+arrow" and card.data.eval_results == eval_results(results)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"label": "untrained: random weights", "source": "embedded", "revision": None}, "untrained: random weights"),
        ({"name": "mine", "source": "/home/me/mine", "revision": None}, "a local folder, whose weights may be any"),
        ({"name": "a/b", "source": "a/b"}, "another repository"),
        ({"name": "klein+x", "label": "with the LoRA x at weight 1", "revision": None}, "with the LoRA x"),
        ({"name": "klein", "fingerprint": None}, "no model was measured"),
    ],
)
def test_the_first_line_says_what_is_no_evidence_about_klein(results, model, said):
    first = model_index(klein(results, **model)).splitlines()[0]
    assert first.startswith("# Not evidence about FLUX.2 Klein: ") and said in first and "/home" not in first


def test_klein_itself_is_evidence_and_still_self_reported(results):
    lines = model_index(klein(results)).splitlines()
    assert lines[0].startswith("# Self-reported") and "Not evidence" not in "".join(lines)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_stays_a_value(results, payload):
    text = model_index(attacked(results, payload))
    text.encode()
    assert len(read_back(text)[1]) == len(eval_results(results)) - 2  # of rungs by a name that is not known
    assert yaml.safe_load(text).keys() == {"model-index"}
    assert text.splitlines()[0].startswith("# Not evidence about FLUX.2 Klein: ")


def test_the_files_are_pure_functions_of_results_json(results, tmp_path):
    before = json.dumps(results)
    for name in ("one", "two"):
        publish(tmp_path / name, json.loads(before))
    assert json.dumps(results) == before
    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).rglob("*.*")} for name in ("one", "two"))
    assert one == two
    assert set(one) == {"model_index.yaml", *(f"{entry['id']}.md" for entry in results["hypotheses"])}
