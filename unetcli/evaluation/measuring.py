"""Cases through the network, one after the other, and each beside its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetcli.core import metrics
from unetcli.core.boundary import boundary_scores
from unetcli.core.geometry import Geometry
from unetcli.core.matching import ObjectCounts
from unetcli.core.surface import SurfaceMeasures, measure_surfaces
from unetcli.evaluation.objects import compare_objects
from unetcli.evaluation.results import CaseResult, Evaluation, Value, to_value
from unetcli.inference import Instances, Separation, separate


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a network says of an image.

    Args:
        labels: `(*S)` uint8 class of every pixel.
        scores: `(K, *S)` float32; None where they were too large to keep.
        instances: Its objects; None where they were not told apart.
    """

    labels: NDArray[np.uint8]
    scores: NDArray[np.float32] | None = None
    instances: Instances | None = None


class LabelledCase(Protocol):
    """One image with its labels."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def image(self) -> NDArray[Any]:
        """`(C, *S)` as stored."""
        ...

    @property
    def labels(self) -> NDArray[np.uint8]:
        """`(*S)` class of every pixel."""
        ...

    @property
    def geometry(self) -> Geometry | None:
        """Where its voxels lie; None for images."""
        ...

    @property
    def instances(self) -> NDArray[np.int32] | None:
        """`(*S)` number of the object that each pixel belongs to, 0 for none; None where they are not told apart."""
        ...


Segment = Callable[[LabelledCase], Prediction]
"""The network with its normalisation and tiling; it is given the case since where a voxel lies may matter to it."""


class InTurn(Protocol):
    """What does a piece of work for each case and gives the results in their order; processes may share them out."""

    def __call__(self, items: Sequence[LabelledCase], work: Callable[[LabelledCase], Any], /) -> list[Any]:
        """The results, of plain values and arrays."""
        ...


def one_by_one(items: Sequence[LabelledCase], work: Callable[[LabelledCase], Any], /) -> list[Any]:
    """All in this process."""
    return [work(item) for item in items]


@dataclass(frozen=True, slots=True)
class Measures:
    """What to measure beside the overlap.

    Args:
        distances: Also measure, in mm, how far the surfaces of prediction and truth are apart, of each class but the
            background. Left out for images without a size in mm and for grids not at right angles.
        tolerance: Distance in mm up to which `surface_dice` counts a surface as found.
        ignored: Label of pixels to leave out. Where surfaces are measured, they are background in truth and prediction.
        zoo_volumes: Add the Dice by which the model zoo measures its 3D U-Net.
        membrane: Add what the ISBI 2012 stack is measured by: the zoo's Dice at 388 px, V_Rand and V_Info. Class 1 is
            then the inside of a cell.
        separation: How objects are told apart in what was found, to be compared with the true ones of the cases that
            have them; None to leave that out.
    """

    distances: bool = False
    tolerance: float = 1.0
    ignored: int | None = None
    zoo_volumes: bool = False
    membrane: bool = False
    separation: Separation | None = None


OVERLAP = Measures()
"""Nothing but the overlap, of all pixels."""


def evaluate(
    cases: Sequence[LabelledCase],
    segment: Segment,
    classes: Sequence[str],
    measures: Measures = OVERLAP,
    *,
    on_case: Callable[[LabelledCase, Prediction], None] | None = None,
    in_turn: InTurn = one_by_one,
) -> Evaluation:
    """Segment every case as a whole and compare it with its labels.

    Args:
        cases: At least one.
        segment: The network with its normalisation and tiling.
        classes: Names of the K classes.
        measures: What to measure beside the overlap, and where.
        on_case: Called with every case and its prediction.
        in_turn: What does the work of each case.

    Raises:
        ValueError: If there are no cases, or membranes or objects are to be measured and there are labels only.
    """
    if not cases:
        raise ValueError("there is no case to evaluate")

    def measure(case: LabelledCase) -> dict[str, Any]:
        prediction = _separated(case, segment(case), measures)
        result = _measure(case, prediction, len(classes), measures)
        if on_case is not None:
            on_case(case, prediction)
        return {"result": result.facts()} | ({"cells": _scores(prediction)[1]} if measures.membrane else {})

    found = in_turn(cases, measure)
    extra = _membrane([each["cells"] for each in found], [case.labels for case in cases]) if measures.membrane else {}
    results = tuple(CaseResult.from_facts(each["result"]) for each in found)
    object_classes = tuple(classes[index] for index in measures.separation.objects) if measures.separation else ()
    return Evaluation(tuple(classes), results, extra, measures.zoo_volumes, object_classes)


def _scores(prediction: Prediction, what: str = "membranes") -> NDArray[np.float32]:
    if prediction.scores is None:
        raise ValueError(f"{what} are measured by scores, and there are labels only")
    return prediction.scores


def _separated(case: LabelledCase, prediction: Prediction, wanted: Measures) -> Prediction:
    """The prediction with its objects, where there are true ones to compare them with."""
    if wanted.separation is None or case.instances is None:
        return prediction
    return replace(prediction, instances=separate(prediction.labels, _scores(prediction, "objects"), wanted.separation))


def _measure(case: LabelledCase, prediction: Prediction, num_classes: int, wanted: Measures) -> CaseResult:
    scores, geometry = prediction.scores, case.geometry
    counts = metrics.count(case.labels, prediction.labels, num_classes, ignored=wanted.ignored)
    small = metrics.resize_as_zoo(_scores(prediction), case.labels) if wanted.membrane else None
    return CaseResult(
        case.id,
        counts,
        zoo_dice=None if scores is None else metrics.zoo_dice(scores, case.labels, ignored=wanted.ignored),
        zoo_dice_388=None if small is None else metrics.zoo_dice(*small),
        voxel_volume=geometry.voxel_volume if geometry else None,
        surfaces=_surfaces(case, prediction.labels, num_classes, wanted),
        objects=_objects(case, prediction, wanted),
    )


def _objects(case: LabelledCase, prediction: Prediction, wanted: Measures) -> tuple[ObjectCounts, ...]:
    if wanted.separation is None or case.instances is None or prediction.instances is None:
        return ()
    classes = wanted.separation.objects
    return compare_objects(case.instances, case.labels, prediction.instances, classes, ignored=wanted.ignored)


def _surfaces(
    case: LabelledCase, predicted: NDArray[np.uint8], num_classes: int, wanted: Measures
) -> tuple[SurfaceMeasures, ...]:
    geometry, labels = case.geometry, case.labels
    if not wanted.distances or geometry is None or geometry.is_sheared:
        return ()
    if wanted.ignored is not None and (is_ignored := labels == wanted.ignored).any():
        labels, predicted = np.where(is_ignored, 0, labels), np.where(is_ignored, 0, predicted)
    return tuple(
        measure_surfaces(predicted == index, labels == index, geometry.spacing, tolerance=wanted.tolerance)
        for index in range(1, num_classes)
    )


def _membrane(cell_scores: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.uint8]]) -> dict[str, Value]:
    scores = boundary_scores(cell_scores, labels)
    return {
        f"v_{name}{suffix}": to_value(value)
        for name, best in (("rand", scores.rand), ("info", scores.info))
        for suffix, value in (
            ("", best.score),
            ("_split", best.split),
            ("_merge", best.merge),
            ("_threshold", best.threshold),
        )
    }
