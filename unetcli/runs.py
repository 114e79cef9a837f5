"""The run folder: what lies in it, and how it is read back.

`config.yaml` has every setting, so that training from it repeats the run; `run.json` what the data was
(`RunFacts`); `metrics.jsonl` one line a step and an epoch; `last.ckpt` all that training needs to go on bit
for bit; `best.ckpt` the weights of the best validation; `init.ckpt` the first weights, where they came from
another network; `evaluation/` what `unet eval` found; `translation.json` what became of each key of a settings file
of the model zoo.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unetcli import __version__
from unetcli.config import Config, load_saved_config, save_config, with_values
from unetcli.errors import ConfigError, RunError
from unetcli.files import replacing_folder, sha256, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

RUNS = Path("runs")
LOCK_SECONDS = 5.0
"""How long to wait for a process that trains a run."""
_SCHEMA = 1


class ClassFacts(BaseModel):
    """A class of the data: its index in labels, its name, and the value it has in a mask file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    name: str
    value: int


class InitialFacts(BaseModel):
    """Where the first weights of a run came from.

    Attributes:
        path: The checkpoint.
        sha256: Its hash.
        origin: What it was, such as "unet_nested of MindSpore's model zoo".
        filters: What names parameters that were left out.
        left_out: Those parameters, which began anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    sha256: str
    origin: str
    filters: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class RunFacts(BaseModel):
    """What a run knows of its data, so that nothing else is needed to use it.

    Attributes:
        schema_version: Of this file.
        unet_version: Version that trained.
        dataset: Name of the dataset.
        kind: Source of the dataset, such as "isbi".
        dataset_path: Where it was.
        fingerprint: Hash over its cases and classes.
        classes: By index.
        channels: Names of the channels.
        mirror_pairs: For each class, the class that it becomes in a mirror, such as right for left; none if empty.
        spacing: Median size of a voxel in mm; None for images.
        is_resampled: Whether all volumes were brought to that spacing.
        has_ignored: Whether the labels may hold pixels that do not count.
        has_instances: Whether the objects of a class are told apart in images.
        num_ranks: Processes that it was begun with, whose patches together make a step.
        initial: Where its first weights came from; None if they were drawn.
        train: Ids of the cases trained on.
        validation: Ids of the cases validated on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = _SCHEMA
    unet_version: str
    dataset: str
    kind: str
    dataset_path: Path
    fingerprint: str
    classes: tuple[ClassFacts, ...]
    channels: tuple[str, ...]
    mirror_pairs: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    is_resampled: bool = False
    has_ignored: bool = False
    has_instances: bool = False
    num_ranks: int = 1
    initial: InitialFacts | None = None
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder that has been read."""

    path: Path
    config: Config
    facts: RunFacts

    @property
    def patches_per_step(self) -> int:
        """Patches of a step in all processes together, however many there are now."""
        return self.config.train.patches_per_step * self.facts.num_ranks

    @property
    def last_checkpoint(self) -> Path:
        """All that training needs to go on; not there before the first epoch has ended."""
        return self.path / "last.ckpt"

    @property
    def initial_checkpoint(self) -> Path:
        """The first weights, where they came from another network."""
        return self.path / "init.ckpt"

    def starting_point(self) -> Path | None:
        """The checkpoint that training goes on from; None where it begins with weights that are drawn.

        Raises:
            RunError: If the first weights came from another network and have gone.
        """
        if self.last_checkpoint.is_file():
            return self.last_checkpoint
        if self.facts.initial is None:
            return None
        if not self.initial_checkpoint.is_file():
            raise RunError(
                f"{self.initial_checkpoint}: is missing, though training is to begin from it",
                hint=f"train anew with --init-from {self.facts.initial.path}",
            )
        return self.initial_checkpoint

    @property
    def metrics_path(self) -> Path:
        """One JSON line a step and an epoch."""
        return self.path / "metrics.jsonl"

    def checkpoint(self, name: str) -> Path:
        """The file for 'best', 'last' or a path.

        Raises:
            RunError: If it is not there.
        """
        path = self.path / f"{name}.ckpt" if name in ("best", "last") else Path(name)
        if not path.is_file():
            raise RunError(
                f"{path}: no such checkpoint",
                hint=f"train on with: unet train --resume {self.path}" if name in ("best", "last") else "",
            )
        return path

    def kept_onnx(self, checkpoint: Path) -> Path:
        """Where the network of a checkpoint is kept for prediction without MindSpore; told apart by its content.

        The version of unet is in the name too, since another one may write the network in another way.
        """
        return self.path / "onnx" / f"{checkpoint.stem}-{sha256(checkpoint)[:16]}-{__version__}.onnx"


def new_run_path(dataset: str, preset: str | None, fold: int | None) -> Path:
    """A folder in `runs/` that is not there yet, named after what is trained: a fold, or all of them if None."""
    settings = preset or "custom"
    part = "folds" if fold is None else f"fold{fold}"
    name = f"{settings if settings.startswith(dataset) else f'{dataset}-{settings}'}-{part}"
    path, number = RUNS / name, 2
    while path.exists():
        path, number = RUNS / f"{name}-{number}", number + 1
    return path


def create_run(
    path: Path, config: Config, facts: RunFacts, *, write_initial: Callable[[Path], None] | None = None
) -> Run:
    """Write a new run folder, in place of one that is there.

    Args:
        path: The folder.
        config: Settings.
        facts: What the run is to know.
        write_initial: Writes the first weights, where they come from another network.

    Raises:
        RunError: If another process trains that one.
    """
    with locked(path) if (path / "run.json").is_file() else contextlib.nullcontext(), replacing_folder(path) as folder:
        save_config(config, folder / "config.yaml")
        write_json(folder / "run.json", facts.model_dump(mode="json"))
        if write_initial:
            write_initial(Run(folder, config, facts).initial_checkpoint)
    return Run(path, config, facts)


def open_run(path: Path | None) -> Run:
    """Read a run folder; the newest in `runs/` if none is named.

    Raises:
        RunError: If there is none, or it cannot be read.
    """
    path = path or newest_run()
    facts = _read_facts(path)
    try:
        config = load_saved_config(path / "config.yaml")
    except ConfigError as error:
        raise RunError(str(error), hint="the file was changed, or written by another version of unet") from error
    return Run(path, config, facts)


def fold_folders(path: Path) -> list[Path]:
    """The runs `fold-0`, `fold-1` and so on in a folder, by their number; none if it is no folder of folds."""
    found = [file.parent for file in path.glob("fold-*/run.json")]
    numbered = {int(number): folder for folder in found if (number := folder.name.removeprefix("fold-")).isdecimal()}
    return [numbered[number] for number in sorted(numbered)]


def _read_facts(path: Path) -> RunFacts:
    facts_path = path / "run.json"
    if not facts_path.is_file() and (folds := fold_folders(path)):
        names = ", ".join(folder.name for folder in folds)
        raise RunError(
            f"{path}: holds the runs of several folds ({names}), and one is needed",
            hint=f"name one of them, such as {folds[0]}",
        )
    if not facts_path.is_file():
        raise RunError(f"{path}: not a run folder (no run.json in it)", hint="name one that 'unet train' has made")
    try:
        return RunFacts.model_validate_json(facts_path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        reason = first["msg"]
        if first["type"] == "literal_error":
            reason = f"must be {first.get('ctx', {}).get('expected')}, found {first['input']!r}"
        raise RunError(
            f"{facts_path}: {place}{reason}",
            hint="the file was changed, or written by another version of unet",
        ) from error


def extend_run(run: Run, epochs: int) -> Run:
    """The run with more epochs in all; written into it.

    Raises:
        ConfigError: If they are fewer than it has.
    """
    config = with_epochs(run.config, epochs, run.path)
    save_config(config, run.path / "config.yaml")
    return Run(run.path, config, run.facts)


def with_epochs(config: Config, epochs: int, path: Path) -> Config:
    """The settings of what lies in `path` with more epochs in all.

    Raises:
        ConfigError: If they are fewer than it has.
    """
    if epochs < config.train.epochs:
        raise ConfigError(
            f"--epochs {epochs}: {path} already has {config.train.epochs}",
            hint="what is taken up can be given more epochs, not fewer",
        )
    return with_values(config, {"train.epochs": epochs})


@contextlib.contextmanager
def locked(path: Path, file: str = "run.json") -> Generator[None]:
    """Keep other processes from training the run in a folder, known by `file`; one that is just ending is waited for.

    Raises:
        RunError: If another one trains it.
    """
    with (path / file).open("r+") as opened:
        until = time.monotonic() + LOCK_SECONDS
        while not _lock(opened):
            if time.monotonic() > until:
                raise RunError(f"{path}: another process trains this run", hint="wait until it has ended, or end it")
            time.sleep(0.1)
        yield


def _lock(file: IO[str]) -> bool:
    """Lock a file until it is closed or the process has gone; False if another process has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(run: Run) -> None:
    """Remove what a process that was killed in the middle of a save has left in the run folder."""
    for name in ("last", "best", "metrics", "config"):
        for left in run.path.glob(f".{name}-*"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def newest_run() -> Path:
    """The run in `runs/`, or the folder of all folds, that was trained last; using an older one does not make it that.

    Raises:
        RunError: If there is none.
    """
    # a process that was killed while it made a run leaves a folder that begins with a dot
    folders = [path for path in RUNS.glob("*") if not path.name.startswith(".")]
    runs = {path: [path] if (path / "run.json").is_file() else fold_folders(path) for path in folders}
    trained = {path: max(map(_last_trained, each)) for path, each in runs.items() if each}
    if not trained:
        raise RunError(f"{RUNS}/: no runs here", hint="train one with 'unet train', or name one with --run")
    return max(trained, key=trained.__getitem__)


def _last_trained(run: Path) -> float:
    trained = [run / name for name in ("run.json", "metrics.jsonl") if (run / name).is_file()]
    return max(file.stat().st_mtime for file in trained)


class Journal:
    """Appends to `metrics.jsonl`.

    Args:
        path: The file.
        step: Lines of later steps are dropped, since they are about to be written again.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        kept = [event for event in read_metrics(path) if event["step"] <= step] if path.exists() else []
        write_text(path, "".join(json.dumps(event) + "\n" for event in kept))
        self._path = path

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Append one event; it is in the file when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All events of a `metrics.jsonl`; a last line that a killed process left unfinished is passed over."""
    lines = path.read_text("utf-8").splitlines()
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise RunError(f"{path}: line {number} is not JSON") from error
    return events
