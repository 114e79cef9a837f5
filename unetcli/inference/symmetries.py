"""Test-time augmentation: the mean over the symmetries of a tile, with left and right kept apart."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.inference.tiles import Predictor, Scores


@dataclass(frozen=True, slots=True)
class Symmetries:
    """Which turned and mirrored forms of a tile are averaged.

    Args:
        forms: For each, the quarter turns of the last two axes, and then the spatial axes that are mirrored.
        lateral_axis: The axis that runs from side to side, where mirroring swaps classes; None if none does.
        pairs: For each class the one that it becomes on the other side, itself where it has no twin; empty if
            `lateral_axis` is None.
    """

    forms: tuple[tuple[int, tuple[int, ...]], ...]
    lateral_axis: int | None = None
    pairs: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many times a tile goes through the predictor."""
        return len(self.forms)


def symmetries_of(
    ndim: int,
    *,
    axes: Collection[int] | None = None,
    lateral_axis: int | None = None,
    pairs: Sequence[int] | None = None,
) -> Symmetries:
    """The symmetries that a network was trained to bear.

    In 2D these are the four quarter turns, each with and without a mirroring: 8 in all. In other dimensions,
    whose axes may have unlike spacing, they are the 2^n mirrorings of n axes. In 2D, too, only mirrorings are left
    where not every axis may be mirrored or where a class has a twin on the other side.

    Args:
        ndim: Number of spatial axes.
        axes: The axes that may be mirrored, counted from 0; all if None.
        lateral_axis: The axis that runs from side to side.
        pairs: For each class the one that it becomes when it is mirrored along the lateral axis.

    Raises:
        ValueError: If an axis is not one of the image, or pairs are not mutual, or their axis is not given.
    """
    allowed = tuple(range(ndim)) if axes is None else tuple(sorted(set(axes)))
    for axis in (*allowed, *(() if lateral_axis is None else (lateral_axis,))):
        if not 0 <= axis < ndim:
            raise ValueError(f"axes must be of 0 to {ndim - 1}, got {axis}")
    twins = tuple(pairs or ())
    if any(not 0 <= twin < len(twins) or twins[twin] != index for index, twin in enumerate(twins)):
        raise ValueError(f"pairs must name each other, got {twins}")
    has_sides = twins != tuple(range(len(twins)))
    if has_sides and lateral_axis is None:
        raise ValueError(f"pairs {twins} need the axis that runs from side to side")
    mirrorings = tuple(chosen for count in range(len(allowed) + 1) for chosen in itertools.combinations(allowed, count))
    if ndim == 2 and len(allowed) == 2 and not has_sides:
        return Symmetries(tuple(itertools.product(range(4), ((), (1,)))))
    forms = tuple((0, chosen) for chosen in mirrorings)
    return Symmetries(forms, lateral_axis, twins) if has_sides else Symmetries(forms)


def over_symmetries(predictor: Predictor, symmetries: Symmetries) -> Predictor:
    """A predictor that averages another over symmetries of a tile: summed as float32 and divided once.

    A quarter turn of a tile that is not square gives the predictor tiles of swapped sides.

    Args:
        predictor: Scores a batch of tiles.
        symmetries: Which forms of a tile to average.
    """

    def averaged(tiles: NDArray[Any]) -> Scores:
        total: Scores | None = None
        for turns, axes in symmetries.forms:
            scores = _score_form(predictor, tiles, turns, axes)
            if symmetries.lateral_axis in axes:
                scores = _swap_sides(scores, symmetries.pairs)
            if total is None:
                total = scores.astype(np.float32)
            elif scores.shape == total.shape:
                total += scores
            else:
                raise ValueError(
                    f"predictor returned {scores.shape} for turned tiles; want {total.shape} as for others"
                )
            del scores  # before the next are made
        if total is None:
            raise ValueError("a tile has no symmetries")
        total /= len(symmetries)
        return total

    return averaged


def _score_form(predictor: Predictor, tiles: NDArray[Any], turns: int, axes: tuple[int, ...]) -> Scores:
    """Scores of a turned and mirrored form of the tiles, brought back to the places of the tiles."""
    mirrored = tuple(axis + 2 for axis in axes)
    turned = np.rot90(tiles, turns, axes=(-2, -1)) if turns else tiles
    scores = predictor(np.ascontiguousarray(np.flip(turned, mirrored)))
    if scores.ndim != tiles.ndim:
        raise ValueError(f"predictor returned {scores.shape} for tiles {tiles.shape}; want as many axes")
    scores = np.flip(scores, mirrored)
    return np.rot90(scores, -turns, axes=(-2, -1)) if turns else scores


def _swap_sides(scores: Scores, pairs: tuple[int, ...]) -> Scores:
    if scores.shape[1] != len(pairs):
        raise ValueError(f"predictor returned {scores.shape[1]} classes; want {len(pairs)}, as there are in pairs")
    return scores[:, list(pairs)]
