"""Several predictors as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.inference.tiles import Predictor, Scores


def average(predictors: Sequence[Predictor]) -> Predictor:
    """A predictor that gives the mean of the scores of others: summed as float32 and divided once.

    Args:
        predictors: At least one; each normalises the tiles in its own way. A single one is given back as it is.

    Raises:
        ValueError: If there is none; and, from the predictor, if two return scores of unlike shapes.
    """
    if not predictors:
        raise ValueError("there is no predictor to average")
    if len(predictors) == 1:
        return predictors[0]

    def averaged(tiles: NDArray[Any]) -> Scores:
        total = predictors[0](tiles).astype(np.float32)
        for number, predictor in enumerate(predictors[1:], start=2):
            scores = predictor(tiles)
            if scores.shape != total.shape:
                raise ValueError(f"predictor {number} returned {scores.shape}; want {total.shape} as from the first")
            total += scores
            del scores  # before the next are made
        total /= len(predictors)
        return total

    return averaged
