"""What was measured, of each case and of all: as a summary, as statistics over cases, and as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from unetcli.core import metrics
from unetcli.core.bootstrap import mean_interval
from unetcli.core.matching import ObjectCounts
from unetcli.core.metrics import Counts
from unetcli.core.surface import SurfaceMeasures
from unetcli.evaluation.objects import Value, object_measures, total

SEED = 0
"""Of the resampling behind intervals, so that the same cases always give the same."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was measured of one case.

    Attributes:
        id: Its name.
        counts: Pixels of each class.
        zoo_dice: The model zoo's soft Dice at full size; None where only labels are known.
        zoo_dice_388: The same at the zoo's own size.
        voxel_volume: mm3 of a voxel; None for images.
        surfaces: Of each class but the background; empty where they were not asked for or have no meaning in mm.
        objects: Of each class that objects are of; empty where they were not asked for or the truth has none.
    """

    id: str
    counts: Counts
    zoo_dice: Value = None
    zoo_dice_388: Value = None
    voxel_volume: Value = None
    surfaces: tuple[SurfaceMeasures, ...] = ()
    objects: tuple[ObjectCounts, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All of it as plain values and arrays, to be given to another process."""
        return {
            "id": self.id,
            "counts": [self.counts.true_positive, self.counts.false_positive, self.counts.false_negative],
            "zoo_dice": self.zoo_dice,
            "zoo_dice_388": self.zoo_dice_388,
            "voxel_volume": self.voxel_volume,
            "surfaces": [asdict(each) for each in self.surfaces],
            "objects": [asdict(each) for each in self.objects],
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The result of which these are the facts."""
        result = cls(**facts)
        surfaces = tuple(SurfaceMeasures(**each) for each in facts["surfaces"])
        objects = tuple(ObjectCounts(**each | {"num_found": tuple(each["num_found"])}) for each in facts["objects"])
        return replace(result, counts=Counts(*facts["counts"]), surfaces=surfaces, objects=objects)

    @property
    def foreground_dice(self) -> Value:
        """Mean Dice of the classes but the background; of those that are in the case or its prediction."""
        return mean(map(to_value, metrics.dice(self.counts)[1:]))

    def of_objects(self) -> dict[str, Value]:
        """The measures of all objects of all classes, by name; none where there are no true ones to compare with."""
        return object_measures(total(self.objects)) if self.objects else {}

    def by_class(self) -> list[dict[str, Value]]:
        """The measures of each of the K classes, by name; distances and volumes only where they are in mm."""
        overlaps = {
            **_overlaps(self.counts),
            "specificity": metrics.specificity(self.counts),
            "volume_difference": metrics.volume_difference(self.counts),
        }
        return [
            {name: to_value(values[index]) for name, values in overlaps.items()}
            | self._volumes(index)
            | self._distances(index)
            for index in range(len(self.counts.true_positive))
        ]

    def _volumes(self, index: int) -> dict[str, Value]:
        if self.voxel_volume is None:
            return {}
        hits, invented, missed = (
            int(each[index]) * self.voxel_volume
            for each in (self.counts.true_positive, self.counts.false_positive, self.counts.false_negative)
        )
        return {
            "volume_mm3": hits + missed,
            "predicted_volume_mm3": hits + invented,
            "volume_difference_ml": (invented - missed) / 1000,
        }

    def _distances(self, index: int) -> dict[str, Value]:
        if not (self.surfaces and index):
            return {}
        measured = self.surfaces[index - 1]
        return {
            "hd95_mm": to_value(measured.hd95),
            "asd_mm": to_value(measured.asd),
            "assd_mm": to_value(measured.assd),
            "surface_dice": to_value(measured.surface_dice),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All cases together, with `classes` the names of the K classes.

    `membrane` has V_Rand and V_Info with their parts and thresholds where they were asked for; None if the truth
    has no cell. `zoo_volumes` adds the Dice by which the model zoo measures its 3D U-Net. `object_classes` names the
    classes that objects are of.
    """

    classes: tuple[str, ...]
    cases: tuple[CaseResult, ...]
    membrane: dict[str, Value] = field(default_factory=dict)
    zoo_volumes: bool = False
    object_classes: tuple[str, ...] = ()

    @property
    def counts(self) -> Counts:
        """Pixels summed over the cases."""
        total = self.cases[0].counts
        for case in self.cases[1:]:
            total = total + case.counts
        return total

    def summary(self) -> dict[str, Any]:
        """The measures over all cases, as JSON can hold them; `mean_iou` is what a run is selected by.

        `classes` has the measures of all pixels of all cases together, as if they were one image. `foreground_dice` is
        of cases: the mean over them for each class but the background, and of these means the mean. `instances` has
        the measures of all objects of all cases together, where they were compared, and of each class if there are
        several that objects are of.
        """
        return {
            "num_cases": len(self.cases),
            **_overall(self.counts),
            "foreground_dice": self._foreground_dice(),
            "classes": {
                name: {measure: to_value(values[index]) for measure, values in _overlaps(self.counts).items()}
                for index, name in enumerate(self.classes)
            },
            **self._zoo(),
            **self.membrane,
            **self._objects(),
        }

    def object_statistics(self) -> dict[str, dict[str, Value]]:
        """What each measure of objects is over the cases, as in `statistics`; counts are only summed, in `summary`."""
        cases = [case.of_objects() for case in self.cases if case.objects]
        names = [name for name in (cases[0] if cases else ()) if not name.startswith("num_")]
        return {name: _statistics([case[name] for case in cases]) for name in names}

    def statistics(self) -> dict[str, dict[str, dict[str, Value]]]:
        """What each measure of each class is over the cases: a mean with a 95 % interval, and a median.

        A case in which a measure is undefined, such as the Dice of a class that is nowhere or a distance to a class
        that was not found, is left out and counted in `num_undefined`. The interval, `low` to `high`, is a
        bootstrap's (`mean_interval`); None for fewer than two cases.
        """
        cases = [case.by_class() for case in self.cases]
        return {
            name: {
                measure: _statistics([case[index].get(measure) for case in cases])
                for measure in dict.fromkeys(measure for case in cases for measure in case[index])
            }
            for index, name in enumerate(self.classes)
        }

    def worst_first(self) -> list[CaseResult]:
        """The cases by their mean foreground Dice; last those that have none."""

        def badness(case: CaseResult) -> float:
            score = case.foreground_dice
            return math.inf if score is None else score

        return sorted(self.cases, key=badness)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a case, for a table; the worst first."""
        return [
            {
                "case": case.id,
                **_overall(case.counts),
                "foreground_dice": case.foreground_dice,
                **{
                    f"{name}_{measure}": value
                    for name, values in zip(self.classes, case.by_class(), strict=True)
                    for measure, value in values.items()
                },
                "zoo_dice": case.zoo_dice,
                "zoo_dice_388": case.zoo_dice_388,
                **case.of_objects(),
            }
            for case in self.worst_first()
        ]

    def _foreground_dice(self) -> Value:
        by_case = [metrics.dice(case.counts)[1:] for case in self.cases]
        return mean(mean(map(to_value, values)) for values in zip(*by_case, strict=True))

    def _objects(self) -> dict[str, Any]:
        """The measures of objects, or nothing where none were compared."""
        by_class = list(zip(*(case.objects for case in self.cases if case.objects), strict=True))
        if not by_class:
            return {}
        each = {
            name: object_measures(total(counts)) for name, counts in zip(self.object_classes, by_class, strict=True)
        }
        whole: dict[str, Any] = object_measures(total([counts for cases in by_class for counts in cases]))
        return {"instances": whole | ({"classes": each} if len(each) > 1 else {})}

    def _zoo(self) -> dict[str, Value]:
        found: Mapping[str, Value] = {
            "zoo_dice": mean(case.zoo_dice for case in self.cases),
            "zoo_dice_388": mean(case.zoo_dice_388 for case in self.cases),
        }
        known: dict[str, Value] = {name: value for name, value in found.items() if value is not None}
        if self.zoo_volumes:
            dices = [to_value(metrics.zoo_foreground_dice(case.counts)) for case in self.cases]
            known["zoo_foreground_dice"] = mean(dices)
        return known


def mean(values: Iterable[Value]) -> Value:
    """Of those that are defined; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def to_value(number: float | np.floating[Any]) -> Value:
    """A number as JSON can hold it."""
    return None if np.isnan(number) else float(number)


def _statistics(values: list[Value]) -> dict[str, Value]:
    known = np.array([value for value in values if value is not None], np.float64)
    low, high = mean_interval(known, np.random.default_rng(SEED))
    return {
        "mean": mean(known),
        "median": float(np.median(known)) if known.size else None,
        "low": to_value(low),
        "high": to_value(high),
        "num_cases": len(known),
        "num_undefined": len(values) - len(known),
    }


def _overall(counts: Counts) -> dict[str, Value]:
    return {"pixel_accuracy": to_value(metrics.pixel_accuracy(counts)), "mean_iou": to_value(metrics.mean_iou(counts))}


def _overlaps(counts: Counts) -> dict[str, metrics.Ratios]:
    return {
        "dice": metrics.dice(counts),
        "iou": metrics.iou(counts),
        "precision": metrics.precision(counts),
        "recall": metrics.recall(counts),
    }
