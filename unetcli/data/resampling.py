"""Volumes and labels on a grid of another spacing."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry, Triple


def resampled_geometry(geometry: Geometry, spacing: Triple) -> Geometry:
    """The grid of another spacing that begins at the same border; the same grid if its spacing is that already.

    Sizes are rounded, so that the far border moves by at most half a new voxel.
    """
    if np.allclose(geometry.spacing, spacing, rtol=1e-3, atol=0):
        return geometry
    size = [max(1, round(n * old / new)) for n, old, new in zip(geometry.size, geometry.spacing, spacing, strict=True)]
    shift = (np.array(spacing) - np.array(geometry.spacing)) / 2 @ np.array(geometry.direction)
    x, y, z = map(float, np.array(geometry.origin) + shift)
    return Geometry((size[0], size[1], size[2]), spacing, (x, y, z), geometry.direction)


def resample_image(image: NDArray[Any], geometry: Geometry, target: Geometry) -> NDArray[Any]:
    """Sample an image linearly, rounded where it is of integers.

    Beyond the centres of the outermost voxels these go on.

    Args:
        image: `(C, Z, Y, X)`.
        geometry: Its grid.
        target: The grid wanted.

    Returns:
        The image on that grid, in its type.
    """
    sampled = np.empty((len(image), *target.size), image.dtype)
    for old, new in zip(image, sampled, strict=True):
        values = _resampled(old, geometry, target, "linear")
        new[...] = np.rint(values, out=values) if image.dtype.kind in "iu" else values
    return sampled


def resample_labels(
    labels: NDArray[np.uint8], geometry: Geometry, target: Geometry, *, smooth: bool = False
) -> NDArray[np.uint8]:
    """Sample labels by the nearest voxel, which invents nothing, or by the class that linear weights favour.

    Args:
        labels: `(Z, Y, X)`.
        geometry: Their grid.
        target: The grid wanted.
        smooth: Whether neighbours are weighed, so that a finer grid shows no steps.

    Returns:
        The labels on that grid.
    """
    return _resampled(labels, geometry, target, "favoured" if smooth else "nearest")


def _resampled(
    array: NDArray[Any], geometry: Geometry, target: Geometry, method: Literal["linear", "nearest", "favoured"]
) -> NDArray[Any]:
    """`(Z, Y, X)` on another grid; linear values are float32."""
    import SimpleITK as sitk  # it takes 100 MB, and most images need no resampling

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(_itk_direction(geometry))
    interpolator, pixel_type = {
        "linear": (sitk.sitkLinear, sitk.sitkFloat32),
        "nearest": (sitk.sitkNearestNeighbor, sitk.sitkUInt8),
        "favoured": (sitk.sitkLabelLinear, sitk.sitkUInt8),
    }[method]
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.size[::-1])
    resampler.SetOutputSpacing(target.spacing[::-1])
    resampler.SetOutputOrigin(target.origin)
    resampler.SetOutputDirection(_itk_direction(target))
    resampler.SetUseNearestNeighborExtrapolator(True)
    resampler.SetInterpolator(interpolator)
    resampler.SetOutputPixelType(pixel_type)
    return sitk.GetArrayFromImage(resampler.Execute(image))


def _itk_direction(geometry: Geometry) -> list[float]:
    """Row by row a matrix whose columns are the directions of X, Y and Z."""
    return np.array(geometry.direction[::-1]).T.ravel().tolist()
