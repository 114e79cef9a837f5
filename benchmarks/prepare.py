"""`unet prepare luna16` beside a plain SimpleITK loop that reads and writes, on volumes of LUNA16's size.

    python benchmarks/prepare.py [--rounds 3] [--volumes 8] [--against .nii .nii.gz] [--json] [--work DIR]

Ours pairs, checks, maps labels, hashes, measures and draws besides converting. The plain loop only reads `.mhd` and
writes: `.nii`, which is the least work there is, and `.nii.gz`, which is what the model zoo's convert_nifti does. All
in turn, on the same files, in processes of their own. MB are those of the scans and masks as they lie in memory.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import SimpleITK as sitk
from compare import Done, alternate, comparison, parser, publish, run
from standin import SIZE, make_tree

UNET = Path(sys.executable).parent / "unet"
VOXELS = SIZE[0] * SIZE[1] * SIZE[2]
FORMATS = (".nii", ".nii.gz")
BYTES = 2 + 1
"""Of a voxel: int16 of the scan, uint8 of the mask."""


def main() -> None:
    """Alternate and print the ratios, or be the plain loop."""
    options = parser(__doc__)
    options.add_argument("--volumes", type=int, default=8)
    options.add_argument("--against", nargs="+", choices=FORMATS, default=FORMATS)
    options.add_argument("--plain", choices=FORMATS, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    source, target = arguments.work / "luna16", arguments.work / "out"
    if arguments.plain:
        convert(source, target, arguments.plain)
        return
    make_tree(source, arguments.volumes)

    def contestant(name: str) -> Callable[[], Done]:
        def start() -> Done:
            shutil.rmtree(target, ignore_errors=True)
            return run(command(name, source, target, arguments.work))

        return start

    rounds = alternate({name: contestant(name) for name in ("unet", *arguments.against)}, arguments.rounds)
    shutil.rmtree(target, ignore_errors=True)
    megabytes = arguments.volumes * VOXELS * BYTES / 1e6
    for name, done in rounds.items():
        print(f"{name}: {megabytes / statistics.median(each.seconds for each in done):.0f} MB/s")
    seconds = {name: [each.seconds for each in done] for name, done in rounds.items()}
    peer = f"SimpleITK {version('simpleitk')}"
    results = [
        comparison(
            f"prepare {arguments.volumes} volumes, loop to {name}", seconds["unet"], seconds[name], peer, bar=0.5
        )
        for name in arguments.against
    ]
    publish(results, as_json=arguments.json)


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
