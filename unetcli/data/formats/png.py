"""PNG files: what their header says, their one page, and encoding one.

A palette is replaced by its colours, alpha is left out, and one bit becomes 0 and 255.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.tif import Indexed, PixelSize, damage_told
from unetcli.errors import DataError, counted

Array = NDArray[Any]
PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 33  # of the signature and the IHDR chunk, after which other chunks may stand
GREY, PALETTE = 0, 3  # PNG specification, table 8: colour types
COLOUR_CHUNKS = {b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"}
"""Of no use, or another one, to a grey image."""
CENTIMETRE = 3  # the TIF tag ResolutionUnit


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What a PNG says before its pixels.

    Args:
        size: Height and width.
        pixel_size: Its pHYs chunk, if there is one.
        has_palette: Whether its pixels are indices of colours.
    """

    size: tuple[int, int]
    pixel_size: PixelSize
    has_palette: bool


def read_png_header(path: Path) -> PngHeader:
    """What stands before the pixels of a PNG, which are not decoded.

    Raises:
        DataError: If it is damaged or cut off.
    """
    with damage_told(f"{path}"), path.open("rb") as file:
        file.seek(len(PNG_BEGINS))
        width, height, colour_type = struct.unpack(">8xIIxB3x4x", file.read(HEADER_BYTES - len(PNG_BEGINS)))
        pixel_size = PixelSize()
        while len(begin := file.read(8)) == 8 and begin[4:] != b"IDAT":
            (length,) = struct.unpack(">I4x", begin)
            if begin[4:] == b"pHYs":
                body = file.read(length + 4)
                x, y, is_metre = struct.unpack(">IIB4x", body)
                pixel_size = PixelSize(
                    ((x, 100), (y, 100)) if x and y and is_metre else None, CENTIMETRE, png_chunk=begin + body
                )
            else:
                file.seek(length + 4, 1)
    return PngHeader((height, width), pixel_size, colour_type == PALETTE)


def read_png(path: Path) -> Array:
    """The page of a PNG, `(C, H, W)` with C 1 or 3, uint8 or uint16.

    Raises:
        DataError: If it is damaged or cut off.
    """
    import imagecodecs

    with damage_told(f"{path}"):
        pixels: Array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    pixels = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    return pixels[:-1] if len(pixels) in {2, 4} else pixels  # PNG has these numbers of channels only with alpha


def is_opaque(path: Path) -> bool:
    """Whether a PNG has no alpha, or one that hides nothing.

    Raises:
        DataError: If it is damaged or cut off.
    """
    import imagecodecs

    with damage_told(f"{path}"):
        pixels: Array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    has_alpha = pixels.ndim == 3 and pixels.shape[2] in {2, 4}
    return not has_alpha or bool((pixels[..., -1] == np.iinfo(pixels.dtype).max).all())


def read_palette(path: Path) -> Indexed:
    """The indices of a PNG with a palette, `(H, W)`, and the colours that they stand for.

    Decoders put the colours in place of the indices, so the file is decoded as if it were grey.

    Raises:
        DataError: If it is damaged or cut off, or an index has no colour.
    """
    import imagecodecs

    with damage_told(f"{path}"):
        content = path.read_bytes()
        header = bytearray(content[:HEADER_BYTES])
        depth, header[25] = header[24], GREY
        header[29:33] = struct.pack(">I", zlib.crc32(bytes(header[12:29])))
        chunks = list(_chunks(content))
        kept = b"".join(chunk for name, chunk in chunks if name not in COLOUR_CHUNKS)
        grey = np.asarray(imagecodecs.png_decode(bytes(header) + kept), np.uint8)
        indices = grey // (255 // (2**depth - 1))  # fewer bits than 8 are stretched
        table = b"".join(chunk[8:-4] for name, chunk in chunks if name == b"PLTE")
    colours = [(table[first], table[first + 1], table[first + 2]) for first in range(0, len(table) // 3 * 3, 3)]
    if int(indices.max(initial=0)) >= len(colours):
        raise DataError(
            f"{path}: holds the index {indices.max()}, but its palette has {counted(len(colours), 'colour')}"
        )
    return indices, colours


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names of the chunks behind the header, and the chunks whole."""
    place = HEADER_BYTES
    while place + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        yield name, content[place : place + length + 12]
        place += length + 12


def encode_png(pixels: Array, chunks: bytes = b"") -> bytes:
    """The bytes of a PNG.

    Args:
        pixels: `(H, W)` grey or `(H, W, 3)` RGB, uint8 or uint16.
        chunks: Chunks to put before the pixels, whole, such as pHYs.
    """
    import imagecodecs

    content = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    return content[:HEADER_BYTES] + chunks + content[HEADER_BYTES:]
