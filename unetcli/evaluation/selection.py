"""The names of measures, by which the best weights of a run are chosen and runs are summarised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry
from unetcli.evaluation.measuring import LabelledCase, Measures, Prediction, evaluate


def dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values of mappings within mappings, each under the names that lead to it, joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= dotted(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found


def is_score(name: str) -> bool:
    """Whether more of a measure, by its dotted name, is better, as it is not of counts and thresholds."""
    return not (name.rpartition(".")[2].startswith("num_") or name.endswith("_threshold"))


def selectable(classes: Sequence[str], measures: Measures, *, has_scores: bool) -> tuple[str, ...]:
    """Dotted names of what `evaluate` gives over all cases and weights can be chosen by.

    They are those of a case that is made up here, so that none is forgotten.

    Args:
        classes: Names of the K classes.
        measures: What is measured beside the overlap.
        has_scores: Whether predictions have scores, as those of images have.
    """
    labels = np.zeros((8, 8), np.uint8)
    labels[2:6, 2:6] = 1

    def segment(case: LabelledCase) -> Prediction:
        scores = np.eye(len(classes), dtype=np.float32)[case.labels].transpose(2, 0, 1)
        return Prediction(case.labels, scores if has_scores else None)

    summary = evaluate([_MadeUp(labels[np.newaxis], labels)], segment, classes, measures).summary()
    return tuple(filter(is_score, dotted(summary)))


@dataclass(frozen=True, slots=True, eq=False)
class _MadeUp:
    image: NDArray[Any]
    labels: NDArray[np.uint8]
    id: str = "made up"
    geometry: Geometry | None = None

    @property
    def instances(self) -> NDArray[np.int32]:
        """One object."""
        return self.labels.astype(np.int32)
