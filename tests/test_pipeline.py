import pytest
import torch
from diffusers import Flux2KleinPipeline
from safetensors.torch import load_file, save_file

from fixtures import pipeline
from fixtures.errors import ProbeError
from fixtures.model_source import resolve_model


def load(folder, cache):
    return pipeline.load_pipeline(resolve_model(str(folder), None, cache), "cpu", "float32")


def test_klein_tiny_is_described_without_loading_it(tiny):
    record = tiny.description
    assert record["blocks"] == {"joint": 2, "single": 4} and record["units"]["channel_groups"] == 144
    assert record["is_distilled"] is False and record["published_geometry"] is False
    assert record["parameters"] == sum(p.numel() for p in tiny.pipeline.transformer.parameters())


def test_the_skeleton_has_the_sites_of_the_loaded_model(tiny):
    pipeline.validate(tiny.pipeline, tiny.sites)
    assert pipeline.skeleton(tiny.source).device.type == "meta"


def test_a_foreign_hook_is_refused(tiny):
    layer = tiny.pipeline.transformer.single_transformer_blocks[0].attn
    handle = layer.register_forward_hook(lambda *arguments: None)
    try:
        with pytest.raises(ProbeError, match=r"transformer.single_transformer_blocks.0.attn carries a hook"):
            pipeline.validate(tiny.pipeline, tiny.sites)
    finally:
        handle.remove()


def test_a_compiled_block_is_refused(tiny):
    block = tiny.pipeline.transformer.transformer_blocks[1]
    block.compile()
    try:
        with pytest.raises(ProbeError, match="transformer.transformer_blocks.1 is compiled"):
            pipeline.validate(tiny.pipeline, tiny.sites)
    finally:
        block._compiled_call_impl = None


def test_a_wrapped_transformer_is_refused(checkpoint_copy, tmp_path):
    loaded = load(checkpoint_copy, tmp_path)
    sites = pipeline.find_sites(loaded.transformer)
    loaded.transformer = torch.compile(loaded.transformer)
    with pytest.raises(ProbeError, match="the transformer is OptimizedModule, expected Flux2Transformer2DModel"):
        pipeline.validate(loaded, sites)


def test_another_pipeline_class_is_refused(tiny):
    class Other(Flux2KleinPipeline):
        pass

    other = Other(**tiny.pipeline.components)
    with pytest.raises(ProbeError, match="the pipeline is Other, expected Flux2KleinPipeline itself"):
        pipeline.validate(other, tiny.sites)


def test_a_block_that_skips_its_projection_is_refused(checkpoint_copy, tmp_path):
    loaded = load(checkpoint_copy, tmp_path)
    sites = pipeline.find_sites(loaded.transformer)
    projection = loaded.transformer.single_transformer_blocks[2].attn.to_out
    projection.__class__ = type("Fused", (torch.nn.Linear,), {"__call__": silent_call})
    with pytest.raises(ProbeError, match="single_transformer_blocks.2.attn.to_out fired 0 times"):
        pipeline.validate(loaded, sites)


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
    with pytest.raises(ProbeError, match="transformer/config.json: not a usable configuration"):
        load(checkpoint_copy, tmp_path)


def test_a_tokenizer_without_a_chat_template_is_refused(checkpoint_copy, tmp_path):
    (checkpoint_copy / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(ProbeError, match="tokenizer: no chat template"):
        load(checkpoint_copy, tmp_path)


def test_too_little_memory_says_how_much_is_needed(checkpoint_copy, tmp_path, monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(pipeline.psutil, "virtual_memory", Memory)
    with pytest.raises(ProbeError, match=r"need 0\.0 GiB of memory on cpu in float32, 0\.0 GiB are free"):
        load(checkpoint_copy, tmp_path)


def test_devices_and_dtypes():
    assert pipeline.choose_device("cpu") == "cpu"
    assert pipeline.choose_dtype("auto", "cpu") == "float32" and pipeline.choose_dtype("auto", "cuda") == "bfloat16"
    assert pipeline.choose_dtype("float16", "cpu") == "float16"
    if not torch.cuda.is_available():
        assert pipeline.choose_device("auto") in ("cpu", "mps")
        with pytest.raises(ProbeError, match="--device cuda: not available here. Expected auto or one of: .*cpu"):
            pipeline.choose_device("cuda")
    with pytest.raises(ProbeError, match="--device gpu: not available here"):
        pipeline.choose_device("gpu")


def test_a_broken_model_is_tried_once(tiny, monkeypatch):
    from fixtures.model import Model

    calls = []

    def fail(*arguments):
        calls.append(1)
        raise ProbeError("broken")

    monkeypatch.setattr(pipeline, "load_pipeline", fail)
    model = Model(tiny.settings)
    for _ in range(2):
        with pytest.raises(ProbeError, match="broken"):
            _ = model.pipeline
    assert len(calls) == 1
