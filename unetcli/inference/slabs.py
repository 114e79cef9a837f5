"""An image of any size to its scores or labels, in slabs along its first axis.

Scores weigh far more than an image: four classes of 512 x 512 x 400 voxels are 1.7 GB. So tiles are taken in the order
of their place along the first axis, and rows that no later tile reaches are finished and leave at once; only one
tile's height of scores is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.tiling import axis_weights, outer_product, tile_weights, weight_sums
from unetcli.inference.symmetries import Symmetries, over_symmetries, symmetries_of
from unetcli.inference.tiles import Layout, OnTile, Predictor, Scores, TilePlan, check_image, lay_out, scored_tiles

PIECE = 2**17
"""Numbers that are weighted and added at a time: 512 kB, which stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Finished rows of an image.

    Args:
        rows: Which rows along the first spatial axis.
        scores: `(K, rows, *rest)`. They are overwritten as soon as the next slab is asked for: copy what is to stay.
    """

    rows: slice
    scores: Scores


def predict_slabs(
    image: NDArray[Any],
    predictor: Predictor,
    plan: TilePlan,
    *,
    symmetries: Symmetries | None = None,
    on_tile: OnTile | None = None,
) -> Iterator[Slab]:
    """Score every pixel of an image, slab by slab.

    The image is cut into overlapping tiles, whose scores are averaged with the weights of `tile_weights`: summed as
    float32 and divided once. An image smaller than a tile is continued by mirroring. If the predictor eats a margin,
    the image is mirrored beyond its borders by that much, and the outputs tile it: the overlap-tile strategy of
    Ronneberger et al. 2015, section 2. Beside the image, memory holds the scores of one tile's height and one batch.

    Args:
        image: `(C, *S)` of any real type; it may be a map of a file. Tiles are given to the predictor in that type.
        predictor: Scores a batch of tiles.
        plan: How to cut; its tile has as many axes as S.
        symmetries: Average over these symmetries of the tile, see `over_symmetries`.
        on_tile: Told of progress after each batch.

    Returns:
        The slabs, which together cover the rows once and in order.

    Raises:
        ValueError: If the image is empty or has other axes than the tile, or the predictor returns another shape.
        TypeError: If the image is not of real numbers.
    """
    check_image(image, plan)
    if symmetries is not None:
        predictor = over_symmetries(predictor, symmetries)
    layout = lay_out(image.shape[1:], plan)
    tiles = scored_tiles(image, predictor, plan, layout, on_tile)
    return _untouched(tiles, layout) if layout.num_tiles == 1 else _blended(tiles, plan, layout)


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
    scores: Scores | None = None
    for slab in predict_slabs(image, predictor, plan, symmetries=symmetries, on_tile=on_tile):
        if scores is None:
            scores = np.empty((len(slab.scores), *image.shape[1:]), dtype=np.float32)
        scores[:, slab.rows] = slab.scores
    if scores is None:
        raise ValueError("an image has no slabs")
    return scores


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
    for slab in predict_slabs(image, predictor, plan, symmetries=symmetries, on_tile=on_tile):
        labels[slab.rows] = labels_of(slab.scores)
    return labels


def labels_of(scores: Scores) -> NDArray[np.uint8]:
    """The class of the largest score `(K, *S)` at each place `(*S)`; the first of equal ones.

    Raises:
        ValueError: If there are more than 256 classes.
    """
    if len(scores) > 256:
        raise ValueError(f"labels of 8 bits hold 256 classes, got {len(scores)}")
    labels = np.empty(scores.shape[1:], dtype=np.uint8)
    for row in range(len(labels)):  # argmax makes 64-bit indices, of one row only
        labels[row] = scores[:, row].argmax(axis=0)
    return labels


def _untouched(tiles: Iterator[tuple[tuple[int, ...], Scores]], layout: Layout) -> Iterator[Slab]:
    """The scores of a single tile as they are."""
    for _, scores in tiles:
        inside = scores[:, *layout.image]
        yield Slab(slice(0, inside.shape[1]), inside)


def _blended(tiles: Iterator[tuple[tuple[int, ...], Scores]], plan: TilePlan, layout: Layout) -> Iterator[Slab]:
    """The weighted means of overlapping tiles; row 0 of the sums is where the tiles in work begin."""
    height, starts = plan.output_size[0], layout.axis_starts[0]
    weights = tile_weights(plan.output_size, plan.blending)
    row_sums, *rest_sums = (
        weight_sums(length, first, axis_weights(output, plan.blending))
        for length, first, output in zip(layout.canvas, layout.axis_starts, plan.output_size, strict=True)
    )
    plane = outer_product(rest_sums)[layout.image[1:]]
    sums: Scores | None = None
    for first, until in zip(starts, (*starts[1:], layout.canvas[0]), strict=True):
        for start, scores in islice(tiles, layout.num_tiles // len(starts)):
            if sums is None:
                sums = np.zeros((len(scores), height, *layout.canvas[1:]), dtype=np.float32)
            place = tuple(slice(i, i + n) for i, n in zip(start[1:], plan.output_size[1:], strict=True))
            _add_weighted(sums[:, :, *place], scores, weights)
            del scores  # or its batch would live on while the next is made
        if sums is None:
            raise ValueError("an image has no tiles")
        offset = layout.image[0].start
        begin, end = max(first, offset), min(until, layout.image[0].stop)
        finished = sums[:, begin - first : end - first, *layout.image[1:]]
        for row, row_sum in enumerate(row_sums[begin:end]):
            finished[:, row] /= (row_sum * plane).astype(np.float32)
        yield Slab(slice(begin - offset, end - offset), finished)
        _move_up(sums, until - first)


def _add_weighted(sums: Scores, scores: Scores, weights: Scores) -> None:
    """Add `scores * weights` to the sums in place, class by class and a few rows at a time."""
    height = len(weights)
    num_rows = min(height, max(1, PIECE // max(weights[0].size, 1)))
    product = np.empty((num_rows, *weights.shape[1:]), dtype=np.float32)
    for of_class, class_scores in zip(sums, scores, strict=True):
        for row in range(0, height, num_rows):
            rows = slice(row, min(row + num_rows, height))
            of_class[rows] += np.multiply(class_scores[rows], weights[rows], out=product[: rows.stop - row])


def _move_up(sums: Scores, num_rows: int) -> None:
    """Drop the first rows and add as many of zeros; row by row, since numpy would copy all for its safety."""
    remaining = sums.shape[1] - num_rows
    for row in range(remaining):
        sums[:, row] = sums[:, row + num_rows]
    sums[:, remaining:] = 0
