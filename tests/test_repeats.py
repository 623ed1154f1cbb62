"""Pairs that are no evidence are refused: the same to the model within a pair, or shown before in another pair."""

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_factory import encoded, exif
from PIL import Image
from toy_project import IMAGES, PAIR, PLACEBO, STIMULI, claims, pairs, run, write
from toy_project import folder as folder_of

import fixtures.__main__
from fixtures.activations.measurement import Measurement
from fixtures.activations.presentation import stimulus_keys
from fixtures.activations.references import fitted_picture
from fixtures.activations.shares import fill_own
from fixtures.activations.store import Store
from fixtures.common.errors import ProbeError
from fixtures.report.claim.stimuli import thumbnails
from fixtures.stimuli.repeats import Shown, refuse_repeats
from fixtures.stimuli.sets import load_stimuli

pytest_plugins = "pytester"

PHOTOS = '[[pairs]]\nid = "p{number}"\ncategory = "c"\na = {{ image = "{a}" }}\nb = {{ image = "{b}" }}\n'
HEAD = IMAGES.replace("image_seed = 3\n", "").replace('placebo = ["seed", "brightness"]\n', "")
WORDS = ("a cat on the mat", "caf\u00e9 in the rain", "seven long words", "a dog", "gr\u00fcn", "an owl", "two men")


@pytest.fixture
def measured(tmp_path, tiny):
    """A measurement of a set with this text, in a store of its own."""

    def of(text: str) -> Measurement:
        (tmp_path / "toy.toml").write_text(text, encoding="utf-8")
        stimuli = load_stimuli(tmp_path / "toy.toml")
        return Measurement(stimuli, tiny, Store(tmp_path / "store"), tmp_path / "made", lambda what: lambda *done: None)

    return of


@pytest.fixture
def save(tmp_path):
    """Save a picture beside the stimulus file, and return its name."""

    def to(name: str, picture, format="PNG", **options) -> str:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        (tmp_path / name).write_bytes(encoded(image, format, **options))
        return name

    return to


def scene(seed: int, size=(64, 64)) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


keys = st.integers(0, 5)


@given(st.lists(st.tuples(keys, keys), min_size=1, max_size=8))
def test_a_repeat_is_found_wherever_it_is_and_nothing_else_is(members):
    """Under any order of the pairs and any exchange of their members."""
    same = [a == b for a, b in members]
    again = [{a, b} in [set(other) for other in members[:n]] for n, (a, b) in enumerate(members)]
    shared = [bool({a, b} & set(itertools.chain(*members[:n]))) for n, (a, b) in enumerate(members)]
    listed = [(f"p{n}", Shown(f"A{n}", a), Shown(f"B{n}", b)) for n, (a, b) in enumerate(members)]
    n = next((n for n in range(len(members)) if same[n] or again[n] or shared[n]), None)
    if n is None:
        refuse_repeats("toy.toml", listed)
    else:
        found = rf"\(a: A{n}; b: B{n}\) {'repeats' if again[n] else 'shares a member with'} pair p\d"
        found = rf": a \(A{n}\) and b \(B{n}\) are the same" if same[n] else " " + found
        with pytest.raises(ProbeError, match=f"^toy.toml: pair p{n}{found}"):
            refuse_repeats("toy.toml", listed)


def test_a_repeat_names_both_pairs_and_whether_they_are_exchanged():
    a, b = Shown("'left'", 1), Shown("'right'", 2)
    with pytest.raises(
        ProbeError, match=r"pair two \(a: 'left'; b: 'right'\) repeats pair one \(a: 'left'.*'right'\): "
    ):
        refuse_repeats("x", [("one", a, b), ("two", a, b)])
    with pytest.raises(
        ProbeError, match=r"pair two .* repeats pair one .*, with a and b exchanged: .*Take one of them"
    ):
        refuse_repeats("x", [("one", a, b), ("two", b, a)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(WORDS), min_size=4, max_size=4), st.sampled_from(["NFC", "NFD"]), st.integers(0, 3))
def test_prompts_that_are_one_text_in_unicode_are_refused_when_the_file_is_read(tmp_path, words, form, changed):
    """Of two pairs, and wherever the two are that are the same."""
    words = [unicodedata.normalize(form if n == changed else "NFC", text) for n, text in enumerate(words)]
    composed = [unicodedata.normalize("NFC", text) for text in words]
    file = tmp_path / "toy.toml"
    file.write_text(
        STIMULI + PAIR.format(number=0, a=words[0], b=words[1]) + PAIR.format(number=1, a=words[2], b=words[3])
    )
    if len(set(composed)) < 4:
        with pytest.raises(ProbeError, match=r"toy.toml: pair \d .*is the same stimulus as [ab] of pair"):
            load_stimuli(file)
    else:
        assert len(load_stimuli(file).pairs) == 2


def test_a_file_by_another_name_is_the_same_stimulus(tmp_path, save):
    save("a.png", scene(0))
    (tmp_path / "linked.png").symlink_to("a.png")
    for other in ("a.png", "./a.png", "linked.png", 'a.png", sha256 = "0'):
        (tmp_path / "toy.toml").write_text(HEAD + PHOTOS.format(number=0, a="a.png", b=other))
        with pytest.raises(ProbeError, match="field 'b' is the same stimulus as a of pair 1"):
            load_stimuli(tmp_path / "toy.toml")


class Lossy:
    """A vocabulary that is blind to capitals, to spaces and to whatever is beyond its sixth word."""

    name = "lossy"

    @staticmethod
    def encode(text):
        return [hash(word) for word in text.casefold().split()[:6]]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("A cat", "a cat", r"p0: a \('A cat'\) and b \('a cat'\) are the same to the model"),
        ("a  cat", "a cat", "p0: .* are the same to the model"),
        ("one two three four five six seven", "one two three four five six eight", "p0: .* are the same to the model"),
        ("Seven dogs 1", "A Bird 1", "p1 .* repeats pair p0 .*: the model is shown the same"),
        ("A bird 1", "Seven dogs 1", "p1 .* repeats pair p0 .*, with a and b exchanged"),
    ],
)
def test_prompts_of_the_same_tokens_are_refused_before_anything_is_captured(measured, tiny, monkeypatch, a, b, message):
    """Whatever a checkpoint's tokenizer throws away."""
    monkeypatch.setattr(tiny, "vocabulary", Lossy)
    monkeypatch.setattr("fixtures.activations.segments.capture_batches", None)
    second = PAIR.format(number=1, a="seven dogs 1", b="a bird 1")
    with pytest.raises(ProbeError, match=rf"toy\.toml: pair {message}"):
        _ = measured(STIMULI + PAIR.format(number=0, a=a, b=b) + second).activations


def test_the_placebo_and_the_concept_must_not_be_the_same_pair_either(measured, tiny, monkeypatch):
    monkeypatch.setattr(tiny, "vocabulary", Lossy)
    concept = PAIR.format(number=0, a="a cat", b="a dog") + PAIR.format(number=1, a="an owl", b="a fly")
    placebo = PLACEBO.format(number=0, a="up", b="down") + PLACEBO.format(number=1, a="A Dog", b="A Cat")
    found = measured(STIMULI + concept + placebo)
    for ask in (lambda: found.sequence, lambda: found.placebo, lambda: fill_own(found, {"placebo"}, [0, 1])):
        with pytest.raises(ProbeError, match=r"pair q1 .*'A Dog'; .*repeats pair p0 .*exchanged"):
            ask()


def test_a_reference_of_its_own_makes_another_pair_of_the_same_tokens(measured, tiny, monkeypatch, save):
    monkeypatch.setattr(tiny, "vocabulary", Lossy)
    head = HEAD.replace("image_pairs", "reference_prompt_pairs").replace('prompt = "Describe."\n', "")

    def text(reference):
        two = [PAIR.format(number=0, a="a cat", b="a dog"), PAIR.format(number=1, a="A cat", b="A dog")]
        return head + "".join(
            f'{pair}reference = {{ image = "{name}" }}\n' for pair, name in zip(two, reference, strict=True)
        )

    one, again, other = save("1.png", scene(1)), save("2.png", scene(1), "BMP"), save("3.png", scene(2))
    assert len(measured(text([one, other])).sequence) == 4
    with pytest.raises(ProbeError, match=r"pair p1 .*'A cat' beside .*2\.png.* repeats pair p0"):
        _ = measured(text([one, again])).sequence


def same_pictures(save):
    """Files that are one picture, however they are written; the first is the plain one."""
    picture = scene(0)
    image = Image.fromarray(picture)
    yield save("plain.png", picture)
    yield save("metadata.png", picture, pnginfo=_text("made by", "me"))
    yield save("poorly.png", picture, compress_level=0)
    yield save("opaque.png", image.convert("RGBA"))
    for format in ("BMP", "TIFF", "PPM"):
        yield save(f"as.{format}", picture, format)
    yield save("as.webp", picture, "WEBP")
    yield save("turned.png", image.transpose(Image.Transpose.ROTATE_90), exif=exif(6))
    yield save("mirrored.tif", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "TIFF", exif=exif(2))


def _text(key, value):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(key, value)
    return info


def test_one_picture_in_two_files_is_no_pair(measured, save, tiny, monkeypatch):
    monkeypatch.setattr("fixtures.activations.segments.capture_batches", None)
    plain, *others = same_pictures(save)
    for other in others:
        with pytest.raises(
            ProbeError, match=rf"pair p0: a \(.*plain\.png\) and b \(.*{other}\) are the same to the model"
        ):
            _ = measured(HEAD + PHOTOS.format(number=0, a=plain, b=other)).activations


def test_pictures_that_are_one_once_scaled_or_fitted_are_no_pair(measured, save):
    red = Image.new("RGB", (64, 64), "red")
    names = [save(f"{side}.png", red.resize((side, side))) for side in (64, 65, 79, 128, 256)]
    for other in names[1:]:
        with pytest.raises(ProbeError, match="are the same to the model"):
            _ = measured(HEAD + PHOTOS.format(number=0, a=names[0], b=other)).sequence


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(st.permutations(range(4)), st.integers(0, 2), st.booleans())
def test_pairs_of_pictures_that_repeat_another_are_refused(measured, save, order, copied, exchanged):
    """Three pairs and a copy of one of them in other files, in any order."""
    files = [[save(f"{n}{m}.png", scene(10 * n + k)) for k, m in enumerate("ab")] for n in range(3)]
    again = [save(f"again{m}.bmp", scene(10 * copied + k), "BMP") for k, m in enumerate("ab")]
    files.append(again[::-1] if exchanged else again)
    text = HEAD + "".join(PHOTOS.format(number=n, a=files[n][0], b=files[n][1]) for n in order)
    with pytest.raises(
        ProbeError, match=r"pair p\d .*again.* repeats pair p\d|pair p\d .* repeats pair p\d .*again"
    ) as error:
        _ = measured(text).sequence
    assert ("exchanged" in str(error.value)) == exchanged
    without = HEAD + "".join(PHOTOS.format(number=n, a=files[n][0], b=files[n][1]) for n in order if n < 3)
    assert len(measured(without).sequence) == 6


def test_a_picture_that_two_pairs_share_is_refused_as_one_file_is(measured, save):
    """Against one and the same B, every pair shows what is peculiar to it."""
    text = PHOTOS.format(number=0, a=save("a.png", scene(0)), b=save("b.png", scene(1)))
    text += PHOTOS.format(number=1, a=save("c.png", scene(2)), b=save("d.bmp", scene(1), "BMP"))
    with pytest.raises(ProbeError, match=r"pair p1 .*d\.bmp\) shares a member with pair p0 \(b: .*b\.png\)"):
        _ = measured(HEAD + text).sequence


def test_reading_pictures_that_takes_seconds_says_how_far_it_is(measured, save, monkeypatch):
    found = measured(HEAD + PHOTOS.format(number=0, a=save("1.png", scene(0)), b=save("2.png", scene(1))))
    said = []
    monkeypatch.setattr(found.captures, "progress", lambda what: lambda *done: said.append((what, *done)))
    _ = found.set_images.all()
    assert said == []
    monkeypatch.setattr("fixtures.activations.images.PATIENCE", 0)
    _ = found.set_images.all()
    assert said == [("reading images for toy", 1, 2), ("reading images for toy", 2, 2)]


def test_images_that_the_model_draws_alike_are_refused(measured, tiny, monkeypatch):
    """A broken model draws black whatever it is asked."""
    black = [Image.new("RGB", (64, 64))]
    monkeypatch.setattr("fixtures.activations.images._generate", lambda loaded, batch, *rest: black * len(batch))
    with pytest.raises(
        ProbeError, match=r"pair p0: a \(.*p0\.a\.png, drawn by the model\) and b \(.*p0\.b.*the same to"
    ):
        _ = measured(IMAGES + pairs(2)).sequence


def test_an_alteration_that_alters_nothing_is_no_placebo(measured, save):
    symmetric = scene(5).copy()
    symmetric[:, 32:] = symmetric[:, :32][:, ::-1]
    members = [(scene(0), scene(1)), (scene(2), symmetric)]
    names = [
        [save(f"{n}{m}.png", picture) for m, picture in zip("ab", two, strict=True)] for n, two in enumerate(members)
    ]
    text = "".join(PHOTOS.format(number=n, a=a, b=b) for n, (a, b) in enumerate(names))
    assert measured(HEAD + 'placebo = ["crop"]\n' + text).placebo
    with pytest.raises(ProbeError, match=r"toy\.toml: pair p1: the placebo 'mirror' leaves the image of b as it is"):
        _ = measured(HEAD + 'placebo = ["crop", "mirror"]\n' + text).placebo


def test_what_is_encoded_measured_altered_and_reported_are_the_same_pixels(measured, save, tmp_path):
    """A picture that is stored on its side, and the same stored upright, beside 16-bit and 8-bit grey."""
    other, grey = scene(1), np.asarray(Image.fromarray(scene(2)).convert("L"))
    upright = [save("1.png", scene(0)), save("2.png", other), save("3.png", grey), save("4.png", scene(4))]
    turned = Image.fromarray(scene(0)).transpose(Image.Transpose.ROTATE_90)
    stored = [save("5.png", turned, exif=exif(6)), upright[1], save("6.png", grey.astype(np.uint16) * 257), upright[3]]
    found = []
    for names in (upright, stored):
        text = "".join(PHOTOS.format(number=n, a=names[2 * n], b=names[2 * n + 1]) for n in range(2))
        found.append(measured(HEAD + 'placebo = ["brightness"]\n' + text))
    plain, as_stored = found
    assert np.array_equal(plain.activations.mean_square, as_stored.activations.mean_square)
    assert np.array_equal(plain.inputs.rms, as_stored.inputs.rms)
    assert np.array_equal(plain.image_confounds(), as_stored.image_confounds())
    assert plain.image_confounds().std(axis=0).all()
    for one, two in zip(plain.placebo, as_stored.placebo, strict=True):
        assert (one.distance, one.amount) == (two.distance, two.amount)
    for one, two in zip(plain.placebo_activations(), as_stored.placebo_activations(), strict=True):
        assert np.array_equal(one.mean_square, two.mean_square)
    small = [thumbnails([tmp_path / name for name in names], 100_000) for names in (upright, stored)]
    assert small[0] == small[1] and None not in small[0]


def test_the_pixels_that_are_compared_are_those_that_the_autoencoder_is_given(tiny, save, tmp_path):
    processor = tiny.pipeline.image_processor
    for size in ((64, 64), (100, 70), (70, 100), (333, 90)):
        file = tmp_path / save(f"{size}.png", scene(3, size))
        image = fitted_picture(tiny.source, file, 1024).image
        height, width = (side // 16 * 16 for side in size[::-1])
        with Image.open(file) as whole:
            expected = processor.preprocess(whole, height=height, width=width, resize_mode="crop")
        assert np.array_equal(processor.preprocess(image), expected)
        assert np.array_equal(tiny.source.family.pixels(tiny.pipeline, image), expected)
    assert tiny.source.family.grid(tiny.source.folder) == tiny.pipeline.vae_scale_factor * 2


def test_what_was_stored_of_a_picture_that_was_read_otherwise_is_not_used_again(measured, save):
    """And what was stored of plain pictures is."""
    turned = save("1.png", scene(0), exif=exif(3))
    text = PHOTOS.format(number=0, a=turned, b=save("2.png", scene(1), "WEBP"))
    text += PHOTOS.format(number=1, a=save("3.png", scene(2)), b=save("4.png", scene(3)))
    own, *others = stimulus_keys(measured(HEAD + text).sequence)
    assert own["reading"] == 1 and all(set(key) == {"prompt", "image_sha256"} for key in others)


def test_a_record_of_images_that_does_not_say_what_was_shown_is_not_trusted(measured, save):
    found = measured(HEAD + PHOTOS.format(number=0, a=save("1.png", scene(0)), b=save("2.png", scene(1))))
    images, inventory = found.images, found.set_images.inventory
    key = {"hypothesis": "toy"}
    inventory.remember_images(key, images)
    assert inventory.images(key, lambda name: images[name].path) == images
    inventory._write("images", key, {name: {"sha256": image.sha256, "seed": None} for name, image in images.items()})
    with pytest.raises(ProbeError, match="toy's images does not say what the model was shown.*Capture it again"):
        inventory.images(key, lambda name: images[name].path)


def transparent(image):
    image.putalpha(128)
    return encoded(image, "PNG")


BAD = {
    "alpha": (transparent, r"a0\.png: parts of it are transparent"),
    "float": (lambda image: encoded(image.convert("F"), "TIFF"), r"a0\.png: viewers do not agree on how its pixels"),
    "animation": (
        lambda image: encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        r"a0\.png: holds 2 frames",
    ),
    "b again": (lambda image: encoded(Image.fromarray(scene(1)), "BMP"), r"pair p0: a .*a0\.png.* are the same to the"),
    "turned b": (
        lambda image: encoded(Image.fromarray(scene(1)[::-1, ::-1]), "PNG", exif=exif(3)),
        r"pair p0: a .*a0\.png.* are the same to the model",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_run_names_the_one_picture_that_it_cannot_take(project, kind):
    """And decides nothing: no claim is refuted, and no unit counted, on what was not shown."""
    make, message = BAD[kind]
    text, folder = HEAD, project.path / "stimuli"
    for number in range(10):
        for seed, name in enumerate((f"a{number}.png", f"b{number}.png"), start=2 * number):
            image = Image.fromarray(scene(seed))
            (folder / name).write_bytes(encoded(image, "PNG") if seed else make(image))
        text += PHOTOS.format(number=number, a=f"a{number}.png", b=f"b{number}.png")
    write(project, "stimuli/toy.toml", text)
    outcome = run(project)
    assert outcome.ret == 1
    outcome.stdout.re_match_lines_random([f".*{message}"])
    assert {claim["verdict"] for claim in claims(project, folder_of(project)).values()} == {"not evaluated"}


def test_the_checker_says_the_same_of_a_set(tmp_path, save, capsys):
    plain, other = save("1.png", scene(0)), save("2.bmp", scene(0), "BMP")
    file = tmp_path / "toy.toml"
    file.write_text(HEAD + PHOTOS.format(number=0, a=plain, b=other))
    assert fixtures.__main__.main(["check", str(file)]) == 1
    assert "pair p0: a (" in (said := capsys.readouterr().err) and "are the same to the model" in said
    (tmp_path / "1.png").write_bytes(b"no picture")
    assert fixtures.__main__.main(["check", str(file)]) == 1
    assert "1.png: not a readable image" in capsys.readouterr().err
