"""The `unet` command in real processes, and how to look at what it made."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

SAMPLE = Path(__file__).parents[2] / "sample_data" / "isbi"
UNET = Path(sys.executable).parent / "unet"
OURS = {"GLOG_v", "ONEDNN_MAX_CPU_ISA"}  # set by the tests' own process; a user has not set them
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in OURS} | {"COLUMNS": "200"}
STEPS_PER_EPOCH, EPOCHS = 5, 8
SETTINGS = f"""
model: {{base_channels: 4, depth: 3, dropout: 0.3}}
data: {{patch_size: [64, 64]}}
inference: {{tile_size: [64, 64]}}
train: {{steps_per_epoch: {STEPS_PER_EPOCH}, epochs: {EPOCHS}, batch_size: 2}}
optimizer: {{learning_rate: 0.02}}
augmentation: {{affine_probability: 0.9, shear: 5, shift: 4, elastic_probability: 0.9, intensity_probability: 0.9}}
"""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a process wrote before it ended as expected."""

    out: str
    err: str


class Unet:
    """Calls the command with `folder` as its working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, code: int = 0) -> Done:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, f"unet {arguments} left with {process.returncode}:\n{out}\n{err}"
        assert "Traceback" not in err
        return Done(out, err)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [str(UNET), *(str(argument) for argument in arguments)]
        return subprocess.Popen(
            command, cwd=self.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )

    def refuses(self, *arguments: object, code: int) -> str:
        """The talk of a call that must end with `code` after one error and with nothing on standard output."""
        done = self(*arguments, code=code)
        assert done.out == ""
        assert done.err.count("error: ") + done.err.count("─ Error ─") == 1, done.err
        return done.err

    def signalled(self, *arguments: object, metrics: Path, line: int, number: int) -> Done:
        """What a call wrote that was sent a signal as soon as `metrics` had so many lines."""
        process = self.start(*arguments)
        until = time.monotonic() + 150
        while time.monotonic() < until and process.poll() is None:
            if metrics.is_file() and metrics.read_bytes().count(b"\n") >= line:
                process.send_signal(number)
                break
            time.sleep(0.002)
        out, err = process.communicate(timeout=150)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), err
        return Done(out, err)


@dataclasses.dataclass(frozen=True)
class Workshop:
    """A working folder with two datasets and two runs of different age; what the bare calls said.

    `dataset` and `run` are the newer ones. Tests may read everything here and write elsewhere.
    """

    unet: Unet
    prepared: Done
    trained: Done

    @property
    def folder(self) -> Path:
        return self.unet.folder

    @property
    def dataset(self) -> Path:
        return self.folder / "datasets" / "isbi"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "isbi-custom-fold0"


def age(folder: Path) -> None:
    """Make all files of a folder a day older."""
    for file in folder.rglob("*"):
        os.utime(file, (file.stat().st_atime - 86400, file.stat().st_mtime - 86400))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of every file in a folder, to see that nothing was changed."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def tensors(checkpoint: Path) -> dict[str, object]:
    """All that a checkpoint holds, by name, as bytes or as the text of its facts."""
    import mindspore

    loaded = mindspore.load_checkpoint(str(checkpoint))
    return {
        name: (value.asnumpy().dtype.str, value.shape, value.asnumpy().tobytes())
        if isinstance(value, mindspore.Tensor)
        else str(value)
        for name, value in loaded.items()
    }


def page_values(path: Path) -> list[NDArray[Any]]:
    with tifffile.TiffFile(path) as tif:
        return [page.asarray() for page in tif.pages]
