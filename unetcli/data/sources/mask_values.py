"""What the values of masks mean where no one says it: found by looking at all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.volume_labels import counted_values
from unetcli.data.sources.class_names import numbered_classes, parse_labels
from unetcli.errors import DataError

MOST_CLASSES = 64
"""More consecutive values than this are grey levels or numbered objects, and no classes."""


def classes_of(values: Counter[int], labels: Sequence[str] = (), *, noun: str = "pixel") -> tuple[ClassInfo, ...]:
    """The classes that masks hold.

    0 and one other value, such as 255, are background and foreground; 0, 1, 2 ... are as many classes.

    Args:
        values: Pixels of each value, over all masks.
        labels: `VALUE=NAME`, which says instead what the values mean.
        noun: What is counted_values, for messages.

    Raises:
        DataError: If the values tell no classes.
        ConfigError: If a label is not of the form that it must be.
    """
    if labels:
        return numbered_classes(parse_labels(labels))
    found = sorted(values)
    others = [value for value in found if value != 0]
    if not others:
        raise DataError(
            "the masks hold nothing but 0, so there is nothing to tell apart", hint="draw the objects in 255"
        )
    if len(others) == 1:
        return numbered_classes({0: "background", others[0]: "foreground"})
    if others == list(range(1, len(others) + 1)) and len(others) < MOST_CLASSES:
        return numbered_classes({0: "background"} | {value: f"class_{value}" for value in others})
    told = counted_values(dict(sorted(values.items())), noun)
    raise DataError(
        f"the masks hold {told}, which are neither 0 and one other nor 0, 1, 2 ...",
        hint="say what they mean with --label VALUE=NAME; if they come from resampling or JPEG, export the masks again",
    )
