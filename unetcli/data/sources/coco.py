"""Annotations in the form of COCO: a JSON file of images, categories and outlined objects, read and checked.

See https://cocodataset.org/#format-data. What an annotation outlines is drawn by `unetcli.data.sources.coco_masks`.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from unetcli.data.cases import IGNORED
from unetcli.data.manifest import ClassInfo
from unetcli.errors import ConfigError, DataError, suggestion

RESERVED = ("background", "border", "ignore")
"""Names of classes that are no objects."""
PARTS = ("images", "annotations", "categories")
LARGEST_VALUE = 65535
SHOWN = 10
"""Most ids of categories in a message."""
CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Kinds of characters that end lines or steer a terminal, and halves of characters that no file can hold."""
LONGEST_NAME = 200
"""Most bytes of a name; systems of files take 255, and a case adds an ending."""
LONGEST_SHOWN = 80
"""Most characters of a value in a message."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation.

    Args:
        id: Of the annotation, for messages.
        category: Id of its category.
        outline: Polygons or run lengths, as the file has them.
        is_crowd: Whether it stands for many objects that nobody has told apart.
    """

    id: Any
    category: int
    outline: Any
    is_crowd: bool


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image with its annotations.

    Args:
        file_name: As the file has it.
        size: Height and width.
        objects: What is outlined in it, in the order of the file.
    """

    file_name: str
    size: tuple[int, int]
    objects: tuple[CocoObject, ...]

    @property
    def title(self) -> str:
        """The file's name for messages; escaped and shortened where it is no usual one."""
        return self.file_name if is_usual(self.file_name) else shown(self.file_name)

    @property
    def case_id(self) -> str:
        """What its case is called: the file's name without its ending, and without folders."""
        return Path(self.file_name).with_suffix("").as_posix().replace("/", "_")


@dataclass(frozen=True, slots=True)
class CocoFile:
    """An annotation file.

    Args:
        path: Where it lies.
        categories: Names by id, ascending.
        images: In the order of their ids.
    """

    path: Path
    categories: Mapping[int, str]
    images: tuple[CocoImage, ...]


def is_usual(name: str) -> bool:
    """Whether a name can be that of a case and stand in a table: without control characters, and not too long."""
    is_plain = not any(unicodedata.category(character) in CONTROL for character in name)
    return is_plain and len(name.encode()) <= LONGEST_NAME


def shown(value: Any) -> str:
    """A value of the file for a message: on one line, and not for too long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def read_annotations(path: Path) -> CocoFile:
    """Read an annotation file, and check that its parts fit each other.

    Outlines are looked at when they are drawn, and categories when it is known which are wanted: `refuse_unknown`.

    Raises:
        DataError: If it is missing, no JSON, or not of this form; names the entry.
    """
    content = _load(path)
    categories: dict[int, str] = {}
    for place, entry in _entries(path, content, "categories"):
        number, name = _field(place, entry, "id", int), _category_name(place, entry)
        if number in categories or name in categories.values():
            raise DataError(f"{place}: the id {number} or the name '{name}' is there twice")
        categories[number] = name
    objects: defaultdict[int, list[CocoObject]] = defaultdict(list)
    for place, entry in _entries(path, content, "annotations"):
        is_crowd, category = bool(entry.get("iscrowd", 0)), _field(place, entry, "category_id", int)
        found = CocoObject(entry.get("id"), category, entry.get("segmentation"), is_crowd)
        objects[_field(place, entry, "image_id", int)].append(found)
    images: dict[int, CocoImage] = {}
    for place, entry in _entries(path, content, "images"):
        number = _field(place, entry, "id", int)
        if number in images:
            raise DataError(f"{place}: the id {number} is there twice")
        size = (_field(place, entry, "height", int), _field(place, entry, "width", int))
        images[number] = CocoImage(_file_name(place, entry), size, tuple(objects.get(number, ())))
    if lost := sorted(objects.keys() - images.keys()):
        raise DataError(f"{path}: annotations are of image {lost[0]}, which the file has not")
    _refuse_same_names(path, list(images.values()))
    return CocoFile(path, dict(sorted(categories.items())), tuple(images[number] for number in sorted(images)))


def refuse_unknown(file: CocoFile, images: Sequence[CocoImage]) -> None:
    """Raise `DataError` if an annotation of these images is of a category that the file has not."""
    for image in images:
        for each in image.objects:
            if each.category not in file.categories:
                known = ", ".join(map(str, list(file.categories)[:SHOWN]))
                more = " and so on" if len(file.categories) > SHOWN else ""
                raise DataError(
                    f"{file.path}: annotation {shown(each.id)} of {image.title} is of category {each.category}, "
                    f"but the file has the categories {known}{more}",
                    hint="mend the file, or choose the categories to learn with --category NAME",
                )


def choose_classes(file: CocoFile, names: Sequence[str] = ()) -> tuple[ClassInfo, ...]:
    """The classes of a dataset: background, and the categories in the order of their ids.

    Args:
        file: The annotations.
        names: The categories to take; all if empty.

    Returns:
        Classes whose value in masks is the id of the category, or their index where ids do not fit into 16 bits.

    Raises:
        ConfigError: If there is no such category, or there are too many.
    """
    for name in names:
        if name not in file.categories.values():
            raise ConfigError(
                f"--category {name}: {file.path} has no such category", hint=suggestion(name, file.categories.values())
            )
    chosen = [(number, name) for number, name in file.categories.items() if not names or name in names]
    if not 1 <= len(chosen) < IGNORED:
        raise ConfigError(
            f"{file.path}: has {len(chosen)} categories, but there can be 1 to {IGNORED - 1}",
            hint="choose some with --category NAME",
        )
    if taken := [name for _, name in chosen if name in RESERVED]:
        raise ConfigError(
            f"{file.path}: a category is called {taken[0]!r}, which means something else here",
            hint="call it otherwise in the file, or choose others with --category NAME",
        )
    fit = all(1 <= number <= LARGEST_VALUE for number, _ in chosen)
    return (
        ClassInfo(index=0, name="background", source_values=(0,)),
        *(
            ClassInfo(index=index, name=name, source_values=(number if fit else index,))
            for index, (number, name) in enumerate(chosen, start=1)
        ),
    )


def class_indices(file: CocoFile, classes: Sequence[ClassInfo]) -> dict[int, int]:
    """The class that each category of a file becomes, by names; categories that are no class are left out.

    Raises:
        DataError: If the file lacks a category that is a class.
    """
    by_name = {name: number for number, name in file.categories.items()}
    if missing := [info.name for info in classes[1:] if info.name not in by_name]:
        raise DataError(
            f"{file.path}: has no category {', '.join(missing[:5])}, but the other annotations have",
            hint="both files must know the same categories",
        )
    return {by_name[info.name]: info.index for info in classes[1:]}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", hint="name the JSON file of the annotations") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder, but the JSON file of the annotations is needed") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})", hint="unpack or download it again") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in PARTS):
        raise DataError(
            f"{path}: must have lists of {', '.join(PARTS)}, but {_lacking(content)}",
            hint="name an instances file, such as instances_train2017.json",
        )
    return content


def _lacking(content: Any) -> str:
    """Why a file has not the lists that it must have."""
    if not isinstance(content, dict):
        return f"holds a {type(content).__name__}"
    if not content.keys() >= set(PARTS):
        found = ", ".join(sorted(content)[:8])
        return f"holds {(found if is_usual(found) else shown(found)) or 'nothing'}"
    no_lists = [part for part in PARTS if not isinstance(content[part], list)]
    return " and ".join(f"{part} is no list: {shown(content[part])}" for part in no_lists)


def _entries(path: Path, content: Mapping[str, Any], part: str) -> list[tuple[str, dict[str, Any]]]:
    entries: list[tuple[str, dict[str, Any]]] = []
    for index, entry in enumerate(content[part]):
        place = f"{path}: {part}[{index}]"
        if not isinstance(entry, dict):
            raise DataError(f"{place}: must be an object, found {shown(entry)}")
        entries.append((place, entry))
    return entries


def _field(place: str, entry: Mapping[str, Any], name: str, kind: type[Value]) -> Value:
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{place}: {name} must be of type {kind.__name__}, found {shown(value)}")
    return value


def _category_name(place: str, entry: Mapping[str, Any]) -> str:
    name = _field(place, entry, "name", str)
    if not name.strip() or not is_usual(name):
        raise DataError(
            f"{place}: name must be of 1 to {LONGEST_NAME} bytes and without control characters, found {shown(name)}",
            hint="call the category otherwise in the file",
        )
    return name


def _file_name(place: str, entry: Mapping[str, Any]) -> str:
    """The name of an image, which must lie in the folder of the images, for whichever system it was written."""
    name = _field(place, entry, "file_name", str)
    paths = (PurePosixPath(name), PureWindowsPath(name))
    if not paths[0].name or any(path.anchor or ".." in path.parts for path in paths):
        raise DataError(
            f"{place}: file_name must be the name of a file in the folder of the images, or in one below it, "
            f"without a root and without '..', found {shown(name)}",
            hint="write names relative to that folder, such as part/0001.jpg",
        )
    return name


def _refuse_same_names(path: Path, images: Sequence[CocoImage]) -> None:
    names: set[str] = set()
    for image in images:
        if image.case_id in names:
            raise DataError(f"{path}: two images are called {image.title}, or like it but for its ending")
        names.add(image.case_id)
