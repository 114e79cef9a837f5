"""Writing what a network found: masks in the form of their image, scores as a 32-bit float TIF, and objects.

A mask is TIF for TIF, with the same pages, sizes and resolution tags, and PNG for PNG; for JPEG too, which would blur
its values. Its pixels have the values that the dataset's labels have, such as 0 and 255, in the smallest unsigned type
that holds them.

Scores are TIF with one image per page of the source and channel, the channels of a page following each other, as
ImageJ's hyperstacks have them. Of two classes only the score of the last is written, since the other is its complement;
of more, all.

Instances are TIF with the pages of the image: 0 is background, and every object of a page has another number; 16 bits
where these do, and 32 where not. All are compressed by Deflate without a predictor, which every reader knows.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.images import ImageFile, image_format, open_image
from unetcli.data.formats.png import encode_png
from unetcli.errors import ConfigError, DataError
from unetcli.files import refuse_existing, replacing

WritePage = Callable[[NDArray[Any]], None]
BIGTIFF_FROM = 2**32 - 2**26  # bytes of pixels; what headers and incompressible pages add is less than the rest
SOFTWARE = "unet"


class WriteFound(Protocol):
    """Writes what was found in a page."""

    def __call__(
        self, labels: NDArray[Any], scores: NDArray[np.float32], instances: NDArray[np.int32] | None = None, /
    ) -> None:
        """Write labels `(H, W)`, scores `(K, H, W)`, and objects `(H, W)`, where there is a path for them."""
        ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where what is found in one image goes.

    Args:
        image: The image.
        mask: Its mask, of the same format, but PNG for JPEG.
        scores: Its scores, TIF for an image and NIfTI for a volume; None if they are not wanted.
        parts: Further files that the image is of, such as the `.raw` of a `.mhd`.
        instances: Its objects, TIF; None if they are not wanted.
    """

    image: Path
    mask: Path
    scores: Path | None = None
    parts: tuple[Path, ...] = ()
    instances: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is written: mask, scores, objects, and the voxels of a mask whose header is a file of its own."""
        voxels = [self.mask.with_suffix(".zraw")] if self.mask.suffix == ".mhd" else []
        return (self.mask, *voxels, *(path for path in (self.scores, self.instances) if path))


def plan_outputs(
    images: Sequence[Path],
    folder: Path,
    *,
    with_scores: bool = False,
    with_instances: bool = False,
    overwrite: bool = False,
) -> list[Outputs]:
    """Name the outputs of images in `folder`: `<stem>.tif` or `<stem>.png`, with `_scores.tif`, `_instances.tif`.

    Done before any work, so that a clash costs nothing. The first bytes of each image are read.

    Raises:
        DataError: If an image cannot be read, or is neither TIF nor PNG nor JPEG.
        ConfigError: If two images would be written to one file, an image would be replaced by its own mask, or
            an output is there and `overwrite` is not set.
    """
    plan: list[Outputs] = []
    for image in images:
        stem = image.stem.removesuffix(".ome")
        scores = folder / f"{stem}_scores.tif" if with_scores else None
        instances = folder / f"{stem}_instances.tif" if with_instances else None
        ending = "tif" if image_format(image) == "tif" else "png"
        plan.append(Outputs(image, folder / f"{stem}.{ending}", scores, instances=instances))
    check_plan(plan, overwrite=overwrite)
    return plan


def check_plan(plan: Sequence[Outputs], *, overwrite: bool) -> None:
    """Raise ConfigError if outputs clash with each other, with any input, or with files that may not be replaced."""
    sources = {path.resolve() for outputs in plan for path in (outputs.image, *outputs.parts)}
    taken: dict[str, Path] = {}
    for outputs in plan:
        for path in outputs.files:
            other = taken.setdefault(path.name.casefold(), outputs.image)  # some file systems ignore case
            if other != outputs.image:
                raise ConfigError(
                    f"{path}: would be the output of both {other} and {outputs.image}",
                    hint="rename one of them, or segment them into different folders",
                )
            if path.resolve() in sources:
                raise ConfigError(
                    f"{path}: is an image to segment, and would be replaced", hint="name another --output"
                )
            refuse_existing(path, overwrite=overwrite)


@contextlib.contextmanager
def writing(outputs: Outputs, image: ImageFile, values: Sequence[int]) -> Generator[WriteFound]:
    """A function that writes what was found in the pages of `image`, in order.

    When the block ends, each file is read back, compared and only then put in place; if it raises, nothing is.

    Args:
        outputs: Where to; scores and objects are left out where it has no path for them.
        image: The open source.
        values: What is written for each class.

    Raises:
        DataError: If a file cannot be written, or does not read back.
        ValueError: If a page has another size than the image's, or the number of pages is another.
    """
    num_classes = len(values)
    with contextlib.ExitStack() as stack:
        write_mask = stack.enter_context(mask_writer(outputs.mask, image, values))
        write_scores: WritePage | None = None
        write_instances: WritePage | None = None
        if outputs.scores is not None:
            write_scores = stack.enter_context(score_writer(outputs.scores, image, num_classes))
        if outputs.instances is not None:
            write_instances = stack.enter_context(instance_writer(outputs.instances, image))

        def write(
            labels: NDArray[Any], scores: NDArray[np.float32], instances: NDArray[np.int32] | None = None, /
        ) -> None:
            write_mask(labels)
            if write_scores is not None:
                write_scores(scores)
            if write_instances is not None and instances is not None:
                write_instances(instances)

        yield write


@contextlib.contextmanager
def mask_writer(path: Path, image: ImageFile, values: Sequence[int]) -> Generator[WritePage]:
    """A function that writes the labels `(H, W)` of one page after another as a mask; see `writing`."""
    table = value_table(values)
    if path.suffix == ".png" and table.dtype.itemsize > 2:
        raise ValueError(f"a PNG holds values up to 65535, got {max(values)}")
    writer = _png_writer if path.suffix == ".png" else _tif_writer
    with writer(path, image, 1, table.dtype) as write_page:

        def write(labels: NDArray[Any]) -> None:
            if labels.size and not 0 <= labels.min() <= labels.max() < len(table):
                raise ValueError(f"labels must be in 0..{len(table) - 1}, got {labels.min()}..{labels.max()}")
            write_page(table[labels][None])

        yield write


@contextlib.contextmanager
def score_writer(path: Path, image: ImageFile, num_classes: int) -> Generator[WritePage]:
    """A function that writes the scores `(K, H, W)` of one page after another; see `writing`."""
    first = num_classes - 1 if num_classes == 2 else 0
    with _tif_writer(path, image, num_classes - first, np.dtype(np.float32)) as write_page:

        def write(scores: NDArray[np.float32]) -> None:
            if len(scores) != num_classes:
                raise ValueError(f"scores must be of {num_classes} classes, got {scores.shape}")
            if not np.isfinite(scores).all():
                raise ValueError("scores must be finite")
            write_page(np.asarray(scores[first:], dtype=np.float32))

        yield write


@contextlib.contextmanager
def instance_writer(path: Path, image: ImageFile) -> Generator[WritePage]:
    """A function that takes the objects `(H, W)` of one page after another; see `writing`.

    The pages are kept packed and written when the block ends, since only then is known how many bits they need.
    """
    packed: list[bytes] = []
    largest = 0

    def write(instances: NDArray[Any]) -> None:
        nonlocal largest
        _check_page(instances[None], image, len(packed), 1)
        if instances.min(initial=0) < 0:
            raise ValueError(f"instances must be at least 0, got {instances.min()}")
        largest = max(largest, int(instances.max(initial=0)))
        packed.append(zlib.compress(instances.astype(np.uint32).tobytes(), level=1))

    yield write
    _check_count(image, len(packed))
    dtype = np.dtype(np.uint16 if largest < 2**16 else np.uint32)
    with _tif_writer(path, image, 1, dtype) as write_page:
        for content, (height, width) in zip(packed, image.page_sizes, strict=True):
            page = np.frombuffer(zlib.decompress(content), np.uint32)
            write_page(page.reshape(1, height, width).astype(dtype))


def value_table(values: Sequence[int]) -> NDArray[Any]:
    """Values of the classes in the smallest unsigned type."""
    if not values or min(values) < 0 or max(values) >= 2**32 or len(set(values)) < len(values):
        raise ValueError(f"values must be different integers from 0 to 2^32 - 1, got {list(values)}")
    return np.array(values, dtype=np.min_scalar_type(max(values)))


@contextlib.contextmanager
def _tif_writer(path: Path, image: ImageFile, num_channels: int, dtype: np.dtype[Any]) -> Generator[WritePage]:
    """A function that appends a page `(C, H, W)` to a TIF, which is checked and put in place at the end."""
    import tifffile

    sizes = [size for size in image.page_sizes for _ in range(num_channels)]
    num_bytes = sum(height * width for height, width in sizes) * dtype.itemsize
    pixel_size = image.pixel_size
    description = _imagej_description(image, num_channels)
    num_written = 0
    with placing(path) as temporary:
        with tifffile.TiffWriter(temporary, bigtiff=num_bytes > BIGTIFF_FROM, byteorder="<", ome=False) as tif:

            def write(page: NDArray[Any]) -> None:
                nonlocal num_written
                _check_page(page, image, num_written, num_channels)
                for channel, pixels in enumerate(page):
                    with writing_told(path):
                        tif.write(
                            pixels,
                            photometric="minisblack",
                            compression="zlib",
                            metadata=None,
                            description=description if num_written == channel == 0 else None,
                            resolution=pixel_size.resolution,
                            resolutionunit=pixel_size.unit if pixel_size.resolution else None,
                            software=SOFTWARE,
                        )
                num_written += 1

            yield write
            with writing_told(path):
                tif.close()
        _check_count(image, num_written)
        _check_tif(path, temporary, sizes, dtype)


@contextlib.contextmanager
def _png_writer(path: Path, image: ImageFile, num_channels: int, dtype: np.dtype[Any]) -> Generator[WritePage]:
    """A function that writes the one page of a PNG, which is checked and put in place at the end."""
    num_written = 0
    with placing(path) as temporary:

        def write(page: NDArray[Any]) -> None:
            nonlocal num_written
            _check_page(page, image, num_written, num_channels)
            content = encode_png(page[0], image.pixel_size.png_chunk)
            with writing_told(path):
                temporary.write_bytes(content)
            num_written += 1

        yield write
        _check_count(image, num_written)
        with open_image(temporary) as written:
            page = written.read(0)
        _check_same(path, (page.shape, page.dtype), ((num_channels, *image.page_sizes[0]), dtype))


def _check_page(page: NDArray[Any], image: ImageFile, index: int, num_channels: int) -> None:
    if index >= image.num_pages or page.shape != (num_channels, *image.page_sizes[index]):
        raise ValueError(
            f"page {index + 1} of shape {page.shape} does not fit {image.path} of {image.num_pages} pages "
            f"of sizes {sorted(set(image.page_sizes))} and {num_channels} channels"
        )


def _check_count(image: ImageFile, num_written: int) -> None:
    if num_written != image.num_pages:
        raise ValueError(f"{num_written} pages were written for the {image.num_pages} of {image.path}")


def _check_tif(path: Path, temporary: Path, sizes: list[tuple[int, int]], dtype: np.dtype[Any]) -> None:
    """Raise DataError if a written TIF has other pages than it was given."""
    import tifffile

    with tifffile.TiffFile(temporary) as tif:
        found = [tuple(page.shape) for page in tif.pages]
        last = np.asarray(tif.pages[-1].asarray())
    _check_same(path, (found, last.shape, last.dtype), (sizes, sizes[-1], dtype))


def _check_same(path: Path, found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    if found != wanted:
        raise DataError(f"{path}: was written but does not read back as it was; is the disk full or failing?")


@contextlib.contextmanager
def placing(path: Path) -> Generator[Path]:
    """As `replacing`, but where the system refuses, that is a DataError; what the block raises passes as it is."""
    with contextlib.ExitStack() as stack:
        with writing_told(path):
            temporary = stack.enter_context(replacing(path))
        yield temporary
        with writing_told(path):
            stack.close()


@contextlib.contextmanager
def writing_told(path: Path) -> Generator[None]:
    """Turn what the system says against writing into a DataError that begins with `path`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error})", hint="check the disk and the folder's permissions"
        ) from error


def _imagej_description(image: ImageFile, num_channels: int) -> bytes | None:
    """What ImageJ wants to know of a stack, with the source's spacing and unit; None if there is nothing to tell."""
    pixel_size = image.pixel_size
    if len(set(image.page_sizes)) > 1 or (num_channels == 1 and pixel_size.imagej is None):
        return None
    slices, frames = max(pixel_size.slices, 1), max(pixel_size.frames, 1)
    if slices * frames != image.num_pages:
        slices, frames = image.num_pages, 1
    lines = ["ImageJ=1.54f", f"images={image.num_pages * num_channels}"]
    lines += [
        f"{name}={n}" for name, n in (("channels", num_channels), ("slices", slices), ("frames", frames)) if n > 1
    ]
    lines += ["hyperstack=true", "mode=grayscale", *(pixel_size.imagej or ()), "loop=false", ""]
    text = "\n".join(lines)
    return "".join(sign if sign.isascii() else f"\\u{ord(sign):04X}" for sign in text).encode("ascii")
