"""klein-mini and its positive control as the suite loads them, and untrained twins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from safetensors.torch import load_file, save_file

from fixtures.activations.capture import capture
from fixtures.activations.presentation import Stimulus
from fixtures.common.errors import ProbeError
from fixtures.common.files import read_json
from fixtures.klein_mini import recipe
from fixtures.klein_mini.world.captions import FIXED_PROMPT
from fixtures.models import embedded
from fixtures.models.lora.adapter import ADAPTER_FILE
from fixtures.models.model import Model
from fixtures.models.source import resolve_model
from fixtures.models.twins import stream, untrained_twin
from fixtures.session.options import resolve_settings


def model(name, store, tmp_path, **options):
    given = {"model": name, "store": str(store), "device": "cpu"} | options
    return Model(resolve_settings(given, {}, tmp_path, environment={}))


@pytest.fixture(scope="module")
def mini(cache, tmp_path_factory):
    return model("klein-mini", cache, tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def arrow(cache, tmp_path_factory):
    return model("klein-mini+arrow", cache, tmp_path_factory.mktemp("arrow"))


def test_klein_mini_is_found_without_building_anything(tmp_path):
    source = resolve_model("klein-mini", None, tmp_path / "cache")
    assert source.folder.is_relative_to(embedded.CHECKPOINTS) and not (tmp_path / "cache").exists()
    assert "no evidence about Klein" in source.embedded.label


def test_what_the_suite_knows_of_klein_mini_is_what_its_training_wrote():
    assert read_json(embedded.CHECKPOINTS / "klein-mini" / "embedded.json") == recipe.EMBEDDED


def test_klein_mini_has_the_stated_geometry(mini):
    assert (len(mini.groups.units), len(mini.heads.units)) == (320, 64)
    assert (mini.protocol.resolution, mini.protocol.text_length, mini.protocol.batch_size) == (128, 96, 10)
    size = sum(file.stat().st_size for file in mini.source.folder.rglob("*.safetensors"))
    assert 20e6 < size < 40e6


def test_the_shipped_folder_loads_without_this_suite(mini):
    """As any user of diffusers would load it, with the pipeline's own defaults but fewer steps."""
    pipeline = Flux2KleinPipeline.from_pretrained(mini.source.folder)
    pipeline.set_progress_bar_config(disable=True)
    assert {pipeline.transformer.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
    image = pipeline(prompt="a red apple", height=128, width=128, num_inference_steps=1).images[0]
    assert image.size == (128, 128)


def test_the_control_is_another_model_with_the_same_modules(mini, arrow):
    assert arrow.source.fingerprint != mini.source.fingerprint
    assert arrow.source.weights_sha256 != mini.source.weights_sha256
    assert arrow.sites == mini.sites
    assert "by construction" in arrow.source.embedded.label
    assert "+" not in arrow.source.slug and arrow.source.slug != mini.source.slug


def test_the_adapter_is_fused_and_gone(mini, arrow):
    """Each weight that the adapter names has moved by its product of factors, all others are the base model's."""
    factors = load_file(arrow.source.embedded.adapter / ADAPTER_FILE)
    before, after = mini.pipeline.transformer.state_dict(), arrow.pipeline.transformer.state_dict()
    assert before.keys() == after.keys()
    touched = {
        name.removeprefix("transformer.").removesuffix(".lora_A.weight") for name in factors if ".lora_A." in name
    }
    assert touched and {name for name in before if not torch.equal(before[name], after[name])} == {
        f"{name}.weight" for name in touched
    }
    for name in touched:
        down, up = (factors[f"transformer.{name}.lora_{side}.weight"].float() for side in "AB")
        moved = after[f"{name}.weight"] - before[f"{name}.weight"]
        torch.testing.assert_close(moved, up @ down, atol=2e-6, rtol=1e-3)


def test_the_adapter_is_small(arrow):
    assert (arrow.source.embedded.adapter / ADAPTER_FILE).stat().st_size < 2e6


def test_a_twin_is_the_class_s_own_initialisation(tiny):
    twin = untrained_twin(tiny.loaded, "re-initialised", seed=3)
    torch.manual_seed(stream("re-initialised", 3))
    expected = Flux2Transformer2DModel.from_config(tiny.pipeline.transformer.config).state_dict()
    found = twin.transformer.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert twin.pipeline.text_encoder is tiny.pipeline.text_encoder and twin.pipeline.vae is tiny.pipeline.vae


def test_a_shuffled_twin_has_the_model_s_own_values_elsewhere(tiny):
    original = tiny.pipeline.transformer.state_dict()
    twin = untrained_twin(tiny.loaded, "shuffled", seed=3).transformer
    assert twin.dtype == tiny.pipeline.transformer.dtype and not twin.training
    for name, found in twin.state_dict().items():
        assert torch.equal(found.flatten().sort().values, original[name].flatten().sort().values), name
        if original[name].unique().numel() > 20:
            assert not torch.equal(found, original[name]), name


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_twins_differ_by_seed_leave_the_model_alone_and_the_random_state(tiny, photos, kind):
    stimuli = [Stimulus("s", FIXED_PROMPT, photos[0])]
    before = capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol).mean_square
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    twins = [untrained_twin(tiny.loaded, kind, seed) for seed in (0, 0, 1)]
    assert torch.rand(1) == expected
    first, again, other = (capture(t, tiny.sites, stimuli, tiny.protocol).mean_square for t in twins)
    assert np.array_equal(first, again) and not np.allclose(first, other)
    assert np.array_equal(capture(tiny.loaded, tiny.sites, stimuli, tiny.protocol).mean_square, before)


def test_a_checkpoint_initialised_with_the_twin_s_seed_is_no_twin_of_itself(tiny):
    torch.manual_seed(3)
    own = Flux2Transformer2DModel.from_config(tiny.pipeline.transformer.config).state_dict()
    twin = untrained_twin(tiny.loaded, "re-initialised", seed=3).transformer.state_dict()
    drawn = [name for name, value in own.items() if value.unique().numel() > 20]
    assert drawn and not any(torch.equal(own[name], twin[name]) for name in drawn)


@pytest.mark.parametrize("name", ["klein-mini", "klein-tiny", "FOLDER"])
@pytest.mark.parametrize("controls", [None, "all", "none", "placebo"])
def test_every_model_has_three_twins_or_as_many_as_asked_for(tiny, cache, tmp_path, name, controls):
    name = str(tiny.source.folder) if name == "FOLDER" else name
    for twins, expected in ((None, 3), ("0", 0), ("2", 2)):
        assert model(name, cache, tmp_path, twins=twins, controls=controls).twins == expected


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_adapter_that_is_not_whole_is_named(monkeypatch, tmp_path, damage):
    whole = (embedded.ARROW.adapter / ADAPTER_FILE).read_bytes()
    if damage == "truncated":
        (tmp_path / ADAPTER_FILE).write_bytes(whole[:-50])
    monkeypatch.setitem(embedded.EMBEDDED, "klein-mini+arrow", replace(embedded.ARROW, adapter=tmp_path))
    with pytest.raises(ProbeError, match=f"{tmp_path}.*{ADAPTER_FILE}"):
        resolve_model("klein-mini+arrow", None, tmp_path)


def test_an_adapter_that_fits_no_module_is_refused(monkeypatch, cache, tmp_path):
    whole = load_file(embedded.ARROW.adapter / ADAPTER_FILE)
    foreign = {name.replace("transformer.", "transformer.nowhere."): value for name, value in whole.items()}
    save_file(foreign, tmp_path / ADAPTER_FILE)
    monkeypatch.setitem(embedded.EMBEDDED, "klein-mini+arrow", replace(embedded.ARROW, adapter=tmp_path))
    with pytest.raises(ProbeError, match=f"{tmp_path}.*converter does not know"):
        _ = model("klein-mini+arrow", cache, tmp_path).pipeline
