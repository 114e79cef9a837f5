"""How well predicted labels agree with the truth, counted in pixels, in any number of dimensions.

Counts are integers and are summed over images first; a ratio is taken at the end, so that an image weighs
what its pixels weigh. Where a ratio is undefined it is NaN, never 0 or 1 (Maier-Hein et al. 2024, Metrics
Reloaded, doi 10.1038/s41592-023-02151-z).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]
Ratios = NDArray[np.float64]

CHUNK = 1 << 22
"""Pixels counted at once, to bound memory on volumes."""

ZOO_SIZE = 388
"""Rows and columns at which the MindSpore model zoo evaluates the ISBI slices."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels per class, summable over images; each field is `(K,)` int64.

    Every pixel has one true class, so the number of pixels is the sum of `true_positive` and `false_negative`.
    """

    true_positive: NDArray[np.int64]
    false_positive: NDArray[np.int64]
    false_negative: NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        if len(self.true_positive) != len(other.true_positive):
            raise ValueError(f"counts of {len(self.true_positive)} and {len(other.true_positive)} classes do not add")
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )


def count(labels: Labels, predicted: Labels, num_classes: int, *, ignored: int | None = None) -> Counts:
    """Compare predicted labels with the true ones, pixel by pixel.

    Args:
        labels: True labels, `(*S)`, each in [0, num_classes) or `ignored`.
        predicted: Predicted labels of the same shape, each in [0, num_classes).
        num_classes: Number of classes K, background included.
        ignored: A label of pixels that are left out, whatever was predicted there.

    Raises:
        TypeError: If an array does not hold integers.
        ValueError: If the shapes differ, or a label is out of range.
    """
    if labels.shape != predicted.shape:
        raise ValueError(f"labels are {labels.shape} px but the prediction is {predicted.shape} px")
    labels, predicted = _kept(labels, predicted, ignored)
    for name, array in (("labels", labels), ("prediction", predicted)):
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{name} must hold integers, got {array.dtype}")
        if array.size and not 0 <= array.min() <= array.max() < num_classes:
            raise ValueError(f"{name} must be in [0, {num_classes}), got {array.min()} to {array.max()}")
    true, found = labels.ravel(), predicted.ravel()
    confusion = np.zeros(num_classes * num_classes, np.int64)
    for start in range(0, true.size, CHUNK):
        pairs = true[start : start + CHUNK].astype(np.int64) * num_classes + found[start : start + CHUNK]
        confusion += np.bincount(pairs, minlength=confusion.size)
    confusion = confusion.reshape(num_classes, num_classes)
    hits = confusion.diagonal().copy()
    return Counts(hits, confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits)


def dice(counts: Counts) -> NDArray[np.float64]:
    """Dice overlap of each class (Dice 1945): `2 TP / (2 TP + FP + FN)`.

    Returns:
        `(K,)` values in [0, 1]; NaN where a class is in neither prediction nor truth.
    """
    hits = 2 * counts.true_positive
    return _ratio(hits, hits + counts.false_positive + counts.false_negative)


def iou(counts: Counts) -> NDArray[np.float64]:
    """Intersection over union of each class (Jaccard 1912): `TP / (TP + FP + FN)`.

    Returns:
        `(K,)` values in [0, 1]; NaN where a class is in neither prediction nor truth.
    """
    return _ratio(counts.true_positive, counts.true_positive + counts.false_positive + counts.false_negative)


def precision(counts: Counts) -> NDArray[np.float64]:
    """Share of the pixels predicted as a class that are of it: `TP / (TP + FP)`.

    Returns:
        `(K,)` values in [0, 1]; NaN where a class was not predicted.
    """
    return _ratio(counts.true_positive, counts.true_positive + counts.false_positive)


def recall(counts: Counts) -> NDArray[np.float64]:
    """Share of the pixels of a class that were predicted as it: `TP / (TP + FN)`.

    Returns:
        `(K,)` values in [0, 1]; NaN where a class is not in the truth.
    """
    return _ratio(counts.true_positive, counts.true_positive + counts.false_negative)


def specificity(counts: Counts) -> NDArray[np.float64]:
    """Share of the pixels that are not of a class and were not predicted as it: `TN / (TN + FP)`.

    Returns:
        `(K,)` values in [0, 1]; NaN where all pixels are of the class.
    """
    positive = counts.true_positive + counts.false_negative
    negative = positive.sum() - positive
    return _ratio(negative - counts.false_positive, negative)


def volume_difference(counts: Counts) -> NDArray[np.float64]:
    """How much more of each class was predicted than there is, as a share of what there is: `(FP - FN) / (TP + FN)`.

    Returns:
        `(K,)` values of at least -1, negative where too little was predicted; NaN where a class is not in the truth.
    """
    return _ratio(counts.false_positive - counts.false_negative, counts.true_positive + counts.false_negative)


def pixel_accuracy(counts: Counts) -> float:
    """Share of all pixels whose predicted class is the true one; NaN if there are no pixels."""
    hits = counts.true_positive.sum()
    return float(_ratio(hits, hits + counts.false_negative.sum()))


def mean_iou(counts: Counts, background: bool = True) -> float:
    """Mean of `iou` over the classes that are there.

    Args:
        counts: Pixels per class.
        background: Let class 0 count as a class.

    Returns:
        A value in [0, 1]; NaN if none of the classes is in prediction or truth.
    """
    values = iou(counts)[0 if background else 1 :]
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def zoo_foreground_dice(counts: Counts) -> float:
    """Dice of one volume as the MindSpore model zoo defines it for its 3D U-Net, to compare with its published numbers.

    All classes but the background are pooled before the ratio is taken (`research/cv/Unet3d/src/utils.py`), so large
    structures decide; a run's value is the mean over its volumes. It is not the overlap of the union of the
    classes: a voxel given to a wrong one of them is a fault.

    Returns:
        A value in [0, 1]; NaN if there is foreground in neither prediction nor truth.
    """
    hits, invented, missed = (
        field[1:].sum() for field in (counts.true_positive, counts.false_positive, counts.false_negative)
    )
    return float(_ratio(2 * hits, 2 * hits + invented + missed))


def zoo_dice(scores: Scores, labels: Labels, *, ignored: int | None = None) -> float:
    """Soft "Dice" of one image as the MindSpore model zoo defines it, to compare with its published numbers.

    `2 <p, y> / (<p, p> + <y, y> + 1e-6)` over all pixels and classes at once, with `p` the probabilities and `y`
    the labels as one-hot (`official/cv/Unet/src/utils.py`, class `dice_coeff`); a run's value is the mean over
    its images. The background counts as a class, so for certain predictions this is the pixel accuracy and
    not the overlap of the foreground, which is `dice`.

    Args:
        scores: Probabilities, `(K, *S)`.
        labels: True labels, `(*S)`, each in [0, K) or `ignored`.
        ignored: A label of pixels to leave out.

    Raises:
        ValueError: If the shapes do not fit, or a label is out of range.
    """
    _check_scores(scores, labels)
    if ignored is not None and (labels == ignored).any():
        scores, labels = scores[:, labels != ignored], labels[labels != ignored]
    num_classes = len(scores)
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"labels must be in [0, {num_classes}), got {labels.min()} to {labels.max()}")
    overlap = np.take_along_axis(scores, labels[np.newaxis].astype(np.intp), axis=0).sum(dtype=np.float64)
    squares = np.square(scores, dtype=np.float64).sum()
    return float(2 * overlap / (squares + labels.size + 1e-6))


def resize_as_zoo(
    scores: Scores, labels: Labels, size: int = ZOO_SIZE
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Bring an image's scores and labels to the size at which the MindSpore model zoo evaluates.

    The zoo shrinks a 512 px slice and its mask, as 0 and 1, to 388 px with `mindspore.dataset.vision.Resize`,
    which is bilinear with half-pixel centres and no smoothing; a pixel above 0.5 is then foreground
    (`official/cv/Unet/src/data_loader.py`). Its network sees the small image, ours the whole one, so here the
    scores are resized in the same way. They still sum to one over the classes.

    Args:
        scores: Probabilities, `(K, H, W)`.
        labels: True labels, `(H, W)`, 0 or 1.
        size: Rows and columns of the result, in pixels.

    Returns:
        Scores `(K, size, size)` and labels `(size, size)`.

    Raises:
        ValueError: If the shapes do not fit, or there are labels other than 0 and 1.
    """
    _check_scores(scores, labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), got {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() <= 1:
        raise ValueError(f"labels must be 0 or 1, got {labels.min()} to {labels.max()}")
    small = [_resize(channel, size) for channel in scores]
    return np.stack(small), (_resize(labels, size) > 0.5).astype(np.uint8)


def _kept(labels: Labels, predicted: Labels, ignored: int | None) -> tuple[Labels, Labels]:
    """Both without the pixels whose true label is `ignored`."""
    if ignored is None:
        return labels, predicted
    is_kept = labels != ignored
    return (labels, predicted) if is_kept.all() else (labels[is_kept], predicted[is_kept])


def _resize(channel: NDArray[np.generic], size: int) -> NDArray[np.float32]:
    resized = cv2.resize(channel.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


def _check_scores(scores: Scores, labels: Labels) -> None:
    if scores.shape[1:] != labels.shape:
        raise ValueError(f"scores of shape {scores.shape} do not fit labels of shape {labels.shape}")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """`part / whole`, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
