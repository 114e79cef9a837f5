"""Scores of the ISBI 2012 challenge, for cells that membranes part: V_Rand and V_Info after border thinning.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for connectomics"
(doi 10.3389/fnana.2015.00142), and the organisers' own program, Fiji's Trainable Segmentation
(`RandError.getMaximalVRandAfterThinning(0, 1, 0.1, true)`, `VariationOfInformation.getMaximalVInfoAfterThinning(0,
1, 0.1)`). As there:

- the pixels of a slice whose cell score exceeds a threshold are cells, and their 4-connected parts are segments;
- segments grow into the membrane until they meet (a watershed of the binary image), which leaves lines of about
  one pixel and removes membranes that part nothing; the truth is not thinned;
- only pixels inside the true cells count, and there each line pixel of the proposal is a segment of its own;
- a score is the mean over slices at one threshold, the best of 11 thresholds is taken, and V_Rand and V_Info may
  take theirs at different ones.

One departure: where two segments meet, the line follows OpenCV's flooding order and not Fiji's, which moves it
by a pixel here and there and the score of a slice by less than 0.001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]

THRESHOLDS = tuple(accumulate(repeat(0.1, 10), initial=0.0))
"""Fiji's: summed in double precision, so the last is just below 1 and certain cell pixels exceed it."""


class Agreement(NamedTuple):
    """How two segmentations agree; 1 is best. NaN if the truth has no cell."""

    split: float
    """1 if no true cell is split; Rand recall, or `I / H(proposal)`."""
    merge: float
    """1 if no true cells are merged; Rand precision, or `I / H(truth)`."""
    f: float
    """Their harmonic mean."""


@dataclass(frozen=True, slots=True)
class BoundaryScore:
    """A score at the threshold where its mean over slices is best, with its two parts there."""

    score: float
    threshold: float
    split: float
    merge: float


@dataclass(frozen=True, slots=True)
class BoundaryScores:
    """V_Rand and V_Info of a stack."""

    rand: BoundaryScore
    info: BoundaryScore


def cell_segments(is_cell: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the 4-connected parts of a slice from 1; membrane is 0.

    Args:
        is_cell: `(H, W)`, true inside a cell.
    """
    return np.asarray(cv2.connectedComponents(is_cell.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1], np.int32)


def thin_borders(segments: NDArray[np.int32]) -> NDArray[np.int32]:
    """Grow segments into the 0 between them until only lines of about one pixel part them.

    Args:
        segments: `(H, W)`, membrane 0, segments from 1.

    Returns:
        `(H, W)`; no two segments are 4-neighbours. A slice without segments becomes one segment, as in Fiji.
    """
    if not segments.any():
        return np.ones_like(segments)
    # OpenCV draws a line around the image; the border keeps it off the pixels
    basins = cv2.copyMakeBorder(segments, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    flat = np.zeros((*basins.shape, 3), np.uint8)
    return np.maximum(cv2.watershed(flat, basins)[1:-1, 1:-1], 0).astype(np.int32)


def foreground_restricted_rand(true_segments: Labels, segments: Labels) -> Agreement:
    """V_Rand of one slice: Arganda-Carreras et al. 2015, "Rand scoring", with alpha 0.5.

    Args:
        true_segments: `(H, W)`; pixels of 0 do not count.
        segments: The proposal, `(H, W)`; each pixel of 0 is a segment of its own.

    Raises:
        ValueError: If the shapes differ or a number is negative.
    """
    return _rand(_overlap(true_segments, segments))


def foreground_restricted_info(true_segments: Labels, segments: Labels) -> Agreement:
    """V_Info of one slice: Arganda-Carreras et al. 2015, "Information theoretic scoring", with alpha 0.5.

    Mutual information over entropy. A proposal of one segment splits nothing, so its `split` is 1; a truth of one
    segment has nothing to merge, so `merge` is 1; if both are, they agree, and all are 1 where Fiji gives 0.

    Args:
        true_segments: `(H, W)`; pixels of 0 do not count.
        segments: The proposal, `(H, W)`; each pixel of 0 is a segment of its own.

    Raises:
        ValueError: If the shapes differ or a number is negative.
    """
    return _info(_overlap(true_segments, segments))


def boundary_scores(
    cell_scores: Sequence[Scores] | Scores,
    labels: Sequence[Labels] | Labels,
    thresholds: Sequence[float] = THRESHOLDS,
) -> BoundaryScores:
    """V_Rand and V_Info of a stack, each at its best threshold.

    Slices are independent, and those whose truth has no cell are left out of the mean.

    Args:
        cell_scores: Slices `(H, W)`, or a stack `(Z, H, W)`: probability of being inside a cell.
        labels: The same slices of labels: 0 membrane, 1 inside a cell.
        thresholds: A pixel is cell if its score exceeds the threshold. The first of equally good ones is taken.

    Raises:
        ValueError: If there are no slices or thresholds, or if shapes do not fit.
    """
    if not len(cell_scores) == len(labels) > 0 or not len(thresholds):
        raise ValueError(
            f"need as many slices of scores as of labels, and a threshold; "
            f"got {len(cell_scores)}, {len(labels)} and {len(thresholds)}"
        )
    rand, info = np.full((2, len(thresholds), len(labels), 3), np.nan)
    for z, (slice_scores, slice_labels) in enumerate(zip(cell_scores, labels, strict=True)):
        if slice_scores.ndim != 2 or slice_scores.shape != slice_labels.shape:
            raise ValueError(f"slices must be (H, W) and alike, got {slice_scores.shape} and {slice_labels.shape}")
        true_segments = cell_segments(slice_labels > 0)
        for t, threshold in enumerate(thresholds):
            overlap = _overlap(true_segments, thin_borders(cell_segments(slice_scores > threshold)))
            rand[t, z], info[t, z] = _rand(overlap), _info(overlap)
    return BoundaryScores(_best(rand, thresholds), _best(info, thresholds))


def _best(agreements: NDArray[np.float64], thresholds: Sequence[float]) -> BoundaryScore:
    """The threshold of the highest mean f; `agreements` is `(thresholds, slices, 3)`."""
    has_cells = ~np.isnan(agreements[0, :, 0])
    if not has_cells.any():
        return BoundaryScore(*[float("nan")] * 4)
    means = agreements[:, has_cells].mean(axis=1)
    best = int(means[:, 2].argmax())
    split, merge, f = means[best].tolist()
    return BoundaryScore(score=f, threshold=round(float(thresholds[best]), 6), split=split, merge=merge)


class _Overlap(NamedTuple):
    """Sizes in pixels within the true cells, as float64."""

    pairs: NDArray[np.float64]
    """Of each overlap of a true segment and a proposed one."""
    true: NDArray[np.float64]
    """Of each true segment."""
    proposed: NDArray[np.float64]
    """Of each proposed segment."""


def _overlap(true_segments: Labels, segments: Labels) -> _Overlap:
    if true_segments.shape != segments.shape:
        raise ValueError(f"the truth is {true_segments.shape} px but the proposal is {segments.shape} px")
    inside = true_segments != 0
    true, proposed = true_segments[inside].astype(np.int64), segments[inside].astype(np.int64)
    if true.size and (true.min() < 0 or proposed.min() < 0):
        raise ValueError("segments must not be negative")
    is_line = proposed == 0
    # each pixel of a line is a segment of its own
    proposed[is_line] = proposed.max(initial=0) + 1 + np.arange(np.count_nonzero(is_line))
    pairs = sparse.coo_array((np.ones(true.size), (true, proposed))).tocsr() if true.size else None
    return _Overlap(
        pairs=np.empty(0) if pairs is None else np.asarray(pairs.data, np.float64),
        true=_sizes(true),
        proposed=_sizes(proposed),
    )


def _sizes(segments: NDArray[np.int64]) -> NDArray[np.float64]:
    sizes = np.bincount(segments)
    return sizes[sizes > 0].astype(np.float64)


def _rand(overlap: _Overlap) -> Agreement:
    if not overlap.true.size:
        return Agreement(float("nan"), float("nan"), float("nan"))
    together, true, proposed = (float(sizes @ sizes) for sizes in overlap)
    return Agreement(split=together / true, merge=together / proposed, f=2 * together / (true + proposed))


def _info(overlap: _Overlap) -> Agreement:
    if not overlap.true.size:
        return Agreement(float("nan"), float("nan"), float("nan"))
    joint, true, proposed = (_entropy(sizes) for sizes in overlap)
    shared = max(true + proposed - joint, 0.0)
    return Agreement(
        split=shared / proposed if proposed else 1.0,
        merge=shared / true if true else 1.0,
        f=2 * shared / (true + proposed) if true + proposed else 1.0,
    )


def _entropy(sizes: NDArray[np.float64]) -> float:
    """Entropy of the segment of a pixel drawn at random, in nats; exactly 0 for one segment."""
    share = sizes / sizes.sum()
    return float(-(share * np.log(share)).sum()) + 0.0
