"""Scores of overlapping tiles to their weighted means, row by row as they are finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetcli.core.tiling import axis_weights, outer_product, row_pieces, weight_sums
from unetcli.inference.tiles import Layout, Scores, Starts, TilePlan

PIECE = 2**16
"""Pixels of a class that are worked on at a time: 256 kB of scores, so that a few classes stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Finished rows of an image.

    Args:
        rows: Which rows along the first spatial axis.
        scores: `(K, rows, *rest)`. They are overwritten afterwards: copy what is to stay.
    """

    rows: slice
    scores: Scores


class Blend:
    """Adds up the scores of tiles, batch by batch, and hands on the means of the rows that are finished.

    Sums and weights are float32, and divided once; a single tile is handed on as it is. Beside the sums, which are as
    high as a tile, nothing is made but small pieces.

    Args:
        plan: How tiles are blended.
        layout: Where they lie.
        take: Given the finished rows, in order; a few at a time, which are still in the cache.
    """

    def __init__(self, plan: TilePlan, layout: Layout, take: Callable[[Slab], None]) -> None:
        self._take = take
        self._size = plan.output_size
        self._canvas = layout.canvas
        self._image = layout.image
        self._firsts = layout.axis_starts[0]
        self._tiles_a_slab = layout.num_tiles // len(self._firsts)
        self._num_added = 0
        self._weights = [axis_weights(length, plan.blending) for length in plan.output_size]
        self._row_sums, *rest_sums = (
            weight_sums(length, starts, weights)
            for length, starts, weights in zip(layout.canvas, layout.axis_starts, self._weights, strict=True)
        )
        self._plane = outer_product(rest_sums)[layout.image[1:]]
        self._sums: Scores | None = None

    def add(self, batch: tuple[Starts, Scores]) -> None:
        """Take the scores `(N, K, *S')` of the next tiles, which begin at `starts`; those beyond are left out."""
        starts, scores = batch
        if len(self._firsts) * self._tiles_a_slab == 1:
            inside = scores[0][:, *self._image]
            self._take(Slab(slice(0, inside.shape[1]), inside))
            return
        if self._sums is None:  # only now is K known
            self._sums = np.zeros((scores.shape[1], self._size[0], *self._canvas[1:]), dtype=np.float32)
        for start, of_tile in zip(starts, scores, strict=False):
            place = tuple(slice(first, first + n) for first, n in zip(start[1:], self._size[1:], strict=True))
            _add_weighted(self._sums[:, :, *place], of_tile, self._weights)
            self._num_added += 1
            if self._num_added % self._tiles_a_slab == 0:
                self._finish(self._sums)

    def _finish(self, sums: Scores) -> None:
        """Hand on the rows that no later tile reaches, and make the next one that is reached the first of the sums."""
        index = self._num_added // self._tiles_a_slab - 1
        first, until = (*self._firsts, self._canvas[0])[index : index + 2]
        rows = self._image[0]
        for piece in row_pieces(max(first, rows.start), min(until, rows.stop), self._plane.size, PIECE):
            scores = sums[:, piece.start - first : piece.stop - first, *self._image[1:]]
            scores /= outer_product([self._row_sums[piece], self._plane]).astype(np.float32)
            self._take(Slab(slice(piece.start - rows.start, piece.stop - rows.start), scores))
        _move_up(sums, until - first)


def piece_bytes(height: int, row_size: int) -> int:
    """What is made at most for a piece of a slab: numbers of 64 and 32 bits, and the largest score of its labels."""
    return (8 + 4 + 4 + 1) * min(height * row_size, max(row_size, PIECE))


def _add_weighted(sums: Scores, scores: Scores, weights: Sequence[NDArray[np.float64]]) -> None:
    """Add `scores * tile_weights` to the sums in place, a few rows at a time, of which the weights are made anew."""
    for rows in row_pieces(0, len(weights[0]), math.prod(sums.shape[2:]), PIECE):
        of_rows = outer_product([weights[0][rows], *weights[1:]]).astype(np.float32)
        product = np.empty_like(of_rows)
        for of_class, class_scores in zip(sums, scores, strict=True):
            of_class[rows] += np.multiply(class_scores[rows], of_rows, out=product)


def _move_up(sums: Scores, num_rows: int) -> None:
    """Drop the first rows and add as many of zeros; row by row, since numpy would copy all for its safety."""
    remaining = sums.shape[1] - num_rows
    for row in range(remaining):
        sums[:, row] = sums[:, row + num_rows]
    sums[:, remaining:] = 0
