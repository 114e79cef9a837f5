"""Reading volumes of any format: the front door.

A file is what its content says, whatever its suffix; a folder is a DICOM series.
"""

from __future__ import annotations

from pathlib import Path

from unetcli.data.nifti import is_nifti, open_nifti, opened
from unetcli.data.tif import damage_told
from unetcli.data.volume_file import VolumeFile
from unetcli.errors import DataError


def open_volume(path: Path, *, num_channels: int | None = None) -> VolumeFile:
    """Read the header of a volume."""
    with damage_told(f"{path}"), opened(path) as file:
        begin = file.read(600)
    if is_nifti(begin):
        return open_nifti(path, num_channels=num_channels)
    raise DataError(f"{path}: not a volume")
