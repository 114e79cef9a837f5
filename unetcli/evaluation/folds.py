"""What measures are over the folds of a cross validation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from unetcli.evaluation.selection import dotted

OF_STATISTICS = "mean"
"""The number that is taken of the statistics over the cases of a fold."""
STATISTICS = ("statistics.", "object_statistics.")
"""How the names of these statistics begin."""


def over_folds(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and spread of every measure over the folds.

    The spread is the standard deviation of the folds, with n - 1; folds share most of their training cases, so it
    tells how much the result depends on the split, and is no interval for the mean.

    Args:
        evaluations: For each fold what an evaluation gave: measures of all cases, and statistics over them.

    Returns:
        By the dotted name of the measure: `mean`, `sd` (None for fewer than two folds), `num_folds` in which it is
        defined, and its value in each of the `folds`, None where it is undefined.
    """
    values = {fold: _measures(evaluation) for fold, evaluation in evaluations.items()}
    names = dict.fromkeys(name for measures in values.values() for name in measures)
    return {name: _over({fold: measures.get(name) for fold, measures in values.items()}) for name in names}


def _measures(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    named = dotted(evaluation)
    return {
        name: value
        for name, value in named.items()
        if name != "num_cases"
        and (value is None or isinstance(value, int | float))
        and (not name.startswith(STATISTICS) or name.endswith(f".{OF_STATISTICS}"))
    }


def _over(folds: Mapping[str, float | None]) -> dict[str, Any]:
    known = [value for value in folds.values() if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "num_folds": len(known),
        "folds": dict(folds),
    }
