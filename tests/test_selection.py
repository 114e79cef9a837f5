"""The names of measures: those that there are, and none that weights cannot be chosen by."""

from __future__ import annotations

import pytest

from unetcli.evaluation import Measures, dotted, selectable

OVERLAP = [f"classes.{name}.{measure}" for name in ("out", "in") for measure in ("dice", "iou", "precision", "recall")]
OVERALL = ["pixel_accuracy", "mean_iou", "foreground_dice"]


def test_values_within_values_are_named_by_the_way_to_them():
    assert dotted({"a": 1, "b": {"c": None, "d.e": {"f": 2}}}) == {"a": 1, "b.c": None, "b.d.e.f": 2}


@pytest.mark.parametrize(
    ("measures", "has_scores", "more"),
    [
        (Measures(), True, ["zoo_dice"]),
        (Measures(), False, []),
        (Measures(ignored=255), True, ["zoo_dice"]),
        (Measures(zoo_volumes=True), False, ["zoo_foreground_dice"]),
        (
            Measures(membrane=True),
            True,
            [
                *("zoo_dice", "zoo_dice_388", "v_rand", "v_rand_split", "v_rand_merge"),
                *("v_info", "v_info_split", "v_info_merge"),
            ],
        ),
    ],
)
def test_what_is_measured_can_be_selected_by_but_counts_and_thresholds(measures, has_scores, more):
    assert selectable(("out", "in"), measures, has_scores=has_scores) == (*OVERALL, *OVERLAP, *more)
