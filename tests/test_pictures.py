"""What is read of a picture file is what a viewer shows of it, or the file is refused by name: whatever it holds."""

import itertools
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from picture_factory import ADOBE_RGB, SRGB, UPRIGHT, encoded, exif, png, profile
from PIL import Image, ImageCms

from fixtures.common.errors import ProbeError
from fixtures.stimuli.pictures import FORMATS, read_picture

Image.init()
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)
ORIENTED = ("JPEG", "PNG", "WEBP", "TIFF")
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
pixels = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@pytest.fixture
def read(tmp_path):
    """What is shown of a file with these bytes, as an array."""

    def shown(data: bytes) -> np.ndarray:
        file = tmp_path / "picture"
        file.write_bytes(data)
        found = read_picture(file).image
        assert found.mode == "RGB"
        return np.asarray(found)

    return shown


@pytest.fixture
def refused(read, tmp_path):
    """Have a file with these bytes refused by name, with this in the message."""

    def check(data: bytes, message: str) -> None:
        with pytest.raises(ProbeError, match=rf"^{re.escape(str(tmp_path / 'picture'))}: .*({message}).*\. [A-Z]"):
            read(data)

    return check


@many
@given(st.sampled_from(ORIENTED), st.sampled_from(sorted(UPRIGHT)), pixels)
def test_a_picture_is_shown_upright(read, format, orientation, stored):
    data = encoded(Image.fromarray(stored), format, exif=exif(orientation))
    plain = read(encoded(Image.fromarray(stored), format))  # as JPEG has it
    assert np.array_equal(read(data), UPRIGHT[orientation](plain))


@pytest.mark.parametrize("format", ORIENTED)
@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(read, format, orientation):
    assert np.array_equal(read(encoded(RGB, format, exif=exif(orientation))), read(encoded(RGB, format)))


@many
@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_grey_of_16_bits_is_scaled_as_viewers_scale_it(read, levels):
    expected = np.rint(levels / 257).astype(int)[..., None].repeat(3, axis=2)
    files = [png(levels[..., None], 16, 0)]
    files += [encoded(Image.fromarray(levels), format) for format in ("PNG", "TIFF", "PPM")]
    files.append(encoded(Image.frombytes("I;16B", levels.shape[::-1], levels.astype(">u2").tobytes()), "TIFF"))
    for data in files:
        assert np.array_equal(read(data), expected)


@pytest.mark.parametrize("depth", ["rgb", "rgba"])
def test_colour_of_16_bits_is_that_of_8(read, depth):
    samples = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255)][: len(depth) - 2]).astype(int) * 257
    assert np.array_equal(read(png(samples, 16, 2 if depth == "rgb" else 6)), PIXELS)


BLACK_AND_WHITE = np.kron([[0, 255], [255, 0]], np.ones((16, 16))).astype(np.uint8)  # every mode can hold it


def every_mode_of_every_format():
    """What Pillow can save, as (format, mode, bytes)."""
    for format, mode in itertools.product(sorted(set(Image.SAVE) - {"IM"}), Image.MODES):  # IM is deprecated
        try:
            yield pytest.param(format, mode, encoded(_in(mode), format), id=f"{format}-{mode}")
        except (OSError, KeyError, ValueError, ImportError, AttributeError):
            pass  # the format has no such pixels


def _in(mode: str) -> Image.Image:
    grey = Image.fromarray(BLACK_AND_WHITE)
    if mode.startswith("I;16"):
        order = ">" if mode.endswith("B") else "<"
        return Image.frombytes(mode, grey.size, (BLACK_AND_WHITE.astype(f"{order}u2") * 257).tobytes())
    if mode in ("I", "F"):
        return Image.fromarray(BLACK_AND_WHITE.astype({"I": np.int32, "F": np.float32}[mode]) * 257)
    by_way_of = {"PA": "P", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
    return grey.convert(by_way_of).convert(mode)


@pytest.mark.parametrize(("format", "mode", "data"), list(every_mode_of_every_format()))
def test_every_mode_of_every_format_is_shown_right_or_refused(read, refused, format, mode, data):
    """What Pillow can save, it can open, in this mode or another: there is no third way."""
    try:
        found = read(data)
    except ProbeError:
        refused(data, "format|frames|mode|samples|transparent|fourth byte|readable")
        return
    assert format in FORMATS or format == "MPO"  # of one frame: a JPEG
    rounding = 3 if format in ("JPEG", "MPO") else 1 if mode == "LAB" else 0
    assert np.abs(found.astype(int) - BLACK_AND_WHITE[..., None]).max() <= rounding


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_what_a_viewer_shows_without_a_thought_is_shown(read, format):
    """The other side: the ordinary file of each format is taken, to the pixel where the format is exact."""
    colours = RGB.quantize(16).convert("RGB")
    expected = np.asarray(colours if format == "GIF" else RGB, dtype=int)
    source = colours.quantize(16) if format == "GIF" else RGB
    difference = np.abs(read(encoded(source, format)) - expected)
    assert difference.max() == 0 or (format == "JPEG" and difference.mean() < 4)


@many
@given(
    st.sampled_from([("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("TIFF", "LA")]),
    arrays.arrays(np.uint8, (4, 3), elements=st.sampled_from([0, 1, 128, 254, 255])),
)
def test_transparency_in_use_is_refused_and_unused_is_nothing(read, refused, kind, alpha):
    format, mode = kind
    image = RGB.crop((0, 0, 3, 4)).convert(mode[:-1])
    opaque = np.asarray(image.convert("RGB"))
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    if (alpha < 255).any():
        refused(encoded(image, format), "transparent")
    else:
        assert np.array_equal(read(encoded(image, format)), opaque)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_counts_where_it_is_used(read, refused, format):
    indices = np.array([[0, 1, 2, 1]] * 4, dtype=np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    refused(encoded(image, format, transparency=1), "transparent")
    if format == "PNG":  # a GIF is saved without colours that are not used
        refused(encoded(image, format, transparency=b"\xff\xff\x80"), "transparent")
        assert np.array_equal(
            read(encoded(image, format, transparency=b"\xff\xff\xff\0")), np.asarray(image.convert("RGB"))
        )


@pytest.mark.parametrize(
    ("bits", "colour", "key"), [(8, 0, ">H"), (16, 0, ">H"), (8, 2, ">3H"), (16, 2, ">3H")], ids=str
)
def test_a_transparent_colour_of_a_png_without_a_palette_is_refused(refused, bits, colour, key):
    samples = PIXELS.astype(int)[..., : 3 if colour else 1] * (257 if bits == 16 else 1)
    chosen = struct.pack(key, *map(int, samples[0, 0]))
    refused(png(samples, bits, colour, {b"tRNS": chosen}), "transparent")


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_of_more_than_one_frame_or_page_none_is_chosen(refused, format):
    data = encoded(RGB, format, save_all=True, append_images=[RGB.transpose(Image.Transpose.ROTATE_180)])
    refused(data, "2 frames or pages|format is AVIF")


def test_colours_of_another_display_are_those_that_a_viewer_shows(read):
    data = encoded(RGB, "PNG", icc_profile=profile(563 / 256, ADOBE_RGB))
    linear = (PIXELS / 255) ** (563 / 256) @ np.array(ADOBE_RGB) @ np.linalg.inv(SRGB)
    linear = np.clip(linear, 0, 1)
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(read(data) - expected).max() < 1.6
    assert np.abs(expected - PIXELS).max() > 20  # so that it would be missed


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_of_another_gamma_is_that_which_a_viewer_shows(read, mode):
    grey = PIXELS[..., 0]
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    linear = (grey / 255) ** 1.5
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(read(encoded(image, "PNG", icc_profile=profile(1.5))) - expected[..., None]).max() < 1.6


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_profile_that_says_srgb_changes_nothing(read, format):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for image in (RGB, RGB.convert("L")):  # grey that keeps the profile of the colours that it was made of
        assert np.array_equal(read(encoded(image, format, icc_profile=srgb)), read(encoded(image, format)))


def test_a_profile_of_other_pixels_or_of_nothing_is_refused(refused):
    refused(encoded(RGB, "PNG", icc_profile=profile(2.2)), "profile does not fit its RGB pixels")
    refused(encoded(RGB, "PNG", icc_profile=b"no profile"), "profile does not fit its RGB pixels")


def test_colours_that_only_a_chunk_of_a_png_defines_are_refused_unless_they_are_srgbs(read, refused):
    def with_chunk(**chunks):
        return png(PIXELS, 8, 2, {name.encode(): data for name, data in chunks.items()})

    ours = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    wide = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    usual, linear = struct.pack(">I", 45455), struct.pack(">I", 100000)
    for fine in ({"gAMA": usual}, {"gAMA": usual, "cHRM": ours}, {"sRGB": b"\0", "gAMA": linear}, {"cHRM": wide}):
        assert np.array_equal(read(with_chunk(**fine)), PIXELS)
    assert np.array_equal(read(with_chunk(cICP=b"\x01\x0d\0\x01")), PIXELS)
    refused(with_chunk(gAMA=linear), "not sRGB's .*gamma 1/1")
    refused(with_chunk(gAMA=usual, cHRM=wide), "not sRGB's")
    refused(with_chunk(cICP=b"\x09\x10\0\x01"), "another display")


@pytest.mark.parametrize("kind", ["signed", "white is 0", "12 bits", "float"])
def test_samples_of_a_tiff_that_would_be_misread_are_refused(refused, kind):
    levels = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    if kind == "signed":
        return refused(encoded(RGB.convert("L"), "TIFF", tiffinfo={339: 2}), "signed 8-bit")
    if kind == "float":
        return refused(encoded(levels.convert("F"), "TIFF"), "mode F")
    data = bytearray(encoded(levels, "TIFF"))
    tag, value = (262, 0) if kind == "white is 0" else (258, 12)
    start = data.index(struct.pack("<HHI", tag, 3, 1)) + 8
    data[start : start + 2] = struct.pack("<H", value)
    return refused(bytes(data), "16-bit, 0 is white" if kind == "white is 0" else "12-bit")


def test_a_gif_whose_frame_leaves_a_border_is_refused(refused):
    data = bytearray(encoded(RGB.quantize(8), "GIF"))
    start = data.index(b"\x2c", 13 + 3 * 8)  # the frame's own place and size
    data[6:10] = struct.pack("<HH", 20, 20)
    assert data[start + 5 : start + 9] == struct.pack("<HH", 7, 9)
    refused(bytes(data), "does not cover the whole picture")


def test_too_many_pixels_are_refused(refused, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    refused(encoded(RGB, "PNG"), "too many pixels")


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"GIF89a", b"\x89PNG\r\n\x1a\n", b"P6 0 0 255\n", b"%!PS-Adobe-3.0\n"]
)
def test_what_is_no_picture_is_refused(refused, data):
    refused(data, "not a readable image|size is|format is")


def test_a_folder_or_nothing_is_refused(tmp_path):
    for file in (tmp_path, tmp_path / "gone.png"):
        with pytest.raises(ProbeError, match=f"^{re.escape(str(file))}: not a readable image"):
            read_picture(file)


@settings(many, max_examples=300)
@given(st.sampled_from(FORMATS), st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_cut_off_is_refused_or_whole_all_the_same(read, format, data):
    image = RGB.quantize(8) if format == "GIF" else RGB
    whole = encoded(image, format)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = read(cut)
    except ProbeError as error:
        assert "picture: " in str(error)
    else:
        assert np.array_equal(found, read(whole))


@settings(many, max_examples=300)
@given(st.sampled_from(FORMATS), st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_a_picture_or_is_refused(read, format, data):
    damaged = bytearray(
        encoded(RGB.quantize(8) if format == "GIF" else RGB, format, exif=exif(6))
        if format in ORIENTED
        else encoded(RGB.quantize(8) if format == "GIF" else RGB, format)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read(bytes(damaged)).ndim == 3
    except ProbeError as error:
        assert "picture: " in str(error)


def test_pictures_are_opened_in_one_place():
    engine = Path(__file__).parents[1] / "fixtures"
    opening = {file for file in engine.rglob("*.py") if "Image.open" in file.read_text()}
    own = (engine / name for name in ("klein_mini/truth/pictures.py", "report/claim/steering.py"))  # what they made
    assert opening == {engine / "stimuli" / "pictures.py", *own}
