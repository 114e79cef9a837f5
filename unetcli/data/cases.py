"""A case in memory: one image with its labels, and the hash that its content is known by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image with the class of each pixel.

    Args:
        id: Its name in the dataset.
        image: `(C, H, W)` in the type it was published in.
        labels: `(H, W)` uint8, class indices from 0.

    Raises:
        ValueError: If the shapes do not fit each other, or the labels are not uint8.
    """

    id: str
    image: NDArray[Any]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[1:] != self.labels.shape:
            raise ValueError(f"image must be (C, H, W) and labels (H, W), got {self.image.shape}, {self.labels.shape}")
        if self.labels.dtype != np.uint8:
            raise ValueError(f"labels must be uint8, got {self.labels.dtype}")


def content_hash(array: NDArray[Any]) -> str:
    """SHA-256 of an array's type, shape and values, the same on machines of either byte order."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape} ".encode())
    digest.update(little.tobytes())
    return digest.hexdigest()


def class_shares(labels: NDArray[np.uint8], num_classes: int) -> tuple[float, ...]:
    """Share of the pixels that belongs to each class."""
    counts = np.bincount(labels.ravel(), minlength=num_classes)
    return tuple(float(count) / labels.size for count in counts)
