"""The machine: processors and what they can, threads, memory, disks."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from unetcli.installation.findings import Finding, in_gigabytes
from unetcli.installation.limits import Limits

LITTLE_MEMORY = 3_000_000_000
"""Below this, training of the presets for a CPU may end for want of memory."""

LITTLE_DISK = 2_000_000_000
"""Below this, a run with its checkpoints, or a dataset, may not fit."""

_UNITS = {"sse4_2": "SSE4.2", "avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX", "asimd": "NEON", "sve": "SVE"}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_INSTRUCTIONS, _HELD_TO = "ONEDNN_MAX_CPU_ISA", "AVX2"
"""What `framework.hold_instructions` sets, and to what."""


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor.

    Attributes:
        model: Its name.
        num_cores: Cores of the machine, as the system counts them.
        num_usable: Those that this process may use.
        units: Of its vector units those that matter here, the oldest first.
    """

    model: str
    num_cores: int
    num_usable: int
    units: tuple[str, ...]


def read_processor(root: Path = Path("/")) -> Processor:
    """The processor of this machine.

    Args:
        root: Where `proc` is; without it the vector units are not known.
    """
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    lines = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = f"{lines.get('flags', '')} {lines.get('Features', '')}".split()
    total = os.cpu_count() or 1
    return Processor(
        model=re.sub(r"\s+", " ", lines.get("model name") or platform.processor() or platform.machine()),
        num_cores=total,
        num_usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total,
        units=tuple(name for flag, name in _UNITS.items() if flag in flags),
    )


def check_processor(processor: Processor, limits: Limits) -> Finding:
    """The processor, and how much of it this process may use."""
    facts = {
        "model": processor.model,
        "num_cores": processor.num_cores,
        "num_usable": processor.num_usable,
        "quota": limits.cores,
    }
    found = f"{processor.model}, {processor.num_usable} of {processor.num_cores} cores to use"
    if limits.cores is None or limits.cores >= processor.num_usable:
        return Finding("cpu", "ok", found, facts=facts)
    found += f", but the container has time for {limits.cores:g} only; more threads wait for each other"
    whole = max(1, int(limits.cores))
    step = f"start with the cores that the container may use: taskset --cpu-list 0-{whole - 1} unet ..."
    return Finding("cpu", "warning", found, step if whole > 1 else step.replace("0-0", "0"), facts)


def check_units(processor: Processor, environ: Mapping[str, str]) -> Finding:
    """The vector units, and which of them MindSpore is left with."""
    units, told = processor.units, environ.get(_INSTRUCTIONS)
    facts = {"units": list(units), "held_to": told or _HELD_TO, "is_held_by_user": told is not None}
    if not units:
        return Finding("vector units", "ok", f"not known ({platform.machine()})", facts=facts)
    found = ", ".join(units)
    if "NEON" in units:
        return Finding("vector units", "ok", found, facts=facts)
    if "AVX2" not in units:
        found += "; without AVX2, MindSpore takes several times as long"
        return Finding("vector units", "warning", found, "train on a processor with AVX2, or on a device", facts)
    if "AVX-512" in units and told not in (None, _HELD_TO):
        found += f"; {_INSTRUCTIONS} is {told}, with which MindSpore can take forty times as long on AVX-512"
        return Finding("vector units", "warning", found, f"unset {_INSTRUCTIONS}; unet then sets {_HELD_TO}", facts)
    if "AVX-512" in units:
        found += f"; MindSpore is held to {_HELD_TO}, with which it is fastest here, OpenVINO and ONNX Runtime use all"
    return Finding("vector units", "ok", found, facts=facts)


def check_threads(processor: Processor, environ: Mapping[str, str]) -> Finding:
    """What the environment says of threads."""
    told = {name: environ[name] for name in _THREADS if environ.get(name)}
    facts = {"variables": told}
    if not told:
        return Finding("threads", "ok", "as the libraries choose; nothing set in the environment", facts=facts)
    found = ", ".join(f"{name}={value}" for name, value in told.items())
    number = told.get("OMP_NUM_THREADS", "").split(",")[0]
    if number.isdigit() and int(number) > processor.num_usable:
        found += f", more threads than cores ({processor.num_usable})"
        return Finding("threads", "warning", found, "unset OMP_NUM_THREADS", facts)
    return Finding("threads", "ok", found, facts=facts)


def check_memory(limits: Limits, total: int | None = None, available: int | None = None) -> Finding:
    """The memory that is free, for this process as for all.

    Args:
        limits: Of the container.
        total: Bytes of the machine; asked of `psutil` if left out.
        available: Those that are free, or can be made so at once.
    """
    if total is None or available is None:
        try:
            memory = import_module("psutil").virtual_memory()
        except ImportError:
            return Finding("memory", "warning", "not known without psutil", f"{sys.executable} -m pip install psutil")
        total, available = int(memory.total), int(memory.available)
    facts = {"total_bytes": total, "available_bytes": available, "limit_bytes": limits.memory_bytes}
    found = f"{in_gigabytes(available)} of {in_gigabytes(total)} free"
    if limits.memory_bytes is not None:
        left = max(0, limits.memory_bytes - limits.memory_used)
        found += f"; the container may have {in_gigabytes(limits.memory_bytes)}, of which {in_gigabytes(left)} are free"
        available = min(available, left)
        facts["available_bytes"] = available
    if available < LITTLE_MEMORY:
        step = "make batches and patches smaller (--set train.batch_size=..), and predict with --max-memory"
        return Finding("memory", "warning", found, step, facts)
    return Finding("memory", "ok", found, facts=facts)


def check_disk(working: Path, cache: Path | None) -> Finding:
    """Whether the working folder and the cache can be written, and have room.

    Args:
        working: Where datasets and runs are made.
        cache: Where compiled graphs are kept; None for a user without a home.
    """
    found: list[str] = []
    steps: list[str] = []
    facts: dict[str, object] = {}
    for name, folder, otherwise in (
        ("working folder", working, "change into a folder of your own, or name places with --output"),
        ("cache", cache, "set XDG_CACHE_HOME to a folder of your own; without it each training compiles anew"),
    ):
        free = _free(folder) if folder else None
        is_writable = folder is not None and _can_write(folder)
        where = f"{name} {folder}" if folder else f"{name}: no home folder to put it"
        found.append(f"{where}: {'not known' if free is None else in_gigabytes(free)} free" if folder else where)
        if not is_writable:
            found[-1] += ", cannot be written"
            steps.append(otherwise)
        elif free is not None and free < LITTLE_DISK:
            steps.append(f"make room in {folder}")
        facts[name.replace(" ", "_")] = {
            "path": str(folder) if folder else None,
            "free_bytes": free,
            "is_writable": is_writable,
        }
    return Finding("disk", "warning" if steps else "ok", "; ".join(found), "; ".join(steps), facts)


def check_msrun(environ: Mapping[str, str], executable: str = sys.executable) -> Finding:
    """Whether MindSpore's launcher is there, which starts the processes of a distributed training.

    Args:
        environ: The environment variables.
        executable: The Python whose packages are used.
    """
    beside = shutil.which("msrun", path=str(Path(executable).parent))
    on_path = shutil.which("msrun", path=environ.get("PATH", ""))
    facts = {"beside_python": beside, "on_path": on_path}
    if beside is None and on_path is None:
        return Finding(
            "msrun", "warning", "not found; --distribute needs it", "install MindSpore, which brings it", facts
        )
    if beside is None:
        found = f"{on_path}, which is not of this environment ({Path(executable).parent})"
        return Finding("msrun", "warning", found, "install MindSpore into the environment of unet", facts)
    return Finding("msrun", "ok", beside, facts=facts)


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(_nearest(folder)).free
    except OSError:
        return None


def _can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or where the folder would be made; tries it, and leaves nothing."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)) as file:
            file.write(b"\0")
    except OSError:
        return False
    return True


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
