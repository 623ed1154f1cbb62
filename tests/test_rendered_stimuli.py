"""The drawn stimulus set: in each pair only the event differs, and the files are what their manifest says."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.common.files import file_sha256, read_json
from fixtures.klein_mini.world.arrow_set import NAME, RESOLUTION, scenes
from fixtures.klein_mini.world.scene import render, scene_from_record
from fixtures.klein_mini.world.subjects import SUBJECTS
from fixtures.stimuli.sets import load_stimuli

STIMULI = Path(__file__).resolve().parents[1] / "stimuli"
FOLDER = STIMULI / "rendered" / "arrow_of_time"
MANIFEST = read_json(FOLDER / "manifest.json")
DRAWN = load_stimuli(STIMULI / f"{NAME}.toml")


def pixels(file):
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_pairs_are_the_published_events_in_their_order():
    generated = tomllib.loads((STIMULI / "arrow_of_time.toml").read_text())
    assert [(p.id, p.category) for p in DRAWN.pairs] == [(p["id"], p["category"]) for p in generated["pairs"]]
    assert (DRAWN.prompt, DRAWN.a, DRAWN.b) == (generated["prompt"], generated["a"], generated["b"])


def test_every_file_is_in_the_manifest_unchanged():
    files = {member.image.name: member.image for _, _, member in DRAWN.members()}
    assert files.keys() == MANIFEST["images"].keys() == {file.name for file in FOLDER.glob("*.png")}
    for name, file in files.items():
        assert file_sha256(file) == MANIFEST["images"][name]["sha256"], name


@pytest.mark.parametrize("pair", DRAWN.pairs, ids=lambda pair: pair.id)
def test_outside_the_event_a_pair_is_equal_to_the_pixel(pair):
    after, before = (MANIFEST["images"][f"{pair.id}.{member}.png"]["scene"] for member in "ab")
    assert after == before | {"after": True} and before["after"] is False
    a, b = pixels(pair.a.image), pixels(pair.b.image)
    assert a.shape == b.shape == (RESOLUTION, RESOLUTION, 3)
    changed = np.argwhere((a != b).any(axis=-1))
    unit = RESOLUTION / 128
    top, left = changed.min(axis=0) / unit
    bottom, right = changed.max(axis=0) / unit
    reach = 55 * before["scale"]  # of a subject to either side of where it stands, candle light included
    assert before["x"] - reach <= left and right <= before["x"] + reach
    assert before["y"] - 90 * before["scale"] <= top and bottom <= before["y"] + 20 * before["scale"]
    assert 0.005 < len(changed) / RESOLUTION**2 < 0.45


@pytest.mark.parametrize("event", ["broken_glass", "melted_pond"])
def test_the_command_draws_the_same_files_again(event):
    scene = scenes(STIMULI)[event]
    assert scene_from_record(MANIFEST["images"][f"{event}.b.png"]["scene"], SUBJECTS) == scene
    for member, after in (("a", True), ("b", False)):
        assert np.array_equal(render(scene.in_state(after), RESOLUTION), pixels(FOLDER / f"{event}.{member}.png"))
