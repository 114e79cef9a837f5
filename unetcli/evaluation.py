"""A set of cases through the network and through the measures; what `eval` shows and training selects by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetcli.core import metrics
from unetcli.core.boundary import boundary_scores
from unetcli.core.metrics import Counts

Segment = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From an image `(C, *S)` as stored to its scores `(K, *S)`."""

Value = float | None
"""A measure; None where it is undefined, such as the Dice of a class that is nowhere."""


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


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: its counts, and the model zoo's soft Dice at full size and at the zoo's own."""

    id: str
    counts: Counts
    zoo_dice: float
    zoo_dice_388: Value = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All cases together, with `classes` the names of the K classes.

    `membrane` has V_Rand and V_Info with their parts and thresholds where they were asked for; None if the truth
    has no cell.
    """

    classes: tuple[str, ...]
    cases: tuple[CaseResult, ...]
    membrane: dict[str, Value] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """Pixels summed over the cases."""
        total = self.cases[0].counts
        for case in self.cases[1:]:
            total = total + case.counts
        return total

    def summary(self) -> dict[str, Any]:
        """The measures over all cases, as JSON can hold them; `mean_iou` is what a run is selected by."""
        small = [case.zoo_dice_388 for case in self.cases if case.zoo_dice_388 is not None]
        return {
            "num_cases": len(self.cases),
            **_overall(self.counts),
            "classes": _per_class(self.counts, self.classes),
            "zoo_dice": float(np.mean([case.zoo_dice for case in self.cases])),
            **({"zoo_dice_388": float(np.mean(small))} if small else {}),
            **self.membrane,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a case, for a table."""
        return [
            {
                "case": case.id,
                **_overall(case.counts),
                **{
                    f"{name}_{measure}": value
                    for name, values in _per_class(case.counts, self.classes).items()
                    for measure, value in values.items()
                },
                "zoo_dice": case.zoo_dice,
                "zoo_dice_388": case.zoo_dice_388,
            }
            for case in self.cases
        ]


def evaluate(
    cases: Sequence[LabelledCase],
    segment: Segment,
    classes: Sequence[str],
    *,
    membrane: bool = False,
    on_case: Callable[[LabelledCase, NDArray[np.float32]], None] | None = None,
) -> Evaluation:
    """Segment every case as a whole and compare it with its labels.

    Args:
        cases: At least one.
        segment: The network with its normalisation and tiling.
        classes: Names of the K classes.
        membrane: Add what the ISBI 2012 stack is measured by: the zoo's Dice at 388 px, V_Rand and V_Info.
            Class 1 is then the inside of a cell.
        on_case: Called with every case and its scores.

    Raises:
        ValueError: If there are no cases.
    """
    if not cases:
        raise ValueError("there is no case to evaluate")
    results: list[CaseResult] = []
    cell_scores: list[NDArray[np.float32]] = []
    for case in cases:
        scores = segment(case.image)
        results.append(_measure(case, scores, len(classes), at_zoo_size=membrane))
        if membrane:
            cell_scores.append(scores[1])
        if on_case is not None:
            on_case(case, scores)
    extra = _membrane(cell_scores, [case.labels for case in cases]) if membrane else {}
    return Evaluation(tuple(classes), tuple(results), extra)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How equal two ways to segment the same images are.

    Attributes:
        num_pixels: Pixels compared.
        equal_labels: Share of them with the same class.
        largest_difference: Of two scores; infinite if one of them is not a number.
    """

    num_pixels: int
    equal_labels: float
    largest_difference: float

    @property
    def is_close(self) -> bool:
        """At most one pixel in 10,000 has another class, and no score is off by more than 1e-3."""
        return self.equal_labels >= 0.9999 and self.largest_difference <= 1e-3

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return asdict(self)


def compare(images: Sequence[NDArray[Any]], one: Segment, other: Segment) -> Agreement:
    """Segment images `(C, *S)` in two ways and compare scores and labels.

    Raises:
        ValueError: If there are no images.
    """
    if not images:
        raise ValueError("there is no image to compare on")
    num_pixels, num_equal, largest = 0, 0, 0.0
    for image in images:
        first, second = one(image), other(image)
        num_equal += int(np.count_nonzero(first.argmax(axis=0) == second.argmax(axis=0)))
        num_pixels += first[0].size
        difference = np.abs(first - second)
        largest = max(largest, float(np.where(np.isnan(difference), np.inf, difference).max()))
    return Agreement(num_pixels, num_equal / num_pixels, largest)


def _measure(case: LabelledCase, scores: NDArray[np.float32], num_classes: int, *, at_zoo_size: bool) -> CaseResult:
    predicted = scores.argmax(axis=0)
    small = metrics.zoo_dice(*metrics.resize_as_zoo(scores, case.labels)) if at_zoo_size else None
    return CaseResult(
        case.id,
        metrics.count(case.labels, predicted, num_classes),
        metrics.zoo_dice(scores, case.labels),
        small,
    )


def _membrane(cell_scores: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.uint8]]) -> dict[str, Value]:
    scores = boundary_scores(cell_scores, labels)
    return {
        f"v_{name}{suffix}": _value(value)
        for name, best in (("rand", scores.rand), ("info", scores.info))
        for suffix, value in (
            ("", best.score),
            ("_split", best.split),
            ("_merge", best.merge),
            ("_threshold", best.threshold),
        )
    }


def _overall(counts: Counts) -> dict[str, Value]:
    return {"pixel_accuracy": _value(metrics.pixel_accuracy(counts)), "mean_iou": _value(metrics.mean_iou(counts))}


def _per_class(counts: Counts, classes: Iterable[str]) -> dict[str, dict[str, Value]]:
    measures = {
        "dice": metrics.dice(counts),
        "iou": metrics.iou(counts),
        "precision": metrics.precision(counts),
        "recall": metrics.recall(counts),
    }
    return {
        name: {measure: _value(values[index]) for measure, values in measures.items()}
        for index, name in enumerate(classes)
    }


def _value(number: float | np.floating[Any]) -> Value:
    return None if np.isnan(number) else float(number)
