"""Where the tiles of an image lie, and how much each of their pixels counts."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Blending = Literal["gaussian", "constant"]
LEAST_WEIGHT = 1e-3


def tile_starts(length: int, tile: int, min_overlap: int, step: int = 1) -> tuple[int, ...]:
    """Place the fewest tiles that cover an axis, evenly spread.

    Spreading them keeps the last overlap like the others; shifting only the last tile back would blend
    it far more than the rest. Overlap-tile strategy: Ronneberger et al. 2015, section 2 (arXiv:1505.04597).

    Args:
        length: Size of the axis in pixels.
        tile: Size of one tile in pixels.
        min_overlap: Least overlap of neighbours in pixels.
        step: Tiles begin at multiples of it.

    Returns:
        First pixel of each tile, ascending. The first is 0, the last is `length - tile`.

    Raises:
        ValueError: If the axis is shorter than a tile, `min_overlap` is not in [0, tile - step], or the last tile
            would not begin at a multiple of the step.
    """
    if not 0 <= min_overlap <= tile - step:
        raise ValueError(f"min_overlap must be in [0, {tile - step}] for tiles of {tile} px, got {min_overlap}")
    if length < tile:
        raise ValueError(f"axis of {length} px is shorter than one {tile} px tile; pad it first")
    last, surplus = divmod(length - tile, step)
    if surplus:
        raise ValueError(f"axis of {length} px is not {tile} px and a multiple of {step} px more; pad it first")
    gaps = math.ceil(last / ((tile - min_overlap) // step))
    return tuple(i * last // gaps * step for i in range(gaps + 1)) if gaps else (0,)


def axis_weights(length: int, blending: Blending) -> NDArray[np.float64]:
    """How much each place along one axis of a tile counts where tiles overlap.

    'gaussian' is 1 in the middle, with a standard deviation of an eighth of the tile (Isensee et al. 2021, nnU-Net,
    supplementary note 2), and at least `LEAST_WEIGHT`, so that a sum of weights can be divided by. 'constant' is 1.

    Args:
        length: Pixels of the tile along the axis.
        blending: 'gaussian' or 'constant'.

    Returns:
        `(length,)` positive weights, the same when mirrored.

    Raises:
        ValueError: If the length is not positive, or `blending` has another value.
    """
    if length < 1:
        raise ValueError(f"a tile needs at least 1 px along each axis, got {length}")
    if blending == "constant":
        return np.ones(length)
    if blending != "gaussian":
        raise ValueError(f"blending must be 'gaussian' or 'constant', got {blending!r}")
    distance = (np.arange(length) - (length - 1) / 2) / (length / 8)
    return np.maximum(np.exp(-(distance**2) / 2), LEAST_WEIGHT)


def tile_weights(size: tuple[int, ...], blending: Blending) -> NDArray[np.float32]:
    """How much each pixel of a tile counts: the product of the `axis_weights` of its place along each axis.

    Args:
        size: Pixels of the tile along each axis, S.
        blending: 'gaussian' or 'constant'.

    Returns:
        `(*S)` positive weights, the same when mirrored along any axis.

    Raises:
        ValueError: If there is no axis, a size is not positive, or `blending` has another value.
    """
    if not size:
        raise ValueError("a tile needs at least one axis")
    return outer_product([axis_weights(length, blending) for length in size]).astype(np.float32)


def weight_sums(length: int, starts: Sequence[int], weights: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The weights that the tiles along one axis give each of its places.

    Where tiles lie on a grid, the sum of `tile_weights` over all of them is the outer product of these, so it
    never needs an array of the image's size.

    Args:
        length: Size of the axis in pixels.
        starts: First pixel of each tile.
        weights: `(tile,)` of one tile along the axis.

    Returns:
        `(length,)` sums; 0 where there is no tile.

    Raises:
        ValueError: If a tile runs past the axis.
    """
    sums = np.zeros(length)
    for start in starts:
        if not 0 <= start <= length - len(weights):
            raise ValueError(f"a tile of {len(weights)} px at {start} runs past an axis of {length} px")
        sums[start : start + len(weights)] += weights
    return sums


def outer_product(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The product of one value of each array: of `(a,)`, `(b,)` and so on an array `(a, b, ...)`; 1 of none."""
    return functools.reduce(np.multiply.outer, arrays, np.ones(()))


def mirrored_indices(length: int, before: int, after: int) -> NDArray[np.intp]:
    """Indices that continue an axis beyond its ends by mirroring, the border pixel not repeated.

    As `np.pad(mode="reflect")`, for any amount: where it is more than the axis, the axis is mirrored back
    and forth. A single pixel is repeated.

    Args:
        length: Size of the axis in pixels, at least 1.
        before: Pixels to add before the first.
        after: Pixels to add after the last.

    Returns:
        `(before + length + after,)` indices into the axis.

    Raises:
        ValueError: If the axis is empty, or an amount is negative.
    """
    if length < 1 or before < 0 or after < 0:
        raise ValueError(f"cannot mirror an axis of {length} px by {before} and {after} px")
    if length == 1:
        return np.zeros(before + 1 + after, dtype=np.intp)
    period = 2 * (length - 1)
    position = np.arange(-before, length + after, dtype=np.intp) % period
    return np.minimum(position, period - position)


def row_pieces(start: int, stop: int, row_size: int, most: int) -> Iterator[slice]:
    """Slices that cover the rows `start` to `stop` in order, as many rows at a time as have `most` pixels or less.

    For work on what is too large for the cache, or whose temporary arrays would be.

    Args:
        start: The first row.
        stop: One more than the last.
        row_size: Pixels of a row.
        most: Pixels of a piece, where a single row does not have more.

    Raises:
        ValueError: If `most` is less than 1.
    """
    if most < 1:
        raise ValueError(f"a piece needs at least 1 px, got {most}")
    num_rows = max(1, most // max(row_size, 1))
    for first in range(start, stop, num_rows):
        yield slice(first, min(first + num_rows, stop))


def even_batch_size(num_tiles: int, largest: int) -> int:
    """Tiles per batch so that the fewest batches are as even as can be: 9 tiles by at most 4 are 3, 3, 3.

    Raises:
        ValueError: If either number is less than 1.
    """
    if num_tiles < 1 or largest < 1:
        raise ValueError(f"cannot batch {num_tiles} tiles by {largest}")
    return math.ceil(num_tiles / math.ceil(num_tiles / largest))
