"""Make `sample_data/luna16` and `sample_data/volume.nii.gz`: made-up chest CT, laid out as LUNA16 is published.

    python sample_data/make_sample_volumes.py [FOLDER]

A scan is a trunk of soft tissue in air, with ribs and a spine, two lungs of unlike size that are parted by a heart,
vessels within them, and a windpipe that forks. Air, windpipe, bowel gas and lung overlap in HU, so that no threshold
parts them. Labels are those of the published masks: 3 the left lung, 4 the right, 5 the windpipe.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIZE = (32, 48, 48)
"""Voxels along Z, Y, X."""
SPACING = (9.0, 7.5, 7.5)
"""Millimetres along Z, Y, X."""
SUBSETS = (("subset8", 4), ("subset9", 3))
LEFT, RIGHT, WINDPIPE = 3, 4, 5

Floats = NDArray[np.float64]


def make_scan(rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """One scan `SIZE` in HU, and its labels. Rows run to the patient's back, columns to the left."""
    z, y, x = _grid(rng)
    image = np.full(SIZE, -1000.0)
    trunk = _ellipsoid(z, y, x, (0, 0, 0), (9.0, 0.62, 0.86))
    image[trunk] = 40
    image[trunk & ~_ellipsoid(z, y, x, (0, 0, 0), (9.0, 0.57, 0.81))] = -90  # fat under the skin
    lungs = {
        RIGHT: _ellipsoid(z, y, x, (0.12, 0.02, -0.40), (0.74, 0.43, 0.31)),
        LEFT: _ellipsoid(z, y, x, (0.12, 0.04, 0.42), (0.72, 0.42, 0.27)),
    }
    heart = _ellipsoid(z, y, x, (-0.15, -0.14, 0.13), (0.42, 0.3, 0.27))
    windpipe = _windpipe(z, y, x)
    labels = np.zeros(SIZE, np.uint8)
    for value, lung in lungs.items():
        labels[lung & ~heart] = value
    labels[windpipe] = WINDPIPE
    texture = _smooth(1.2, 60, rng)
    vessels = _smooth(0.8, 1.0, rng) > 1.7
    is_lung = np.isin(labels, (RIGHT, LEFT))
    image[is_lung] = (-820 + texture + 500 * vessels)[is_lung]
    image[windpipe] = -960
    bowel = _ellipsoid(z, y, x, (-0.86, -0.1, 0.25), (0.12, 0.22, 0.2))
    image[bowel & trunk] = -900
    image[_ellipsoid(z, y, x, (0, 0.42, 0), (9.0, 0.1, 0.1))] = 450  # spine
    ribs = _ellipsoid(z, y, x, (0.1, 0, 0), (1.1, 0.54, 0.77)) & ~_ellipsoid(z, y, x, (0.1, 0, 0), (1.1, 0.49, 0.72))
    image[ribs & (np.sin(17 * (z + 0.4 * y)) > 0.4)] = 350
    blurred = gaussian_filter(image, (0.5, 0.6, 0.6), mode="nearest") + rng.normal(0, 25, SIZE)
    return blurred.round().clip(-1024, 1500).astype(np.int16), labels


def _grid(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Coordinates from -1 to 1 along Z, Y, X, moved, scaled and bent a little, as people are."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    scale, shift = rng.uniform(0.88, 1.12, 3), rng.uniform(-0.07, 0.07, 3)
    bends = [_smooth(6.0, 0.03, rng) for _ in range(3)]
    z, y, x = (axis / s + t + bend for axis, s, t, bend in zip(axes, scale, shift, bends, strict=True))
    angle = rng.normal(0, 0.05)
    return z, np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x


def _ellipsoid(
    z: Floats, y: Floats, x: Floats, centre: tuple[float, ...], radii: tuple[float, ...]
) -> NDArray[np.bool_]:
    parts = (((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, radii, strict=True))
    return sum(parts, np.zeros(SIZE)) <= 1


def _windpipe(z: Floats, y: Floats, x: Floats) -> NDArray[np.bool_]:
    """A tube from the top, which forks into a branch to each lung."""
    trunk = (np.hypot(y + 0.02, x) < 0.13) & (z > 0.3)
    branches = (np.hypot(y + 0.02, np.abs(x) - 0.55 * (0.34 - z)) < 0.11) & (z > 0.02) & (z <= 0.36)
    return trunk | branches


def _smooth(sigma: float, deviation: float, rng: np.random.Generator) -> Floats:
    """Smooth noise of mean 0 and the deviation asked for."""
    noise = gaussian_filter(rng.standard_normal(SIZE), sigma, mode="wrap")
    return (noise - noise.mean()) * (deviation / noise.std())


def _write(path: Path, array: NDArray[np.generic], origin: tuple[float, ...], *, compress: bool) -> None:
    """Write an array with its place in the patient; `.mhd` makes a `.raw`, or a `.zraw` where it is compressed."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=compress)


def write_sample_volumes(folder: Path, seed: int = 20160404) -> None:
    """Write the tree `luna16` and the scan `volume.nii.gz`; the same for the same seed."""
    rng = np.random.default_rng(seed)
    number = 0
    for subset, count in SUBSETS:
        for _ in range(count):
            number += 1
            name = f"1.3.6.1.4.1.99999.{number:03d}.mhd"
            image, labels = make_scan(rng)
            origin = tuple(rng.uniform(-200, -150, 3).round(3).tolist())
            _write(folder / "luna16" / subset / name, image, origin, compress=False)
            _write(folder / "luna16" / "seg-lungs-LUNA16" / name, labels, origin, compress=True)
    image, _ = make_scan(rng)
    _write(folder / "volume.nii.gz", image, (-170.0, -160.0, -190.0), compress=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    write_sample_volumes(target)
    print(f"wrote {target / 'luna16'} and {target / 'volume.nii.gz'}")
