from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetcli.inference import TilePlan, over_symmetries, predict_image


def whole_image_plan(shape, margin=0):
    """One tile that is just the image."""
    return TilePlan(tuple(n + 2 * margin for n in shape), 0, "constant", 1, margin)


def blur(radius, mode):
    """A convolution with a 2D Gaussian cut off at `radius`; `mode` is what it sees beyond a tile's border."""

    def predictor(tiles):
        return ndimage.gaussian_filter(tiles, (0, 0, 2, 2), mode=mode, radius=(0, 0, radius, radius))

    return predictor


def valid_box(margin):
    """The sum over a square of side 2 * margin + 1, without padding; exact for small integers."""

    def predictor(tiles):
        windows = np.lib.stride_tricks.sliding_window_view(tiles, (2 * margin + 1,) * 2, axis=(2, 3))
        return windows.sum(axis=(-1, -2))

    return predictor


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_identity_predictor_gives_the_image_back(data):
    ndim = data.draw(st.sampled_from([1, 2, 2, 2, 3]))
    largest = {1: 200, 2: 40, 3: 12}[ndim]
    size = data.draw(st.tuples(*[st.integers(1, largest)] * ndim))
    margin = data.draw(st.integers(0, 3))
    tile = data.draw(st.tuples(*[st.integers(2 * margin + 1, 2 * margin + 17)] * ndim))
    plan = TilePlan(
        tile,
        data.draw(st.sampled_from([0, 0.1, 0.25, 0.5, 0.7, 0.9])),
        data.draw(st.sampled_from(["gaussian", "constant"])),
        data.draw(st.integers(1, 5)),
        margin,
    )
    image = np.random.default_rng(0).random((2, *size), dtype=np.float32) - 0.5
    inside = (slice(None), slice(None), *[slice(margin, n - margin) for n in tile])

    scores = predict_image(image, lambda tiles: tiles[inside], plan)

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, image, rtol=1e-5, atol=1e-7)


def test_one_tile_gives_the_predictors_values_untouched(rng):
    image = rng.random((1, 20, 30), dtype=np.float32)

    scores = predict_image(image, np.sin, TilePlan((32, 32), 0.5, "gaussian", 4))

    np.testing.assert_array_equal(scores, np.sin(image))


def test_result_is_not_the_predictors_own_array(rng):
    image = rng.random((1, 8, 8), dtype=np.float32)
    kept = []

    scores = predict_image(image, lambda tiles: kept.append(tiles) or tiles, TilePlan((8, 8), 0, "constant", 1))
    kept[0][:] = 7

    np.testing.assert_array_equal(scores, image)


def test_small_image_lies_in_the_middle_of_a_mirrored_tile():
    image = np.array([[[1, 2, 3]]], dtype=np.float32)
    seen = []

    scores = predict_image(image, lambda tiles: seen.append(tiles) or tiles, TilePlan((2, 7), 0, "constant", 1))

    np.testing.assert_array_equal(seen[0][0, 0], [[3, 2, 1, 2, 3, 2, 1]] * 2)
    np.testing.assert_array_equal(scores, image)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_tiled_equals_whole_where_no_tile_border_is_within_reach(rng, blending):
    radius, tile, image = 4, 32, rng.random((1, 75, 90), dtype=np.float32)
    plan = TilePlan((tile, tile), 0.5, blending, 4)

    tiled = predict_image(image, blur(radius, "constant"), plan)
    whole = predict_image(image, blur(radius, "constant"), whole_image_plan((75, 90)))

    far = _far_from_tile_borders((75, 90), tile, 0.5, radius)
    assert 0.15 < far.mean() < 1
    np.testing.assert_allclose(tiled[0][far], whole[0][far], rtol=2e-6)


def _far_from_tile_borders(size, tile, overlap, radius):
    """Pixels that no tile sees nearer than `radius` to an inner border of its own."""
    from unetcli.core.tiling import tile_starts

    axes = []
    for length in size:
        far = np.ones(length, dtype=bool)
        for start in tile_starts(length, tile, int(tile * overlap)):
            if start > 0:
                far[start : start + radius] = False
            if start + tile < length:
                far[start + tile - radius : start + tile] = False
        axes.append(far)
    return np.logical_and.outer(*axes)


@pytest.mark.parametrize(
    ("length", "overlap", "blending", "largest"),
    [
        (192, 0.0, "constant", 0.65),
        (160, 0.25, "constant", 0.37),
        (160, 0.25, "gaussian", 0.007),
        (160, 0.5, "gaussian", 0.001),
    ],
)
def test_seams_of_a_predictor_that_sees_zeros_beyond_its_tile_are_at_most(length, overlap, blending, largest):
    """The worst case: ones, whose blur falls to 0.36 in the corner of a tile; tiles overlap just so much."""
    image = np.ones((1, length, length), dtype=np.float32)
    predictor = blur(6, "constant")

    tiled = predict_image(image, predictor, TilePlan((64, 64), overlap, blending, 4))
    whole = predict_image(image, predictor, whole_image_plan((length, length)))

    difference = np.abs(tiled - whole).max()
    assert largest / 2 < difference < largest


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
    plan = TilePlan(tile, overlap, blending, 3, margin)

    scores = predict_image(image, valid_box(margin), plan)

    expected = valid_box(margin)(np.pad(image, ((0, 0), (margin, margin), (margin, margin)), "reflect")[None])[0]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_valid_convolutions_tile_without_a_gap_or_a_repetition(rng):
    image = rng.integers(0, 100, (2, 30, 40)).astype(np.float32)
    calls = []

    scores = predict_image(
        image, lambda tiles: calls.append(tiles.shape) or valid_box(4)(tiles), TilePlan((18, 18), 0, "constant", 2, 4)
    )

    assert calls == [(2, 2, 18, 18)] * 6
    expected = valid_box(4)(np.pad(image, ((0, 0), (4, 4), (4, 4)), "reflect")[None])[0]
    np.testing.assert_array_equal(scores, expected)


def test_every_batch_has_the_same_number_of_tiles(rng):
    shapes, progress = [], []
    image = rng.random((3, 70, 30), dtype=np.float32)
    plan = TilePlan((16, 16), 0, "constant", 4)

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

    predict_image(image, lambda tiles: sizes.append(len(tiles)) or tiles, TilePlan((16, 16), 0, "constant", 4))

    assert sizes == [3, 3, 3]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_symmetries_are_all_different_and_undone(rng, ndim):
    seen = []
    tiles = rng.random((2, 1, *[5] * ndim), dtype=np.float32)

    scores = over_symmetries(lambda turned: seen.append(turned) or turned)(tiles)

    np.testing.assert_allclose(scores, tiles, rtol=1e-6)
    assert len(seen) == {1: 2, 2: 8, 3: 8}[ndim]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize(("tile", "margin"), [((24, 24), 0), ((24, 24), 4), ((16, 24), 0)])
def test_augmentation_leaves_an_equivariant_predictor_as_it_is(rng, tile, margin):
    image = rng.random((2, 50, 41), dtype=np.float32)
    plan = TilePlan(tile, 0.25, "gaussian", 3, margin)
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

    scores = predict_image(image, first_pixel, TilePlan((2, 2), 0, "constant", 1), tta=True)

    # each pixel is the first one in 2 of the 8
    np.testing.assert_array_equal(scores, image / 4)


def test_augmentation_in_3d_is_the_mean_over_the_mirrorings():
    image = np.arange(1, 28, dtype=np.float32).reshape(1, 3, 3, 3)

    def left_neighbour(tiles):
        return np.roll(tiles, 1, axis=-1)

    scores = predict_image(image, left_neighbour, TilePlan((3, 3, 3), 0, "constant", 1), tta=True)

    np.testing.assert_allclose(scores, (np.roll(image, 1, -1) + np.roll(image, -1, -1)) / 2)


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
        predict_image(image, broken, TilePlan((8, 8), 0.25, "gaussian", 4), tta=tta)


def test_a_predictor_that_changes_its_classes_is_named(rng):
    counts = iter([2, 3])
    image = rng.random((1, 8, 16), dtype=np.float32)
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\).* want \(1, 2, 8, 8\)"):
        predict_image(image, lambda tiles: np.repeat(tiles, next(counts), axis=1), TilePlan((8, 8), 0, "constant", 1))


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((1, 8, 8)), TypeError),
        (np.zeros((8, 8), np.float32), ValueError),
        (np.zeros((1, 2, 8, 8), np.float32), ValueError),
        (np.zeros((1, 0, 8), np.float32), ValueError),
        (np.zeros((0, 8, 8), np.float32), ValueError),
    ],
)
def test_an_image_of_the_wrong_kind_is_refused(image, error):
    with pytest.raises(error, match="image"):
        predict_image(image, lambda tiles: tiles, TilePlan((4, 4), 0, "constant", 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (((8, 8), 1.0, "gaussian", 1, 0), "overlap"),
        (((8, 8), -0.1, "gaussian", 1, 0), "overlap"),
        (((8, 8), 0.5, "linear", 1, 0), "blending"),
        (((8, 8), 0.5, "gaussian", 0, 0), "batch_size"),
        (((8, 8), 0.5, "gaussian", 1, 4), "tile_size"),
        (((8, 8), 0.5, "gaussian", 1, -1), "margin"),
        (((), 0.5, "gaussian", 1, 0), "tile_size"),
    ],
)
def test_a_plan_out_of_range_names_the_value(values, message):
    with pytest.raises(ValueError, match=message):
        TilePlan(*values)


def test_memory_is_the_scores_the_weights_and_a_few_tiles(rng):
    image = rng.random((1, 1024, 1024), dtype=np.float32)
    plan = TilePlan((64, 64), 0.25, "gaussian", 4)

    tracemalloc.start()
    scores = predict_image(image, lambda tiles: np.concatenate([tiles, -tiles], axis=1), plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    accumulators = (2 + 1) * image.nbytes
    assert scores.nbytes == 2 * image.nbytes
    assert accumulators < peak < accumulators + 32 * 64 * 64 * 4
