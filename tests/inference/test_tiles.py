from __future__ import annotations

import numpy as np
import pytest
from predictors import valid_box

from unetcli.inference import TilePlan, predict_image


def test_small_image_lies_in_the_middle_of_a_mirrored_tile():
    image = np.array([[[1, 2, 3]]], dtype=np.float32)
    seen = []

    scores = predict_image(
        image, lambda tiles: seen.append(tiles) or tiles, TilePlan.with_share((2, 7), 0, "constant", 1)
    )

    np.testing.assert_array_equal(seen[0][0, 0], [[3, 2, 1, 2, 3, 2, 1]] * 2)
    np.testing.assert_array_equal(scores, image)


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "margin"),
    [
        ((40, 57), (16, 20), 0.0, 3),
        ((40, 57), (16, 20), 0.4, 3),
        ((11, 30), (18, 18), 0.25, 4),
        ((5, 3), (20, 24), 0.0, 6),
        ((1, 1), (9, 9), 0.0, 4),
        ((1, 50), (9, 9), 0.0, 4),
    ],
)
@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_valid_convolutions_give_the_filter_of_the_mirrored_image(rng, size, tile, overlap, margin, blending):
    image = rng.integers(0, 100, (1, *size)).astype(np.float32)
    plan = TilePlan.with_share(tile, overlap, blending, 3, margin)

    scores = predict_image(image, valid_box(margin), plan)

    expected = valid_box(margin)(np.pad(image, ((0, 0), (margin, margin), (margin, margin)), "reflect")[None])[0]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_valid_convolutions_tile_without_a_gap_or_a_repetition(rng):
    image = rng.integers(0, 100, (2, 30, 40)).astype(np.float32)
    calls = []

    scores = predict_image(
        image,
        lambda tiles: calls.append(tiles.shape) or valid_box(4)(tiles),
        TilePlan.with_share((18, 18), 0, "constant", 2, 4),
    )

    assert calls == [(2, 2, 18, 18)] * 6
    expected = valid_box(4)(np.pad(image, ((0, 0), (4, 4), (4, 4)), "reflect")[None])[0]
    np.testing.assert_array_equal(scores, expected)


def test_tiles_of_a_mirrored_volume_are_those_of_numpys_reflection(rng):
    image = rng.integers(-1000, 1000, (2, 3, 9, 4)).astype(np.int16)
    seen = []

    predict_image(
        image,
        lambda tiles: seen.extend(tiles) or tiles[:, :, 1:-1, 1:-1, 1:-1],
        TilePlan.with_share((8,) * 3, 0.3, "constant", 2, 1),
    )

    # the canvas is 6 x 9 x 6, the image in its middle
    whole = np.pad(image, ((0, 0), (2, 3), (1, 1), (2, 2)), "reflect")
    expected = [whole[:, :8, start : start + 8, :8] for start in (0, 3)]
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "float16", "float32", "float64", "bool"])
def test_tiles_come_in_the_type_of_the_image(rng, dtype):
    image = rng.integers(0, 2, (1, 10, 10)).astype(dtype)
    seen = []

    scores = predict_image(
        image,
        lambda tiles: seen.append(tiles.dtype) or tiles.astype(np.float32),
        TilePlan.with_share((4, 4), 0, "constant", 2),
    )

    assert set(seen) == {np.dtype(dtype)}
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, image.astype(np.float32))


def test_an_image_may_be_a_map_of_a_file(tmp_path, rng):
    image = rng.integers(-1000, 1000, (1, 20, 30)).astype(np.int16)
    image.tofile(tmp_path / "image")
    mapped = np.memmap(tmp_path / "image", np.int16, "r", shape=image.shape)

    scores = predict_image(
        mapped, lambda tiles: tiles.astype(np.float32), TilePlan.with_share((8, 8), 0.5, "constant", 3)
    )

    np.testing.assert_array_equal(scores, image)


def test_every_batch_has_the_same_number_of_tiles(rng):
    shapes, progress = [], []
    image = rng.random((3, 70, 30), dtype=np.float32)
    plan = TilePlan.with_share((16, 16), 0, "constant", 4)

    predict_image(
        image,
        lambda tiles: shapes.append(tiles.shape) or tiles[:, :2],
        plan,
        on_tile=lambda done, total: progress.append((done, total)),
    )

    assert shapes == [(4, 3, 16, 16)] * 3  # 5 x 2 tiles
    assert progress == [(4, 10), (8, 10), (10, 10)]


def test_nine_tiles_by_at_most_four_are_three_batches_of_three(rng):
    sizes = []
    image = rng.random((1, 48, 48), dtype=np.float32)

    predict_image(
        image, lambda tiles: sizes.append(len(tiles)) or tiles, TilePlan.with_share((16, 16), 0, "constant", 4)
    )

    assert sizes == [3, 3, 3]


@pytest.mark.parametrize(
    "broken",
    [
        lambda tiles: tiles[0],
        lambda tiles: tiles[:1],
        lambda tiles: tiles[..., 1:],
        lambda tiles: tiles[..., None],
    ],
)
@pytest.mark.parametrize("tta", [False, True])
def test_a_predictor_of_the_wrong_shape_is_named(rng, broken, tta):
    image = rng.random((1, 20, 20), dtype=np.float32)
    with pytest.raises(ValueError, match=r"predictor returned .* want"):
        predict_image(image, broken, TilePlan.with_share((8, 8), 0.25, "gaussian", 4), tta=tta)


def test_a_predictor_that_changes_its_classes_is_named(rng):
    counts = iter([2, 3])
    image = rng.random((1, 8, 16), dtype=np.float32)
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\).* want \(1, 2, 8, 8\)"):
        predict_image(
            image, lambda tiles: np.repeat(tiles, next(counts), axis=1), TilePlan.with_share((8, 8), 0, "constant", 1)
        )


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((1, 8, 8), np.complex64), TypeError),
        (np.zeros((1, 8, 8), object), TypeError),
        (np.zeros((8, 8), np.float32), ValueError),
        (np.zeros((1, 2, 8, 8), np.float32), ValueError),
        (np.zeros((1, 0, 8), np.float32), ValueError),
        (np.zeros((0, 8, 8), np.float32), ValueError),
    ],
)
def test_an_image_of_the_wrong_kind_is_refused(image, error):
    with pytest.raises(error, match="image"):
        predict_image(image, lambda tiles: tiles, TilePlan.with_share((4, 4), 0, "constant", 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (((8, 8), (8, 0), "gaussian", 1, 0), "overlap must be of 0 px"),
        (((8, 8), (-1, 0), "gaussian", 1, 0), "overlap must be of 0 px"),
        (((8, 8), (4, 0), "gaussian", 1, 2), "overlap must be of 0 px"),
        (((8, 8), (4,), "gaussian", 1, 0), "overlap must have"),
        (((8, 8), (5, 4), "gaussian", 1, 0, (4, 4)), "overlap must be of 0 px"),
        (((8, 8), (4, 4), "gaussian", 1, 0, (4,)), "step must have"),
        (((8, 8), (4, 4), "gaussian", 1, 0, (4, 0)), "step must have"),
        (((8, 8), (4, 4), "linear", 1, 0), "blending"),
        (((8, 8), (4, 4), "gaussian", 0, 0), "batch_size"),
        (((8, 8), (0, 0), "gaussian", 1, 4), "tile_size"),
        (((8, 8), (0, 0), "gaussian", 1, -1), "margin"),
        (((), (), "gaussian", 1, 0), "tile_size"),
    ],
)
def test_a_plan_out_of_range_names_the_value(values, message):
    with pytest.raises(ValueError, match=message):
        TilePlan(*values)


@pytest.mark.parametrize("share", [1.0, -0.1])
def test_a_share_out_of_range_is_named(share):
    with pytest.raises(ValueError, match=f"got {share}"):
        TilePlan.with_share((8, 8), share, "gaussian", 1)


@pytest.mark.parametrize(
    ("tile", "margin", "share", "overlap"),
    [
        ((64, 100), 0, 0.5, (32, 50)),
        ((64, 100), 0, 0.55, (36, 55)),  # 0.55 * 100 is a little more than 55
        ((64, 100), 8, 0.3, (15, 26)),
        ((2, 1), 0, 0.9, (1, 0)),
        ((572, 572), 92, 0.0, (0, 0)),
    ],
)
def test_a_share_of_the_output_is_rounded_up_to_pixels(tile, margin, share, overlap):
    assert TilePlan.with_share(tile, share, "constant", 2, margin) == TilePlan(tile, overlap, "constant", 2, margin)


def test_neighbours_repeat_as_many_pixels_as_the_plan_says_along_each_axis():
    image = np.arange(20 * 30, dtype=np.float32).reshape(1, 20, 30)
    firsts = []

    predict_image(
        image, lambda tiles: firsts.extend(tiles[:, 0, 0, 0]) or tiles, TilePlan((10, 16), (0, 2), "gaussian", 1)
    )

    assert [divmod(int(first), 30) for first in firsts] == [(0, 0), (0, 14), (10, 0), (10, 14)]


def test_an_image_is_continued_by_mirroring_to_where_the_last_step_ends():
    image = np.arange(1, 12, dtype=np.float32).reshape(1, 11)
    seen = []

    scores = predict_image(
        image, lambda tiles: seen.extend(tiles[:, 0]) or tiles, TilePlan((8,), (2,), "constant", 1, step=(4,))
    )

    # 11 px are two tiles of 12 px, with half a pixel more at each end, rounded down
    np.testing.assert_array_equal(seen, [[1, 2, 3, 4, 5, 6, 7, 8], [5, 6, 7, 8, 9, 10, 11, 10]])
    np.testing.assert_array_equal(scores, image)
