"""Patches that move whole pixels are exact; all others agree with SciPy. Cutting reads no more than it must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unetcli.core.grids import mirrored_crop, place_patch, upsample_cubic
from unetcli.core.linear_maps import flips, in_voxels, magnification, quarter_turn, rotation, shear


def image_patch(image, grid):
    return grid.sample_image(mirrored_crop(image, grid.start, grid.size))


def labels_patch(labels, grid, margin=0):
    return grid.sample_labels(mirrored_crop(labels, grid.start, grid.size), margin)


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    times=st.integers(0, 3),
    rows=st.booleans(),
    columns=st.booleans(),
    corner=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_flips_turns_and_crops_equal_numpy(size, times, rows, columns, corner):
    image = np.arange(2 * 15 * 15, dtype=np.float32).reshape(2, 15, 15)
    labels = (image[0] % 251).astype(np.uint8)
    area = size if times % 2 == 0 else size[::-1]
    cut = np.s_[..., corner[0] : corner[0] + area[0], corner[1] : corner[1] + area[1]]
    axes = [axis for axis, is_flipped in ((-2, rows), (-1, columns)) if is_flipped]

    center = np.array(corner) + (np.array(area) - 1) / 2
    grid = place_patch(size, center, quarter_turn(times) @ flips((rows, columns)))

    np.testing.assert_array_equal(image_patch(image, grid), np.flip(np.rot90(image[cut], times, (1, 2)), axes))
    np.testing.assert_array_equal(labels_patch(labels, grid), np.flip(np.rot90(labels[cut], times), axes))
    assert grid.coordinates is None


def test_the_resampled_path_agrees_with_the_exact_one(rng):
    image = rng.random((1, 30, 40), dtype=np.float32)
    labels = rng.integers(0, 5, (30, 40), dtype=np.uint8)
    linear = quarter_turn(1) @ flips((True, False))
    center = (12.5, 20.0)

    exact = place_patch((15, 10), center, linear)
    resampled = place_patch((15, 10), center, linear, np.zeros((2, 3, 3)))

    assert exact.coordinates is None
    assert resampled.coordinates is not None
    np.testing.assert_allclose(image_patch(image, resampled), image_patch(image, exact), atol=1e-6)
    np.testing.assert_array_equal(labels_patch(labels, resampled), labels_patch(labels, exact))


@given(st.floats(-180, 180), st.floats(-45, 45), st.floats(0.5, 2), st.integers(0, 3))
def test_one_matrix_equals_one_map_after_the_other(degrees, lean, factor, times):
    offsets = np.array([[0.0, 3, -7.5], [1.5, -4, 2]])
    parts = [
        quarter_turn(times),
        flips((True, False)),
        rotation(degrees),
        shear(lean),
        magnification((factor, factor)),
    ]

    one_by_one = offsets
    for part in reversed(parts):
        one_by_one = part @ one_by_one

    np.testing.assert_allclose(np.linalg.multi_dot(parts) @ offsets, one_by_one, atol=1e-9)


def test_coordinates_are_center_plus_linear_map_of_the_offset():
    linear = rotation(30) @ shear(10) @ magnification((0.9, 0.9))
    grid = place_patch((5, 7), (20.25, 30.5), linear)

    assert grid.coordinates is not None
    places = grid.coordinates + np.array(grid.start)[:, None, None]
    for row, column in ((0, 0), (2, 3), (4, 1)):
        expected = (20.25, 30.5) + linear @ (row - 2, column - 3)
        np.testing.assert_allclose(places[:, row, column], expected, atol=1e-5)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_rotation_turns_like_rot90(times):
    np.testing.assert_allclose(rotation(90 * times), quarter_turn(times), atol=1e-15)


def test_magnified_content_is_larger():
    image = np.zeros((1, 61, 61), np.float32)
    image[0, 20:41, 20:41] = 1
    patch = image_patch(image, place_patch((61, 61), (30, 30), magnification((2.0, 2.0))))
    assert (patch > 0.5).sum() == pytest.approx(4 * 21 * 21, rel=0.05)


@pytest.mark.parametrize("linear", [rotation(23) @ magnification((1.1, 1.1)), rotation(-71) @ shear(12)])
def test_resampling_agrees_with_scipy(rng, linear):
    image = ndimage.gaussian_filter(rng.random((60, 60)), 2).astype(np.float32)
    labels = rng.integers(0, 9, (60, 60), dtype=np.uint8)
    center, size = np.array([29.5, 31.0]), (24, 24)
    offset = center - linear @ (11.5, 11.5)

    grid = place_patch(size, center, linear)

    expected = ndimage.affine_transform(image, linear, offset, size, order=1)
    # OpenCV rounds coordinates to 1/32 px
    np.testing.assert_allclose(image_patch(image[None], grid)[0], expected, atol=2e-3)
    expected = ndimage.affine_transform(labels, linear, offset, size, order=0)
    assert np.mean(labels_patch(labels, grid) == expected) > 0.99


@given(st.integers(1, 6), st.integers(-30, 30), st.integers(1, 40))
def test_mirroring_equals_numpy_reflect(length, start, size):
    row = np.arange(length)
    padded = np.pad(row, 100, mode="reflect")
    result = mirrored_crop(row[None], (0, start), (1, size))
    np.testing.assert_array_equal(result[0], padded[100 + start : 100 + start + size])


def test_cubic_upsampling_goes_through_its_points_and_keeps_straight_lines():
    coarse = np.array([[1.0, 5.0, -2.0], [0.0, 3.0, 8.0], [4.0, 4.0, 4.0]])
    np.testing.assert_allclose(upsample_cubic(coarse, (9, 5))[::4, ::2], coarse, atol=1e-12)
    ramp = np.tile(np.arange(7.0), (7, 1))
    middle = upsample_cubic(ramp, (25, 25))[:, 4:-4]
    np.testing.assert_allclose(middle, np.tile(np.linspace(1, 5, 17), (25, 1)), atol=1e-12)


@given(
    size=st.tuples(*[st.integers(1, 6)] * 3),
    times=st.integers(0, 3),
    is_flipped=st.tuples(*[st.booleans()] * 3),
    corner=st.tuples(*[st.integers(0, 4)] * 3),
)
def test_flips_turns_and_crops_of_volumes_equal_numpy(size, times, is_flipped, corner):
    image = np.arange(2 * 10 * 11 * 12, dtype=np.float32).reshape(2, 10, 11, 12)
    labels = (image[0] % 251).astype(np.uint8)
    area = size if times % 2 == 0 else (size[0], size[2], size[1])
    cut = (..., *(slice(first, first + length) for first, length in zip(corner, area, strict=True)))
    axes = [axis - 3 for axis in range(3) if is_flipped[axis]]

    center = np.array(corner) + (np.array(area) - 1) / 2
    grid = place_patch(size, center, quarter_turn(times, 3) @ flips(is_flipped))

    assert grid.coordinates is None
    np.testing.assert_array_equal(image_patch(image, grid), np.flip(np.rot90(image[cut], times, (2, 3)), axes))
    np.testing.assert_array_equal(labels_patch(labels, grid), np.flip(np.rot90(labels[cut], times, (1, 2)), axes))


def test_every_turn_of_a_volume_is_exact():
    volume = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    rolled = np.eye(3)[[1, 2, 0]]
    grid = place_patch((4, 2, 3), (0.5, 1, 1.5), rolled)
    assert grid.coordinates is None
    np.testing.assert_array_equal(image_patch(volume, grid)[0], volume[0].transpose(2, 0, 1))


def test_the_resampled_path_of_volumes_agrees_with_the_exact_one(rng):
    image = rng.random((2, 12, 14, 16), dtype=np.float32)
    labels = rng.integers(0, 5, (12, 14, 16), dtype=np.uint8)
    linear = quarter_turn(3, 3) @ flips((True, False, True))

    exact = place_patch((5, 8, 6), (6, 6.5, 5.5), linear)
    resampled = place_patch((5, 8, 6), (6, 6.5, 5.5), linear, np.zeros((3, 3, 3, 3)))

    assert exact.coordinates is None
    assert resampled.coordinates is not None
    np.testing.assert_array_equal(image_patch(image, resampled), image_patch(image, exact))
    np.testing.assert_array_equal(labels_patch(labels, resampled, 1), labels_patch(labels, exact, 1))


def test_resampling_of_volumes_agrees_with_scipy(rng):
    image = rng.random((30, 34, 38), dtype=np.float32)
    labels = rng.integers(0, 9, (30, 34, 38), dtype=np.uint8)
    linear = in_voxels(rotation(25, (0, 2), 3) @ rotation(-40, (1, 2), 3) @ shear(8, (0, 1), 3), (2.0, 1.0, 1.5))
    center, size = np.array([14.25, 17.5, 19.0]), (8, 10, 9)
    offset = center - linear @ (3.5, 4.5, 4)

    grid = place_patch(size, center, linear)

    expected = ndimage.affine_transform(image, linear, offset, size, order=1)
    np.testing.assert_allclose(image_patch(image[None], grid)[0], expected, atol=1e-5)
    expected = ndimage.affine_transform(labels, linear, offset, size, order=0)
    np.testing.assert_array_equal(labels_patch(labels, grid), expected)


def test_displacements_of_volumes_move_pixels_along_their_axis():
    image = np.arange(20, dtype=np.float32) * np.ones((1, 20, 20, 1), np.float32)
    displacements = np.zeros((3, 3, 3, 3))
    displacements[2] = 0.25
    displacements[0] = 2
    patch = image_patch(image, place_patch((4, 5, 6), (9.5, 9, 9.5), np.eye(3), displacements))
    np.testing.assert_allclose(patch[0], np.broadcast_to(np.arange(7, 13) + 0.25, (4, 5, 6)), atol=1e-5)


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_a_ball_of_mm_stays_a_ball_however_thick_the_slices(plane):
    spacing = np.array([3.0, 1.0, 1.5])
    linear = in_voxels(rotation(33, plane, 3), spacing)
    patch = (7, 21, 15)
    offsets = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij"))
    distances = np.linalg.norm(offsets * spacing[:, None, None, None], axis=0)

    grid = place_patch(patch, (20, 30, 40), linear)

    assert grid.coordinates is not None
    places = grid.coordinates + np.array(grid.start)[:, None, None, None] - np.array([20, 30, 40])[:, None, None, None]
    moved = np.linalg.norm(places * spacing[:, None, None, None], axis=0)
    np.testing.assert_allclose(moved, distances, atol=1e-4)
    assert np.abs(places - offsets).max() > 1


def test_a_map_without_a_turn_stays_exact_in_voxels():
    np.testing.assert_array_equal(in_voxels(np.eye(3), (0.1, 0.3, 0.7)), np.eye(3))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-12, 12), st.integers(1, 12)), min_size=1, max_size=3))
def test_mirroring_along_any_axes_equals_numpy_reflect(axes):
    whole, start, size = zip(*axes, strict=True)
    array = np.arange(2 * np.prod(whole)).reshape(2, *whole)
    padded = np.pad(array, [(0, 0), *[(30, 30)] * len(axes)], mode="reflect")
    expected = padded[(..., *(slice(30 + s, 30 + s + n) for s, n in zip(start, size, strict=True)))]
    np.testing.assert_array_equal(mirrored_crop(array, start, size), expected)


class Recorder:
    """Stands for a mapped file; counts the pixels that are asked for."""

    def __init__(self, array):
        self.array, self.shape, self.num_read = array, array.shape, 0

    def __getitem__(self, index):
        part = self.array[index]
        self.num_read += part.size
        return part


@pytest.mark.parametrize(
    ("start", "num_read"),
    [
        ((5, 5, 5), 4 * 4 * 4),
        ((-2, 5, 5), 3 * 4 * 4),  # 2, 1, 0, 1
        ((5, 38, 5), 4 * 3 * 4),
        ((-2, -2, 38), 3 * 3 * 3),
        ((-30, 5, 5), 4 * 4 * 4),
    ],
)
def test_no_more_is_read_than_the_region_shows(start, num_read):
    volume = Recorder(np.arange(2 * 40**3).reshape(2, 40, 40, 40))
    crop = mirrored_crop(volume, start, (4, 4, 4))
    assert volume.num_read == 2 * num_read
    padded = np.pad(volume.array, ((0, 0), *[(39, 39)] * 3), mode="reflect")
    np.testing.assert_array_equal(crop, padded[(..., *(slice(39 + first, 43 + first) for first in start))])


def test_upsampling_a_volume_goes_axis_by_axis(rng):
    parts = [rng.random(n) for n in (3, 4, 5)]
    size = (7, 6, 9)
    lines = [upsample_cubic(np.stack([part, part]), (2, n))[0] for part, n in zip(parts, size, strict=True)]
    expected = np.einsum("i,j,k->ijk", *lines)
    np.testing.assert_allclose(upsample_cubic(np.einsum("i,j,k->ijk", *parts), size), expected, atol=1e-12)


@given(
    seed=st.integers(0, 10_000),
    axes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7), st.floats(-30, 40)), min_size=2, max_size=3),
)
def test_a_grid_inside_the_image_gives_the_same_patch_and_reads_nothing_beyond(seed, axes):
    image_size, patch_size, center = zip(*axes, strict=True)
    rng = np.random.default_rng(seed)
    ndim = len(axes)
    image = rng.random((2, *image_size), dtype=np.float32)
    grid = place_patch(patch_size, center, rotation(25, (0, 1), ndim), rng.normal(0, 1, (ndim, *[3] * ndim)))

    inside = grid.inside(image_size)

    assert all(first >= 0 for first in inside.start)
    assert all(first + n <= n_whole for first, n, n_whole in zip(inside.start, inside.size, image_size, strict=True))
    assert all(n <= n_before for n, n_before in zip(inside.size, grid.size, strict=True))
    # in 2D places are rounded to 1/32 px, and a mirrored one to the other side
    np.testing.assert_allclose(image_patch(image, inside), image_patch(image, grid), atol=0.07 if ndim == 2 else 1e-4)


def test_labels_of_a_grid_inside_the_image_are_the_same(rng):
    labels = rng.integers(0, 256, (6, 9, 8), dtype=np.uint8)
    for _ in range(20):
        grid = place_patch((5, 6, 7), rng.uniform(-10, 15, 3), rotation(rng.uniform(0, 90), (0, 2), 3))
        inside = grid.inside(labels.shape)
        np.testing.assert_array_equal(labels_patch(labels, inside, 1), labels_patch(labels, grid, 1))


def test_grids_that_need_no_mirror_stay_as_they_are():
    resampled = place_patch((4, 4), (9, 9), rotation(30))
    assert resampled.inside((20, 20)).coordinates is resampled.coordinates
    cropped = place_patch((4, 4), (0.5, 9.5), np.eye(2))
    assert cropped.inside((20, 20)) is cropped


@pytest.mark.parametrize("displacements", [None, np.zeros((3, 3, 3, 3))])
def test_a_patch_goes_where_it_is_asked_to(rng, displacements):
    region = rng.random((2, 5, 6, 7), dtype=np.float32)
    grid = place_patch((5, 6, 7), (2, 2.5, 3), flips((True, False, True)), displacements)
    out = np.empty_like(region)
    assert grid.sample_image(region, out) is out
    np.testing.assert_array_equal(out, region[:, ::-1, :, ::-1])


def test_upsampling_fills_what_it_is_given(rng):
    coarse = rng.random((3, 4, 5), dtype=np.float32)
    out = np.empty((7, 6, 9), np.float32)
    assert upsample_cubic(coarse, (7, 6, 9), out=out) is out
    np.testing.assert_allclose(out, upsample_cubic(coarse.astype(np.float64), (7, 6, 9)), atol=1e-6)
