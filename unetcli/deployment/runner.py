"""Segment images with the network of this folder: `python run.py IMAGE... --output masks`. `--check` first.

`model.json` says how an image becomes tiles, and what the network makes of them a mask. It takes NumPy; tifffile and
OpenCV for images, or SimpleITK for volumes; and one of MindSpore Lite, MindSpore and ONNX Runtime. It takes no unet.
"""

# ruff: noqa: T201 it is a script of its own, which talks

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Network = Callable[[Array], Any]
Facts = dict[str, Any]
HERE = Path(__file__).resolve().parent
JPEG = (".jpg", ".jpeg")
BACKENDS = {"lite": "mindspore_lite", "mindspore": "mindspore", "onnxruntime": "onnxruntime"}


def choose_backend(wanted: str, model: Path) -> str:
    """The first backend that is installed and reads the file."""
    able = ["lite", "mindspore"] if model.suffix == ".mindir" else ["onnxruntime"] * (model.suffix == ".onnx")
    for name in able:
        if wanted in ("auto", name) and importlib.util.find_spec(BACKENDS[name]):
            return name
    packages = " or ".join(BACKENDS[name] for name in able) or "nothing here; convert.sh makes of it what a chip reads"
    sys.exit(f"error: {model.name}: --backend {wanted}: not installed, or does not read it; what does is {packages}")


def open_network(model: Path, backend: str, device: str) -> Network:
    """A function from a tile `(1, C, *S)` to its scores `(1, K, *S')`, both float32."""
    if not model.is_file():
        sys.exit(f"error: {model}: no such file")
    if backend == "onnxruntime":
        import onnxruntime

        session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda tile: session.run(None, {name: tile})[0]
    if backend == "mindspore":
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # with AVX-512, MindSpore 2.10 is forty times slower
        import mindspore
        from mindspore import nn

        graph: Any = nn.GraphCell(mindspore.load(str(model)))
        return lambda tile: graph(mindspore.Tensor(tile)).asnumpy()
    import mindspore_lite  # pyright: ignore[reportMissingImports]

    context = mindspore_lite.Context()
    context.target = [device]
    network = mindspore_lite.Model()
    network.build_from_file(str(model), mindspore_lite.ModelType.MINDIR, context)

    def run(tile: Array) -> Array:
        inputs = network.get_inputs()
        inputs[0].set_data_from_numpy(tile)
        return network.predict(inputs)[0].get_data_to_numpy()

    return run


def normalise(image: Array, facts: Facts) -> Array:
    """An image `(C, *S)` as the network was trained on it, float32: `(value - center) * factor`, perhaps clipped."""
    how = facts["normalization"]
    channels = image.reshape(len(image), -1)
    if how["method"] == "zscore":
        center = np.array([channel.mean(dtype=np.float64) for channel in channels])
        spread = np.array([channel.std(dtype=np.float64) for channel in channels])
        is_flat = channels.min(axis=1) == channels.max(axis=1)
        factor = np.where(is_flat, 0, 1 / np.where(is_flat, 1, spread))
    else:
        begin, end = how["output_range"]
        low, high = np.full(len(image), float(how["lower"] or 0)), np.full(len(image), float(how["upper"] or 0))
        if how["method"] == "percentile":
            low, high = np.percentile(channels, how["percentiles"], axis=1)
            least, most = channels.min(axis=1).astype(np.float64), channels.max(axis=1).astype(np.float64)
            low, high = np.where(high <= low, least, low), np.where(low >= high, most, high)
        is_flat = high <= low
        span = (high / 2 - low / 2) / ((end - begin) / 2)
        factor = np.where(is_flat, 0, 1 / np.where(is_flat, 1, span))
        center = low / 2 + high / 2 - (begin + end) / 2 * np.where(is_flat, 0, 1 / np.where(is_flat, 1, factor))
    shape, dtype = (-1, *[1] * (image.ndim - 1)), np.float32 if image.dtype.itemsize <= 2 else np.float64
    values = (image.astype(dtype) - center.astype(dtype).reshape(shape)) * factor.astype(dtype).reshape(shape)
    return (values if how["method"] == "zscore" else np.clip(values, *how["output_range"])).astype(np.float32)


def score_image(image: Array, network: Network, facts: Facts, lateral_axis: int) -> Array:
    """Scores `(K, *S)` of a normalised image `(C, *S)`: cut into overlapping tiles, scored one by one and blended."""
    tiling, tile = facts["tiling"], facts["input"]["shape"][2:]
    margin, size = tiling["border_pixels_eaten"], image.shape[1:]
    outputs = [length - 2 * margin for length in tile]
    canvas = [max(length, output) for length, output in zip(size, outputs, strict=True)]
    firsts = [(whole - length) // 2 for whole, length in zip(canvas, size, strict=True)]
    for axis, (length, whole, first) in enumerate(zip(size, canvas, firsts, strict=True)):
        image = image.take(mirrored(length, first + margin, whole - length - first + margin), axis + 1)
    starts = [tile_starts(*axis) for axis in zip(canvas, outputs, tiling["overlap_pixels"], strict=True)]
    weights = [axis_weights(output, tiling["blending"]) for output in outputs]
    totals = [np.zeros(length) for length in canvas]
    for total, along, values in zip(totals, starts, weights, strict=True):
        for first in along:
            total[first : first + len(values)] += values
    weight, sums = outer(weights).astype(np.float32), np.zeros((len(facts["classes"]), *canvas), np.float32)
    inside = (slice(None), *places(firsts, size))
    for start in itertools.product(*starts):
        scores = score_tile(image[(slice(None), *places(start, tile))][None], network, facts, lateral_axis)[0]
        if math.prod(map(len, starts)) == 1:
            return scores[inside]
        sums[(slice(None), *places(start, outputs))] += scores * weight
    return (sums / outer([totals[0], outer(totals[1:])]).astype(np.float32))[inside]


def score_tile(tile: Array, network: Network, facts: Facts, lateral_axis: int) -> Array:
    """Scores of a tile, averaged over its mirrored and turned forms where the run does so."""
    forms, pairs = facts["symmetries"]["forms"], facts["symmetries"]["pairs"]
    total: Any = 0
    for turns, axes in forms:
        mirrored_axes = [axis + 2 for axis in axes]
        form = np.flip(np.rot90(tile, turns, (-2, -1)), mirrored_axes)
        scores = np.asarray(network(np.ascontiguousarray(form)), np.float32).reshape(facts["output"]["shape"])
        scores = np.rot90(np.flip(scores, mirrored_axes), -turns, (-2, -1))
        total = total + (scores[:, pairs] if pairs and lateral_axis in axes else scores)  # left becomes right
    return total / np.float32(len(forms))


def mirrored(length: int, before: int, after: int) -> Array:
    """Indices that continue an axis by mirroring it, the border pixel not repeated."""
    period = max(2 * (length - 1), 1)
    index = np.arange(-before, length + after) % period
    return np.minimum(index, period - index)


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """The first pixels of the fewest tiles that cover an axis, evenly spread."""
    last = length - tile
    gaps = math.ceil(last / (tile - overlap))
    return [number * last // gaps for number in range(gaps + 1)] if gaps else [0]


def axis_weights(length: int, blending: str) -> Array:
    """How much each place along one axis of a tile counts."""
    distance = (np.arange(length) - (length - 1) / 2) / (length / 8)
    return np.maximum(np.exp(-(distance**2) / 2), 1e-3) if blending == "gaussian" else np.ones(length)


def outer(arrays: list[Array]) -> Array:
    """The product of one value of each array."""
    return functools.reduce(np.multiply.outer, arrays)


def places(starts: Iterable[int], lengths: Iterable[int]) -> list[slice]:
    """Where a part begins and ends along each axis."""
    return [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def segment(image: Array, network: Network, facts: Facts, lateral_axis: int) -> Array:
    """Labels `(*S)` of an image `(C, *S)` as stored: of each pixel the class of the largest score."""
    return score_image(normalise(image, facts), network, facts, lateral_axis).argmax(axis=0)


def with_channels(image: Array, wanted: int, path: Path) -> Array:
    """An image `(C, ...)` with as many channels as the network takes, where that is the same image."""
    image = image[:-1] if len(image) in (2, 4) and wanted in (1, 3) else image  # alpha
    if wanted == 1 and len(image) == 3 and (image[0] == image[1]).all() and (image[0] == image[2]).all():
        image = image[:1]
    image = np.repeat(image, 3, axis=0) if (wanted, len(image)) == (3, 1) else image
    if len(image) != wanted:
        sys.exit(f"error: {path}: has {len(image)} channel{'s' * (len(image) > 1)}, but the network takes {wanted}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        sys.exit(f"error: {path}: has NaN or infinite values")
    return image


def segment_pages(path: Path, target: Path, network: Network, facts: Facts) -> None:
    """A mask of each page of a TIF, PNG or JPEG, in a file of the same form; of a JPEG, PNG."""
    values, wanted = mask_values(facts), len(facts["channels"])
    if path.suffix.lower() in (".png", *JPEG):
        import cv2

        content = path.read_bytes()
        if content.startswith(b"\xff\xd8\xff") and (fault := jpeg_fault(content)):
            sys.exit(f"error: {path}: {fault}")
        pixels: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            sys.exit(f"error: {path}: cannot be read")
        page = np.moveaxis(pixels[..., 2::-1], -1, 0) if pixels.ndim == 3 else pixels[None]  # OpenCV has BGR
        cv2.imwrite(str(target), values[segment(with_channels(page, wanted, path), network, facts, 1)])
        return
    import tifffile

    with tifffile.TiffFile(path) as source, tifffile.TiffWriter(target) as sink:
        tags = source.pages.first.tags
        told = [tags[name].value for name in ("XResolution", "YResolution", "ResolutionUnit") if name in tags]
        size: dict[str, Any] = {"resolution": (told[0], told[1]), "resolutionunit": told[2]} if len(told) == 3 else {}
        for page in tif_pages(source):
            mask = values[segment(with_channels(page, wanted, path), network, facts, 1)]
            sink.write(mask, photometric="minisblack", compression="zlib", metadata=None, **size)


def jpeg_fault(content: bytes) -> str:
    """Why a JPEG is refused, nothing if it is not: OpenCV makes up what is cut off, and RGB of inks."""
    place, channels = 2, 0
    while place + 9 < len(content) and (marker := content[place + 1]) != 0xDA:  # the coded pixels
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            channels = content[place + 9]
        place += 1 if marker == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    if b"\xff\xd9" not in content[place:]:
        return "cut off"
    return "" if channels in (1, 3) else f"has {channels} channels, but a JPEG must be grey or RGB"


def tif_pages(source: Any) -> Iterator[Array]:
    """The pages `(C, H, W)` of an open TIF."""
    for series in source.series:
        stack, axes, first = series.asarray(), series.axes, series.keyframe
        if first.photometric == 3 and not source.is_imagej:  # of a palette, the colours count
            stack, axes = (np.asarray(first.colormap) >> 8).astype(np.uint8)[:, stack], f"S{axes}"
        channel = next((axes.index(axis) for axis in "SC" if axis in axes), None)
        stack = stack[..., None, :, :] if channel is None else np.moveaxis(stack, channel, -3)
        yield from stack.reshape(-1, *stack.shape[-3:])


def segment_volume(path: Path, target: Path, network: Network, facts: Facts) -> None:
    """A mask of a volume, on its grid; resampled for the network where the run was trained so."""
    import SimpleITK as sitk

    source = sitk.ReadImage(str(path))
    parts = [sitk.JoinSeries(source) if source.GetDimension() == 2 else source]
    if source.GetDimension() == 4:
        parts = [source[:, :, :, index] for index in range(source.GetSize()[3])]
    image = with_channels(np.stack([sitk.GetArrayFromImage(part) for part in parts]), len(facts["channels"]), path)
    grid, seen, spacing = parts[0], parts[0], facts["spacing"]
    if spacing["resample_to_it"] and not np.allclose(grid.GetSpacing()[::-1], spacing["voxel"], rtol=1e-3, atol=0):
        seen = resampled_grid(grid, spacing["voxel"][::-1])
        smooth = [
            sitk.Resample(part, seen, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True) for part in parts
        ]
        smooth = [sitk.GetArrayFromImage(part) for part in smooth]
        image = (np.rint(smooth) if image.dtype.kind in "iu" else np.stack(smooth)).astype(image.dtype)
    sideways = np.array(grid.GetDirection()).reshape(3, 3)[0, ::-1]
    labels = segment(image, network, facts, int(np.abs(sideways).argmax())).astype(np.uint8)
    if seen is not grid:
        found = sitk.GetImageFromArray(labels)
        found.CopyInformation(seen)
        found = sitk.Resample(found, grid, sitk.Transform(), sitk.sitkLabelLinear, 0.0, sitk.sitkUInt8, True)
        labels = sitk.GetArrayFromImage(found)
    mask = sitk.GetImageFromArray(mask_values(facts)[labels])
    mask.CopyInformation(grid)
    sitk.WriteImage(mask, str(target), True)


def resampled_grid(grid: Any, spacing: list[float]) -> Any:
    """An empty volume from the same border on, with voxels of another size (X Y Z, in mm)."""
    import SimpleITK as sitk

    olds = grid.GetSpacing()
    sizes = [max(1, round(n * old / new)) for n, old, new in zip(grid.GetSize(), olds, spacing, strict=True)]
    empty = sitk.Image(sizes, sitk.sitkUInt8)
    empty.SetSpacing(spacing)
    empty.SetDirection(grid.GetDirection())
    half_steps = [(new / old - 1) / 2 for old, new in zip(olds, spacing, strict=True)]
    empty.SetOrigin(grid.TransformContinuousIndexToPhysicalPoint(half_steps))
    return empty


def mask_values(facts: Facts) -> Array:
    """What stands for each class in a mask, in the smallest type."""
    values = [known["value"] for known in facts["classes"]]
    return np.array(values, np.min_scalar_type(max(values)))


def check(network: Network, facts: Facts, tolerance: float) -> bool:
    """Whether the network makes of the example what the run made of it."""
    tile, expected = (
        np.fromfile(HERE / "example" / f"{name}.bin", "<f4").reshape(facts[name]["shape"])
        for name in ("input", "output")
    )
    found = np.asarray(network(tile), np.float32).reshape(expected.shape)
    difference = float(np.abs(found - expected).max())
    equal = float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))
    print(f"largest difference of a score {difference:.2g} (at most {tolerance:g}), equal labels {equal:.3%}")
    return difference <= tolerance and equal >= 0.999


def score_tiles(folder: Path, network: Network, facts: Facts) -> None:
    """Write the scores of tiles that `unet predict --export-inputs` has written, for its `--import-outputs`."""
    shape = json.loads((folder / "index.json").read_text("utf-8"))["input"]["shape"]
    if shape != facts["input"]["shape"]:
        sys.exit(f"error: {folder}: has tiles of {shape}, but the network takes {facts['input']['shape']}")
    tiles = sorted((folder / "inputs").glob("*.bin"))
    for path in tiles:
        scores = np.asarray(network(np.fromfile(path, "<f4").reshape(shape)), "<f4")
        scores.tofile(folder / "outputs" / f"{path.stem}_0.bin")
    print(f"{len(tiles)} tile{'s' * (len(tiles) != 1)} -> {folder / 'outputs'}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path, help="TIF, PNG or JPEG; for volumes NIfTI, MHD, NRRD")
    parser.add_argument("--output", type=Path, default=Path("masks"), help="folder for the masks (masks)")
    parser.add_argument("--backend", choices=("auto", *BACKENDS), default="auto")
    parser.add_argument(
        "--model", type=Path, help="another file of the network, such as the converted model_ascend.mindir"
    )
    parser.add_argument("--device", default="ascend", help="ascend (default) or cpu, for MindSpore Lite")
    parser.add_argument(
        "--tiles", type=Path, help="a folder of `unet predict --export-inputs`, to be given its outputs"
    )
    parser.add_argument("--check", action="store_true", help="compare the example with the run's scores")
    parser.add_argument("--tolerance", type=float, help="of --check: 1e-3, or 0.02 on ascend, which has 16-bit floats")
    asked = parser.parse_args()
    if not (asked.images or asked.check or asked.tiles):
        parser.error("name images, or say --check or --tiles")
    for path in asked.images:
        if not path.is_file():
            sys.exit(f"error: {path}: no such file")
    with naming(HERE / "model.json"):
        facts: Facts = json.loads((HERE / "model.json").read_text("utf-8"))
    model = asked.model or HERE / facts["model_file"]
    backend = choose_backend(asked.backend, model)
    with naming(model):
        network = open_network(model, backend, asked.device)
    usual = 0.02 if (backend, asked.device) == ("lite", "ascend") else 1e-3
    if asked.check:
        with naming(HERE / "example"):
            agrees = check(network, facts, asked.tolerance or usual)
        if not agrees:
            sys.exit(f"error: {backend} disagrees with the run")
    if asked.tiles:
        with naming(asked.tiles):
            score_tiles(asked.tiles, network, facts)
    targets = [path.with_suffix(".png") if path.suffix.lower() in JPEG else path for path in asked.images]
    pairs = zip(asked.images, targets, strict=True)
    failed = [path for path, target in pairs if not write_mask(path, asked.output / target.name, network, facts)]
    if failed:
        sys.exit(f"error: {len(failed)} of {len(asked.images)} image{'s' * (len(asked.images) > 1)} failed")


def write_mask(path: Path, target: Path, network: Network, facts: Facts) -> bool:
    """Write the mask of an image, whole or not at all; whether that was possible."""
    part = target.with_name(f"part-{target.name}")
    try:
        with naming(path):
            if target.exists():
                raise ValueError(f"{target} already exists; name another --output")
            target.parent.mkdir(parents=True, exist_ok=True)
            (segment_pages if len(facts["tiling"]["tile_size"]) == 2 else segment_volume)(path, part, network, facts)
            part.replace(target)
    except SystemExit as told:
        part.unlink(missing_ok=True)
        print(told, file=sys.stderr)
        return False
    print(f"{path} -> {target}")
    return True


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Tell what is wrong with a file in one line that names it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of whichever library reads it
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        sys.exit(f"error: {path}: {reason}")


if __name__ == "__main__":
    main()
