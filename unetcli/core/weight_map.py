"""How much each pixel counts in training, so that the narrow gaps between cells are learned.

Ronneberger et al. 2015 (arXiv:1505.04597), equation 2: with d1 and d2 the distances of a pixel to the nearest and to
the second nearest cell,

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)).

The second term is added outside of cells alone. By the letter of the equation it would be added within them too, where
d1 is 0; but the paper means it for "the small separation borders" (section 3), and its figure 2d shows cells of one
weight throughout.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

W0 = 10.0
SIGMA = 5.0


def border_weights(
    labels: NDArray[np.uint8],
    instances: NDArray[np.int32],
    class_weights: NDArray[np.float64],
    *,
    w0: float = W0,
    sigma: float = SIGMA,
) -> NDArray[np.float32]:
    """The weight of every pixel: that of its class, and more where it parts two cells.

    Args:
        labels: `(*S)` class of every pixel.
        instances: `(*S)` number of the cell that each pixel belongs to; 0 for none.
        class_weights: `(K,)` weight of each class, such as `balanced_weights` gives; a label from K on counts 0.
        w0: What is added, at most, between two cells.
        sigma: How fast it falls with the width of the gap, in pixels.

    Returns:
        `(*S)` weights.

    Raises:
        ValueError: If the shapes differ, `w0` is negative or `sigma` not positive.
    """
    if labels.shape != instances.shape:
        raise ValueError(f"labels and instances must be of one shape, got {labels.shape} and {instances.shape}")
    table = np.zeros(256, np.float32)
    table[: len(class_weights)] = class_weights
    weights = table[labels]
    weights += separation_weights(instances, w0=w0, sigma=sigma) * (labels < len(class_weights))
    return weights


def balanced_weights(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Weights by which all classes together count the same, w_c in the equation.

    The paper says only that it balances the frequencies of the classes in the training data. Here a class of n of N
    pixels, one of K, weighs N / (K n), so that the mean weight of a pixel is 1 (scikit-learn's "balanced", after King
    and Zeng 2001, "Logistic regression in rare events data").

    Args:
        counts: `(K,)` pixels of each class.

    Returns:
        `(K,)` weights; 0 for a class that has no pixels, which is not among the K.

    Raises:
        ValueError: If there are no pixels.
    """
    total = int(counts.sum())
    if total == 0:
        raise ValueError("there are no pixels to balance")
    found = counts > 0
    return np.where(found, total / (int(found.sum()) * np.maximum(counts, 1)), 0.0)


def separation_weights(instances: NDArray[np.int32], *, w0: float = W0, sigma: float = SIGMA) -> NDArray[np.float32]:
    """The second term: `w0 exp(-(d1 + d2)^2 / (2 sigma^2))` outside of cells, 0 within.

    Distances are Euclidean, in pixels, from the middle of a pixel to that of the nearest one of a cell.

    Args:
        instances: `(*S)` number of the cell that each pixel belongs to, in two or three dimensions; 0 for none.
        w0: Its largest value.
        sigma: How fast it falls, in pixels.

    Returns:
        `(*S)`; 0 everywhere if there are fewer than two cells.

    Raises:
        ValueError: If `w0` is negative or `sigma` not positive.
    """
    if w0 < 0 or not sigma > 0:
        raise ValueError(f"w0 must be at least 0 and sigma more, got {w0} and {sigma}")
    distances = two_nearest(instances)
    if distances is None:
        return np.zeros(instances.shape, np.float32)
    both = distances[0] + distances[1]
    both *= both
    both *= -1 / (2 * sigma**2)
    np.exp(both, out=both)
    both *= w0
    both[instances != 0] = 0
    return both


def narrow_borders(instances: NDArray[np.int32], width: float) -> NDArray[np.bool_]:
    """Where cells touch or nearly do: the pixels whose distances to the nearest two cells add up to at most `width`.

    Within a cell the first of the two is 0. So cells that touch have a rim each that is `width` wide, and a gap of n
    pixels belongs to the border, with what is left of the rims, if n + 1 is at most `width`.

    Args:
        instances: `(*S)` number of the cell that each pixel belongs to; 0 for none.
        width: In pixels.

    Returns:
        `(*S)`; nothing if there are fewer than two cells.
    """
    distances = two_nearest(instances)
    return np.zeros(instances.shape, np.bool_) if distances is None else distances[0] + distances[1] <= width


def two_nearest(instances: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """The distance of every pixel to the nearest cell and to the second nearest.

    Exact, and without a look at single cells: they are numbered from 0, and for every binary digit of the numbers
    there is a distance map of the cells that have a 0 there, and one of those that have a 1. The lesser of the two is
    the distance to the nearest cell. The greater is the distance to the nearest of all cells that differ from that one
    in this digit, and since the second nearest differs from it in some digit, the least of these is the distance to it.
    So 500 cells take 18 distance maps.

    Args:
        instances: `(*S)` number of the cell that each pixel belongs to; 0 for none.

    Returns:
        Both distances, `(*S)` in pixels; None if there are fewer than two cells.

    Raises:
        ValueError: If a number is negative.
    """
    is_cell = instances != 0
    numbers, codes = np.unique(instances[is_cell], return_inverse=True)
    if np.any(numbers < 0):
        raise ValueError(f"cells are numbered from 1, got {numbers[0]}")
    if len(numbers) < 2:
        return None
    nearest = second = np.empty(0, np.float32)
    for digit in range((len(numbers) - 1).bit_length()):
        zeros, ones = np.zeros_like(is_cell), np.zeros_like(is_cell)
        has_one = codes >> digit & 1 == 1
        zeros[is_cell], ones[is_cell] = ~has_one, has_one
        to_zeros, to_ones = distance_to(zeros), distance_to(ones)
        further = np.maximum(to_zeros, to_ones)
        if digit == 0:
            nearest, second = np.minimum(to_zeros, to_ones), further
        np.minimum(second, further, out=second)
    return nearest, second


def distance_to(is_there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Euclidean distance of every pixel to the nearest that is set, of which there must be one."""
    if is_there.ndim == 2:
        # many times as fast as SciPy's, which knows more dimensions
        distances = cv2.distanceTransform((~is_there).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(distances, np.float32)
    return np.asarray(ndimage.distance_transform_edt(~is_there), np.float32)
