"""What a prediction will take of memory and time, said before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from unetcli.core.tiling import even_batch_size
from unetcli.errors import ConfigError, counted
from unetcli.inference.blending import piece_bytes
from unetcli.inference.instances import Separation
from unetcli.inference.postprocess import scratch_bytes
from unetcli.inference.tiles import TilePlan, canvas_of, starts_of

FLOAT32 = 4
DOUBLE = 8
COPIES = 5
"""Of a mask of 8 bits: its values, packed, as a library holds it, read back, and as that library holds it."""


@dataclass(frozen=True, slots=True)
class PredictorCost:
    """What a predictor was seen to take.

    Args:
        resident_bytes: Of the process with the predictor ready, after a trial batch and without the image: the code,
            the weights, and what the framework keeps.
        tile_bytes: What a tile of a batch takes inside the predictor, beside the tile, a float32 copy of it and its
            scores, where this is known; it grows with the batch and is given back after it.
        seconds_per_tile: Of a tile through the predictor once.
    """

    resident_bytes: int
    tile_bytes: int = 0
    seconds_per_tile: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be predicted.

    Args:
        shape: `(C, *S)` of the image.
        dtype: Of the image.
        num_classes: Classes K.
        num_forms: How many forms of a tile are averaged, as the length of `Symmetries` says; 1 for none.
        cleans: Whether the labels go through `clean` afterwards.
        keeps_scores: Whether the scores of the whole image are kept, as `predict_image` does.
        writes: Whether a mask is then written, and read back to be compared.
        num_pages: How many such images are in memory at once, as one is read and one written beside that in work.
        separation: How objects are told apart in the labels, meanwhile; None where they are not.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    num_classes: int
    num_forms: int = 1
    cleans: bool = False
    keeps_scores: bool = False
    writes: bool = False
    num_pages: int = 1
    separation: Separation | None = None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How an image will be predicted, and what that takes.

    The peak is the most bytes that the process holds at any moment (its resident set): what it held before, the whole
    image, whether read or mapped, the whole labels, and the largest of three that never meet: the sums of a slab with
    the batches, the scratch of the cleaning, and the copies of the mask as it is written and read back. Where objects
    are told apart, that goes on beside all of it, with the next page at work.

    Args:
        tiles: How the image is cut.
        num_tiles: Tiles in all.
        num_batches: Times that the predictor is called for one form of the tiles.
        num_slabs: Parts in which the scores are finished.
        slab_rows: Rows of scores that are held at once.
        resident_bytes: Of the process before.
        image_bytes: Of the image.
        labels_bytes: Of the labels, and of the scores where they are kept.
        sums_bytes: Of the sums of scores of a slab, with the weights.
        batch_bytes: Of one batch in and out, of the next as it is cut, and of the last as it is blended.
        scratch_bytes: Of the cleaning.
        writing_bytes: Of the copies of the mask.
        seconds: Of the predictor, and of telling objects apart; 0 where it was not timed.
        objects_bytes: Of telling objects apart.
    """

    tiles: TilePlan
    num_tiles: int
    num_batches: int
    num_slabs: int
    slab_rows: int
    resident_bytes: int
    image_bytes: int
    labels_bytes: int
    sums_bytes: int
    batch_bytes: int
    scratch_bytes: int
    writing_bytes: int
    seconds: float
    objects_bytes: int = 0

    @property
    def at_work_bytes(self) -> int:
        """Of the tiles at work, inside the predictor and around it."""
        return self.sums_bytes + self.batch_bytes

    @property
    def peak_bytes(self) -> int:
        """The most that the process will hold."""
        passing = max(self.at_work_bytes, self.scratch_bytes, self.writing_bytes)
        return self.resident_bytes + self.image_bytes + self.labels_bytes + self.objects_bytes + passing

    def describe(self) -> tuple[str, ...]:
        """Short lines for the screen; GB are 10^9 bytes."""
        parts = {
            "process": self.resident_bytes,
            "image": self.image_bytes,
            "labels": self.labels_bytes,
            "slab": self.sums_bytes,
            "batch": self.batch_bytes,
            "cleaning": self.scratch_bytes,
            "objects": self.objects_bytes,
            "writing": self.writing_bytes,
        }
        size = " x ".join(map(str, self.tiles.tile_size))
        lines = [
            f"{counted(self.num_tiles, 'tile')} of {size} in {counted(self.num_batches, 'batch', 'batches')}, "
            f"{counted(self.num_slabs, 'slab')} of at most {counted(self.slab_rows, 'row')}",
            f"memory: at most {bytes_as_text(self.peak_bytes)} "
            f"({', '.join(f'{name} {bytes_as_text(part)}' for name, part in parts.items() if part)})",
        ]
        return (*lines, f"time: about {_duration(self.seconds)}") if self.seconds else tuple(lines)


def plan_memory(work: Work, tiles: TilePlan, cost: PredictorCost) -> MemoryPlan:
    """What predicting an image will take.

    Args:
        work: The image and what is asked for.
        tiles: How it is cut.
        cost: What the predictor takes.

    Raises:
        ValueError: If the image has other axes than the tile.
    """
    if len(work.shape) != 1 + len(tiles.tile_size):
        raise ValueError(f"image must be (C, *S) with S like the tile {tiles.tile_size}, got {work.shape}")
    canvas = canvas_of(work.shape[1:], tiles)
    starts = starts_of(canvas, tiles)
    num_tiles = math.prod(map(len, starts))
    batch_size = even_batch_size(num_tiles, tiles.batch_size)
    num_batches = math.ceil(num_tiles / batch_size)
    num_pixels = math.prod(work.shape[1:])
    tile_bytes = _tile_bytes(work, tiles, is_only=num_batches == 1) + cost.tile_bytes
    return MemoryPlan(
        tiles=tiles,
        num_tiles=num_tiles,
        num_batches=num_batches,
        num_slabs=len(starts[0]),
        slab_rows=tiles.output_size[0],
        resident_bytes=cost.resident_bytes,
        image_bytes=work.num_pages * work.shape[0] * num_pixels * work.dtype.itemsize,
        labels_bytes=work.num_pages * num_pixels * (1 + work.keeps_scores * work.num_classes * FLOAT32),
        sums_bytes=_sums_bytes(work, tiles, canvas) if num_tiles > 1 else 0,
        batch_bytes=batch_size * tile_bytes,
        scratch_bytes=scratch_bytes(num_pixels) if work.cleans else 0,
        writing_bytes=COPIES * num_pixels if work.writes else 0,
        seconds=num_batches * batch_size * work.num_forms * cost.seconds_per_tile
        + (work.separation.seconds_per_pixel * num_pixels if work.separation and cost.seconds_per_tile else 0),
        objects_bytes=work.separation.bytes_per_pixel * num_pixels if work.separation else 0,
    )


def fit_memory(work: Work, tiles: TilePlan, cost: PredictorCost, budget: int) -> MemoryPlan:
    """The plan with the largest batches that keeps within a budget; its `tiles` are what to predict with.

    Args:
        work: The image and what is asked for.
        tiles: How it is cut; its batch is the largest that is tried.
        cost: What the predictor takes.
        budget: Bytes that the process may hold.

    Raises:
        ValueError: If the image has other axes than the tile.
        ConfigError: If even batches of one tile take more.
    """
    for batch_size in range(tiles.batch_size, 0, -1):
        plan = plan_memory(work, replace(tiles, batch_size=batch_size), cost)
        if plan.peak_bytes <= budget:
            return plan
    least = plan_memory(work, replace(tiles, batch_size=1), cost)
    size = " x ".join(map(str, work.shape[1:]))
    allowed = f"allow {bytes_as_text(least.peak_bytes, up=True)}, or make tiles smaller along the first axis"
    takes = bytes_as_text(least.objects_bytes)
    does_without = work.separation is not None and least.peak_bytes - least.objects_bytes <= budget
    apart = f", or leave out --instances, which takes {takes}" if does_without else ""
    given = bytes_as_text(budget) if budget >= 10**6 else counted(budget, "byte")
    raise ConfigError(
        f"--max-memory {given}: an image of {size} with {work.num_classes} classes needs "
        f"{bytes_as_text(least.peak_bytes, up=True)} even with tiles one by one; {least.describe()[1]}",
        hint=allowed + apart,
    )


def bytes_as_text(number: int, *, up: bool = False) -> str:
    """Bytes as `12 MB` or `1.25 GB`, rounded to the nearest, or up so that it is enough."""
    unit, name = (10**9, "GB") if number >= 10**9 else (10**6, "MB")
    digits = 100 if name == "GB" else 1
    value = number * digits / unit
    return f"{(math.ceil(value) if up else round(value)) / digits:g} {name}"


def _sums_bytes(work: Work, tiles: TilePlan, canvas: tuple[int, ...]) -> int:
    """The sums of one tile's height, the weights of a row, and a few rows as they are finished."""
    row, height = math.prod(canvas[1:]), tiles.output_size[0]
    return FLOAT32 * work.num_classes * height * row + DOUBLE * row + piece_bytes(height, row)


def _tile_bytes(work: Work, tiles: TilePlan, *, is_only: bool) -> int:
    """A tile as stored and as float32, and its scores twice; one more of both where forms are averaged.

    And where there are several batches, one more of the tiles as stored, which are cut ahead, and one more of the
    scores, which are blended behind.
    """
    more = int(work.num_forms > 1) + (not is_only)
    values = work.shape[0] * math.prod(tiles.tile_size)
    scores = work.num_classes * math.prod(tiles.output_size)
    return (1 + more) * values * work.dtype.itemsize + FLOAT32 * values + (2 + more) * FLOAT32 * scores


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
