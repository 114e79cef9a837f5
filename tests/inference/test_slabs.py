from __future__ import annotations

import itertools
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from predictors import blur, whole_image_plan

from unetcli.core.tiling import tile_starts, tile_weights
from unetcli.inference import TilePlan, labels_of, predict_image, predict_labels, predict_slabs
from unetcli.inference.blending import Blend
from unetcli.inference.tiles import lay_out


@st.composite
def images_and_plans(draw):
    """An image of 1 to 3 axes of any size, and any plan to cut it."""
    ndim = draw(st.sampled_from([1, 2, 2, 2, 3, 3]))
    largest = {1: 200, 2: 40, 3: 14}[ndim]
    size = draw(st.tuples(*[st.integers(1, largest)] * ndim))
    margin = draw(st.integers(0, 3))
    plan = TilePlan.with_share(
        draw(st.tuples(*[st.integers(2 * margin + 1, 2 * margin + 17)] * ndim)),
        draw(st.sampled_from([0, 0.1, 0.25, 0.5, 0.7, 0.9])),
        draw(st.sampled_from(["gaussian", "constant"])),
        draw(st.integers(1, 5)),
        margin,
    )
    return np.random.default_rng(0).random((2, *size), dtype=np.float32) - 0.5, plan


def middle(plan):
    """A predictor that gives a tile back, but for its margin."""
    inside = (slice(None), slice(None), *[slice(plan.margin, n - plan.margin) for n in plan.tile_size])
    return lambda tiles: tiles[inside]


def place_dependent(plan):
    """A predictor whose scores depend on the place in the tile, so that every weight shows."""
    bias = np.random.default_rng(1).random((3, *plan.output_size), dtype=np.float32)
    return lambda tiles: middle(plan)(tiles)[:, :1] + bias


def blended_at_once(image, predictor, plan):
    """The weighted mean in 64 bits, with sums and weights as large as the image, which is at least a tile."""
    pad = [(0, 0), *[(plan.margin, plan.margin)] * (image.ndim - 1)]
    padded = np.pad(image, pad, "reflect")
    starts = [
        tile_starts(length, tile, overlap)
        for length, tile, overlap in zip(image.shape[1:], plan.output_size, plan.overlap, strict=True)
    ]
    weights = tile_weights(plan.output_size, plan.blending).astype(np.float64)
    sums, weight_sum = 0, np.zeros(image.shape[1:])
    for start in itertools.product(*starts):
        tile = padded[:, *[slice(i, i + n) for i, n in zip(start, plan.tile_size, strict=True)]]
        place = tuple(slice(i, i + n) for i, n in zip(start, plan.output_size, strict=True))
        scores = predictor(tile[None])[0]
        sums = np.zeros((len(scores), *image.shape[1:])) if isinstance(sums, int) else sums
        sums[:, *place] += scores * weights
        weight_sum[place] += weights
    return sums / weight_sum


@settings(max_examples=150)
@given(images_and_plans())
def test_identity_predictor_gives_the_image_back(case):
    image, plan = case

    scores = predict_image(image, middle(plan), plan)

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, image, rtol=1e-5, atol=1e-7)


@settings(max_examples=100)
@given(images_and_plans())
def test_slabs_cover_the_rows_in_order_and_equal_the_whole(case):
    image, plan = case
    predictor = place_dependent(plan)

    slabs = []
    predict_slabs(image, predictor, plan, lambda slab: slabs.append((slab.rows, slab.scores.copy())))

    rows = [row for rows, _ in slabs for row in range(image.shape[1])[rows]]
    assert rows == list(range(image.shape[1]))
    whole = predict_image(image, predictor, plan)
    np.testing.assert_array_equal(np.concatenate([scores for _, scores in slabs], axis=1), whole)
    np.testing.assert_array_equal(predict_labels(image, predictor, plan), whole.argmax(axis=0))


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "margin"),
    [
        ((50,), (16,), 0.5, 0),
        ((40, 57), (16, 20), 0.5, 0),
        ((40, 57), (16, 20), 0.25, 3),
        ((40, 57), (16, 20), 0.9, 0),
        ((20, 17, 30), (8, 8, 12), 0.5, 0),
        ((20, 17, 30), (10, 10, 14), 0.25, 1),
        ((9, 17, 30), (9, 8, 12), 0.5, 0),
        ((21, 9, 13), (8, 9, 12), 0.7, 0),
    ],
)
@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_slabs_equal_the_blending_of_the_image_at_once(rng, size, tile, overlap, margin, blending):
    image = rng.random((1, *size), dtype=np.float32)
    plan = TilePlan.with_share(tile, overlap, blending, 3, margin)
    predictor = place_dependent(plan)

    scores = predict_image(image, predictor, plan)

    np.testing.assert_allclose(scores, blended_at_once(image, predictor, plan), rtol=0, atol=1e-6)


def test_one_tile_gives_the_predictors_values_untouched(rng):
    image = rng.random((1, 20, 30), dtype=np.float32)

    scores = predict_image(image, np.sin, TilePlan.with_share((32, 32), 0.5, "gaussian", 4))

    np.testing.assert_array_equal(scores, np.sin(image))


def test_result_is_not_the_predictors_own_array(rng):
    image = rng.random((1, 8, 8), dtype=np.float32)
    kept = []

    scores = predict_image(
        image, lambda tiles: kept.append(tiles) or tiles, TilePlan.with_share((8, 8), 0, "constant", 1)
    )
    kept[0][:] = 7

    np.testing.assert_array_equal(scores, image)


def test_labels_are_the_class_of_the_largest_score_and_the_first_of_equals():
    scores = np.array([[[0.2, 0.5, 0.1]], [[0.7, 0.5, 0.1]], [[0.1, 0.0, 0.8]]], dtype=np.float32)

    labels = labels_of(scores)

    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, [[1, 0, 2]])


@given(st.data())
def test_labels_are_argmax_with_ties_infinities_and_nan(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)))
    values = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf, np.nan])
    scores = data.draw(arrays(np.float32, shape, elements=values))

    np.testing.assert_array_equal(labels_of(scores), scores.argmax(axis=0))


def test_labels_are_argmax_piece_by_piece(rng):
    scores = rng.integers(0, 4, (5, 9, 3, 7, 2000)).astype(np.float32)

    np.testing.assert_array_equal(labels_of(scores), scores.argmax(axis=0))


def test_labels_hold_256_classes_and_refuse_more():
    scores = np.zeros((257, 1, 1), dtype=np.float32)
    scores[255] = 1

    assert labels_of(scores[:256])[0, 0] == 255
    with pytest.raises(ValueError, match="256 classes, got 257"):
        labels_of(scores)


def test_rows_are_finished_as_soon_as_no_later_tile_reaches_them():
    plan = TilePlan((16, 8), (8, 0), "gaussian", 1)
    layout = lay_out((40, 8), plan)
    finished = []
    blend = Blend(plan, layout, lambda slab: finished.append((slab.rows.start, slab.rows.stop)))

    seen = []
    for start in layout.starts():
        blend.add(((start,), np.ones((1, 2, 16, 8), np.float32)))
        seen.append(list(finished))

    assert seen == [[(0, 8)], [(0, 8), (8, 16)], [(0, 8), (8, 16), (16, 24)], [(0, 8), (8, 16), (16, 24), (24, 40)]]


def test_the_predictor_stays_on_the_thread_that_called_and_no_thread_is_left():
    threads = set()

    def predictor(tiles):
        threads.add(threading.current_thread())
        return tiles

    predict_labels(np.zeros((1, 40, 8), np.float32), predictor, TilePlan((16, 8), (8, 0), "gaussian", 1))

    assert threads == {threading.current_thread()}
    assert not [thread for thread in threading.enumerate() if thread.name in ("ahead", "behind")]


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_of_the_predictor_is_raised_and_no_thread_is_left(failing):
    numbers = itertools.count()

    def predictor(tiles):
        if next(numbers) == failing:
            raise KeyError("of the network")
        return tiles

    with pytest.raises(KeyError, match="of the network"):
        predict_labels(np.zeros((1, 40, 8), np.float32), predictor, TilePlan((16, 8), (8, 0), "gaussian", 1))
    assert not [thread for thread in threading.enumerate() if thread.name in ("ahead", "behind")]


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_tiled_equals_whole_where_no_tile_border_is_within_reach(rng, blending):
    radius, tile, image = 4, 32, rng.random((1, 75, 90), dtype=np.float32)
    plan = TilePlan.with_share((tile, tile), 0.5, blending, 4)

    tiled = predict_image(image, blur(radius, "constant"), plan)
    whole = predict_image(image, blur(radius, "constant"), whole_image_plan((75, 90)))

    far = _far_from_tile_borders((75, 90), tile, 0.5, radius)
    assert 0.15 < far.mean() < 1
    np.testing.assert_allclose(tiled[0][far], whole[0][far], rtol=2e-6)


def _far_from_tile_borders(size, tile, overlap, radius):
    """Pixels that no tile sees nearer than `radius` to an inner border of its own."""
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

    tiled = predict_image(image, predictor, TilePlan.with_share((64, 64), overlap, blending, 4))
    whole = predict_image(image, predictor, whole_image_plan((length, length)))

    difference = np.abs(tiled - whole).max()
    assert largest / 2 < difference < largest


def test_memory_of_slabs_is_one_tiles_height_of_scores_and_one_batch_ahead_and_behind(rng):
    image = rng.random((1, 1024, 512), dtype=np.float32)
    plan = TilePlan.with_share((64, 64), 0.25, "gaussian", 4)

    peak = _peak(lambda: predict_labels(image, lambda tiles: np.concatenate([tiles, -tiles], axis=1), plan))

    slab, batch, labels = 2 * 64 * 512 * 4, 4 * 3 * 64 * 64 * 4, 1024 * 512
    piece = 48 * 512 * (8 + 4 + 4 + 1)  # finished rows: what they are divided by, and the largest score
    assert slab + labels < peak < slab + labels + 2 * batch + piece + 128 * 1024


def test_memory_of_the_whole_is_its_scores_beside_a_slab(rng):
    image = rng.random((1, 1024, 1024), dtype=np.float32)
    plan = TilePlan.with_share((64, 64), 0.25, "gaussian", 4)

    peak = _peak(lambda: predict_image(image, lambda tiles: np.concatenate([tiles, -tiles], axis=1), plan))

    batch, piece = 4 * 3 * 64 * 64 * 4, 48 * 1024 * (8 + 4)
    assert 2 * image.nbytes < peak < 2 * image.nbytes + 2 * 64 * 1024 * 4 + 2 * batch + piece + 128 * 1024


def _peak(work):
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
