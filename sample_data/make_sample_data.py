"""Make `sample_data/isbi`: a made-up stack that looks like electron micrographs of cells and their membranes.

    python sample_data/make_sample_data.py [FOLDER]

Cells are a Voronoi tessellation whose seeds drift from slice to slice, seen through a wavy warp. Membranes are
dark lines 3 to 4 px wide, of varying width and strength. Cytoplasm is grey and uneven, and holds dark organelles
of the membranes' own darkness, so that no threshold parts the two. Blur and noise come last.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIDE = 192
MARGIN = 40
CELL = 34.0
"""Mean distance of neighbouring cells in pixels."""
TRAIN_PAGES, TEST_PAGES = 12, 4

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Organelle:
    """An ellipsoid in pixels and slices: centre `(z, y, x)`, radii, angle in the plane, darkness."""

    centre: Floats
    radii: Floats
    angle: float
    darkness: float


def make_volume(num_pages: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One stack.

    Returns:
        Images and labels, both `(num_pages, SIDE, SIDE)` uint8; labels are 255 inside cells and 0 on membranes.
    """
    seeds, drift, phase = _cells(rng)
    tint = rng.normal(0, 9, len(seeds))
    organelles = [_organelle(num_pages, large, rng) for large in (True, False) for _ in range(14 * (num_pages + 6))]
    warps = np.stack([_smooth((num_pages, SIDE, SIDE), (3, 9, 9), 3.2, rng) for _ in range(2)])
    widths = _smooth((num_pages, SIDE, SIDE), (1.5, 10, 10), 0.4, rng)
    strengths = _smooth((num_pages, SIDE, SIDE), (1.5, 8, 8), 0.3, rng)

    images, labels = [], []
    for page in range(num_pages):
        sway = 3 * np.sin(2 * np.pi * page / 9 + phase)
        distance, owner = _membrane_distance(seeds + drift * page + sway, warps[:, page])
        labels.append(np.where(distance > 1.95 + widths[page], 255, 0).astype(np.uint8))
        profile = np.exp(-0.5 * (distance / (1.45 + 0.5 * widths[page])) ** 2)
        cytoplasm = 152 + tint[owner] + _smooth((SIDE, SIDE), (3, 3), 9, rng)
        for organelle in organelles:
            if abs(page - organelle.centre[0]) < 2 * organelle.radii[0]:
                cytoplasm -= _shadow(organelle, page) * np.clip((distance - 2) / 2, 0, 1)
        image = cytoplasm - 92 * (1 + strengths[page]).clip(0.45, 1.3) * profile
        images.append(_developed(image, rng))
    return np.stack(images), np.stack(labels)


def _cells(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Seeds on a jittered grid reaching past the borders, their drift in px a slice, and the phase of their sway."""
    steps = np.arange(-MARGIN, SIDE + MARGIN, CELL)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    seeds = grid + rng.uniform(-0.36, 0.36, grid.shape) * CELL
    return seeds, rng.normal(0, 0.8, grid.shape), rng.uniform(0, 2 * np.pi, grid.shape)


def _membrane_distance(seeds: Floats, warp: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Distance of each pixel to the nearest wall between two cells, in px, and the cell it lies in."""
    points = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")) + warp
    squares = ((points[:, None] - seeds.T[:, :, None, None]) ** 2).sum(axis=0)
    nearest = np.argsort(squares, axis=0)[:4]
    owner = nearest[0]
    walls = []
    for other in nearest[1:]:
        apart = np.linalg.norm(seeds[owner] - seeds[other], axis=-1)
        gap = np.take_along_axis(squares, other[None], 0)[0] - np.take_along_axis(squares, owner[None], 0)[0]
        walls.append(gap / (2 * apart))
    return np.minimum.reduce(walls), owner


def _organelle(num_pages: int, large: bool, rng: np.random.Generator) -> Organelle:
    """A mitochondrion that lasts several slices, or a vesicle seen in one or two."""
    radii = ((1.5, 3, 5), (3, 5, 9)) if large else ((0.5, 1.2, 1.2), (0.9, 2, 2))
    return Organelle(
        centre=rng.uniform((-3, 0, 0), (num_pages + 3, SIDE, SIDE)),
        radii=rng.uniform(*radii),
        angle=rng.uniform(0, np.pi),
        darkness=rng.uniform(75, 110),
    )


def _shadow(organelle: Organelle, page: int) -> Floats:
    """How much darker an organelle makes each pixel of a page: a dark rim around a less dark inside."""
    z, y, x = organelle.centre
    rows, columns = np.meshgrid(np.arange(SIDE) - y, np.arange(SIDE) - x, indexing="ij")
    cos, sin = np.cos(organelle.angle), np.sin(organelle.angle)
    across, along = cos * rows - sin * columns, sin * rows + cos * columns
    radius = np.sqrt(
        ((page - z) / organelle.radii[0]) ** 2 + (across / organelle.radii[1]) ** 2 + (along / organelle.radii[2]) ** 2
    )
    inside = 1 / (1 + np.exp((radius.clip(max=5) - 1) * 9))
    return organelle.darkness * inside * (0.7 + 0.3 * np.exp(-(((radius - 0.9) / 0.2) ** 2)))


def _smooth(shape: tuple[int, ...], sigma: tuple[float, ...], deviation: float, rng: np.random.Generator) -> Floats:
    """Smooth noise of mean 0 and the deviation asked for."""
    noise = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return (noise - noise.mean()) * (deviation / noise.std())


def _developed(image: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture a microscope would take: blurred, with fine and grainy noise."""
    blurred = gaussian_filter(image, 0.8, mode="nearest")
    noise = rng.normal(0, 6, image.shape) + _smooth(image.shape, (0.9, 0.9), 11, rng)
    return (blurred + noise).round().clip(0, 255).astype(np.uint8)


def write_sample_data(folder: Path, seed: int = 20120301) -> None:
    """Write `train-volume.tif`, `train-labels.tif` and `test-volume.tif`; the same for the same seed."""
    rng = np.random.default_rng(seed)
    volume, labels = make_volume(TRAIN_PAGES, rng)
    unseen, _ = make_volume(TEST_PAGES, rng)
    folder.mkdir(parents=True, exist_ok=True)
    for name, pages in (("train-volume", volume), ("train-labels", labels), ("test-volume", unseen)):
        tifffile.imwrite(folder / f"{name}.tif", pages, photometric="minisblack", compression="zlib", metadata=None)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "isbi"
    write_sample_data(target)
    print(f"wrote {target}")
