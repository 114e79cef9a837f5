"""Reading grey pages: what is accepted, and that nothing damaged or coloured passes as good."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from unetcli.data.pages import read_pages
from unetcli.errors import DataError


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits", "lzma", "deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_compression_gives_the_pixels_back(tmp_path, rng, compression, dtype):
    pixels = rng.integers(0, np.iinfo(dtype).max, (3, 17, 23), endpoint=True, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression, photometric="minisblack")

    pages = read_pages(tmp_path / "a.tif")

    assert pages.pixels.dtype == dtype
    np.testing.assert_array_equal(pages.pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_one_page(tmp_path, rng, dtype):
    pixels = rng.integers(0, np.iinfo(dtype).max, (17, 23), dtype=dtype)
    np.testing.assert_array_equal(read_pages(write_png(tmp_path / "a.png", pixels)).pixels, pixels[None])


def test_content_decides_and_not_the_suffix(tmp_path, rng):
    pixels = rng.integers(0, 255, (9, 11), dtype=np.uint8)
    path = write_png(tmp_path / "a.png", pixels).rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_pages(path).pixels, pixels[None])


@pytest.mark.parametrize("options", [{"imagej": True}, {"metadata": None}, {"bigtiff": True}, {"byteorder": ">"}])
def test_every_way_to_write_a_stack_gives_pages(tmp_path, rng, options):
    pixels = rng.integers(0, 60000, (4, 8, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, **({"photometric": "minisblack"} | options))
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, pixels)


def test_pages_written_one_by_one_are_one_stack(tmp_path, rng):
    pixels = rng.integers(0, 255, (3, 8, 9), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, page in enumerate(pixels):
            writer.write(page, photometric="minisblack", compression="zlib" if number else None)
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, pixels)


def test_pages_of_different_size_are_refused_with_both_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((8, 9), np.uint8), photometric="minisblack")
        writer.write(np.zeros((7, 9), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"page 0 is \(8, 9\) uint8, but page 1 is \(7, 9\) uint8"):
        read_pages(tmp_path / "a.tif")


def test_grey_stored_as_rgb_is_grey_and_colour_is_refused(tmp_path, rng):
    grey = rng.integers(0, 255, (9, 11), dtype=np.uint8)
    rgb = np.dstack([grey] * 3)
    np.testing.assert_array_equal(read_pages(write_png(tmp_path / "grey.png", rgb)).pixels, grey[None])
    tifffile.imwrite(tmp_path / "grey.tif", rgb, photometric="rgb")
    np.testing.assert_array_equal(read_pages(tmp_path / "grey.tif").pixels, grey[None])

    rgb[3, 4, 1] ^= 1
    tifffile.imwrite(tmp_path / "colour.tif", rgb, photometric="rgb")
    for path in (write_png(tmp_path / "colour.png", rgb), tmp_path / "colour.tif"):
        with pytest.raises(DataError, match=r"colour\.(png|tif): has 3 channels that differ"):
            read_pages(path)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("metadata", [None, {}])
def test_a_file_cut_off_anywhere_is_refused_or_still_whole(tmp_path, rng, capfd, compression, metadata):
    pixels = rng.integers(0, 255, (5, 16, 16), dtype=np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, compression=compression, metadata=metadata, photometric="minisblack")
    whole = path.read_bytes()
    refused = 0
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        try:
            read = read_pages(path).pixels
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(read, pixels)
    assert refused > len(whole) // 61 // 2
    assert capfd.readouterr() == ("", "")


def test_a_png_cut_off_or_changed_is_refused(tmp_path, rng):
    path = write_png(tmp_path / "a.png", rng.integers(0, 255, (30, 30), dtype=np.uint8))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:400] + bytes([whole[400] ^ 1]) + whole[401:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.png: damaged or cut off"):
            read_pages(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"\xff\xd8\xff\xe0abcd", "is a JPEG file"), (b"hello", "begins with b'hello'"), (b"", "empty")],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, found):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=found):
        read_pages(tmp_path / "a.tif")


def test_more_axes_than_pages_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3, 8, 9), np.uint8), imagej=True)
    with pytest.raises(DataError, match="has axes ZCYX"):
        read_pages(tmp_path / "a.tif")


def test_spacing_is_taken_from_imagej_and_not_from_dots_per_inch(tmp_path):
    pixels = np.zeros((2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, resolution=(0.25, 0.125), metadata={"unit": "nm"})
    assert read_pages(tmp_path / "a.tif").spacing == pytest.approx((0.008, 0.004))
    tifffile.imwrite(tmp_path / "b.tif", pixels, resolution=(300, 300), resolutionunit="INCH", photometric="minisblack")
    assert read_pages(tmp_path / "b.tif").spacing is None
