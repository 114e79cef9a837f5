"""Training patches a second on one core, ours beside MONAI's and batchgenerators': `make bench`.

    python benchmarks/data.py [--rounds 5] [--seconds 2] [--only 2D ...] [--json] [--work DIR]

Data: 24 images of 512 x 512 uint8 in memory; 8 volumes of 160 x 256 x 256 int16 that are maps of files, in the system's
cache after the first patches. Both have labels of three classes. Patches are 256 x 256 and 64 x 96 x 96, from anywhere.

| workload | mirrored | quarter turns | affine | elastic | each of 4 intensity changes | as the preset |
|---|---|---|---|---|---|---|
| 2D | 0.5 an axis | 0.75 | 0 | 0.5 | 0.3 | isbi |
| 2D all | 0.5 an axis | 0 | 1 | 1 | 1 | |
| 3D | 0.5 an axis | 0 | 0.3 | 0 | 0.15 | volume |
| 3D all | 0.5 an axis | 0 | 1 | 1 | 1 | |

Affine: turned up to 20 degrees about every axis and scaled by 0.8 to 1.25. Elastic: a smooth field of a few pixels.
Intensity: added brightness, contrast about the mean, gamma over the range, Gaussian noise. All begin with the stored
integers and end with float32 images from -1 to 1 and integer labels; all interpolate images linearly and take labels of
the nearest pixel. Foreground is not sought by any.

Where they differ:

- unet: `PatchSampler` as training calls it, in batches of two with their stacking. It reads what a patch shows, beyond
  the border its mirror image, and clips after the intensity changes. Elastic: 5 x 5 or 3 x 3 x 3 displacements, cubic
  between them; composed with the affine map, resampled once.
- MONAI: dictionary transforms on tensors that share memory with the data, metadata off. What is drawn with a
  probability stands in `OneOf`, since `RandAffined` and the elastic ones would resample even where nothing is drawn.
  Before something is turned, a larger part is cropped (below). Elastic in 2D: displacements 64 px apart, cubic between
  them; in 3D: noise for every voxel, smoothed by a Gaussian of 5 to 8 voxels, as in MONAI's examples; composed with the
  affine map, resampled once.
- batchgenerators: one `SpatialTransform` on float64 coordinates, SciPy's `map_coordinates`. Elastic: noise for every
  voxel, smoothed by a Gaussian of 9 to 13 voxels, as in nnU-Net 1. Turned and scaled with the probability each.
- batchgeneratorsv2: the same on torch, with `grid_sample`, as in nnU-Net 2. Elastic: noise for every voxel, smoothed by
  FFT. Turned and scaled with the probability each.

The larger part is what nnU-Net crops: the patch turned about one axis, over the least scale; beyond it the image is
mirrored (MONAI, batchgeneratorsv2 by its border mode) or repeated. Peers return patches one by one, which spares them
stacking, and do not clip.

Each runs in a process of its own, on one core, with one thread, in turn; what counts is the time of the processor, so
that other work beside it matters less, after four patches to warm up. Of the rounds' ratios the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import data_pipelines
import numpy as np
from scipy import ndimage

PEERS = {"monai": "MONAI", "batchgenerators": "batchgenerators", "batchgeneratorsv2": "batchgeneratorsv2"}
NUM_IMAGES, IMAGE = 24, (512, 512)
NUM_VOLUMES, VOLUME = 8, (160, 256, 256)


def main() -> None:
    """Alternate the four and print the ratios, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each workload in each round")
    parser.add_argument("--only", nargs="+", choices=list(data_pipelines.RECIPES), default=list(data_pipelines.RECIPES))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--json", action="store_true", help="print a line of JSON for every ratio at the end")
    parser.add_argument("--work", type=Path, default=Path("bench-work"))
    parser.add_argument("--worker", choices=["unet", *PEERS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    make_volumes(arguments.work)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("unet", *arguments.peers)}
    for number in range(1, arguments.rounds + 1):
        for name, rounds in found.items():
            rounds.append(measure(name, arguments))
            rates = ", ".join(f"{recipe} {rate:.1f}" for recipe, rate in rounds[-1].items())
            print(f"round {number}: {name} {rates} patches/s", flush=True)
    lines = [summary(recipe, peer, found) for recipe in arguments.only for peer in arguments.peers]
    for line in lines:
        spread = f"{line['low']:.2f} to {line['high']:.2f}"
        print(
            f"{line['question']}: a patch takes {line['ratio']:.2f} times as long ({spread}); "
            f"{line['ours']:.1f} and {line['peer']:.1f} patches/s"
        )
    if arguments.json:
        for line in lines:
            print(json.dumps(line))


def measure(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Patches a second of every workload, in a new process that stays on one core and in one thread."""
    command = [sys.executable, __file__, "--worker", name, "--work", str(arguments.work), "--only", *arguments.only]
    command += ["--seconds", str(arguments.seconds)]
    single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | single)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def work(arguments: argparse.Namespace) -> None:
    """Measure one pipeline on every workload."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    build: Callable[..., Callable[[], int]] = getattr(data_pipelines, arguments.worker)
    rates: dict[str, float] = {}
    for name in arguments.only:
        recipe = data_pipelines.RECIPES[name]
        pairs = images() if len(recipe.patch) == 2 else open_volumes(arguments.work)
        rates[name] = data_pipelines.per_second(build(pairs, recipe), arguments.seconds)
    print(json.dumps(rates))


def summary(recipe: str, peer: str, found: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    """The line of a workload and a peer: medians, and the ratio of our time to the peer's."""
    ours = [round_[recipe] for round_ in found["unet"]]
    theirs = [round_[recipe] for round_ in found[peer]]
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    return {
        "question": f"data {recipe} vs {PEERS[peer]}",
        "ours": round(statistics.median(ours), 2),
        "peer": round(statistics.median(theirs), 2),
        "peer_name": f"{PEERS[peer]} {version(peer)}",
        "ratio": round(statistics.median(ratios), 4),
        "low": round(min(ratios), 4),
        "high": round(max(ratios), 4),
        "rounds": len(ratios),
    }


def images() -> list[data_pipelines.Pair]:
    """The images, `(1, Y, X)` uint8, and their labels."""
    rng = np.random.default_rng(1)
    pairs: list[data_pipelines.Pair] = []
    for _ in range(NUM_IMAGES):
        field = smooth(rng, IMAGE, 16)
        image = np.clip(128 + 60 * field + rng.normal(0, 12, IMAGE), 0, 255).astype(np.uint8)
        pairs.append((image[None], classes(field)))
    return pairs


def make_volumes(folder: Path) -> None:
    """Write the volumes, `(1, Z, Y, X)` int16, and their labels, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    for number in range(NUM_VOLUMES):
        paths = [folder / f"data-{kind}{number}.npy" for kind in ("image", "labels")]
        if all(path.exists() for path in paths):
            continue
        field = smooth(rng, VOLUME, 16)
        image = 400 * field + 60 * rng.standard_normal(VOLUME, dtype=np.float32)
        np.save(paths[0], image.astype(np.int16)[None])
        np.save(paths[1], classes(field))


def open_volumes(folder: Path) -> list[data_pipelines.Pair]:
    """The volumes and their labels as maps of their files."""
    return [
        (
            np.load(folder / f"data-image{number}.npy", mmap_mode="r"),
            np.load(folder / f"data-labels{number}.npy", mmap_mode="r"),
        )
        for number in range(NUM_VOLUMES)
    ]


def smooth(rng: np.random.Generator, size: tuple[int, ...], step: int) -> np.ndarray:
    """Values of deviation about 1 that change over `step` pixels."""
    coarse = rng.standard_normal([length // step for length in size], dtype=np.float32)
    return 1.5 * ndimage.zoom(coarse, step, order=1)


def classes(field: np.ndarray) -> np.ndarray:
    """Three classes, the background more than half."""
    return ((field > 0.4).astype(np.uint8) + (field > 1.2)).astype(np.uint8)


if __name__ == "__main__":
    main()
