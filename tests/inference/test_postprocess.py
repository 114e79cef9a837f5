from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage import measure

from unetcli.inference import Changes, Cleaning, clean, fill_holes, keep_largest, remove_small
from unetcli.inference.postprocess import scratch_bytes


def drawn(*rows):
    """Labels from lines of digits, with `.` for background."""
    return np.array([[0 if mark == "." else int(mark) for mark in row] for row in rows], dtype=np.uint8)


small_labels = arrays.arrays(
    np.uint8,
    st.lists(st.integers(1, 8), min_size=2, max_size=3).map(tuple),
    elements=st.sampled_from([0, 0, 1, 1, 2]),
)


def test_the_largest_piece_is_kept_and_the_others_become_background():
    labels = drawn(
        "11..1",
        "11.22",
        "...22",
        "2....",
    )

    kept, num_changed = keep_largest(labels, (1, 2))

    # the fifth 1 touches no other 1
    np.testing.assert_array_equal(kept, drawn("11...", "11.22", "...22", "....."))
    assert num_changed == 2


def test_only_the_classes_asked_for_are_touched_and_the_labels_given_are_not():
    labels = drawn("11.1", "2..2")

    kept, num_changed = keep_largest(labels, (1,))

    np.testing.assert_array_equal(kept, drawn("11..", "2..2"))
    assert num_changed == 1
    np.testing.assert_array_equal(labels, drawn("11.1", "2..2"))


def test_pieces_hang_together_over_a_corner():
    labels = drawn("1..", ".1.", "..1")
    volume = np.zeros((2, 2, 2), dtype=np.uint8)
    volume[0, 0, 0] = volume[1, 1, 1] = 1

    assert keep_largest(labels, (1,))[1] == 0
    assert keep_largest(volume, (1,))[1] == 0


def test_the_first_of_equal_pieces_is_kept():
    np.testing.assert_array_equal(keep_largest(drawn("1.1"), (1,))[0], drawn("1.."))


def test_a_class_that_is_not_there_changes_nothing():
    kept, num_changed = keep_largest(drawn("1.1"), (3,))

    np.testing.assert_array_equal(kept, drawn("1.1"))
    assert num_changed == 0


def test_a_hole_becomes_what_encloses_it():
    labels = drawn(
        ".....",
        ".111.",
        ".1.1.",
        ".111.",
        ".....",
    )

    filled, num_changed = fill_holes(labels)

    np.testing.assert_array_equal(filled[2], drawn(".111.")[0])
    assert num_changed == 1


def test_a_line_that_is_closed_over_corners_encloses():
    filled, num_changed = fill_holes(drawn(".1.", "1.1", ".1."))

    np.testing.assert_array_equal(filled, drawn(".1.", "111", ".1."))
    assert num_changed == 1


@pytest.mark.parametrize(
    "labels",
    [
        drawn("1.1", "1.1", "111"),  # open at the border of the image
        drawn("111", "1.2", "111"),  # enclosed by two
        drawn("11111", "1...1", "1.2.1", "1...1", "11111"),  # another class lies in it
        drawn("111.", "1..1", "111."),  # leaks through the gap of its wall
        np.zeros((3, 3), dtype=np.uint8),
        np.ones((3, 3), dtype=np.uint8),
    ],
)
def test_what_is_not_enclosed_by_one_class_is_no_hole(labels):
    expected = labels.copy()
    if labels.shape == (3, 4):
        expected[1, 1:3] = 1  # this one is closed, over a corner

    filled, num_changed = fill_holes(labels)

    np.testing.assert_array_equal(filled, expected)
    assert num_changed == (expected != labels).sum()


def test_a_hole_in_a_hole_belongs_to_the_nearest_wall():
    labels = drawn("1111111", "1.....1", "1.222.1", "1.2.2.1", "1.222.1", "1.....1", "1111111")

    filled, num_changed = fill_holes(labels)

    assert num_changed == 1
    assert filled[3, 3] == 2


def test_a_tunnel_through_a_volume_is_no_hole_but_a_cavity_is():
    volume = np.ones((5, 5, 5), dtype=np.uint8)
    volume[:, 1, 1] = 0
    volume[2, 3, 3] = 0

    filled, num_changed = fill_holes(volume)

    assert num_changed == 1
    assert filled[2, 3, 3] == 1
    assert not filled[:, 1, 1].any()


def test_small_pieces_go_and_those_of_just_the_least_size_stay():
    labels = drawn("11.1.22", "1....2.", ".......", "2......")

    # three voxels of 0.1 x 0.1 x 0.1 mm are 0.003 mm3, though 3 * 0.001 is rounded
    cleaned, num_changed = remove_small(labels, 0.003, 0.1 * 0.1 * 0.1)

    np.testing.assert_array_equal(cleaned, drawn("11...22", "1....2.", ".......", "......."))
    assert num_changed == 2


def test_a_piece_of_one_class_is_not_held_up_by_another():
    cleaned, num_changed = remove_small(drawn("1122", "1122", "...1"), 2, 1)

    np.testing.assert_array_equal(cleaned, drawn("1122", "1122", "...."))
    assert num_changed == 1


def test_a_cleaning_goes_in_order_and_counts_each_step():
    labels = drawn(
        "111.....",
        "1.1...2.",
        "111.....",
        ".....1..",
    )

    cleaned, changes = clean(labels, Cleaning(keep_largest=(1,), fill_holes=True, min_size=2))

    np.testing.assert_array_equal(cleaned, drawn("111.....", "111.....", "111.....", "........"))
    assert changes == Changes(keep_largest=1, fill_holes=1, min_size=1)


def test_an_empty_cleaning_does_nothing():
    labels = drawn("1.1")

    cleaned, changes = clean(labels, Cleaning())

    assert not Cleaning()
    assert Cleaning(min_size=1)
    np.testing.assert_array_equal(cleaned, labels)
    assert changes == Changes()


@given(small_labels)
def test_every_step_changes_nothing_the_second_time(labels):
    for step in (
        lambda values: keep_largest(values, (1, 2)),
        fill_holes,
        lambda values: remove_small(values, 3, 1),
    ):
        once, num_changed = step(labels)
        twice, num_again = step(once)

        assert num_changed == (once != labels).sum()
        assert num_again == 0
        np.testing.assert_array_equal(twice, once)


@given(small_labels)
def test_pieces_are_those_of_scikit_image(labels):
    cleaned = remove_small(labels, 3, 1)[0]

    expected = labels.copy()
    for index in (1, 2):
        for region in measure.regionprops(measure.label(labels == index, connectivity=labels.ndim)):
            if region.area < 3:
                expected[tuple(region.coords.T)] = 0
    np.testing.assert_array_equal(cleaned, expected)


@given(small_labels)
def test_holes_are_pieces_of_background_with_one_class_around_them(labels):
    expected = labels.copy()
    padded = np.pad(labels, 1, constant_values=9)  # the border of the image is a class of its own
    holes = measure.label(padded == 0, connectivity=1)
    for number in range(1, holes.max() + 1):
        places = np.argwhere(holes == number)
        around = set()
        for axis in range(labels.ndim):
            for step in (-1, 1):
                moved = places.copy()
                moved[:, axis] += step
                around |= set(padded[tuple(moved.T)].tolist())
        around -= {0}
        if len(around) == 1 and around != {9}:
            expected[tuple((places - 1).T)] = around.pop()

    np.testing.assert_array_equal(fill_holes(labels)[0], expected)


def test_work_in_parts_is_as_work_at_once(rng, monkeypatch):
    labels = (rng.random((12, 13, 14)) > 0.8).astype(np.uint8) + (rng.random((12, 13, 14)) > 0.9)
    cleaning = Cleaning((1,), True, 4)
    at_once = clean(labels, cleaning)

    monkeypatch.setattr("unetcli.inference.postprocess.BLOCK", 100)

    in_parts = clean(labels, cleaning)
    np.testing.assert_array_equal(in_parts[0], at_once[0])
    assert in_parts[1] == at_once[1]


def test_memory_is_within_what_is_said():
    labels = np.zeros((64, 256, 256), dtype=np.uint8)
    labels[8:56, 8:248, 8:248] = 1
    labels[16:48, 16:240, 16:240] = 2
    labels[24:40, 100:200, 100:200] = 0
    labels[0, 0, 0] = labels[63, 255, 255] = 2

    tracemalloc.start()
    _, changes = clean(labels, Cleaning((1, 2), True, 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert changes == Changes(2, 16 * 100 * 100, 0)
    assert 6 * labels.size < peak < scratch_bytes(labels.size)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda labels: keep_largest(labels, (0,)), "classes must be of 1 to 255, got \\(0,\\)"),
        (lambda labels: keep_largest(labels.astype(int), (1,)), "uint8, got int64"),
        (lambda labels: fill_holes(labels.astype(bool)), "uint8, got bool"),
        (lambda labels: remove_small(labels, -1, 1), "min_size -1"),
        (lambda labels: remove_small(labels, float("nan"), 1), "min_size nan"),
        (lambda labels: remove_small(labels, 1, 0), "voxel_volume 0"),
        (lambda labels: clean(labels, Cleaning(min_size=-1)), "min_size -1"),
    ],
)
def test_values_out_of_range_are_named(work, message):
    with pytest.raises(ValueError, match=message):
        work(drawn("1.1"))
