"""Does every preset go the whole way? Part of `make accuracy`.

    python benchmarks/recipes.py [--only NAME ...] [--work DIR]

Each preset prepares made-up data, trains 20 steps, measures, segments, and exports an ONNX file, by the user's own
commands. What its recipe cannot do in a minute on two cores is reduced, and the table says to what: width, batch, and
size of patches, but never the kind of network, loss, optimiser or augmentation. The numbers that come out mean nothing.
Leaves with 1 if a preset fails.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from unetcli.config import Config, load_config, preset_names

UNET = Path(sys.executable).parent / "unet"
SAMPLE = Path(__file__).parents[1] / "sample_data"
STEPS = ("train.epochs=1", "train.steps_per_epoch=20")
VALID = ("model.base_channels=8", "data.patch_size=[252,252]", "train.batch_size=1")
ZOO = ("model.base_channels=8", "data.patch_size=[192,192]", "train.batch_size=2")
VOLUMES = ("data.patch_size=[32,48,48]", "model.base_channels=8")
REDUCED = {
    "cells-2024": ("model.base_channels=16", "data.patch_size=[192,192]"),
    "hippocampus": VOLUMES,
    "luna16": ("data.patch_size=[32,48,48]",),
    "paper-2015": VALID,
    "tutorial": ("model.base_channels=16", "data.patch_size=[192,192]"),
    "volume": VOLUMES,
    "zoo-coco": ("model.base_channels=8", "train.batch_size=2"),
    "zoo-nuclei": ("model.base_channels=8",),
    "zoo-unet-medical": VALID,
    "zoo-unet-nested": ZOO,
    "zoo-unet-simple": ZOO,
}
"""What is too slow or too large as it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a preset came.

    Args:
        seconds: All steps together.
        failed: The command that failed; none if empty.
    """

    seconds: float
    failed: str


def main() -> int:
    """Go through what is asked for; 1 if a preset fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=preset_names(), help="some presets")
    parser.add_argument("--work", type=Path, help="working folder; one that is removed afterwards if left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unet-recipes-") as temporary:
        work = arguments.work or Path(temporary)
        print("| preset | reduced | seconds | ok |\n|---|---|---|---|", flush=True)
        has_failed = False
        for name in arguments.only or preset_names():
            outcome = run_preset(name, work)
            reduced = ", ".join(REDUCED.get(name, ())) or "nothing"
            print(f"| {name} | {reduced} | {outcome.seconds:.0f} | {outcome.failed or 'yes'} |", flush=True)
            has_failed |= bool(outcome.failed)
    return 1 if has_failed else 0


def run_preset(name: str, work: Path) -> Outcome:
    """All steps of one preset, up to the first that fails."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    config = load_config(name)
    for step in steps_of(name, config, folder):
        print("$ unet", *step, file=sys.stderr, flush=True)
        if subprocess.run([str(UNET), *step], stdout=subprocess.DEVNULL, check=False).returncode:
            return Outcome(time.perf_counter() - begun, f"no: unet {step[0]} failed")
    return Outcome(time.perf_counter() - begun, "")


def steps_of(name: str, config: Config, folder: Path) -> list[list[str]]:
    """The commands from published files to a model file."""
    is_volume = config.model.ndim == 3
    source = ["luna16", str(SAMPLE / "luna16")] if is_volume else ["isbi", str(SAMPLE / "isbi")]
    weights = ["--weight-map"] if config.loss.model_dump().get("weight_map") else []
    image = SAMPLE / "volume.nii.gz" if is_volume else SAMPLE / "isbi" / "test-volume.tif"
    data, run = str(folder / "data"), str(folder / "run")
    settings = [text for setting in (*STEPS, *REDUCED.get(name, ())) for text in ("--set", setting)]
    return [
        ["prepare", *source, "--output", data, *weights],
        ["train", data, "--preset", name, "--output", run, *settings],
        ["eval", "--run", run],
        ["predict", str(image), "--run", run, "--output", str(folder / "masks")],
        ["export", "--run", run, "--format", "ONNX"],
    ]


if __name__ == "__main__":
    sys.exit(main())
