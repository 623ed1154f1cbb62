import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fixtures.activations.activations import pooled_rms
from fixtures.activations.images import prepare_again, prepare_images
from fixtures.activations.measurement import Measurement
from fixtures.activations.presentation import present
from fixtures.activations.store import Store
from fixtures.common.errors import ProbeError
from fixtures.common.files import file_sha256
from fixtures.models.units import CELLS
from fixtures.stimuli.sets import Member, Pair, load_stimuli

TEXT = """hypothesis = "h"
presentation = "image_pairs"
prompt = "Describe."
image_seed = 7
a = "after"
b = "before"
[[pairs]]
id = "glass"
category = "c"
a = "a broken glass"
b = "a glass"
"""


@pytest.fixture
def stimuli(tmp_path):
    (tmp_path / "h.toml").write_text(TEXT)
    return load_stimuli(tmp_path / "h.toml")


@pytest.fixture
def prepare(tmp_path, tiny, stimuli):
    def run(stimuli=stimuli, load=lambda: tiny.loaded, **options):
        return prepare_images(stimuli, tmp_path / "images", tiny.source, tiny.protocol, load, **options)

    return run


def never():
    raise AssertionError("loaded the model although every image is there")


def test_images_are_generated_once_and_reused(prepare, tiny):
    images = prepare()
    assert list(images) == ["glass.a", "glass.b"]
    assert [image.seed for image in images.values()] == [7, 8]
    with Image.open(images["glass.a"].path) as image:
        assert image.size == (64, 64) and image.format == "PNG"
    assert prepare(load=never) == images


def test_the_manifest_says_what_each_image_was_made_from(prepare, tiny):
    manifest = json.loads((prepare()["glass.a"].path.parent / "manifest.json").read_text())
    entry = manifest["images"]["glass.a"]
    assert entry["prompt"] == "a broken glass" and entry["seed"] == 7
    assert (entry["steps"], entry["guidance"], entry["resolution"]) == (14, 4.0, 64)
    assert entry["fingerprint"] == tiny.source.fingerprint and len(entry["sha256"]) == 64


def test_an_image_equals_the_pipelines_own(prepare, tiny):
    import torch

    with Image.open(prepare()["glass.b"].path) as image:
        ours = np.asarray(image, dtype=int)
    theirs = tiny.pipeline(
        prompt="a glass",
        height=64,
        width=64,
        num_inference_steps=14,
        guidance_scale=4.0,
        max_sequence_length=160,
        generator=torch.Generator().manual_seed(8),
    ).images[0]
    assert np.abs(ours - np.asarray(theirs, dtype=int)).max() <= 1


def references(stimuli, *own):
    """The pair again as often as there are references, each with its own."""
    first = stimuli.pairs[0]
    pairs = tuple(replace(first, id=f"glass_{number}", reference=member) for number, member in enumerate(own))
    return replace(stimuli, presentation="reference_prompt_pairs", prompt=None, pairs=pairs)


def test_every_pair_has_its_own_reference(prepare, stimuli, photos):
    kitchen, mine, cellar = Member("a kitchen"), Member(image=photos[0]), Member("a cellar")
    images = prepare(references(stimuli, kitchen, mine, cellar))
    assert {name: image.seed for name, image in images.items()} == {
        "glass_0.reference": 7,
        "glass_1.reference": None,
        "glass_2.reference": 9,
    }
    assert images["glass_1.reference"].path == photos[0]
    assert images["glass_0.reference"].sha256 != images["glass_2.reference"].sha256
    assert prepare(references(stimuli, kitchen, mine, cellar), load=never) == images


def test_both_members_of_a_pair_and_of_its_placebo_are_shown_its_reference(prepare, stimuli, tiny, tmp_path):
    concept = references(stimuli, Member("a kitchen"), Member("a cellar"))
    placebo = tuple(Pair(f"neutral_{number}", "c", Member(f"blue {number}"), Member("red")) for number in range(2))
    concept = replace(concept, placebo=placebo)
    measurement = Measurement(
        concept,
        tiny,
        Store(tmp_path),
        tmp_path / "images",
        lambda what: lambda done, total: None,
    )
    names = ["glass_0.reference"] * 2 + ["glass_1.reference"] * 2
    for pairs in (concept.pairs, placebo):
        shown = present(concept, pairs, measurement.images)
        assert [image for _, image in shown] == [measurement.images[name] for name in names]
        assert [stimulus.image for stimulus, _ in shown] == [measurement.images[name].path for name in names]
    assert [s.prompt for s, _ in measurement.sequence] == ["a broken glass", "a glass"] * 2
    assert (measurement.activations.token_counts[:, CELLS.index("reference")] > 0).all()
    rms = pooled_rms(measurement.activations, tiny.groups)
    assert (rms[0] != rms[2]).any()  # the same prompt, shown with another image


def test_a_deleted_image_is_generated_again(prepare):
    images = prepare()
    images["glass.a"].path.unlink()
    assert prepare() == images


@pytest.mark.parametrize("damage", ["truncate", "replace"])
def test_a_changed_image_is_refused(prepare, damage):
    path = prepare()["glass.a"].path
    data = path.read_bytes()
    path.write_bytes(data[:-9] if damage == "truncate" else path.with_name("glass.b.png").read_bytes())
    with pytest.raises(ProbeError, match=r"glass\.a\.png: damaged or replaced"):
        prepare(load=never)
    assert prepare(refresh="9999")["glass.a"].path.read_bytes() == data


def test_a_foreign_image_is_refused(prepare, tmp_path):
    folder = tmp_path / "images" / "h"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(folder / "glass.b.png")
    with pytest.raises(ProbeError, match=r"glass\.b\.png: not generated by this suite"):
        prepare(load=never)


def test_a_damaged_manifest_is_refused(prepare):
    path = prepare()["glass.a"].path.with_name("manifest.json")
    path.write_text("{")
    with pytest.raises(ProbeError, match="manifest.json: the manifest is damaged. Delete"):
        prepare(load=never)


def test_a_changed_prompt_makes_a_new_image(prepare, stimuli):
    before = prepare()
    pair = stimuli.pairs[0]
    changed = replace(stimuli, pairs=(replace(pair, a=replace(pair.a, prompt="a glass in shards")),))
    after = prepare(changed)
    assert after["glass.a"].sha256 != before["glass.a"].sha256 and after["glass.b"] == before["glass.b"]


def test_a_prompt_that_would_be_cut_off_is_refused_before_generation(prepare, stimuli):
    pair = stimuli.pairs[0]
    long = replace(stimuli, pairs=(replace(pair, a=replace(pair.a, prompt="zq" * 200)),))
    with pytest.raises(ProbeError, match=r"h\.toml, glass\.a: its prompt has .* at most 160"):
        prepare(long)


def test_images_that_another_process_adds_meanwhile_are_seen(prepare, monkeypatch):
    """The other process finishes between the look without the lock and the lock."""
    from fixtures.activations import image_manifest

    lock_of = image_manifest.Manifest.lock_of

    def late(manifest, batch):
        monkeypatch.setattr(image_manifest.Manifest, "lock_of", lock_of)
        prepare()
        return lock_of(manifest, batch)

    monkeypatch.setattr(image_manifest.Manifest, "lock_of", late)
    assert list(prepare(load=never)) == ["glass.a", "glass.b"]


def test_some_pairs_images_have_the_seeds_that_they_have_among_all(prepare, stimuli):
    pair = stimuli.pairs[0]
    other = replace(pair, id="cup", a=replace(pair.a, prompt="a broken cup"), b=replace(pair.b, prompt="a cup"))
    both = replace(stimuli, pairs=(pair, other))
    some = prepare(both, chosen={"cup"})
    assert {name: image.seed for name, image in some.items()} == {"cup.a": 9, "cup.b": 10}
    whole = prepare(both)
    assert {name: whole[name] for name in some} == some


def test_a_users_own_images_are_taken_as_they_are(prepare, stimuli, photos):
    pair = stimuli.pairs[0]
    own = replace(stimuli, pairs=(replace(pair, a=replace(pair.a, prompt=None, image=photos[0])),))
    images = prepare(own)
    assert images["glass.a"].path == photos[0] and images["glass.a"].seed is None


def test_an_unreadable_image_of_the_user_is_named(prepare, stimuli, tmp_path):
    (tmp_path / "mine.png").write_text("no image")
    pair = stimuli.pairs[0]
    own = replace(stimuli, pairs=(replace(pair, a=replace(pair.a, prompt=None, image=tmp_path / "mine.png")),))
    with pytest.raises(ProbeError, match="mine.png: not a readable image"):
        prepare(own)


def test_an_image_that_is_not_the_promised_one_is_refused(prepare, stimuli, photos):
    pair = stimuli.pairs[0]

    def own(sha256):
        member = replace(pair.a, prompt=None, image=photos[0], sha256=sha256)
        return replace(stimuli, pairs=(replace(pair, a=member),))

    promised = file_sha256(photos[0])
    assert prepare(own(promised))["glass.a"].sha256 == promised
    photos[0].write_bytes(photos[1].read_bytes())
    with pytest.raises(ProbeError, match="photo0.png: damaged or replaced: its sha256 is not the one in the stimulus"):
        prepare(own(promised))


def test_a_png_with_a_broken_chunk_is_named(prepare, stimuli, photos):
    whole = bytearray(photos[0].read_bytes())
    start = whole.index(b"IDAT")
    whole[start : start + 4] = b"\x00\x01\x02\x03"  # no chunk has such a name
    photos[0].write_bytes(whole)
    pair = stimuli.pairs[0]
    own = replace(stimuli, pairs=(replace(pair, a=replace(pair.a, prompt=None, image=photos[0])),))
    with pytest.raises(ProbeError, match="photo0.png: not a readable image"):
        prepare(own)


def test_every_b_is_generated_again_from_another_seed(prepare, stimuli, tiny, tmp_path):
    first = prepare()
    arguments = (stimuli, tmp_path / "images", tiny.source, tiny.protocol)
    again = prepare_again(*arguments, lambda: tiny.loaded)
    assert list(again) == ["glass.b"] and again["glass.b"].seed == 9
    assert again["glass.b"].sha256 != first["glass.b"].sha256 and again["glass.b"].path != first["glass.b"].path
    assert prepare_again(*arguments, never) == again and prepare(load=never) == first
