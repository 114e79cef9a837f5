"""How far the surface of a prediction lies from the true one, in mm, in any number of dimensions.

The surface of a mask is its outermost voxels: those with a face that does not touch another voxel of the mask.
What lies outside of the image is outside of the mask. Distances are between the centres of voxels. All this is as
in MedPy 0.5 (medpy.metric.binary, connectivity 1), and so are the values; what is new is how they are found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

EXACT = 1 << 21
"""Squared distances of pixels below this survive the square root in float32 that OpenCV takes of them."""

SAME = 1e-6
"""Relative difference of two lengths that are taken for the same, since files hold them in float32."""


@dataclass(frozen=True, slots=True)
class SurfaceMeasures:
    """Distances of a predicted surface P and the true surface T, in mm; NaN where one of the two is empty.

    Not 0 and not infinite: an absent structure has no distance to anything (Maier-Hein et al. 2024, Metrics
    Reloaded, doi 10.1038/s41592-023-02151-z).

    Attributes:
        hd: Hausdorff distance, the largest of all distances from P to T and from T to P.
        hd95: Their 95th percentile, all in one set (MedPy; others take the larger of two percentiles).
        asd: Mean of the distances from P to T.
        assd: Mean of all distances from P to T and from T to P, in one set (MedPy 0.5; 0.4 took the mean of two means).
        surface_dice: Share of the voxels of both surfaces that lie within a tolerance of the other surface (Nikolov et
            al. 2018, arXiv:1809.04430, with voxels for areas); 0 if one of the masks alone is empty.
    """

    hd: float
    hd95: float
    asd: float
    assd: float
    surface_dice: float


UNDEFINED = SurfaceMeasures(*[math.nan] * 5)
MISSED = replace(UNDEFINED, surface_dice=0.0)


def measure_surfaces(
    prediction: Mask, truth: Mask, spacing: Sequence[float] | None = None, *, tolerance: float = 1.0
) -> SurfaceMeasures:
    """Compare the surfaces of two masks.

    Args:
        prediction: `(*S)` voxels given to a class.
        truth: `(*S)` voxels that are of it.
        spacing: Size of a voxel along each axis, in mm; 1 if None. Axes are taken to be at right angles.
        tolerance: Distance in mm up to which a surface counts as found.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If the masks differ in shape, or the spacing or the tolerance is not one.
    """
    sizes = _checked_spacing(prediction, truth, spacing)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a distance of at least 0 mm, got {tolerance}")
    has_prediction, has_truth = bool(prediction.any()), bool(truth.any())
    if not (has_prediction and has_truth):
        return MISSED if has_prediction or has_truth else UNDEFINED
    box = bounding_box(prediction | truth)
    found, true = surface(prediction[box]), surface(truth[box])
    to_truth = surface_distances(found, true, sizes)
    both = np.concatenate([to_truth, surface_distances(true, found, sizes)])
    return SurfaceMeasures(
        hd=float(both.max()),
        hd95=float(np.percentile(both, 95)),
        asd=float(to_truth.mean()),
        assd=float(both.mean()),
        surface_dice=np.count_nonzero(both <= tolerance * (1 + SAME)) / both.size,
    )


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds a mask of at least one voxel."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def surface(mask: Mask) -> Mask:
    """The voxels of a mask that its erosion by the cross of face neighbours takes away."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        inner, outer = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= outer[:-1]
        inner[:-1] &= outer[1:]
        inner[0] = inner[-1] = False
    return mask & ~inside


def surface_distances(start: Mask, goal: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance in mm from each voxel of `start` to the nearest of `goal`, both of at least one voxel.

    Exact. Where two axes of at most three have one spacing, as almost everywhere, OpenCV finds the distance within each
    plane of the two, for all pixels; the third axis is then searched, only from voxels of `start` and no further than
    the best distance so far. Elsewhere SciPy's slower map of the whole serves.

    Args:
        start: `(*S)` voxels to begin from.
        goal: `(*S)` voxels to reach.
        spacing: Size of a voxel along each axis, in mm.

    Returns:
        `(n,)` distances, in no promised order.
    """
    axes = _plane(goal.shape, spacing)
    if axes is None:
        return np.asarray(ndimage.distance_transform_edt(~goal, sampling=spacing), np.float64)[start]
    pixel = math.sqrt(spacing[axes[0]] * spacing[axes[1]])
    depth = next((size for axis, size in enumerate(spacing) if axis not in axes), 1.0)
    return _through_planes(_planes_first(start, axes), _planes_first(goal, axes), pixel, depth)


def _plane(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int] | None:
    """Two axes with one spacing, the last if there is a choice, in which OpenCV's distances are exact."""
    pairs = {2: [(0, 1)], 3: [(1, 2), (0, 1), (0, 2)]}.get(len(shape), [])
    for one, other in pairs:
        is_square = math.isclose(spacing[one], spacing[other], rel_tol=SAME)
        if is_square and shape[one] ** 2 + shape[other] ** 2 < EXACT:
            return one, other
    return None


def _planes_first(mask: Mask, axes: tuple[int, int]) -> Mask:
    """A mask as `(D, H, W)`, with `axes` as H and W; D is 1 for an image."""
    return np.ascontiguousarray(np.moveaxis(mask, axes, (-2, -1)).reshape(-1, *[mask.shape[axis] for axis in axes]))


def _through_planes(start: Mask, goal: Mask, pixel: float, depth: float) -> NDArray[np.float64]:
    """Distances from the voxels of `start` `(D, H, W)` of `depth` x `pixel` x `pixel` mm to the nearest of `goal`."""
    within = _distances_within_planes(goal).ravel()
    num_planes, step = len(goal), goal[0].size
    voxels = np.flatnonzero(start)
    planes = voxels // step

    def squares(places: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.rint(np.square(within[places], dtype=np.float64)) * pixel**2

    best = squares(voxels)
    pending = np.arange(len(voxels))
    for offset in range(1, num_planes):
        height = (offset * depth) ** 2
        pending = pending[best[pending] > height]
        if not pending.size:
            break
        for shift in (-offset, offset):
            plane = planes[pending] + shift
            reached = pending[(plane >= 0) & (plane < num_planes)]
            best[reached] = np.minimum(best[reached], squares(voxels[reached] + shift * step) + height)
    return np.sqrt(best)


def _distances_within_planes(goal: Mask) -> NDArray[np.float32]:
    """Distance in pixels from every pixel to the nearest of `goal` in its own plane; infinite where there is none."""
    distances = np.full(goal.shape, np.inf, np.float32)
    outside = (~goal).view(np.uint8)
    for plane in np.flatnonzero(goal.any(axis=(1, 2))):
        distances[plane] = cv2.distanceTransform(outside[plane], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distances


def _checked_spacing(prediction: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float] | None) -> list[float]:
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_:
            raise TypeError(f"{name} must be boolean, got {mask.dtype}")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape} voxels but the truth is {truth.shape}")
    sizes = [float(size) for size in spacing] if spacing is not None else [1.0] * truth.ndim
    if len(sizes) != truth.ndim or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"spacing must be {truth.ndim} sizes in mm, got {sizes}")
    return sizes
