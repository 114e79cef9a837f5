"""The folder in which a launcher and the processes of its machine know of each other.

`launcher.json` says who the launcher is and where its terminal or its pipes are; each process leaves `NAME.json` when
it begins and `NAME.ended` when it ends by itself. A process that is gone without the latter was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "UNET_LAUNCH"
"""Names the folder to the processes."""

STREAMS = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Launcher:
    """Who has started the processes.

    Attributes:
        alive: A pipe that the launcher holds open as long as it lives.
        stdout: What its standard output can be reached by: a terminal, or a pipe.
        stderr: The same of its standard error.
        arguments: Of the command that the processes are to do.
        cores: That each worker of the machine is to keep to; none where it may use all.
    """

    alive: str
    stdout: str
    stderr: str
    arguments: list[str]
    cores: list[list[int]]


@dataclass(frozen=True, slots=True)
class Member:
    """A process that has begun.

    Attributes:
        name: Such as 'worker_0', or 'scheduler'.
        pid: Its number.
        code: What it has left with; None as long as it has not said.
    """

    name: str
    pid: int
    code: int | None = None

    @property
    def is_worker(self) -> bool:
        """Whether it computes."""
        return self.name != "scheduler"


class Exchange:
    """That folder.

    Args:
        folder: There already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write_launcher(self, launcher: Launcher) -> None:
        """Before any process is started."""
        self._write("launcher.json", asdict(launcher))

    def read_launcher(self) -> Launcher:
        """Who has started this process."""
        return Launcher(**json.loads((self.folder / "launcher.json").read_text("utf-8")))

    def begin(self, name: str) -> None:
        """Say that this process has begun."""
        self._write(f"{name}.json", {"pid": os.getpid()})

    def end(self, name: str, code: int) -> None:
        """Say that this process is about to end."""
        self._write(f"{name}.ended", {"code": code})

    def members(self) -> Iterator[Member]:
        """All that have begun."""
        for path in sorted(self.folder.glob("*.json")):
            if path.name == "launcher.json":
                continue
            ended = path.with_suffix(".ended")
            code = json.loads(ended.read_text("utf-8"))["code"] if ended.exists() else None
            yield Member(path.stem, json.loads(path.read_text("utf-8"))["pid"], code)

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        temporary = self.folder / f"{name}.new"  # which members() passes over
        temporary.write_text(json.dumps(value), "utf-8")
        temporary.replace(self.folder / name)
