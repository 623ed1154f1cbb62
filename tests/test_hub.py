"""Folders in the layout of the published repositories, as far as public sources show it, with small weights, load."""

import json
from copy import deepcopy

import numpy as np
import pytest
from published_layout import edit, shard

from fixtures.activations.capture import capture
from fixtures.activations.presentation import Stimulus
from fixtures.models.component_options import check_options
from fixtures.models.families import FAMILIES
from fixtures.models.flux1 import tiny as flux1
from fixtures.models.flux2_dev import tiny as flux2_dev
from fixtures.models.flux2_klein import klein_tiny
from fixtures.models.flux3_klein import tiny as flux3
from fixtures.models.hooks.compiled import compile_blocks
from fixtures.models.hub import TRANSFORMER, hub_of
from fixtures.models.model import Model
from fixtures.models.qwen_image import tiny as qwen_image
from fixtures.models.z_image import tiny as z_image
from fixtures.session.options import resolve_settings

PUBLISHED = {
    repository.name: (family, hub_of(family), repository)
    for family in FAMILIES
    for repository in hub_of(family).repositories
}
BUILDERS = {
    "black-forest-labs/FLUX.2-klein-base-4B": klein_tiny.build,
    "black-forest-labs/FLUX.2-klein-4B": lambda folder: klein_tiny.build(folder, distilled=True),
    "black-forest-labs/FLUX.2-klein-base-9B": klein_tiny.build,
    "black-forest-labs/FLUX.2-klein-9B": lambda folder: klein_tiny.build(folder, distilled=True),
    "black-forest-labs/FLUX.2-dev": flux2_dev.build,
    "black-forest-labs/flux-3-image-klein-base": flux3.build,
    "black-forest-labs/flux-3-image-klein": lambda folder: flux3.build(folder, distilled=True),
    "black-forest-labs/FLUX.1-dev": flux1.build,
    "black-forest-labs/FLUX.1-schnell": lambda folder: flux1.build(folder, schnell=True),
    "Tongyi-MAI/Z-Image-Turbo": z_image.build,
    "Tongyi-MAI/Z-Image": lambda folder: z_image.build(folder, shift=6.0),
    "Qwen/Qwen-Image": qwen_image.build,
}


def model_of(folder, store) -> Model:
    given = {"model": str(folder), "store": str(store), "device": "cpu", "resolution": "128"}
    return Model(resolve_settings(given, {}, folder, environment={}))


def as_published(folder, repository) -> None:
    """Have a small checkpoint's files be called, numbered and filled in as those that were seen of a repository; what
    decides the size of a module keeps its small value."""
    for path, seen in repository.files.items():
        if path != TRANSFORMER:
            edit(folder / path, **seen.what)
    for component, seen in repository.weights.items():
        if len(seen.what) > 1:
            shard(folder / component, len(seen.what))
        assert {file.name for file in (folder / component).glob("*.safetensors")} == set(seen.what)


def test_every_repository_has_a_builder():
    assert set(BUILDERS) == set(PUBLISHED)


@pytest.mark.parametrize("name", [name for name, (_, _, one) in PUBLISHED.items() if one.files])
def test_a_folder_of_the_published_layout_loads(name, tmp_path):
    family, _, repository = PUBLISHED[name]
    folder = tmp_path / "folder"
    BUILDERS[name](folder)
    as_published(folder, repository)
    config, unread = json.loads((folder / TRANSFORMER).read_text()), family.layout.unread_options
    missing = set(repository.files[TRANSFORMER].what) - set(config)
    assert missing <= unread.get("transformer", frozenset())
    edit(folder / TRANSFORMER, **{option: repository.files[TRANSFORMER].what[option] for option in missing})
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    assert (folder / family.layout.index).is_file() and set(family.layout.components) <= folders
    model = model_of(folder, tmp_path / "store")
    assert model.source.family is family
    check_options(folder, family)
    counts = capture(model.loaded, model.sites, [Stimulus("s", "A dog.")], model.protocol).token_counts
    assert counts[0, 0] > 0 and counts[0, 2:6].tolist() == [16] * 4  # 128 pixels are 8 by 8 tokens


@pytest.mark.parametrize("name", ["black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.2-dev"])
def test_compiled_blocks_give_the_same(name, tmp_path):
    BUILDERS[name](tmp_path / "folder")
    model = model_of(tmp_path / "folder", tmp_path / "store")
    copied = model.loaded.like({"transformer": deepcopy(model.pipeline.transformer)})
    compile_blocks(copied.family, copied.transformer, backend="eager")
    stimuli = [Stimulus("s", "A dog."), Stimulus("t", "A cat in the street.")]
    found, expected = (capture(of, model.sites, stimuli, model.protocol).mean_square for of in (copied, model.loaded))
    np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), rtol=1e-5)
