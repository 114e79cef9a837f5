"""Whether two ways to segment, such as a run and the file exported from it, give the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


Score = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From an image `(C, *S)` as stored to its scores `(K, *S)`."""


def compare(images: Sequence[NDArray[Any]], one: Score, other: Score) -> Agreement:
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
