"""JPEG photographs, grey or RGB; only to be read, since they are no form for measurements or masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.tif import damage_told
from unetcli.errors import DataError

JPEG_BEGINS = b"\xff\xd8\xff"
SUFFIXES = frozenset({".jpg", ".jpeg"})
# ITU-T T.81, table B.1: markers that begin the coded pixels, and that end the file
SCAN, END = 0xDA, b"\xff\xd9"


def is_jpeg(path: Path) -> bool:
    """Whether a file's first bytes say so; not if it cannot be read, which is said when it is."""
    try:
        with path.open("rb") as file:
            return file.read(len(JPEG_BEGINS)) == JPEG_BEGINS
    except OSError:
        return False


def refuse_jpeg(mask: Path) -> None:
    """Raise `DataError` for a mask that is a JPEG: its values are blurred, and not those that were drawn."""
    if is_jpeg(mask):
        raise DataError(
            f"{mask}: is a JPEG, but a mask must hold exactly the values that were drawn, and JPEG blurs them",
            hint="save it as PNG or TIF from where it was drawn; to convert the JPEG does not bring the values back",
        )


def read_jpeg(path: Path) -> NDArray[Any]:
    """The pixels as they are stored, `(C, H, W)` uint8 with C 1 or 3; what Exif says of turning is not heeded.

    Annotations are drawn on the pixels as they are stored, too.

    Raises:
        DataError: If it is damaged or cut off, or of other colours than grey or RGB.
    """
    import imagecodecs

    with damage_told(f"{path}"):
        content = path.read_bytes()
        if not _has_end(content):
            raise ValueError("it has no end")
        pixels: NDArray[Any] = np.asarray(imagecodecs.jpeg8_decode(content))
    pixels = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    if len(pixels) not in {1, 3}:
        raise DataError(f"{path}: has {len(pixels)} channels, but a JPEG must be grey or RGB", hint="save it as RGB")
    return pixels


def _has_end(content: bytes) -> bool:
    """Whether the end follows the coded pixels; of a file that is cut off, decoders make up what is lacking.

    A photograph in small, with an end of its own, may lie in the segments before them.
    """
    place = 2
    while place + 1 < len(content) and content[place + 1] != SCAN:
        is_filled = content[place + 1] == 0xFF
        place += 1 if is_filled else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return END in content[place:]
