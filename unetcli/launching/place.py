"""What MindSpore's launcher tells a process of its place among others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["worker", "scheduler"]
ROLES: dict[str, Role] = {"MS_WORKER": "worker", "MS_SCHED": "scheduler"}


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a process that `msrun` has started.

    Attributes:
        role: A 'worker' computes; the one 'scheduler' brings workers together.
        size: Workers in all, on all machines.
        rank: Number of a worker among them; None if it is given only when they have met.
        device: Number of a worker on its machine, which is that of its device.
    """

    role: Role
    size: int
    rank: int | None = None
    device: int = 0

    @property
    def name(self) -> str:
        """What the process is called in files."""
        return "scheduler" if self.role == "scheduler" else f"worker_{self.rank}"


def place_of(environ: Mapping[str, str]) -> Place | None:
    """The place of the process with these environment variables; None if `msrun` has not started it."""
    role = ROLES.get(environ.get("MS_ROLE", ""))
    if role is None:
        return None
    size = int(environ.get("MS_WORKER_NUM", "1"))
    if role == "scheduler":
        return Place(role, size)
    rank = environ.get("MS_NODE_ID")
    return Place(role, size, None if rank is None else int(rank), int(environ.get("DEVICE_ID", "0")))
