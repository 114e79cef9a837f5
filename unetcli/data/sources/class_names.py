"""The classes of a dataset as its source or the user names them, and which are the left and right of one thing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from unetcli.data.cases import IGNORED
from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.volume_labels import LabelRule
from unetcli.errors import ConfigError, suggestion

OTHER_SIDE = {"left": "right", "right": "left"}
IGNORE = "ignore"
Sides = tuple[tuple[tuple[int, str], tuple[int, str]], ...]
"""Pairs of classes, as index and name, of which the first lies to the patient's left of the second."""


def numbered_classes(names: Mapping[int, str]) -> tuple[ClassInfo, ...]:
    """Classes in the order of the values that stand for them; `ignore` is none.

    Args:
        names: Names by value; 0 is background.

    Raises:
        ConfigError: If there is no 0, or none beside it, two have one name, or there are more than 255.
    """
    kept = {value: name for value, name in sorted(names.items()) if name != IGNORE}
    if 0 not in kept:
        raise ConfigError(
            f"labels {', '.join(map(str, kept)) or 'that are all to ignore'}: there must be 0 for background",
            hint="give background the value 0",
        )
    if len(kept) < 2:
        raise ConfigError(
            "labels: there is no class beside background, so there is nothing to tell apart",
            hint="name a value that is of a class, and is neither background nor to be ignored",
        )
    if len(kept) > IGNORED:
        raise ConfigError(
            f"labels: tell of {len(kept)} classes, but there can be {IGNORED} with background",
            hint="make one class of several values",
        )
    seen: set[str] = set()
    for value, name in kept.items():
        if name in seen or not name:
            raise ConfigError(
                f"label {value}: two classes cannot both be called '{name}'", hint="name them differently"
            )
        seen.add(name)
    pairs = enumerate(kept.items())
    return tuple(ClassInfo(index=index, name=name, source_values=(value,)) for index, (value, name) in pairs)


def rule_of(classes: Sequence[ClassInfo], ignored: Sequence[int] = (), *, others: int | None = None) -> LabelRule:
    """The table from values to class indices."""
    pairs = [(value, info.index) for info in classes for value in info.source_values]
    return LabelRule((*pairs, *((value, IGNORED) for value in ignored)), others)


def parse_labels(options: Sequence[str]) -> dict[int, str]:
    """The names of `--label VALUE=NAME`, with 0 as background unless it is named.

    Raises:
        ConfigError: If one is not of this form, or a value is given twice.
    """
    names: dict[int, str] = {}
    for option in options:
        value, _, name = option.partition("=")
        if not re.fullmatch(r"\s*-?\d+\s*", value) or not name.strip():
            raise ConfigError(f"--label {option}: must be VALUE=NAME", hint="such as --label 3=left_lung")
        if int(value) in names:
            raise ConfigError(f"--label {option}: the value {int(value)} is given twice", hint="leave one of them out")
        names[int(value)] = name.strip()
    return {0: "background"} | names


def ignored_values(names: Mapping[int, str]) -> tuple[int, ...]:
    """The values that are named `ignore`."""
    return tuple(value for value, name in names.items() if name == IGNORE)


def with_mirrors(classes: Sequence[ClassInfo], declared: Sequence[str] = ()) -> tuple[ClassInfo, ...]:
    """Classes that know what they become when an image is mirrored from side to side.

    Names that differ only in left and right, such as `left_lung` and `right_lung`, are pairs of themselves.

    Args:
        classes: The classes.
        declared: Further pairs, as `--mirror A=B`.

    Raises:
        ConfigError: If a declared name is no class, or in two pairs.
    """
    names = {info.name for info in classes}
    pairs = {name: other for name in names if (other := _other_side(name)) in names}
    for option in declared:
        first, _, second = option.partition("=")
        for name in (first, second):
            if name not in names:
                raise ConfigError(f"--mirror {option}: there is no class '{name}'", hint=suggestion(name, names))
        if first == second or any(pairs.get(a, b) != b for a, b in ((first, second), (second, first))):
            raise ConfigError(f"--mirror {option}: a class has one other as its mirror", hint="give each pair once")
        pairs |= {first: second, second: first}
    return tuple(info.model_copy(update={"mirror_of": pairs.get(info.name)}) for info in classes)


def _other_side(name: str) -> str:
    """A name with left for right; empty if it has not exactly one of them."""
    parts = re.split(r"([\W_]+)", name)
    places = [index for index, part in enumerate(parts) if part.lower() in OTHER_SIDE]
    if len(places) != 1:
        return ""
    part = parts[places[0]]
    other = OTHER_SIDE[part.lower()]
    parts[places[0]] = other.upper() if part.isupper() else other.title() if part[0].isupper() else other
    return "".join(parts)


def sides_of(classes: Sequence[ClassInfo]) -> Sides:
    """The pairs whose names say which lies to the left."""
    by_name = {info.name: info for info in classes}
    lefts = [info for info in classes if info.mirror_of and _other_side(info.name) == info.mirror_of]
    return tuple(
        ((info.index, info.name), (by_name[other].index, other))
        for info in lefts
        if (other := info.mirror_of) and "left" in re.split(r"[\W_]+", info.name.lower())
    )
