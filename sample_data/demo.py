"""The main job on the sample data, in 2D and in 3D, through the command: prepare, train, eval, predict, export."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
SAMPLE, SCANS, SCAN = Path("sample_data/isbi"), Path("sample_data/luna16"), Path("sample_data/volume.nii.gz")
DEMO = Path("demo")
UNET = Path(sys.executable).parent / "unet"

DATASET, RUN, MASKS = DEMO / "dataset", DEMO / "run", DEMO / "masks"
VOLUMES, VOLUME_RUN = DEMO / "volumes", DEMO / "volume-run"
STEPS = [
    ("dataset", ["prepare", "isbi", str(SAMPLE), "--output", str(DATASET)], DATASET),
    ("trained run", ["train", str(DATASET), "--preset", "demo", "--output", str(RUN)], RUN),
    ("evaluation", ["eval", "--run", str(RUN)], RUN / "evaluation"),
    ("masks", ["predict", str(SAMPLE / "test-volume.tif"), "--run", str(RUN), "--output", str(MASKS)], MASKS),
    ("MindSpore model", ["export", "--run", str(RUN), "--format", "MINDIR"], RUN / "export" / "model.mindir"),
    ("ONNX model", ["export", "--run", str(RUN), "--format", "ONNX", "--dynamic"], RUN / "export" / "model.onnx"),
    ("dataset of volumes", ["prepare", "luna16", str(SCANS), "--output", str(VOLUMES)], VOLUMES),
    ("run on volumes", ["train", str(VOLUMES), "--preset", "demo-volume", "--output", str(VOLUME_RUN)], VOLUME_RUN),
    ("its evaluation", ["eval", "--run", str(VOLUME_RUN)], VOLUME_RUN / "evaluation"),
    ("mask of a volume", ["predict", str(SCAN), "--run", str(VOLUME_RUN), "--output", str(MASKS)], MASKS),
    ("MindSpore model", ["export", "--run", str(VOLUME_RUN), "--format", "MINDIR"], VOLUME_RUN / "export"),
]


def main() -> None:
    """Run every step, stop at the first that fails, and say what was made and where."""
    shutil.rmtree(ROOT / DEMO, ignore_errors=True)
    made = Table(title="made by the demo", title_justify="left")
    for column in ("what", "where", "command", "seconds"):
        made.add_column(column, justify="right" if column == "seconds" else "left")
    for what, arguments, place in STEPS:
        print(f"\n$ {' '.join(['unet', *arguments])}", flush=True)
        started = time.perf_counter()
        code = subprocess.run([str(UNET), *arguments], cwd=ROOT, check=False).returncode
        if code:
            sys.exit(code)
        seconds = f"{time.perf_counter() - started:.1f}"
        made.add_row(what, str(place), f"unet {arguments[0]}", seconds)
    print()
    Console(width=None if sys.stdout.isatty() else 100).print(made)


if __name__ == "__main__":
    main()
