"""Surface distances: exact values by hand, brute force, MedPy 0.5, and MONAI as a second source."""

from __future__ import annotations

import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from medpy.metric import binary as medpy
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from unetcli.core import surface as module
from unetcli.core.surface import bounding_box, measure_surfaces, surface, surface_distances

SPACINGS = {2: [(1.0, 1.0), (0.7, 0.7), (2.0, 0.5)], 3: [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.7, 0.7, 3.0), (3, 2, 1)]}
"""Of the fast way in each order of its axes, and of the slow way, where no two axes are alike."""


def box(shape, *slices):
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


def blobs(rng, shape, smoothness=2.0):
    """Two random masks that overlap in part and touch the border."""
    noise = gaussian_filter(rng.standard_normal(shape), smoothness)
    other = noise + 0.6 * gaussian_filter(rng.standard_normal(shape), smoothness)
    return noise > 0, other > 0


@st.composite
def pairs(draw):
    """Two masks of a few voxels with a spacing; any may be empty or full."""
    shape = draw(npst.array_shapes(min_dims=1, max_dims=4, max_side=6))
    spacing = [draw(st.sampled_from([0.5, 1.0, 2.5])) for _ in shape]
    return draw(npst.arrays(bool, shape)), draw(npst.arrays(bool, shape)), spacing


# by hand


def test_a_line_moved_by_two_voxels():
    truth, prediction = box(9, slice(2, 5)), box(9, slice(4, 7))

    # surfaces at 2 and 4, and at 4 and 6; 0.5 mm a voxel: 0, 1 from each side
    measured = measure_surfaces(prediction, truth, [0.5], tolerance=0.9)

    assert astuple(measured) == pytest.approx((1.0, 1.0, 0.5, 0.5, 0.5))


def test_the_average_distance_is_of_the_prediction_and_the_symmetric_one_of_all_surface_voxels():
    truth, prediction = box(9, slice(2, 5)), box(9, slice(4, 5))

    one_way, other_way = measure_surfaces(prediction, truth), measure_surfaces(truth, prediction)

    assert (one_way.asd, other_way.asd) == (0, 1)  # from 4 to 4; from 2 and 4 to 4
    assert one_way.assd == other_way.assd == pytest.approx(2 / 3)


def test_equal_masks_are_at_distance_0_and_agree_wholly():
    mask = box((5, 6), slice(1, 4), slice(0, 6))

    assert astuple(measure_surfaces(mask, mask, [2.0, 3.0], tolerance=0)) == (0, 0, 0, 0, 1)


def test_the_largest_distance_of_two_voxels_is_along_all_axes_in_mm():
    measured = measure_surfaces(box((4, 5, 6), 0, 0, 0), box((4, 5, 6), 1, 2, 3), [5.0, 2.0, 2.0])

    assert measured.hd == measured.hd95 == measured.asd == measured.assd == math.sqrt(25 + 16 + 36)
    assert measured.surface_dice == 0


@pytest.mark.parametrize(("distance", "share"), [(0.29, 0), (0.3, 1), (0.31, 1)])
def test_the_tolerance_itself_is_within_it_whatever_the_rounding(distance, share):
    prediction, truth = box((1, 9), 0, 1), box((1, 9), 0, 4)

    assert 3 * 0.1 > 0.3
    assert measure_surfaces(prediction, truth, [0.1, 0.1], tolerance=distance).surface_dice == share


@pytest.mark.parametrize("empty", ["prediction", "truth", "both"])
def test_nothing_has_no_distance_and_it_is_neither_0_nor_infinite(empty):
    mask, nothing = box((4, 4), 1, 1), np.zeros((4, 4), bool)
    prediction, truth = (nothing if empty in (name, "both") else mask for name in ("prediction", "truth"))

    *distances, surface_dice = astuple(measure_surfaces(prediction, truth))
    assert all(math.isnan(value) for value in distances)
    assert math.isnan(surface_dice) if empty == "both" else surface_dice == 0


def test_the_surface_is_what_has_an_open_face_and_the_image_ends_open():
    mask = np.ones((4, 5), bool)
    mask[3, 4] = False

    assert surface(mask).astype(int).tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 0]]
    assert surface(np.ones((3, 3, 3), bool)).sum() == 26


def test_the_box_holds_the_mask_and_nothing_more():
    assert bounding_box(box((9, 8, 7), slice(2, 4), slice(3, 8), 6)) == (slice(2, 4), slice(3, 8), slice(6, 7))


# properties


def by_brute_force(start, goal, spacing):
    return cdist(np.argwhere(start) * spacing, np.argwhere(goal) * spacing).min(axis=1)


@given(pairs())
@settings(max_examples=200)
def test_distances_are_those_between_all_pairs_of_voxels(pair):
    start, goal, spacing = pair
    if start.any() and goal.any():
        np.testing.assert_allclose(
            np.sort(surface_distances(start, goal, spacing)), np.sort(by_brute_force(start, goal, spacing)), atol=1e-12
        )


@given(pairs())
def test_truth_and_prediction_change_places_and_only_the_average_from_one_to_the_other_changes(pair):
    prediction, truth, spacing = pair
    one, other = measure_surfaces(prediction, truth, spacing), measure_surfaces(truth, prediction, spacing)

    for name in ("hd", "hd95", "assd", "surface_dice"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)


@given(pairs(), st.integers(0, 3))
def test_an_empty_border_changes_nothing(pair, width):
    prediction, truth, spacing = pair
    wider = [np.pad(mask, width) for mask in (prediction, truth)]

    assert astuple(measure_surfaces(*wider, spacing)) == pytest.approx(
        astuple(measure_surfaces(prediction, truth, spacing)), nan_ok=True
    )


@pytest.mark.parametrize("spacing", [*SPACINGS[2], *SPACINGS[3]], ids=str)
def test_the_fast_way_and_the_slow_one_agree(rng, monkeypatch, spacing):
    start, goal = blobs(rng, (40, 37, 33)[: len(spacing)])
    fast = surface_distances(start & ~goal, goal, spacing)
    monkeypatch.setattr(module, "EXACT", 0)

    slow = surface_distances(start & ~goal, goal, spacing)

    np.testing.assert_allclose(np.sort(fast), np.sort(slow), rtol=1e-12)


# other implementations


@pytest.mark.parametrize("spacing", [*SPACINGS[2], *SPACINGS[3]], ids=str)
@pytest.mark.parametrize("smoothness", [0.7, 3.0])
def test_all_distances_of_blobs_that_touch_the_border_are_those_of_medpy(rng, spacing, smoothness):
    assert_as_medpy(*blobs(rng, (48, 40, 36)[-len(spacing) :], smoothness), spacing)


@given(pairs())
@settings(max_examples=60)
def test_all_distances_of_any_masks_are_those_of_medpy(pair):
    prediction, truth, spacing = pair
    if prediction.any() and truth.any():
        assert_as_medpy(prediction, truth, spacing)


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        (box((30, 40, 50), 0, 0, 0), box((30, 40, 50), -1, -1, -1)),
        (box((30, 40, 50), slice(0, 3)), box((30, 40, 50), slice(20, 30), slice(5, 9))),
        (np.ones((30, 40, 50), bool), box((30, 40, 50), slice(14, 16), slice(18, 22), slice(20, 30))),
    ],
    ids=["far corners", "a slab and a bar", "all and a core"],
)
@pytest.mark.parametrize("spacing", [(2.5, 0.7, 0.7), (3.0, 2.0, 1.0)], ids=str)
def test_surfaces_that_are_far_apart_are_those_of_medpy_too(prediction, truth, spacing):
    assert_as_medpy(prediction, truth, spacing)


def assert_as_medpy(prediction, truth, spacing):
    measured = measure_surfaces(prediction, truth, spacing)
    for name in ("hd", "hd95", "asd", "assd"):
        expected = getattr(medpy, name)(prediction, truth, voxelspacing=spacing)
        assert getattr(measured, name) == pytest.approx(expected, rel=1e-6, abs=1e-9), name


@pytest.fixture(scope="module")
def monai():
    """Its functions as `measure(prediction, truth, spacing)`; it computes in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai import metrics

    def as_batch(mask):
        return torch.from_numpy(mask[np.newaxis, np.newaxis].astype(np.float32))

    def measuring(function, **options):
        def measure(prediction, truth, spacing):
            masks = as_batch(prediction), as_batch(truth)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what it will change in itself, and of empty masks
                return function(*masks, include_background=True, spacing=spacing, **options).item()

        return measure

    return {
        "hd": measuring(metrics.compute_hausdorff_distance),
        "asd": measuring(metrics.compute_average_surface_distance),
        "assd": measuring(metrics.compute_average_surface_distance, symmetric=True),
        "surface_dice": measuring(metrics.compute_surface_dice, class_thresholds=[1.6]),
        "hd95": measuring(metrics.compute_hausdorff_distance, percentile=95),
    }


@pytest.mark.parametrize("spacing", [*SPACINGS[2], *SPACINGS[3]], ids=str)
def test_distances_and_surface_dice_of_blobs_are_those_of_monai(rng, monai, spacing):
    prediction, truth = blobs(rng, (48, 40, 36)[-len(spacing) :])
    measured = measure_surfaces(prediction, truth, spacing, tolerance=1.6)

    for name in ("hd", "asd", "assd", "surface_dice"):
        assert getattr(measured, name) == pytest.approx(monai[name](prediction, truth, spacing), rel=1e-6), name


def test_the_95th_percentile_is_not_monais_since_that_is_the_larger_of_two_and_ours_of_all_distances(monai):
    """The prediction is one voxel, which the truth has too; the truth has 20 more, up to 20 mm away."""
    prediction, truth = box((1, 21), 0, 0), np.ones((1, 21), bool)

    assert monai["hd95"](prediction, truth, None) == 19  # of 0 to 20; the other direction has only a 0
    assert measure_surfaces(prediction, truth).hd95 == pytest.approx(np.percentile([0, *range(21)], 95))
    assert medpy.hd95(prediction, truth) == measure_surfaces(prediction, truth).hd95 != 19


def test_surface_dice_of_a_missed_structure_is_0_as_monais_is(monai):
    mask, nothing = box((8, 8), 3, 3), np.zeros((8, 8), bool)

    assert measure_surfaces(nothing, mask).surface_dice == monai["surface_dice"](nothing, mask, None) == 0


# refusals


@pytest.mark.parametrize("spacing", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf], [1.0] * 3])
def test_a_spacing_that_is_not_one_is_refused(spacing):
    mask = box((2, 2), 0, 0)
    with pytest.raises(ValueError, match=r"spacing must be 2 sizes in mm, got \[1"):
        measure_surfaces(mask, mask, spacing)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_that_is_not_a_distance_is_refused(tolerance):
    mask = box((2, 2), 0, 0)
    with pytest.raises(ValueError, match="tolerance must be a distance"):
        measure_surfaces(mask, mask, tolerance=tolerance)


def test_masks_of_other_types_and_shapes_are_refused():
    mask = box((2, 2), 0, 0)
    with pytest.raises(TypeError, match="truth must be boolean, got uint8"):
        measure_surfaces(mask, mask.astype(np.uint8))
    with pytest.raises(ValueError, match=r"prediction is \(2, 2\) voxels but the truth is \(2, 3\)"):
        measure_surfaces(mask, box((2, 3), 0, 0))
