"""Patches are drawn as evenly and as far as asked for, hold their target, and stay aligned with their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetcli.core.grids import mirrored_crop, place_patch
from unetcli.core.linear_maps import quarter_turn
from unetcli.core.spatial import MirrorRule, PatchShape, SpatialRanges, draw_grid

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


def offsets_of(grid):
    """Places in the image of every patch pixel, `(ndim, *patch)`."""
    start = np.array(grid.start).reshape(-1, *[1] * len(grid.start))
    if grid.coordinates is not None:
        return grid.coordinates + start
    region = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij")).astype(np.float32)
    return np.stack([grid.sample_image(axis[None])[0] for axis in region]) + start


@pytest.mark.parametrize("spacing", [None, (3.0, 1.0, 1.0)])
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_image_and_labels_of_volumes_move_together(spacing, seed):
    rng = np.random.default_rng(seed)
    labels = (ndimage.gaussian_filter(rng.random((30, 40, 44)), 3) > 0.5).astype(np.uint8)

    grid = draw_grid(EVERYTHING, PatchShape((12, 24, 20), 2), labels.shape, rng, spacing=spacing)
    image = image_patch(labels[None].astype(np.float32), grid)[0, 2:-2, 2:-2, 2:-2]
    cut = labels_patch(labels, grid, margin=2)

    assert cut.shape == (8, 20, 16)
    is_sure = np.abs(image - 0.5) > 0.39  # the nearest of eight voxels has at least an eighth of the weight
    np.testing.assert_array_equal(cut[is_sure], image[is_sure] > 0.5)


@pytest.mark.parametrize("axes", [(), (0,), (2,), (0, 1), (0, 1, 2)])
def test_only_the_axes_asked_for_are_mirrored(rng, axes):
    ranges = SpatialRanges(flip=True, flip_axes=axes)
    seen = set()
    for _ in range(100):
        grid = draw_grid(ranges, PatchShape((3, 3, 3)), (5, 5, 5), rng)
        seen.add(grid.mirrored)
        np.testing.assert_array_equal(grid.turn, np.diag([-1 if axis in grid.mirrored else 1 for axis in range(3)]))
    assert len(seen) == 2 ** len(axes)
    assert set().union(*seen) == set(axes)


def test_a_mirrored_axis_is_that_of_the_image_even_where_the_patch_is_turned(rng):
    image = np.arange(25, dtype=np.float32).reshape(1, 5, 5)
    for _ in range(50):
        grid = draw_grid(SpatialRanges(flip=True, flip_axes=(1,), quarter_turns=True), PatchShape((5, 5)), (5, 5), rng)
        mirrored = np.flip(image[0], grid.mirrored) if grid.mirrored else image[0]
        patch = image_patch(image, grid)[0]
        assert any(np.array_equal(patch, np.rot90(mirrored, times)) for times in range(4))


def test_quarter_turns_of_volumes_stay_in_the_plane_and_need_square_pixels(rng):
    ranges = SpatialRanges(quarter_turns=True)
    shape, size = PatchShape((2, 4, 4)), (5, 8, 8)
    turns = {tuple(draw_grid(ranges, shape, size, rng, spacing=(3, 1, 1)).turn.ravel()) for _ in range(100)}
    assert turns == {tuple(quarter_turn(times, 3).ravel()) for times in range(4)}
    turns = {tuple(draw_grid(ranges, shape, size, rng, spacing=(1, 1, 1.5)).turn.ravel()) for _ in range(100)}
    assert turns == {tuple(np.eye(3).ravel())}


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_turns_and_scales_of_volumes_keep_shapes_in_mm(seed):
    ranges = SpatialRanges(flip=True, affine_probability=1, rotation=180, scale=(0.5, 2))
    spacing = np.array([2.5, 0.7, 1.0])
    rng = np.random.default_rng(seed)
    turn = draw_grid(ranges, PatchShape((4, 8, 8)), (20, 20, 20), rng, spacing=spacing).turn
    in_mm = turn * spacing[:, None] / spacing
    gram = in_mm.T @ in_mm
    factor = np.cbrt(abs(np.linalg.det(in_mm)))
    np.testing.assert_allclose(gram, factor**2 * np.eye(3), atol=1e-9)
    assert 0.5 <= factor <= 2


def test_volumes_are_turned_about_every_axis_within_the_range(rng):
    ranges = SpatialRanges(affine_probability=1, rotation=20)
    turns = np.array([draw_grid(ranges, PatchShape((3, 3, 3)), (9, 9, 9), rng).turn for _ in range(400)])
    # turn = (Z) (Y) (X), so its first row and last column tell each angle
    about_y = np.degrees(np.arcsin(turns[:, 0, 2]))
    about_z = np.degrees(np.arctan2(turns[:, 1, 2], turns[:, 2, 2]))
    about_x = np.degrees(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    for angles in (about_x, about_y, about_z):
        assert -20 - 1e-9 <= angles.min() < -18
        assert 18 < angles.max() <= 20 + 1e-9


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_in_plane_leaves_slices_where_they_are(seed):
    rng = np.random.default_rng(seed)
    ranges = SpatialRanges(
        affine_probability=1,
        rotation=180,
        in_plane=True,
        scale=(0.7, 1.4),
        shear=10,
        shift=3,
        elastic_probability=1,
        elastic_std=2,
    )
    grid = draw_grid(ranges, PatchShape((4, 8, 8)), (9, 30, 30), rng, spacing=(5, 1, 1))
    slices = offsets_of(grid)[0]
    np.testing.assert_array_equal(slices, np.broadcast_to(slices[:, :1, :1], slices.shape))
    np.testing.assert_array_equal(np.diff(slices[:, 0, 0]), 1)
    assert float(slices[0, 0, 0]).is_integer()


def test_a_patch_without_displacement_is_not_deformed(rng):
    ranges = SpatialRanges(elastic_probability=1, elastic_std=0)
    image = rng.random((1, 9, 10, 11), dtype=np.float32)
    grid = draw_grid(ranges, PatchShape((4, 5, 6)), (9, 10, 11), rng)
    assert grid.coordinates is not None
    first = np.rint(offsets_of(grid)[:, 0, 0, 0]).astype(int)
    expected = mirrored_crop(image, first, (4, 5, 6))
    np.testing.assert_allclose(image_patch(image, grid), expected, atol=1e-6)


def test_displacements_are_as_far_along_thick_slices_as_across(rng):
    ranges = SpatialRanges(elastic_probability=1, elastic_std=3)
    corners = []
    for _ in range(600):
        grid = draw_grid(ranges, PatchShape((3, 6, 6)), (3, 6, 6), rng, spacing=(4, 2, 2))  # so its place is fixed
        corners.append(offsets_of(grid)[:, 0, 0, 0])
    np.testing.assert_allclose(np.std(corners, axis=0) * (4, 2, 2), 6, rtol=0.1)


@given(
    seed=st.integers(0, 10_000),
    axes=st.lists(st.tuples(st.integers(1, 12), st.integers(3, 9), st.floats(0, 0.999)), min_size=2, max_size=3),
)
def test_a_crop_holds_its_target_and_stays_inside(seed, axes):
    image_size, patch_size, shares = zip(*axes, strict=True)
    target = tuple(int(share * n) for share, n in zip(shares, image_size, strict=True))
    ranges = SpatialRanges(flip=True, quarter_turns=True)
    margin = 1

    grid = draw_grid(ranges, PatchShape(patch_size, margin), image_size, np.random.default_rng(seed), target=target)

    for start, size, place, whole in zip(grid.start, grid.size, target, image_size, strict=True):
        first, end = start + margin, start + size - margin  # of the area that has labels
        assert first <= place < end
        assert (first >= 0 and end <= whole) or (first <= 0 and end >= whole)
    labels = np.zeros(image_size, np.uint8)
    labels[target] = 1
    assert labels_patch(labels, grid, margin).any()


def test_every_place_that_holds_the_target_is_drawn(rng):
    starts = {draw_grid(SpatialRanges(), PatchShape((3, 4)), (10, 6), rng, target=(5, 1)).start for _ in range(200)}
    assert starts == {(top, left) for top in (3, 4, 5) for left in (0, 1)}


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), shares=st.tuples(*[st.floats(0, 0.999)] * 3))
def test_a_turned_patch_holds_its_target_too(seed, shares):
    image_size = np.array((24, 40, 36))
    target = (np.array(shares) * image_size).astype(int)
    ranges = SpatialRanges(flip=True, affine_probability=1, rotation=180, scale=(0.7, 1.4), shear=10, shift=8)
    shape = PatchShape((8, 16, 12), 2)

    grid = draw_grid(ranges, shape, image_size, np.random.default_rng(seed), spacing=(2, 1, 1), target=target)

    inner = offsets_of(grid)[:, 2:-2, 2:-2, 2:-2] - target[:, None, None, None]
    assert np.linalg.norm(inner, axis=0).min() < 2  # 0.7 makes steps of 1.4 px, of which half the diagonal is 1.3


def test_left_and_right_are_exchanged_and_ignored_pixels_stay():
    labels = np.array([[0, 1, 2], [3, 255, 4]], np.uint8)
    rule = MirrorRule((0, 2, 1, 3))
    np.testing.assert_array_equal(rule(labels), [[0, 2, 1], [3, 255, 4]])
    assert rule(labels).dtype == np.uint8
    assert rule.has_pairs
    assert not MirrorRule((0, 1, 2)).has_pairs


@pytest.mark.parametrize("pairs", [(0, 2, 3, 1), (1, 1), (0, 5), (0, -1)])
def test_pairs_that_are_none_are_refused(pairs):
    with pytest.raises(ValueError, match="itself or its pair"):
        MirrorRule(pairs)
