"""Whether blocks are compiled: decided from the job, on record, and taken back where there is no compiler."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fixtures.models.loaded
import fixtures.models.model
from fixtures.activations import images
from fixtures.activations.image_manifest import ImageRequest
from fixtures.activations.images import generate
from fixtures.activations.inventory import Inventory
from fixtures.activations.presentation import Stimulus
from fixtures.activations.prompts import encode_prompts
from fixtures.activations.segments import Captures
from fixtures.activations.store import Store
from fixtures.claims.hypothesis import compared_hypothesis
from fixtures.common.errors import CompilerFailed
from fixtures.models import compilation
from fixtures.models.compilation import MORE, PARAMETERS, PASSES, Job, choose, pays
from fixtures.models.hooks import compiled
from fixtures.models.loading import load_model
from fixtures.models.model import Model
from fixtures.models.protocol import Protocol
from fixtures.session.capturing import Capturing, _captures
from fixtures.session.options import resolve_settings

ROOT = Path(__file__).parents[1]
LARGE = 4 * PARAMETERS
passes = st.integers(0, 10**6)


@given(st.sampled_from(["cpu", "cuda", "mps"]), st.integers(1, 10**11), passes, st.sampled_from([None, True, False]))
def test_what_was_asked_for_is_done(device, parameters, number, before):
    job = Job(number, before)
    assert choose("on", device, parameters, job).compiled and not choose("off", device, parameters, job).compiled
    if before is not None:
        assert choose("auto", device, parameters, job).compiled is before


@given(passes)
def test_long_jobs_of_large_models_on_a_gpu_compile(number):
    found = choose("auto", "cuda", LARGE, Job(number))
    assert found.compiled is (number >= PASSES) is pays("cuda", LARGE, number, False)
    assert f"{number:,} stimuli" in found.reason
    assert pays("cuda", LARGE, number, True) is (number >= MORE)
    assert not pays("cpu", LARGE, number, True) and not pays("cuda", PARAMETERS - 1, number, True)


SHOWN = [(Stimulus(prompt, prompt), None) for prompt in ("a glass", "a broken glass", "a cup", "a broken cup")]


def model_of(tmp_path, **options):
    options = {"model": "klein-tiny", "store": str(tmp_path), "device": "cpu"} | options
    return resolve_settings(options, {}, tmp_path, environment={})


@pytest.fixture
def eager_to_compile(monkeypatch):
    """A job that would compile on this machine, with a compiler that fails."""

    def broken(graph, inputs):
        raise ValueError("no compiler here")

    real, compile, chosen = compiled.compile_blocks, torch.compile, compilation.choose
    for place in (compiled, fixtures.models.loaded):
        monkeypatch.setattr(place, "compile_blocks", lambda *about: real(*about, backend=broken))
    monkeypatch.setattr(torch, "compile", lambda *about, **options: compile(*about, **options | {"backend": broken}))
    monkeypatch.setattr(compilation, "PARAMETERS", 0)
    monkeypatch.setattr(compilation, "PASSES", 1)
    for place in (compilation, fixtures.models.model):
        monkeypatch.setattr(place, "choose", lambda asked, device, *about: chosen(asked, "cuda", *about))


def captures_of(model) -> Captures:
    return Captures("x", model, Store(model.settings.store), lambda what: lambda done, total: None)


def test_without_a_compiler_the_run_is_plain_from_the_start(tmp_path, eager_to_compile):
    said = []
    model = Model(model_of(tmp_path), said.append, lambda model: Job(2))
    assert not model.protocol.compiled and "no compiler here" in model.compilation.reason
    assert len(said) == 1 and model.compilation.reason in said[0]
    found, origin = captures_of(model).activations(SHOWN)
    assert len(found.token_counts) == 4
    again, same = captures_of(Model(model_of(tmp_path, compile="off"))).activations(SHOWN)
    assert same["from_store"] and same["key"] == origin["key"]
    assert (again.mean_square == found.mean_square).all()


def test_with_a_compiler_it_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "PARAMETERS", 0)
    monkeypatch.setattr("fixtures.models.model.choose", lambda asked, device, *about: choose(asked, "cuda", *about))
    monkeypatch.setattr("fixtures.models.model.refusal", lambda device: None)
    model = Model(model_of(tmp_path), print, lambda model: Job(PASSES))
    assert model.protocol.compiled and model.compilation.reason == "1,000 stimuli, at least 1,000"


def test_the_compiler_is_tried(monkeypatch):
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *about, **options: compile(*about, **options, backend="aot_eager"))
    assert compiled.refusal("cpu") is None


def test_who_asks_for_compiled_blocks_is_told_that_there_is_no_compiler(tmp_path, eager_to_compile):
    with pytest.raises(CompilerFailed, match="no compiler here.* Use `--compile off`"):
        captures_of(Model(model_of(tmp_path, compile="on"))).activations(SHOWN)


@given(st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_images_count_with_all_that_a_set_lacks(number, there):
    """Batches are generated a few at a time, so that others can take some: that all of them pay is decided at once."""
    asked = []
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        names = [f"p{n}.png" for n in range(number)]
        manifest = SimpleNamespace(
            lock_of=lambda batch: Path(folder, f"{batch[0].name}.lock"),
            is_whole=lambda batch: all(request.name in done for request in batch),
            has=lambda request: request.name in done,
            add=lambda requests, encoded, compiled: done.update(request.name for request in requests),
            unwritable=ValueError,
            image=lambda request: request,
        )
        done = set(names[: min(there, number)])

        def generated(load, requests, texts, protocol, keep, lacking, progress, notify):
            asked.append(lacking)
            keep(requests, [], False)

        for name, other in (("generate", generated), ("Manifest", lambda *about: manifest)):
            patch.setattr(images, name, other)
        for name in ("count_prompt_tokens", "encode_prompts"):
            patch.setattr(images, name, lambda *about: {})
        patch.setattr(images, "_looked_at", lambda found, *about: found)
        wanted = [(name, SimpleNamespace(image=None, prompt="x"), 0) for name in names]
        patch.setattr(images, "_wanted", lambda stimuli: iter(wanted))
        about = Path(folder), None, Protocol("cpu", "float32", 5), lambda: None, None, print, print, print
        images._prepare(wanted, SimpleNamespace(file=Path("x.toml")), *about)
    batches = [names[start : start + 5] for start in range(0, number, 5)] if number >= 5 else [names]
    first = set(names[: min(there, number)])
    lacking = sum(len(batch) for batch in batches if not set(batch) <= first)
    assert set(asked) <= {lacking} and bool(asked) is bool(lacking)


@pytest.mark.parametrize("may", [False, True])
def test_images_are_generated_without_a_compiler(tiny, eager_to_compile, may):
    kept, said = [], []
    loaded = load_model(tiny.source, "cpu", "float32")  # of its own: compiling leaves hooks
    loaded.may_compile = may
    texts = encode_prompts(loaded, ["a glass", ""], tiny.protocol)
    requests = [ImageRequest(str(number), "a glass", number) for number in range(2)]
    generate(lambda: loaded, requests, texts, tiny.protocol, lambda *batch: kept.append(batch), 2, notify=said.append)
    assert [made for _, _, made in kept] == [False] * len(kept) and sum(len(batch) for batch, _, _ in kept) == 2
    assert bool(said) is may and all("no compiler here" in line for line in said)
    assert not compiled.is_compiled(loaded.family, loaded.transformer)


def test_the_store_says_how_a_model_was_captured(tmp_path, tiny):
    inventory = Inventory(tmp_path)

    def found(device="cpu"):
        return inventory.compiled(tiny.source, device, "float32")

    assert found() is None
    for compile, expected in (("on", True), ("off", None)):
        inventory.remember_model(Model(model_of(tmp_path, compile=compile)))
        assert found() is expected
        assert found("cuda:1") is None


@pytest.mark.parametrize("controls, times", [(None, 1), ("none", 1), ("all", 15), ("replication", 2), ("untrained", 7)])
def test_what_is_asked_for_is_counted(tmp_path, controls, times):
    assert _captures(model_of(tmp_path, controls=controls), twins=3) == times


def test_a_job_counts_all_stimuli_of_each_process(tmp_path):
    order = [compared_hypothesis("canonical_pose"), compared_hypothesis("perspective_taking")]
    for processes, expected in ((0, 110), (4, 27)):
        about = tmp_path, None, None, print, "", processes, order
        capturing = Capturing(model_of(tmp_path), *about)
        capturing.stimuli = ROOT / "stimuli"
        assert capturing.model.job(capturing.model) == Job(expected, None)
    Inventory(tmp_path).remember_model(Model(model_of(tmp_path, compile="on")))
    assert capturing.model.job(capturing.model) == Job(27, True)
    again = Capturing(model_of(tmp_path, refresh=True), *about)
    assert again.model.job(again.model) == Job(0, None)
