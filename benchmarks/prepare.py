"""`unet prepare luna16` beside a plain SimpleITK loop that reads and writes, on volumes of LUNA16's size.

    python benchmarks/prepare.py [--rounds 3] [--volumes 8] [--against .nii .nii.gz] [--work DIR]

Ours pairs, checks, maps labels, hashes, measures and draws besides converting. The plain loop only reads `.mhd` and
writes: `.nii`, which is the least work there is, and `.nii.gz`, which is what the model zoo's convert_nifti does. All
in turn, on the same files, in processes of their own. MB are those of the scans and masks as they lie in memory.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import SimpleITK as sitk
from standin import SIZE, make_tree

UNET = Path(sys.executable).parent / "unet"
VOXELS = SIZE[0] * SIZE[1] * SIZE[2]
FORMATS = (".nii", ".nii.gz")
BYTES = 2 + 1
"""Of a voxel: int16 of the scan, uint8 of the mask."""


def main() -> None:
    """Alternate and print the ratios, or be the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--against", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--work", type=Path, default=Path("bench-work"))
    parser.add_argument("--plain", choices=FORMATS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    source, target = arguments.work / "luna16", arguments.work / "out"
    if arguments.plain:
        convert(source, target, arguments.plain)
        return
    make_tree(source, arguments.volumes)
    megabytes = arguments.volumes * VOXELS * BYTES / 1e6
    speeds: dict[str, list[float]] = {name: [] for name in ("unet", *arguments.against)}
    for number in range(1, arguments.rounds + 1):
        for name, found in speeds.items():
            shutil.rmtree(target, ignore_errors=True)
            started = time.perf_counter()
            subprocess.run(command(name, source, target, arguments.work), check=True, capture_output=True)
            found.append(megabytes / (time.perf_counter() - started))
        print(
            f"round {number}: " + ", ".join(f"{name} {found[-1]:.0f} MB/s" for name, found in speeds.items()),
            flush=True,
        )
    shutil.rmtree(target, ignore_errors=True)
    for name in arguments.against:
        ratios = [ours / theirs for ours, theirs in zip(speeds["unet"], speeds[name], strict=True)]
        print(
            f"{statistics.median(ratios):.2f} times as fast as SimpleITK to {name} "
            f"(median of {len(ratios)}, {min(ratios):.2f} to {max(ratios):.2f})"
        )


def command(name: str, source: Path, target: Path, work: Path) -> list[str]:
    """The process of one of the three."""
    if name == "unet":
        return [str(UNET), "prepare", "luna16", str(source), "--output", str(target)]
    return [sys.executable, __file__, "--work", str(work), "--plain", name]


def convert(source: Path, target: Path, suffix: str) -> None:
    """The plain loop."""
    for place in ("subset9", "seg-lungs-LUNA16"):
        (target / place).mkdir(parents=True)
        for path in sorted((source / place).glob("*.mhd")):
            sitk.WriteImage(sitk.ReadImage(str(path)), str(target / place / f"{path.stem}{suffix}"))


if __name__ == "__main__":
    main()
