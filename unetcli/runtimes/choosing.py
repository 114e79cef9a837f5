"""Which runtime predicts. It looks at what is installed, and imports none of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from unetcli.errors import ConfigError

RUNTIMES = ("openvino", "onnxruntime", "mindspore")
"""The fastest on a CPU first."""

_DEVICES = Path("/dev")
_ACCELERATORS = ("davinci_manager", "davinci[0-9]*", "nvidiactl")  # the drivers of Ascend and of NVIDIA make them


def choose_runtime(wanted: str, device: str) -> str:
    """The runtime to predict with.

    "auto" on a CPU is the first of `RUNTIMES` that is installed. On a machine that shows a driver of an accelerator,
    device "auto" leads to "mindspore", which alone can use one; whether it does, its own probe must say. Where that
    finds a CPU only, ask again with device "CPU".

    Args:
        wanted: "auto" or one of `RUNTIMES`.
        device: "auto", "CPU", "GPU" or "Ascend".

    Raises:
        ConfigError: If `wanted` is not installed, or cannot use the device.
    """
    if wanted == "auto":
        if device in ("GPU", "Ascend") or (device == "auto" and shows_accelerator()):
            return "mindspore"
        return next(name for name in RUNTIMES if name == "mindspore" or is_installed(name))
    if wanted not in RUNTIMES:
        raise ConfigError(f"--runtime {wanted}: no such runtime", hint=f"use auto or one of {', '.join(RUNTIMES)}")
    if wanted == "mindspore":
        return wanted
    if device in ("GPU", "Ascend"):
        raise ConfigError(
            f"--runtime {wanted}: computes on a CPU only, and --device is {device}",
            hint=f"leave --runtime out for {device}, or use --device CPU",
        )
    if not is_installed(wanted):
        raise ConfigError(
            f"--runtime {wanted}: is not installed", hint="pip install 'unetcli[cpu]', or leave --runtime out"
        )
    return wanted


def is_installed(name: str) -> bool:
    """Whether a package of this name can be imported; a folder that only happens to be called so cannot."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def shows_accelerator() -> bool:
    """Whether a driver for Ascend or for an NVIDIA card is loaded."""
    return any(True for pattern in _ACCELERATORS for _ in _DEVICES.glob(pattern))
