"""What a container allows its processes: the limits of control groups, version 1 and 2.

Sources: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. A limit holds for all groups below its
own, so the least on the way up counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60
"""Version 1 writes a number near 2**63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the control groups of this process allow.

    Attributes:
        cores: Processors' worth of time; None if there is no limit.
        memory_bytes: Most memory; None if there is no limit.
        memory_used: Of the group with that limit, without what the kernel can drop at once.
    """

    cores: float | None = None
    memory_bytes: int | None = None
    memory_used: int = 0


def read_limits(root: Path = Path("/")) -> Limits:
    """The limits of this process; none on systems without control groups.

    Args:
        root: Where `proc` and `sys` are.
    """
    cores = [found for folder in _groups(root, "cpu") if (found := _cores(folder)) is not None]
    memory = [found for folder in _groups(root, "memory") if (found := _memory(folder)) is not None]
    least = min(memory, default=None)
    return Limits(
        cores=min(cores, default=None),
        memory_bytes=least[0] if least else None,
        memory_used=least[1] if least else 0,
    )


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups that may limit it by `controller`, the innermost first."""
    mounts = root / "sys/fs/cgroup"
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for mount in (mounts / controllers, mounts / controller) if controllers else (mounts, mounts / "unified"):
            # inside a container the path may be that of the host, of which only the mount is seen
            group = mount / path.lstrip("/")
            yield from (place for place in (group, *group.parents) if place.is_relative_to(mount) and place.is_dir())


def _cores(folder: Path) -> float | None:
    together = (_text(folder / "cpu.max") or "").split()
    quota, period = together if len(together) == 2 else (_text(folder / f"cpu.cfs_{name}_us") for name in _CFS)
    try:
        return int(quota or "") / int(period or "") if int(quota or "") > 0 else None
    except ValueError:  # "max", or there is no such file
        return None


_CFS = ("quota", "period")


def _memory(folder: Path) -> tuple[int, int] | None:
    """The limit of a group and what is in use of it."""
    for limit, usage, droppable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        text = _text(folder / limit)
        if text is None or not text.isdigit() or int(text) >= _UNLIMITED:
            continue
        lines = (line.split() for line in (_text(folder / "memory.stat") or "").splitlines())
        statistics = {name: int(value) for name, value in lines}
        return int(text), max(0, int(_text(folder / usage) or 0) - statistics.get(droppable, 0))
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return None
