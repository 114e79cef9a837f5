"""A case in memory: one image with its labels, and the hash that its content is known by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry
from unetcli.core.normalization import ChannelStatistics

IGNORED = 255
"""The label of pixels that are neither learned from nor measured; a class has an index of at most 254."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image with the class of each pixel; the arrays may be maps of files.

    Args:
        id: Its name in the dataset.
        image: `(C, *S)` in the type it was published in; S is Y X, or Z Y X.
        labels: `(*S)` uint8, class indices from 0, or `IGNORED`.
        geometry: Where its voxels lie; None for images.
        statistics: Of the intensities of each channel, where they are known already.
        points: `(n, 1 + len(S))` int32 some pixels that are not background: class and index; None if not known yet.
        instances: `(*S)` int32, which object each pixel belongs to: 0 for none, every object another number from 1;
            None where objects are not told apart.
        weights: `(*S)` float32, how much each pixel counts in training; None where all count the same.

    Raises:
        ValueError: If the shapes do not fit each other, or an array is of another type.
    """

    id: str
    image: NDArray[Any]
    labels: NDArray[np.uint8]
    geometry: Geometry | None = None
    statistics: tuple[ChannelStatistics, ...] | None = None
    points: NDArray[np.int32] | None = None
    instances: NDArray[np.int32] | None = None
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim not in (3, 4) or self.image.shape[1:] != self.labels.shape:
            raise ValueError(f"image must be (C, *S) and labels (*S), got {self.image.shape} and {self.labels.shape}")
        if self.labels.dtype != np.uint8:
            raise ValueError(f"labels must be uint8, got {self.labels.dtype}")
        for name, array, dtype in (("instances", self.instances, np.int32), ("weights", self.weights, np.float32)):
            if array is not None and (array.shape != self.labels.shape or array.dtype != dtype):
                raise ValueError(
                    f"{name} must be {self.labels.shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
                )

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Size of a voxel along each axis in mm; None for images."""
        return self.geometry.spacing if self.geometry else None

    @property
    def held_bytes(self) -> int:
        """Bytes of its arrays in memory; those that are maps of files count for nothing."""
        arrays = (self.image, self.labels, self.instances, self.weights)
        return sum(array.nbytes for array in arrays if array is not None and not isinstance(array, np.memmap))

    @property
    def size(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return self.labels.shape


def content_hash(array: NDArray[Any]) -> str:
    """SHA-256 of an array's type, shape and values, the same on machines of either byte order."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape} ".encode())
    digest.update(little.data)
    return digest.hexdigest()


def case_hashes(case: LabelledImage) -> dict[str, Any]:
    """The hashes of what a case holds, None for what it does not, by the names that the manifest has for them."""
    arrays = {"image": case.image, "labels": case.labels, "instances": case.instances, "weights": case.weights}
    return {f"{name}_sha256": None if array is None else content_hash(array) for name, array in arrays.items()}


def class_shares(labels: NDArray[np.uint8], num_classes: int) -> tuple[float, ...]:
    """Share of the pixels that belongs to each class; ignored pixels belong to none."""
    counts = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
    return tuple(float(count) / labels.size for count in counts)


def weight_shares(case: LabelledImage, num_classes: int) -> tuple[float, ...] | None:
    """The weights of the pixels of each class, added up and divided by the number of all pixels; None without weights.

    They add up to the mean weight. Divided by `class_shares` they are the mean weight of a pixel of each class.
    """
    if case.weights is None:
        return None
    sums = np.bincount(case.labels.ravel(), case.weights.ravel(), num_classes)[:num_classes]
    return tuple(float(total) / case.labels.size for total in sums)
