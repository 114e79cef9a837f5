"""What the values or colours of masks become: the options `--label-map VALUE=INDEX` and `--label VALUE=NAME`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unetcli.data.cases import IGNORED
from unetcli.data.manifest import ClassInfo
from unetcli.data.sources.class_names import ignored_values, numbered_classes, parse_labels
from unetcli.data.sources.mask_values import classes_of
from unetcli.errors import ConfigError

Colour = tuple[int, int, int]
BLACK = (0, 0, 0)


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
        found = re.fullmatch(r"\s*(?:(-?\d+)|#([0-9a-fA-F]{6}))\s*=\s*(\d+)\s*", option)
        if not found or int(found[3]) > IGNORED:
            raise ConfigError(
                f"--label-map {option}: must be VALUE=INDEX or #RRGGBB=INDEX, with an index of at most {IGNORED}",
                hint=f"such as --label-map 255=1 or --label-map '#ff0000=1'; {IGNORED} is for pixels to ignore",
            )
        index = int(found[3])
        colour: Colour = BLACK
        if found[2]:
            red, green, blue = bytes.fromhex(found[2])
            colour = (red, green, blue)
        if (colour in colours) if found[2] else (int(found[1]) in values):
            raise ConfigError(f"--label-map {option}: is given twice", hint="leave one of them out")
        if found[2]:
            colours[colour] = index
        else:
            values[int(found[1])] = index
    if values and colours:
        raise ConfigError("--label-map: tells of values and of colours", hint="masks have one or the other")
    told = LabelMap({0: 0} | values if values else {}, {BLACK: 0} | colours if colours else {})
    if options and (told.indices != list(range(len(told.indices))) or len(told.indices) < 2):
        raise ConfigError(
            f"--label-map: tells of the classes {', '.join(map(str, told.indices))}, but they must be 0, 1 and so on",
            hint="0 is background; number the others from 1 without a gap",
        )
    return told


def meaning_of(
    values: Counter[int], labels: Sequence[str] = (), told: LabelMap | None = None, *, noun: str = "pixel"
) -> Meaning:
    """What the values of masks mean, as it is told or found from them; see `classes_of`.

    Args:
        values: Pixels of each value, over all masks; of masks with colours the class indices.
        labels: `VALUE=NAME`; together with a label map `INDEX=NAME`.
        told: The label map.
        noun: What is counted, for messages.

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
