"""PNG files: what is read of them, what is refused, and that what is encoded is what others decode."""

from __future__ import annotations

import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest

from unetcli.data.formats.images import open_image
from unetcli.data.formats.png import encode_png, read_png_header
from unetcli.errors import DataError


def pages_of(path):
    with open_image(path) as image:
        return list(image)


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header, *chunks, rows):
    """A PNG of hand-made chunks: IHDR fields, others, and the filtered rows."""
    body = b"".join(b"\0" + row for row in rows)
    parts = [png_chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks]
    parts += [png_chunk(b"IDAT", zlib.compress(body)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "kept"), [(None, 1), (2, 1), (3, 3), (4, 3)])
def test_png_keeps_its_type_and_colours_but_not_its_alpha(tmp_path, rng, dtype, channels, kept):
    shape = (5, 7) if channels is None else (5, 7, channels)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))

    (page,) = pages_of(tmp_path / "a.png")

    assert page.dtype == dtype
    np.testing.assert_array_equal(page, np.moveaxis(np.atleast_3d(pixels), 2, 0)[:kept])


def test_png_palette_becomes_colours_and_one_bit_becomes_0_and_255(tmp_path):
    palette = png_chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    (tmp_path / "p.png").write_bytes(png((2, 1, 8, 3, 0, 0, 0), palette, rows=[bytes([1, 0])]))
    (tmp_path / "b.png").write_bytes(png((2, 1, 1, 0, 0, 0, 0), rows=[bytes([0b01000000])]))

    assert read_png_header(tmp_path / "p.png").has_palette
    np.testing.assert_array_equal(pages_of(tmp_path / "p.png")[0], [[[40, 10]], [[50, 20]], [[60, 30]]])
    np.testing.assert_array_equal(pages_of(tmp_path / "b.png")[0], [[[0, 255]]])


def test_png_tells_its_size_and_resolution_without_decoding(tmp_path):
    other = png_chunk(b"tEXt", b"Comment\0pHYs IDAT")
    physical = png_chunk(b"pHYs", struct.pack(">IIB", 5000, 2500, 1))
    (tmp_path / "a.png").write_bytes(png((3, 2, 8, 0, 0, 0, 0), other, physical, rows=[b"abc", b"def"]))

    with open_image(tmp_path / "a.png") as image:
        assert (image.format, image.page_sizes, image.num_pages) == ("png", ((2, 3),), 1)
        assert image.pixel_size.resolution == ((5000, 100), (2500, 100))
        assert image.pixel_size.unit == 3
        assert image.pixel_size.png_chunk == physical


@pytest.mark.parametrize("share", [0.01, 0.03, 0.5, 0.95])
def test_png_that_is_cut_off_is_refused(tmp_path, rng, share):
    content = bytes(imagecodecs.png_encode(rng.integers(0, 256, (40, 40), dtype=np.uint8)))
    (tmp_path / "a.png").write_bytes(content[: max(8, int(len(content) * share))])
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        pages_of(tmp_path / "a.png")


def test_a_png_with_a_changed_byte_is_refused(tmp_path, rng):
    content = bytearray(imagecodecs.png_encode(rng.integers(0, 256, (30, 30), dtype=np.uint8)))
    content[400] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be read") as caught:
        pages_of(tmp_path / "a.png")
    assert "damaged or cut off" in caught.value.hint


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_what_is_encoded_is_what_opencv_decodes(rng, dtype, shape):
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    decoded = cv2.imdecode(np.frombuffer(encode_png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded[..., ::-1] if len(shape) == 3 else decoded, pixels)


def test_chunks_stand_before_the_pixels_and_change_none(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    physical = png_chunk(b"pHYs", struct.pack(">IIB", 5000, 2500, 1))
    (tmp_path / "a.png").write_bytes(encode_png(pixels, physical))

    header = read_png_header(tmp_path / "a.png")

    assert (header.size, header.pixel_size.png_chunk, header.has_palette) == ((5, 7), physical, False)
    np.testing.assert_array_equal(pages_of(tmp_path / "a.png"), [pixels[None]])
