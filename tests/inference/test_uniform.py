from __future__ import annotations

import numpy as np
import pytest

from unetcli.inference import TilePlan, once_for_uniform, predict_image, predict_labels, symmetries_of


class Counting:
    """A predictor whose scores depend on the place in the tile, and that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, tiles):
        self.calls += 1
        bias = np.random.default_rng(1).random((3, *tiles.shape[2:]), dtype=np.float32)
        return np.cos(tiles[:, :1]) + bias


def test_tiles_of_one_value_are_computed_once_and_scores_are_the_same_bit_for_bit(rng):
    image = np.full((1, 64, 48), -1, np.float32)
    image[:, :20, :20] = rng.random((20, 20), dtype=np.float32)
    plan = TilePlan((16, 16), (0, 0), "gaussian", 1)
    plain, once = Counting(), Counting()

    expected = predict_image(image, plain, plan)
    scores = predict_image(image, once_for_uniform(once), plan)

    np.testing.assert_array_equal(scores, expected)
    assert plain.calls == 12
    assert once.calls == 4 + 1


def test_mirrored_forms_of_a_tile_of_one_value_are_computed_once():
    image = np.full((1, 12, 12), 0.5, np.float32)
    plan = TilePlan((8, 8), (4, 4), "gaussian", 1)
    plain, once = Counting(), Counting()

    expected = predict_labels(image, plain, plan, symmetries=symmetries_of(2))
    labels = predict_labels(image, once_for_uniform(once), plan, symmetries=symmetries_of(2))

    np.testing.assert_array_equal(labels, expected)
    assert plain.calls == 4 * 8
    assert once.calls == 1


@pytest.mark.parametrize(
    ("values", "calls"),
    [
        ([1.0, 1.0, 1.0], 1),
        ([1.0, 2.0, 1.0], 3),  # only the last is kept
        ([0.0, -0.0, -0.0], 2),
        ([np.nan, np.nan], 1),
        ([np.inf, np.inf], 1),
    ],
)
def test_only_the_scores_of_the_last_value_are_kept(values, calls):
    counting = Counting()
    predictor = once_for_uniform(counting)

    for value in values:
        tiles = np.full((2, 1, 8, 8), value, np.float32)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(predictor(tiles), Counting()(tiles))

    assert counting.calls == calls


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 0, 0, 7), (0, 0, 7, 7), (1, 0, 3, 3), (1, 1, 0, 0)])
def test_one_other_pixel_is_enough_to_compute_a_batch(place):
    counting = Counting()
    predictor = once_for_uniform(counting)
    tiles = np.zeros((2, 2, 8, 8), np.float32)
    tiles[place] = 1e-7

    predictor(tiles)
    predictor(tiles)

    assert counting.calls == 2


def test_each_channel_has_a_value_of_its_own():
    counting = Counting()
    predictor = once_for_uniform(counting)

    for second in (3, 3, 4):
        predictor(np.stack([np.full((1, 8, 8), 2, np.float32), np.full((1, 8, 8), second, np.float32)], axis=1))

    assert counting.calls == 2


def test_batches_of_other_shapes_are_computed_anew():
    counting = Counting()
    predictor = once_for_uniform(counting)

    shapes = [predictor(np.zeros((number, 1, 8, 8), np.float32)).shape for number in (1, 2, 2)]

    assert shapes == [(1, 3, 8, 8), (2, 3, 8, 8), (2, 3, 8, 8)]
    assert counting.calls == 2


def test_scores_that_are_kept_cannot_be_written_to():
    scores = once_for_uniform(Counting())(np.zeros((1, 1, 8, 8), np.float32))

    with pytest.raises(ValueError, match="read-only"):
        scores += 1
