"""Linear maps of offsets in an image of any number of axes: flips, turns, shear, magnification.

A map takes the offset of a patch pixel from the patch's centre to that of the image pixel it shows. Axes are those of
the arrays, so that (row, column) is turned as `numpy.rot90` turns an array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
Plane = tuple[int, int]


def flips(is_flipped: Sequence[bool]) -> Matrix:
    """The map that mirrors the axes asked for; one value an axis."""
    return np.diag([-1.0 if flipped else 1.0 for flipped in is_flipped])


def quarter_turn(times: int, ndim: int = 2) -> Matrix:
    """The map of `times` quarter turns of the last two axes, in the direction of `numpy.rot90`."""
    matrix = np.eye(ndim)
    matrix[-2:, -2:] = np.linalg.matrix_power(np.array([[0.0, 1.0], [-1.0, 0.0]]), times % 4)
    return matrix


def rotation(degrees: float, plane: Plane = (0, 1), ndim: int = 2) -> Matrix:
    """The map that turns content in a plane of two axes, in the direction of `numpy.rot90` with these axes."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(ndim)
    matrix[np.ix_(plane, plane)] = [[cosine, sine], [-sine, cosine]]
    return matrix


def magnification(factors: ArrayLike) -> Matrix:
    """The map that makes content larger by a factor an axis."""
    return np.diag(1 / np.asarray(factors, np.float64))


def shear(degrees: float, plane: Plane = (0, 1), ndim: int = 2) -> Matrix:
    """The map that leans the second axis of a plane along its first by `degrees`."""
    matrix = np.eye(ndim)
    matrix[plane[1], plane[0]] = math.tan(math.radians(degrees))
    return matrix


def in_voxels(matrix: Matrix, spacing: Sequence[float]) -> Matrix:
    """The map of voxels that acts as `matrix` on offsets in mm: a rotation stays one, however thick the slices."""
    sizes = np.array(spacing)
    return matrix * (sizes / sizes[:, None])
