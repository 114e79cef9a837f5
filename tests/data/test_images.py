from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile

from unetcli.data.images import find_images, image_format, natural_key, open_image
from unetcli.errors import DataError


def pages_of(path, **options):
    with open_image(path, **options) as image:
        return list(image)


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header, *chunks, rows):
    """A PNG of hand-made chunks: IHDR fields, others, and the filtered rows."""
    body = b"".join(b"\0" + row for row in rows)
    parts = [png_chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks]
    parts += [png_chunk(b"IDAT", zlib.compress(body)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def folder(tmp_path):
    for name in ("p10.png", "p2.PNG", "p1.tif", "q.tiff", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "deep.png").touch()
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_a_folder_means_its_images_in_natural_order_and_not_those_below(folder):
    assert names(find_images([folder])) == ["p1.tif", "p2.PNG", "p10.png", "q.tiff"]


def test_patterns_are_expanded_where_the_shell_did_not(folder):
    assert names(find_images([f"{folder}/p*.[pP]*"])) == ["p2.PNG", "p10.png"]
    assert names(find_images([folder / "**" / "*.png"])) == ["deep.png", "p10.png"]


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].tif").touch()
    (tmp_path / "a1.tif").touch()
    assert names(find_images([tmp_path / "a[1].tif"])) == ["a[1].tif"]


def test_arguments_keep_their_order_and_a_file_named_twice_comes_once(folder):
    found = find_images([folder / "q.tiff", folder / "p10.png", folder])
    assert names(found) == ["q.tiff", "p10.png", "p1.tif", "p2.PNG"]


@pytest.mark.parametrize(
    ("place", "message"),
    [("none.tif", "no such file"), ("inner/empty", "no images in this folder"), ("x*.tif", "no file matches")],
)
def test_what_is_not_found_is_named(folder, place, message):
    (folder / "inner" / "empty").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        find_images([folder / "q.tiff", folder / place])
    assert str(folder / place) in str(caught.value)
    assert caught.value.exit_code == 3


def test_no_arguments_are_refused():
    with pytest.raises(DataError, match="no images given"):
        find_images([])


def test_natural_order_compares_numbers_as_numbers(tmp_path):
    paths = [tmp_path / name for name in ("b", "a", "10", "9", "a10", "A9", "a010")]
    assert [path.name for path in sorted(paths, key=natural_key)] == ["9", "10", "a", "A9", "a10", "a010", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xff\xd8\xff\xe0....", "begins with"), (b"II*", "begins with"), (None, "cannot be read")],
)
def test_what_is_neither_tif_nor_png_is_refused(tmp_path, content, message):
    path = tmp_path / "x.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        pages_of(path)
    assert str(path) in str(caught.value)


def test_content_and_not_the_suffix_tells_the_format(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    (tmp_path / "a.tif").write_bytes(imagecodecs.png_encode(pixels))
    tifffile.imwrite(tmp_path / "b.tif", pixels)
    (tmp_path / "b.tif").rename(tmp_path / "b.png")

    assert image_format(tmp_path / "a.tif") == "png"
    assert image_format(tmp_path / "b.png") == "tif"
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), [pixels[None]])
    np.testing.assert_array_equal(pages_of(tmp_path / "b.png"), [pixels[None]])


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


def test_channels_are_fitted_only_where_the_image_stays_the_same(tmp_path, rng):
    grey = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    colour = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    (tmp_path / "grey.png").write_bytes(imagecodecs.png_encode(grey))
    (tmp_path / "equal.png").write_bytes(imagecodecs.png_encode(np.stack([grey] * 3, axis=-1)))
    (tmp_path / "colour.png").write_bytes(imagecodecs.png_encode(colour))

    np.testing.assert_array_equal(pages_of(tmp_path / "equal.png", num_channels=1)[0], grey[None])
    np.testing.assert_array_equal(pages_of(tmp_path / "grey.png", num_channels=3)[0], [grey] * 3)
    with pytest.raises(DataError, match=r"colour\.png: has 3 channels, but the network takes 1"):
        pages_of(tmp_path / "colour.png", num_channels=1)
    with pytest.raises(DataError, match=r"grey\.png: has 1 channel, but the network takes 2"):
        pages_of(tmp_path / "grey.png", num_channels=2)
