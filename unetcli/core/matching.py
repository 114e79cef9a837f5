"""How well predicted objects agree with the true ones: which were found, and which were merged or split.

Objects come as instance labels: 0 is background, and every object has a number of its own; which one does not matter.
Counts are summed over images first and a ratio is taken at the end; what is undefined is NaN, as in `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

InstanceLabels = NDArray[np.integer[Any]]

THRESHOLDS = tuple(percent / 100 for percent in range(50, 95, 5))
"""Of the intersection over union from which on an object counts as found: 0.5, 0.55, ... 0.9."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Which true and predicted objects share pixels; T of the ones, P of the others, by ascending number.

    Attributes:
        true: `(n,)` the true object of each pair that shares pixels, from 0.
        predicted: `(n,)` its predicted object, from 0.
        shared: `(n,)` int64 pixels that the two share, at least 1.
        true_sizes: `(T,)` int64 pixels of each true object.
        predicted_sizes: `(P,)` int64 pixels of each predicted object.
    """

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    shared: NDArray[np.int64]
    true_sizes: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """`(n,)` intersection over union of each pair."""
        either = self.true_sizes[self.true] + self.predicted_sizes[self.predicted] - self.shared
        return self.shared / either


def find_overlaps(true: InstanceLabels, predicted: InstanceLabels) -> Overlaps:
    """The objects of two images of instance labels, and the pixels that they share.

    Args:
        true: `(*S)` integers of at least 0.
        predicted: The same.

    Raises:
        TypeError: If an array does not hold integers.
        ValueError: If the shapes differ, or a number is negative.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"true instances are {true.shape} px but the predicted ones are {predicted.shape} px")
    true_numbers, true_sizes = _objects("true instances", true)
    predicted_numbers, predicted_sizes = _objects("predicted instances", predicted)
    is_both = (true > 0) & (predicted > 0)
    one, other = np.searchsorted(true_numbers, true[is_both]), np.searchsorted(predicted_numbers, predicted[is_both])
    pairs, shared = np.unique(one * len(predicted_numbers) + other, return_counts=True)
    first, second = np.divmod(pairs, max(len(predicted_numbers), 1))
    return Overlaps(first, second, shared.astype(np.int64), true_sizes, predicted_sizes)


def num_found(overlaps: Overlaps, threshold: float) -> int:
    """The most pairs of one true and one predicted object each whose intersection over union is at least a threshold.

    Above 0.5 an object has one partner at most; at 0.5 and below the best assignment counts, as in StarDist and
    Cellpose.

    Raises:
        ValueError: If the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    is_near = overlaps.iou >= threshold
    if not is_near.any():
        return 0
    pairs = (np.ones(np.count_nonzero(is_near), np.int8), (overlaps.true[is_near], overlaps.predicted[is_near]))
    graph = csr_array(pairs, shape=(len(overlaps.true_sizes), len(overlaps.predicted_sizes)))
    return int(np.count_nonzero(maximum_bipartite_matching(graph) >= 0))


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """Objects of one image or of several; summable.

    A *merged* object is a true one of which more than half lies in a predicted object that holds more than half of
    another true one, too. A *split* object is a true one that holds more than half of each of two or more predicted
    ones. More than half, as Matula et al. 2015 assign cells (doi 10.1371/journal.pone.0144959), since an object lies
    so in one other at most; Caicedo et al. 2019 (doi 10.1002/cyto.a.23863) count by an overlap of 0.1, which also
    takes neighbours that only touch.

    Attributes:
        num_found: True objects that were found, at each of `THRESHOLDS`.
        num_true: True objects.
        num_predicted: Predicted objects.
        num_matched: Pairs of an intersection over union above 0.5, which no object can have two of.
        iou_sum: Sum of theirs.
        num_merged: True objects that were merged with others.
        num_split: True objects that were split.
    """

    num_found: tuple[int, ...] = (0,) * len(THRESHOLDS)
    num_true: int = 0
    num_predicted: int = 0
    num_matched: int = 0
    iou_sum: float = 0.0
    num_merged: int = 0
    num_split: int = 0

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            tuple(one + more for one, more in zip(self.num_found, other.num_found, strict=True)),
            self.num_true + other.num_true,
            self.num_predicted + other.num_predicted,
            self.num_matched + other.num_matched,
            self.iou_sum + other.iou_sum,
            self.num_merged + other.num_merged,
            self.num_split + other.num_split,
        )


def count_objects(true: InstanceLabels, predicted: InstanceLabels) -> ObjectCounts:
    """Compare predicted objects with the true ones of an image.

    Args:
        true: Instance labels `(*S)`.
        predicted: The same.

    Raises:
        TypeError: If an array does not hold integers.
        ValueError: If the shapes differ, or a number is negative.
    """
    overlaps = find_overlaps(true, predicted)
    matched = overlaps.iou[overlaps.iou > 0.5]
    return ObjectCounts(
        num_found=tuple(num_found(overlaps, threshold) for threshold in THRESHOLDS),
        num_true=len(overlaps.true_sizes),
        num_predicted=len(overlaps.predicted_sizes),
        num_matched=len(matched),
        iou_sum=float(np.sort(matched).sum()),  # in an order that does not hang on the numbers of objects
        num_merged=_num_merged(overlaps),
        num_split=_num_split(overlaps),
    )


def average_precision(counts: ObjectCounts) -> NDArray[np.float64]:
    """Found objects among all that are true or were predicted, at each of `THRESHOLDS`: `TP / (TP + FP + FN)`.

    So it is called and defined for the Data Science Bowl 2018 (Caicedo et al. 2019, doi 10.1038/s41592-019-0612-7),
    StarDist and Cellpose; it is not the area under a curve that the name means for COCO. The Bowl goes on to 0.95, and
    like Cellpose takes the mean over images, not over all objects.

    Returns:
        `(9,)` values in [0, 1]; NaN where there are neither true nor predicted objects.
    """
    found = np.array(counts.num_found, np.int64)
    either = counts.num_true + counts.num_predicted - found
    return np.where(either > 0, found / np.maximum(either, 1), np.nan)


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """How well objects were found and outlined.

    Attributes:
        panoptic: Product of the two others, 0 where nothing was matched; NaN without objects.
        segmentation: Mean intersection over union of the matched pairs; NaN where there are none.
        recognition: `TP / (TP + FP / 2 + FN / 2)` of them, the Dice of objects; NaN without objects.
    """

    panoptic: float
    segmentation: float
    recognition: float


def panoptic_quality(counts: ObjectCounts) -> PanopticQuality:
    """Panoptic quality of objects of one class (Kirillov et al. 2019, arXiv:1801.00868).

    A pair matches if its intersection over union is above 0.5, where `average_precision` also takes 0.5 itself.
    """
    all_objects = counts.num_true + counts.num_predicted
    return PanopticQuality(
        panoptic=2 * counts.iou_sum / all_objects if all_objects else float("nan"),
        segmentation=counts.iou_sum / counts.num_matched if counts.num_matched else float("nan"),
        recognition=2 * counts.num_matched / all_objects if all_objects else float("nan"),
    )


def class_of_objects(instances: InstanceLabels, labels: InstanceLabels, classes: Sequence[int]) -> NDArray[np.int64]:
    """The class that most pixels of each object have.

    Args:
        instances: `(*S)` instance labels.
        labels: `(*S)` class of every pixel.
        classes: Those that objects can be of, at least one.

    Returns:
        `(m + 1,)` by the number of the object, to the highest number m, and 0 for the background. Of classes that are
        equally many it is the first; so it is, too, for an object without a pixel of any.
    """
    found = np.zeros(int(instances.max(initial=0)) + 1, np.int64)
    if len(classes) == 1:
        found[1:] = classes[0]
        return found
    pixels = np.stack([np.bincount(instances[labels == index], minlength=len(found)) for index in classes])
    found[1:] = np.array(classes)[pixels.argmax(axis=0)][1:]
    return found


def _num_merged(overlaps: Overlaps) -> int:
    is_within = 2 * overlaps.shared > overlaps.true_sizes[overlaps.true]
    num_held = np.bincount(overlaps.predicted[is_within])
    return int(num_held[num_held > 1].sum())


def _num_split(overlaps: Overlaps) -> int:
    is_within = 2 * overlaps.shared > overlaps.predicted_sizes[overlaps.predicted]
    return int(np.count_nonzero(np.bincount(overlaps.true[is_within]) > 1))


def _objects(name: str, instances: InstanceLabels) -> tuple[InstanceLabels, NDArray[np.int64]]:
    """The numbers of the objects, ascending, and their sizes in pixels."""
    if not np.issubdtype(instances.dtype, np.integer):
        raise TypeError(f"{name} must hold integers, got {instances.dtype}")
    if instances.size and instances.min() < 0:
        raise ValueError(f"{name} must be at least 0, got {instances.min()}")
    numbers, sizes = np.unique(instances[instances > 0], return_counts=True)
    return numbers, sizes.astype(np.int64)
