from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import tifffile

from unetcli.data.formats.images import open_image
from unetcli.data.formats.tif import PixelSize, open_tif
from unetcli.errors import DataError


@pytest.fixture
def stack(rng):
    return rng.integers(0, 256, (5, 20, 30), dtype=np.uint8)


def pages_of(path):
    with open_tif(path) as tif:
        pages = [tif.read(i) for i in range(len(tif.sizes))]
        assert [page.shape[1:] for page in pages] == list(tif.sizes)
    return pages


def one_header(path):
    """Cut the chain after the first header, as ImageJ leaves it for large stacks."""
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.offset
    content = bytearray(path.read_bytes())
    (num_tags,) = struct.unpack_from("<H", content, offset)
    struct.pack_into("<I", content, offset + 2 + 12 * num_tags, 0)
    path.write_bytes(content)


def without_byte_counts(path, pixels, **options):
    tifffile.imwrite(path, pixels, **options)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.tags["StripByteCounts"].offset
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, offset, 65000)  # another tag in its place
    path.write_bytes(content)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd", "lzma", "deflate"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f4", "<i2"])
def test_pages_keep_values_and_type_whatever_the_compression(tmp_path, stack, compression, dtype):
    pixels = stack.astype(dtype) * 3
    order = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(dtype), compression=compression, byteorder=order)

    pages = pages_of(tmp_path / "a.tif")

    assert all(page.dtype == np.dtype(dtype).newbyteorder("=") for page in pages)
    np.testing.assert_array_equal(pages, pixels[:, None])


@pytest.mark.parametrize(
    ("axes", "options"),
    [("ZYX", {"imagej": True}), ("TYX", {"imagej": True}), ("ZYX", {"ome": True}), ("QYX", {}), ("IYX", {})],
)
def test_stacks_are_pages_however_their_axis_is_called(tmp_path, stack, axes, options):
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": axes}, **options)
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), stack[:, None])


@pytest.mark.parametrize("shape", [(1, 1, 20, 30), (5, 1, 20, 30), (1, 5, 20, 30), (1, 5, 1, 20, 30)])
def test_axes_of_size_one_hide_no_page(tmp_path, stack, shape):
    pixels = stack[: max(shape[:-2])]
    tifffile.imwrite(tmp_path / "a.tif", pixels.reshape(shape), photometric="minisblack")
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), pixels[:, None])


def test_a_stack_under_one_header_is_read_page_by_page(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack.astype(">u2"), imagej=True, byteorder=">", metadata={"axes": "ZYX"})
    tifffile.imwrite(path, stack.astype("<u2"), imagej=True, byteorder="<", metadata={"axes": "ZYX"})
    one_header(path)

    pages = pages_of(path)

    assert pages[0].dtype == np.uint16
    np.testing.assert_array_equal(pages, stack[:, None])


def test_a_stack_under_one_header_that_is_cut_off_is_refused(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    one_header(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"1 of 5 pages can be read"):
        pages_of(path)


@pytest.mark.parametrize(
    ("axes", "options"), [("ZCYX", {"imagej": True}), ("ZCYX", {"ome": True}), ("CZYX", {"ome": True})]
)
def test_a_channel_axis_becomes_the_channels_of_a_page(tmp_path, rng, axes, options):
    pixels = rng.integers(0, 999, (4, 2, 20, 30), dtype=np.uint16)  # Z C Y X
    written = pixels if axes == "ZCYX" else pixels.swapaxes(0, 1)
    tifffile.imwrite(tmp_path / "a.tif", written, metadata={"axes": axes}, **options)
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_become_channels_and_declared_alpha_is_left_out(tmp_path, rng, planar):
    pixels = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    written = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", written, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"], metadata=None
    )
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), [np.moveaxis(pixels, 2, 0)[:3]])


def test_extra_samples_that_are_not_alpha_are_channels(tmp_path, rng):
    pixels = rng.random((20, 30, 5), dtype=np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"] * 2)
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), [np.moveaxis(pixels, 2, 0)])


def test_a_palette_becomes_its_colours_but_imagejs_keeps_the_values(tmp_path, stack):
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256) % 256 * 257
    tifffile.imwrite(tmp_path / "a.tif", stack[0], photometric="palette", colormap=colours)
    tifffile.imwrite(tmp_path / "b.tif", stack[0], photometric="palette", colormap=colours, metadata=None,
                     description="ImageJ=1.54f\nimages=1\n")  # fmt: skip

    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif")[0], (colours // 257)[:, stack[0]])
    np.testing.assert_array_equal(pages_of(tmp_path / "b.tif")[0], stack[:1])


def test_white_is_zero_changes_no_value(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack[0], photometric="miniswhite")
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif")[0], stack[:1])


def test_pages_of_different_sizes_are_all_read(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(stack[0], metadata=None)
        tif.write(stack[1, :10, :15], metadata=None)
        tif.write(stack[2, :7, :9], metadata=None)

    pages = pages_of(tmp_path / "a.tif")

    assert [page.shape for page in pages] == [(1, 20, 30), (1, 10, 15), (1, 7, 9)]
    np.testing.assert_array_equal(pages[1][0], stack[1, :10, :15])


def test_the_lower_levels_of_a_pyramid_are_not_pages(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(stack[0], subifds=1, metadata=None)
        tif.write(stack[0, ::2, ::2], subfiletype=1, metadata=None)
    with tifffile.TiffWriter(tmp_path / "b.tif") as tif:
        tif.write(stack[0], metadata=None)
        tif.write(stack[0, ::2, ::2], subfiletype=1, metadata=None)

    assert [page.shape for page in pages_of(tmp_path / "a.tif")] == [(1, 20, 30)]
    assert [page.shape for page in pages_of(tmp_path / "b.tif")] == [(1, 20, 30)]


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
def test_an_image_of_a_single_row_or_column_is_read(tmp_path, rng, shape):
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), [pixels[None]])


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3, 20, 30), {"photometric": "minisblack"}),
        ((5, 20, 30), {"metadata": {"axes": "HYX"}}),
        ((2, 20, 30, 3), {"ome": True, "metadata": {"axes": "CYXS"}, "photometric": "rgb"}),
        ((16, 32, 32), {"volumetric": True, "tile": (16, 16, 16)}),
    ],
)
def test_axes_that_cannot_be_told_into_pages_and_channels_are_refused(tmp_path, shape, options):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), **options)
    with pytest.raises(DataError, match=r"a\.tif: has (axes|images of axes)"):
        pages_of(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 8, 8), np.complex64), "page 1 of 2: has values of type complex64, but must be integers"),
        (
            np.array([np.zeros((8, 8)), np.where(np.eye(8, k=3), np.inf, 0)], np.float32),
            "page 2 of 2: is NaN or infinite in 5 px, the first at row 0, column 3",
        ),
    ],
)
def test_values_that_no_network_takes_are_refused_with_the_page(tmp_path, pixels, message):
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(DataError, match=message):
        pages_of(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw"},
        {"imagej": True},
        {"ome": True},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"metadata": None},
        {"metadata": None, "compression": "lzw"},
    ],
)
def test_a_file_cut_off_anywhere_is_refused_or_complete(tmp_path, stack, options, capfd):
    whole, path = tmp_path / "whole.tif", tmp_path / "a.tif"
    tifffile.imwrite(whole, stack, photometric="minisblack", **({"metadata": {"axes": "ZYX"}} | options))
    content = whole.read_bytes()
    refused = 0
    lengths = range(0, len(content), 97)
    for length in lengths:
        path.write_bytes(content[:length])
        try:
            pages = pages_of(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 - refusing is one of two right answers
            refused += 1
        else:
            np.testing.assert_array_equal(pages, stack[:, None])
    assert refused > 0.9 * len(lengths)
    assert capfd.readouterr() == ("", "")


def test_damaged_bytes_raise_nothing_but_a_data_error(tmp_path, stack, rng, capfd):
    whole, path = tmp_path / "whole.tif", tmp_path / "a.tif"
    tifffile.imwrite(whole, stack, compression="zlib", imagej=True)
    content = np.frombuffer(whole.read_bytes(), np.uint8)
    refused = 0
    for _ in range(200):
        damaged = content.copy()
        places = np.concatenate([rng.integers(4, 400, 3), rng.integers(4, len(content), 3)])
        damaged[places] = rng.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        try:
            with open_image(path) as image:
                for index in range(min(image.num_pages, 10)):
                    assert image.read(index).shape[1:] == image.page_sizes[index]
        except DataError:
            refused += 1
    assert refused > 100
    assert capfd.readouterr() == ("", "")


def test_errors_that_tifffile_only_logs_are_refused(tmp_path, stack, capfd):
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content.replace(b"<Pixels", b"<?ixels"))
    with pytest.raises(DataError, match=r"a\.tif: damaged or cut off \(OME series raised"):
        pages_of(tmp_path / "a.tif")

    without_byte_counts(tmp_path / "b.tif", stack[0], compression="zlib")
    with pytest.raises(DataError, match=r"b\.tif: damaged or cut off \(missing ByteCounts tag\)"):
        pages_of(tmp_path / "b.tif")
    without_byte_counts(tmp_path / "c.tif", stack[0], rowsperstrip=5)
    with pytest.raises(DataError, match=r"c\.tif: damaged or cut off \(incorrect StripByteCounts count \(1 != 4\)\)"):
        pages_of(tmp_path / "c.tif")
    assert capfd.readouterr() == ("", "")


def test_byte_counts_that_the_size_of_the_image_tells_may_be_missing(tmp_path, stack, capfd):
    without_byte_counts(tmp_path / "a.tif", stack[0])
    np.testing.assert_array_equal(pages_of(tmp_path / "a.tif"), stack[:1, None])
    assert capfd.readouterr() == ("", "")


def test_a_damaged_page_is_named_and_those_before_it_are_read(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset = tif.pages[3].dataoffsets[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset : offset + 20] = b"\xff" * 20
    (tmp_path / "a.tif").write_bytes(content)

    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(2), stack[2:3])
        with pytest.raises(DataError, match=r"a\.tif: page 4 of 5: cannot be read"):
            image.read(3)


@pytest.mark.parametrize("is_one_header", [False, True])
def test_memory_holds_one_page_at_a_time(tmp_path, rng, is_one_header):
    pixels = rng.integers(0, 256, (20, 256, 256), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=is_one_header, metadata={"axes": "ZYX"})
    if is_one_header:
        one_header(tmp_path / "a.tif")
    with open_image(tmp_path / "a.tif") as image:
        image.read(0)
        tracemalloc.start()
        sums = [int(page.sum()) for page in image]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert sums == pixels.sum(axis=(1, 2)).tolist()
    assert peak < 5 * 256 * 256


def test_pixel_size_is_kept_as_it_stands(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=((3, 7), (5, 11)),
        metadata={"axes": "ZYX", "spacing": 2.5, "unit": "um"},
    )  # fmt: skip
    tifffile.imwrite(tmp_path / "b.tif", stack, resolution=((72, 1), (72, 1)), resolutionunit="inch")

    with open_tif(tmp_path / "a.tif") as tif:
        size = tif.pixel_size
    assert (size.resolution, size.unit, size.slices) == (((3, 7), (5, 11)), 1, 5)
    assert size.imagej is not None
    assert set(size.imagej) == {"spacing=2.5", "unit=um"}
    with open_tif(tmp_path / "b.tif") as tif:
        size = tif.pixel_size
    assert (size.resolution, size.unit, size.imagej) == (((72, 1), (72, 1)), 2, None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("unit=nm",), (0.008, 0.004)),
        (("spacing=2", "unit=micron"), (8, 4)),
        (("unit=\\u00B5m",), (8, 4)),
        (("unit=um", "yunit=mm"), (8000, 4)),
        (("unit=pixel",), None),
        (("spacing=2",), None),
        (None, None),
    ],
)
def test_micrometres_are_told_by_the_unit_of_imagej_alone(lines, expected):
    resolution = ((1, 4), (1, 8))
    told = PixelSize(resolution, unit=3, imagej=lines).micrometres
    assert told == (expected and pytest.approx(expected))
    assert PixelSize(None, imagej=lines).micrometres is None


@pytest.mark.parametrize(
    ("axes", "shape", "options"),
    [("ZCYX", (2, 3, 8, 9), {"imagej": True}), ("TYXS", (2, 8, 9, 3), {"imagej": True}), ("YX", (8, 9), {})],
)
def test_the_layout_is_told_as_the_file_calls_it(tmp_path, axes, shape, options):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), metadata={"axes": axes}, **options)
    with open_tif(tmp_path / "a.tif") as tif:
        assert tif.layout == tuple(zip(axes, shape, strict=True))


@pytest.mark.parametrize(
    ("name", "num_pages", "shape", "dtype", "extremes"),
    [
        ("12in16bit.tif", 1, (1, 100, 100), "uint16", (0, 30)),
        ("10ct_32bit_128.tiff", 1, (1, 128, 128), "float32", None),
        ("tiff_tiled_planar_lzw.tiff", 1, (3, 374, 278), "uint8", (0, 255)),
        ("hopper_lzw.tif", 1, (3, 128, 128), "uint8", (0, 255)),
        ("shapes_multi_size.tif", 2, (3, 72, 128), "uint8", None),
        ("shapes_hyper.tif", 1, (7, 72, 128), "float32", None),
        ("mri.tif", 27, (3, 128, 128), "uint8", None),
        ("int16.tif", 1, (1, 64, 64), "int16", (-5000, 4998)),
        ("random-fp16.tiff", 1, (1, 16, 16), "float16", None),
        ("BigTIFFMotorola.tif", 1, (3, 64, 64), "uint8", None),
        ("gradient-1c-64b.tiff", 1, (1, 1, 256), "uint64", (3837672, 4287516159)),
        ("chessboard_GRAY_U16B.tif", 1, (1, 200, 200), "uint16", (0, 255)),
        ("mask3d.tif", 31, (1, 61, 57), "uint16", None),
        ("multipage_single_frame_loop.tiff", 1, (3, 10, 10), "uint8", None),
    ],
)
def test_odd_files_are_read(real_data, name, num_pages, shape, dtype, extremes, capfd):
    pages = pages_of(real_data / "odd" / name)

    assert len(pages) == num_pages
    assert (pages[0].shape, str(pages[0].dtype)) == (shape, dtype)
    if extremes:
        assert (pages[0].min(), pages[0].max()) == extremes
    assert capfd.readouterr() == ("", "")
