"""Whether one of two ways is better on the same cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from unetcli.core.bootstrap import mean_interval

LEAST_PAIRS = 6
"""Pairs that differ, from which on a signed-rank test can come below 0.05: five give 0.0625 at best."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How two measurements of the same cases differ, the first less the second.

    Attributes:
        mean: Of the differences; NaN without a pair.
        low: Lower end of its 95 % bootstrap interval; NaN for fewer than two pairs.
        high: Upper end.
        num_better: Cases in which the first is better.
        num_worse: In which it is worse.
        num_equal: In which both are exactly the same.
        num_undefined: Left out, since one of the two is undefined.
        p_value: Two-sided, of the signed-rank test; NaN where fewer than `LEAST_PAIRS` pairs differ.
    """

    mean: float
    low: float
    high: float
    num_better: int
    num_worse: int
    num_equal: int
    num_undefined: int
    p_value: float


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    higher_is_better: bool = True,
) -> PairedDifference:
    """Compare two measurements case by case, so that how hard a case is does not count.

    The interval draws cases anew (`mean_interval`), each with both of its measurements. The p value is that of the
    Wilcoxon signed-rank test (Wilcoxon 1945, doi 10.2307/3001968); pairs without a difference are left out of it.

    Args:
        first: `(n,)` measurements, NaN where undefined.
        second: The same of the other, in the same order.
        rng: Where chance comes from.
        higher_is_better: Not of distances.

    Raises:
        ValueError: If they are not two times `(n,)`.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"measurements must be two times (n,), got {first.shape} and {second.shape}")
    is_defined = ~(np.isnan(first) | np.isnan(second))
    differences = first[is_defined] - second[is_defined]
    low, high = mean_interval(differences, rng)
    num_more, num_less = int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
    # the p value is second; what SciPy returns is typed as if it had no names
    p_value: Any = wilcoxon(differences)[1] if num_more + num_less >= LEAST_PAIRS else np.nan
    return PairedDifference(
        mean=float(differences.mean()) if differences.size else float("nan"),
        low=low,
        high=high,
        num_better=num_more if higher_is_better else num_less,
        num_worse=num_less if higher_is_better else num_more,
        num_equal=len(differences) - num_more - num_less,
        num_undefined=len(first) - len(differences),
        p_value=float(p_value),
    )
