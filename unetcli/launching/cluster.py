"""How many processes on how many machines, and the call of MindSpore's launcher that starts those of this one."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from unetcli.errors import ConfigError

LOCAL = "127.0.0.1"
PORTS = range(1024, 65536)
"""Those that msrun takes."""
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The processes of a call.

    Args:
        num_local: Processes on this machine, and on each of the others.
        num_nodes: Machines.
        node_rank: Number of this machine among them, from 0.
        master: Host and port where all meet; a free port of this machine if None, which is enough for one machine.
        is_on_cores: Whether they compute on the cores of the machine, and are to have some each.
    """

    num_local: int
    num_nodes: int = 1
    node_rank: int = 0
    master: tuple[str, int] | None = None
    is_on_cores: bool = False

    def __post_init__(self) -> None:
        if self.num_local < 1:
            raise ConfigError(f"--distribute {self.num_local}: must be at least 1")
        if self.num_nodes < 1 or not 0 <= self.node_rank < self.num_nodes:
            raise ConfigError(
                f"--nodes {self.num_nodes} --node-rank {self.node_rank}: the rank must be from 0 to nodes - 1",
                hint="start the command once on every machine, each with a rank of its own",
            )
        if self.num_nodes > 1 and self.master is None:
            raise ConfigError(
                f"--nodes {self.num_nodes}: the machines must know where to meet",
                hint="name the machine of rank 0 on all of them, as --master 192.0.2.1:8118",
            )

    @property
    def size(self) -> int:
        """Processes on all machines."""
        return self.num_local * self.num_nodes

    @property
    def num_started(self) -> int:
        """Processes that msrun starts on this machine: the workers, and on the first one the scheduler."""
        return self.num_local + (self.node_rank == 0)

    def command(self, logs: Path, master: tuple[str, int]) -> list[str]:
        """The call of the launcher, as `msrun --help` (MindSpore 2.10) describes it.

        It starts the interpreter by the name `python`, and so whatever comes first under that name. The processes find
        their arguments elsewhere, since msrun would take `--master` for the beginning of an option of its own.
        """
        host, port = master
        return [
            *(sys.executable, "-m", "mindspore.parallel.cluster.run"),  # what the script msrun calls
            f"--worker_num={self.size}",
            f"--local_worker_num={self.num_local}",
            f"--master_addr={host}",
            f"--master_port={port}",
            f"--node_rank={self.node_rank}",
            f"--log_dir={logs}",
            "--join=True",
            f"--tail_worker_log={self.size}",  # of none: the first has our terminal, the others have files
            *("python", "-m", "unetcli"),
        ]

    def environment(self, environ: Mapping[str, str], num_cores: int) -> dict[str, str]:
        """What the processes are told beside: how many threads each may have, where the user has not said."""
        return {THREADS: str(max(1, num_cores // self.num_local)), **environ}

    def parts(self, environ: Mapping[str, str], cores: Collection[int]) -> list[list[int]]:
        """The cores that each process of this machine is to keep to, side by side; none where it may use all.

        That is so where there are fewer cores than processes, or where the user has said how many threads there are.
        Without parts, the threads that MindSpore starts in each process, one a core, wait for those of the others.
        """
        if not self.is_on_cores or len(cores) < self.num_local or environ.get(THREADS):
            return []
        ends = [len(cores) * number // self.num_local for number in range(self.num_local + 1)]
        return [sorted(cores)[first:last] for first, last in pairwise(ends)]

    def meeting_point(self) -> tuple[str, int]:
        """The host and port to meet at.

        Raises:
            ConfigError: If this machine is to open the port and cannot.
        """
        if self.master is None:
            return LOCAL, free_port()
        host, port = self.master
        if self.node_rank == 0:
            try:
                with socket.create_server((host, port)):
                    pass
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigError(
                    f"--master {host}:{port}: cannot be opened on this machine: {reason}",
                    hint="name another port, or end what uses this one; on machines of other ranks add --node-rank",
                ) from error
        return host, port


def parse_master(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        ConfigError: If it is written otherwise, or the port is not one that may be used.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) not in PORTS:
        raise ConfigError(
            f"--master {text}: must be HOST:PORT with a port from {PORTS[0]} to {PORTS[-1]}", hint="such as node0:8118"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server((LOCAL, 0)) as server:
        return int(server.getsockname()[1])


def own_cores() -> set[int]:
    """Cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
