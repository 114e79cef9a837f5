"""Two runs on the same cases: by how much they differ in each measure, and in which cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unetcli.core.paired import PairedDifference, paired_difference
from unetcli.evaluation.results import SEED, Evaluation, Value, to_value

HIGHER_IS_BETTER = (
    *("dice", "iou", "precision", "recall", "specificity", "surface_dice", "pixel_accuracy", "dice_388"),
    *("average_precision", "average_precision_50", "average_precision_75"),
    *("panoptic_quality", "segmentation_quality", "recognition_quality"),
)
LOWER_IS_BETTER = ("hd95_mm", "asd_mm", "assd_mm", "num_merged_objects", "num_split_objects")
"""Last parts of the names of measures of a case; others, such as volumes, are not better for being more or less."""

BY = "foreground_dice"
"""The measure that cases are put in order by."""


@dataclass(frozen=True, slots=True)
class CasePair:
    """A case under two runs.

    Attributes:
        id: Its name.
        first: Measures of the one run, by name.
        second: Of the other.
    """

    id: str
    first: dict[str, Value]
    second: dict[str, Value]

    def difference(self, name: str) -> Value:
        """The first less the second; None where one is undefined."""
        one, other = self.first.get(name), self.second.get(name)
        return None if one is None or other is None else one - other


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs differ in.

    Attributes:
        measures: How each measure differs over the cases, by name.
        cases: All cases, those first that got worst.
    """

    measures: dict[str, PairedDifference]
    cases: tuple[CasePair, ...]

    @property
    def worse(self) -> list[CasePair]:
        """The cases in which the first run is worse, the worst first."""
        return [case for case in self.cases if (case.difference(BY) or 0) < 0]

    def summary(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "num_cases": len(self.cases),
            "measures": {name: _values(difference) for name, difference in self.measures.items()},
            "worse": {case.id: case.difference(BY) for case in self.worse},
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a case: each measure of both runs, and the difference."""
        return [
            {"case": case.id}
            | {
                f"{name}{suffix}": value
                for name in self.measures
                for suffix, value in (
                    ("", case.first.get(name)),
                    ("_other", case.second.get(name)),
                    ("_difference", case.difference(name)),
                )
            }
            for case in self.cases
        ]


def pair_cases(first: Evaluation, second: Evaluation) -> Comparison:
    """Set two evaluations of the same cases beside each other.

    Raises:
        ValueError: If they are not of the same cases.
    """
    rows, others = ({row["case"]: row for row in each.rows()} for each in (first, second))
    if rows.keys() != others.keys():
        raise ValueError(f"the cases differ: {sorted(rows.keys() ^ others.keys())}")
    known = dict.fromkeys(name for row in rows.values() for name in row)
    names = [name for name in known if _is(name, HIGHER_IS_BETTER) or _is(name, LOWER_IS_BETTER)]
    pairs = [CasePair(id, _measures(row, names), _measures(others[id], names)) for id, row in rows.items()]  # noqa: A001
    measures = {name: _difference(pairs, name) for name in names}
    defined = {name: found for name, found in measures.items() if found.num_undefined < len(pairs)}
    return Comparison(defined, tuple(sorted(pairs, key=_order)))


def _is(name: str, kinds: tuple[str, ...]) -> bool:
    return any(name == kind or name.endswith(f"_{kind}") for kind in kinds)


def _measures(row: dict[str, Any], names: list[str]) -> dict[str, Value]:
    return {name: row.get(name) for name in names}


def _difference(pairs: list[CasePair], name: str) -> PairedDifference:
    first, second = (
        np.array([np.nan if value is None else value for value in values], np.float64)
        for values in ([pair.first[name] for pair in pairs], [pair.second[name] for pair in pairs])
    )
    rng = np.random.default_rng(SEED)
    return paired_difference(first, second, rng, higher_is_better=not _is(name, LOWER_IS_BETTER))


def _order(pair: CasePair) -> tuple[float, str]:
    difference = pair.difference(BY)
    return (np.inf if difference is None else difference, pair.id)


def _values(difference: PairedDifference) -> dict[str, Any]:
    return {name: to_value(value) if isinstance(value, float) else value for name, value in asdict(difference).items()}
