from __future__ import annotations

import numpy as np
import pytest

from unetcli.inference import TilePlan, average, predict_image


def test_an_ensemble_is_the_mean_of_its_members_by_hand():
    tiles = np.array([[[1.0, 2.0]]], dtype=np.float32)

    scores = average([lambda x: x, lambda x: 2 * x, lambda x: 6 * x])(tiles)

    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, [[[3, 6]]])
    np.testing.assert_array_equal(tiles, [[[1, 2]]])


def test_scores_of_16_bits_are_summed_as_32():
    tiles = np.full((1, 1, 2), 40000, dtype=np.float16)

    scores = average([lambda x: x, lambda x: x])(tiles)

    np.testing.assert_array_equal(scores, tiles.astype(np.float32))


def test_a_single_predictor_is_given_back():
    assert average([np.sin]) is np.sin


def test_an_ensemble_predicts_an_image_as_its_members_do_on_average(rng):
    image = rng.integers(0, 100, (1, 20, 30)).astype(np.int16)
    plan = TilePlan.with_share((8, 8), 0.5, "gaussian", 3)
    members = [lambda tiles: np.sin(tiles, dtype=np.float32), lambda tiles: np.cos(tiles, dtype=np.float32)]

    scores = predict_image(image, average(members), plan)

    expected = np.mean([predict_image(image, member, plan) for member in members], axis=0)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_an_ensemble_needs_members_of_one_shape():
    with pytest.raises(ValueError, match="no predictor"):
        average([])
    with pytest.raises(ValueError, match=r"predictor 2 returned \(1, 1, 1\); want \(1, 1, 2\)"):
        average([lambda x: x, lambda x: x[..., 1:]])(np.zeros((1, 1, 2), np.float32))
