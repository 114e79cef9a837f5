"""Which device there is, and the context that MindSpore computes in."""

from __future__ import annotations

import functools
import os
import platform
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mindspore
from mindspore.device_context import ascend, gpu

from unetcli.errors import DeviceError
from unetcli.framework import hold_instructions

PREFERENCE = ("Ascend", "GPU", "CPU")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where to compute.

    Args:
        device: "auto" or one of `PREFERENCE`.
        graphs: Folder that keeps compiled graphs for the next process; every process compiles its own if None.
    """

    device: str = "auto"
    graphs: Path | None = None


def available_devices() -> tuple[str, ...]:
    """The devices that MindSpore can reach here, the fastest first; takes under a millisecond."""
    probes = {
        "Ascend": ascend.is_available,
        "GPU": gpu.is_available,
        "CPU": lambda: True,
    }
    return tuple(name for name in PREFERENCE if probes[name]())


def choose_device(wanted: str) -> str:
    """The device to use.

    Raises:
        DeviceError: If it is not there; says what is.
    """
    available = available_devices()
    if wanted == "auto":
        return available[0]
    if wanted not in available:
        version = metadata.version("mindspore")
        raise DeviceError(
            f"--device {wanted}: not found; MindSpore {version} on this {platform.machine()} machine "
            f"finds {', '.join(available)}",
            hint=_next_step(wanted),
        )
    return wanted


def set_up(device: str, *, seed: int) -> None:
    """Choose the device, compile whole graphs, and compute the same from the same seed."""
    hold_instructions()
    _choose_once(device)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    mindspore.set_seed(seed)
    # where a graph cannot be compiled MindSpore leaves its analysis there, by default in the working folder
    os.environ.setdefault("MS_OM_PATH", str(Path(tempfile.gettempdir()) / "unet-mindspore"))


@functools.cache
def _choose_once(device: str) -> None:
    """Both belong to the process; MindSpore does not let the device be set again, nor after its first computation."""
    if mindspore.get_current_device().device_target != device:
        mindspore.set_device(device)
    mindspore.set_deterministic(True)


def _next_step(wanted: str) -> str:
    if wanted == "Ascend":
        return "check the driver with 'npu-smi info' and source CANN's set_env.sh, or use --device CPU"
    return "check the driver with 'nvidia-smi' and that MindSpore's build is for its CUDA, or use --device CPU"
