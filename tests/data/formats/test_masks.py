from __future__ import annotations

import errno
import struct
import tracemalloc
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile

from unetcli.data.formats import masks
from unetcli.data.formats.images import open_image
from unetcli.data.formats.masks import Outputs, instance_writer, mask_writer, plan_outputs, score_writer, writing
from unetcli.errors import ConfigError, DataError


@pytest.fixture
def stack(tmp_path, rng):
    """A TIF of five pages with an uneven resolution."""
    pixels = rng.integers(0, 256, (5, 20, 30), dtype=np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, pixels, resolution=((3, 7), (5, 11)), resolutionunit="centimeter", metadata=None)
    return path


@pytest.fixture
def labels(rng):
    return rng.integers(0, 2, (5, 20, 30), dtype=np.int64)


def write_mask(path, source, labels, values=(0, 255)):
    with open_image(source) as image, mask_writer(path, image, values) as write:
        for page in labels:
            write(page)


def test_tif_masks_have_the_pages_tags_and_label_values_of_the_dataset(tmp_path, stack, labels):
    write_mask(tmp_path / "mask.tif", stack, labels)

    with tifffile.TiffFile(tmp_path / "mask.tif") as mask, tifffile.TiffFile(stack) as source:
        assert len(mask.pages) == 5
        for page, original in zip(mask.pages, source.pages, strict=True):
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            for name in ("XResolution", "YResolution", "ResolutionUnit"):
                assert page.tags[name].value == original.tags[name].value
        np.testing.assert_array_equal(mask.asarray(), labels.astype(np.uint8) * 255)


def test_other_readers_see_the_same_mask(tmp_path, stack, labels):
    write_mask(tmp_path / "mask.tif", stack, labels)

    is_read, pages = cv2.imreadmulti(str(tmp_path / "mask.tif"), flags=cv2.IMREAD_UNCHANGED)

    assert is_read
    np.testing.assert_array_equal(pages, labels * 255)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((0, 1), np.uint8), ((0, 255), np.uint8), ((7, 3), np.uint8), ((0, 256), np.uint16), ((0, 70000), np.uint32)],
)
def test_masks_have_the_smallest_type_that_holds_the_values(tmp_path, stack, labels, values, dtype):
    write_mask(tmp_path / "mask.tif", stack, labels, values)

    mask = tifffile.imread(tmp_path / "mask.tif")

    assert mask.dtype == dtype
    np.testing.assert_array_equal(mask, np.where(labels == 1, values[1], values[0]))


def test_imagej_spacing_and_unit_go_on_into_mask_and_scores(tmp_path, rng):
    pixels = rng.integers(0, 256, (2, 3, 10, 12), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, resolution=(4, 4),
        metadata={"axes": "TZYX", "spacing": 2.5, "unit": "\\u00B5m", "finterval": 0.5},
    )  # fmt: skip
    scores = rng.random((6, 3, 10, 12), dtype=np.float32)
    outputs = Outputs(tmp_path / "a.tif", tmp_path / "mask.tif", tmp_path / "scores.tif")

    with open_image(outputs.image) as image, writing(outputs, image, (0, 1, 2)) as write:
        for page in scores:
            write(page.argmax(axis=0), page)

    with tifffile.TiffFile(outputs.mask) as tif:
        assert tif.imagej_metadata is not None
        told = {key: tif.imagej_metadata[key] for key in ("slices", "frames", "spacing", "unit", "finterval")}
        assert told == {"slices": 3, "frames": 2, "spacing": 2.5, "unit": "\\u00B5m", "finterval": 0.5}
        assert tif.series[0].axes == "TZYX"
        np.testing.assert_array_equal(tif.asarray(), scores.argmax(axis=1).reshape(2, 3, 10, 12))
    with tifffile.TiffFile(outputs.scores) as tif:
        assert (tif.series[0].axes, tif.pages.first.tags["XResolution"].value) == ("TZCYX", (4, 1))
        np.testing.assert_array_equal(tif.asarray(), scores.reshape(2, 3, 3, 10, 12))


def numbered(largest):
    """Objects of two pages; the second has one of the largest number."""
    pages = np.zeros((2, 20, 30), np.int32)
    pages[0, 3:5, 7:9], pages[1, 2:9, 4:7] = 1, largest
    return pages


def write_instances(path, source, pages):
    with open_image(source) as image, instance_writer(path, image) as write:
        for page in pages:
            write(page)


@pytest.mark.parametrize(
    ("largest", "dtype"), [(2, np.uint16), (65535, np.uint16), (65536, np.uint32), (2**31 - 1, np.uint32)]
)
def test_instances_have_the_pages_of_their_image_and_as_many_bits_as_they_need(tmp_path, rng, largest, dtype):
    tifffile.imwrite(
        tmp_path / "a.tif", rng.integers(0, 256, (2, 20, 30), dtype=np.uint8), imagej=True, resolution=(4, 4),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 3},
    )  # fmt: skip

    write_instances(tmp_path / "instances.tif", tmp_path / "a.tif", numbered(largest))

    with tifffile.TiffFile(tmp_path / "instances.tif") as tif:
        found = tif.asarray()
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert (tif.imagej_metadata["unit"], tif.imagej_metadata["spacing"]) == ("um", 3)
        assert tif.pages.first.tags["XResolution"].value == (4, 1)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, numbered(largest))


def test_instances_of_a_png_are_a_tif(tmp_path):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((20, 30), np.uint8)))
    write_instances(tmp_path / "a_instances.tif", tmp_path / "a.png", numbered(2)[:1])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a_instances.tif"), numbered(2)[0])


def test_masks_and_instances_are_written_together_or_not_at_all(tmp_path, stack, labels):
    outputs = Outputs(stack, tmp_path / "m" / "mask.tif", instances=tmp_path / "m" / "instances.tif")
    scores = np.zeros((2, 20, 30), np.float32)

    with (
        pytest.raises(ValueError, match="page 1 of shape"),
        open_image(stack) as image,
        writing(outputs, image, (0, 255)) as write,
    ):
        write(labels[0], scores, np.zeros((20, 31), np.int32))
    with (  # noqa: PT012 the file is refused at its end
        pytest.raises(ValueError, match="4 pages were written for the 5"),
        open_image(stack) as image,
        writing(outputs, image, (0, 255)) as write,
    ):
        for number, page in enumerate(labels):
            write(page, scores, page.astype(np.int32) if number else None)
    assert list((tmp_path / "m").iterdir()) == []

    with open_image(stack) as image, writing(outputs, image, (0, 255)) as write:
        for page in labels:
            write(page, scores, page.astype(np.int32))
    np.testing.assert_array_equal(tifffile.imread(outputs.instances) * 255, tifffile.imread(outputs.mask))


def test_instances_below_0_are_refused(tmp_path, stack):
    with pytest.raises(ValueError, match="instances must be at least 0, got -1"):
        write_instances(tmp_path / "i.tif", stack, -numbered(1))


def test_a_unit_beyond_ascii_is_written_as_imagej_does(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8), metadata=None,
        description="ImageJ=1.54f\nimages=2\nslices=2\nunit=\u00b5m\n".encode(),
    )  # fmt: skip
    write_mask(tmp_path / "mask.tif", tmp_path / "a.tif", np.zeros((2, 5, 6), int))
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        assert "unit=\\u00B5m\n" in tif.pages.first.description


def test_of_two_classes_the_scores_are_those_of_the_last(tmp_path, stack, rng):
    scores = rng.random((5, 2, 20, 30), dtype=np.float32)
    with open_image(stack) as image, score_writer(tmp_path / "s.tif", image, 2) as write:
        for page in scores:
            write(page)

    written = tifffile.imread(tmp_path / "s.tif")

    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, scores[:, 1])


def test_of_more_classes_the_scores_are_channels_of_each_page(tmp_path, stack, rng):
    scores = rng.random((5, 3, 20, 30), dtype=np.float32)
    with open_image(stack) as image, score_writer(tmp_path / "s.tif", image, 3) as write:
        for page in scores:
            write(page)

    with tifffile.TiffFile(tmp_path / "s.tif") as tif:
        assert tif.series[0].axes == "ZCYX"
    with open_image(tmp_path / "s.tif") as image:
        np.testing.assert_array_equal(list(image), scores)


def test_png_masks_keep_the_physical_size_of_their_image(tmp_path, rng):
    chunk = b"\0\0\0\x09pHYs" + struct.pack(">IIB", 5000, 2500, 1)
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    content = bytes(imagecodecs.png_encode(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    labels = rng.integers(0, 2, (20, 30))
    outputs = Outputs(tmp_path / "a.png", tmp_path / "m" / "a.png", tmp_path / "m" / "a_scores.tif")

    with open_image(outputs.image) as image, writing(outputs, image, (0, 255)) as write:
        write(labels, np.stack([1 - labels, labels]).astype(np.float32))

    np.testing.assert_array_equal(cv2.imread(str(outputs.mask), cv2.IMREAD_UNCHANGED), labels * 255)
    with open_image(outputs.mask) as mask:
        assert mask.pixel_size.png_chunk == chunk
    with open_image(outputs.scores) as scores:
        assert scores.pixel_size.resolution == ((50, 1), (25, 1))
        assert scores.pixel_size.unit == 3
        np.testing.assert_array_equal(scores.read(0)[0], labels)


@pytest.mark.parametrize("values", [(0, 300), (0, 65535)])
def test_png_masks_of_larger_values_have_16_bits(tmp_path, values):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((4, 6), np.uint8)))
    labels = np.arange(24).reshape(4, 6) % 2
    write_mask(tmp_path / "m.png", tmp_path / "a.png", [labels], values)
    with open_image(tmp_path / "m.png") as mask:
        np.testing.assert_array_equal(mask.read(0)[0], np.asarray(values, np.uint16)[labels])


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
def test_masks_of_a_single_row_or_column_read_back(tmp_path, shape):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, *shape), np.uint8), photometric="minisblack", metadata=None)
    write_mask(tmp_path / "m.tif", tmp_path / "a.tif", np.ones((3, *shape), int))
    with open_image(tmp_path / "m.tif") as mask:
        np.testing.assert_array_equal(list(mask), np.full((3, 1, *shape), 255))


def test_masks_of_pages_of_different_sizes_have_their_sizes(tmp_path):
    sizes = [(20, 30), (10, 15), (7, 9)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for size in sizes:
            tif.write(np.zeros(size, np.uint8), metadata=None)
    write_mask(tmp_path / "m.tif", tmp_path / "a.tif", [np.ones(size, int) for size in sizes])
    with open_image(tmp_path / "m.tif") as mask:
        assert mask.page_sizes == tuple(sizes)


def test_large_files_become_bigtiff(tmp_path, stack, labels, monkeypatch):
    write_mask(tmp_path / "small.tif", stack, labels)
    monkeypatch.setattr(masks, "BIGTIFF_FROM", 2999)
    write_mask(tmp_path / "large.tif", stack, labels)

    with tifffile.TiffFile(tmp_path / "small.tif") as small, tifffile.TiffFile(tmp_path / "large.tif") as large:
        assert (small.is_bigtiff, large.is_bigtiff) == (False, True)
        np.testing.assert_array_equal(large.asarray(), small.asarray())


def test_writing_holds_no_more_than_a_few_pages(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((30, 256, 256), np.uint8), metadata=None)
    page = np.zeros((256, 256), np.uint8)
    with open_image(tmp_path / "a.tif") as image, mask_writer(tmp_path / "m.tif", image, (0, 255)) as write:
        write(page)
        tracemalloc.start()
        for _ in range(29):
            write(page)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6 * page.nbytes


@pytest.mark.parametrize("is_there", [False, True])
def test_an_interrupted_file_leaves_the_old_one_or_none(tmp_path, stack, labels, is_there):
    mask = tmp_path / "m" / "mask.tif"
    if is_there:
        mask.parent.mkdir()
        mask.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117 - what is written before is the point
        with open_image(stack) as image, mask_writer(mask, image, (0, 255)) as write:
            write(labels[0])
            raise KeyboardInterrupt
    assert [path.read_bytes() for path in mask.parent.iterdir()] == ([b"old"] if is_there else [])


def test_too_few_or_too_many_pages_leave_no_file(tmp_path, stack, labels):
    with pytest.raises(ValueError, match="4 pages were written for the 5"):
        write_mask(tmp_path / "mask.tif", stack, labels[:4])
    with pytest.raises(ValueError, match="page 6 of shape"):
        write_mask(tmp_path / "mask.tif", stack, [*labels, labels[0]])
    with pytest.raises(ValueError, match=r"page 1 of shape \(1, 20, 29\)"):
        write_mask(tmp_path / "mask.tif", stack, labels[:, :, 1:])
    assert not (tmp_path / "mask.tif").exists()


@pytest.mark.parametrize("values", [(), (0, 0), (-1, 1), (0, 2**32)])
def test_values_that_no_mask_can_have_are_refused(tmp_path, stack, labels, values):
    with pytest.raises(ValueError, match="values must be different integers"):
        write_mask(tmp_path / "mask.tif", stack, labels, values)


@pytest.mark.parametrize("bad", [-1, 2])
def test_labels_beyond_the_classes_are_refused(tmp_path, stack, labels, bad):
    labels[0, 3, 3] = bad
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.1"):
        write_mask(tmp_path / "mask.tif", stack, labels)


@pytest.mark.parametrize(("change", "message"), [(np.nan, "finite"), (None, "2 classes")])
def test_scores_that_are_not_finite_or_of_other_classes_are_refused(tmp_path, stack, change, message):
    scores = np.zeros((3 if change is None else 2, 20, 30), np.float32)
    scores[0, 0, 0] = change or 0
    with pytest.raises(ValueError, match=message):  # noqa: SIM117 - the writer needs its block
        with open_image(stack) as image, score_writer(tmp_path / "s.tif", image, 2) as write:
            write(scores)


def test_a_full_disk_is_a_data_error_that_names_the_mask(tmp_path, stack, labels, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(DataError, match=r"mask\.tif: cannot be written \(No space left on device\)"):
        write_mask(tmp_path / "mask.tif", stack, labels)
    assert [path.name for path in tmp_path.iterdir()] == ["stack.tif"]


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path, stack, labels):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"mask\.tif: cannot be written"):
        write_mask(tmp_path / "file" / "mask.tif", stack, labels)


def test_a_mask_that_lost_a_page_is_not_put_in_place(tmp_path, stack, labels, monkeypatch):
    write = tifffile.TiffWriter.write
    calls = iter(range(5))
    monkeypatch.setattr(
        tifffile.TiffWriter, "write", lambda *args, **options: None if next(calls) == 2 else write(*args, **options)
    )
    with pytest.raises(DataError, match=r"mask\.tif: was written but does not read back"):
        write_mask(tmp_path / "mask.tif", stack, labels)
    assert [path.name for path in tmp_path.iterdir()] == ["stack.tif"]


@pytest.fixture
def images(tmp_path):
    """Two files of one stem in two folders, and others."""
    for name in ("a/x.tif", "b/x.tif", "b/X.tif", "b/y.ome.tif", "b/x_scores.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, np.zeros((4, 4), np.uint8), ome=False)
    (tmp_path / "a" / "x.png").write_bytes(imagecodecs.png_encode(np.zeros((4, 4), np.uint8)))
    (tmp_path / "a" / "png.tif").write_bytes(imagecodecs.png_encode(np.zeros((4, 4), np.uint8)))
    return tmp_path


def test_outputs_are_named_after_the_stem_and_the_format_of_the_content(images):
    sources = [images / name for name in ("a/x.tif", "a/x.png", "a/png.tif", "b/y.ome.tif")]
    plan = plan_outputs(sources, images / "m")
    assert [outputs.mask.name for outputs in plan] == ["x.tif", "x.png", "png.png", "y.tif"]
    assert all(outputs.scores is None for outputs in plan)
    assert not (images / "m").exists()


@pytest.mark.parametrize(
    ("names", "more"),
    [(("a/x.tif", "b/x.tif"), ()), (("a/x.tif", "b/X.tif"), ()), (("a/x.tif", "a/x.png"), ("with_scores",)),
     (("a/x.tif", "b/x_scores.tif"), ("with_scores",)), (("a/x.tif", "a/x.png"), ("with_instances",))],
)  # fmt: skip
def test_two_images_with_one_output_are_refused_before_any_work(images, names, more):
    with pytest.raises(ConfigError, match="would be the output of both") as caught:
        plan_outputs([images / name for name in names], images / "m", **dict.fromkeys(more, True))
    assert all(str(images / name) in str(caught.value) for name in names)


def test_an_image_is_never_replaced_by_its_own_mask(images):
    with pytest.raises(ConfigError, match="is an image to segment"):
        plan_outputs([images / "a" / "x.tif"], images / "b" / ".." / "a", overwrite=True)


def test_an_output_that_is_there_is_refused_unless_it_may_be_overwritten(images):
    (images / "m").mkdir()
    (images / "m" / "x.tif").touch()
    with pytest.raises(ConfigError, match=r"x\.tif: already exists"):
        plan_outputs([images / "a" / "x.tif"], images / "m")
    (outputs,) = plan_outputs([images / "a" / "x.tif"], images / "m", with_scores=True, overwrite=True)
    assert outputs == Outputs(images / "a" / "x.tif", images / "m" / "x.tif", images / "m" / "x_scores.tif")
    (outputs,) = plan_outputs([images / "a" / "x.tif"], images / "m", with_instances=True, overwrite=True)
    assert outputs.files == (images / "m" / "x.tif", images / "m" / "x_instances.tif")


def test_the_isbi_stack_gives_masks_of_its_pages(real_data, tmp_path):
    source = real_data / "isbi2012" / "test-volume.tif"
    with open_image(source, num_channels=1) as image, mask_writer(tmp_path / "m.tif", image, (0, 255)) as write:
        for page in image:
            write((page[0] > 100).astype(np.int64))

    with tifffile.TiffFile(source) as original, tifffile.TiffFile(tmp_path / "m.tif") as mask:
        np.testing.assert_array_equal(mask.asarray(), (original.asarray() > 100) * np.uint8(255))
        for name in ("XResolution", "YResolution", "ResolutionUnit"):
            assert mask.pages.first.tags.valueof(name) == original.pages.first.tags.valueof(name)
