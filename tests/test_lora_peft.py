"""The scale of a LoRA: from alpha tensors, peft's configuration and metadata, against peft's own merging."""

import json

import pytest
import torch
from lora_cases import MODULES, RANK, check, factors, linears, moved, peft_folder, refused, whole_file, written
from peft import LoraConfig

from fixtures.common.errors import ProbeError
from fixtures.models.lora.adapter import resolve_adapter
from fixtures.models.lora.additions import additions_of


@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 16},
        {"lora_alpha": 16, "use_rslora": True},
        {"lora_alpha": 4, "alpha_pattern": {"attn.to_q": 32}},
        {"lora_alpha": 4, "rank_pattern": {"proj_out": 2, ".*linear_in": 8}},
        {"lora_alpha": 8, "rank_pattern": {"proj_out": 2}, "alpha_pattern": {"proj_out": 5}, "use_rslora": True},
        {"lora_alpha": 3, "lora_dropout": 0.1},
    ],
)
def test_what_peft_saves_is_what_peft_merges(tiny, transformer, tmp_path, options):
    merged = peft_folder(transformer, tmp_path / "peft", **options).state_dict()
    before = transformer.state_dict()
    expected = {
        n.removesuffix(".weight"): merged[n] - before[n] for n in before if not torch.equal(merged[n], before[n])
    }
    assert len(expected) == 3
    for given_as in ("peft", "peft/adapter_model.safetensors"):
        check(moved(tiny, transformer, tmp_path / given_as), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "says use_dora = True, which is not added"),
        ({"peft_type": "LOHA"}, "says LOHA"),
        ({"modules_to_save": ["proj_out"]}, "says modules_to_save"),
        ({"bias": "all"}, "says bias = 'all'"),
        ({"fan_in_fan_out": True}, "says fan_in_fan_out = True"),
        ({"layer_replication": [[0, 2]]}, "says layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "relative to other base"),
        ({"init_lora_weights": "olora"}, "relative to other base"),
        ({"alora_invocation_tokens": [1]}, "says alora_invocation_tokens"),
        ({"of_a_newer_peft": 3}, "says of_a_newer_peft = 3, which is not known to the installed peft"),
        ({"r": 5}, "have rank 4, and adapter_config.json says 5"),
        ({"lora_alpha": None}, "does not say r and lora_alpha"),
        ({"lora_alpha": "much"}, "says alpha 'much'"),
        ({"lora_alpha": float("nan")}, "says alpha nan"),
    ],
)
def test_an_option_that_changes_what_the_tensors_mean_is_refused(tiny, transformer, tmp_path, changes, message):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    refused(tiny, transformer, tmp_path / "peft" / "adapter_model.safetensors", message)


def test_a_configuration_that_is_missing_or_cut_is_named(tiny, transformer, tmp_path):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config, file = tmp_path / "peft" / "adapter_config.json", tmp_path / "peft" / "adapter_model.safetensors"
    config.write_text(config.read_text()[:40])
    with pytest.raises(ProbeError, match="adapter_config.json: not valid JSON .*Download it again"):
        additions_of(tiny.source.family, resolve_adapter(str(file)), transformer)
    config.unlink()
    refused(tiny, transformer, file, "named by peft, and adapter_config.json with its alpha is not beside it")


def test_the_configuration_is_part_of_the_identity(tiny, transformer, tmp_path):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config, first = tmp_path / "peft" / "adapter_config.json", resolve_adapter(str(tmp_path / "peft"))
    config.write_text(config.read_text().replace('"lora_alpha": 16', '"lora_alpha": 8'))
    second = resolve_adapter(str(tmp_path / "peft"))
    assert (first.name, first.file) == (second.name, second.file) and first.sha256 != second.sha256


@pytest.mark.parametrize("rslora", [False, True])
def test_the_metadata_that_diffusers_writes_is_read(tiny, transformer, tmp_path, rslora):
    module = MODULES[0]
    up, down = factors(linears(transformer)[module].weight.shape)
    state = {f"transformer.{module}.lora_A.weight": down, f"transformer.{module}.lora_B.weight": up}
    options = LoraConfig(r=RANK, lora_alpha=12, use_rslora=rslora, target_modules=[module]).to_dict()
    options = {
        f"transformer.{name}": list(value) if isinstance(value, set) else value for name, value in options.items()
    }
    file = written(tmp_path, state, format="pt", lora_adapter_metadata=json.dumps(options, default=str))
    check(moved(tiny, transformer, file), {module: 12 / (2 if rslora else 4) * up @ down})


def test_two_sources_that_disagree_on_the_scale_are_refused(tiny, transformer, tmp_path):
    module = MODULES[0]
    up, down = factors(linears(transformer)[module].weight.shape)
    state = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up, f"{module}.alpha": torch.tensor(8.0)}
    file = written(tmp_path, state, lora_adapter_metadata=json.dumps({"r": 4, "lora_alpha": 4}))
    refused(tiny, transformer, file, "do not agree on the scale of transformer_blocks.1.attn.to_q: 1 and 2")
    file = written(tmp_path, state, lora_adapter_metadata=json.dumps({"r": 4, "lora_alpha": 8}))
    check(moved(tiny, transformer, file), {module: 2 * up @ down})


def test_an_alpha_that_is_only_noted_is_not_passed_over(tiny, transformer, tmp_path):
    state = whole_file(transformer)
    file = written(tmp_path, state, ss_network_alpha="16.0", ss_network_dim="4")
    refused(tiny, transformer, file, "its metadata note an alpha of 4 times the rank, and it has no alpha tensors")
    for noted in ({"ss_network_alpha": "4.0", "ss_network_dim": "4"}, {"ss_network_alpha": "None"}):
        assert additions_of(tiny.source.family, resolve_adapter(str(written(tmp_path, state, **noted))), transformer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rslora": "false"}, "says use_rslora = 'false', expected true or false"),
        ({"rank_pattern": {"(": 4}}, "says rank_pattern = .*, expected numbers by regular expressions"),
        ({"alpha_pattern": ["x"]}, "says alpha_pattern = .*, expected numbers by regular expressions"),
    ],
)
def test_options_of_another_type_are_named(tiny, transformer, tmp_path, changes, message):
    peft_folder(transformer, tmp_path / "peft", lora_alpha=16)
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    refused(tiny, transformer, tmp_path / "peft" / "adapter_model.safetensors", message)
