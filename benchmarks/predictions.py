"""What the benchmarks of prediction share: `unet predict` and its peers as contestants on the same files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compare import Done, Rounds, comparison, of_processes, run

HERE = Path(__file__).parent
UNET = Path(sys.executable).parent / "unet"


@dataclass(frozen=True, slots=True)
class Task:
    """An image to segment, and the network to do it with.

    Args:
        work: Where all files go.
        image: A `.nii` volume or a `.tif` stack.
        run: A folder that `subjects.py` has made: a run and the same weights for PyTorch.
    """

    work: Path
    image: Path
    run: Path

    @classmethod
    def prepare(cls, work: Path, what: str, size: tuple[int, ...]) -> Task:
        """Make what is not there yet; `what` is "stack" or "volume", Z Y X its size."""
        name = "x".join(map(str, size))
        suffix, run_name = (".tif", "run2d") if what == "stack" else (".nii", "run3d")
        task = cls(work, work / f"{what}-{name}{suffix}", work / run_name)
        run(subjects(what, task.image, "--size", *map(str, size)))
        run(subjects(run_name, task.run))
        return task

    def ours(self, name: str, *options: str) -> Callable[[], Done]:
        """`unet predict` as a contestant."""
        command = predict_command(self.image, self.run / "run", self.work / "masks" / name, *options)
        return lambda: run(command)

    def peer(self, name: str, what: str, trial: dict[str, Any], *options: str) -> Callable[[], Done]:
        """A peer as a contestant, in the way that a trial has found to be the quickest."""
        folder = self.work / "masks" / name
        folder.mkdir(parents=True, exist_ok=True)
        mask = folder / (self.image.name if self.image.suffix == ".tif" else f"{self.image.name}.gz")
        files = ["--image", str(self.image), "--weights", str(self.weights), "--output", str(mask)]
        way = ["--batch", str(trial["batch"]), *(["--channels-last"] if trial["channels_last"] else [])]
        return lambda: run(peers(what, *files, *way, *options))

    def trial(self, *tile: int) -> dict[str, Any]:
        """How PyTorch is quickest on tiles of this size."""
        found = run(peers("trial", "--weights", str(self.weights), "--tile", *map(str, tile))).facts
        tried = ", ".join(f"{way} {seconds:.3f} s" for way, seconds in found["tried"].items())
        print(f"PyTorch per tile of {' x '.join(map(str, tile))}: {tried}", flush=True)
        return found

    @property
    def weights(self) -> Path:
        """For PyTorch."""
        return self.run / "weights.npz"


def predict_command(image: Path, run_folder: Path, output: Path, *options: str) -> list[str]:
    """`unet predict` of one image, over a mask that is there; the report in JSON."""
    command = [str(UNET), "predict", str(image), "--run", str(run_folder), "--output", str(output)]
    return [*command, "--overwrite", "--json", *options]


def inside(done: Done) -> float:
    """Seconds of the work itself: without the start of Python, imports and the loading of weights."""
    facts = done.facts
    return facts["done"][0]["seconds"] if "done" in facts else facts["seconds"]


def mask_of(done: Done) -> str:
    """The file that a contestant has written."""
    facts = done.facts
    return facts["done"][0]["mask"] if "done" in facts else facts["mask"]


def say_agreement(rounds: Rounds, reference: str) -> None:
    """Print the share of labels of each contestant that are the same as those of one of them."""
    masks = {name: mask_of(done[-1]) for name, done in rounds.items()}
    for name, mask in masks.items():
        if name != reference:
            facts = run(peers("agreement", "--image", masks[reference], "--output", mask)).facts
            print(f"{name}: {facts['equal']:.4%} of the labels of {reference}; {facts['classes']} classes", flush=True)


def question(name: str, rounds: Rounds, pair: tuple[str, str], peer_name: str, bar: float | None) -> dict[str, Any]:
    """The comparison of two contestants; `inside` is the ratio of the work itself, see the function."""
    ours, peer = (rounds[contestant] for contestant in pair)
    work = comparison(name, list(map(inside, ours)), list(map(inside, peer)), peer_name)
    keys = {"ours_inside": work["ours"], "peer_inside": work["peer"], "inside_ratio": work["ratio"]}
    return of_processes(name, ours, peer, peer_name, bar=bar) | keys


def memory(name: str, rounds: Rounds, pair: tuple[str, str], peer_name: str, bar: float | None) -> dict[str, Any]:
    """The comparison of the peak memory of two contestants."""
    ours, peer = ([done.peak_mb for done in rounds[contestant]] for contestant in pair)
    return comparison(name, ours, peer, peer_name, bar=bar, unit="MB")


def subjects(*arguments: str | Path) -> list[str]:
    """The command that makes an image or a run."""
    return [sys.executable, str(HERE / "subjects.py"), *map(str, arguments)]


def peers(*arguments: str) -> list[str]:
    """The command of a peer."""
    return [sys.executable, str(HERE / "peers.py"), *arguments]


def with_pytorch(*packages: str) -> str:
    """Names and versions of packages and of PyTorch, such as "MONAI 1.6.1 + PyTorch 2.13.0"."""
    return " + ".join(f"{name} {version(PACKAGES[name]).split('+')[0]}" for name in (*packages, "PyTorch"))


PACKAGES = {"MONAI": "monai", "nnU-Net": "nnunetv2", "PyTorch": "torch"}
"""What the packages are called where they are installed from."""
