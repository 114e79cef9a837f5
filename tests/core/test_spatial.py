"""Patches that move whole pixels are exact; all others stay aligned with their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetcli.core.grids import mirrored_crop, place_patch, upsample_cubic
from unetcli.core.linear_maps import flips, magnification, quarter_turn, rotation, shear
from unetcli.core.spatial import PatchShape, SpatialRanges, draw_grid

EVERYTHING = SpatialRanges(
    flip=True,
    quarter_turns=True,
    affine_probability=1.0,
    rotation=180.0,
    scale=(0.8, 1.25),
    shear=10.0,
    shift=5.0,
    elastic_probability=1.0,
    elastic_std=4.0,
)


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


def test_the_default_crops_and_nothing_else(rng):
    image = rng.random((3, 20, 25), dtype=np.float32)
    for _ in range(20):
        grid = draw_grid(SpatialRanges(), PatchShape((8, 6)), (20, 25), rng)
        (top, left), (height, width) = grid.start, grid.size
        assert (height, width) == (8, 6)
        np.testing.assert_array_equal(image_patch(image, grid), image[:, top : top + 8, left : left + 6])


def test_every_crop_and_only_crops_inside_the_image_are_drawn(rng):
    starts = {draw_grid(SpatialRanges(), PatchShape((5, 5)), (7, 5), rng).start for _ in range(200)}
    assert starts == {(0, 0), (1, 0), (2, 0)}


def test_all_eight_flips_and_turns_are_drawn(rng):
    ranges = SpatialRanges(flip=True, quarter_turns=True)
    turns = {tuple(draw_grid(ranges, PatchShape((5, 5)), (9, 9), rng).turn.ravel()) for _ in range(200)}
    assert len(turns) == 8


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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_image_and_labels_move_together(seed):
    rng = np.random.default_rng(seed)
    labels = (ndimage.gaussian_filter(rng.random((90, 110)), 5) > 0.5).astype(np.uint8)

    grid = draw_grid(EVERYTHING, PatchShape((48, 40), 4), labels.shape, rng)
    image = image_patch(labels[None].astype(np.float32), grid)[0, 4:-4, 4:-4]
    cut = labels_patch(labels, grid, margin=4)

    assert cut.shape == (40, 32)
    is_sure = np.abs(image - 0.5) > 0.28  # the nearest of four pixels has at least a quarter of the weight
    assert is_sure.mean() > 0.7
    np.testing.assert_array_equal(cut[is_sure], image[is_sure] > 0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_labels_never_gain_a_value(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 7, 200], np.uint8), (50, 40))
    cut = labels_patch(labels, draw_grid(EVERYTHING, PatchShape((32, 32)), labels.shape, rng))
    assert cut.dtype == np.uint8
    assert set(np.unique(cut)) <= {0, 7, 200}


def test_a_turned_patch_has_no_empty_corners(rng):
    image = np.ones((1, 40, 40), np.float32)
    for _ in range(20):
        np.testing.assert_array_equal(image_patch(image, draw_grid(EVERYTHING, PatchShape((40, 40)), (40, 40), rng)), 1)


@pytest.mark.parametrize("part", ["affine_probability", "elastic_probability"])
def test_as_many_patches_are_resampled_as_asked_for(rng, part):
    ranges = SpatialRanges(rotation=90.0, elastic_std=1.0, **{part: 0.3})
    grids = [draw_grid(ranges, PatchShape((8, 8)), (16, 16), rng) for _ in range(1500)]
    assert np.mean([grid.coordinates is not None for grid in grids]) == pytest.approx(0.3, abs=0.04)


def test_rotation_scale_and_shift_stay_within_their_ranges(rng):
    angles, factors, shifts = [], [], []
    for _ in range(500):
        grid = draw_grid(
            SpatialRanges(affine_probability=1, rotation=20, scale=(0.5, 2), shift=3), PatchShape((9, 9)), (9, 9), rng
        )
        assert grid.coordinates is not None
        row_step, column_step = grid.turn[0]
        angles.append(np.degrees(np.arctan2(column_step, row_step)))
        factors.append(1 / np.sqrt(np.linalg.det(grid.turn)))
        shifts.append(grid.coordinates[:, 4, 4] + grid.start - 4)
    for values, low, high in ((angles, -20, 20), (factors, 0.5, 2), (shifts, -3, 3)):
        extent = high - low
        assert low - 1e-5 <= np.min(values) < low + 0.05 * extent
        assert high - 0.05 * extent < np.max(values) <= high + 1e-5


def test_shear_stays_within_its_range(rng):
    ranges = SpatialRanges(affine_probability=1, shear=30)
    turns = [draw_grid(ranges, PatchShape((9, 9)), (9, 9), rng).turn for _ in range(200)]
    leans = [np.degrees(np.arctan(turn[1, 0])) for turn in turns]
    assert -30 <= min(leans) < -27
    assert 27 < max(leans) <= 30
    for turn in turns:
        np.testing.assert_array_equal(turn - np.diag([1, 1]), [[0, 0], [turn[1, 0], 0]])


def test_the_same_seed_draws_the_same_patch(rng):
    image = rng.random((1, 64, 64), dtype=np.float32)
    first, second, other = (
        image_patch(image, draw_grid(EVERYTHING, PatchShape((32, 32)), (64, 64), np.random.default_rng(seed)))
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@given(st.integers(1, 6), st.integers(-30, 30), st.integers(1, 40))
def test_mirroring_equals_numpy_reflect(length, start, size):
    row = np.arange(length)
    padded = np.pad(row, 100, mode="reflect")
    result = mirrored_crop(row[None], (0, start), (1, size))
    np.testing.assert_array_equal(result[0], padded[100 + start : 100 + start + size])


def test_an_image_smaller_than_the_patch_is_covered_and_mirrored(rng):
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    padded = np.pad(image, ((0, 0), (20, 20), (20, 20)), mode="reflect")
    starts = set()
    for _ in range(200):
        grid = draw_grid(SpatialRanges(), PatchShape((5, 4)), (3, 4), rng)
        top, left = grid.start
        starts.add(top)
        assert left == 0
        np.testing.assert_array_equal(image_patch(image, grid), padded[:, 20 + top : 25 + top, 20:24])
    assert starts == {-2, -1, 0}


def test_the_margin_may_leave_the_image_but_the_labels_do_not(rng):
    labels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    padded = np.pad(labels, 9, mode="reflect")
    starts = set()
    for _ in range(300):
        grid = draw_grid(SpatialRanges(), PatchShape((14, 16), 4), (10, 10), rng)
        cut = labels_patch(labels, grid, margin=4)
        image = image_patch(labels[None].astype(np.float32), grid)[0]
        top, left = grid.start[0] + 4, grid.start[1] + 4
        starts.add((top, left))
        np.testing.assert_array_equal(cut, labels[top : top + 6, left : left + 8])
        np.testing.assert_array_equal(image, padded[top + 5 : top + 19, left + 5 : left + 21])
    assert starts == {(top, left) for top in range(5) for left in range(3)}


def test_elastic_displacements_have_the_deviation_asked_for(rng):
    ranges = SpatialRanges(elastic_probability=1.0, elastic_std=10.0, elastic_grid=3)
    corners, centers = [], []
    rows, columns = np.mgrid[:64, :64]
    for _ in range(400):
        grid = draw_grid(ranges, PatchShape((64, 64)), (64, 64), rng)  # as large as the image, so its place is fixed
        assert grid.coordinates is not None
        moved = grid.coordinates + np.array(grid.start)[:, None, None] - np.stack([rows, columns])
        corners.append(moved[:, 0, -1])
        centers.append(moved[:, 31:33, 31:33].mean(axis=(1, 2)))
    assert np.std(corners) == pytest.approx(10, rel=0.1)
    assert np.std(centers) == pytest.approx(10, rel=0.1)


def test_cubic_upsampling_goes_through_its_points_and_keeps_straight_lines():
    coarse = np.array([[1.0, 5.0, -2.0], [0.0, 3.0, 8.0], [4.0, 4.0, 4.0]])
    np.testing.assert_allclose(upsample_cubic(coarse, (9, 5))[::4, ::2], coarse, atol=1e-12)
    ramp = np.tile(np.arange(7.0), (7, 1))
    middle = upsample_cubic(ramp, (25, 25))[:, 4:-4]
    np.testing.assert_allclose(middle, np.tile(np.linspace(1, 5, 17), (25, 1)), atol=1e-12)


def test_mistakes_are_refused(rng):
    with pytest.raises(ValueError, match="margin of 4 px"):
        draw_grid(SpatialRanges(), PatchShape((8, 16), 4), (20, 20), rng)
    grid = place_patch((4, 4), (5.5, 5.5), np.eye(2))
    with pytest.raises(ValueError, match=r"must be \(4, 4\) px"):
        grid.sample_image(np.zeros((1, 5, 4), np.float32))
    with pytest.raises(TypeError, match="uint8, not int64"):
        grid.sample_labels(np.zeros((4, 4), np.int64))


@pytest.mark.parametrize(
    "values",
    [{"scale": (0.0, 1.0)}, {"shear": 90.0}, {"elastic_grid": 1}, {"rotation": -1.0}, {"elastic_probability": 2.0}],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        SpatialRanges(**values)
