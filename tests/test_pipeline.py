import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from fixtures.activations.capture import capture
from fixtures.activations.image_manifest import ImageRequest
from fixtures.activations.images import _generate
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.common.errors import ProbeError
from fixtures.models import loading
from fixtures.models.description import skeleton
from fixtures.models.device import choose_device, choose_dtype
from fixtures.models.flux2_klein.components import TEXT_LAYERS, trim_text_encoder
from fixtures.models.flux2_klein.layout import LAYOUT
from fixtures.models.flux2_klein.sites import find_sites
from fixtures.models.loaded import LoadedModel
from fixtures.models.loading import by_turns, load_model
from fixtures.models.source import resolve_model
from fixtures.models.turns import Turns
from fixtures.models.twins import untrained_twin
from fixtures.models.validation import check_files, validate


def load(folder, cache):
    source = resolve_model(str(folder), None, cache)
    check_files(source)
    return load_model(source, "cpu", "float32")


def test_klein_tiny_is_described_without_loading_it(tiny):
    record = tiny.description
    assert record["blocks"] == {"joint": 2, "single": 4} and record["units"]["channel_groups"] == 144
    assert record["is_distilled"] is False and record["published_geometry"] is False
    assert record["parameters"] == sum(p.numel() for p in tiny.pipeline.transformer.parameters())


def test_the_skeleton_has_the_sites_of_the_loaded_model(tiny):
    validate(tiny.loaded, tiny.sites)
    assert skeleton(tiny.source).device.type == "meta"


def test_a_foreign_hook_is_refused(tiny):
    layer = tiny.pipeline.transformer.single_transformer_blocks[0].attn
    handle = layer.register_forward_hook(lambda *arguments: None)
    try:
        with pytest.raises(ProbeError, match=r"transformer.single_transformer_blocks.0.attn carries a hook"):
            validate(tiny.loaded, tiny.sites)
    finally:
        handle.remove()


def test_a_compiled_block_is_refused(tiny):
    block = tiny.pipeline.transformer.transformer_blocks[1]
    block.compile()
    try:
        with pytest.raises(ProbeError, match="transformer.transformer_blocks.1 is compiled"):
            validate(tiny.loaded, tiny.sites)
    finally:
        block._compiled_call_impl = None


def test_a_wrapped_transformer_is_refused(checkpoint_copy, tmp_path):
    loaded = load(checkpoint_copy, tmp_path)
    sites = find_sites(loaded.transformer)
    loaded.pipeline.transformer = torch.compile(loaded.transformer)
    with pytest.raises(ProbeError, match="the transformer is OptimizedModule, expected Flux2Transformer2DModel"):
        validate(loaded, sites)


def test_another_pipeline_class_is_refused(tiny):
    class Other(Flux2KleinPipeline):
        pass

    other = LoadedModel(tiny.loaded.family, Other(**tiny.pipeline.components))
    with pytest.raises(ProbeError, match="the pipeline is Other, expected Flux2KleinPipeline itself"):
        validate(other, tiny.sites)


def test_a_block_that_skips_its_projection_is_refused(checkpoint_copy, tmp_path):
    loaded = load(checkpoint_copy, tmp_path)
    sites = find_sites(loaded.transformer)
    projection = loaded.transformer.single_transformer_blocks[2].attn.to_out
    projection.__class__ = type("Fused", (torch.nn.Linear,), {"__call__": silent_call})
    with pytest.raises(ProbeError, match="single_transformer_blocks.2.attn.to_out fired 0 times"):
        validate(loaded, sites)


def silent_call(self, values):
    return torch.nn.functional.linear(values, self.weight, self.bias)


def test_weights_that_do_not_fit_the_config_are_refused(checkpoint_copy, tmp_path):
    config = checkpoint_copy / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 4', '"num_attention_heads": 2'))
    with pytest.raises(ProbeError, match=r"transformer: the tensor .* has shape .*, expected shape .* by config.json"):
        load(checkpoint_copy, tmp_path)


@pytest.mark.parametrize(("component", "file"), [("text_encoder", "model"), ("vae", "diffusion_pytorch_model")])
def test_a_missing_tensor_is_refused_and_not_filled_with_random_numbers(checkpoint_copy, tmp_path, component, file):
    path = checkpoint_copy / component / f"{file}.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[7]
    del tensors[name]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ProbeError, match=f"{component}: the tensor {name} is missing, expected shape"):
        load(checkpoint_copy, tmp_path)


@pytest.mark.parametrize(
    "content", ["{", '{"_class_name": "Other"}', '{"_class_name": "Flux2Transformer2DModel", "num_layers": "x"}']
)
def test_an_unusable_configuration_is_named(checkpoint_copy, tmp_path, content):
    (checkpoint_copy / "transformer" / "config.json").write_text(content)
    with pytest.raises(
        ProbeError, match="transformer/config.json: not (a usable configuration|valid JSON).*Download it again"
    ):
        load(checkpoint_copy, tmp_path)


def test_a_tokenizer_without_a_chat_template_is_refused(checkpoint_copy, tmp_path):
    (checkpoint_copy / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(ProbeError, match="tokenizer: no chat template"):
        load(checkpoint_copy, tmp_path)


def test_too_little_memory_says_how_much_is_needed(checkpoint_copy, tmp_path, monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(loading.psutil, "virtual_memory", Memory)
    with pytest.raises(ProbeError, match=r"need 0\.0 GiB of memory on cpu in float32, all at once, 0\.0 GiB are free"):
        load(checkpoint_copy, tmp_path)


def test_devices_and_dtypes():
    assert choose_device("cpu") == "cpu"
    assert choose_dtype("auto", "cpu") == "float32" and choose_dtype("auto", "cuda") == "bfloat16"
    assert choose_dtype("float16", "cpu") == "float16"
    if not torch.cuda.is_available():
        assert choose_device("auto") in ("cpu", "mps")
        with pytest.raises(ProbeError, match="--device cuda: not available here. Expected auto or one of: .*cpu"):
            choose_device("cuda")
    with pytest.raises(ProbeError, match="--device gpu: not available here"):
        choose_device("gpu")


@pytest.fixture
def turning(tiny):
    """klein-tiny with text encoder and transformer taking turns."""
    return load_model(tiny.source, "cpu", "float32", turns=True)


def on_device(loaded):
    return [name for name in LAYOUT.large if getattr(loaded.pipeline, name) is not None]


def test_components_that_take_turns_give_the_same_bits_and_never_meet(tiny, turning, photos, monkeypatch):
    stimuli = [Stimulus(str(number), f"prompt {number}", photos[number % 5]) for number in range(13)]
    met, bring = [], Turns.bring

    def watched(turns, pipeline, name):
        bring(turns, pipeline, name)
        met.append(on_device(turning))

    monkeypatch.setattr(Turns, "bring", watched)
    monkeypatch.setattr("fixtures.activations.capture.CHUNK", 10)
    found = capture(turning, tiny.sites, stimuli, tiny.protocol)
    expected = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol)
    assert np.array_equal(found.mean_square, expected.mean_square)
    assert met == [["text_encoder"], ["transformer"]] * 2


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_a_twin_takes_turns_too_and_the_model_makes_room(tiny, turning, kind):
    stimuli = [Stimulus(str(number), f"prompt {number}") for number in range(3)]
    twin = untrained_twin(turning, kind, 5)
    found = capture(twin, tiny.sites, stimuli, tiny.protocol)
    assert on_device(turning) == [] and on_device(twin) == ["transformer"]
    expected = capture(untrained_twin(tiny.loaded, kind, 5), tiny.sites, stimuli, tiny.protocol)
    assert np.array_equal(found.mean_square, expected.mean_square)


def test_images_are_the_same_with_turns(tiny, turning):
    requests = [ImageRequest("one", "a glass", 3), ImageRequest("two", "a broken glass", 4)]
    pictures = []
    for loaded in (tiny.loaded, turning):
        texts = encode_prompts(loaded, ["a glass", "a broken glass", ""], tiny.protocol)
        pictures.append(_generate(loaded, requests, texts, tiny.protocol))
    assert pictures[0] == pictures[1]


def test_only_what_the_pipeline_reads_of_the_text_encoder_is_kept():
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    whole = Qwen3ForCausalLM(Qwen3Config(num_hidden_layers=30, **sizes, **heads)).eval()
    tokens = torch.arange(40)[None]

    def states(encoder):
        with torch.inference_mode():
            return encoder(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states

    before = states(whole)
    trim_text_encoder(whole)
    after = states(whole)
    assert len(whole.model.layers) == max(TEXT_LAYERS) + 1 < len(before) - 1
    assert all(torch.equal(before[layer], after[layer]) for layer in TEXT_LAYERS)


def test_components_take_turns_where_little_memory_is_free(tiny, monkeypatch):
    needed = loading._bytes_needed(tiny.source, "bfloat16")
    for free, expected in ((1.4 * needed, True), (1.6 * needed, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert by_turns(tiny.source, "cuda", "bfloat16") is expected
    assert by_turns(tiny.source, "cpu", "bfloat16") is False


def test_a_broken_model_is_tried_once(tiny, monkeypatch):
    from fixtures.models.model import Model

    calls = []

    def fail(*arguments):
        calls.append(1)
        raise ProbeError("broken")

    monkeypatch.setattr("fixtures.models.model.load_model", fail)
    model = Model(tiny.settings)
    for _ in range(2):
        with pytest.raises(ProbeError, match="broken"):
            _ = model.pipeline
    assert len(calls) == 1
