"""Compiled blocks: the same activations, and no silent gap."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures.activations.activations import pooled_rms
from fixtures.activations.capture import capture
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.hooks import compiled
from fixtures.models.hooks.interventions import Change
from fixtures.models.loading import load_model
from fixtures.models.model import Model
from fixtures.models.twins import untrained_twin
from fixtures.session.options import resolve_settings

PROMPTS = ("A glass on a table.", "x", "Two men and a dog in the street")


@pytest.fixture(scope="module")
def quick(tiny):
    """klein-tiny, its blocks compiled by what takes seconds instead of a minute."""
    loaded, real = load_model(tiny.source, "cpu", "float32"), compiled.compile_blocks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fixtures.models.loaded.compile_blocks", lambda *about: real(*about, backend="aot_eager"))
        loaded.compiled = True
        assert compiled.is_compiled(loaded.family, loaded.transformer)
    return loaded


def stimuli(photos=None):
    return [Stimulus(prompt, prompt, photos[0] if photos else None) for prompt in PROMPTS]


def assert_close(tiny, found, expected):
    assert np.array_equal(found.token_counts, expected.token_counts)
    np.testing.assert_allclose(pooled_rms(found, tiny.groups), pooled_rms(expected, tiny.groups), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_compiled_blocks_give_the_same_activations(tiny, quick, photos, size):
    protocol = replace(tiny.protocol, batch_size=size)
    for shown in (stimuli(), stimuli(photos)):
        expected = capture(tiny.loaded, tiny.sites, shown, protocol)
        assert_close(tiny, capture(quick, tiny.sites, shown, protocol), expected)


@pytest.mark.parametrize("kind", ["re-initialised", "shuffled"])
def test_twins_of_a_compiled_model_are_compiled(tiny, quick, kind):
    twin = untrained_twin(quick, kind, 3)
    assert compiled.is_compiled(twin.family, twin.transformer)
    expected = capture(untrained_twin(tiny.loaded, kind, 3), tiny.sites, stimuli(), tiny.protocol)
    for block in twin.family.blocks(twin.transformer):
        block.compile(fullgraph=True, dynamic=False, backend="aot_eager")
    assert_close(tiny, capture(twin, tiny.sites, stimuli(), tiny.protocol), expected)


def test_nothing_is_recorded_outside_of_capture(tiny, quick):
    capture(quick, tiny.sites, stimuli(), tiny.protocol)
    for site in tiny.sites:
        assert quick.transformer.get_submodule(site.name).probe_found is None


def test_a_site_that_does_not_fire_is_an_error(tiny):
    loaded = load_model(tiny.source, "cpu", "float32")
    compiled.compile_blocks(loaded.family, loaded.transformer, backend="eager")
    loaded.transformer.single_transformer_blocks[1].attn.to_out._forward_pre_hooks.clear()
    with pytest.raises(ProbeError, match=r"x: nothing was recorded in single\[1\]. Use `--compile off`"):
        capture(loaded, tiny.sites, [Stimulus("x", "x")], tiny.protocol)


def test_compiled_blocks_are_set_aside_to_be_changed(tiny, quick):
    channels = {0: [Change(torch.arange(16), scale=0.0)]}
    found = []
    for loaded in (tiny.loaded, quick):
        with WholePasses(loaded, tiny.sites, stimuli(), tiny.protocol) as passes:
            assert not compiled.is_compiled(loaded.family, loaded.transformer)
            found.append((passes([0]), passes([0], channels)))
    (plain, changed), (plain_2, changed_2) = found
    assert torch.equal(plain, plain_2) and torch.equal(changed, changed_2) and not torch.equal(plain, changed)
    assert compiled.is_compiled(quick.family, quick.transformer)
    modules = [quick.transformer.get_submodule(site.name) for site in tiny.sites]
    assert [len(module._forward_pre_hooks) for module in modules] == [1] * len(modules)  # that of the compiled code


def test_blocks_are_compiled_for_a_while(tiny, monkeypatch):
    counted = []
    loaded = load_model(tiny.source, "cpu", "float32")
    inputs, _, _ = loaded.family.smallest_pass(loaded.transformer)

    def backend(graph, inputs):
        counted.append(graph)
        return graph

    for _ in range(2):
        with torch.inference_mode(), compiled.compiled_blocks(loaded.family, loaded.transformer, backend=backend):
            loaded.transformer(**inputs)
        assert not compiled.is_compiled(loaded.family, loaded.transformer)
        kinds = len(counted)
    assert kinds == len(counted) == 2  # joint and single blocks, and not again the second time


def test_nothing_of_compiling_is_logged(tiny, caplog):
    loaded = load_model(tiny.source, "cpu", "float32")
    compiled.compile_blocks(loaded.family, loaded.transformer, backend="eager")
    with torch.inference_mode():
        loaded.transformer(**loaded.family.smallest_pass(loaded.transformer)[0])
    assert not [record for record in caplog.records if record.name == "torch.__trace"]


def test_another_thread_goes_on_with_what_one_has_compiled(tiny, quick):
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(capture, quick, tiny.sites, stimuli(), tiny.protocol).result()
    assert_close(tiny, found, capture(tiny.loaded, tiny.sites, stimuli(), tiny.protocol))


def test_a_compiler_that_fails_is_an_error_with_the_way_out(tiny):
    def broken(graph, inputs):
        raise ValueError("no compiler here")

    loaded = load_model(tiny.source, "cpu", "float32")
    compiled.compile_blocks(loaded.family, loaded.transformer, backend=broken)
    with pytest.raises(ProbeError, match=r"cannot be compiled here .*no compiler here.* Use `--compile off`"):
        capture(loaded, tiny.sites, stimuli(), tiny.protocol)


@pytest.mark.parametrize("turns", [False, True])
def test_the_option_compiles_what_is_loaded(tiny, turns):
    loaded = load_model(tiny.source, "cpu", "float32", turns, compiled=True)
    assert compiled.is_compiled(loaded.family, loaded.transformer)
    if turns:
        loaded.ready("text_encoder")
        loaded.ready("transformer")
        assert compiled.is_compiled(loaded.family, loaded.transformer)


def test_the_protocol_says_so(tiny, tmp_path):
    options = {"model": "klein-tiny", "store": str(tmp_path), "device": "cpu", "compile": "on"}
    protocol = Model(resolve_settings(options, {}, tmp_path, environment={})).protocol
    assert protocol.compiled and not tiny.protocol.compiled
    assert protocol.capture_record() == tiny.protocol.capture_record() | {"compiled": True}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_compiled_blocks_on_a_gpu(tiny, photos):
    plain, quick = (
        Model(replace(tiny.settings, device="cuda", dtype="float32", compile=value)) for value in ("off", "on")
    )
    for shown in (stimuli(), stimuli(photos)):
        found, expected = (capture(m.loaded, m.sites, shown, m.protocol) for m in (quick, plain))
        np.testing.assert_allclose(pooled_rms(found, tiny.groups), pooled_rms(expected, tiny.groups), rtol=1e-3)
