"""Surface distances of a lung mask of 512 x 512 x 300 voxels, ours beside MedPy's: `make bench`.

    python benchmarks/measures.py [--rounds 3] [--json]

The mask is the lungs of the chest CT in the real data (labels 3 and 4; `UNET_REAL_DATA`, by default ../shared/data),
resampled linearly to LUNA16's size. The prediction is the same one slice up and two pixels to the side, with the
outermost voxels of one half taken off. Both find the 95 % Hausdorff distance, the average surface distance and the
average symmetric one, to 1e-6; ours also gives the Hausdorff distance and the surface Dice. They run in turn, and of
the rounds' ratios the median counts. A round takes MedPy two to three minutes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from compare import comparison, parser, publish
from medpy.metric import binary as medpy

from unetcli.core.surface import measure_surfaces, surface

SIZE = (512, 512, 300)
MEASURES = ("hd95", "asd", "assd")


def main() -> None:
    """Alternate the two, check that they agree, and print the ratio."""
    arguments = parser(__doc__).parse_args()
    truth, spacing = lungs()
    prediction = faulty(truth)
    print(f"{np.count_nonzero(truth)} true and {np.count_nonzero(prediction)} predicted voxels, spacing {spacing} mm")
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(1, arguments.rounds + 1):
        seconds, values = timed(lambda: of_ours(prediction, truth, spacing))
        their_seconds, their_values = timed(lambda: of_medpy(prediction, truth, spacing))
        np.testing.assert_allclose(values, their_values, rtol=1e-6)
        ours.append(seconds)
        theirs.append(their_seconds)
        print(f"round {number}: unet {seconds:.2f} s, MedPy {their_seconds:.1f} s", flush=True)
    found = ", ".join(f"{name} {value:.6f} mm" for name, value in zip(MEASURES, values, strict=True))
    print(f"both find {found}")
    result = comparison("surface distances", ours, theirs, f"MedPy {version('medpy')}", bar=1 / 25)
    publish([result], as_json=arguments.json)


def lungs() -> tuple[np.ndarray, tuple[float, ...]]:
    """`(Z, Y, X)` mask of both lungs, and the size of its voxels in mm."""
    folder = Path(os.environ.get("UNET_REAL_DATA", "../shared/data")) / "ct_chest" / "seg-lungs"
    paths = sorted(folder.glob("*.mhd"))
    if not paths:
        sys.exit(f"no lung mask in {folder}; set UNET_REAL_DATA")
    published = sitk.ReadImage(str(paths[0]))
    mask = np.isin(sitk.GetArrayFromImage(published), (3, 4)).astype(np.float32)
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(published.GetSpacing())
    spacing = [old * size / new for old, size, new in zip(image.GetSpacing(), image.GetSize(), SIZE, strict=True)]
    origin = [(new - old) / 2 for new, old in zip(spacing, image.GetSpacing(), strict=True)]
    large = sitk.Resample(image, SIZE, sitk.Transform(), sitk.sitkLinear, origin, spacing)
    return sitk.GetArrayFromImage(large) > 0.5, tuple(reversed(spacing))


def faulty(truth: np.ndarray) -> np.ndarray:
    """The mask one slice up and two pixels to the side, and without the surface of its left half."""
    moved = np.roll(truth, (1, 2), (0, 2))
    half = moved.shape[2] // 2
    moved[..., :half] &= ~surface(moved)[..., :half]
    return moved


def of_ours(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    """Our values, in the order of `MEASURES`."""
    measured = measure_surfaces(prediction, truth, spacing)
    return [getattr(measured, name) for name in MEASURES]


def of_medpy(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    """MedPy's."""
    return [float(getattr(medpy, name)(prediction, truth, voxelspacing=spacing)) for name in MEASURES]


def timed(work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """How long a call takes in seconds, and what it gives."""
    started = time.perf_counter()
    values = work()
    return time.perf_counter() - started, values


if __name__ == "__main__":
    main()
