import errno
import json
import os
from concurrent.futures import CancelledError
from threading import Event
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from fixtures.common.errors import ProbeError
from fixtures.models import checkpoint
from fixtures.models.flux2_klein import klein_tiny
from fixtures.models.source import resolve_model


def test_klein_tiny_is_built_once_and_labelled(cache, tiny):
    source = tiny.source
    built = (source.folder / "model_index.json").stat().st_mtime_ns
    again = resolve_model("klein-tiny", None, cache)
    assert again == source and (again.folder / "model_index.json").stat().st_mtime_ns == built
    assert source.embedded.label.startswith("untrained")


def test_klein_tiny_is_the_same_bits_every_time(tmp_path, tiny):
    klein_tiny.build(tmp_path / "again")
    assert checkpoint.fingerprint(tmp_path / "again") == (tiny.source.fingerprint, tiny.source.weights_sha256)


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_damaged_klein_tiny_is_built_again(tmp_path, tiny, damage):
    source = resolve_model("klein-tiny", None, tmp_path)
    file = source.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100])
    assert resolve_model("klein-tiny", None, tmp_path).fingerprint == tiny.source.fingerprint


def large_file(folder):
    file = folder / "transformer" / "model.safetensors"
    file.parent.mkdir()
    save_file({"x": torch.zeros(2**26 + 1, dtype=torch.uint8)}, file)
    return file


def test_other_bytes_of_the_same_size_and_time_have_another_fingerprint(tmp_path):
    file = large_file(tmp_path)
    first = checkpoint.fingerprint(tmp_path, tmp_path / "hashes.json")
    assert checkpoint.fingerprint(tmp_path, tmp_path / "hashes.json") == first
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    os.utime(file, ns=times)  # as `cp -p` and rsync do
    assert checkpoint.fingerprint(tmp_path, tmp_path / "hashes.json")[1] != first[1]


def test_hashing_can_be_stopped_and_leaves_nothing_behind(tmp_path):
    large_file(tmp_path)
    stop = Event()
    stop.set()
    with pytest.raises(CancelledError):
        checkpoint.fingerprint(tmp_path, tmp_path / "hashes.json", stop)
    assert not (tmp_path / "hashes.json").exists()


def test_a_folder_that_is_no_checkpoint_is_not_hashed_ahead(tmp_path):
    large_file(tmp_path)
    checkpoint.hash_ahead(str(tmp_path), tmp_path, Event())
    assert not (tmp_path / "hashes.json").exists()
    (tmp_path / "model_index.json").write_text("{}")
    checkpoint.hash_ahead(str(tmp_path), tmp_path, Event())
    assert (tmp_path / "hashes.json").exists()


def test_a_folder_is_identified_by_its_content(checkpoint_copy, tiny, tmp_path):
    source = resolve_model(str(checkpoint_copy), None, tmp_path)
    assert (source.fingerprint, source.weights_sha256) == (tiny.source.fingerprint, tiny.source.weights_sha256)
    assert source.embedded is None and source.revision is None
    config = checkpoint_copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("3.0", "2.0"))
    changed = resolve_model(str(checkpoint_copy), None, tmp_path)
    assert changed.fingerprint != source.fingerprint and changed.weights_sha256 == source.weights_sha256


def test_the_slug_is_a_file_name(tmp_path, checkpoint_copy):
    hostile = checkpoint_copy.rename(tmp_path / "<b> ..&'\" x")
    slug = resolve_model(str(hostile), None, tmp_path).slug
    assert slug.startswith("b-..-x-") and "/" not in slug


def remove(folder, name):
    (folder / name).unlink()


def truncate(folder, name):
    file = folder / name
    file.write_bytes(file.read_bytes()[:-1])


def garble(folder, name):
    (folder / name).write_bytes(b"\xff" * 100)


def other_pipeline(folder, name):
    index = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(index | {"_class_name": "Flux2KleinKVPipeline"}))


def other_component(folder, name):
    index = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(index | {"transformer": ["evil", "Transformer"]}))


WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (remove, "model_index.json", "no model_index.json. Expected a folder in diffusers layout"),
        (garble, "model_index.json", "model_index.json: not valid JSON .*Download it again"),
        (other_pipeline, "model_index.json", "the pipeline is 'Flux2KleinKVPipeline', expected Flux2KleinPipeline"),
        (other_component, "model_index.json", r"component 'transformer' is \['evil', 'Transformer'\]"),
        (remove, "text_encoder/config.json", "text_encoder/config.json: this file is missing"),
        (remove, "tokenizer/tokenizer_config.json", "tokenizer_config.json: this file is missing"),
        (remove, WEIGHTS, "transformer: no weights, expected diffusion_pytorch_model.safetensors"),
        (truncate, WEIGHTS, r"diffusion_pytorch_model.safetensors: .* bytes, expected .*: the download was cut off"),
        (garble, WEIGHTS, "diffusion_pytorch_model.safetensors: (not a safetensors file|.* bytes.*: the download)"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(checkpoint_copy, tmp_path, damage, name, message):
    damage(checkpoint_copy, name)
    with pytest.raises(ProbeError, match=message):
        resolve_model(str(checkpoint_copy), None, tmp_path)


def test_a_store_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbeError, match=r"store .*file cannot be written .*klein-tiny is built there.*--store DIR"):
        resolve_model("klein-tiny", None, tmp_path / "file")


def test_a_missing_shard_is_named(checkpoint_copy, tmp_path):
    index = {"weight_map": {"x": "part-00002-of-00002.safetensors"}}
    (checkpoint_copy / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ProbeError, match="part-00002-of-00002.safetensors: this shard of the weights is missing"):
        resolve_model(str(checkpoint_copy), None, tmp_path)


def test_pickled_weights_are_not_weights(checkpoint_copy, tmp_path):
    (checkpoint_copy / WEIGHTS).rename(checkpoint_copy / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(ProbeError, match="weights in a format that is not loaded"):
        resolve_model(str(checkpoint_copy), None, tmp_path)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_in_any_text_of_a_checkpoint_is_refused_by_name(checkpoint_copy, tmp_path, mark):
    """diffusers and transformers would stumble over it, or put it into every prompt (a chat template)."""
    files = [file for pattern in ("*.json", "*.jinja", "*.txt") for file in checkpoint_copy.rglob(pattern)]
    assert {file.suffix for file in files} >= {".json", ".jinja"}
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole.decode().encode(mark))
        with pytest.raises(ProbeError, match=f"{file}: begins with the byte-order mark of UTF-(8|16), which diffusers"):
            resolve_model(str(checkpoint_copy), None, tmp_path)
        file.write_bytes(whole)
    resolve_model(str(checkpoint_copy), None, tmp_path)


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "/no/where", "a/b/c"])
def test_an_unknown_name_lists_what_is_known(tmp_path, name):
    with pytest.raises(
        ProbeError, match=f"--model {name}: no such folder.*klein-mini, klein-mini.arrow, klein-tiny, klein"
    ):
        resolve_model(name, None, tmp_path)


def test_a_revision_belongs_to_hub_models(tmp_path):
    with pytest.raises(ProbeError, match="--revision main: klein-tiny is not a hub model"):
        resolve_model("klein-tiny", "main", tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError("x", response=Mock()), "access is gated. Accept its licence .* `hf auth login`"),
        (errors.RepositoryNotFoundError("x", response=Mock()), "no such repository, or it is private"),
        (errors.RevisionNotFoundError("x", response=Mock()), "no revision 'r1'. Give a branch, tag or commit"),
        (errors.LocalEntryNotFoundError("x"), "could not be downloaded .* `hf download owner/name --revision r1`"),
        (ConnectionError("x"), "could not be downloaded .* `hf download owner/name --revision r1`"),
        (OSError(errno.ENOSPC, "full"), "the disk is full. Free space, or set HF_HOME"),
    ],
)
def test_every_hub_error_has_its_mend(monkeypatch, tmp_path, error, message):
    def download(*arguments, **options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ProbeError, match=message):
        resolve_model("owner/name", "r1", tmp_path)


def test_a_hub_model_is_identified_by_its_commit(monkeypatch, tmp_path, checkpoint_copy):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = checkpoint_copy.rename(checkpoint_copy.parent / commit)
    asked = {}

    def download(repository, revision, allow_patterns):
        asked.update(repository=repository, revision=revision, patterns=allow_patterns)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = resolve_model("klein", "main", tmp_path)
    assert asked["repository"] == source.name == "black-forest-labs/FLUX.2-klein-base-4B"
    assert not any(pattern.endswith((".bin", ".py", ".pt", ".ckpt")) for pattern in asked["patterns"])
    assert source.revision == commit and commit in source.fingerprint and source.slug.endswith(commit[:8])
    assert source.embedded is None
