"""The membrane stack: layouts that are found, and stacks that are refused with what is wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile

from unetcli.data.sources.isbi import read_isbi
from unetcli.errors import DataError


@pytest.fixture
def volume(rng):
    return rng.integers(0, 255, (4, 12, 10), dtype=np.uint8)


@pytest.fixture
def labels(rng):
    return rng.integers(0, 2, (4, 12, 10), dtype=np.uint8) * 255


@pytest.fixture
def stack(tmp_path):
    """A function that writes the two stacks and gives their folder."""

    def write(volume, labels):
        tifffile.imwrite(tmp_path / "train-volume.tif", volume, photometric="minisblack")
        tifffile.imwrite(tmp_path / "train-labels.tif", labels, photometric="minisblack")
        return tmp_path

    return write


def write_pages(folder, volume, numbers, suffix=".png"):
    folder.mkdir(parents=True)
    for number, page in zip(numbers, volume, strict=True):
        encoded = cv2.imencode(suffix, page)[1]
        (folder / f"{number}{suffix}").write_bytes(encoded.tobytes())


def test_stacks_become_cases_in_order(stack, volume, labels):
    read = read_isbi(stack(volume, labels))

    assert [case.id for case in read.cases] == ["slice-000", "slice-001", "slice-002", "slice-003"]
    np.testing.assert_array_equal(np.stack([case.image for case in read.cases]), volume[:, None])
    np.testing.assert_array_equal(np.stack([case.labels for case in read.cases]), labels // 255)
    assert [(info.index, info.name, info.source_values) for info in read.classes] == [
        (0, "membrane", (0,)),
        (1, "cell", (255,)),
    ]
    assert read.warnings == ()
    assert read.spacing is None


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32])
def test_0_and_1_mean_what_0_and_255_mean(stack, volume, labels, dtype):
    expected = read_isbi(stack(volume, labels))
    read = read_isbi(stack(volume, (labels // 255).astype(dtype)))
    for ours, theirs in zip(read.cases, expected.cases, strict=True):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert read.classes[1].source_values == (1,)


@pytest.mark.parametrize("root", ["train", ""])
@pytest.mark.parametrize("plural", ["", "s"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_folders_of_pages_are_read_in_the_order_of_their_numbers(tmp_path, volume, labels, root, plural, suffix):
    numbers = [0, 9, 10, 100]
    write_pages(tmp_path / root / f"image{plural}", volume, numbers, suffix)
    write_pages(tmp_path / root / f"label{plural}", labels, [f"label_{n}" for n in numbers])
    (tmp_path / root / f"image{plural}" / "._9.png").write_bytes(b"left by another system")

    read = read_isbi(tmp_path)

    assert [case.id for case in read.cases] == ["slice-000", "slice-009", "slice-010", "slice-100"]
    np.testing.assert_array_equal(np.stack([case.image[0] for case in read.cases]), volume)
    np.testing.assert_array_equal(np.stack([case.labels for case in read.cases]), labels // 255)


def test_16_bit_and_finite_float_keep_their_type(stack, volume, labels):
    for pixels in (volume.astype(np.uint16) * 200, volume.astype(np.float32) / 7):
        cases = read_isbi(stack(pixels, labels)).cases
        assert cases[0].image.dtype == pixels.dtype
        np.testing.assert_array_equal(cases[2].image[0], pixels[2])


def test_nan_is_refused_with_its_place(stack, volume, labels):
    pixels = volume.astype(np.float32)
    pixels[2, 3, 4] = np.nan
    with pytest.raises(DataError, match="page 3 of 4: is NaN or infinite in 1 px, the first at row 3, column 4"):
        read_isbi(stack(pixels, labels))
    with pytest.raises(DataError, match=r"train-labels\.tif: page 3 of 4: is NaN or infinite in 1 px"):
        read_isbi(stack(volume, pixels))


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (np.float64, "images are float64, but must be one of uint8"),
        (np.int32, "images are int32, but must be one of uint8"),
        (np.complex64, "has values of type complex64, but must be integers or real numbers"),
    ],
)
def test_other_types_are_refused_with_the_allowed(stack, volume, labels, dtype, message):
    with pytest.raises(DataError, match=message):
        read_isbi(stack(volume.astype(dtype), labels))


def test_label_values_between_are_refused_with_values_and_place(stack, volume, labels):
    labels[1:] = 0
    labels[1, 2, 3] = 17
    labels[3, 2, 3:5] = 200
    with pytest.raises(
        DataError, match=r"17 \(1 px\), 200 \(2 px\) .* first 17 is on page 2 of 4 at row 2, column 3"
    ) as caught:
        read_isbi(stack(volume, labels))
    assert "JPEG" in caught.value.hint


def test_labels_that_are_jpeg_are_refused(stack, volume, labels):
    folder = stack(volume[:1], labels[:1])
    (folder / "train-labels.tif").write_bytes(cv2.imencode(".jpg", labels[0])[1].tobytes())
    with pytest.raises(DataError, match=r"train-labels\.tif: is a JPEG, but a mask must hold exactly the values"):
        read_isbi(folder)


def test_label_values_are_told_without_naming_what_is_not_there(stack, volume, labels):
    with pytest.raises(DataError, match=r"hold 7 \(480 px\); the first 7 is on page 1 of 4 at row 0, column 0"):
        read_isbi(stack(volume, np.full_like(labels, 7)))


def test_1_and_255_in_one_stack_are_refused(stack, volume, labels):
    labels[2] //= 255
    with pytest.raises(DataError, match=r"labels must be 0 and 255, or 0 and 1, but hold 1 \("):
        read_isbi(stack(volume, labels))


@pytest.mark.parametrize("value", [0, 255])
def test_labels_of_one_class_alone_are_refused(stack, volume, labels, value):
    with pytest.raises(DataError, match=f"labels hold nothing but {value}"):
        read_isbi(stack(volume, np.full_like(labels, value)))


def test_blank_slices_are_warned_of(stack, volume, labels):
    volume[1] = 40
    labels[2] = 255
    assert read_isbi(stack(volume, labels)).warnings == (
        "1 of 4 images is blank: slice-001",
        "1 of 4 label slices holds nothing but cell: slice-002",
    )


def test_counts_and_sizes_must_agree(stack, volume, labels):
    with pytest.raises(DataError, match=r"train-labels\.tif: has 3 pages, but train-volume\.tif has 4"):
        read_isbi(stack(volume, labels[:3]))
    with pytest.raises(
        DataError, match=r"train-labels\.tif: labels are 11 x 10 px, but train-volume\.tif is 12 x 10 px"
    ):
        read_isbi(stack(volume, labels[:, 1:]))


def test_pages_of_a_folder_must_agree_with_each_other(tmp_path, volume, labels):
    write_pages(tmp_path / "image", [*volume[:3], volume[3, 1:]], range(4))
    write_pages(tmp_path / "label", [*labels[:3], labels[3, 1:]], range(4))
    with pytest.raises(DataError, match=r"3\.png: is 11 x 10 px uint8, but 0\.png is 12 x 10 px uint8"):
        read_isbi(tmp_path)


def test_a_page_without_labels_is_named(tmp_path, volume, labels):
    write_pages(tmp_path / "image", volume, range(4))
    write_pages(tmp_path / "label", labels[:3], range(3))
    with pytest.raises(DataError, match=r"label: holds no page for 1 of the 4 in .*image: 3\.png"):
        read_isbi(tmp_path)


def test_two_pages_of_one_number_are_refused(tmp_path, volume, labels):
    write_pages(tmp_path / "image", volume, ["1", "01", "2", "3"])
    write_pages(tmp_path / "label", labels, range(4))
    with pytest.raises(DataError, match=r"1\.png: has the same number as 01\.png"):
        read_isbi(tmp_path)


def test_a_missing_source_says_what_was_looked_for(tmp_path, volume):
    with pytest.raises(DataError, match=r"nowhere: no such folder.*train-volume\.tif.*train/image"):
        read_isbi(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found notes\.txt"):
        read_isbi(tmp_path)
    tifffile.imwrite(tmp_path / "train-volume.tif", volume, photometric="minisblack")
    with pytest.raises(DataError, match=r"holds no train-labels\.tif"):
        read_isbi(tmp_path)


def test_the_published_stack_is_read(real_data):
    read = read_isbi(real_data / "isbi2012")
    assert len(read.cases) == 30
    assert read.cases[0].image.shape == (1, 512, 512)
    assert read.warnings == ()
    assert np.mean([case.labels for case in read.cases]) == pytest.approx(0.78, abs=0.005)


def test_a_stack_of_blank_slices_alone_is_refused(stack, volume, labels):
    with pytest.raises(DataError, match="all 4 images are blank"):
        read_isbi(stack(np.full_like(volume, 7), labels))
