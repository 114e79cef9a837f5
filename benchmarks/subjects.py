"""What the benchmarks of prediction predict, and with what: a volume, a stack, and a run for each.

    python benchmarks/subjects.py stack|volume|run2d|run3d PATH [--size 160 256 256]

The images are made up and always the same: smooth random structures of four tissues with noise, as a CT in Hounsfield
units of 16 bits, and dark membranes in grey of 8 bits. The runs are U-Nets that a few steps of training on them have
given weights and statistics of normalisation; beside each lies `weights.npz`, the same weights for its twin in PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from unetcli.runs import RunFacts

VOLUME_SIZE = (160, 256, 256)
STACK_SIZE = (30, 512, 512)
HOUNSFIELD = (-1000.0, 1000.0)
TISSUES = (-900, -100, 40, 400)
"""The intensity of each class of a volume."""
GREYS = (60, 150)
"""That of membranes and of what they enclose."""
SPACING = (2.0, 1.0, 1.0)
GRAIN = 16
"""Pixels between the random values that are interpolated."""
SEED = 1


def main() -> None:
    """Make one thing if it is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stack", "volume", "run2d", "run3d"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", type=int, nargs="+")
    arguments = parser.parse_args()
    path: Path = arguments.path
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if arguments.what == "volume":
        write_volume(path, tuple(arguments.size or VOLUME_SIZE))
    elif arguments.what == "stack":
        write_stack(path, tuple(arguments.size or STACK_SIZE))
    else:
        make_run(path, ndim=2 if arguments.what == "run2d" else 3)


def write_volume(path: Path, size: tuple[int, ...]) -> None:
    """A NIfTI file of `size` voxels (Z, Y, X)."""
    import nibabel as nib

    image, _ = volume(size)
    # NIfTI has X first
    nib.save(nib.Nifti1Image(image.transpose(2, 1, 0), np.diag((*SPACING[::-1], 1.0))), path)


def write_stack(path: Path, size: tuple[int, ...]) -> None:
    """A TIF file of so many pages; an image if there is one."""
    import tifffile

    image, _ = stack(size)
    tifffile.imwrite(path, image, photometric="minisblack")


def volume(size: tuple[int, ...], seed: int = SEED) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Intensities and labels `size`."""
    rng = np.random.default_rng(seed)
    field = smooth_field(size, rng)
    labels = np.digitize(field, (-0.4, 0.1, 0.5)).astype(np.int32)
    noise = rng.standard_normal(size, np.float32) * 40
    return (np.asarray(TISSUES, np.float32)[labels] + noise).round().astype(np.int16), labels


def stack(size: tuple[int, ...], seed: int = SEED) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Intensities and labels `size`; class 0 is membrane."""
    rng = np.random.default_rng(seed)
    labels = (np.abs(smooth_field(size, rng)) > 0.12).astype(np.int32)
    noise = rng.standard_normal(size, np.float32) * 15
    return (np.asarray(GREYS, np.float32)[labels] + noise).clip(0, 255).round().astype(np.uint8), labels


def smooth_field(size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random values on a coarse grid, interpolated linearly along each axis."""
    field = rng.standard_normal([length // GRAIN + 2 for length in size], np.float32)
    for axis, length in enumerate(size):
        place = np.arange(length) / GRAIN
        before = place.astype(int)
        share = (place - before).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(size))])
        field = field.take(before, axis) * (1 - share) + field.take(before + 1, axis) * share
    return field


class Lessons:
    """Training batches of made-up images, as the engine wants them: the same for the same step."""

    steps_per_epoch = 100

    def __init__(self, ndim: int, low: float, high: float) -> None:
        self.ndim = ndim
        self.low, self.high = low, high

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Two patches of a step."""
        size, make = ((2, 128, 128), stack) if self.ndim == 2 else ((2 * 32, 32, 32), volume)
        image, labels = make(size, seed=1000 + step)
        shape = (2, 128, 128) if self.ndim == 2 else (2, 32, 32, 32)
        scaled = (image.astype(np.float32) - self.low) / (self.high - self.low) * 2 - 1
        return scaled.clip(-1, 1).reshape(2, 1, *shape[1:]), labels.reshape(shape)


def make_run(path: Path, ndim: int) -> None:
    """A run folder of a network with 16 channels at its first level, trained for a few steps."""
    from unetcli.framework import prepare_process

    prepare_process()
    from unetcli.config import load_config
    from unetcli.engine import Engine, Runtime
    from unetcli.engine.checkpoint import read_checkpoint
    from unetcli.files import replacing_folder
    from unetcli.runs import create_run

    preset, low, high = ("isbi", 0.0, 255.0) if ndim == 2 else ("volume", *HOUNSFIELD)
    options = {
        "model.in_channels": 1,
        "model.num_classes": 2 if ndim == 2 else len(TISSUES),
        "model.deep_supervision": False,
        "data.patch_size": [256, 256] if ndim == 2 else [64, 64, 64],
        "data.normalization": "range",
        "data.lower": low,
        "data.upper": high,
        "inference.tile_size": "auto",
        "schedule.warmup_steps": 5,
        "train.epochs": 1,
        "train.batch_size": 2,
    }
    config = load_config(preset, options=options)
    with replacing_folder(path) as folder:
        run = create_run(folder / "run", config, facts_of(config.model.num_classes or 0, ndim))
        engine = Engine.start(config, Runtime("CPU"))
        engine.fit(Lessons(ndim, low, high), lambda: {"mean_iou": 0.0}, lambda _: None, run.path)
        run.last_checkpoint.unlink()
        tensors, _ = read_checkpoint(run.checkpoint("best"))
        np.savez(folder / "weights.npz", **{name: tensor.asnumpy() for name, tensor in tensors.items()})
        tile, labels = Lessons(ndim, low, high)[SEED]
        scores = engine.predict(tile)
        print(f"trained to find {np.mean(scores.argmax(1) == labels):.1%} of the labels")
        check_twin(folder / "weights.npz", tile, scores)


def check_twin(weights: Path, tile: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    """Raise if the network in PyTorch does not give these scores of a tile."""
    import torch
    from twin import Twin

    with torch.inference_mode():
        found = Twin.load(weights, channels_last=False)(torch.from_numpy(tile)).softmax(1).numpy()
    np.testing.assert_allclose(found, scores, atol=1e-4)


def facts_of(num_classes: int, ndim: int) -> RunFacts:
    """What a run tells of its data."""
    from unetcli.runs import ClassFacts, RunFacts

    return RunFacts(
        unet_version="0",
        dataset="made-up",
        kind="folder",
        dataset_path=Path("made-up"),
        fingerprint="0",
        classes=tuple(ClassFacts(index=i, name=f"class {i}", value=i) for i in range(num_classes)),
        channels=("intensity",),
        spacing=SPACING if ndim == 3 else None,
        train=("made-up",),
        validation=("made-up",),
    )


if __name__ == "__main__":
    main()
