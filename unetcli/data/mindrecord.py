"""Cases in a MindRecord file; the only module of this room that imports MindSpore.

A row is bytes with their type and shape beside them, since MindRecord has no 8- or 16-bit columns. The
format has no checksum: what is read must be compared with the hashes in the manifest. The index beside
the file holds the file's name, so that the folder may be moved but the file never renamed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import LabelledImage
from unetcli.errors import DataError

SCHEMA = {
    "id": {"type": "string"},
    "layout": {"type": "string"},  # JSON: type and shape of the image; type of the instances if there are any
    "image": {"type": "bytes"},
    "labels": {"type": "bytes"},
}
MORE = {"instances": {"type": "bytes"}, "weights": {"type": "bytes"}}
"""Columns of a file whose cases have them; files of version 0.4 have neither."""
LARGEST_PAGE = 1 << 28
"""Bytes that MindRecord allows for a page, and so for a row."""
_ROW_OVERHEAD = 64
_HEADER_PER_PAGE = 256
_REPREPARE = "prepare the dataset again with --overwrite"


def write_cases(path: Path, cases: Sequence[LabelledImage]) -> None:
    """Write a new file of cases and its index `<path>.db`.

    Pages are as large as the largest row and the header as the pages need, since MindRecord would pad
    even a small file to 48 MB.

    Raises:
        DataError: If a case is larger than a MindRecord page can be, or the file cannot be written.
        ValueError: If some cases have instances or weights and others have not.
    """
    from mindspore.mindrecord import FileWriter

    schema = SCHEMA | _more(cases)
    largest = max(cases, key=_row_bytes)
    page = _rounded_up(max(_row_bytes(largest), 1 << 15))
    if page > LARGEST_PAGE:
        raise DataError(
            f"case {largest.id}: {_row_bytes(largest) / 2**20:.0f} MB, but a case can have at most "
            f"{LARGEST_PAGE / 2**20:.0f} MB",
            hint="cut the images into smaller ones",
        )
    try:
        writer = FileWriter(str(path), shard_num=1)
        writer.set_page_size(page)
        writer.set_header_size(_rounded_up((1 << 14) + _HEADER_PER_PAGE * len(cases)))
        writer.add_schema(schema, "images with their labels")
        for case in cases:
            writer.write_raw_data([_row(case)])
        writer.commit()
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path}: cannot be written ({_reason(error)})", hint="check the free space") from error


def read_cases(path: Path, ids: Collection[str]) -> tuple[LabelledImage, ...]:
    """Read the cases of these ids, in the order given. Their arrays cannot be written to.

    Raises:
        DataError: If the file or its index is missing or broken, or a case is not in it.
    """
    for file in (path, path.with_name(f"{path.name}.db")):
        if not file.is_file():
            raise DataError(f"{file}: no such file, but the dataset needs it", hint=_REPREPARE)
    wanted = set(ids)
    found = {str(row["id"]): _case(path, row) for row in _rows(path) if row["id"] in wanted}
    missing = [name for name in ids if name not in found]
    if missing:
        raise DataError(f"{path}: holds no case {', '.join(missing[:5])}", hint=_REPREPARE)
    return tuple(found[name] for name in ids)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    from mindspore.mindrecord import FileReader

    try:
        reader = FileReader(str(path), num_consumer=1)
        try:
            yield from reader.get_next()
        finally:
            reader.close()
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})", hint=_REPREPARE) from error


def _row(case: LabelledImage) -> dict[str, Any]:
    image = _little_endian(case.image)
    layout: dict[str, Any] = {"dtype": image.dtype.str, "shape": list(image.shape)}
    row: dict[str, Any] = {
        "id": case.id,
        "image": image.tobytes(),
        "labels": np.ascontiguousarray(case.labels).tobytes(),
    }
    if case.instances is not None:
        instances = _little_endian(case.instances.astype(np.min_scalar_type(case.instances.max(initial=0))))
        layout["instances"] = instances.dtype.str
        row["instances"] = instances.tobytes()
    if case.weights is not None:
        row["weights"] = _little_endian(case.weights).tobytes()
    return row | {"layout": json.dumps(layout)}


def _case(path: Path, row: dict[str, Any]) -> LabelledImage:
    try:
        layout = json.loads(row["layout"])
        image = np.frombuffer(row["image"], np.dtype(layout["dtype"])).reshape(layout["shape"])
        labels = np.frombuffer(row["labels"], np.uint8).reshape(image.shape[1:])
        instances = weights = None
        if "instances" in row:
            stored = np.frombuffer(row["instances"], np.dtype(layout["instances"]))
            instances = stored.astype(np.int32).reshape(labels.shape)
            instances.setflags(write=False)
        if "weights" in row:
            weights = np.frombuffer(row["weights"], "<f4").reshape(labels.shape).view(np.float32)
        return LabelledImage(str(row["id"]), image, labels, instances=instances, weights=weights)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: case {row['id']} is damaged ({error})", hint=_REPREPARE) from error


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _row_bytes(case: LabelledImage) -> int:
    more = sum(array.nbytes for array in (case.instances, case.weights) if array is not None)
    return case.image.nbytes + case.labels.nbytes + more + _ROW_OVERHEAD


def _more(cases: Sequence[LabelledImage]) -> dict[str, dict[str, str]]:
    """The columns that these cases need beside those of all."""
    columns = {name: type_ for name, type_ in MORE.items() if getattr(cases[0], name) is not None}
    for case in cases:
        if {name for name in MORE if getattr(case, name) is not None} != columns.keys():
            raise ValueError(f"instances and weights: {case.id} and {cases[0].id} have not the same of them")
    return columns


def _rounded_up(size: int) -> int:
    return math.ceil(size / 4096) * 4096


def _reason(error: Exception) -> str:
    """The one telling line of MindSpore's many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    marked = [line for line in lines if "ERROR]" in line]
    return (marked or lines)[0].rpartition("ERROR]")[2].strip().rstrip(".")
