"""What lies in a folder of tiles that were written for a device: of which images, in which order, and of what shape."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unetcli.errors import DataError
from unetcli.inference import TilePlan

INDEX, INPUTS, OUTPUTS = "index.json", "inputs", "outputs"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Facts):
    """What one file holds: numbers in C order, little-endian, and nothing else.

    Attributes:
        shape: `(1, C, *S)` of an input, `(1, K, *S')` of an output.
        dtype: Of each number.
    """

    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"


class Tiling(_Facts):
    """How the images were cut.

    Attributes:
        tile_size: Pixels of a tile along each axis.
        overlap: Least pixels of a tile's output that its neighbour repeats, along each axis.
        blending: How overlapping outputs are averaged.
        border_pixels_eaten: By how much an output is smaller than its tile, at each side.
        forms_per_tile: How many turned and mirrored forms of a tile follow each other; 1 without TTA.
    """

    tile_size: tuple[int, ...]
    overlap: tuple[int, ...]
    blending: Literal["gaussian", "constant"]
    border_pixels_eaten: int
    forms_per_tile: int

    @property
    def plan(self) -> TilePlan:
        """The same for the functions that tile; tiles one by one."""
        return TilePlan(self.tile_size, self.overlap, self.blending, batch_size=1, margin=self.border_pixels_eaten)


class PageTiles(_Facts):
    """The tiles of one page of an image, or of one volume.

    Attributes:
        size: Pixels of what was cut, along each axis; of a volume on the grid that the network sees.
        starts: For each axis, the first pixels of the tiles along it; the tiles are all their combinations, those along
            the last axis one after another.
        inputs: The names of their files without `.bin`, in that order; of a tile, all its forms.
    """

    size: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]


class ImageTiles(_Facts):
    """The tiles of one image.

    Attributes:
        path: Where it was.
        sha256: Of its file, or of the list of those of its files.
        pages: Its pages; a volume has one.
    """

    path: Path
    sha256: str
    pages: tuple[PageTiles, ...]

    @property
    def num_inputs(self) -> int:
        """Files of all pages."""
        return sum(len(page.inputs) for page in self.pages)


class Index(_Facts):
    """The folder as a whole.

    Attributes:
        schema_version: Of this file.
        unet_version: Version that wrote it.
        run: The run that the tiles are for.
        checkpoint_sha256: Its weights, which the device must have.
        input: What every file in `inputs` holds.
        output: What every file in `outputs` must hold.
        tta: Whether each tile was written in all its symmetries.
        tiling: How the images were cut.
        images: The images.
    """

    schema_version: Literal[1] = 1
    unet_version: str
    run: str
    checkpoint_sha256: str
    input: Tensor
    output: Tensor
    tta: bool
    tiling: Tiling
    images: tuple[ImageTiles, ...] = Field(min_length=1)

    def tiles_of(self, image: Path, sha256: str) -> ImageTiles:
        """The tiles of the image with this content, wherever it is by now.

        Raises:
            DataError: If there are none.
        """
        for known in self.images:
            if known.sha256 == sha256:
                return known
        same = next((known for known in self.images if known.path.name == image.name), None)
        what, expected = f"is not one of the images in {INDEX}", ""
        if same is not None:
            what, expected = "has changed since its tiles were written", f", expected {same.sha256[:12]}..."
        raise DataError(
            f"{image}: {what} (sha256 {sha256[:12]}...{expected})",
            hint="write its tiles with --export-inputs, and run the device over them again",
        )


def read_index(folder: Path) -> Index:
    """The index of a folder.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(
            f"{folder}: no {INDEX} in it", hint="name a folder that 'unet predict --export-inputs' has made"
        )
    try:
        return Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise DataError(
            f"{path}: {place}{first['msg']}",
            hint="the file was changed, or written by another version of unet; write it again with --export-inputs",
        ) from error
