"""The manifest of a dataset folder: what the data is, said once, and checked when it is read back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unetcli.core.geometry import Geometry
from unetcli.core.normalization import ChannelStatistics
from unetcli.core.weight_map import SIGMA, W0
from unetcli.data.cases import LabelledImage, case_hashes
from unetcli.data.formats.volume_masks import map_volume
from unetcli.data.mindrecord import read_cases
from unetcli.errors import ConfigError, DataError
from unetcli.files import write_json

Triple = tuple[float, float, float]
Kind = Literal["isbi", "luna16", "msd", "folder", "nuclei", "coco"]
SCHEMA_VERSION = 2
MANIFEST_FILE = "manifest.json"
CASES_FILE = "cases.mindrecord"
PREVIEW_FILE = "preview.png"


class Record(BaseModel):
    """A part of the manifest; frozen, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassInfo(Record):
    """One class of pixels.

    `source_values` are the numbers that stood for it in the published masks, and `mirror_of` names the
    class that it becomes when an image is mirrored, such as right for left.
    """

    index: int = Field(ge=0)
    name: str
    source_values: tuple[int, ...]
    mirror_of: str | None = None


class IntensityStats(Record):
    """Intensities over all images as published; `percentiles` maps percent to intensity."""

    dtype: str
    minimum: float
    maximum: float
    mean: float
    std: float
    percentiles: dict[float, float]


class CaseStatistics(Record):
    """Intensities of one channel of a case; see `unetcli.core.normalization.ChannelStatistics`."""

    minimum: float
    maximum: float
    mean: float
    std: float
    low: float
    high: float


class CaseFiles(Record):
    """Where a volume lies, as paths from the dataset folder, and what need not be read again to use it.

    `image` and `labels` are NIfTI. `mapped_image` and `mapped_labels` are the same uncompressed, from which
    training patches are cut; where the NIfTI files are not compressed, they are those. `points` is a NumPy file
    of some voxels of every class. `spacing`, `origin` and `direction` are those of `unetcli.core.geometry.Geometry`.
    """

    image: str
    labels: str
    mapped_image: str
    mapped_labels: str
    points: str
    spacing: Triple
    origin: Triple
    direction: tuple[Triple, Triple, Triple]
    statistics: tuple[CaseStatistics, ...]


class WeightMapFacts(Record):
    """How the weights of pixels were computed; see `unetcli.core.weight_map.border_weights`.

    `classes` says whether the classes were balanced, or count the same.
    """

    classes: Literal["balanced", "equal"] = "balanced"
    w0: float = W0
    sigma: float = SIGMA


class Case(Record):
    """One image with its labels: what it is called, and what it must contain.

    Cases of one `group` (a patient, a specimen) must not be parted by a split. `shape` is `(C, *S)`;
    `class_shares` has a share of the pixels for each class, and `weight_shares` that share times the mean weight of
    such a pixel. The hashes of instances and weights are None where there
    are none. `files` is None where the cases lie in a MindRecord file.
    """

    id: str
    group: str | None = None
    shape: tuple[int, ...]
    image_sha256: str
    labels_sha256: str
    instances_sha256: str | None = None
    weights_sha256: str | None = None
    class_shares: tuple[float, ...]
    weight_shares: tuple[float, ...] | None = None
    files: CaseFiles | None = None


class Split(Record):
    """Case ids of one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Manifest(Record):
    """What a dataset folder holds.

    `spacing` is the size of a pixel in `unit`, in the order of the axes; the median one where cases differ, and that of
    all if `is_resampled`, which a volume must then be brought to before a network sees it.
    Pixels of the value `unetcli.data.cases.IGNORED` are neither learned from nor measured; `has_ignored` says whether
    there may be any. `has_instances` says whether the objects of a class are told apart, and `weight_map` how much
    each pixel counts, where the cases hold that.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    kind: Kind
    classes: tuple[ClassInfo, ...] = Field(min_length=2)
    channels: tuple[str, ...] = Field(min_length=1)
    num_axes: Literal[2, 3] = 2
    has_ignored: bool = False
    has_instances: bool = False
    weight_map: WeightMapFacts | None = None
    spacing: tuple[float, ...] | None = None
    unit: str | None = None
    is_resampled: bool = False
    intensity: IntensityStats
    cases: tuple[Case, ...] = Field(min_length=1)
    split_method: Literal["zoo", "block", "random", "published"]
    splits: tuple[Split, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _classes_are_numbered_from_0(self) -> Self:
        indices = [info.index for info in self.classes]
        if indices != list(range(len(indices))):
            raise ValueError(f"classes must be numbered from 0 without a gap, got {indices}")
        return self

    @model_validator(mode="after")
    def _splits_are_of_known_cases(self) -> Self:
        ids = {case.id for case in self.cases}
        if len(ids) != len(self.cases):
            raise ValueError("two cases have the same id")
        for number, split in enumerate(self.splits):
            train, validation = set(split.train), set(split.validation)
            if unknown := (train | validation) - ids:
                raise ValueError(f"split {number} names cases that are not there: {sorted(unknown)[:5]}")
            if shared := train & validation:
                raise ValueError(f"split {number} has cases in train and validation: {sorted(shared)[:5]}")
        return self

    @property
    def num_classes(self) -> int:
        """Classes, background included."""
        return len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their indices."""
        return tuple(info.name for info in self.classes)

    @property
    def class_shares(self) -> tuple[float, ...]:
        """Share of all pixels that belongs to each class."""
        return self._over_all_pixels([case.class_shares for case in self.cases])

    @property
    def mean_weights(self) -> tuple[float, ...] | None:
        """How much a pixel of each class counts in the mean, by the weight map; 1 if no pixel is of it.

        None where that is not told, as where there is no weight map.
        """
        shares = [case.weight_shares for case in self.cases if case.weight_shares is not None]
        if len(shares) < len(self.cases):
            return None
        weighed = self._over_all_pixels(shares)
        return tuple(w / share if share else 1.0 for w, share in zip(weighed, self.class_shares, strict=True))

    def _over_all_pixels(self, shares: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        """Shares of the pixels of all cases together, from those of each case."""
        sizes = [math.prod(case.shape[1:]) for case in self.cases]
        return tuple(
            sum(size * share[info.index] for size, share in zip(sizes, shares, strict=True)) / sum(sizes)
            for info in self.classes
        )


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a dataset folder."""
    write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))


def load_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a dataset folder.

    Raises:
        DataError: If there is none, it is not JSON, of another schema version, or contradicts itself.
    """
    path = folder / MANIFEST_FILE
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: not a dataset folder, since it holds no {MANIFEST_FILE}",
            hint="make one with `unet prepare`, or name another folder",
        ) from error
    except NotADirectoryError as error:
        raise DataError(
            f"{folder}: is a file, not a dataset folder", hint="name a folder that `unet prepare` has made"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="prepare the dataset again") from error
    _check_version(path, value)
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{path}: {place + ': ' if place else ''}{reason}", hint="prepare the dataset again") from error


def _check_version(path: Path, value: Any) -> None:
    version = cast("dict[str, Any]", value).get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema version is {version!r}, and this version of unet reads {SCHEMA_VERSION}",
            hint="prepare the dataset again, or use the version of unet that made it",
        )


def newest_dataset(root: Path = Path("datasets")) -> Path:
    """The dataset folder in `root` whose manifest was written last.

    Raises:
        DataError: If there is none.
    """
    manifests = [path for path in root.glob(f"*/{MANIFEST_FILE}") if not path.parent.name.startswith(".")]
    if not manifests:
        raise DataError(f"{root}: no dataset in it", hint="make one with `unet prepare`, or name its folder")
    return max(manifests, key=lambda path: (path.stat().st_mtime_ns, path.parent.name)).parent


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 of the classes and of every case's content, by which a run knows its data again."""
    hashes = [
        (case.image_sha256, case.labels_sha256, case.instances_sha256, case.weights_sha256) for case in manifest.cases
    ]
    content = {
        "classes": [info.model_dump(mode="json") for info in manifest.classes],
        "cases": [[value for value in each if value is not None] for each in hashes],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_cases(folder: Path, manifest: Manifest, ids: Collection[str]) -> tuple[LabelledImage, ...]:
    """Read these cases, or map them if they are volumes.

    Cases in a MindRecord file are compared with the hashes in the manifest. Volumes are only looked at: their files
    must be there and of the type and size that the manifest tells, since reading all of LUNA16 (130 GB) to hash it
    would take longer than many a training. A patch that is cut from a map costs what the patch weighs.

    Raises:
        DataError: If a case cannot be read, or is not what it was when the dataset was prepared.
    """
    known = {case.id: case for case in manifest.cases}
    if unknown := [name for name in ids if name not in known]:
        raise DataError(f"{folder}: holds no case {', '.join(unknown[:5])}", hint="prepare the dataset again")
    if all(known[name].files is None for name in ids):
        return _recorded_cases(folder / CASES_FILE, known, ids)
    return tuple(_mapped_case(folder, known[name]) for name in ids)


def _recorded_cases(path: Path, known: Mapping[str, Case], ids: Collection[str]) -> tuple[LabelledImage, ...]:
    cases = read_cases(path, ids)
    for case in cases:
        found = case_hashes(case)
        if found != {name: getattr(known[case.id], name) for name in found}:
            raise DataError(
                f"{path}: case {case.id} is not what was written (its hash differs from the manifest's)",
                hint="the file is damaged or of another dataset; prepare it again with --overwrite",
            )
    return cases


def _mapped_case(folder: Path, case: Case) -> LabelledImage:
    files = case.files
    if files is None:
        raise DataError(f"{folder}: case {case.id} has no files", hint="prepare the dataset again")
    image, labels = (_mapped(folder / name) for name in (files.mapped_image, files.mapped_labels))
    points_path = folder / files.points
    try:
        points = np.load(points_path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{points_path}: cannot be read ({error})", hint="prepare the dataset again") from error
    if image.shape != case.shape or labels.shape != (1, *case.shape[1:]) or labels.dtype != np.uint8:
        raise DataError(
            f"{folder}: case {case.id} is {image.shape} and {labels.shape} {labels.dtype}, "
            f"but was written as {case.shape} and {(1, *case.shape[1:])} uint8",
            hint="the files are of another dataset; prepare it again with --overwrite",
        )
    depth, height, width = case.shape[1:]
    return LabelledImage(
        id=case.id,
        image=image,
        labels=labels[0],
        geometry=Geometry((depth, height, width), files.spacing, files.origin, files.direction),
        statistics=tuple(ChannelStatistics(**channel.model_dump()) for channel in files.statistics),
        points=points,
    )


def _mapped(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file, but the dataset needs it", hint="prepare the dataset again")
    return map_volume(path)


def mirror_pairs(manifest: Manifest) -> tuple[int, ...]:
    """The class that each class becomes when an image is mirrored from side to side: itself, or its pair.

    Returns:
        A permutation of the class indices that is its own inverse.

    Raises:
        DataError: If a class names one as its pair that is not there, or that does not name it in turn.
    """
    indices = {info.name: info.index for info in manifest.classes}
    mirrored = tuple(indices.get(info.mirror_of or info.name, -1) for info in manifest.classes)
    for info, other in zip(manifest.classes, mirrored, strict=True):
        if other < 0 or mirrored[other] != info.index:
            raise DataError(
                f"{manifest.name}: class {info.name} is said to mirror {info.mirror_of}, which does not mirror it",
                hint="prepare the dataset again with the pairs that --mirror declares",
            )
    return mirrored


def split_of(manifest: Manifest, fold: int) -> Split:
    """The cases of a fold.

    Raises:
        ConfigError: If there is no such fold.
    """
    if not 0 <= fold < len(manifest.splits):
        number = len(manifest.splits)
        if number == 1:
            raise ConfigError(f"data.fold: {fold}, but {manifest.name} has one fold", hint="choose 0")
        raise ConfigError(
            f"data.fold: {fold}, but {manifest.name} has {number} folds", hint=f"choose 0 to {number - 1}"
        )
    return manifest.splits[fold]


def load_split(
    folder: Path, manifest: Manifest, fold: int
) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """The training and the validation cases of a fold.

    Raises:
        ConfigError: If there is no such fold.
        DataError: If a case cannot be read, or is not what it was when the dataset was prepared.
    """
    split = split_of(manifest, fold)
    cases = load_cases(folder, manifest, split.train + split.validation)
    return cases[: len(split.train)], cases[len(split.train) :]
