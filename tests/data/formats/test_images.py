from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

from unetcli.data.formats.images import find_images, image_format, natural_key, open_image
from unetcli.errors import DataError


def pages_of(path, **options):
    with open_image(path, **options) as image:
        return list(image)


@pytest.fixture
def folder(tmp_path):
    for name in ("p10.png", "p2.PNG", "p1.tif", "p3.jpg", "p4.JPEG", "q.tiff", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "deep.png").touch()
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_a_folder_means_its_images_in_natural_order_and_not_those_below(folder):
    assert names(find_images([folder])) == ["p1.tif", "p2.PNG", "p3.jpg", "p4.JPEG", "p10.png", "q.tiff"]


def test_patterns_are_expanded_where_the_shell_did_not(folder):
    assert names(find_images([f"{folder}/p*.[pP]*"])) == ["p2.PNG", "p10.png"]
    assert names(find_images([folder / "**" / "*.png"])) == ["deep.png", "p10.png"]


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].tif").touch()
    (tmp_path / "a1.tif").touch()
    assert names(find_images([tmp_path / "a[1].tif"])) == ["a[1].tif"]


def test_arguments_keep_their_order_and_a_file_named_twice_comes_once(folder):
    found = find_images([folder / "q.tiff", folder / "p10.png", folder])
    assert names(found) == ["q.tiff", "p10.png", "p1.tif", "p2.PNG", "p3.jpg", "p4.JPEG"]


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
    [
        (b"", "is empty"),
        (b"GIF89a..", "must be TIF, PNG or JPEG, but is a GIF file"),
        (b"PK\3\4....", "is a ZIP file"),
        (b"hello", "begins with 'hello'"),
        (b"II*", "begins with"),
        (None, "cannot be read"),
    ],
)
def test_what_is_neither_tif_nor_png_nor_jpeg_is_refused(tmp_path, content, message):
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
