"""The weight map of the original U-Net: exact by hand, the same as a loop over cells, and nothing without two cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unetcli.core.weight_map import (
    balanced_weights,
    border_weights,
    narrow_borders,
    separation_weights,
    two_nearest,
)


def by_a_loop_over_cells(instances):
    """The two least of the distances to each cell, as the equation has it."""
    distances = [ndimage.distance_transform_edt(instances != cell) for cell in np.unique(instances[instances > 0])]
    return np.sort(distances, axis=0)[:2]


def test_the_equation_on_a_row_by_hand():
    instances = np.array([[7, 0, 0, 0, 3, 3, 0]], np.int32)
    labels = (instances > 0).astype(np.uint8)
    weights = border_weights(labels, instances, np.array([0.5, 2.0]), w0=10, sigma=5)

    def gap(first, second):
        return 0.5 + 10 * np.exp(-((first + second) ** 2) / (2 * 5**2))

    expected = [2, gap(1, 3), gap(2, 2), gap(3, 1), 2, 2, gap(1, 6)]
    np.testing.assert_allclose(weights, [expected], rtol=1e-6)
    assert weights.dtype == np.float32


def test_in_a_gap_of_one_pixel_the_distances_are_1_and_1():
    instances = np.array([[1, 0, 2]], np.int32)
    np.testing.assert_allclose(separation_weights(instances, w0=3, sigma=2), [[0, 3 * np.exp(-0.5), 0]], rtol=1e-6)


def test_a_pixel_between_three_cells_counts_the_nearest_two():
    instances = np.zeros((9, 9), np.int32)
    instances[0, 4], instances[4, 0], instances[8, 8] = 1, 2, 3
    first, second = two_nearest(instances)
    assert (first[3, 4], second[3, 4]) == (3, pytest.approx(np.hypot(1, 4)))
    assert (first[4, 4], second[4, 4]) == (4, 4)


@given(
    hnp.arrays(
        np.int32,
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=12),
        elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 5, 8, 90, 2**31 - 1]),
    )
)
def test_both_distances_are_those_of_a_loop_over_cells(instances):
    found = two_nearest(instances)
    if len(np.unique(instances[instances > 0])) < 2:
        assert found is None
        return
    expected = by_a_loop_over_cells(instances)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


def test_many_cells_are_those_of_a_loop_over_cells(rng):
    instances = np.zeros((90, 110), np.int32)
    places = rng.choice(instances.size, 150, replace=False)
    instances.flat[places] = rng.permutation(150) + 1
    expected = by_a_loop_over_cells(instances)
    first, second = two_nearest(instances)
    np.testing.assert_allclose([first, second], expected, atol=1e-5)
    by_hand = 10 * np.exp(-((expected[0] + expected[1]) ** 2) / (2 * 5**2)) * (instances == 0)
    np.testing.assert_allclose(separation_weights(instances), by_hand, atol=1e-4)


@given(st.integers(1, 20), st.integers(1, 20), st.randoms(use_true_random=False))
def test_numbers_of_cells_do_not_matter(height, width, random):
    generator = np.random.default_rng(random.randrange(2**32))
    instances = generator.integers(0, 6, (height, width)).astype(np.int32)
    numbers = np.array([0, *generator.permutation(5) + 1], np.int32)
    np.testing.assert_array_equal(separation_weights(numbers[instances]), separation_weights(instances))


@pytest.mark.parametrize("num_cells", [0, 1])
def test_without_two_cells_only_the_class_counts(num_cells):
    instances = np.zeros((4, 5), np.int32)
    instances[1, 1] = num_cells
    labels = (instances > 0).astype(np.uint8)
    weights = border_weights(labels, instances, np.array([0.25, 3.0]))
    np.testing.assert_array_equal(weights, np.where(labels, np.float32(3), np.float32(0.25)))


def test_cells_that_touch_and_fill_the_image_have_no_gap():
    instances = np.array([[1, 2], [1, 2]], np.int32)
    np.testing.assert_array_equal(separation_weights(instances), np.zeros((2, 2), np.float32))


def test_labels_without_a_class_weight_count_nothing():
    instances = np.array([[1, 0, 2]], np.int32)
    weights = border_weights(np.array([[1, 255, 1]], np.uint8), instances, np.array([1.0, 1.0]))
    assert weights.tolist() == [[1, 0, 1]]


def test_classes_are_balanced_so_that_each_counts_the_same_and_a_pixel_1_on_average():
    weights = balanced_weights(np.array([90, 10, 0]))
    np.testing.assert_allclose(weights, [100 / (2 * 90), 100 / (2 * 10), 0])
    assert (weights * [90, 10, 0]).sum() == pytest.approx(100)


def test_what_cannot_be_is_refused():
    cells = np.array([[1, 0, 2]], np.int32)
    with pytest.raises(ValueError, match="no pixels to balance"):
        balanced_weights(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="one shape"):
        border_weights(np.zeros((2, 2), np.uint8), cells, np.ones(2))
    for w0, sigma in ((-1, 5), (10, 0), (10, -1), (10, float("nan"))):
        with pytest.raises(ValueError, match="w0 must be at least 0 and sigma more"):
            separation_weights(cells, w0=w0, sigma=sigma)
    with pytest.raises(ValueError, match="numbered from 1, got -2"):
        separation_weights(-cells)


def test_borders_are_where_cells_touch_or_nearly_do():
    instances = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 3, 3, 0, 0, 4, 4]], np.int32)
    expected = [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(narrow_borders(instances, 2), [np.array(expected, bool)])
    assert not narrow_borders(instances == 1, 2).any()
