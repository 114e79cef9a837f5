"""Is a training in several processes lost, hung or changed by kills? Part of `make accuracy`.

    python benchmarks/kills.py [--kills 200] [--seed 1] [--work DIR]

Trains a tiny network on the sample data in two processes, with dropout and all augmentation, once without disturbance.
Then it trains the same again and again, and sends SIGKILL at random moments to one of the processes that take part,
the launcher among them; after each the command must end within 30 s with no process left, and `--resume` goes on. A run
that has come to its end must have the weights of the undisturbed one, bit for bit. It stops at the first that has not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

UNET = Path(sys.executable).parent / "unet"
SAMPLE = Path(__file__).parents[1] / "sample_data" / "isbi"
SECONDS = 30
"""In which all must have ended after a kill."""
SETTINGS = """
model: {base_channels: 4, depth: 3, dropout: 0.3}
data: {patch_size: [64, 64]}
train: {steps_per_epoch: 6, epochs: 10, batch_size: 2, validate_every: 5}
augmentation: {affine_probability: 0.9, elastic_probability: 0.9, intensity_probability: 0.9}
"""


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="unet-kills-"))
    work.mkdir(parents=True, exist_ok=True)
    (work / "settings.yaml").write_text(SETTINGS, "utf-8")
    subprocess.run([UNET, "prepare", "isbi", SAMPLE, "--output", work / "data", "--overwrite"], check=True)
    begun = time.monotonic()
    subprocess.run(new_run(work, "straight"), check=True)
    longest = time.monotonic() - begun
    expected = weights(work / "straight")
    rng = np.random.default_rng(arguments.seed)
    kills = ends = 0
    slowest = 0.0
    while kills < arguments.kills:
        run = work / "disturbed"
        shutil.rmtree(run, ignore_errors=True)
        command = new_run(work, run.name)
        while (ended := attempt(command, work, rng, longest)) is not None:
            kills += 1
            slowest = max(slowest, ended)
            print(f"{kills} kills, {ends} runs to the end, slowest end {slowest:.1f} s", flush=True)
            if (run / "config.yaml").exists():
                command = [UNET, "train", "--resume", run, "--distribute", "2"]
        ends += 1
        found = weights(run)
        differing = [name for name in expected if not np.array_equal(expected[name], found[name])]
        if differing or expected.keys() != found.keys():
            raise SystemExit(f"after {kills} kills the weights differ: {', '.join(differing[:5])}")
    print(f"{kills} kills: none lost, none hung, {ends} runs to the end, all with the same weights", flush=True)


def new_run(work: Path, name: str) -> list[str | Path]:
    """The call that begins a run."""
    places = [work / "data", "--config", work / "settings.yaml", "--output", work / name]
    return [UNET, "train", *places, "--distribute", "2"]


def attempt(command: list[str | Path], work: Path, rng: np.random.Generator, longest: float) -> float | None:
    """Start it and kill one of its processes; how long the others took to end. None if it has come to its end."""
    with (work / "output.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            code = process.wait(rng.uniform(0, longest))
        except subprocess.TimeoutExpired:
            code = None
        if code is not None:
            if code:
                raise SystemExit(f"left with code {code} by itself; see {work / 'output.log'}")
            return None
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        victim = family[rng.integers(len(family))]
        killed = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"hung after {victim} was killed; see {work / 'output.log'}") from None
        if code == 0:
            return None
        left = [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
        _, left = psutil.wait_procs(left, timeout=SECONDS)
        if left:
            raise SystemExit(f"still there {SECONDS} s after {victim} was killed: {left}")
        return time.monotonic() - killed


def weights(run: Path) -> dict[str, NDArray[Any]]:
    """All that the last checkpoint of a run holds."""
    os.environ.setdefault("GLOG_v", "3")
    import mindspore

    tensors = mindspore.load_checkpoint(str(run / "last.ckpt"))
    return {name: tensor.asnumpy() for name, tensor in tensors.items() if isinstance(tensor, mindspore.Tensor)}


if __name__ == "__main__":
    main()
