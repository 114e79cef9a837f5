"""How sure a mean over cases is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Means that an interval is read from."""

CHUNK = 1 << 22
"""Values drawn at once, to bound memory."""


def mean_interval(
    values: NDArray[np.float64], rng: np.random.Generator, *, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979, doi 10.1214/aos/1176344552).

    The values are drawn anew, as many and with replacement, `resamples` times; the interval holds the middle share
    `confidence` of the means. It says what other cases of the same kind would change, and nothing of other
    scanners or another training; of few cases it is too narrow.

    Args:
        values: `(n,)` one for each case, without NaN.
        rng: Where chance comes from.
        confidence: Share of the means in the interval.
        resamples: How many means.

    Returns:
        Its two ends; NaN for fewer than two values, of which nothing can be said.

    Raises:
        ValueError: If the values are not `(n,)` numbers, or the confidence is not a share.
    """
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(f"values must be (n,) and no NaN, got {values}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    if len(values) < 2:
        return float("nan"), float("nan")
    at_once = max(1, CHUNK // len(values))
    means = [
        values[rng.integers(0, len(values), (min(at_once, resamples - done), len(values)))].mean(axis=1)
        for done in range(0, resamples, at_once)
    ]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(means), (tail, 100 - tail))
    return float(low), float(high)
