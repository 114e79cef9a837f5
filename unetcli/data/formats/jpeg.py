"""JPEG photographs, as COCO publishes them; only to be read, since they are no form for measurements or masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.tif import damage_told
from unetcli.errors import DataError

JPEG_BEGINS = b"\xff\xd8\xff"


def is_jpeg(path: Path) -> bool:
    """Whether a file's first bytes say so.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(JPEG_BEGINS)) == JPEG_BEGINS
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def read_jpeg(path: Path) -> NDArray[Any]:
    """The pixels as they are stored, `(C, H, W)` uint8 with C 1 or 3; what Exif says of turning is not heeded.

    Annotations are drawn on the pixels as they are stored, too.

    Raises:
        DataError: If it is damaged or of other colours than grey or RGB.
    """
    import imagecodecs

    with damage_told(f"{path}"):
        pixels: NDArray[Any] = np.asarray(imagecodecs.jpeg8_decode(path.read_bytes()))
    pixels = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    if len(pixels) not in {1, 3}:
        raise DataError(f"{path}: has {len(pixels)} channels, but a JPEG must be grey or RGB", hint="save it as RGB")
    return pixels
