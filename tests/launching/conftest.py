"""A launcher in the place of MindSpore's, for processes that need no MindSpore."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from unetcli.launching import Cluster

LAUNCHER = """
import os, subprocess, sys
number, logs = int(sys.argv[1]), sys.argv[2]
running = []
for name in ("scheduler", *(f"worker_{rank}" for rank in range(number))):
    role = "MS_SCHED" if name == "scheduler" else "MS_WORKER"
    told = {"MS_ROLE": role, "MS_WORKER_NUM": str(number), "MS_NODE_ID": name[7:], "DEVICE_ID": name[7:]}
    with open(f"{logs}/{name}.log", "w") as log:
        command = ["python", f"{logs}/../program.py"]
        running.append(subprocess.Popen(command, env=os.environ | told, stdout=log, stderr=log, preexec_fn=os.setsid))
for process in running[1:] + running[:1]:
    process.wait()
"""
PROGRAM = """
import os, sys, time
from pathlib import Path
from unetcli.launching import membership, place_of
place = place_of(os.environ)
{before}
def forever():
    while True: time.sleep(0.05)
with membership() as arguments:
    if place.role == "scheduler": sys.exit()
    rank = place.rank
{code}
"""
CALL = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import FakeCluster
from unetcli.errors import RanksError
from unetcli.launching import launch, supervision
supervision.BEGINNING = 0.5
try:
    cluster = FakeCluster({number}, launcher=Path({launcher!r}), is_on_cores=True)
    code = launch(cluster, ["train", "a b"], Path({logs!r}))
except RanksError as error:
    print(f"error: {{error}}", file=sys.stderr)
    code = error.exit_code
sys.exit(code)
"""


@dataclasses.dataclass(frozen=True)
class FakeCluster(Cluster):
    """A cluster whose launcher starts Python programs."""

    launcher: Path = Path()

    def command(self, logs, master):  # noqa: ARG002 - nobody meets anybody
        return [sys.executable, str(self.launcher), str(self.num_local), str(logs)]


@dataclasses.dataclass(frozen=True)
class Launched:
    """A call of `launch` in a process of its own."""

    process: subprocess.Popen[str]
    logs: Path

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text("utf-8")

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def launched(tmp_path):
    """Starts a program, given as lines that know their `rank`, in several processes; `before` goes ahead of all."""

    def start(code: str, number: int = 2, environ: Mapping[str, str] | None = None, before: str = "") -> Launched:
        launcher = tmp_path / "launcher.py"
        launcher.write_text(LAUNCHER, "utf-8")
        lines = "\n".join(f"    {line}" for line in code.splitlines())
        (tmp_path / "program.py").write_text(PROGRAM.format(code=lines, before=before), "utf-8")
        call = CALL.format(
            tests=str(Path(__file__).parent),
            number=number,
            launcher=str(launcher),
            logs=str(tmp_path / "logs"),
        )
        process = subprocess.Popen(
            [sys.executable, "-c", call],
            cwd=tmp_path,
            env=os.environ | (environ or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        return Launched(process, tmp_path / "logs")

    return start
