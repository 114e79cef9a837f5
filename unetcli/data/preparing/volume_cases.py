"""One published volume with its labels: checked as a pair, and written as training needs it.

This runs in processes of its own, so nothing here may import MindSpore.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry
from unetcli.core.sampling import foreground_points
from unetcli.data.cases import content_hash
from unetcli.data.formats.volume_file import VolumeFile
from unetcli.data.formats.volume_masks import write_volume
from unetcli.data.formats.volumes import open_volume
from unetcli.data.manifest import Case, CaseFiles, CaseStatistics
from unetcli.data.preparing.intensities import Distribution, count_values, distribution_of, merge_distributions
from unetcli.data.preparing.volume_labels import MappedLabels, map_labels
from unetcli.data.preparing.volume_records import CaseSettings, Finished, RawCase, Skipped, save_record, stamp_of
from unetcli.data.resampling import resample_image, resample_labels, resampled_geometry
from unetcli.data.sources.archives import FileSource, located, outlined, unpacked_size
from unetcli.errors import DataError, UnetError, counted

IMAGES, LABELS, MAPPED_IMAGES, MAPPED_LABELS, POINTS = "images", "seg", "cache/images", "cache/seg", "points"
HEADER_BYTES = 352
POINT_BYTES = 16
POINTS_PER_CLASS = 1000


@dataclass(frozen=True, slots=True)
class Outline:
    """What the headers of a case say: enough to plan the work.

    Args:
        geometry: The grid after resampling.
        dtype: Of the image as it will be stored.
        num_bytes: What will be written at most.
        num_unpacked: Bytes that are unpacked from archives meanwhile.
        has_spacing: Whether its files tell the size of a voxel.
    """

    geometry: Geometry
    dtype: str
    num_bytes: int
    num_unpacked: int
    has_spacing: bool


def outline_case(raw: RawCase, settings: CaseSettings) -> Outline:
    """Read the headers of a case, and check what they tell.

    Raises:
        DataError: If a file is missing or unreadable, channels and grids do not fit each other.
    """
    with contextlib.ExitStack() as stack:
        files = [_opened(stack.enter_context(outlined(source)), source) for source in raw.sources]
        geometry = _shared_grid(files, settings.num_channels)
    resampled = geometry if settings.spacing is None else resampled_geometry(geometry, settings.spacing)
    dtype = stored_type(np.result_type(*[file.dtype for file in files[:-1]]))
    num_voxels = int(np.prod(resampled.size))
    num_bytes = num_voxels * (settings.num_channels * dtype.itemsize + 1) + 2 * HEADER_BYTES
    num_bytes *= 1 + settings.compress
    num_bytes += min(num_voxels, POINTS_PER_CLASS * settings.num_classes) * POINT_BYTES
    has_spacing = all(file.has_spacing for file in files[:-1])
    return Outline(resampled, dtype.name, num_bytes, sum(map(unpacked_size, raw.sources)), has_spacing)


def make_case(raw: RawCase, settings: CaseSettings, folder: Path) -> Finished | Skipped:
    """Read, check and write one case into `folder`; what is wrong with its files is a reason to skip it.

    Raises:
        DataError: If it cannot be written.
        OSError: If it cannot be written.
    """
    try:
        stamp = stamp_of(raw, settings)
        checked = _checked_case(raw, settings, folder)
    except UnetError as error:
        return Skipped(raw.id, str(error))
    except MemoryError as error:
        return Skipped(raw.id, f"there is not enough memory to read it ({error})")
    return _write_case(raw, settings, folder, stamp, checked)


@dataclass(frozen=True, slots=True, eq=False)
class _Checked:
    """A case in memory, on the grid that it will have; `values` are those of its mask, `channels` of its image."""

    image: NDArray[Any]
    labels: NDArray[np.uint8]
    geometry: Geometry
    values: Mapping[int, int]
    channels: tuple[Distribution, ...]
    is_resampled: bool


def _checked_case(raw: RawCase, settings: CaseSettings, folder: Path) -> _Checked:
    with contextlib.ExitStack() as stack:
        files = [_opened(stack.enter_context(located(source, folder)), source) for source in raw.sources]
        geometry = _shared_grid(files, settings.num_channels)
        mapped = _mapped(files[-1], raw.labels, settings)
        images = [file.read() for file in files[:-1]]
    image = images[0] if len(images) == 1 else np.concatenate(images)
    image, labels = np.ascontiguousarray(image, stored_type(image.dtype)), mapped.labels
    channels = _distributions(image)
    if all(channel.values[0] == channel.values[-1] for channel in channels):
        raise DataError(f"the image is {channels[0].values[0]:g} everywhere")
    target = geometry if settings.spacing is None else resampled_geometry(geometry, settings.spacing)
    if target is not geometry:
        image, labels = resample_image(image, geometry, target), resample_labels(labels, geometry, target)
        channels = _distributions(image)
    return _Checked(image, labels, target, mapped.counts, channels, target is not geometry)


def _opened(path: Path, source: FileSource) -> VolumeFile:
    if not path.exists():
        raise DataError(f"{source}: no such file")
    return open_volume(path)


def _mapped(file: VolumeFile, source: FileSource, settings: CaseSettings) -> MappedLabels:
    try:
        return map_labels(file.read()[0], settings.rule)
    except DataError as error:
        raise DataError(f"{source}: {error}", hint=error.hint) from error


def _shared_grid(files: list[VolumeFile], num_channels: int) -> Geometry:
    """The grid that all files of a case share; the last is its mask."""
    *images, labels = files
    found = sum(file.num_channels for file in images)
    if found != num_channels:
        raise DataError(f"{images[0].path.name}: has {counted(found, 'channel')}, but the dataset has {num_channels}")
    if labels.num_channels != 1:
        found = f"{labels.num_channels} channels{', as a palette of colours has' if labels.num_channels == 3 else ''}"
        raise DataError(f"{labels.path.name}: labels have {found}, but must have 1")
    # a TIF often tells no spacing; then its size is all that can be compared
    told = next((file for file in files if file.has_spacing), images[0])
    grid = replace(told.geometry, size=images[0].geometry.size)
    for file in files[1:]:
        own = file.geometry if file.has_spacing else replace(grid, size=file.geometry.size)
        if difference := grid.difference(own):
            what = "labels are" if file is labels else f"{file.path.name} is"
            raise DataError(f"{what} on another grid than the image: {difference}")
    return grid


def _distributions(image: NDArray[Any]) -> tuple[Distribution, ...]:
    try:
        return tuple(map(distribution_of, image))
    except ValueError as error:
        raise DataError(f"the image is not usable: {error}") from error


def stored_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that an image is stored in: its own, or float32 for what training would read no better."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" or dtype.itemsize > 4:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def _write_case(raw: RawCase, settings: CaseSettings, folder: Path, stamp: str, checked: _Checked) -> Finished:
    image, labels, geometry = checked.image, checked.labels, checked.geometry
    files = _case_files(raw.id, settings, checked)
    write_volume(folder / files.mapped_image, image, geometry, compress=False)
    write_volume(folder / files.mapped_labels, labels, geometry, compress=False)
    if settings.compress:
        write_volume(folder / files.image, image, geometry, compress=True)
        write_volume(folder / files.labels, labels, geometry, compress=True)
    points = foreground_points(labels, settings.num_classes, POINTS_PER_CLASS)
    np.save(folder / files.points, points)
    case = Case(
        id=raw.id,
        group=raw.group,
        shape=image.shape,
        image_sha256=content_hash(image),
        labels_sha256=content_hash(labels),
        class_shares=_shares(checked, settings),
        files=files,
    )
    warnings = (*_channel_warnings(checked.channels), *_side_warnings(points, geometry, settings))
    all_channels = merge_distributions(checked.channels)
    finished = Finished(case, image.dtype.name, all_channels, checked.values, warnings)
    save_record(folder, finished, stamp)
    return finished


def _case_files(name: str, settings: CaseSettings, checked: _Checked) -> CaseFiles:
    geometry = checked.geometry
    images, labels = (MAPPED_IMAGES, MAPPED_LABELS) if settings.compress else (IMAGES, LABELS)
    suffix = ".nii.gz" if settings.compress else ".nii"
    return CaseFiles(
        image=f"{IMAGES}/{name}{suffix}",
        labels=f"{LABELS}/{name}{suffix}",
        mapped_image=f"{images}/{name}.nii",
        mapped_labels=f"{labels}/{name}.nii",
        points=f"{POINTS}/{name}.npy",
        spacing=geometry.spacing,
        origin=geometry.origin,
        direction=geometry.direction,
        statistics=tuple(CaseStatistics(**asdict(channel.statistics)) for channel in checked.channels),
    )


def _shares(checked: _Checked, settings: CaseSettings) -> tuple[float, ...]:
    """Share of the voxels that belongs to each class, from the counts of the mask's values where its grid is kept."""
    totals = [0] * 256
    if not checked.is_resampled:
        known = dict(settings.rule.indices)
        for value, count in checked.values.items():
            totals[known.get(value, settings.rule.others or 0)] += count
    else:
        for index, count in zip(*count_values(checked.labels), strict=True):
            totals[index] = int(count)
    return tuple(total / checked.labels.size for total in totals[: settings.num_classes])


def _channel_warnings(channels: Sequence[Distribution]) -> Iterator[str]:
    for index, channel in enumerate(channels):
        if channel.values[0] == channel.values[-1]:
            yield f"channel {index} is {channel.values[0]:g} everywhere"


def _side_warnings(points: NDArray[np.int32], geometry: Geometry, settings: CaseSettings) -> Iterator[str]:
    """Pairs of classes that lie on the other side of the patient than their names say."""
    for (left, left_name), (right, right_name) in settings.sides:
        places = [points[points[:, 0] == index, 1:] for index in (left, right)]
        if all(map(len, places)):
            centres = [geometry.affine @ np.append(place.mean(axis=0), 1.0) for place in places]
            if centres[0][0] < centres[1][0]:  # x grows to the patient's left
                yield f"{left_name} lies to the patient's right of {right_name}; are the labels mixed up?"
