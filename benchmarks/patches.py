"""Training patches a second from prepared volumes of LUNA16's size, beside reading `.nii.gz` for every patch.

    python benchmarks/patches.py [--rounds 3] [--volumes 4] [--work DIR]

Both cut 96 x 224 x 224 patches at random places and map -500 to 1000 HU to 0 to 1, with their labels, in one thread and
in turn. Ours takes them from the mapped files of `unet prepare luna16`; the other decodes image and mask with nibabel,
as a loader without a cache does.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from standin import make_tree

from unetcli.config import load_config, with_values
from unetcli.data.manifest import load_manifest, load_split
from unetcli.data.patches import PatchSampler

UNET = Path(sys.executable).parent / "unet"
PATCH = (96, 224, 224)


def main() -> None:
    """Alternate and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--work", type=Path, default=Path("bench-work"))
    arguments = parser.parse_args()
    source, dataset = make_tree(arguments.work / "luna16", arguments.volumes), arguments.work / "compressed"
    if not dataset.exists():
        subprocess.run([str(UNET), "prepare", "luna16", str(source), "-o", str(dataset), "--compress"], check=True)
    manifest = load_manifest(dataset)
    cases, _ = load_split(dataset, manifest, 0)
    config = with_values(
        load_config("luna16"),
        {"model.in_channels": 1, "model.num_classes": manifest.num_classes, "train.batch_size": 1},
    )
    sampler = PatchSampler(cases, config)
    decode = decoder(dataset)
    ratios: list[float] = []
    for number in range(1, arguments.rounds + 1):
        ours = per_second(lambda index: sampler[index], 16)
        theirs = per_second(decode, 2)
        ratios.append(ours / theirs)
        print(f"round {number}: unet {ours:.1f} patches/s, nibabel {theirs:.2f} patches/s, {ratios[-1]:.0f} times")
    spread = f"{min(ratios):.0f} to {max(ratios):.0f}"
    print(f"{statistics.median(ratios):.0f} times as many patches a second (median of {len(ratios)}, {spread})")


def decoder(dataset: Path) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """A loader that opens a pair of `.nii.gz` for every patch."""
    images = sorted((dataset / "train" / "images").glob("*.nii.gz"))
    masks = sorted((dataset / "train" / "seg").glob("*.nii.gz"))
    rng = np.random.default_rng(1)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = (np.asarray(nib.load(paths[index % len(paths)]).dataobj) for paths in (images, masks))
        starts = [int(rng.integers(whole - size + 1)) for whole, size in zip(image.shape, PATCH[::-1], strict=True)]
        place = tuple(slice(start, start + size) for start, size in zip(starts, PATCH[::-1], strict=True))
        patch = ((image[place].astype(np.float32) + 500) / 1500).clip(0, 1)
        return patch, mask[place].astype(np.int32)

    return load


def per_second(make: Callable[[int], object], count: int) -> float:
    """Patches a second over `count` of them."""
    started = time.perf_counter()
    for index in range(count):
        make(index)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
