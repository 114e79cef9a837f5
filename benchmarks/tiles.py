"""What the largest tiles score beside tiles of the size of training patches that overlap by half.

    python benchmarks/tiles.py RUN ... [--chest DATA]

Every run is measured on its validation cases by `unet eval --tile auto` and `--tile patch --overlap 0.5`, in one table.
`--chest` first makes a run of the one chest CT of the development data, whose folder is DATA: the left half of the scan
trains a small network for a few minutes and the right half validates it, so the score is no measure of a lung model.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from accuracy import WORK, timed

TILES = {"auto": ("--tile", "auto"), "patch": ("--tile", "patch", "--overlap", "0.5")}
CHEST = (
    "model.base_channels=12",
    "model.depth=3",
    "data.patch_size=[32,32,32]",
    "data.normalization=range",
    "data.lower=-1000",
    "data.upper=400",
    "train.epochs=6",
    "train.steps_per_epoch=50",
    "train.epoch_unit=pixels",
)


def main() -> None:
    """Measure every run with both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--chest", type=Path)
    arguments = parser.parse_args()
    runs = [*arguments.runs, *([chest_run(arguments.chest)] if arguments.chest else [])]
    print(time.strftime("%Y-%m-%d"))
    print("| run | class | Dice, auto | Dice, patch | difference | seconds, auto | seconds, patch |")
    print("|---|---|---|---|---|---|---|")
    for run in runs:
        measured = {name: timed("eval", "--run", run, *options) for name, options in TILES.items()}
        seconds = " | ".join(f"{taken:.1f}" for taken, _ in measured.values())
        scores = {name: dice(report) for name, (_, report) in measured.items()}
        for label in scores["auto"]:
            auto, patch = scores["auto"][label], scores["patch"][label]
            print(f"| {run.name} | {label} | {auto:.4f} | {patch:.4f} | {auto - patch:+.4f} | {seconds} |", flush=True)


def dice(report: dict[str, Any]) -> dict[str, float]:
    """Of each class: the mean over volumes, or that of all pixels of images."""
    if "statistics" in report:
        return {name: values["dice"]["mean"] for name, values in report["statistics"].items()}
    return {name: values["dice"] for name, values in report["classes"].items()}


def chest_run(data: Path) -> Path:
    """A run that has learned the lungs from one half of a scan."""
    import nibabel
    import numpy as np
    import SimpleITK as sitk

    source, dataset, run = WORK / "chest", WORK / "chest-data", WORK / "chest-run"
    if run.exists():
        return run
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "ct_chest" / "images" / "cip_ct64.mhd")))
    mask_path = next((data / "ct_chest" / "seg-lungs").glob("*.mhd"))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(mask_path)))
    shutil.rmtree(source, ignore_errors=True)
    for folder, array in (("images", image), ("labels", np.isin(mask, (3, 4)).astype(np.uint8))):
        (source / folder).mkdir(parents=True)
        for half, columns in (("left", slice(0, 32)), ("right", slice(32, 64))):
            volume = nibabel.Nifti1Image(array.T[columns], np.diag([4.17, 4.17, 3.99, 1.0]))
            nibabel.save(volume, source / folder / f"{half}.nii")
    timed("prepare", "folder", source, "-o", dataset, "--folds", "2", "--label", "1=lung", "--overwrite")
    settings = [part for text in CHEST for part in ("--set", text)]
    timed("train", dataset, "--preset", "volume", "-o", run, *settings)
    return run


if __name__ == "__main__":
    main()
