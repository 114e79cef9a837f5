"""What the values or colours of masks become: the options `--label-map VALUE=INDEX` and `--label VALUE=NAME`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unetcli.data.cases import IGNORED
from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.volume_labels import counted_values
from unetcli.data.sources.class_names import IGNORE, ignored_values, numbered_classes, parse_labels
from unetcli.data.sources.mask_values import classes_of
from unetcli.errors import ConfigError, DataError

Colour = tuple[int, int, int]
BLACK = (0, 0, 0)
SHOWN = 8


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What is told of the values of masks.

    Args:
        values: Class index, or `IGNORED`, by value.
        colours: The same by colour; only one of the two is not empty.
    """

    values: Mapping[int, int] = field(default_factory=dict[int, int])
    colours: Mapping[Colour, int] = field(default_factory=dict[Colour, int])

    @property
    def indices(self) -> list[int]:
        """The classes that values or colours become, ascending."""
        return sorted({*self.values.values(), *self.colours.values()} - {IGNORED})


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the values of masks mean.

    Args:
        classes: The classes with their values.
        ignored: Values that stand for pixels which are neither learned nor measured.
    """

    classes: tuple[ClassInfo, ...]
    ignored: tuple[int, ...] = ()


def parse_label_map(options: Sequence[str]) -> LabelMap:
    """The values or colours of `--label-map VALUE=INDEX`; 0, or black, is background unless it is told otherwise.

    Raises:
        ConfigError: If one is not of this form or given twice, values and colours are mixed, or indices leave gaps.
    """
    values: dict[int, int] = {}
    colours: dict[Colour, int] = {}
    for option in options:
        found = re.fullmatch(r"\s*(?:(-?\d+)|#([0-9a-fA-F]{6}))\s*=\s*(-?\d+)\s*", option)
        if not found:
            raise ConfigError(
                f"--label-map {option}: must be VALUE=INDEX or #RRGGBB=INDEX",
                hint=f"such as --label-map 255=1 or --label-map '#ff0000=1'; {IGNORED} is for pixels to ignore",
            )
        index = int(found[3])
        if not 0 <= index <= IGNORED:
            raise ConfigError(
                f"--label-map {option}: the index must be that of a class, from 0 to {IGNORED - 1}, or {IGNORED} for "
                f"pixels to ignore, found {index}",
                hint="0 is background; number the others from 1 without a gap",
            )
        colour: Colour = BLACK
        if found[2]:
            red, green, blue = bytes.fromhex(found[2])
            colour = (red, green, blue)
        if (colour in colours) if found[2] else (int(found[1]) in values):
            said, before = (found[2], colours[colour]) if found[2] else (found[1], values[int(found[1])])
            raise ConfigError(
                f"--label-map {option}: {'the colour #' if found[2] else 'the value '}{said} is given twice, and was "
                f"to become {before} before",
                hint="leave one of them out",
            )
        if found[2]:
            colours[colour] = index
        else:
            values[int(found[1])] = index
    if values and colours:
        raise ConfigError("--label-map: tells of values and of colours", hint="masks have one or the other")
    told = LabelMap({0: 0} | values if values else {}, {BLACK: 0} | colours if colours else {})
    lacking = set(range(max((1, *told.indices)))) | {1}
    if options and (gaps := sorted(lacking.difference(told.indices))):
        raise ConfigError(
            f"--label-map: tells of the classes {', '.join(map(str, told.indices)) or 'none'}, but nothing becomes "
            f"{', '.join(map(str, gaps))}",
            hint="0 is background; number the others from 1 without a gap",
        )
    return told


def untold(values: Counter[int], meaning: Meaning, told: LabelMap) -> DataError | None:
    """What is wrong if masks hold values that nothing is told of; None if they do not."""
    known = sorted({*meaning.ignored, *(value for info in meaning.classes for value in info.source_values)})
    unknown = {value: count for value, count in sorted(values.items()) if value not in known}
    if not unknown:
        return None
    option, first = "--label-map" if told.values else "--label", next(iter(unknown))
    forms = f"{first}=1, or {first}={IGNORED}" if told.values else f"{first}=NAME, or {first}={IGNORE}"
    return DataError(
        f"the masks hold {counted_values(unknown, 'pixel')}, which {option} does not tell; it tells of "
        f"{', '.join(map(str, known))}",
        hint=f"say what all values mean, such as {option} {forms} for pixels to ignore",
    )


def unmet(values: Counter[int], told: LabelMap) -> list[str]:
    """What is told of values, or of colours whose class is empty, that no mask holds, as sentences."""
    named = {f"{value}": value in values for value in told.values if value != 0}
    named |= {colour_text(colour): index in values for colour, index in told.colours.items() if colour != BLACK}
    missing = [name for name, is_there in named.items() if not is_there]
    found = f"; they hold the values {', '.join(map(str, sorted(values)[:SHOWN]))}" if told.values else ""
    return [f"no mask holds {', '.join(missing)}, of which --label-map tells{found}"] if missing else []


def meaning_of(
    values: Counter[int], labels: Sequence[str] = (), told: LabelMap | None = None, *, noun: str = "pixel"
) -> Meaning:
    """What the values of masks mean, as it is told or found from them; see `classes_of`.

    Args:
        values: Pixels of each value, over all masks; of masks with colours the class indices.
        labels: `VALUE=NAME`; together with a label map `INDEX=NAME`.
        told: The label map.
        noun: What is counted_values, for messages.

    Raises:
        DataError: If nothing is told and the values tell no classes.
        ConfigError: If a label is not of the form that it must be, or names no class.
    """
    names = parse_labels(labels) if labels else {}
    if told is None or not told.indices:
        return Meaning(numbered_classes(names) if names else classes_of(values, noun=noun), ignored_values(names))
    if unknown := [index for index in names if index not in told.indices]:
        raise ConfigError(
            f"--label {unknown[0]}={names[unknown[0]]}: with --label-map, labels name the classes that values become, "
            f"{', '.join(map(str, told.indices))}",
            hint="give the index of a class and its name",
        )
    if ignored := ignored_values(names):
        raise ConfigError(
            f"--label {ignored[0]}={IGNORE}: with --label-map, it is that which says what to ignore",
            hint=f"give the values that become {ignored[0]} as --label-map VALUE={IGNORED} instead",
        )
    only = "foreground" if len(told.indices) == 2 else ""
    named = {index: only or f"class_{index}" for index in told.indices} | {0: "background"} | names
    # colours have become indices by now
    pairs = [(index, index) for index in told.indices] if told.colours else sorted(told.values.items())
    classes = tuple(
        info.model_copy(update={"source_values": tuple(value for value, index in pairs if index == info.index)})
        for info in numbered_classes(named)
    )
    ignored = (IGNORED,) if told.colours else tuple(value for value, index in pairs if index == IGNORED)
    return Meaning(classes, ignored)


def colour_text(colour: Colour) -> str:
    """A colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
