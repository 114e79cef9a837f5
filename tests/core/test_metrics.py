"""Metrics: exact values on four pixels, properties, and the zoo's own definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from unetcli.core import metrics
from unetcli.core.metrics import (
    Counts,
    count,
    dice,
    iou,
    mean_iou,
    pixel_accuracy,
    precision,
    recall,
    resize_as_zoo,
    specificity,
    volume_difference,
    zoo_dice,
    zoo_foreground_dice,
)

NAN = float("nan")


def counts_of(labels, predicted, num_classes=2):
    return count(np.array(labels), np.array(predicted), num_classes)


@st.composite
def label_pairs(draw):
    num_classes = draw(st.integers(1, 5))
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, max_side=6))
    values = st.integers(0, num_classes - 1)
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64]))
    return (
        draw(npst.arrays(dtype, shape, elements=values)),
        draw(npst.arrays(dtype, shape, elements=values)),
        num_classes,
    )


@pytest.mark.parametrize(
    ("predicted", "expected_dice", "expected_iou", "expected_precision", "expected_recall"),
    [
        ([0, 0, 1, 1], 1, 1, 1, 1),
        ([0, 0, 0, 1], 2 / 3, 1 / 2, 1, 1 / 2),
        ([0, 1, 1, 1], 4 / 5, 2 / 3, 2 / 3, 1),
        ([1, 1, 0, 0], 0, 0, 0, 0),
        ([0, 0, 0, 0], 0, 0, NAN, 0),
    ],
)
def test_foreground_metrics_of_four_pixels(predicted, expected_dice, expected_iou, expected_precision, expected_recall):
    counts = counts_of([0, 0, 1, 1], predicted)
    assert dice(counts)[1] == pytest.approx(expected_dice)
    assert iou(counts)[1] == pytest.approx(expected_iou)
    assert precision(counts)[1] == pytest.approx(expected_precision, nan_ok=True)
    assert recall(counts)[1] == pytest.approx(expected_recall)


def test_a_class_that_is_nowhere_is_nan_and_left_out_of_the_mean():
    counts = counts_of([0, 0, 1, 1], [0, 0, 0, 1], num_classes=3)
    for metric in (dice, iou, precision, recall):
        assert np.isnan(metric(counts)).tolist() == [False, False, True]
    assert mean_iou(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean_iou(counts, background=False) == pytest.approx(1 / 2)


def test_a_class_only_predicted_has_no_recall():
    assert recall(counts_of([0, 0], [1, 0])) == pytest.approx([1 / 2, NAN], nan_ok=True)


@pytest.mark.parametrize(
    ("predicted", "expected_specificity", "expected_difference"),
    [
        ([0, 0, 1, 1], 1, 0),
        ([0, 0, 0, 1], 1, -1 / 2),
        ([0, 1, 1, 1], 1 / 2, 1 / 2),
        ([1, 1, 0, 0], 0, 0),
        ([0, 0, 0, 0], 1, -1),
    ],
)
def test_specificity_and_volume_difference_of_four_pixels(predicted, expected_specificity, expected_difference):
    counts = counts_of([0, 0, 1, 1], predicted)
    assert specificity(counts)[1] == expected_specificity
    assert volume_difference(counts)[1] == expected_difference


def test_without_other_pixels_there_is_no_specificity_and_without_true_ones_no_volume_difference():
    counts = counts_of([0, 0, 0], [0, 0, 1])
    assert specificity(counts) == pytest.approx([NAN, 2 / 3], nan_ok=True)
    assert volume_difference(counts) == pytest.approx([-1 / 3, NAN], nan_ok=True)


@given(label_pairs())
@settings(deadline=None)
def test_specificity_is_the_recall_of_the_rest(pair):
    labels, predicted, num_classes = pair
    found = specificity(count(labels, predicted, num_classes))
    for k in range(num_classes):
        rest = recall(count((labels != k).astype(int), (predicted != k).astype(int), 2))[1]
        assert found[k] == pytest.approx(rest, nan_ok=True)


@given(label_pairs(), st.data())
@settings(deadline=None)
def test_ignored_pixels_are_as_if_they_were_not_there(pair, data):
    labels, predicted, num_classes = pair
    is_ignored = data.draw(npst.arrays(bool, labels.shape))
    marked = np.where(is_ignored, 255, labels)

    with_mark = count(marked, predicted, num_classes, ignored=255)
    without = count(labels[~is_ignored], predicted[~is_ignored], num_classes)

    for field in ("true_positive", "false_positive", "false_negative"):
        np.testing.assert_array_equal(getattr(with_mark, field), getattr(without, field))


def test_a_label_to_ignore_is_out_of_range_unless_it_is_said():
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), got 0 to 255"):
        counts_of([0, 255], [0, 1])


def test_zoo_foreground_dice_pools_all_classes_but_the_background():
    counts = counts_of([0, 0, 1, 1, 2, 2, 2], [1, 0, 1, 2, 2, 2, 0], 3)
    # found 1 and 2; of 5 true and 5 predicted pixels of the foreground
    assert zoo_foreground_dice(counts) == 2 * 3 / (5 + 5)
    assert np.isnan(zoo_foreground_dice(counts_of([0, 0], [0, 0])))


def test_mean_iou_without_any_foreground_is_nan():
    assert np.isnan(mean_iou(counts_of([0, 0], [0, 0]), background=False))


def test_pixel_accuracy_of_four_pixels():
    assert pixel_accuracy(counts_of([0, 0, 1, 2], [0, 1, 1, 2], 3)) == 3 / 4
    assert np.isnan(pixel_accuracy(count(np.zeros(0, int), np.zeros(0, int), 2)))


@given(label_pairs())
@settings(deadline=None)
def test_counts_are_those_of_the_definition(pair):
    labels, predicted, num_classes = pair
    counts = count(labels, predicted, num_classes)
    for k in range(num_classes):
        assert counts.true_positive[k] == np.sum((labels == k) & (predicted == k))
        assert counts.false_positive[k] == np.sum((labels != k) & (predicted == k))
        assert counts.false_negative[k] == np.sum((labels == k) & (predicted != k))
    assert {field.dtype for field in (counts.true_positive, counts.false_positive)} == {np.dtype(np.int64)}


@given(label_pairs())
@settings(deadline=None)
def test_dice_and_iou_tell_the_same_and_accuracy_is_the_share_of_equal_pixels(pair):
    labels, predicted, num_classes = pair
    counts = count(labels, predicted, num_classes)
    np.testing.assert_allclose(dice(counts), 2 * iou(counts) / (1 + iou(counts)))
    assert pixel_accuracy(counts) == pytest.approx((labels == predicted).mean())


def test_counts_add_up_to_those_of_all_pixels_whatever_the_chunk(rng, monkeypatch):
    labels, predicted = rng.integers(0, 4, (2, 5, 6, 7))
    whole = count(labels, predicted, 4)
    by_image = count(labels[0], predicted[0], 4)
    for true, found in zip(labels[1:], predicted[1:], strict=True):
        by_image += count(true, found, 4)
    monkeypatch.setattr(metrics, "CHUNK", 11)
    for other in (by_image, count(labels, predicted, 4)):
        np.testing.assert_array_equal(other.true_positive, whole.true_positive)
        np.testing.assert_array_equal(other.false_positive, whole.false_positive)
        np.testing.assert_array_equal(other.false_negative, whole.false_negative)


def test_counts_of_different_classes_do_not_add():
    with pytest.raises(ValueError, match="2 and 3 classes"):
        counts_of([0], [0], 2) + counts_of([0], [0], 3)


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 1], [0, 1, 1], "px"),
        ([0, 2], [0, 1], r"labels must be in \[0, 2\), got 0 to 2"),
        ([0, 1], [-1, 1], r"prediction must be in \[0, 2\), got -1 to 1"),
    ],
)
def test_labels_out_of_range_or_of_another_shape_are_refused(labels, predicted, message):
    with pytest.raises(ValueError, match=message):
        counts_of(labels, predicted)


def test_scores_in_place_of_labels_are_refused():
    with pytest.raises(TypeError, match="prediction must hold integers, got float64"):
        counts_of([0, 1], [0.2, 0.8])


def one_hot(labels, num_classes):
    return np.moveaxis(np.eye(num_classes, dtype=np.float32)[labels], -1, 0)


def test_zoo_dice_is_the_formula_over_one_hot_labels(rng):
    scores = rng.random((3, 4, 5), dtype=np.float32)
    labels = rng.integers(0, 3, (4, 5))
    p, y = scores.ravel().astype(np.float64), one_hot(labels, 3).ravel()
    assert zoo_dice(scores, labels) == pytest.approx(2 * (p @ y) / (p @ p + y @ y + 1e-6), rel=1e-7)


def test_zoo_dice_of_a_constant_prior_by_hand():
    labels = (np.arange(100) >= 22).astype(np.uint8)
    scores = np.repeat([[0.22], [0.78]], 100, axis=1)
    overlap = 100 * (0.22**2 + 0.78**2)
    assert zoo_dice(scores, labels) == pytest.approx(2 * overlap / (overlap + 100), rel=1e-6)


def test_zoo_dice_of_certain_predictions_is_the_pixel_accuracy(rng):
    labels, predicted = rng.integers(0, 3, (2, 8, 9))
    accuracy = pixel_accuracy(count(labels, predicted, 3))
    assert zoo_dice(one_hot(predicted, 3), labels) == pytest.approx(accuracy, rel=1e-6)


def test_zoo_dice_leaves_ignored_pixels_out(rng):
    scores = rng.random((3, 4, 5), dtype=np.float32)
    labels = rng.integers(0, 3, (4, 5))
    marked = labels.copy()
    marked[1:3] = 255
    kept = [0, 3]
    assert zoo_dice(scores, marked, ignored=255) == zoo_dice(scores[:, kept], labels[kept])


def test_zoo_dice_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        zoo_dice(np.zeros((2, 4, 4)), np.zeros((4, 5), int))
    with pytest.raises(ValueError, match=r"\[0, 2\), got 0 to 255"):
        zoo_dice(np.zeros((2, 2)), np.array([0, 255]))


def test_resized_scores_and_labels_are_those_of_mindspores_resize(rng):
    from mindspore.dataset import vision

    labels = (rng.random((512, 512)) < 0.8).astype(np.uint8)
    foreground = rng.random((512, 512), dtype=np.float32)
    resize = vision.Resize((388, 388), vision.Inter.BILINEAR)

    scores, small_labels = resize_as_zoo(np.stack([1 - foreground, foreground]), labels)

    np.testing.assert_allclose(scores[1], resize(foreground), atol=5e-5)
    np.testing.assert_array_equal(small_labels, resize(labels.astype(np.float32)) > 0.5)
    np.testing.assert_allclose(scores.sum(axis=0), 1, atol=1e-6)
    assert scores.dtype == np.float32
    assert small_labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 5), int), "do not fit"),
        (np.full((4, 4), 2), "must be 0 or 1, got 2 to 2"),
    ],
)
def test_resize_refuses_what_is_not_a_binary_slice(labels, message):
    with pytest.raises(ValueError, match=message):
        resize_as_zoo(np.zeros((2, 4, 4)), labels)
    with pytest.raises(ValueError, match=r"must be \(H, W\)"):
        resize_as_zoo(np.zeros((2, 4)), np.zeros(4, int))


def test_counts_are_frozen():
    with pytest.raises(AttributeError):
        counts_of([0], [0]).true_positive = np.zeros(2, np.int64)
    assert isinstance(counts_of([0], [0]), Counts)
