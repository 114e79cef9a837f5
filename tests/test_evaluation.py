"""Evaluation by hand on a few pixels, with a function in place of the network."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from unetcli.core.geometry import Geometry
from unetcli.core.surface import measure_surfaces
from unetcli.evaluation import Agreement, Measures, Prediction, compare, evaluate

ABSENT = {"dice": None, "iou": None, "precision": None, "recall": None}


@dataclass(frozen=True)
class Case:
    id: str
    image: np.ndarray
    labels: np.ndarray
    geometry: Geometry | None = None


def make_case(name, probabilities, labels):
    """An image whose pixels are the probabilities of class 1."""
    return Case(name, np.array([probabilities], np.float32), np.array(labels, np.uint8))


def two_classes(image):
    return np.stack([1 - image[0], image[0]])


def three_classes(image):
    return np.stack([1 - image[0], image[0], np.zeros_like(image[0])])


def segmenting(network):
    """A function from images to scores, as `evaluate` takes it."""

    def segment(case):
        scores = network(case.image)
        return Prediction(scores.argmax(axis=0).astype(np.uint8), scores)

    return segment


def one_hot(labels):
    return make_case("stack", np.asarray(labels, np.float32), labels)


HALF = make_case("half", [[0.9, 0.1, 0.8, 0.3]], [[0, 0, 1, 1]])
RIGHT = make_case("right", [[0.0, 1.0], [1.0, 1.0]], [[0, 1], [1, 1]])


def test_one_case_by_hand():
    summary = evaluate([HALF], segmenting(two_classes), ["background", "cell"]).summary()

    # of each class one pixel is found, one missed, one invented
    third = pytest.approx(1 / 3)
    each = {"dice": 0.5, "iou": third, "precision": 0.5, "recall": 0.5}
    # overlap 0.1 + 0.9 + 0.8 + 0.3; squares 0.01 + 0.81 + 0.04 + 0.49 and 0.81 + 0.01 + 0.64 + 0.09
    dice = pytest.approx(2 * 2.1 / (2.9 + 4 + 1e-6))
    assert summary == {
        "num_cases": 1,
        "pixel_accuracy": 0.5,
        "mean_iou": third,
        "foreground_dice": 0.5,
        "classes": {"background": each, "cell": each},
        "zoo_dice": dice,
    }


def test_cases_are_summed_as_pixels_and_the_zoos_dice_as_a_mean():
    result = evaluate([HALF, RIGHT], segmenting(two_classes), ["background", "cell"])
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
    (row,) = evaluate([RIGHT], segmenting(two_classes), ["background", "cell"]).rows()

    overlaps = [*ABSENT, "specificity"]
    measures = [f"{name}_{measure}" for name in ("background", "cell") for measure in [*overlaps, "volume_difference"]]
    overall = ["case", "pixel_accuracy", "mean_iou", "foreground_dice"]
    assert list(row) == [*overall, *measures, "zoo_dice", "zoo_dice_388"]
    assert {row[f"{name}_{measure}"] for name in ("background", "cell") for measure in overlaps} == {1}
    assert row["cell_volume_difference"] == 0
    assert row["zoo_dice_388"] is None


def test_a_class_that_is_nowhere_is_absent_and_not_in_the_mean():
    summary = evaluate([RIGHT], segmenting(three_classes), ["background", "cell", "nucleus"]).summary()

    assert summary["classes"]["nucleus"] == ABSENT
    assert summary["mean_iou"] == 1


def test_a_class_that_was_not_predicted_has_no_precision():
    summary = evaluate(
        [make_case("a", [[0.0, 0.0]], [[0, 1]])], segmenting(two_classes), ["background", "cell"]
    ).summary()

    assert summary["classes"]["cell"] == {"dice": 0, "iou": 0, "precision": None, "recall": 0}


def test_every_case_is_shown_once_with_its_scores():
    shown = []

    evaluate([HALF, RIGHT], segmenting(two_classes), "ab", on_case=lambda *pair: shown.append(pair))

    assert [case.id for case, _ in shown] == ["half", "right"]
    np.testing.assert_array_equal(shown[0][1].scores, two_classes(HALF.image))


def test_without_a_case_there_is_nothing_to_evaluate():
    with pytest.raises(ValueError, match="no case"):
        evaluate([], segmenting(two_classes), ["background", "cell"])


def labels_of_pixels(case):
    """The labels that an image is made of, without scores."""
    return Prediction(case.image[0].astype(np.uint8))


def test_labels_are_measured_as_scores_are_and_only_the_soft_measure_is_missing():
    of_scores = evaluate([RIGHT, HALF], segmenting(two_classes), "ab").summary()

    of_labels = evaluate([RIGHT, HALF], lambda case: Prediction((case.image[0] > 0.5).astype(np.uint8)), "ab").summary()

    assert of_labels == {name: value for name, value in of_scores.items() if name != "zoo_dice"}


def test_membranes_cannot_be_measured_by_labels():
    with pytest.raises(ValueError, match="membranes are measured by scores"):
        evaluate([HALF], labels_of_pixels, "ab", Measures(membrane=True))


# over cases


def test_the_worst_case_is_first_and_last_those_without_foreground():
    cases = [
        make_case("right", [[0, 1]], [[0, 1]]),
        make_case("empty", [[0, 0]], [[0, 0]]),
        make_case("wrong", [[0, 1]], [[1, 0]]),
        make_case("half", [[0, 1]], [[1, 1]]),
    ]

    result = evaluate(cases, labels_of_pixels, ["background", "cell"])

    assert [row["case"] for row in result.rows()] == ["wrong", "half", "right", "empty"]
    assert [row["foreground_dice"] for row in result.rows()] == [0, pytest.approx(2 / 3), 1, None]
    assert [case.id for case in result.cases] == ["right", "empty", "wrong", "half"]


def test_the_foreground_dice_is_the_mean_over_classes_of_the_mean_over_cases():
    cases = [make_case("a", [[1, 1, 0]], [[1, 2, 0]]), make_case("b", [[1, 0, 0]], [[1, 0, 0]])]

    summary = evaluate(cases, labels_of_pixels, ["background", "anterior", "posterior", "nowhere"]).summary()

    # anterior 2/3 and 1; posterior 0 and absent; nowhere in neither
    assert summary["foreground_dice"] == pytest.approx(((2 / 3 + 1) / 2 + 0) / 2)


def test_statistics_leave_out_a_class_that_is_nowhere_and_count_it():
    cases = [
        make_case("a", [[0, 1]], [[0, 1]]),
        make_case("b", [[0, 0]], [[0, 0]]),
        make_case("c", [[0, 0]], [[0, 1]]),
        make_case("d", [[1, 0, 0, 0]], [[1, 1, 1, 0]]),
    ]

    dice = evaluate(cases, labels_of_pixels, ["background", "cell"]).statistics()["cell"]["dice"]

    assert dice == {"mean": 0.5, "median": 0.5, "low": 0, "high": 1, "num_cases": 3, "num_undefined": 1}


def test_statistics_of_one_case_have_no_interval_and_of_none_no_mean():
    statistics = evaluate([make_case("a", [[0, 0]], [[0, 0]])], labels_of_pixels, ["background", "cell"]).statistics()

    nothing = {"low": None, "high": None}
    assert statistics["background"]["dice"] == {"mean": 1, "median": 1, "num_cases": 1, "num_undefined": 0} | nothing
    assert statistics["cell"]["dice"] == {"mean": None, "median": None, "num_cases": 0, "num_undefined": 1} | nothing


def test_statistics_are_the_same_every_time_and_whatever_else_is_measured(rng):
    cases = [make_case(str(i), rng.integers(0, 2, (3, 4)), rng.integers(0, 2, (3, 4))) for i in range(7)]
    result = evaluate(cases, labels_of_pixels, ["background", "cell"])

    assert result.statistics() == result.statistics()
    assert result.statistics()["cell"] == evaluate(cases, labels_of_pixels, ["x", "cell"]).statistics()["cell"]


# volumes

GRID = Geometry((3, 4, 5), (2.0, 1.0, 0.5))


def make_volume(name, predicted, labels, geometry=GRID):
    return Case(name, np.array([predicted], np.uint8), np.array(labels, np.uint8), geometry)


@pytest.fixture
def moved():
    """A structure of 2 x 2 x 2 voxels of 1 mm3, predicted one voxel of 0.5 mm further, and a second that is missed."""
    labels, predicted = np.zeros((2, *GRID.size), np.uint8)
    labels[:2, :2, :2], predicted[:2, :2, 1:3] = 1, 1
    labels[2, 3, 4] = 2
    return make_volume("moved", predicted, labels)


def test_volumes_and_distances_are_in_mm(moved):
    (row,) = evaluate([moved], labels_of_pixels, "xyz", Measures(distances=True, tolerance=0.4)).rows()

    # all 8 voxels of each are surface, and half of them common
    found = {name: row[f"y_{name}"] for name in ("hd95_mm", "asd_mm", "assd_mm", "surface_dice")}
    assert found == {"hd95_mm": 0.5, "asd_mm": 0.25, "assd_mm": 0.25, "surface_dice": 0.5}
    assert (row["y_volume_mm3"], row["y_predicted_volume_mm3"], row["y_volume_difference"]) == (8, 8, 0)
    assert (row["z_volume_mm3"], row["z_predicted_volume_mm3"], row["z_volume_difference"]) == (1, 0, -1)
    assert row["z_volume_difference_ml"] == -0.001
    assert row["y_specificity"] == 1 - 4 / 52


def test_a_class_that_was_missed_has_no_distance_and_the_background_none_at_all(moved):
    (row,) = evaluate([moved], labels_of_pixels, "xyz", Measures(distances=True)).rows()

    assert [row[f"z_{name}"] for name in ("hd95_mm", "asd_mm", "assd_mm", "surface_dice", "dice")] == [None] * 3 + [
        0,
        0,
    ]
    assert not [name for name in row if name.startswith("x_") and name.endswith("mm")]
    assert "x_surface_dice" not in row


def test_distances_are_in_the_statistics(moved):
    shifted = evaluate([moved, moved], labels_of_pixels, "xyz", Measures(distances=True)).statistics()

    assert shifted["y"]["hd95_mm"]["mean"] == 0.5
    assert shifted["y"]["hd95_mm"]["num_cases"] == 2
    assert shifted["z"]["hd95_mm"]["num_undefined"] == 2


def test_distances_are_measured_only_where_asked_for_and_in_mm(moved):
    tilted = Geometry(GRID.size, GRID.spacing, direction=((0, 0.6, 0.8), (0, 1, 0), (1, 0, 0)))

    for case, measures in [
        (moved, Measures()),
        (make_volume("pixels", moved.image[0], moved.labels, None), Measures(distances=True)),
        (make_volume("tilted", moved.image[0], moved.labels, tilted), Measures(distances=True)),
    ]:
        (result,) = evaluate([case], labels_of_pixels, "xyz", measures).cases
        assert result.surfaces == ()


def test_the_volume_of_a_voxel_of_a_tilted_grid_is_less_than_the_product_of_its_sides(moved):
    tilted = Geometry(GRID.size, GRID.spacing, direction=((0, 0.6, 0.8), (0, 1, 0), (1, 0, 0)))

    (row,) = evaluate([make_volume("tilted", moved.image[0], moved.labels, tilted)], labels_of_pixels, "xyz").rows()

    assert row["y_volume_mm3"] == pytest.approx(8 * 0.8)


def test_ignored_pixels_count_nowhere(moved):
    labels = np.where(moved.image[0] == moved.labels, moved.labels, 255)
    ignoring = Measures(distances=True, ignored=255)

    case = make_volume("ignoring", moved.image[0], labels)
    summary = evaluate([case], labels_of_pixels, "xyz", ignoring).summary()
    (result,) = evaluate([case], labels_of_pixels, "xyz", ignoring).cases

    assert summary["pixel_accuracy"] == summary["classes"]["y"]["dice"] == 1
    assert summary["classes"]["z"]["dice"] is None
    assert result.counts.true_positive.sum() == (labels != 255).sum()
    # of both only the common half is left, at distance 0
    assert result.surfaces[0] == measure_surfaces(labels == 1, labels == 1)


def test_ignored_pixels_do_not_count_in_the_zoos_dice():
    ignoring = make_case("ignoring", [[0.9, 0.1, 0.8, 0.3, 0.7]], [[0, 0, 1, 1, 255]])

    summary = evaluate([ignoring], segmenting(two_classes), "ab", Measures(ignored=255)).summary()

    assert summary["zoo_dice"] == evaluate([HALF], segmenting(two_classes), "ab").summary()["zoo_dice"]


def test_the_zoos_dice_of_volumes_pools_the_foreground_of_each_and_is_their_mean(moved):
    right = make_volume("right", moved.labels, moved.labels)
    background = make_volume("background", np.zeros(GRID.size), np.zeros(GRID.size))

    cases = [moved, right, background]
    summary = evaluate(cases, labels_of_pixels, "xyz", Measures(zoo_volumes=True)).summary()

    # 4 of 9 true and 8 predicted voxels; 1; nothing to find
    assert summary["zoo_foreground_dice"] == pytest.approx((2 * 4 / 17 + 1) / 2)
    assert "zoo_foreground_dice" not in evaluate(cases, labels_of_pixels, "xyz").summary()


def test_everything_of_volumes_is_json(moved):
    result = evaluate([moved], labels_of_pixels, "xyz", Measures(distances=True, zoo_volumes=True))

    for value in (result.summary(), result.rows(), result.statistics()):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


# membranes


@pytest.fixture
def cells():
    """Two cells of 8 x 4 px, parted by a membrane of one pixel."""
    labels = np.ones((8, 9), np.uint8)
    labels[:, 4] = 0
    return one_hot(labels)


def test_a_membrane_that_is_found_exactly_scores_1(cells):
    summary = evaluate([cells], segmenting(two_classes), ["membrane", "cell"], Measures(membrane=True)).summary()

    names = [f"v_{name}{part}" for name in ("rand", "info") for part in ("", "_split", "_merge")]
    assert {name: summary[name] for name in names} == dict.fromkeys(names, pytest.approx(1))
    assert summary["v_rand_threshold"] == summary["v_info_threshold"] == 0
    assert summary["zoo_dice"] == pytest.approx(1)
    assert 0.95 < summary["zoo_dice_388"] < 1


def test_a_membrane_that_is_missed_merges_two_cells(cells):
    summary = evaluate(
        [cells], segmenting(lambda image: two_classes(np.ones_like(image))), "ab", Measures(membrane=True)
    ).summary()

    # one segment of 64 px holds two true ones of 32: 2 * 32^2 / 64^2
    assert summary["v_rand_merge"] == pytest.approx(0.5)
    assert summary["v_rand_split"] == 1
    assert summary["v_rand"] == pytest.approx(2 / 3)


def test_what_the_isbi_stack_is_measured_by_is_left_out_elsewhere(cells):
    summary = evaluate([cells], segmenting(two_classes), ["membrane", "cell"]).summary()

    assert not [name for name in summary if name.startswith("v_") or name.endswith("388")]


def test_a_truth_without_cells_has_no_membrane_scores(cells):
    empty = Case("empty", cells.image, np.zeros_like(cells.labels))

    summary = evaluate([empty], segmenting(two_classes), ["membrane", "cell"], Measures(membrane=True)).summary()

    assert {value for name, value in summary.items() if name.startswith("v_")} == {None}
    assert sum(name.startswith("v_") for name in summary) == 8


@pytest.mark.parametrize("labels", [[[0, 1], [1, 1]], [[0, 0], [0, 0]]])
def test_summary_and_rows_are_json(labels):
    result = evaluate(
        [make_case("a", [[0.2, 0.6]] * 2, labels)],
        segmenting(two_classes),
        ["membrane", "cell"],
        Measures(membrane=True),
    )

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
