"""A whole image of any size through a function that takes tiles of one size.

The function may be a network, an exported model, or a lambda; nothing here knows which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from unetcli.core.tiling import Blending, even_batch_size, mirrored_indices, tile_starts, tile_weights

Array = NDArray[np.float32]
Predictor = Callable[[Array], Array]
"""From tiles `(N, C, *S)` to scores `(N, K, *S')`, S' smaller than S by the margin at each side."""

OnTile = Callable[[int, int], None]
"""Told the tiles done and the tiles in all, after each batch."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How an image is cut.

    Args:
        tile_size: Pixels of a tile along each axis, as the predictor takes it.
        overlap: Least share of a tile's output that its neighbour repeats, in [0, 1).
        blending: How overlapping outputs are averaged: 'gaussian' or 'constant'.
        batch_size: Most tiles given to the predictor at once.
        margin: Pixels that the predictor eats at each side of a tile; 0 if its output is as large as its input.

    Raises:
        ValueError: If a value is out of range.
    """

    tile_size: tuple[int, ...]
    overlap: float
    blending: Blending
    batch_size: int
    margin: int = 0

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")
        if not self.tile_size or min(self.tile_size) <= 2 * self.margin:
            raise ValueError(f"tile_size {self.tile_size} must be more than twice the margin of {self.margin} px")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {self.overlap}")
        if self.blending not in get_args(Blending):
            raise ValueError(f"blending must be one of {get_args(Blending)}, got {self.blending!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def output_size(self) -> tuple[int, ...]:
        """Pixels along each axis that one tile gives scores for."""
        return tuple(length - 2 * self.margin for length in self.tile_size)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The tiles of one image, in pixels of the canvas: the image, or one tile's output where that is larger.

    Args:
        indices: For each axis, the pixel of the image that stands at each place of the mirrored input.
        canvas: Size of the canvas.
        image: Where the image lies in it.
        starts: First pixel of each tile, in the mirrored input and in the canvas alike.
        batch_size: Tiles of every batch.
    """

    indices: tuple[NDArray[np.intp], ...]
    canvas: tuple[int, ...]
    image: tuple[slice, ...]
    starts: tuple[tuple[int, ...], ...]
    batch_size: int


def predict_image(
    image: Array, predictor: Predictor, plan: TilePlan, *, tta: bool = False, on_tile: OnTile | None = None
) -> Array:
    """Score every pixel of an image.

    The image is cut into overlapping tiles, whose scores are averaged with the weights of `tile_weights`. An
    image smaller than a tile is continued by mirroring. If the predictor eats a margin, the image is mirrored
    beyond its borders by that much, and the outputs tile it: the overlap-tile strategy of Ronneberger et al.
    2015, section 2. Every batch has the same number of tiles, the last one filled up with zeros, so that a
    compiled network sees one shape. Beside the image, memory holds the scores, the weights and one batch.

    Args:
        image: `(C, *S)` float32, normalised.
        predictor: Scores a batch of tiles.
        plan: How to cut; its tile has as many axes as S.
        tta: Average over the symmetries of the tile, see `over_symmetries`.
        on_tile: Told of progress after each batch.

    Returns:
        `(K, *S)` float32 scores, a new array.

    Raises:
        ValueError: If the image is empty or has other axes than the tile, or the predictor returns another shape.
        TypeError: If the image is not float32.
    """
    _check_image(image, plan)
    predictor = over_symmetries(predictor) if tta else predictor
    layout = _lay_out(image.shape[1:], plan)
    total = len(layout.starts)
    weights = tile_weights(plan.output_size, plan.blending)
    sums: Array | None = None
    weight_sum = np.zeros(layout.canvas, dtype=np.float32)
    for done, starts, scores in _scored_tiles(image, predictor, plan, layout):
        if total == 1:
            sums = scores[0].copy()
        else:
            if sums is None:
                sums = np.zeros((scores.shape[1], *layout.canvas), dtype=np.float32)
            for start, tile_scores in zip(starts, scores, strict=False):  # the last batch may be filled up
                place = tuple(slice(i, i + length) for i, length in zip(start, plan.output_size, strict=True))
                sums[:, *place] += tile_scores * weights
                weight_sum[place] += weights
        if on_tile is not None:
            on_tile(done, total)
    if sums is None:
        raise ValueError("an image has no tiles")
    if total > 1:
        sums /= weight_sum
    return np.ascontiguousarray(sums[:, *layout.image])


def over_symmetries(predictor: Predictor) -> Predictor:
    """A predictor that averages another over the symmetries of a tile (test-time augmentation).

    In 2D these are the four quarter turns, each with and without a mirroring: 8 in all. In other dimensions,
    whose axes may have unlike spacing, the 2^n mirrorings. A quarter turn of a tile that is not square gives
    the predictor tiles of swapped sides.

    Args:
        predictor: Scores a batch of tiles.
    """

    def averaged(tiles: Array) -> Array:
        ndim = tiles.ndim - 2
        total: Array | None = None
        symmetries = tuple(_symmetries(ndim))
        for turns, axes in symmetries:
            turned = np.rot90(tiles, turns, axes=(-2, -1)) if turns else tiles
            scores = predictor(np.ascontiguousarray(np.flip(turned, axes)))
            if scores.ndim != tiles.ndim:
                raise ValueError(f"predictor returned {scores.shape} for tiles {tiles.shape}; want as many axes")
            scores = np.flip(scores, axes)
            scores = np.rot90(scores, -turns, axes=(-2, -1)) if turns else scores
            if total is None:
                total = scores.astype(np.float32)
            elif scores.shape == total.shape:
                total += scores
            else:
                raise ValueError(
                    f"predictor returned {scores.shape} for turned tiles; want {total.shape} as for others"
                )
        if total is None:
            raise ValueError("a tile has no symmetries")
        total /= len(symmetries)
        return total

    return averaged


def _symmetries(ndim: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Quarter turns of the last two axes, and the axes mirrored after them."""
    if ndim == 2:
        yield from itertools.product(range(4), ((), (-1,)))
        return
    for count in range(ndim + 1):
        for axes in itertools.combinations(range(-ndim, 0), count):
            yield 0, axes


def _check_image(image: Array, plan: TilePlan) -> None:
    if image.dtype != np.float32:
        raise TypeError(f"image must be float32, got {image.dtype}")
    if image.ndim != 1 + len(plan.tile_size):
        raise ValueError(f"image must be (C, *S) with S like the tile {plan.tile_size}, got {image.shape}")
    if image.size == 0:
        raise ValueError(f"image has no pixels: {image.shape}")


def _lay_out(size: tuple[int, ...], plan: TilePlan) -> _Layout:
    """Place tiles over an image of `size`, in its middle if it is smaller than the output of one."""
    canvas = tuple(max(pair) for pair in zip(size, plan.output_size, strict=True))
    before = tuple((whole - length) // 2 for whole, length in zip(canvas, size, strict=True))
    indices = tuple(
        mirrored_indices(length, first + plan.margin, whole - length - first + plan.margin)
        for length, whole, first in zip(size, canvas, before, strict=True)
    )
    per_axis = [
        tile_starts(whole, output, min(math.ceil(plan.overlap * output - 1e-9), output - 1))
        for whole, output in zip(canvas, plan.output_size, strict=True)
    ]
    starts = tuple(itertools.product(*per_axis))
    return _Layout(
        indices=indices,
        canvas=canvas,
        image=tuple(slice(first, first + length) for first, length in zip(before, size, strict=True)),
        starts=starts,
        batch_size=even_batch_size(len(starts), plan.batch_size),
    )


def _scored_tiles(
    image: Array, predictor: Predictor, plan: TilePlan, layout: _Layout
) -> Iterator[tuple[int, tuple[tuple[int, ...], ...], Array]]:
    """Tiles done so far, the starts of a batch, and its scores `(N, K, *S')`; K is the same for all."""
    num_classes: int | None = None
    for first in range(0, len(layout.starts), layout.batch_size):
        starts = layout.starts[first : first + layout.batch_size]
        tiles = np.zeros((layout.batch_size, image.shape[0], *plan.tile_size), dtype=np.float32)
        for tile, start in zip(tiles, starts, strict=False):
            tile[:] = _cut(image, layout, start, plan.tile_size)
        scores = predictor(tiles)
        wanted = (layout.batch_size, num_classes or "K", *plan.output_size)
        if scores.ndim != tiles.ndim or any(
            found != want for found, want in zip(scores.shape, wanted, strict=True) if want != "K"
        ):
            raise ValueError(f"predictor returned {scores.shape} for tiles {tiles.shape}; want {wanted}")
        num_classes = scores.shape[1]
        yield first + len(starts), starts, scores


def _cut(image: Array, layout: _Layout, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
    """One tile `(C, *S)` of the mirrored image, which is never made as a whole."""
    tile: NDArray[Any] = image
    for axis, (indices, first, length) in enumerate(zip(layout.indices, start, size, strict=True), start=1):
        chosen = indices[first : first + length]
        is_inside = chosen[-1] - chosen[0] == length - 1  # mirroring never runs past it, so ends this far apart ascend
        tile = (
            tile[(slice(None),) * axis + (slice(chosen[0], chosen[-1] + 1),)] if is_inside else tile.take(chosen, axis)
        )
    return tile
