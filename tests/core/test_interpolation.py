"""Values between pixels are those that SciPy finds, however large the volume and however few its planes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unetcli.core import interpolation
from unetcli.core.interpolation import sample_linear, sample_nearest


@pytest.fixture(autouse=True, scope="module")
def short_blocks():
    """Blocks of a few places, so that small volumes have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpolation, "BLOCK", 50)
        yield


def places_in(rng, size, shape):
    """Places evenly in an array, and both ends of every axis."""
    last = np.reshape(np.array(size) - 1, (-1, *[1] * len(shape)))
    places = (rng.random((len(size), *shape)) * last).astype(np.float32)
    places.reshape(len(size), -1)[:, 0] = 0
    places.reshape(len(size), -1)[:, -1] = last.ravel()
    return places


def expected(source, places, order):
    return ndimage.map_coordinates(source, places, order=order, mode="nearest", prefilter=False)


@given(size=st.tuples(*[st.integers(1, 7)] * 3), shape=st.tuples(*[st.integers(1, 6)] * 3), seed=st.integers(0, 10_000))
def test_volumes_between_voxels_are_as_scipy_has_them(size, shape, seed):
    rng = np.random.default_rng(seed)
    volume = rng.random((2, *size), dtype=np.float32)
    labels = rng.integers(0, 256, size, dtype=np.uint8)
    places = places_in(rng, size, shape)

    patch, cut = np.empty((2, *shape), np.float32), np.empty(shape, np.uint8)
    sample_linear(volume, places, patch)
    sample_nearest(labels, places, cut)

    for channel, result in zip(volume, patch, strict=True):
        np.testing.assert_allclose(result, expected(channel, places, 1), atol=1e-6)
    np.testing.assert_array_equal(cut, expected(labels, places, 0))


def test_images_between_pixels_are_as_scipy_has_them_but_for_rounded_places(rng):
    image = ndimage.gaussian_filter(rng.random((1, 40, 50)), (0, 2, 2)).astype(np.float32)
    labels = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    places = places_in(rng, (40, 50), (30, 20))

    patch, cut = np.empty((1, 30, 20), np.float32), np.empty((30, 20), np.uint8)
    sample_linear(image, places, patch)
    sample_nearest(labels, places, cut)

    np.testing.assert_allclose(patch[0], expected(image[0], places, 1), atol=5e-3)
    np.testing.assert_array_equal(cut, expected(labels, places, 0))


@pytest.mark.parametrize("size", [(5, 6), (4, 5, 6)])
def test_numbers_of_any_kind_are_taken_from_the_nearest_pixel(rng, size):
    numbers = rng.random(size, dtype=np.float32)
    order = np.arange(numbers.size, dtype=np.uint8).reshape(size)
    places = places_in(rng, size, (7,) * len(size))
    found, indices = np.empty(places.shape[1:], np.float32), np.empty(places.shape[1:], np.uint8)
    sample_nearest(numbers, places, found)
    sample_nearest(order, places, indices)
    np.testing.assert_array_equal(found, numbers.reshape(-1)[indices])


def test_whole_places_give_the_voxels_themselves(rng):
    volume = rng.random((1, 5, 6, 7), dtype=np.float32)
    places = np.stack(np.meshgrid(*map(np.arange, (5, 6, 7)), indexing="ij")).astype(np.float32)
    patch = np.empty_like(volume)
    sample_linear(volume, places, patch)
    np.testing.assert_array_equal(patch, volume)


def test_volumes_of_more_voxels_than_float32_can_count_are_sampled_rightly():
    labels = np.zeros((257, 256, 256), np.uint8)
    labels[256, 255, 253] = 7  # its number is odd and beyond 2 ** 24
    cut = np.empty(1, np.uint8)
    sample_nearest(labels, np.array([[256], [255], [253]], np.float32), cut)
    assert cut[0] == 7
