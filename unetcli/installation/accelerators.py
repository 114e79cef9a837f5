"""What there is of Ascend and of NVIDIA cards on this machine: cards, drivers, software; whether MindSpore gets there.

Sources: an Ascend driver makes `/dev/davinci_manager` and `/dev/davinciN`, NVIDIA's `/dev/nvidiactl` and
`/dev/nvidiaN`; the vendors' numbers are those of the PCI ID Repository; CANN's `set_env.sh` sets `ASCEND_HOME_PATH`, in
which MindSpore 2.10 reads `compiler/version.info` (its run_check/_check_version.py).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unetcli.installation.findings import Finding, Status

Accelerator = Literal["Ascend", "GPU"]

_VENDORS = {"Ascend": "0x19e5", "GPU": "0x10de"}
_CLASSES = {"Ascend": ("0x12",), "GPU": ("0x0300", "0x0302")}
"""Of PCI: processing accelerators; display and 3D controllers."""
_MANAGERS = {"Ascend": "davinci_manager", "GPU": "nvidiactl"}
_NODES = {"Ascend": r"davinci\d+", "GPU": r"nvidia\d+"}
_TOOLS = {"Ascend": "npu-smi", "GPU": "nvidia-smi"}
_TOOL_PLACES = ("usr/local/sbin", "usr/local/bin", "usr/bin", "usr/sbin")
_PLUGINS = {"Ascend": "libmindspore_ascend.so*", "GPU": "libmindspore_gpu.so*"}
_CANN_PLACES = ("usr/local/Ascend/ascend-toolkit", "usr/local/Ascend/cann", "usr/local/Ascend/nnae")
_ENVIRONMENT_OF_CANN = "ASCEND_HOME_PATH"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look.

    Args:
        root: Where `dev`, `sys`, `usr` and the rest are.
        environ: The environment variables.
        mindspore: Folder of the MindSpore package; None where there is none.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    mindspore: Path | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """What there is of a kind of accelerator.

    Attributes:
        device: Which kind.
        num_cards: Cards that the machine's bus shows.
        has_driver: Whether its driver is loaded, and open to this system or container.
        nodes: Files in `/dev` by which the cards are reached.
        closed: Those of them that this user may not open.
        tool: The vendor's program that shows the cards.
        software: Folder of CANN, as its environment names it, or else where it is usually installed.
        version: Of that software.
        is_sourced: Whether the environment names the software.
        stale: What the environment names as that folder though it is not there.
        script: What sets that environment.
        plugins: What this MindSpore has for such devices.
    """

    device: Accelerator
    num_cards: int = 0
    has_driver: bool = False
    nodes: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    tool: str | None = None
    software: str | None = None
    version: str | None = None
    is_sourced: bool = False
    stale: str | None = None
    script: str | None = None
    plugins: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether anything shows that such a device should be there."""
        return bool(self.num_cards or self.has_driver or self.tool or self.software or self.stale)

    def describe(self) -> str:
        """What was found, in words."""
        if not self.is_any:
            return "no card, no driver and no software"
        cards = f"{self.num_cards} on the bus" if self.num_cards else "none on the bus"
        nodes = f"loaded, {len(self.nodes)} in /dev" if self.has_driver else "not loaded here"
        closed = f", {len(self.closed)} of them closed to this user" if self.closed else ""
        parts = [f"cards: {cards}", f"driver: {nodes}{closed}", f"{_TOOLS[self.device]}: {self.tool or 'not found'}"]
        if self.device == "Ascend":
            version = f" {self.version}" if self.version else ""
            where = f"{version} in {self.software}" if self.software else " not found"
            sourced = "" if self.is_sourced or not self.software else ", whose environment is not set"
            stale = f", though {_ENVIRONMENT_OF_CANN} names {self.stale}" if self.stale and not self.software else ""
            parts.append(f"CANN:{where}{sourced}{stale}")
        return "; ".join(parts)

    def facts(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "num_cards": self.num_cards,
            "has_driver": self.has_driver,
            "nodes": list(self.nodes),
            "closed_nodes": list(self.closed),
            "tool": self.tool,
            "software": self.software,
            "version": self.version,
            "is_sourced": self.is_sourced,
            "stale": self.stale,
            "plugins": list(self.plugins),
        }

    def next_step(self) -> str:
        """What to do where MindSpore does not reach such a device: what is missing first."""
        return _of_ascend(self) if self.device == "Ascend" else _of_gpu(self)


def look_for(device: Accelerator, place: Place) -> Signs:
    """What there is of a kind of accelerator; reads a few small files and starts nothing."""
    folder = place.root / "dev"
    names = sorted(_listed(folder))
    nodes = tuple(f"/dev/{name}" for name in names if re.fullmatch(_NODES[device], name))
    closed = tuple(node for node in nodes if not os.access(folder / Path(node).name, os.R_OK | os.W_OK))
    plugins = place.mindspore / "lib" / "plugin" if place.mindspore else None
    software, script, is_sourced = _cann(place) if device == "Ascend" else (None, None, False)
    named = place.environ.get(_ENVIRONMENT_OF_CANN) if device == "Ascend" and not is_sourced else None
    return Signs(
        device=device,
        num_cards=_cards(device, place.root),
        has_driver=_MANAGERS[device] in names,
        nodes=nodes,
        closed=closed,
        tool=_tool(_TOOLS[device], place),
        software=str(software) if software else None,
        version=_cann_version(software) if software else None,
        is_sourced=is_sourced,
        stale=named,
        script=str(script) if script else None,
        plugins=tuple(sorted(path.name for path in plugins.glob(_PLUGINS[device]))) if plugins else (),
    )


def check_accelerator(
    signs: Signs, *, is_reached: bool, is_wanted: bool, reason: str = "", fitting: Sequence[str] = ()
) -> Finding:
    """Whether MindSpore gets to an accelerator that is there, or that is asked for.

    Args:
        signs: What there is of it.
        is_reached: Whether MindSpore gets there.
        is_wanted: Whether it is asked for by name.
        reason: Why MindSpore could not load its part for it, in its own words.
        fitting: Versions of CANN that this MindSpore names as fitting; any if empty.
    """
    facts = signs.facts() | {"is_reached": is_reached, "reason": reason or None, "fitting_versions": list(fitting)}
    name = signs.device.lower()
    if is_reached:
        found = f"MindSpore reaches it; {signs.describe()}"
        if signs.version and fitting and ".".join(signs.version.split(".")[:2]) not in fitting:
            found += f"; this MindSpore names CANN {', '.join(fitting)} as fitting"
            return Finding(name, "warning", found, f"install CANN {fitting[-1]}, or a MindSpore for this CANN", facts)
        return Finding(name, "ok", found, facts=facts)
    if not signs.is_any and not is_wanted:
        return Finding(name, "ok", signs.describe(), facts=facts)
    status: Status = "problem" if is_wanted else "warning"
    told = f"; MindSpore says: {reason}" if reason and signs.is_any else ""
    return Finding(name, status, f"MindSpore does not reach it; {signs.describe()}{told}", signs.next_step(), facts)


def reason_for(device: Accelerator, told: str) -> str:
    """What MindSpore says of its part for a device, out of all that it says of parts it could not load; one line."""
    part = _PLUGINS[device].partition(".")[0]
    lines = [line.strip().removeprefix("Load dynamic library: ") for line in told.splitlines() if part in line]
    return lines[0] if lines else ""


def _of_ascend(signs: Signs) -> str:
    where = signs.version or f"in {signs.software}"
    steps = (
        (
            not signs.is_any,
            "no Ascend shows on this machine; on one that has it, 'npu-smi info' lists it, and CANN's set_env.sh must "
            "be sourced",
        ),
        (
            not signs.plugins,
            "install a MindSpore with a part for Ascend: its wheels for Linux have one, those for other systems do not",
        ),
        (
            not signs.has_driver,
            "install Ascend's driver and firmware, which 'npu-smi info' then shows; a container is started with "
            "--device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm --device /dev/hisi_hdc, and "
            "with /usr/local/Ascend/driver mounted",
        ),
        (
            bool(signs.closed),
            f"join the group that owns {signs.closed[0] if signs.closed else ''}: sudo usermod -aG HwHiAiUser $USER, "
            "and log in again",
        ),
        (
            signs.software is None,
            "install CANN (toolkit and kernels), and source its set_env.sh; 'npu-smi info' shows the driver",
        ),
        (not signs.is_sourced, f"source {signs.script or f'{signs.software}/set_env.sh'}"),
        (True, f"check the cards with 'npu-smi info', and that CANN {where} is one that this MindSpore is made for"),
    )
    return next(text for applies, text in steps if applies)


def _of_gpu(signs: Signs) -> str:
    versions = " and ".join(sorted(name.partition(".so.")[2] for name in signs.plugins if ".so." in name))
    steps = (
        (
            not signs.is_any,
            "no NVIDIA card shows on this machine; on one that has it, 'nvidia-smi' lists it",
        ),
        (
            not signs.plugins,
            "install a MindSpore with a part for GPU: its wheels for Linux have one, those for other systems do not",
        ),
        (
            not signs.has_driver,
            "install NVIDIA's driver, which 'nvidia-smi' then shows; a container is started with --gpus all",
        ),
        (
            True,
            f"check the cards with 'nvidia-smi'; this MindSpore is made for CUDA {versions}, whose libraries, and "
            "cuDNN 8, must be on LD_LIBRARY_PATH",
        ),
    )
    return next(text for applies, text in steps if applies)


def _cards(device: Accelerator, root: Path) -> int:
    folders = root / "sys/bus/pci/devices"
    return sum(
        _read(folders / name / "vendor") == _VENDORS[device]
        and _read(folders / name / "class").startswith(_CLASSES[device])
        for name in _listed(folders)
    )


def _tool(name: str, place: Place) -> str | None:
    usual = os.pathsep.join(str(place.root / folder) for folder in _TOOL_PLACES)
    return shutil.which(name, path=os.pathsep.join(filter(None, (place.environ.get("PATH"), usual))))


def _cann(place: Place) -> tuple[Path | None, Path | None, bool]:
    """The folder of CANN, the script that sets its environment, and whether that is set."""
    home = place.environ.get(_ENVIRONMENT_OF_CANN)
    if home and Path(home).is_dir():
        return Path(home), None, True
    own = Path(place.environ["HOME"]) / "Ascend" if place.environ.get("HOME") else None
    places = [place.root / folder for folder in _CANN_PLACES]
    places += [own / Path(folder).name for folder in _CANN_PLACES] if own else []
    for folder in places:
        if folder.is_dir():
            script = folder / "set_env.sh"
            latest = folder / "latest"
            return latest if latest.is_dir() else folder, script if script.is_file() else None, False
    return None, None, False


def _cann_version(software: Path) -> str | None:
    """As MindSpore reads it."""
    lines = _read(software / "compiler" / "version.info").splitlines()
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("Version=")), None)


def _listed(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
