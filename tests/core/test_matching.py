"""Measures of objects: exact values by hand, an assignment by SciPy, MONAI's panoptic quality, and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from monai.metrics import compute_panoptic_quality
from scipy.optimize import linear_sum_assignment

from unetcli.core.matching import (
    THRESHOLDS,
    ObjectCounts,
    average_precision,
    class_of_objects,
    count_objects,
    find_overlaps,
    num_found,
    panoptic_quality,
)


def line(text):
    """Instances of a line of pixels, as '11.22'; a point is background."""
    return np.array([[0 if sign == "." else int(sign) for sign in text]])


def counted(true, predicted):
    return count_objects(line(true), line(predicted))


def measured(true, predicted):
    """Average precision at 0.5 and at 0.9, and panoptic quality."""
    counts = counted(true, predicted)
    precision = average_precision(counts)
    return precision[0], precision[-1], panoptic_quality(counts).panoptic


instances = npst.arrays(np.int32, (5, 6), elements=st.integers(0, 4))
pairs = st.tuples(instances, instances)


def drawn(rng, size=64, number=40):
    """Two images of rectangles; the second has those of the first moved by a little, and some more."""
    images = np.zeros((2, size, size), np.int32)
    for index in range(1, number + 1):
        top, left = rng.integers(0, size - 10, 2)
        height, width = rng.integers(3, 10, 2)
        images[0, top : top + height, left : left + width] = index
        top, left = max(top - rng.integers(2), 0), left + rng.integers(2)
        images[1, top : top + height, left : left + width] = number + 1 - index
    return images


# by hand


def test_the_thresholds_are_those_of_the_field():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


def test_pairs_are_counted_in_pixels():
    overlaps = find_overlaps(line("1133.77"), line("55.5229"))

    # 1 and 5 share two, 3 and 5 one, 7 and 2 one, 7 and 9 one
    assert overlaps.true.tolist() == [0, 1, 2, 2]
    assert overlaps.predicted.tolist() == [1, 1, 0, 2]
    assert overlaps.shared.tolist() == [2, 1, 1, 1]
    assert overlaps.true_sizes.tolist() == [2, 2, 2]
    assert overlaps.predicted_sizes.tolist() == [2, 3, 1]
    assert overlaps.iou.tolist() == [2 / 3, 1 / 4, 1 / 3, 1 / 2]


def test_an_object_is_found_from_its_overlap_on():
    # 9 of 10 pixels, 3 of 4, 11 of 20
    for true, predicted, share in (("1" * 10, "1" * 9 + ".", 0.9), ("1111", "111.", 0.75), ("1" * 20, "1" * 11, 0.55)):
        counts = counted(true, predicted.ljust(len(true), "."))
        assert counts.num_found == tuple(int(threshold <= share) for threshold in THRESHOLDS)


def test_found_missed_and_invented_objects_count_alike():
    # one found wholly, one missed, one invented
    assert measured("11.22...", "33....44") == (1 / 3, 1 / 3, 2 * 1 / 4)


def test_a_half_is_found_for_average_precision_and_not_matched_for_panoptic_quality():
    assert measured("11..", "1...") == (1, 0, 0)


def test_of_two_halves_one_is_found():
    # both have an intersection over union of 1/2 with the one true object
    assert counted("11", "12").num_found[0] == 1


def test_panoptic_quality_is_outlines_times_objects():
    quality = panoptic_quality(counted("111122.33", "111.22444"))

    # 3/4 and 1 and 2/3 over three true and three predicted
    assert quality.segmentation == pytest.approx((3 / 4 + 1 + 2 / 3) / 3)
    assert quality.recognition == 1
    assert quality.panoptic == pytest.approx(quality.segmentation)


def test_without_objects_nothing_is_said():
    counts = counted("...", "...")
    assert np.isnan(average_precision(counts)).all()
    quality = panoptic_quality(counts)
    assert math.isnan(quality.panoptic)
    assert math.isnan(quality.segmentation)
    assert math.isnan(quality.recognition)
    assert counts == ObjectCounts()


@pytest.mark.parametrize(("true", "predicted"), [("11.", "..."), ("...", "11."), ("11..", "..11")])
def test_where_nothing_was_found_there_are_no_outlines_to_judge(true, predicted):
    counts = counted(true, predicted)
    quality = panoptic_quality(counts)
    assert average_precision(counts).tolist() == [0] * 9
    assert quality.panoptic == quality.recognition == 0
    assert math.isnan(quality.segmentation)


@pytest.mark.parametrize(
    ("true", "predicted", "num_merged", "num_split"),
    [
        ("11.22", "11.22", 0, 0),
        ("11.22", "33333", 2, 0),  # two under one
        ("11.22.33", "4444444.", 2, 0),  # of the third only half
        ("112233", "444444", 3, 0),
        ("1111", "2233", 0, 1),
        ("111122", "334455", 0, 1),
        ("1111", "22..", 0, 0),  # found badly, but in one piece
        ("1122", "3344", 0, 0),
        ("1111222", "3344444", 0, 0),  # 4 has half of 1 and all of 2; 3 lies in 1
        ("11112222", "34444445", 2, 0),  # nothing but 3 lies in 1, and nothing but 5 in 2
        ("1111.2222", "33444.444", 0, 0),
    ],
)
def test_merged_and_split_objects_by_hand(true, predicted, num_merged, num_split):
    counts = counted(true, predicted)
    assert (counts.num_merged, counts.num_split) == (num_merged, num_split)


def test_counts_of_images_add_up():
    one, other = counted("11.22", "11.33"), counted("1111", "22..")

    total = one + other

    assert total == ObjectCounts((3, *(2,) * 8), 3, 3, 2, 2.0, 0, 0)
    assert average_precision(total)[:2].tolist() == [3 / 3, 2 / 4]
    assert sum([one, other], ObjectCounts()) == total


def test_an_object_has_the_class_of_most_of_its_pixels():
    instances, labels = line("111.22.3344"), line("121.22.0012")
    assert class_of_objects(instances, labels, [1, 2]).tolist() == [0, 1, 2, 1, 1]
    assert class_of_objects(instances, labels, [2]).tolist() == [0, 2, 2, 2, 2]
    assert class_of_objects(line("..."), line("..."), [1, 2]).tolist() == [0]


# other sources


def assigned(true, predicted, threshold):
    """Found objects by the assignment of least cost, as StarDist and Cellpose have it."""
    true_masks = [true == number for number in np.unique(true[true > 0])]
    predicted_masks = [predicted == number for number in np.unique(predicted[predicted > 0])]
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in predicted_masks] for a in true_masks])
    if not iou.size:
        return 0
    costs = -(iou >= threshold).astype(float) - iou / (2 * min(iou.shape))
    return int((iou[linear_sum_assignment(costs)] >= threshold).sum())


@given(pairs)
def test_as_many_are_found_as_by_the_best_assignment(pair):
    true, predicted = pair
    overlaps = find_overlaps(true, predicted)
    for threshold in (0.1, 0.3, *THRESHOLDS):
        assert num_found(overlaps, threshold) == assigned(true, predicted, threshold)


def test_as_many_are_found_on_an_image_of_many_objects(rng):
    true, predicted = drawn(rng)
    assert count_objects(true, predicted).num_found == tuple(
        assigned(true, predicted, threshold) for threshold in THRESHOLDS
    )


def test_the_panoptic_quality_is_monais(rng):
    true, predicted = drawn(rng)
    ours = panoptic_quality(count_objects(true, predicted))
    for name, value in (("pq", ours.panoptic), ("sq", ours.segmentation), ("rq", ours.recognition)):
        theirs = compute_panoptic_quality(
            torch.from_numpy(predicted), torch.from_numpy(true), metric_name=name, smooth_numerator=0
        )
        assert value == pytest.approx(float(theirs), rel=1e-6)


# properties


@given(instances)
def test_what_is_equal_is_found_wholly(true):
    counts = count_objects(true, true)
    number = len(np.unique(true[true > 0]))
    assert counts == ObjectCounts((number,) * 9, number, number, number, number, 0, 0)


@given(pairs, st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_the_numbers_of_objects_do_not_matter(pair, one, other):
    true, predicted = pair
    renamed = np.array([0, *one])[true] * 1000, np.array([0, *other])[predicted]
    assert count_objects(*renamed) == count_objects(true, predicted)


@given(pairs)
def test_merging_is_splitting_seen_from_the_other_side(pair):
    true, predicted = pair
    there, back = count_objects(true, predicted), count_objects(predicted, true)
    assert there.num_found == back.num_found
    assert (there.num_merged > 0) == (back.num_split > 0)
    assert there.num_merged >= 2 * back.num_split


# what cannot be


def test_what_are_no_instances_is_refused():
    with pytest.raises(ValueError, match=r"true instances are \(1, 2\) px but the predicted ones are \(1, 3\) px"):
        count_objects(line("11"), line("111"))
    with pytest.raises(TypeError, match="predicted instances must hold integers, got float64"):
        count_objects(line("11"), line("11") / 2)
    with pytest.raises(ValueError, match="true instances must be at least 0, got -1"):
        count_objects(-line("11"), line("11"))
    for threshold in (0, 1.1):
        with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\]"):
            num_found(find_overlaps(line("1"), line("1")), threshold)
