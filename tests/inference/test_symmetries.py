from __future__ import annotations

import itertools

import numpy as np
import pytest
from predictors import blur, valid_box

from unetcli.inference import Symmetries, TilePlan, over_symmetries, predict_image, predict_labels, symmetries_of


def sided(axis):
    """A predictor that knows left from right by its place: half of each tile is class 1 or 2, where it is not 0."""

    def predictor(tiles):
        scores = np.zeros((len(tiles), 3, *tiles.shape[2:]), dtype=np.float32)
        inside = tiles[:, 0] > 0
        middle = tiles.shape[axis + 2] // 2
        first = np.zeros(tiles.shape[2:], dtype=bool)
        first[(slice(None),) * axis + (slice(0, middle),)] = True
        scores[:, 0], scores[:, 1], scores[:, 2] = ~inside, inside & first, inside & ~first
        return scores

    return predictor


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_symmetries_are_all_different_and_undone(rng, ndim):
    seen = []
    tiles = rng.random((2, 1, *[5] * ndim), dtype=np.float32)

    scores = over_symmetries(lambda turned: seen.append(turned) or turned, symmetries_of(ndim))(tiles)

    np.testing.assert_allclose(scores, tiles, rtol=1e-6)
    assert len(seen) == {1: 2, 2: 8, 3: 8}[ndim]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize(("tile", "margin"), [((24, 24), 0), ((24, 24), 4), ((16, 24), 0)])
def test_augmentation_leaves_an_equivariant_predictor_as_it_is(rng, tile, margin):
    image = rng.random((2, 50, 41), dtype=np.float32)
    plan = TilePlan.with_share(tile, 0.25, "gaussian", 3, margin)
    predictor = valid_box(margin) if margin else blur(5, "constant")

    plain = predict_image(image, predictor, plan)

    np.testing.assert_allclose(predict_image(image, predictor, plan, tta=True), plain, rtol=1e-5)


def test_augmentation_of_another_predictor_is_the_mean_over_the_eight_by_hand():
    image = np.array([[[1, 2], [3, 4]]], dtype=np.float32)

    def first_pixel(tiles):
        """Marks the first pixel with its value, and nothing else."""
        scores = np.zeros_like(tiles)
        scores[:, :, 0, 0] = tiles[:, :, 0, 0]
        return scores

    scores = predict_image(image, first_pixel, TilePlan.with_share((2, 2), 0, "constant", 1), tta=True)

    # each pixel is the first one in 2 of the 8
    np.testing.assert_array_equal(scores, image / 4)


def test_augmentation_in_3d_is_the_mean_over_the_mirrorings():
    image = np.arange(1, 28, dtype=np.float32).reshape(1, 3, 3, 3)

    def left_neighbour(tiles):
        return np.roll(tiles, 1, axis=-1)

    scores = predict_image(image, left_neighbour, TilePlan.with_share((3, 3, 3), 0, "constant", 1), tta=True)

    np.testing.assert_allclose(scores, (np.roll(image, 1, -1) + np.roll(image, -1, -1)) / 2)


@pytest.mark.parametrize(
    ("ndim", "axes", "expected"),
    [
        (2, None, 8),
        (2, (0, 1), 8),
        (2, (1,), 2),
        (2, (), 1),
        (3, None, 8),
        (3, (1, 2), 4),
        (3, (2,), 2),
        (1, None, 2),
    ],
)
def test_forms_are_counted(ndim, axes, expected):
    assert len(symmetries_of(ndim, axes=axes)) == expected


def test_only_allowed_axes_are_mirrored():
    assert symmetries_of(3, axes=(2, 0)).forms == ((0, ()), (0, (0,)), (0, (2,)), (0, (0, 2)))


def test_an_image_with_sides_is_only_mirrored():
    symmetries = symmetries_of(2, lateral_axis=1, pairs=(0, 2, 1))

    assert symmetries == Symmetries(((0, ()), (0, (0,)), (0, (1,)), (0, (0, 1))), 1, (0, 2, 1))


def test_classes_without_twins_are_as_no_pairs():
    assert symmetries_of(2, lateral_axis=1, pairs=(0, 1, 2)) == symmetries_of(2)
    assert symmetries_of(3, pairs=(0, 1)) == symmetries_of(3)


@pytest.mark.parametrize(("size", "axis"), [((6, 8), 1), ((6, 8), 0), ((4, 6, 8), 2), ((4, 6, 8), 0)])
def test_left_stays_left_and_right_stays_right(rng, size, axis):
    tiles = (rng.random((2, 1, *size)) > 0.3).astype(np.int16)
    symmetries = symmetries_of(len(size), lateral_axis=axis, pairs=(0, 2, 1))

    scores = over_symmetries(sided(axis), symmetries)(tiles)

    np.testing.assert_array_equal(scores, sided(axis)(tiles))
    assert scores[:, 1].sum() > 0
    assert scores[:, 2].sum() > 0


def test_without_pairs_left_and_right_would_be_mixed():
    tiles = np.ones((1, 1, 4, 4), dtype=np.float32)

    scores = over_symmetries(sided(1), symmetries_of(2, axes=(1,)))(tiles)

    np.testing.assert_array_equal(scores[:, 1:], np.full((1, 2, 4, 4), 0.5))


def test_an_axis_that_was_left_out_of_training_keeps_sides_too():
    tiles = np.ones((1, 1, 4, 4), dtype=np.float32)

    scores = over_symmetries(sided(1), symmetries_of(2, axes=(0,), lateral_axis=1, pairs=(0, 2, 1)))(tiles)

    np.testing.assert_array_equal(scores, sided(1)(tiles))


def test_labels_take_symmetries_as_scores_do(rng):
    image = rng.random((1, 12, 20), dtype=np.float32) - 0.3
    plan = TilePlan.with_share((8, 8), 0.25, "gaussian", 2)
    symmetries = symmetries_of(2, lateral_axis=1, pairs=(0, 2, 1))

    labels = predict_labels(image, sided(1), plan, symmetries=symmetries)

    np.testing.assert_array_equal(labels, predict_image(image, sided(1), plan, tta=symmetries).argmax(axis=0))
    np.testing.assert_array_equal(labels, predict_labels(image, sided(1), plan))


@pytest.mark.parametrize(
    ("ndim", "values", "message"),
    [
        (2, {"axes": (2,)}, "axes must be of 0 to 1, got 2"),
        (3, {"axes": (-1,)}, "got -1"),
        (2, {"lateral_axis": 2, "pairs": (0, 1)}, "got 2"),
        (2, {"lateral_axis": 1, "pairs": (0, 2, 3, 1)}, r"pairs must name each other, got \(0, 2, 3, 1\)"),
        (2, {"lateral_axis": 1, "pairs": (0, 3, 1)}, "pairs must name each other"),
        (2, {"pairs": (0, 2, 1)}, "side to side"),
    ],
)
def test_symmetries_out_of_range_are_named(ndim, values, message):
    with pytest.raises(ValueError, match=message):
        symmetries_of(ndim, **values)


def test_pairs_of_other_classes_than_the_predictors_are_named():
    tiles = np.ones((1, 1, 4, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="returned 3 classes; want 5"):
        over_symmetries(sided(1), symmetries_of(2, lateral_axis=1, pairs=(0, 2, 1, 4, 3)))(tiles)
