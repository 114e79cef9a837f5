"""Where the voxels of a volume lie in the patient: one value, in the conventions of ITK and DICOM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]
Directions = tuple[Triple, Triple, Triple]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The grid of a volume.

    World coordinates are those of DICOM and ITK, in mm: x grows to the patient's left, y to the back, z to
    the head (LPS). Axes are those of the arrays: Z, Y, X, the last of which varies fastest in memory.

    Args:
        size: Voxels along Z, Y, X.
        spacing: Distance of the centres of neighbours along Z, Y, X, in mm.
        origin: World x, y, z of the centre of the first voxel, in mm.
        direction: For Z, Y and X, the unit vector (x, y, z) of a step along it. They need not be at right
            angles: a tilted gantry makes a sheared grid.

    Raises:
        ValueError: If a value is not finite, a size or spacing not positive, a vector not of length 1, or the
            vectors lie in a plane.
    """

    size: tuple[int, int, int]
    spacing: Triple
    origin: Triple = (0.0, 0.0, 0.0)
    direction: Directions = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        numbers = (*self.spacing, *self.origin, *(n for vector in self.direction for n in vector))
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"a geometry must be finite, got {self}")
        if min(self.size) < 1 or min(self.spacing) <= 0:
            raise ValueError(f"size and spacing must be positive, got {self.size} and {self.spacing}")
        if any(abs(math.hypot(*vector) - 1) > 1e-3 for vector in self.direction):
            raise ValueError(f"directions must be of length 1, got {self.direction}")
        if abs(np.linalg.det(np.array(self.direction))) < 1e-3:
            raise ValueError(f"directions must not lie in a plane, got {self.direction}")

    @property
    def affine(self) -> NDArray[np.float64]:
        """`(4, 4)` map of homogeneous indices (z, y, x, 1) to world (x, y, z, 1), in mm."""
        affine = np.eye(4)
        affine[:3, :3] = (np.array(self.direction) * np.array(self.spacing)[:, None]).T
        affine[:3, 3] = self.origin
        return affine

    @property
    def voxel_volume(self) -> float:
        """mm3 of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def is_sheared(self) -> bool:
        """Whether two axes are off a right angle by more than 0.06 degrees."""
        vectors = np.array(self.direction)
        return bool(np.abs(vectors @ vectors.T - np.eye(3)).max() > 1e-3)

    @property
    def lateral_axis(self) -> int:
        """The axis of the array (0 for Z, 1 for Y, 2 for X) that runs most from side to side of the patient."""
        return int(np.abs(np.array(self.direction)[:, 0]).argmax())

    def difference(self, other: Geometry, *, tolerance: float = 1e-3) -> str:
        """How another grid differs, as a phrase such as `spacing 1 x 1 x 1 against 2 x 1 x 1 mm`; empty if it does not.

        Two grids are the same if they have one size and no voxel lies further from its twin than `tolerance` voxels.
        """
        if self.size != other.size:
            return f"size {_text(self.size)} against {_text(other.size)} voxels"
        far = np.array([*self.size, 1.0])
        corners = np.array(np.meshgrid(*[(0, n) for n in self.size], [1], indexing="ij")).reshape(4, -1)
        offsets = np.abs((self.affine - other.affine) @ corners).max()
        if offsets <= tolerance * min(*self.spacing, *other.spacing):
            return ""
        for name, unit in (("spacing", " mm"), ("direction", ""), ("origin", " mm")):
            ours, theirs = getattr(self, name), getattr(other, name)
            scale = float(far.max()) if name != "origin" else 1.0
            if np.abs(np.array(ours) - np.array(theirs)).max() * scale > tolerance * min(self.spacing):
                return f"{name} {_text(ours)} against {_text(theirs)}{unit}"
        return f"voxels up to {offsets:.3g} mm apart"


def geometry_from_affine(affine: NDArray[np.float64], size: tuple[int, int, int]) -> Geometry:
    """The geometry of a map from (z, y, x, 1) to world (x, y, z, 1) in LPS mm.

    Raises:
        ValueError: If it is singular or not finite.
    """
    steps = np.asarray(affine, np.float64)[:3, :3].T
    spacing = np.linalg.norm(steps, axis=1)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        raise ValueError(f"an affine must be finite and of full rank, got {np.asarray(affine).tolist()}")
    vectors = steps / spacing[:, None]
    direction = tuple(cast("Triple", tuple(map(float, vector))) for vector in vectors)
    return Geometry(
        size,
        cast("Triple", tuple(map(float, spacing))),
        cast("Triple", tuple(map(float, affine[:3, 3]))),
        cast("Directions", direction),
    )


def _text(value: tuple[float, ...] | Directions) -> str:
    parts = [f"({_text(part)})" if isinstance(part, tuple) else f"{part:.6g}" for part in value]
    return " x ".join(parts)
