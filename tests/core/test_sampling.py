"""Points of the foreground are some of every class, the same each time, and found in little memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetcli.core import sampling
from unetcli.core.sampling import foreground_points, pick_point


def test_points_by_hand():
    labels = np.array([[0, 2, 255], [1, 1, 0]], np.uint8)
    points = foreground_points(labels, 3)
    np.testing.assert_array_equal(points, [[1, 1, 0], [1, 1, 1], [2, 0, 1]])
    assert points.dtype == np.int32


def test_too_many_points_are_thinned_evenly():
    labels = np.zeros((2, 3, 10), np.uint8)
    labels[1, 1:] = 1
    np.testing.assert_array_equal(
        foreground_points(labels, 2, limit=4), [[1, 1, 1, 2], [1, 1, 1, 7], [1, 1, 2, 2], [1, 1, 2, 7]]
    )


@given(
    labels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=8), elements=st.integers(0, 5)),
    limit=st.integers(1, 20),
    chunk=st.integers(1, 100),
)
def test_every_class_has_as_many_points_as_it_may_and_they_lie_on_it(labels, limit, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "CHUNK_PIXELS", chunk)
        points = foreground_points(labels, 4, limit)

    np.testing.assert_array_equal(labels[tuple(points[:, 1:].T)], points[:, 0])
    assert len({tuple(point) for point in points}) == len(points)
    assert Counter(points[:, 0].tolist()) == {
        label: min(limit, int(np.sum(labels == label))) for label in (1, 2, 3) if (labels == label).any()
    }
    np.testing.assert_array_equal(points, foreground_points(labels, 4, limit))


@pytest.mark.parametrize("shape", [(2040,), (3, 2040), (7, 41, 113)])
def test_points_are_of_even_ranks_in_large_arrays_too(rng, shape):
    labels = rng.integers(0, 4, (*shape, 2), dtype=np.uint8)
    points = foreground_points(labels, 4, 50)
    for label in (1, 2, 3):
        everywhere = np.argwhere(labels == label)
        ranks = (2 * np.arange(50) + 1) * len(everywhere) // 100
        np.testing.assert_array_equal(points[points[:, 0] == label, 1:], everywhere[ranks])


def test_an_image_of_background_has_no_points():
    assert foreground_points(np.zeros((4, 5, 6), np.uint8), 3).shape == (0, 4)


def test_a_large_map_takes_little_memory(tmp_path):
    labels = np.memmap(tmp_path / "labels", np.uint8, "w+", shape=(128, 512, 512))
    labels[60:70, 100:200, 100:300] = 1
    tracemalloc.start()
    points = foreground_points(labels, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(points) == 1000
    assert peak < 80e6


def test_every_class_is_picked_as_often_and_every_point_within_it(rng):
    points = np.array([[1, 0, 0], *[[3, 1, column] for column in range(4)]], np.int32)
    picked = Counter(pick_point(points, rng) for _ in range(4000))
    assert picked[0, 0] == pytest.approx(2000, rel=0.1)
    assert all(picked[1, column] == pytest.approx(500, rel=0.2) for column in range(4))


def test_mistakes_are_refused(rng):
    with pytest.raises(ValueError, match="no point"):
        pick_point(np.zeros((0, 4), np.int32), rng)
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        foreground_points(np.zeros((2, 2), np.uint8), 2, 0)
    with pytest.raises(TypeError, match="uint8, not int64"):
        foreground_points(np.zeros((2, 2), np.int64), 2)
