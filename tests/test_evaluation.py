"""Evaluation by hand on a few pixels, with a function in place of the network."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from unetcli.evaluation import Agreement, compare, evaluate

ABSENT = {"dice": None, "iou": None, "precision": None, "recall": None}


@dataclass(frozen=True)
class Case:
    id: str
    image: np.ndarray
    labels: np.ndarray


def make_case(name, probabilities, labels):
    """An image whose pixels are the probabilities of class 1."""
    return Case(name, np.array([probabilities], np.float32), np.array(labels, np.uint8))


def two_classes(image):
    return np.stack([1 - image[0], image[0]])


def three_classes(image):
    return np.stack([1 - image[0], image[0], np.zeros_like(image[0])])


def one_hot(labels):
    return make_case("stack", np.asarray(labels, np.float32), labels)


HALF = make_case("half", [[0.9, 0.1, 0.8, 0.3]], [[0, 0, 1, 1]])
RIGHT = make_case("right", [[0.0, 1.0], [1.0, 1.0]], [[0, 1], [1, 1]])


def test_one_case_by_hand():
    summary = evaluate([HALF], two_classes, ["background", "cell"]).summary()

    # of each class one pixel is found, one missed, one invented
    third = pytest.approx(1 / 3)
    each = {"dice": 0.5, "iou": third, "precision": 0.5, "recall": 0.5}
    # overlap 0.1 + 0.9 + 0.8 + 0.3; squares 0.01 + 0.81 + 0.04 + 0.49 and 0.81 + 0.01 + 0.64 + 0.09
    dice = pytest.approx(2 * 2.1 / (2.9 + 4 + 1e-6))
    assert summary == {
        "num_cases": 1,
        "pixel_accuracy": 0.5,
        "mean_iou": third,
        "classes": {"background": each, "cell": each},
        "zoo_dice": dice,
    }


def test_cases_are_summed_as_pixels_and_the_zoos_dice_as_a_mean():
    result = evaluate([HALF, RIGHT], two_classes, ["background", "cell"])
    summary, rows = result.summary(), result.rows()

    assert result.counts.true_positive.tolist() == [2, 4]
    assert result.counts.false_positive.tolist() == result.counts.false_negative.tolist() == [1, 1]
    assert summary["num_cases"] == 2
    assert summary["pixel_accuracy"] == 6 / 8
    assert summary["mean_iou"] == pytest.approx((2 / 4 + 4 / 6) / 2)
    assert summary["classes"]["cell"]["dice"] == pytest.approx(8 / 10)
    assert [row["case"] for row in rows] == ["half", "right"]
    assert [row["mean_iou"] for row in rows] == [pytest.approx(1 / 3), 1]
    assert summary["zoo_dice"] == pytest.approx((2 * 2.1 / 6.9 + 1) / 2, rel=1e-6)


def test_a_row_has_every_measure_of_every_class():
    (row,) = evaluate([RIGHT], two_classes, ["background", "cell"]).rows()

    measures = [f"{name}_{measure}" for name in ("background", "cell") for measure in ABSENT]
    assert list(row) == ["case", "pixel_accuracy", "mean_iou", *measures, "zoo_dice", "zoo_dice_388"]
    assert {row[measure] for measure in measures} == {1}
    assert row["zoo_dice_388"] is None


def test_a_class_that_is_nowhere_is_absent_and_not_in_the_mean():
    summary = evaluate([RIGHT], three_classes, ["background", "cell", "nucleus"]).summary()

    assert summary["classes"]["nucleus"] == ABSENT
    assert summary["mean_iou"] == 1


def test_a_class_that_was_not_predicted_has_no_precision():
    summary = evaluate([make_case("a", [[0.0, 0.0]], [[0, 1]])], two_classes, ["background", "cell"]).summary()

    assert summary["classes"]["cell"] == {"dice": 0, "iou": 0, "precision": None, "recall": 0}


def test_every_case_is_shown_once_with_its_scores():
    shown = []

    evaluate([HALF, RIGHT], two_classes, "ab", on_case=lambda case, scores: shown.append((case.id, scores)))

    assert [name for name, _ in shown] == ["half", "right"]
    np.testing.assert_array_equal(shown[0][1], two_classes(HALF.image))


def test_without_a_case_there_is_nothing_to_evaluate():
    with pytest.raises(ValueError, match="no case"):
        evaluate([], two_classes, ["background", "cell"])


# membranes


@pytest.fixture
def cells():
    """Two cells of 8 x 4 px, parted by a membrane of one pixel."""
    labels = np.ones((8, 9), np.uint8)
    labels[:, 4] = 0
    return one_hot(labels)


def test_a_membrane_that_is_found_exactly_scores_1(cells):
    summary = evaluate([cells], two_classes, ["membrane", "cell"], membrane=True).summary()

    names = [f"v_{name}{part}" for name in ("rand", "info") for part in ("", "_split", "_merge")]
    assert {name: summary[name] for name in names} == dict.fromkeys(names, pytest.approx(1))
    assert summary["v_rand_threshold"] == summary["v_info_threshold"] == 0
    assert summary["zoo_dice"] == pytest.approx(1)
    assert 0.95 < summary["zoo_dice_388"] < 1


def test_a_membrane_that_is_missed_merges_two_cells(cells):
    summary = evaluate([cells], lambda image: two_classes(np.ones_like(image)), "ab", membrane=True).summary()

    # one segment of 64 px holds two true ones of 32: 2 * 32^2 / 64^2
    assert summary["v_rand_merge"] == pytest.approx(0.5)
    assert summary["v_rand_split"] == 1
    assert summary["v_rand"] == pytest.approx(2 / 3)


def test_what_the_isbi_stack_is_measured_by_is_left_out_elsewhere(cells):
    summary = evaluate([cells], two_classes, ["membrane", "cell"]).summary()

    assert not [name for name in summary if name.startswith("v_") or name.endswith("388")]


def test_a_truth_without_cells_has_no_membrane_scores(cells):
    empty = Case("empty", cells.image, np.zeros_like(cells.labels))

    summary = evaluate([empty], two_classes, ["membrane", "cell"], membrane=True).summary()

    assert {value for name, value in summary.items() if name.startswith("v_")} == {None}
    assert sum(name.startswith("v_") for name in summary) == 8


@pytest.mark.parametrize("labels", [[[0, 1], [1, 1]], [[0, 0], [0, 0]]])
def test_summary_and_rows_are_json(labels):
    result = evaluate([make_case("a", [[0.2, 0.6]] * 2, labels)], two_classes, ["membrane", "cell"], membrane=True)

    for value in (result.summary(), result.rows()):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


# two ways to segment


def test_two_equal_ways_agree():
    agreement = compare([HALF.image, RIGHT.image], two_classes, two_classes)

    assert agreement == Agreement(num_pixels=8, equal_labels=1, largest_difference=0)
    assert agreement.is_close
    assert agreement.as_dict() == {"num_pixels": 8, "equal_labels": 1, "largest_difference": 0}


def test_pixels_and_the_largest_difference_are_counted_over_all_images():
    def other(image):
        return two_classes(np.where(image == np.float32(0.3), 0.55, image))

    agreement = compare([HALF.image, RIGHT.image], two_classes, other)

    assert (agreement.num_pixels, agreement.equal_labels) == (8, 7 / 8)
    assert agreement.largest_difference == pytest.approx(0.25)
    assert not agreement.is_close


@pytest.mark.parametrize("broken", ["all", "one"])
def test_scores_that_are_not_numbers_never_agree(broken):
    def other(image):
        scores = two_classes(image)
        scores[:, 0, 0 if broken == "one" else slice(None)] = np.nan
        return scores

    background = make_case("a", [[0.1, 0.2]], [[0, 0]])
    agreement = compare([background.image], two_classes, other)

    assert agreement.equal_labels == 1
    assert agreement.largest_difference == np.inf
    assert not agreement.is_close


@pytest.mark.parametrize(
    ("equal_labels", "largest_difference", "is_close"),
    [(0.9999, 1e-3, True), (0.99989, 0.0, False), (1.0, 1.1e-3, False)],
)
def test_ways_are_close_up_to_one_label_in_10000_and_a_thousandth(equal_labels, largest_difference, is_close):
    assert Agreement(10, equal_labels, largest_difference).is_close is is_close


def test_without_an_image_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no image"):
        compare([], two_classes, two_classes)
