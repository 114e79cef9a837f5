"""The preview picture: sizes, outlines where classes meet, letters that OpenCV lacks, and volumes in three planes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unetcli.core.geometry import Geometry
from unetcli.data.cases import LabelledImage
from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.dataset import describe_isbi, intensity_stats
from unetcli.data.preparing.preview import COLOURS, GAP, SIDE, draw_preview, outline, preview_ids, to_grey, write_png
from unetcli.data.sources.isbi import IsbiStack

CLASSES = (
    ClassInfo(index=0, name="membrane", source_values=(0,)),
    ClassInfo(index=1, name="Zelle-ä", source_values=(255,)),
)


def test_the_outline_is_the_border_of_the_class_and_the_picture_is_kept():
    labels = np.zeros((7, 7), np.uint8)
    labels[2:5, 2:5] = 1
    picture = np.zeros((7, 7, 3), np.uint8)

    drawn = (outline(picture, labels, 2) == COLOURS[0]).all(axis=-1)

    expected = labels.astype(bool)
    expected[3, 3] = False
    np.testing.assert_array_equal(drawn, expected)
    assert not picture.any()


def test_grey_spans_the_percentiles():
    image = np.arange(10001, dtype=np.uint16).reshape(1, 73, 137) * 5
    grey = to_grey(image, intensity_stats([image]))
    assert grey.dtype == np.uint8
    assert (grey[image <= 250] == 0).all()
    assert (grey[image >= 49750] == 255).all()
    assert grey[image == 25000] == pytest.approx(127.5, abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("num_slices", "size"), [(2, (9, 5)), (7, (40, 700)), (30, (8, 8))])
def test_any_stack_has_a_preview(tmp_path, rng, dtype, num_slices, size):
    cases = tuple(
        LabelledImage(
            f"slice-{i}", (rng.random((1, *size)) * 200).astype(dtype), rng.integers(0, 2, size, dtype=np.uint8)
        )
        for i in range(num_slices)
    )
    manifest = describe_isbi(IsbiStack(cases, CLASSES, None, ()), "größe", "block", 2)

    picture = draw_preview(manifest, cases)
    write_png(tmp_path / "größe.png", picture)

    assert picture.shape[1] == 3 * 400
    assert (picture == COLOURS[0]).all(axis=-1).any()
    read = cv2.imdecode(np.fromfile(tmp_path / "größe.png", np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read, picture)


def volume(index, size=(4, 12, 24), spacing=(6.0, 1.0, 1.0), up=1.0):
    image = np.zeros((1, *size), np.int16)
    image[0, -1] = 100
    labels = np.zeros(size, np.uint8)
    labels[2:, 2:5, 5:15] = 1
    points = np.argwhere(labels).astype(np.int32)
    directions = ((0.0, 0.0, up), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    return LabelledImage(
        f"v{index}",
        image,
        labels,
        Geometry(size, spacing, direction=directions),
        points=np.column_stack([np.ones(len(points), np.int32), points]),
    )


def preview_of(*cases):
    manifest = describe_isbi(IsbiStack(cases, CLASSES, None, ()), "volumes", "block", 2)
    return draw_preview(manifest.model_copy(update={"num_axes": 3}), cases)


def planes(picture, num_cases):
    """The three panels of the last case, without the text below."""
    height = (len(picture) - 136) // num_cases
    row = picture[len(picture) - height :]
    return [row[GAP:, GAP + start : GAP + start + SIDE] for start in range(0, 3 * (SIDE + 2 * GAP), SIDE + 2 * GAP)]


def extent(mask):
    return tuple(int(where.max() - where.min() + 1) for where in np.nonzero(mask))


@pytest.mark.parametrize("up", [1.0, -1.0])
def test_a_volume_is_drawn_in_three_planes_with_its_proportions_and_its_head_up(up):
    picture = preview_of(volume(0), volume(1, up=up))
    across, front, side = planes(picture, 2)
    # 24 mm are the longest side, so a mm is 16 pixels
    assert extent((across == COLOURS[0]).all(axis=-1)) == (48, 160)
    for plane, width in ((front, 160), (side, 48)):
        outlined = (plane == COLOURS[0]).all(axis=-1)
        assert extent(outlined) == (192, width)
        first = int(np.nonzero(outlined)[0].min())
        assert first == (0 if up > 0 else 192)


def test_six_of_many_volumes_are_shown():
    cases = [volume(index) for index in range(11)]
    manifest = describe_isbi(IsbiStack(tuple(cases), CLASSES, None, ()), "volumes", "block", 2)
    assert preview_ids(manifest) == ("v0", "v2", "v4", "v6", "v8", "v10")
    assert preview_of(*cases).shape[1] == 1200


def test_a_volume_without_foreground_has_a_preview_too():
    empty = LabelledImage(
        "empty",
        np.zeros((1, 3, 4, 5), np.int16),
        np.zeros((3, 4, 5), np.uint8),
        Geometry((3, 4, 5), (1.0, 1.0, 1.0)),
        points=np.zeros((0, 4), np.int32),
    )
    assert not (preview_of(volume(0), empty)[-300:] == COLOURS[0]).all(axis=-1).any()
