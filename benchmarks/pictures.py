"""Pictures to measure with."""

from pathlib import Path

import numpy as np
from PIL import Image


def pictures(folder: Path, count: int, protocol) -> list[Path]:
    """Smooth random pictures as PNG files."""
    generator, files = np.random.default_rng(0), []
    for number in range(count):
        small = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        files.append(folder / f"{number}.png")
        small.resize((protocol.resolution, protocol.resolution), Image.Resampling.BICUBIC).save(files[-1])
    return files
