"""The objects of a case beside the true ones, and their measures by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetcli.core import matching
from unetcli.core.matching import THRESHOLDS, ObjectCounts
from unetcli.inference import Instances

Value = float | None
"""A measure; None where it is undefined, such as the Dice of a class that is nowhere."""


def compare_objects(
    true: NDArray[np.int32],
    labels: NDArray[np.uint8],
    found: Instances,
    classes: Sequence[int],
    *,
    ignored: int | None = None,
) -> tuple[ObjectCounts, ...]:
    """Compare the objects found in an image with the true ones, class by class.

    A true object is of the class that most of its pixels have. Pixels that are left out belong to no object; what was
    found and lies in them with more than half is left out whole (as in Kirillov et al. 2019, section 4.2).

    Args:
        true: `(*S)` true instance labels.
        labels: `(*S)` true class of every pixel.
        found: What was found.
        classes: Those that objects are of.
        ignored: A label of pixels to leave out.

    Returns:
        Of each of `classes`.
    """
    numbers = found.numbers
    if ignored is not None and (is_ignored := labels == ignored).any():
        sizes = np.bincount(numbers.ravel(), minlength=len(found.classes))
        hidden = np.bincount(numbers[is_ignored], minlength=len(found.classes))
        numbers = np.where(is_ignored | (2 * hidden > sizes)[numbers], 0, numbers)
        true = np.where(is_ignored, 0, true)
    true_classes = matching.class_of_objects(true, labels, classes)
    return tuple(
        matching.count_objects(
            np.where(true_classes[true] == index, true, 0), np.where(found.classes[numbers] == index, numbers, 0)
        )
        for index in classes
    )


def total(counts: Sequence[ObjectCounts]) -> ObjectCounts:
    """The sum of counts."""
    return sum(counts, ObjectCounts())


def object_measures(counts: ObjectCounts) -> dict[str, Value]:
    """The measures of objects by name; None where they are undefined.

    `average_precision_50` is that of an intersection over union of at least 0.50, and so on to 0.90, and
    `mean_average_precision` the mean of the nine.
    """
    precision = matching.average_precision(counts)
    quality = matching.panoptic_quality(counts)
    measures = {
        **{f"average_precision_{round(100 * at)}": value for at, value in zip(THRESHOLDS, precision, strict=True)},
        "mean_average_precision": precision.mean(),
        "panoptic_quality": quality.panoptic,
        "segmentation_quality": quality.segmentation,
        "recognition_quality": quality.recognition,
    }
    return {
        "num_true_objects": counts.num_true,
        "num_predicted_objects": counts.num_predicted,
        "num_merged_objects": counts.num_merged,
        "num_split_objects": counts.num_split,
        **{name: None if np.isnan(value) else float(value) for name, value in measures.items()},
    }
