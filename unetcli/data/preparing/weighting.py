"""How much each pixel of a dataset counts in training, computed once for all cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetcli.core.weight_map import balanced_weights, border_weights
from unetcli.data.cases import IGNORED, LabelledImage
from unetcli.data.manifest import WeightMapFacts

Objects = Callable[[LabelledImage], NDArray[np.int32]]


def with_weights(
    cases: Sequence[LabelledImage],
    num_classes: int,
    facts: WeightMapFacts,
    objects: Objects | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[LabelledImage, ...]:
    """The same cases with the weight map of the original U-Net; see `unetcli.core.weight_map`.

    Classes are balanced over all cases together, if they are, so that a pixel weighs the same wherever it lies.

    Args:
        cases: At least one.
        num_classes: K, with the background.
        facts: How to weigh classes and gaps.
        objects: What finds the cells of a case; its own instances if None.
        advance: Called after each case.
    """
    balance = np.ones(num_classes)
    if facts.classes == "balanced":
        counts = sum(np.bincount(case.labels.ravel(), minlength=256) for case in cases)
        balance = balanced_weights(np.asarray(counts)[:num_classes])

    def weighted() -> Iterable[LabelledImage]:
        for case in cases:
            instances = case.instances if objects is None else objects(case)
            if instances is None:
                raise ValueError(f"{case.id} has no instances")
            instances = instances * (case.labels > 0)  # what a target has taken off a cell is none
            weights = border_weights(case.labels, instances, balance, w0=facts.w0, sigma=facts.sigma)
            yield replace(case, weights=weights)
            advance()

    return tuple(weighted())


def pieces_of_classes(case: LabelledImage) -> NDArray[np.int32]:
    """Number the connected pieces of every class but the background, for cells that are not told apart."""
    numbers = np.zeros(case.labels.shape, np.int32)
    for index in np.unique(case.labels):
        if index not in (0, IGNORED):
            pieces = connected_pieces(case.labels == index)
            numbers[pieces > 0] = pieces[pieces > 0] + numbers.max()
    return numbers


def connected_pieces(is_object: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the pieces of a mask from 1; what touches by a corner alone is of two."""
    pieces = np.empty(is_object.shape, np.int32)
    ndimage.label(is_object, output=pieces)
    return pieces
