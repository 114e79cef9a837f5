"""Which cases train and which validate: the folds of cross-validation, as indices of the cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

Fold = tuple[tuple[int, ...], tuple[int, ...]]
"""Indices that train, and indices that validate; both ascending."""


def zoo_folds(n: int, num_folds: int = 5) -> tuple[Fold, ...]:
    """The folds of the MindSpore model zoo's 2D U-Net, to compare with its published numbers.

    `official/cv/Unet/src/data_loader.py` shuffles the indices from seed 0, rotates them to the right by the
    fold times the size of a validation set, and validates on the last of them. Neighbouring slices of a stack
    so fall on both sides, which flatters the validation; `block_folds` avoids it.

    Args:
        n: Number of cases.
        num_folds: Number of folds; 5 in the zoo.

    Raises:
        ValueError: If there are fewer than 2 folds, or `n` is no multiple of them: then the zoo's rounding
            would leave cases out of every validation set.
    """
    _check(n, num_folds)
    if n % num_folds:
        raise ValueError(f"{n} cases do not divide into {num_folds} equal folds, as the zoo's split needs")
    shuffled = np.arange(n)
    np.random.RandomState(0).shuffle(shuffled)  # the zoo's generator is the legacy one
    size = n // num_folds
    rotated = (np.roll(shuffled, fold * size).tolist() for fold in range(num_folds))
    return tuple((tuple(sorted(indices[:-size])), tuple(sorted(indices[-size:]))) for indices in rotated)


def block_folds(n: int, num_folds: int = 5) -> tuple[Fold, ...]:
    """Folds that each validate on a run of neighbours, so that few slices have a near twin in training.

    Fold 0 validates on the first cases and the last fold on the last; sizes differ by at most one.

    Args:
        n: Number of cases, in their order in the stack.
        num_folds: Number of folds.

    Raises:
        ValueError: If there are fewer than 2 folds, or more than cases.
    """
    _check(n, num_folds)
    bounds = [fold * n // num_folds for fold in range(num_folds + 1)]
    return tuple(((*range(first), *range(last, n)), tuple(range(first, last))) for first, last in pairwise(bounds))


def random_folds(
    n: int, num_folds: int = 5, seed: int = 12345, groups: Sequence[Hashable] | None = None
) -> tuple[Fold, ...]:
    """Folds that are drawn at random, the same for the same seed, and that never part a group.

    The groups are shuffled, and each, the largest first, goes to the fold that has the fewest cases so far. Without
    groups the sizes of two folds differ by at most one.

    Args:
        n: Number of cases.
        num_folds: Number of folds.
        seed: Of `numpy.random.default_rng`.
        groups: The group of each case, such as its patient; every case is its own if left out.

    Raises:
        ValueError: If there are fewer than 2 folds, or more than groups, or `groups` is not of length `n`.
    """
    shuffled = _shuffled_groups(n, seed, groups)
    _check(len(shuffled), num_folds, "cases" if len(shuffled) == n else "groups")
    validation: list[list[int]] = [[] for _ in range(num_folds)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(validation, key=len).extend(group)
    return tuple((tuple(sorted(set(range(n)) - set(fold))), tuple(sorted(fold))) for fold in validation)


def random_part(n: int, num_drawn: int, seed: int = 12345, groups: Sequence[Hashable] | None = None) -> Fold:
    """One fold that validates on so many cases, drawn at random, the same for the same seed, and that parts no group.

    The groups are shuffled, and each goes to validation unless there would be too many cases then.

    Args:
        n: Number of cases.
        num_drawn: Cases to validate on.
        seed: Of `numpy.random.default_rng`.
        groups: The group of each case, such as its patient; every case is its own if left out.

    Raises:
        ValueError: If no case or all would be drawn, no groups add up to so many, or `groups` is not of length `n`.
    """
    _check_part(n, num_drawn)
    drawn: list[int] = []
    for group in _shuffled_groups(n, seed, groups):
        if len(drawn) + len(group) <= num_drawn:
            drawn.extend(group)
    if len(drawn) < num_drawn:
        plural = "" if len(drawn) == 1 else "s"
        raise ValueError(
            f"groups of cases that stay together make {len(drawn)} validation case{plural}, not {num_drawn}"
        )
    return tuple(sorted(set(range(n)) - set(drawn))), tuple(sorted(drawn))


def last_part(n: int, num_last: int) -> Fold:
    """One fold that validates on the last cases of a stack, whose neighbours resemble each other.

    Args:
        n: Number of cases, in their order in the stack.
        num_last: Cases to validate on.

    Raises:
        ValueError: If no case or all would be among them.
    """
    _check_part(n, num_last)
    return tuple(range(n - num_last)), tuple(range(n - num_last, n))


def _check_part(n: int, number: int) -> None:
    if not 1 <= number < n:
        raise ValueError(f"the number of validation cases must be in [1, {n - 1}] for {n} cases, got {number}")


def _shuffled_groups(n: int, seed: int, groups: Sequence[Hashable] | None) -> list[list[int]]:
    """The cases of each group, the groups in random order."""
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(range(n) if groups is None else groups):
        members[group].append(index)
    if sum(map(len, members.values())) != n:
        raise ValueError(f"there must be a group for each of the {n} cases, got {len(groups or ())}")
    drawn = np.random.default_rng(seed).permutation(len(members))
    return [list(members.values())[i] for i in drawn]


def _check(n: int, num_folds: int, what: str = "cases") -> None:
    if not 2 <= num_folds <= n:
        raise ValueError(f"the number of folds must be in [2, {n}] for {n} {what}, got {num_folds}")
