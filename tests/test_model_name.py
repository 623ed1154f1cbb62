"""What a ``--model`` may name, and what is said of everything else."""

import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fixtures.common.errors import ProbeError
from fixtures.models.named import ARCHIVES, HUB_ID, WEIGHTS, named_folder
from fixtures.models.source import resolve_model

ROOT = Path(__file__).parents[1]
KNOWN = ("klein-mini", "klein-tiny", "klein")
SINGLE = "Single files of weights are not loaded: .*docs/single_file.md says how"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(name):
    with pytest.raises(ProbeError) as caught:
        named_folder(name, KNOWN)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [*WEIGHTS, ".SAFETENSORS"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("shape", ["{file}", "./{file}", "models/{file}", "{here}/{file}", "{here}/models/../{file}"])
def test_a_single_file_is_called_one_by_whatever_path(tmp_path, suffix, there, shape):
    (tmp_path / "models").mkdir()
    name = shape.format(file=f"flux2{suffix}", here=tmp_path)
    if there:
        (tmp_path / name).write_bytes(b"x")
    message = refused(name)
    assert re.match(re.escape(f"--model {name}: {'a file' if there else 'no such file, and no folder'}. "), message)
    assert re.search(SINGLE, message)


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_an_archive_is_to_be_unpacked(tmp_path, suffix):
    (tmp_path / f"klein{suffix}").touch()
    assert refused(f"klein{suffix}").endswith("an archive. Expected a folder in diffusers layout: unpack it.")
    assert "no such file" in refused(f"other/klein{suffix}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://huggingface.co/owner/name", "the id of the repository: `--model owner/name`."),
        ("https://huggingface.co/owner/name/", "the id of the repository: `--model owner/name`."),
        ("http://www.huggingface.co/owner/name.x", "`--model owner/name.x`."),
        ("huggingface.co/owner/name", "`--model owner/name`."),
        ("hf.co/owner/name", "`--model owner/name`."),
        ("https://huggingface.co/owner/name/tree/v2", "`--model owner/name` with `--revision v2`."),
        ("https://huggingface.co/owner/name/blob/main/x.safetensors", SINGLE),
        ("https://example.org/klein", "a web address. Download it"),
        ("s3://bucket/klein", "a web address. Download it"),
        (r"C:\models\klein", "a path of Windows"),
        ("C:/models/klein", "a path of Windows"),
        (r"\\server\klein", "a path of Windows"),
        (r"models\klein", "a path of Windows"),
        ("owner/name/", "Perhaps `--model owner/name`?"),
        (" owner/name", "Perhaps `--model owner/name`?"),
        ("owner/name@main", "`--model owner/name --revision main`."),
        ("owner/name:v1.0", "`--model owner/name --revision v1.0`."),
        ("Klein", "Perhaps `--model klein`?"),
        ("klein_mini", "Perhaps `--model klein-mini`?"),
        ("klein-tiny ", "Perhaps `--model klein-tiny`?"),
        ("a/b/c", "no such folder, and not a hub id"),
        ("/no/where", "no such folder, and not a hub id"),
        ("../up", "no such folder, and not a hub id"),
        ("ä/ö", "no such folder, and not a hub id"),
        ("-x/y", "no such folder, and not a hub id"),
        ("  ", "no such folder, and not a hub id"),
        ("~nobody-of-this-name/klein", "no home folder is known for this user"),
        ("x" * 5000, "cannot be looked at"),
        ("a\0b", "cannot be looked at"),
    ],
)
def test_every_other_shape_is_told_what_it_is(name, said):
    message = refused(name)
    assert said in message or re.search(said, message), message


@pytest.mark.parametrize("name", ["owner/name", "Owner-1/FLUX.2-klein_4B", "0/1"])
def test_a_hub_id_is_one_where_there_is_no_such_folder(tmp_path, name):
    assert HUB_ID.fullmatch(name) and named_folder(name, KNOWN) is None
    (tmp_path / name).mkdir(parents=True)
    assert named_folder(name, KNOWN) == tmp_path / name


def test_the_folder_that_was_meant_is_named(tmp_path):
    cached = tmp_path / "models--owner--name" / "snapshots" / ("0123456789" * 4)
    for folder in (cached, tmp_path / "around" / "klein"):
        (folder / "transformer").mkdir(parents=True)
        (folder / "model_index.json").write_text("{}")
        (folder / "transformer" / "config.json").write_text("{}")
    assert f"a repository in the hub's cache. Expected the checkpoint itself: `--model {cached}`." in refused(
        "models--owner--name"
    )
    assert f"Expected the checkpoint itself: `--model {tmp_path / 'around' / 'klein'}`." in refused("around/")
    assert f"one component. Expected the whole checkpoint: `--model {cached}`." in refused(f"{cached}/transformer")
    assert f"a file. Expected its folder, `--model {cached}`." in refused(f"{cached}/model_index.json")
    (tmp_path / "models--owner--gone" / "snapshots").mkdir(parents=True)
    assert "without a checkpoint in diffusers layout. Download it again." in refused("models--owner--gone")
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "flux2.safetensors").touch()
    assert re.search(f"no model_index.json, but flux2.safetensors. {SINGLE}", refused("comfy"))
    for name in ("around/klein", "around/klein/", "./around/../around/klein", str(cached)):
        assert named_folder(name, KNOWN).samefile(tmp_path / name)


def test_a_link_to_a_model_that_is_gone_says_where_it_leads(tmp_path):
    (tmp_path / "link").symlink_to("/mnt/gone")
    assert refused("link") == "--model link: a link to /mnt/gone, where there is nothing. Mend the link."
    (tmp_path / "x.safetensors").symlink_to("/mnt/gone")
    assert "a link to /mnt/gone" in refused("x.safetensors")


@pytest.mark.parametrize(
    "error",
    [errors.RepositoryNotFoundError("x", response=Mock()), ConnectionError("x"), errors.HFValidationError("bad")],
)
def test_what_is_not_on_the_hub_may_have_been_a_folder(tmp_path, monkeypatch, error):
    def download(*arguments, **options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (tmp_path / "models" / "klein-base").mkdir(parents=True)
    with pytest.raises(ProbeError, match=f"If a folder is meant: {tmp_path}/models has klein-base."):
        resolve_model("models/klein-bas", None, tmp_path)
    with pytest.raises(ProbeError, match=f"If a folder is meant: there is none at {tmp_path}/owner/name."):
        resolve_model("owner/name", None, tmp_path)
    with pytest.raises(ProbeError) as caught:
        resolve_model("klein", None, tmp_path)
    assert "If a folder is meant" not in str(caught.value)


@given(name=st.text(min_size=1, max_size=30))
def test_whatever_is_asked_for_is_a_folder_a_hub_id_or_refused(name):
    try:
        assert (folder := named_folder(name, KNOWN)) is None or folder.is_dir()
    except ProbeError as error:
        assert str(error).startswith("--model ")


def test_every_file_of_a_checkpoint_that_is_a_link_to_nothing_is_named(checkpoint_copy, tmp_path):
    """As in a hub cache whose blobs were cleared away."""
    for file in [entry for entry in checkpoint_copy.rglob("*") if entry.is_file()]:
        kept = file.rename(tmp_path / "kept")
        file.symlink_to("../../blobs/0123")
        with pytest.raises(ProbeError, match=f"{file}: a link to ../../blobs/0123, where there is nothing. Download"):
            resolve_model(str(checkpoint_copy), None, tmp_path)
        file.unlink()
        kept.rename(file)
    resolve_model(str(checkpoint_copy), None, tmp_path)


def test_a_single_file_becomes_a_folder_as_the_page_says(tiny, tmp_path):
    script = (ROOT / "docs/single_file.md").read_text().split("<<END\n")[1].split("END\n")[0]
    folder, file = shutil.copytree(tiny.source.folder, tmp_path / "folder"), tmp_path / "one.safetensors"
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = {name: tensor.bfloat16() for name, tensor in load_file(weights).items()}
    save_file(whole, file)
    weights.unlink()
    exec(script.replace("FOLDER", str(folder)).replace("FILE", str(file)), {})
    made = load_file(weights)
    assert made.keys() == whole.keys() and all(torch.equal(made[name], whole[name]) for name in whole)
    assert resolve_model(str(folder), None, tmp_path).family is not None
