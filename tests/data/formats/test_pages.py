"""Reading grey stacks for training: what is one, and that nothing coloured or unequal passes as one."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from unetcli.data.formats.pages import read_pages
from unetcli.data.formats.png import encode_png
from unetcli.errors import DataError


def save_png(path, pixels):
    path.write_bytes(encode_png(pixels))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_one_page(tmp_path, rng, dtype):
    pixels = rng.integers(0, np.iinfo(dtype).max, (17, 23), dtype=dtype)
    pages = read_pages(save_png(tmp_path / "a.png", pixels))
    assert (pages.pixels.dtype, pages.spacing) == (dtype, None)
    np.testing.assert_array_equal(pages.pixels, pixels[None])


@pytest.mark.parametrize("options", [{"imagej": True}, {"metadata": None}, {"bigtiff": True}, {"byteorder": ">"}])
def test_every_way_to_write_a_stack_gives_pages(tmp_path, rng, options):
    pixels = rng.integers(0, 60000, (4, 8, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, **({"photometric": "minisblack"} | options))
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("shape", [(4, 1, 8, 9), (1, 4, 8, 9)])
def test_axes_of_size_one_are_no_axes(tmp_path, rng, shape):
    pixels = rng.integers(0, 255, shape, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, pixels.reshape(4, 8, 9))


def test_pages_written_one_by_one_are_one_stack(tmp_path, rng):
    pixels = rng.integers(0, 255, (3, 8, 9), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, page in enumerate(pixels):
            writer.write(page, photometric="minisblack", compression="zlib" if number else None)
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX"])
def test_the_one_axis_of_a_stack_is_pages_whatever_it_is_called(tmp_path, rng, axes):
    pixels = rng.integers(0, 255, (5, 8, 9), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": axes})
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize(
    ("other", "form"), [(np.zeros((7, 9), np.uint8), "7 x 9 px uint8"), (np.zeros((8, 9), np.int16), "8 x 9 px int16")]
)
def test_pages_of_different_size_or_type_are_refused_with_both(tmp_path, other, form):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((8, 9), np.uint8), photometric="minisblack")
        writer.write(other, photometric="minisblack")
    with pytest.raises(DataError, match=rf"a\.tif: page 2 of 2: is {form}, but page 1 is 8 x 9 px uint8"):
        read_pages(tmp_path / "a.tif")


def test_grey_stored_as_rgb_is_grey_and_colour_is_refused(tmp_path, rng):
    grey = rng.integers(0, 255, (9, 11), dtype=np.uint8)
    rgb = np.dstack([grey] * 3)
    np.testing.assert_array_equal(read_pages(save_png(tmp_path / "grey.png", rgb)).pixels, grey[None])
    tifffile.imwrite(tmp_path / "grey.tif", rgb, photometric="rgb")
    np.testing.assert_array_equal(read_pages(tmp_path / "grey.tif").pixels, grey[None])

    rgb[3, 4, 1] ^= 1
    tifffile.imwrite(tmp_path / "colour.tif", rgb, photometric="rgb")
    for path in (save_png(tmp_path / "colour.png", rgb), tmp_path / "colour.tif"):
        with pytest.raises(DataError, match=r"colour\.(png|tif): has 3 channels that differ"):
            read_pages(path)


@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
@pytest.mark.parametrize("num_colours", [1, 3])
def test_alpha_is_left_out_even_if_it_is_not_declared(tmp_path, rng, extra, num_colours):
    grey, alpha = rng.integers(0, 255, (2, 9, 11), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.dstack([grey] * num_colours + [alpha]),
        photometric="rgb" if num_colours == 3 else "minisblack",
        planarconfig="contig",
        extrasamples=[extra],
    )
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif").pixels, grey[None])


def test_a_palette_of_greys_is_grey_and_one_of_colours_is_refused(tmp_path, rng):
    pixels = rng.integers(0, 255, (9, 11), dtype=np.uint8)
    greys = np.tile(np.arange(255, -1, -1, dtype=np.uint16) * 257, (3, 1))
    tifffile.imwrite(tmp_path / "grey.tif", pixels, photometric="palette", colormap=greys)
    np.testing.assert_array_equal(read_pages(tmp_path / "grey.tif").pixels, 255 - pixels[None])

    greys[1] = 0
    tifffile.imwrite(tmp_path / "colour.tif", pixels, photometric="palette", colormap=greys)
    with pytest.raises(DataError, match=r"colour\.tif: has a colour palette, so its values are not intensities"):
        read_pages(tmp_path / "colour.tif")


def test_more_axes_than_pages_are_refused(tmp_path):
    for axes, shape in (("ZCYX", (2, 3, 8, 9)), ("TZYX", (2, 3, 8, 9))):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), imagej=True, metadata={"axes": axes})
        with pytest.raises(DataError, match=rf"a\.tif: has axes {axes} of size \(2, 3, 8, 9\), but only one axis"):
            read_pages(tmp_path / "a.tif")


def test_spacing_is_taken_from_imagej_and_not_from_dots_per_inch(tmp_path):
    pixels = np.zeros((2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, resolution=(0.25, 0.125), metadata={"unit": "nm"})
    assert read_pages(tmp_path / "a.tif").spacing == pytest.approx((0.008, 0.004))
    tifffile.imwrite(tmp_path / "b.tif", pixels, resolution=(300, 300), resolutionunit="INCH", photometric="minisblack")
    assert read_pages(tmp_path / "b.tif").spacing is None
