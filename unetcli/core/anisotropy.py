"""How a network should treat axes of unlike spacing, such as thick slices."""

from __future__ import annotations

from collections.abc import Sequence

Levels = tuple[tuple[int, ...], ...]


def plan_levels(spacing: Sequence[float], depth: int) -> tuple[Levels, Levels]:
    """Strides between the levels of a network, and kernels of its levels, that bring the axes to one scale.

    As in nnU-Net (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z, online methods, "network topology"): at each
    level, an axis whose voxels are by then at least twice as long as the shortest is neither reduced nor
    convolved along; the others have stride 2 and kernel 3. Axes of like spacing have 2 and 3 throughout.

    Args:
        spacing: Size of a voxel along each axis.
        depth: Levels of the network.

    Returns:
        `depth - 1` strides of 1 or 2, and `depth` kernels of 1 or 3, each with a number for every axis.

    Raises:
        ValueError: If a spacing is not positive.
    """
    if min(spacing) <= 0:
        raise ValueError(f"spacing must be positive, got {tuple(spacing)}")
    current = [float(length) for length in spacing]
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    for _ in range(depth):
        is_fine = [length < 2 * min(current) for length in current]
        kernels.append(tuple(3 if fine else 1 for fine in is_fine))
        strides.append(tuple(2 if fine else 1 for fine in is_fine))
        current = [length * stride for length, stride in zip(current, strides[-1], strict=True)]
    return tuple(strides[:-1]), tuple(kernels)
