from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetcli.core.tiling import (
    axis_weights,
    even_batch_size,
    mirrored_indices,
    outer_product,
    row_pieces,
    tile_starts,
    tile_weights,
    weight_sums,
)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "expected"),
    [
        (256, 256, 32, (0,)),
        (700, 256, 32, (0, 222, 444)),
        (257, 256, 0, (0, 1)),
        (512, 256, 64, (0, 128, 256)),
        (3, 1, 0, (0, 1, 2)),
    ],
)
def test_tile_starts_by_hand(length, tile, overlap, expected):
    assert tile_starts(length, tile, overlap) == expected


@given(st.data())
def test_tiles_cover_the_axis_and_keep_the_overlap(data):
    tile = data.draw(st.integers(1, 64))
    overlap = data.draw(st.integers(0, tile - 1))
    length = data.draw(st.integers(tile, 2000))

    starts = tile_starts(length, tile, overlap)

    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(starts))


@given(st.data())
def test_one_tile_fewer_would_break_the_overlap(data):
    tile = data.draw(st.integers(1, 64))
    overlap = data.draw(st.integers(0, tile - 1))
    length = data.draw(st.integers(tile, 2000))

    fewer = len(tile_starts(length, tile, overlap)) - 1

    assert fewer * tile - (fewer - 1) * overlap < length


@given(st.data())
def test_tiles_begin_at_multiples_of_a_step_and_keep_the_overlap(data):
    step = data.draw(st.integers(1, 8))
    tile = data.draw(st.integers(step, 64))
    overlap = data.draw(st.integers(0, tile - step))
    length = tile + step * data.draw(st.integers(0, 100))

    starts = tile_starts(length, tile, overlap, step)

    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(0 < b - a <= tile - overlap and b % step == 0 for a, b in pairwise(starts))


def test_an_axis_that_does_not_end_at_a_step_is_refused():
    with pytest.raises(ValueError, match="not 8 px and a multiple of 4 px more"):
        tile_starts(18, 8, 2, 4)
    with pytest.raises(ValueError, match=r"must be in \[0, 4\]"):
        tile_starts(16, 8, 5, 4)


@pytest.mark.parametrize(("length", "tile", "overlap"), [(10, 11, 0), (10, 5, 5), (10, 5, -1), (0, 1, 0)])
def test_tile_starts_refuses_what_cannot_be_placed(length, tile, overlap):
    with pytest.raises(ValueError, match=r"px"):
        tile_starts(length, tile, overlap)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple), st.sampled_from(["gaussian", "constant"]))
def test_weights_are_positive_and_mirror_onto_themselves(size, blending):
    weights = tile_weights(size, blending)

    assert weights.shape == size
    assert weights.dtype == np.float32
    assert weights.min() > 0
    for axis in range(len(size)):
        np.testing.assert_array_equal(weights, np.flip(weights, axis))


def test_gaussian_weights_fall_by_the_density_of_an_eighth_of_the_tile():
    weights = tile_weights((17, 9), "gaussian")

    assert weights[8, 4] == 1
    sigma = 17 / 8
    np.testing.assert_allclose(weights[10, 4], np.exp(-((2 / sigma) ** 2) / 2), rtol=1e-6)
    np.testing.assert_allclose(weights, weights[:, [4]] * weights[[8]], rtol=1e-6)


def test_gaussian_weights_do_not_sink_below_the_floor():
    weights = tile_weights((256, 256), "gaussian")

    np.testing.assert_allclose(weights[0, 0], 1e-6, rtol=1e-6)


@pytest.mark.parametrize(("size", "blending"), [((), "constant"), ((4, 0), "gaussian"), ((4, 4), "linear")])
def test_tile_weights_refuses_unknown_tiles_and_names(size, blending):
    with pytest.raises(ValueError, match=r"tile needs|blending must be"):
        tile_weights(size, blending)


@given(st.data())
def test_sums_of_weights_along_each_axis_multiply_to_the_sum_over_all_tiles(data):
    blending = data.draw(st.sampled_from(["gaussian", "constant"]))
    tile = data.draw(st.tuples(*[st.integers(1, 8)] * 2))
    starts = [data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=4)) for _ in tile]
    expected = np.zeros((20, 20))
    for y in starts[0]:
        for x in starts[1]:
            expected[y : y + tile[0], x : x + tile[1]] += tile_weights(tile, blending)

    sums = [weight_sums(20, first, axis_weights(n, blending)) for first, n in zip(starts, tile, strict=True)]

    np.testing.assert_allclose(outer_product(sums), expected, rtol=1e-6)


def test_sums_of_weights_by_hand():
    np.testing.assert_array_equal(weight_sums(6, (0, 2), np.array([1.0, 2.0, 3.0])), [1, 2, 4, 2, 3, 0])


@pytest.mark.parametrize("start", [-1, 4])
def test_a_tile_past_the_axis_is_refused(start):
    with pytest.raises(ValueError, match="runs past"):
        weight_sums(6, (0, start), np.ones(3))


def test_outer_product_of_no_axis_is_one():
    assert outer_product([]) == 1


@given(st.integers(2, 30), st.integers(0, 29), st.integers(0, 29))
def test_mirroring_is_numpys_reflection_as_far_as_that_goes(length, before, after):
    axis = np.arange(length)
    before, after = min(before, length - 1), min(after, length - 1)

    np.testing.assert_array_equal(mirrored_indices(length, before, after), np.pad(axis, (before, after), "reflect"))


def test_mirroring_runs_back_and_forth_where_the_axis_is_short():
    np.testing.assert_array_equal(mirrored_indices(3, 5, 4), [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2])
    np.testing.assert_array_equal(mirrored_indices(1, 2, 3), [0] * 6)


@pytest.mark.parametrize(("length", "before", "after"), [(0, 1, 1), (3, -1, 0), (3, 0, -1)])
def test_mirroring_refuses_empty_axes_and_negative_amounts(length, before, after):
    with pytest.raises(ValueError, match="cannot mirror"):
        mirrored_indices(length, before, after)


@pytest.mark.parametrize(
    ("num_tiles", "largest", "expected"), [(9, 4, 3), (1, 4, 1), (5, 4, 3), (8, 4, 4), (7, 1, 1), (10, 4, 4)]
)
def test_batches_are_even(num_tiles, largest, expected):
    assert even_batch_size(num_tiles, largest) == expected


@given(st.integers(1, 500), st.integers(1, 32))
def test_even_batches_are_as_few_as_full_ones(num_tiles, largest):
    size = even_batch_size(num_tiles, largest)

    assert size <= largest
    assert -(-num_tiles // size) == -(-num_tiles // largest)


def test_batches_need_tiles_and_room():
    with pytest.raises(ValueError, match="cannot batch"):
        even_batch_size(0, 4)
    with pytest.raises(ValueError, match="cannot batch"):
        even_batch_size(4, 0)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 9), st.integers(1, 40))
def test_pieces_of_rows_cover_them_in_order_and_are_as_large_as_may_be(start, num_rows, row_size, most):
    pieces = list(row_pieces(start, start + num_rows, row_size, most))

    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(start, start + num_rows))
    lengths = [piece.stop - piece.start for piece in pieces]
    assert all(length == max(1, most // row_size) for length in lengths[:-1])
    assert all(length == 1 or length * row_size <= most for length in lengths)


def test_pieces_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1 px"):
        list(row_pieces(0, 4, 4, 0))
