import json
import shutil

import pytest
import torch
from lora_factory import TOUCHED, save_lora
from safetensors.torch import load_file, save_file

from fixtures.baseline.weights import part_of, weight_digests
from fixtures.common.errors import ProbeError
from fixtures.models.lora.adapter import ADAPTER_FILE, resolve_adapter
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory):
    """A LoRA on joint[1] and single[2] of klein-tiny."""
    return save_lora(tiny.pipeline.transformer, tmp_path_factory.mktemp("lora") / "update")


def model(cache, name="klein-tiny", **options) -> Model:
    chosen = {"model": name, "store": str(cache), "device": "cpu", **options}
    return Model(resolve_settings(chosen, {}, cache, environment={}))


def weights(loaded) -> dict[str, torch.Tensor]:
    return dict(loaded.transformer.state_dict())


@pytest.mark.parametrize("weight", [1.0, 0.25, -2.0])
def test_the_weights_move_by_the_product_of_the_factors_times_the_weight(tiny, cache, lora, weight):
    factors, before = load_file(lora), weights(tiny.loaded)
    after = weights(model(cache, lora=f"{lora}:{weight:g}").loaded)
    touched = {key.removeprefix("transformer.").split(".lora_")[0] for key in factors}
    assert touched and all(name.startswith(TOUCHED) for name in touched)
    assert {key for key in before if not torch.equal(before[key], after[key])} == {f"{name}.weight" for name in touched}
    for name in touched:
        down, up = (factors[f"transformer.{name}.lora_{side}.weight"] for side in "AB")
        moved = after[f"{name}.weight"] - before[f"{name}.weight"]
        torch.testing.assert_close(moved, weight * up @ down, atol=1e-5, rtol=1e-4)


def test_where_components_take_turns_the_weights_are_the_same(cache, lora):
    whole, turns = model(cache, lora=str(lora)), model(cache, lora=str(lora), memory="turns")
    assert turns.by_turns and turns.loaded.turns
    expected, found = weights(whole.loaded), weights(turns.loaded)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    turns.loaded.ready("text_encoder")  # the transformer leaves, and comes back with the LoRA
    assert all(torch.equal(expected[name], value) for name, value in weights(turns.loaded).items())


def test_it_is_another_model_to_every_key_and_record(tiny, cache, lora):
    plain, one, half = tiny.source, model(cache, lora=str(lora)), model(cache, lora=f"{lora}:0.5")
    for field in ("fingerprint", "weights_sha256", "slug", "name"):
        assert len({getattr(source, field) for source in (plain, one.source, half.source)}) == 3, field
    found = half.description
    assert found["name"] == "klein-tiny+update:0.5" and found["base"]["fingerprint"] == plain.fingerprint
    assert found["adapters"] == [{"name": "update", "sha256": half.source.adapters[0].sha256, "weight": 0.5}]
    assert found["label"].startswith("untrained") and found["label"].endswith("with the LoRA update at weight 0.5")
    assert tiny.description["base"] is None and tiny.description["adapters"] == []
    renamed = shutil.copy(lora, cache / "renamed.safetensors")
    assert model(cache, lora=str(renamed)).source.fingerprint == one.source.fingerprint


def test_it_comes_on_top_of_an_embedded_adapter(cache, tmp_path):
    arrow = model(cache, "klein-mini+arrow")
    more = save_lora(arrow.pipeline.transformer, tmp_path, blocks=("transformer_blocks.0.",))
    both = model(cache, "klein-mini+arrow", lora=str(more))
    assert [adapter.name for adapter in both.source.adapters] == ["klein-mini+arrow", tmp_path.name]
    before, after = weights(arrow.loaded), weights(both.loaded)
    moved = {part_of(arrow.source.family, name) for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"joint[0]"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{folder}/none.safetensors", "no such file. Expected a LoRA as a safetensors file"),
        ("{folder}/none.safetensors:0.5", "no such file"),
        ("{file}:much", "'much' after the colon is not a weight"),
        ("{file}:nan", "'nan' after the colon is not a weight"),
        ("{file}:", "'' after the colon is not a weight"),
        ("{folder}", "expected pytorch_lora_weights.safetensors or adapter_model.safetensors in this folder"),
        ("{folder}/notes.txt", r"expected a \*.safetensors file"),
        ("{folder}/cut.safetensors", "the download was cut off"),
    ],
)
def test_a_lora_that_cannot_be_found_or_read_is_named(lora, tmp_path, text, message):
    (tmp_path / "notes.txt").write_text("")
    whole = lora.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    (tmp_path / "other.safetensors").write_bytes(whole)
    with pytest.raises(ProbeError, match=message):
        resolve_adapter(text.format(folder=tmp_path, file=lora))


def test_without_a_network_a_hub_id_is_a_clear_error(monkeypatch):
    def offline(*arguments):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(
        ProbeError, match=f"--lora owner/name:0.5: .*{ADAPTER_FILE} of owner/name could not be downloaded"
    ):
        resolve_adapter("owner/name:0.5")


def test_a_hub_file_is_downloaded_by_its_name(monkeypatch, lora):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *names: asked.append(names) or str(lora))
    assert resolve_adapter("owner/name/sub/it.safetensors:0.5").weight == 0.5
    assert resolve_adapter("owner/name").name == "owner/name"
    assert asked == [("owner/name", "sub/it.safetensors"), ("owner/name", ADAPTER_FILE)]


@pytest.mark.parametrize("damage", ["no module", "another shape", "no lora", "another component", "empty"])
def test_a_lora_that_does_not_fit_is_refused_with_its_tensor(cache, lora, tmp_path, damage):
    state = load_file(lora)
    key = next(iter(state))
    if damage == "no module":
        state[key.replace("blocks.1", "blocks.7").replace("blocks.2", "blocks.7")] = state.pop(key)
    elif damage == "another shape":
        state = {name: value.repeat(1, 2) if "lora_A" in name else value for name, value in state.items()}
    elif damage == "no lora":
        state["transformer.x_embedder.weight"] = torch.zeros(2)
    elif damage == "another component":
        state[key.replace("transformer.", "text_encoder.", 1)] = state[key].clone()
    else:
        state = {}
    file = tmp_path / "bad.safetensors"
    save_file(state, file)
    with pytest.raises(ProbeError, match=f"{file}: the LoRA cannot be added: "):
        _ = model(cache, lora=str(file)).pipeline


def digests(source) -> dict[str, str]:
    return weight_digests(source)


def test_digests_name_the_blocks_that_a_lora_touches(tiny, cache, lora):
    plain, one, half = (
        digests(m.source) for m in (tiny, model(cache, lora=str(lora)), model(cache, lora=f"{lora}:.5"))
    )
    assert list(plain)[:6] == ["joint[0]", "joint[1]", "single[0]", "single[1]", "single[2]", "single[3]"]
    assert {"vae", "text_encoder", "tokenizer", "scheduler", "transformer.x_embedder"} < set(plain)
    for other in (one, half):
        assert {part for part in plain if plain[part] != other[part]} == {"joint[1]", "single[2]"}
    assert one["joint[1]"] != half["joint[1]"]


def test_digests_follow_the_weights_and_nothing_else(tiny, cache, checkpoint_copy):
    file = next((checkpoint_copy / "transformer").glob("*.safetensors"))
    state = load_file(file)
    cut = {name: value for name, value in state.items() if name.startswith("single")}
    rest = {name: value for name, value in state.items() if name not in cut}
    expected = digests(tiny.source)
    copy = model(cache, str(checkpoint_copy))
    hashes = cache / "hashes-of-tensors.json"
    file.unlink()
    parts = {"part-1.safetensors": cut, "part-2.safetensors": rest}  # the same tensors in two files
    for name, tensors in parts.items():
        save_file(tensors, file.with_name(name))
    index = {"weight_map": {tensor: name for name, tensors in parts.items() for tensor in tensors}}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
    assert weight_digests(copy.source, hashes) == expected
    assert weight_digests(copy.source, hashes) == expected and hashes.stat().st_size > 1000
    rest["transformer_blocks.0.attn.to_q.weight"][0, 0] += 1e-3
    save_file(rest, file.with_name("part-2.safetensors"))
    found = weight_digests(copy.source, hashes)
    assert [part for part in expected if expected[part] != found[part]] == ["joint[0]"]
    config = checkpoint_copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("3.0", "2.0"))
    assert digests(copy.source)["scheduler"] != expected["scheduler"]
