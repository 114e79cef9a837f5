"""Tiles as large as the memory allows.

A U-Net is fully convolutional: where tiles overlap by half, it computes every pixel four times in 2D and eight times in
3D, while one large tile computes it once and has fewer borders. So the tiles chosen here are those with which the
fewest pixels are computed in all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unetcli.core.tiling import Blending
from unetcli.inference.memory import FLOAT32, PredictorCost, Work, fit_memory, plan_memory
from unetcli.inference.tiles import TilePlan, canvas_of, starts_of

Axes = tuple[int, ...]

EFFECTIVE_SHARE = 1 / 7
"""Of the reach of a network, within which nearly all lies that decides a pixel; see `effective_halo`."""

BATCH_BYTES = 300_000_000
"""What a tile may take, inside the predictor and around it, where no budget is given.

A network with 16 channels at its finest level then takes tiles of 64 x 96 x 96 px, in each of which OpenVINO holds
180 MB, and computes the pixels of a volume of 160 x 256 x 256 px 1.5 times. That would be 1.4 times with a third more
memory, 1.2 times with four times as much, and OpenVINO is not quicker in larger tiles.
"""

MOST_MIRRORED = 1.1
"""How much larger than a small image a tile that holds it whole may be."""

NOTHING = PredictorCost(0)


@dataclass(frozen=True, slots=True)
class TileRules:
    """What tiles a network takes, and what they cost it.

    Args:
        stride: Sizes are multiples of it, along each axis, ...
        halo: Pixels at each inner side of a tile that are computed only so that others are right.
        least: No smaller tiles, unless nothing else fits into the memory; such as the patches of training.
        bytes_per_pixel: What a pixel of a tile takes inside the predictor.
        margin: Pixels that the network eats at each side.
        remainder: ... plus this.
        blending: How overlapping outputs are averaged.
    """

    stride: Axes
    halo: Axes
    least: Axes
    bytes_per_pixel: float
    margin: int = 0
    remainder: int = 0
    blending: Blending = "gaussian"


def effective_halo(reach: Sequence[int]) -> Axes:
    """How far a tile must see beyond a pixel for it to be right, from how far a network looks at most.

    A network looks as far as its reach, but what lies in the outer part hardly counts (Luo et al. 2016, "Understanding
    the effective receptive field", arXiv:1701.04128). Measured on two trained runs, by predicting a tile out of the
    middle of an image and the image as one: along the border of the tile 11 % of the labels differ (ISBI 2012, depth 5,
    reach 107) and 5 % (hippocampus, volumes, depth 4, reach 51). They become fewer with the distance from the border:
    at a seventh of the reach, 16 and 8 px, 1.0 % and 0.8 %. That is what a tile that begins a pixel further on changes
    everywhere, 1.0 % and 0.5 %, since its poolings then meet other pixels; more halo cannot make that less, so nothing
    is right to a higher degree.

    Args:
        reach: Pixels that an output pixel may depend on, to one side along each axis.
    """
    return tuple(math.ceil(EFFECTIVE_SHARE * length) for length in reach)


def largest_tiles(work: Work, rules: TileRules, cost: PredictorCost = NOTHING, budget: int | None = None) -> TilePlan:
    """The tiles, one at a time, with which the fewest pixels of an image are computed within the memory.

    That is the whole image where it fits, rounded up to what the network takes. Neighbours overlap by twice the halo,
    and begin at multiples of the stride. The plan is a function of the arguments; of equally good ones it has the fewer
    tiles, then the longer last axes.

    But an image that would have to be mirrored by more than a tenth of its pixels for that, and is larger than the
    least tile, has least tiles that overlap by half. They need less mirroring, and on the hippocampus (whole volumes of
    about 36 x 50 x 35 voxels, 40 cases, patches of 32 x 48 x 32) the mean Dice is 0.0023 higher, standard error 0.0015.

    Args:
        work: The image and what is asked for.
        rules: What tiles there may be.
        cost: What the predictor takes beside its tiles; counts with a budget.
        budget: Bytes that the process may hold; if None, a tile may take `BATCH_BYTES`, or what the least does.

    Raises:
        ValueError: If the image has other axes than the rules.
        ConfigError: If even the smallest tiles take more than the budget.
    """
    size = work.shape[1:]
    if len(size) != len(rules.stride):
        raise ValueError(f"image must be (C, *S) with S like the stride {rules.stride}, got {work.shape}")
    small = _small(size, rules)
    if small is not None:
        memory = plan_memory(work, small, tile_cost(cost, small, rules))
        if budget is None or memory.peak_bytes <= budget:
            return small
    limit = BATCH_BYTES if budget is None else budget
    row_bytes = 0 if budget is None else FLOAT32 * work.num_classes * math.prod(size[1:])
    least = rules.least
    while True:
        axes = [_lengths(length, axis, least[axis], rules) for axis, length in enumerate(size)]
        whole = tuple(lengths[0][0] for lengths in axes)
        for tile in _by_pixels(axes):
            rows = (tile[0] - 2 * rules.margin) * (tile != whole)
            if rules.bytes_per_pixel * math.prod(tile) + rows * row_bytes > limit:
                continue  # soon said, of the many that are too large
            plan = _plan(tile, rules)
            memory = plan_memory(work, plan, tile_cost(cost, plan, rules))
            if (memory.batch_bytes if budget is None else memory.peak_bytes) <= limit:
                return plan
        smallest = _plan(tuple(lengths[-1][0] for lengths in axes), rules)
        if budget is None:
            return smallest
        if max(least) == 1:
            return fit_memory(work, smallest, tile_cost(cost, smallest, rules), budget).tiles
        least = tuple(math.ceil(length / 2) for length in least)


def common_tiles(works: Sequence[Work], rules: TileRules) -> TilePlan:
    """One plan for several images: of those that fit each, the one with which the fewest pixels are computed in all.

    For predictors that take a while to begin with each new size of tile. No tile is longer along an axis than the
    shortest image needs, which would otherwise be mirrored far beyond its ends: patches as large as their volumes
    teach a network what lies where, and it may then be wrong (hippocampus: Dice 0.885 in tiles of 40 x 56 x 40 px, but
    0.847 in tiles of 48 x 64 x 48 px).

    Args:
        works: The images, at least one.
        rules: What tiles there may be.

    Raises:
        ValueError: If there is no image, or one has other axes than the rules.
    """
    if not works:
        raise ValueError("there are no images to plan tiles for")
    shortest = map(min, zip(*(work.shape[1:] for work in works), strict=True))
    most = [_fitting(length, axis, rules) for axis, length in enumerate(shortest)]
    plans = {_plan(tuple(map(min, largest_tiles(work, rules).tile_size, most)), rules) for work in works}

    def pixels(plan: TilePlan) -> tuple[int, Axes]:
        return sum(_num_pixels(work.shape[1:], plan) for work in works), plan.tile_size

    return min(plans, key=pixels)


def tile_cost(cost: PredictorCost, plan: TilePlan, rules: TileRules) -> PredictorCost:
    """What the predictor takes with the tiles of a plan, as far as the rules know."""
    return replace(cost, tile_bytes=cost.tile_bytes + math.ceil(rules.bytes_per_pixel * math.prod(plan.tile_size)))


def _by_pixels(axes: Sequence[Sequence[tuple[int, int]]]) -> list[Axes]:
    """Sizes of tiles from lengths and counts along each axis, those with which the fewest pixels are computed first."""

    def preference(tile: tuple[tuple[int, int], ...]) -> tuple[int, int, Axes]:
        lengths, counts = zip(*tile, strict=True)
        num_tiles = math.prod(counts)
        return math.prod(lengths) * num_tiles, num_tiles, tuple(-length for length in reversed(lengths))

    return [tuple(length for length, _ in tile) for tile in sorted(itertools.product(*axes), key=preference)]


def _lengths(size: int, axis: int, least: int, rules: TileRules) -> list[tuple[int, int]]:
    """Lengths of a tile along an axis, and how many there are of each, from one for the whole to the least length."""
    stride, eaten = rules.stride[axis], 2 * rules.margin
    # tiles begin at multiples of the stride, so that each goes as much less far than its output
    repeated = 2 * rules.halo[axis]
    repeated += (rules.remainder - eaten - repeated) % stride
    smallest = _fitting(max(least - eaten, repeated + stride), axis, rules)
    found = {_fitting(size, axis, rules): 1}
    for count in itertools.count(2):
        length = max(_fitting(math.ceil((size + (count - 1) * repeated) / count), axis, rules), smallest)
        if length < min(found):
            found[length] = 1 + math.ceil((size - length + eaten) / (length - eaten - repeated))
        if length == smallest:
            return list(found.items())
    raise AssertionError


def _fitting(output: int, axis: int, rules: TileRules) -> int:
    """The least length of a tile that gives scores for so many pixels."""
    stride = rules.stride[axis]
    return rules.remainder + stride * math.ceil((output + 2 * rules.margin - rules.remainder) / stride)


def _plan(tile: Axes, rules: TileRules) -> TilePlan:
    """Tiles one at a time; along an axis that a single small one covers, they overlap by what they can."""
    outputs = [length - 2 * rules.margin for length in tile]
    step = tuple(min(stride, output) for stride, output in zip(rules.stride, outputs, strict=True))
    overlap = tuple(
        min(2 * halo, output - length) for halo, output, length in zip(rules.halo, outputs, step, strict=True)
    )
    return TilePlan(tile, overlap, rules.blending, batch_size=1, margin=rules.margin, step=step)


def _small(size: Axes, rules: TileRules) -> TilePlan | None:
    """Least tiles that overlap by half, for an image that is too small to go without much mirroring."""
    whole = tuple(_fitting(length, axis, rules) for axis, length in enumerate(size))
    least = (_fitting(max(length - 2 * rules.margin, 1), axis, rules) for axis, length in enumerate(rules.least))
    tile = tuple(map(min, whole, least))
    mirrored = math.prod(length - 2 * rules.margin for length in whole) / math.prod(size)
    is_long = any(length > 2 * least for length, least in zip(size, rules.least, strict=True))
    if mirrored <= MOST_MIRRORED or tile == whole or is_long:
        return None
    plan = TilePlan.with_share(tile, 0.5, rules.blending, batch_size=1, margin=rules.margin)
    return plan if all(repeated >= 2 * halo for repeated, halo in zip(plan.overlap, rules.halo, strict=True)) else None


def _num_pixels(size: Axes, plan: TilePlan) -> int:
    starts = starts_of(canvas_of(size, plan), plan)
    return math.prod(map(len, starts)) * math.prod(plan.tile_size)
