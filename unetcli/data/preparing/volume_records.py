"""The cases of a dataset of volumes on their way: where they come from, and what is known once they are written.

Each finished case leaves a record, bound to its source files and the settings, so that work which was cut off
goes on where it ended.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from unetcli.core.geometry import Triple
from unetcli.data.manifest import Case, CaseFiles
from unetcli.data.preparing.intensities import Distribution
from unetcli.data.preparing.volume_labels import LabelRule
from unetcli.data.sources.archives import ArchivedFile, FileSource
from unetcli.files import replacing, write_json

RECORDS = "records"
RECORD_VERSION = 1
DATASET = "dataset"
"""Folder in the work folder that becomes the dataset."""
PARTS = {"train": "train", "validation": "val"}


@dataclass(frozen=True, slots=True)
class RawCase:
    """Where a case comes from.

    Args:
        id: What it will be called; also the name of its files.
        images: A file for each channel, or one for all.
        labels: Its mask.
        group: What it must not be parted from, such as its patient.
        is_validation: Whether its source says that it validates.
    """

    id: str
    images: tuple[FileSource, ...]
    labels: FileSource
    group: str | None = None
    is_validation: bool = False

    @property
    def sources(self) -> tuple[FileSource, ...]:
        """All its files, the mask last."""
        return (*self.images, self.labels)


@dataclass(frozen=True, slots=True)
class CaseSettings:
    """What is made of every case.

    Args:
        rule: From values of the masks to class indices.
        num_classes: Background included.
        num_channels: Channels that an image must have.
        spacing: Size of a voxel to resample to, along Z Y X in mm; None to leave the grid.
        compress: Whether to write `.nii.gz`, and an uncompressed copy for training.
        sides: Pairs of classes, as index and name, of which the first lies to the patient's left of the second.
    """

    rule: LabelRule
    num_classes: int
    num_channels: int
    spacing: Triple | None = None
    compress: bool = False
    sides: tuple[tuple[tuple[int, str], tuple[int, str]], ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A case that is left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A case that is written.

    Args:
        case: As the manifest will know it, with paths from the folder of finished cases.
        dtype: Of its image.
        distribution: Of the intensities of all its channels.
        values: Voxels of each value that its mask held.
        warnings: What may be wrong with it.
    """

    case: Case
    dtype: str
    distribution: Distribution
    values: Mapping[int, int]
    warnings: tuple[str, ...]


def written_files(files: CaseFiles) -> tuple[str, ...]:
    """The files of a case, each once."""
    return tuple(dict.fromkeys((files.image, files.labels, files.mapped_image, files.mapped_labels, files.points)))


def stamp_of(raw: RawCase, settings: CaseSettings) -> str:
    """What a record is valid for: the source files' sizes and times, and the settings.

    Raises:
        OSError: If a file is missing.
    """
    facts = [RECORD_VERSION, raw.group, asdict(settings), [list(_stamps(source)) for source in raw.sources]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _stamps(source: FileSource) -> Iterator[tuple[str, int, int]]:
    if isinstance(source, ArchivedFile):
        for member in (source.main, *source.others):
            yield f"{source.archive.resolve()}/{member.name}", member.size, member.checksum
        return
    for path in (source, *companions(source)):
        status = path.stat()
        yield str(path.resolve()), status.st_size, status.st_mtime_ns


def companions(path: Path) -> tuple[Path, ...]:
    """The files that hold the voxels of a header, or the slices of a folder; those that are there."""
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.is_file()))
    match path.suffix.lower():
        case ".mhd" | ".nhdr":
            names = re.findall(r"(?im)^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(.+?)\s*$", _beginning(path))
            found = [path.parent / name for name in names]
        case ".hdr":
            found = [path.with_suffix(".img")]
        case _:
            found = []
    return tuple(file for file in found if file.is_file())


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(1 << 16).decode("latin-1")


def save_record(folder: Path, finished: Finished, stamp: str) -> None:
    """Say that a case is finished; the last thing that is written of it."""
    case, known = finished.case, finished.distribution
    with replacing(folder / RECORDS / f"{case.id}.npy") as temporary:
        np.save(temporary, np.array([known.values, known.counts]))
    value = {
        "stamp": stamp,
        "sizes": {name: (folder / name).stat().st_size for name in _files(case)},
        "case": case.model_dump(mode="json"),
        "dtype": finished.dtype,
        "mean": known.mean,
        "std": known.std,
        "values": {str(number): count for number, count in finished.values.items()},
        "warnings": finished.warnings,
    }
    write_json(folder / RECORDS / f"{case.id}.json", value)


def load_record(folder: Path, raw: RawCase, settings: CaseSettings) -> Finished | None:
    """A case that an earlier run has finished; None if it has not, or sources, settings or files have changed."""
    try:
        value: dict[str, Any] = json.loads((folder / RECORDS / f"{raw.id}.json").read_text("utf-8"))
        if value["stamp"] != stamp_of(raw, settings):
            return None
        if any(_size_of(folder, name) != size for name, size in value["sizes"].items()):
            return None
        values, counts = np.load(folder / RECORDS / f"{raw.id}.npy", allow_pickle=False)
        distribution = Distribution(values, counts.astype(np.int64), value["mean"], value["std"])
        found = {int(number): count for number, count in value["values"].items()}
        return Finished(
            Case.model_validate(value["case"]), value["dtype"], distribution, found, tuple(value["warnings"])
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return None


def _size_of(folder: Path, name: str) -> int:
    """Bytes of a file of the work folder, or of where it was moved to before the run was killed; -1 if it is gone."""
    dataset = folder / DATASET
    places = (folder / name, dataset / name, *(dataset / part / name for part in PARTS.values()))
    return next((place.stat().st_size for place in places if place.is_file()), -1)


def _files(case: Case) -> tuple[str, ...]:
    return written_files(case.files) if case.files else ()
