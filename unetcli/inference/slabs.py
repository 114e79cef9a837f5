"""An image of any size to its scores or labels, in slabs along its first axis.

Scores weigh far more than an image: four classes of 512 x 512 x 400 voxels are 1.7 GB. So tiles are taken in the order
of their place along the first axis, and rows that no later tile reaches are finished and leave at once; only one
tile's height of scores is ever held. While the predictor is at work on a batch, one thread cuts the next, and another
blends the last one and finishes what it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.tiling import row_pieces
from unetcli.inference.blending import PIECE, Blend, Slab
from unetcli.inference.pipeline import behind
from unetcli.inference.symmetries import Symmetries, over_symmetries, symmetries_of
from unetcli.inference.tiles import OnTile, Predictor, Scores, TilePlan, check_image, lay_out, scored_batches


def predict_slabs(
    image: NDArray[Any],
    predictor: Predictor,
    plan: TilePlan,
    take: Callable[[Slab], None],
    *,
    symmetries: Symmetries | None = None,
    on_tile: OnTile | None = None,
) -> None:
    """Score every pixel of an image, slab by slab.

    The image is cut into overlapping tiles, whose scores are averaged with the weights of `tile_weights`: summed as
    float32 and divided once. An image smaller than a tile is continued by mirroring. If the predictor eats a margin,
    the image is mirrored beyond its borders by that much, and the outputs tile it: the overlap-tile strategy of
    Ronneberger et al. 2015, section 2. Beside the image, memory holds the scores of one tile's height, and one batch
    on each side of the predictor beside the one that it works on.

    Args:
        image: `(C, *S)` of any real type; it may be a map of a file. Tiles are given to the predictor in that type.
        predictor: Scores a batch of tiles.
        plan: How to cut; its tile has as many axes as S.
        take: Given the slabs, which together cover the rows once and in order; called on a thread of its own.
        symmetries: Average over these symmetries of the tile, see `over_symmetries`.
        on_tile: Told of progress after each batch.

    Raises:
        ValueError: If the image is empty or has other axes than the tile, or the predictor returns another shape.
        TypeError: If the image is not of real numbers.
    """
    check_image(image, plan)
    if symmetries is not None:
        predictor = over_symmetries(predictor, symmetries)
    layout = lay_out(image.shape[1:], plan)
    behind(Blend(plan, layout, take).add, scored_batches(image, predictor, plan, layout, on_tile))


def predict_image(
    image: NDArray[Any],
    predictor: Predictor,
    plan: TilePlan,
    *,
    tta: bool | Symmetries = False,
    on_tile: OnTile | None = None,
) -> Scores:
    """Score every pixel of an image at once; for images whose scores fit into memory.

    Args:
        image: `(C, *S)`, and the rest as for `predict_slabs`.
        predictor: Scores a batch of tiles.
        plan: How to cut.
        tta: Average over these symmetries of the tile, or over all of them if True.
        on_tile: Told of progress after each batch.

    Returns:
        `(K, *S)` float32 scores, a new array.

    Raises:
        ValueError: As `predict_slabs`.
        TypeError: As `predict_slabs`.
    """
    symmetries = (symmetries_of(image.ndim - 1) if tta else None) if isinstance(tta, bool) else tta
    whole: list[Scores] = []

    def take(slab: Slab) -> None:
        if not whole:
            whole.append(np.empty((len(slab.scores), *image.shape[1:]), dtype=np.float32))
        whole[0][:, slab.rows] = slab.scores

    predict_slabs(image, predictor, plan, take, symmetries=symmetries, on_tile=on_tile)
    return whole[0]


def predict_labels(
    image: NDArray[Any],
    predictor: Predictor,
    plan: TilePlan,
    *,
    symmetries: Symmetries | None = None,
    on_tile: OnTile | None = None,
) -> NDArray[np.uint8]:
    """The class of every pixel, without ever holding the scores of more than a slab.

    Args:
        image: `(C, *S)`, and the rest as for `predict_slabs`.
        predictor: Scores a batch of tiles.
        plan: How to cut.
        symmetries: Average over these symmetries of the tile.
        on_tile: Told of progress after each batch.

    Returns:
        `(*S)` the class of the largest score; the first of equal ones.

    Raises:
        ValueError: As `predict_slabs`, or if there are more than 256 classes.
        TypeError: As `predict_slabs`.
    """
    labels = np.empty(image.shape[1:], dtype=np.uint8)

    def take(slab: Slab) -> None:
        labels[slab.rows] = labels_of(slab.scores)

    predict_slabs(image, predictor, plan, take, symmetries=symmetries, on_tile=on_tile)
    return labels


def labels_of(scores: Scores) -> NDArray[np.uint8]:
    """The class of the largest score `(K, *S)` at each place `(*S)`; the first of equal ones.

    As `argmax(axis=0)`, which takes far longer along the slowest axis and makes indices of 64 bits: here each class is
    compared with the largest of those before it, a few rows at a time, which stay in the cache.

    Raises:
        ValueError: If there are more than 256 classes.
    """
    if len(scores) > 256:
        raise ValueError(f"labels of 8 bits hold 256 classes, got {len(scores)}")
    labels = np.empty(scores.shape[1:], dtype=np.uint8)
    for rows in row_pieces(0, len(labels), math.prod(labels.shape[1:]), PIECE):
        _choose(scores[:, rows], labels[rows])
    return labels


def _choose(scores: Scores, labels: NDArray[np.uint8]) -> None:
    """Write the labels of a few rows."""
    labels[:] = 0
    largest = scores[0].copy()
    is_larger = np.empty(labels.shape, dtype=bool)
    for index, of_class in enumerate(scores[1:], start=1):
        np.greater(of_class, largest, out=is_larger)
        np.maximum(largest, of_class, out=largest)  # NaN stays, and so shows in the end
        np.copyto(labels, index, where=is_larger)
    if np.isnan(largest).any():
        labels[:] = scores.argmax(axis=0)
