"""How an image is cut into tiles, and the tiles through a predictor, batch by batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from unetcli.core.tiling import Blending, even_batch_size, mirrored_indices, tile_starts
from unetcli.inference.pipeline import ahead

Scores = NDArray[np.float32]
Predictor = Callable[[NDArray[Any]], Scores]
"""From tiles `(N, C, *S)` to scores `(N, K, *S')`, S' smaller than S by the margin at each side.

Tiles come in the type of their image; what normalises them is a part of the predictor. Scores are blended while the
next are made, so that each call must return memory of its own.
"""

Starts = tuple[tuple[int, ...], ...]
"""The first pixel of each tile of a batch."""

OnTile = Callable[[int, int], None]
"""Told the tiles done and the tiles in all, after each batch."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How an image is cut.

    Args:
        tile_size: Pixels of a tile along each axis, as the predictor takes it.
        overlap: Least pixels of a tile's output that its neighbour repeats, along each axis; fewer than the output has.
        blending: How overlapping outputs are averaged: 'gaussian' or 'constant'.
        batch_size: Most tiles given to the predictor at once.
        margin: Pixels that the predictor eats at each side of a tile; 0 if its output is as large as its input.
        step: Tiles begin at multiples of it along each axis; at any pixel if it is empty. With the stride of a
            network, neighbours pool the same pixels together, and agree where both see far enough.

    Raises:
        ValueError: If a value is out of range.
    """

    tile_size: tuple[int, ...]
    overlap: tuple[int, ...]
    blending: Blending
    batch_size: int
    margin: int = 0
    step: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")
        if not self.tile_size or min(self.tile_size) <= 2 * self.margin:
            raise ValueError(f"tile_size {self.tile_size} must be more than twice the margin of {self.margin} px")
        if len(self.overlap) != len(self.tile_size):
            raise ValueError(f"overlap must have a number for each axis of {self.tile_size}, got {self.overlap}")
        if len(self.steps) != len(self.tile_size) or min(self.steps) < 1:
            raise ValueError(f"step must have a positive number for each axis of {self.tile_size}, got {self.step}")
        most = tuple(length - step for length, step in zip(self.output_size, self.steps, strict=True))
        if any(not 0 <= repeated <= limit for repeated, limit in zip(self.overlap, most, strict=True)):
            raise ValueError(f"overlap must be of 0 px to {most}, which is less than the output, got {self.overlap}")
        if self.blending not in get_args(Blending):
            raise ValueError(f"blending must be one of {get_args(Blending)}, got {self.blending!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @classmethod
    def with_share(
        cls, tile_size: tuple[int, ...], share: float, blending: Blending, batch_size: int, margin: int = 0
    ) -> Self:
        """A plan whose tiles overlap by a share of their output, in [0, 1), rounded up; the rest as for the plan.

        Raises:
            ValueError: If a value is out of range.
        """
        if not 0 <= share < 1:
            raise ValueError(f"overlap must be in [0, 1), got {share}")
        # a product may stand a little above the whole number that is meant, as 0.55 * 100 does
        outputs = [max(length - 2 * margin, 1) for length in tile_size]
        overlap = tuple(min(math.ceil(share * output - 1e-9), output - 1) for output in outputs)
        return cls(tile_size, overlap, blending, batch_size, margin)

    @property
    def steps(self) -> tuple[int, ...]:
        """`step`, or 1 along every axis."""
        return self.step or (1,) * len(self.tile_size)

    @property
    def output_size(self) -> tuple[int, ...]:
        """Pixels along each axis that one tile gives scores for."""
        return tuple(length - 2 * self.margin for length in self.tile_size)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The tiles of one image, in pixels of the canvas.

    That is the image, or one tile's output where that is larger; and some pixels more where tiles begin at every so
    many only.

    Args:
        indices: For each axis, the pixel of the image that stands at each place of the mirrored input.
        canvas: Size of the canvas.
        image: Where the image lies in it.
        axis_starts: For each axis, the first pixel of the tiles along it, in the mirrored input and in the
            canvas alike; the tiles are all their combinations.
        batch_size: Tiles of every batch.
    """

    indices: tuple[NDArray[np.intp], ...]
    canvas: tuple[int, ...]
    image: tuple[slice, ...]
    axis_starts: tuple[tuple[int, ...], ...]
    batch_size: int

    @property
    def num_tiles(self) -> int:
        """Tiles of the image, without what the last batch is filled up with."""
        return math.prod(map(len, self.axis_starts))

    @property
    def num_batches(self) -> int:
        """Batches of `batch_size` tiles."""
        return math.ceil(self.num_tiles / self.batch_size)

    def starts(self) -> Iterator[tuple[int, ...]]:
        """The first pixel of each tile, those along the last axis one after another."""
        return itertools.product(*self.axis_starts)


def check_image(image: NDArray[Any], plan: TilePlan) -> None:
    """Raise TypeError if an image is not of real numbers, ValueError if it is empty or has other axes than a tile."""
    if image.dtype.kind not in "biuf":
        raise TypeError(f"image must be of real numbers, got {image.dtype}")
    if image.ndim != 1 + len(plan.tile_size):
        raise ValueError(f"image must be (C, *S) with S like the tile {plan.tile_size}, got {image.shape}")
    if image.size == 0:
        raise ValueError(f"image has no pixels: {image.shape}")


def lay_out(size: tuple[int, ...], plan: TilePlan) -> Layout:
    """Place tiles over an image of `size`, in the middle of the canvas."""
    canvas = canvas_of(size, plan)
    before = tuple((whole - length) // 2 for whole, length in zip(canvas, size, strict=True))
    indices = tuple(
        mirrored_indices(length, first + plan.margin, whole - length - first + plan.margin)
        for length, whole, first in zip(size, canvas, before, strict=True)
    )
    axis_starts = starts_of(canvas, plan)
    return Layout(
        indices=indices,
        canvas=canvas,
        image=tuple(slice(first, first + length) for first, length in zip(before, size, strict=True)),
        axis_starts=axis_starts,
        batch_size=even_batch_size(math.prod(map(len, axis_starts)), plan.batch_size),
    )


def canvas_of(size: tuple[int, ...], plan: TilePlan) -> tuple[int, ...]:
    """The size of the canvas of an image of `size`: one tile's output, and as many steps as reach its end."""
    return tuple(
        output + math.ceil(max(length - output, 0) / step) * step
        for length, output, step in zip(size, plan.output_size, plan.steps, strict=True)
    )


def starts_of(canvas: tuple[int, ...], plan: TilePlan) -> tuple[tuple[int, ...], ...]:
    """The first pixel of the tiles along each axis of the canvas."""
    axes = zip(canvas, plan.output_size, plan.overlap, plan.steps, strict=True)
    return tuple(tile_starts(*axis) for axis in axes)


def scored_batches(
    image: NDArray[Any], predictor: Predictor, plan: TilePlan, layout: Layout, on_tile: OnTile | None
) -> Iterator[tuple[Starts, Scores]]:
    """The starts of each batch of tiles and their scores `(N, K, *S')`, in the order of `layout.starts`.

    K is the same for all. Every batch has the same number of tiles, the last one filled up with zeros, so that a
    compiled network sees one shape; there are then more scores than starts. The next tiles are cut while the predictor
    is at work. No scores are held here while the next are made; who takes them should let go of them, too.
    """
    num_classes: int | None = None
    num_done = 0
    with closing(ahead(_batches(image, plan, layout))) as batches:
        for starts, tiles in batches:
            scores = predictor(tiles)
            _check_scores(scores, tiles, plan, num_classes)
            del tiles
            num_classes = scores.shape[1]
            num_done += len(starts)
            if on_tile is not None:
                on_tile(num_done, layout.num_tiles)
            yield starts, scores
            del scores


def _batches(image: NDArray[Any], plan: TilePlan, layout: Layout) -> Generator[tuple[Starts, NDArray[Any]], None, None]:
    """The starts of each batch, and its tiles `(N, C, *S)`."""
    starts = layout.starts()
    while batch := tuple(itertools.islice(starts, layout.batch_size)):
        tiles = np.zeros((layout.batch_size, image.shape[0], *plan.tile_size), dtype=image.dtype)
        for tile, start in zip(tiles, batch, strict=False):  # the last batch may be filled up
            tile[:] = _cut(image, layout, start, plan.tile_size)
        yield batch, tiles
        del tiles


def _check_scores(scores: Scores, tiles: NDArray[Any], plan: TilePlan, num_classes: int | None) -> None:
    shape = scores.shape
    if len(shape) != tiles.ndim or shape[0] != len(tiles) or shape[2:] != plan.output_size:
        wanted = f"({len(tiles)}, K, {', '.join(map(str, plan.output_size))})"
        raise ValueError(f"predictor returned {shape} for tiles {tiles.shape}; want {wanted}")
    if num_classes not in (None, shape[1]):
        wanted = (len(scores), num_classes, *plan.output_size)
        raise ValueError(f"predictor returned {shape}; want {wanted} as before")


def _cut(image: NDArray[Any], layout: Layout, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
    """One tile `(C, *S)` of the mirrored image, which is never made as a whole."""
    chosen = [
        indices[first : first + length] for indices, first, length in zip(layout.indices, start, size, strict=True)
    ]
    # a slice first, of all axes, so that what is copied below is never larger than the tile
    tile = image[:, *[slice(int(places.min()), int(places.max()) + 1) for places in chosen]]
    for axis, places in enumerate(chosen, start=1):
        is_inside = places[-1] - places[0] == len(places) - 1  # mirrored places never lie this far apart
        if not is_inside:
            tile = tile.take(places - places.min(), axis)
    return tile
