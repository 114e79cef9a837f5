"""Volumes of LUNA16's true size, made by resampling the one chest CT of the development data; see `make_tree`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

DATA = Path(os.environ.get("UNET_REAL_DATA", "../shared/data"))
SIZE = (512, 512, 300)
"""X, Y, Z; about the size of a LUNA16 scan."""


def make_tree(folder: Path, count: int) -> Path:
    """A tree laid out as LUNA16's, of so many scans of `SIZE` int16, each with its mask; kept for the next time.

    Every scan has noise of its own, so that none is a copy, and that it packs as badly as a real one.
    """
    images, masks = folder / "subset9", folder / "seg-lungs-LUNA16"
    if len(list(masks.glob("*.mhd"))) == count:
        return folder
    scan, mask = (sitk.ReadImage(str(DATA / "ct_chest" / name / "cip_ct64.mhd")) for name in ("images", "seg-lungs"))
    large, labels = enlarged(scan, sitk.sitkLinear), enlarged(mask, sitk.sitkNearestNeighbor)
    pixels = sitk.GetArrayFromImage(large).astype(np.int16)
    for place in (images, masks):
        place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        noise = rng.integers(-20, 21, pixels.shape, np.int16)
        image = sitk.GetImageFromArray(pixels + noise)
        image.CopyInformation(large)
        name = f"scan{number:03d}.mhd"
        sitk.WriteImage(image, str(images / name))
        sitk.WriteImage(sitk.Cast(labels, sitk.sitkUInt8), str(masks / name), useCompression=True)
    return folder


def enlarged(image: sitk.Image, interpolator: int) -> sitk.Image:
    """The same scan at `SIZE` voxels."""
    spacing = [n * s / m for n, s, m in zip(image.GetSize(), image.GetSpacing(), SIZE, strict=True)]
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(image)
    resampler.SetSize(SIZE)
    resampler.SetOutputSpacing(spacing)
    resampler.SetInterpolator(interpolator)
    return resampler.Execute(image)
