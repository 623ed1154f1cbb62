"""Which weight files of a component are read, that all their tensors arrive, and what is said of the others."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fixtures.common.errors import ProbeError
from fixtures.models import checkpoint, quantised
from fixtures.models.model import Model
from fixtures.models.weight_files import check_finite, tensor_headers, weight_files
from fixtures.session.options import resolve_settings

SINGLE = "diffusion_pytorch_model.safetensors"
INDEX = f"{SINGLE}.index.json"


def shard(component, **changed) -> dict[str, str]:
    """Split the one file of a component into two and write their index."""
    state = load_file(component / SINGLE)
    (component / SINGLE).unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, tensors in parts.items():
        save_file({name: state[name] for name in tensors}, component / file)
    index = {name: file for file, tensors in parts.items() for name in tensors} | changed
    (component / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return index


def resolved(folder, cache) -> Model:
    model = Model(
        resolve_settings({"model": str(folder), "store": str(cache), "device": "cpu"}, {}, cache, environment={})
    )
    _ = model.source
    return model


def refused(folder, cache, message) -> None:
    with pytest.raises(ProbeError, match=message):
        resolved(folder, cache)


def test_shards_are_the_same_model(checkpoint_copy, tiny, tmp_path):
    shard(checkpoint_copy / "transformer")
    loaded = resolved(checkpoint_copy, tmp_path).loaded
    expected = tiny.loaded.transformer.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.transformer.state_dict().items())


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize(
    "name",
    ["extra.safetensors", "model-00003-of-00002.safetensors", "consolidated.safetensors", "x.safetensors.index.json"],
)
def test_weights_beside_those_that_are_read_are_refused(checkpoint_copy, tmp_path, component, name):
    (checkpoint_copy / component / name).write_bytes(
        next((checkpoint_copy / component).glob("*.safetensors")).read_bytes()
    )
    refused(checkpoint_copy, tmp_path, f"{component}/{name}: these weights lie beside")


def test_a_single_file_beside_shards_is_refused(checkpoint_copy, tmp_path):
    component = checkpoint_copy / "transformer"
    other = {name: tensor + 1 for name, tensor in load_file(component / SINGLE).items()}
    shard(component)
    save_file(other, component / SINGLE)
    refused(checkpoint_copy, tmp_path, f"transformer/{SINGLE}: these weights lie beside the shards that {INDEX} names")


def test_a_variant_beside_the_plain_weights_is_left_alone(checkpoint_copy, tiny, tmp_path):
    component = checkpoint_copy / "transformer"
    half = {name: tensor.half() + 1 for name, tensor in load_file(component / SINGLE).items()}
    save_file(half, component / "diffusion_pytorch_model.fp16.safetensors")
    save_file(half, component / "diffusion_pytorch_model.fp16-00001-of-00001.safetensors")
    assert weight_files(component) == [component / SINGLE]
    loaded = resolved(checkpoint_copy, tmp_path).loaded
    name = "proj_out.weight"
    assert torch.equal(loaded.transformer.state_dict()[name], tiny.loaded.transformer.state_dict()[name])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"proj_out.weight": "a.safetensors", "x_embedder.weight": "b.safetensors"},
            "has the tensor .* in .*, and it is in",
        ),
        ({"nowhere.weight": "a.safetensors"}, "has the tensor nowhere.weight in a.safetensors, and it is in no shard"),
        ({"nowhere.weight": "c.safetensors"}, "c.safetensors: this shard of the weights is missing"),
        ({"nowhere.weight": "../c.safetensors"}, "c.safetensors: this shard of the weights is missing"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(checkpoint_copy, tmp_path, changed, message):
    shard(checkpoint_copy / "transformer", **changed)
    refused(checkpoint_copy, tmp_path, message)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"x": 3}}', '{"weight_map": 1}']
)
def test_an_index_without_shards_is_named(checkpoint_copy, tmp_path, content):
    shard(checkpoint_copy / "transformer")
    (checkpoint_copy / "transformer" / INDEX).write_text(content)
    refused(
        checkpoint_copy, tmp_path, f"{INDEX}: (it names no shards|not valid JSON|not a JSON object).*Download it again"
    )


def test_a_tensor_in_two_shards_is_refused(checkpoint_copy, tmp_path):
    component = checkpoint_copy / "transformer"
    index = shard(component)
    state = load_file(component / "a.safetensors") | load_file(component / "b.safetensors")
    save_file(state, component / "b.safetensors")
    twice = next(name for name, file in index.items() if file == "a.safetensors")
    with pytest.raises(ProbeError, match="b.safetensors: the tensor .* is in a.safetensors too"):
        tensor_headers(component)
    assert twice in state
    refused(checkpoint_copy, tmp_path, "is in a.safetensors too")


@pytest.mark.parametrize(
    ("component", "file"), [("transformer", SINGLE), ("vae", SINGLE), ("text_encoder", "model.safetensors")]
)
def test_a_tensor_that_the_class_would_leave_out_is_refused(checkpoint_copy, tmp_path, component, file):
    weights = checkpoint_copy / component / file
    save_file(load_file(weights) | {"layers.99.gate.weight": torch.ones(3)}, weights, {"format": "pt"})
    refused(checkpoint_copy, tmp_path, f"{component}: the tensor layers.99.gate.weight is no tensor of the installed")


def test_what_is_computed_from_the_configuration_may_be_stored(checkpoint_copy, tmp_path):
    weights = checkpoint_copy / "text_encoder" / "model.safetensors"
    save_file(load_file(weights) | {"model.rotary_emb.inv_freq": torch.ones(3)}, weights, {"format": "pt"})
    assert resolved(checkpoint_copy, tmp_path).source


def only(component, *names) -> None:
    """Leave of a component's weights nothing but empty files of these names."""
    for file in component.glob("*.safetensors*"):
        file.unlink()
    for name in names:
        (component / name).parent.mkdir(parents=True, exist_ok=True)
        (component / name).write_bytes(b"{}" if name.endswith("json") else b"\x02\0\0\0\0\0\0\0{}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "transformer: no weights, expected .* Download the whole folder"),
        (
            ["diffusion_pytorch_model.fp16.safetensors"],
            f"only a variant .*fp16.safetensors.*Rename the one .* to {SINGLE}",
        ),
        (["diffusion_pytorch_model.bf16.safetensors"], "only a variant"),
        (["diffusion_pytorch_model.non_ema.safetensors"], "only a variant"),
        (
            [
                "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
                "diffusion_pytorch_model.safetensors.index.fp16.json",
            ],
            f"only the variant fp16 .*Rename diffusion_pytorch_model.safetensors.index.fp16.json to {INDEX}",
        ),
        (["diffusion_pytorch_model-00001-of-00002.safetensors"], "shards without their index"),
        (["model.safetensors"], r"weights by another name \(model.safetensors\)"),
        (["weights.safetensors"], r"weights by another name \(weights.safetensors\)"),
        *(
            ([f"diffusion_pytorch_model.{end}"], f"a format that is not loaded .*{end}")
            for end in ("bin", "ckpt", "gguf", "pt")
        ),
        ([f"{SINGLE}.incomplete"], "the download was interrupted .*Repeat the same download command"),
        ([f"{SINGLE}.aria2"], "the download was interrupted"),
        ([f"{SINGLE}.crdownload"], "the download was interrupted"),
        ([f"{SINGLE}.part"], "the download was interrupted"),
        (["../.cache/huggingface/download/transformer/x.1234.incomplete"], "the download was interrupted"),
    ],
)
def test_why_there_is_nothing_to_read(checkpoint_copy, tmp_path, names, message):
    only(checkpoint_copy / "transformer", *names)
    refused(checkpoint_copy, tmp_path, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n",
            "a pointer of Git LFS.*`git lfs pull`",
        ),
        (b"<!DOCTYPE html><html></html>", "a web page, not a safetensors file"),
        (b"", "0 bytes: the download was cut off"),
        (b"PK\x03\x04" + b"x" * 50, "(not a safetensors file|the download was cut off)"),
        (b"\x10\0\0\0\0\0\0\0[1, 2, 3, 4, 5]   ", "not a safetensors file"),
        (b"\x02\0\0\0\0\0\0\0{}trailing", "18 bytes, expected 10"),
    ],
)
def test_what_is_no_safetensors_file_is_called_what_it_is(checkpoint_copy, tmp_path, content, message):
    (checkpoint_copy / "transformer" / SINGLE).write_bytes(content)
    refused(checkpoint_copy, tmp_path, f"{SINGLE}: .*{message}")


def test_a_link_to_nothing_is_named(checkpoint_copy, tmp_path):
    weights = checkpoint_copy / "transformer" / SINGLE
    weights.unlink()
    weights.symlink_to(tmp_path / "blobs" / "gone")
    refused(checkpoint_copy, tmp_path, f"{SINGLE}: a link to .*, where there is nothing")


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn]


@given(st.sampled_from(FLOATS), st.integers(0, 2**16), st.integers(1, 300), st.booleans())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_are_finite_by_the_bits_as_torch_has_it(tmp_path, dtype, seed, size, planted):
    width = torch.empty(0, dtype=dtype).element_size()
    data = np.random.default_rng(seed).integers(0, 256, size * width, dtype=np.uint8)
    if planted:
        data[seed % size * width :][:width] = 0xFF  # NaN in each of them
    values = torch.from_numpy(data).view(dtype)
    finite = bool(values.double().isfinite().all())
    assert not (planted and finite)
    file = tmp_path / "x.safetensors"
    save_file({"first": torch.ones(7), "second": values, "third": torch.arange(5)}, file)
    if not finite:
        with pytest.raises(ProbeError, match="x.safetensors: the tensor second has numbers that are NaN or infinite"):
            check_finite(file)
    else:
        check_finite(file)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_a_weight_that_is_not_finite_is_named_before_anything_is_loaded(checkpoint_copy, tmp_path, component):
    file = next((checkpoint_copy / component).glob("*.safetensors"))
    state = load_file(file)
    name = sorted(name for name in state if state[name].is_floating_point())[-1]
    state[name].view(-1)[0] = float("inf")
    save_file(state, file, {"format": "pt"})
    refused(
        checkpoint_copy, tmp_path, f"{component}/{file.name}: the tensor {name} has numbers that are NaN or infinite"
    )


def test_a_file_is_looked_through_once(tmp_path, monkeypatch):
    file = tmp_path / "transformer" / "x.safetensors"
    file.parent.mkdir()
    save_file({"x": torch.zeros(2**24 + 1)}, file)
    looked = []
    monkeypatch.setattr("fixtures.models.checkpoint.check_finite", lambda file, stop: looked.append(file))
    for _ in range(3):
        checkpoint.fingerprint(tmp_path, tmp_path / "hashes.json")
        checkpoint.check_values(tmp_path, tmp_path / "hashes.json")
    assert looked == [file]


# options


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("transformer/config.json", "Flux2Transformer2DModel"),
        ("vae/config.json", "AutoencoderKLFlux2"),
        ("text_encoder/config.json", "Qwen3ForCausalLM"),
        ("scheduler/scheduler_config.json", "FlowMatchEulerDiscreteScheduler"),
        ("model_index.json", "Flux2KleinPipeline"),
    ],
)
@pytest.mark.parametrize("value", [True, False, None, 3, "new", [1], {"a": 1}])
def test_an_option_that_the_installed_class_does_not_know_is_refused(checkpoint_copy, tmp_path, file, kind, value):
    config = checkpoint_copy / file
    config.write_text(json.dumps(json.loads(config.read_text()) | {"attention_of_a_newer_version": value}))
    message = f"{file}: the option 'attention_of_a_newer_version' is not known to the installed {kind}"
    refused(checkpoint_copy, tmp_path, message)


def test_the_options_that_published_configurations_have_are_known(checkpoint_copy, tmp_path):
    """Of Qwen3 as transformers 4 wrote it, and what diffusers writes of its own."""
    config = checkpoint_copy / "text_encoder" / "config.json"
    content = json.loads(config.read_text())
    rope = content.pop("rope_parameters")
    content |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": content.pop("dtype")}
    content |= {"transformers_version": "4.51.0", "_name_or_path": "x", "use_bfloat16": False, "pruned_heads": {}}
    content |= {"_attn_implementation_autoset": True, "output_attentions": False, "is_decoder": False}
    config.write_text(json.dumps(content))
    config = checkpoint_copy / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": "x"}))
    assert resolved(checkpoint_copy, tmp_path).loaded


# quantised components


@pytest.mark.parametrize(
    "name", ["_weight_qdata", "_weight_scale", "weight._data", "weight._scale", "weight.absmax", "SCB"]
)
def test_the_parts_of_a_quantised_weight_are_its_own(name):
    skeleton = torch.nn.ModuleDict({"block": torch.nn.ModuleDict({"linear": torch.nn.Linear(2, 2)})})
    stored = [f"block.linear.{name}", "block.linear.bias", f"nowhere.linear.{name}", f"block.other.{name}"]
    assert quantised.left_out(stored, skeleton) == sorted(stored[2:])


# found by a reader

ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [2, 2], "data_offsets": [0, 16]},
        {"dtype": "F32", "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2, 2]},
        ENTRY | {"dtype": ["F32"]},
        ENTRY | {"shape": [2, 3]},
        ENTRY | {"shape": [-2, -2]},
        ENTRY | {"shape": [2.0, 2]},
        ENTRY | {"shape": "22"},
        ENTRY | {"data_offsets": [1, 16]},
        ENTRY | {"data_offsets": [-4, 12]},
        ENTRY | {"data_offsets": [0.0, 16.0]},
        ENTRY | {"data_offsets": ["0", 16]},
        ENTRY | {"data_offsets": [16]},
        ENTRY | {"data_offsets": [0, 10**400]},
        ENTRY | {"dtype": "BF16"},
        "x",
        None,
        [],
    ],
)
def test_a_header_that_describes_no_tensor_is_no_safetensors_file(tmp_path, entry):
    header = json.dumps({"x": entry}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(
        ProbeError, match="x.safetensors: (not a safetensors file|.*the download was cut off)"
    ) as caught:
        check_finite(file)
    assert len(str(caught.value)) < 400


def test_a_nested_header_is_no_safetensors_file(tmp_path):
    header = b"[" * 200_000
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"  ")
    with pytest.raises(ProbeError, match="not a safetensors file"):
        check_finite(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bool, torch.int64])
def test_numbers_of_another_kind_are_refused(checkpoint_copy, tmp_path, dtype):
    weights = checkpoint_copy / "transformer" / SINGLE
    state = load_file(weights)
    state["proj_out.weight"] = state["proj_out.weight"].to(dtype)
    save_file(state, weights)
    refused(checkpoint_copy, tmp_path, "transformer: the tensor proj_out.weight is stored as .*(expected floating|no )")


def test_an_option_within_an_option_is_refused(checkpoint_copy, tmp_path):
    config = checkpoint_copy / "text_encoder" / "config.json"
    content = json.loads(config.read_text())
    content["rope_parameters"]["foo"] = 3
    config.write_text(json.dumps(content))
    refused(checkpoint_copy, tmp_path, "text_encoder/config.json: not all of it would be used: .*foo")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "tokenizer: no vocabulary, expected tokenizer.json or vocab.json and merges.txt"),
        ("tokenizer.json", "{}", ": the checkpoint cannot be loaded .*Download the whole folder again"),
        ("tokenizer.json", '{"version": ', "tokenizer/tokenizer.json: not valid JSON"),
        ("tokenizer_config.json", "", "tokenizer/tokenizer_config.json: not valid JSON"),
        ("chat_template.jinja", "{% for", "tokenizer: its chat template cannot be used"),
    ],
)
def test_a_damaged_tokenizer_is_named(checkpoint_copy, tmp_path, name, content, message):
    file = checkpoint_copy / "tokenizer" / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(ProbeError, match=f"checkpoint.*{message}"):
        _ = resolved(checkpoint_copy, tmp_path).loaded


def test_values_that_do_not_go_together_are_an_error_of_the_configuration(checkpoint_copy, tmp_path):
    config = checkpoint_copy / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"axes_dims_rope": [2, 2]}))
    with pytest.raises(ProbeError, match="the transformer fails on a pass of a few tokens"):
        _ = resolved(checkpoint_copy, tmp_path).loaded


def test_a_pipe_is_no_file(checkpoint_copy, tmp_path):
    os.mkfifo(checkpoint_copy / "transformer" / "x.json")
    refused(checkpoint_copy, tmp_path, "transformer/x.json: not a file")
