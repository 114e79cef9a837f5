"""JPEG files: they are read as others decode them, and what is lacking is not made up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from unetcli.data.formats.images import open_image
from unetcli.data.formats.masks import plan_outputs
from unetcli.errors import ConfigError, DataError


@pytest.fixture
def photograph(tmp_path, rng):
    """Write a JPEG of a number of channels, and give its path."""

    def photograph(name="a.jpg", channels=3, **options):
        pixels = rng.integers(0, 256, (21, 30, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert({1: "L", 3: "RGB", 4: "CMYK"}[channels])
        image.save(tmp_path / name, format="JPEG", **options)
        return tmp_path / name

    return photograph


def pages_of(path, **options):
    with open_image(path, **options) as image:
        return list(image)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"exif": b"Exif\0\0" + b"\xff\xd9" * 9}]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_one_page_as_opencv_decodes_it(photograph, channels, options):
    path = photograph(channels=channels, **options)
    decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    with open_image(path) as image:
        assert (image.format, image.page_sizes, image.layout) == ("jpeg", ((21, 30),), (("Y", 21), ("X", 30)))
        page = image.read(0)
    assert page.dtype == np.uint8
    np.testing.assert_array_equal(page, np.moveaxis(np.atleast_3d(decoded)[..., ::-1], 2, 0))


def test_channels_of_a_jpeg_are_fitted_as_those_of_any_image(photograph):
    grey = photograph(channels=1)
    (page,) = pages_of(grey, num_channels=3)
    np.testing.assert_array_equal(page, np.repeat(pages_of(grey)[0], 3, axis=0))
    with pytest.raises(DataError, match=r"b\.jpg: has 3 channels, but the network takes 1"):
        pages_of(photograph("b.jpg"), num_channels=1)


def test_a_jpeg_of_four_inks_is_refused(photograph):
    with pytest.raises(DataError, match=r"a\.jpg: has 4 channels, but a JPEG must be grey or RGB"):
        pages_of(photograph(channels=4))


@pytest.mark.parametrize("content", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_a_jpeg_that_is_cut_off_before_its_pixels_is_refused(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match="it has no end"):
        pages_of(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xd9" * 9}])
def test_a_jpeg_that_is_cut_off_is_refused(photograph, share, options):
    path = photograph(**options)
    content = path.read_bytes()
    path.write_bytes(content[: max(4, int(len(content) * share))])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read") as caught:
        pages_of(path)
    assert "damaged or cut off" in caught.value.hint


def test_what_follows_the_end_of_a_jpeg_is_no_damage(photograph):
    path = photograph()
    (page,) = pages_of(path)
    path.write_bytes(path.read_bytes() + b"more of a telephone's own")
    np.testing.assert_array_equal(pages_of(path), [page])


def test_the_mask_of_a_jpeg_is_png_whatever_it_is_called(photograph, tmp_path):
    paths = [photograph("a.jpg"), photograph("b.JPEG"), photograph("c.tif")]
    plan = plan_outputs(paths, tmp_path / "masks", with_scores=True)
    assert [outputs.mask.name for outputs in plan] == ["a.png", "b.png", "c.png"]
    assert [outputs.scores.name for outputs in plan] == ["a_scores.tif", "b_scores.tif", "c_scores.tif"]
    cv2.imwrite(str(tmp_path / "a.png"), np.eye(3, dtype=np.uint8))
    with pytest.raises(ConfigError, match=r"a\.png: would be the output of both"):
        plan_outputs([*paths, tmp_path / "a.png"], tmp_path / "masks")
