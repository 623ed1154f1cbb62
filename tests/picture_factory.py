"""Picture files for tests: every format, mode, orientation and colour profile that a user may have."""

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image

UPRIGHT = {  # by EXIF orientation, what undoes it, as its specification says: where row 0 and column 0 of the file lie
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def exif(orientation: int) -> Image.Exif:
    """EXIF data with this orientation."""
    found = Image.Exif()
    found[ExifTags.Base.Orientation] = orientation
    return found


def encoded(image: Image.Image, format: str, **options) -> bytes:
    """The file's bytes; lossless wherever the format can."""
    stream = io.BytesIO()
    lossless = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    image.save(stream, format, **(lossless.get(format, {}) | options))
    return stream.getvalue()


def png(samples: np.ndarray, bits: int, colour: int, chunks: dict[bytes, bytes] | None = None) -> bytes:
    """A PNG of ``samples`` of 8 or 16 bits, shape (height, width, n_channels), and further chunks before the pixels."""
    height, width = samples.shape[:2]
    rows = samples.astype({8: np.uint8, 16: ">u2"}[bits])
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = {b"IHDR": header, **(chunks or {}), b"IDAT": zlib.compress(data), b"IEND": b""}
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def profile(gamma: float, primaries: list[list[float]] | None = None) -> bytes:
    """An ICC profile of a display: its gamma, and the XYZ (at D50) of red, green and blue, or None of a grey one."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = "test".encode("utf-16-be")
    named = b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text
    tags = {b"desc": named, b"cprt": named, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    colours = zip((b"r", b"g", b"b"), primaries or (), strict=bool(primaries))
    tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*xyz) for name, xyz in colours}
    tags |= {name + b"TRC": curve for name in ((b"r", b"g", b"b") if primaries else (b"k",))}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(
        ">I4sI4s4s4s", size, b"\0\0\0\0", 0x04200000, b"mntr", b"RGB " if primaries else b"GRAY", b"XYZ "
    )
    head += struct.pack(">6H4s4sIIIIII", 2026, 1, 1, 0, 0, 0, b"acsp", b"\0\0\0\0", 0, 0, 0, 0, 0, 0)
    head += fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + table + body


# XYZ at D50 of the primaries, as the profiles of their inventors have them (columns add up to D50's white)
SRGB = [[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.7141]]
ADOBE_RGB = [[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]]
