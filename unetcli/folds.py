"""The folder of the runs of all folds: what lies in it, and how it is read back.

`folds.json` names the runs and the data (`FoldsFacts`); `config.yaml` has the settings that all of them share;
`fold-0`, `fold-1` and so on are ordinary runs; `summary.json` and `summary.csv` are what was found so far.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unetcli.config import Config, load_saved_config, save_config
from unetcli.errors import ConfigError, RunError
from unetcli.files import replacing_folder, sha256, write_json, write_text
from unetcli.runs import locked, with_epochs

FOLDS_FILE = "folds.json"
SUMMARY_FILE = "summary.json"
SETTINGS_FILE = "config.yaml"
ENDED = ("finished", "stopped early")
"""Outcomes of a training after which there is no more of it."""

Result = Mapping[str, Any]
"""What is known of a fold: `training` and `asked_epochs`, what `unet train` said of its end and how many epochs were
wanted; `weights`, the hash of those that were measured; `evaluation`, what `unet eval` said."""


class FoldsFacts(BaseModel):
    """What was trained on, and where the runs are.

    Attributes:
        schema_version: Of this file.
        unet_version: Version that began it.
        dataset: Name of the dataset.
        dataset_path: Where it was.
        fingerprint: Hash over its cases and classes.
        settings: File of the settings, in the same folder.
        runs: Folders of the runs, in the order of the folds.
        init_from: Checkpoint that every run takes its first weights from; None where they are drawn.
        filter_weights: Parameters with one of these in their names begin anew all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    unet_version: str
    dataset: str
    dataset_path: Path
    fingerprint: str
    settings: str = SETTINGS_FILE
    runs: tuple[str, ...]
    init_from: Path | None = None
    filter_weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Folds:
    """A folder of folds that has been read."""

    path: Path
    config: Config
    facts: FoldsFacts

    @property
    def settings_path(self) -> Path:
        """The settings that the folds share."""
        return self.path / SETTINGS_FILE

    def results(self) -> dict[str, Result]:
        """What is known of each fold, by the name of its run.

        Raises:
            RunError: If the summary cannot be read.
        """
        path = self.path / SUMMARY_FILE
        if not path.is_file():
            return {}
        try:
            return json.loads(path.read_text("utf-8"))["folds"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path}: is not what unet has written", hint="remove it; what it told is then measured again"
            ) from error

    def is_done(self, name: str, result: Result | None) -> bool:
        """Whether a fold is trained to its end, and its best weights are those that were measured."""
        return (
            result is not None
            and (result.get("training") or {}).get("outcome") in ENDED
            and result.get("asked_epochs") == self.config.train.epochs
            and self.is_measured(name, result)
        )

    def is_measured(self, name: str, result: Result | None) -> bool:
        """Whether the best weights of a fold are those that were measured."""
        return result is not None and "evaluation" in result and result.get("weights") == self.weights(name)

    def weights(self, name: str) -> str | None:
        """The hash of the best weights of a fold; None if there are none yet."""
        path = self.path / name / "best.ckpt"
        return sha256(path) if path.is_file() else None

    def keep(self, results: Mapping[str, Result], measures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Write what is known of the folds, and of each measure over them; returns it as in the file."""
        summary: dict[str, Any] = {
            "num_folds": len(self.facts.runs),
            "num_measured": sum("evaluation" in result for result in results.values()),
            "measures": measures,
            "folds": {name: results[name] for name in self.facts.runs if name in results},
        }
        write_json(self.path / SUMMARY_FILE, summary)
        write_text(self.path / "summary.csv", _rows(self.facts.runs, measures))
        return summary

    @contextlib.contextmanager
    def training(self) -> Generator[None]:
        """Keep others from training these folds, and remove what a process that was killed has left.

        Raises:
            RunError: If another process trains them.
        """
        with locked(self.path, FOLDS_FILE):
            for left in self.path.glob(".*-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield


def is_folds(path: Path) -> bool:
    """Whether a folder holds the runs of all folds."""
    return (path / FOLDS_FILE).is_file()


def fold_names(number: int) -> tuple[str, ...]:
    """Folders of the runs of so many folds."""
    return tuple(f"fold-{fold}" for fold in range(number))


def create_folds(path: Path, config: Config, facts: FoldsFacts) -> Folds:
    """Write a new folder of folds, in place of one that is there.

    Raises:
        RunError: If another process trains that one.
    """
    with (
        locked(path, FOLDS_FILE) if is_folds(path) else contextlib.nullcontext(),
        replacing_folder(path) as folder,
    ):
        save_config(config, folder / SETTINGS_FILE)
        write_json(folder / FOLDS_FILE, facts.model_dump(mode="json"))
    return Folds(path, config, facts)


def open_folds(path: Path) -> Folds:
    """Read a folder of folds.

    Raises:
        RunError: If it is none, or cannot be read.
    """
    hint = "the file was changed, or written by another version of unet"
    facts_path = path / FOLDS_FILE
    try:
        facts = FoldsFacts.model_validate_json(facts_path.read_bytes())
        config = load_saved_config(path / facts.settings)
    except OSError as error:
        raise RunError(f"{facts_path}: cannot be read ({error.strerror})", hint="name what --fold all made") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise RunError(f"{facts_path}: {place}{first['msg']}", hint=hint) from error
    except ConfigError as error:
        raise RunError(str(error), hint=hint) from error
    return Folds(path, config, facts)


def extend_folds(folds: Folds, epochs: int) -> Folds:
    """The folds with more epochs in all; written into their folder.

    Raises:
        ConfigError: If they are fewer than they have.
    """
    config = with_epochs(folds.config, epochs, folds.path)
    save_config(config, folds.settings_path)
    return Folds(folds.path, config, folds.facts)


def _rows(runs: Sequence[str], measures: Mapping[str, Mapping[str, Any]]) -> str:
    """The measures as a table: mean, deviation and every fold."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["measure", "mean", "sd", "num_folds", *runs])
    for name, of in measures.items():
        writer.writerow([name, of["mean"], of["sd"], of["num_folds"], *(of["folds"].get(run) for run in runs)])
    return text.getvalue()
