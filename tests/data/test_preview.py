"""The preview picture: sizes, outlines where classes meet, and letters that OpenCV lacks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unetcli.data.cases import LabelledImage
from unetcli.data.dataset import describe_isbi, intensity_stats
from unetcli.data.isbi import IsbiStack
from unetcli.data.manifest import ClassInfo
from unetcli.data.preview import COLOURS, draw_preview, outline, to_grey, write_png

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
