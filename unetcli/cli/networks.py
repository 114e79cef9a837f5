"""The networks of runs as functions from tiles to scores: in the engine, or without MindSpore in another runtime."""

from __future__ import annotations

import importlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unetcli.errors import ConfigError, RunError
from unetcli.report import say
from unetcli.runtimes import choose_runtime, open_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unetcli.config import Config
    from unetcli.engine import Engine
    from unetcli.inference import Predictor
    from unetcli.runs import Run


@dataclass(frozen=True, slots=True)
class Member:
    """One network of an ensemble.

    Args:
        predict: From normalised tiles to scores.
        config: Its settings.
        runtime: What computes it: "mindspore", "openvino" or "onnxruntime".
    """

    predict: Predictor
    config: Config
    runtime: str = "mindspore"


def load_engine() -> None:
    """Import the engine, and with it MindSpore; Ctrl-C meanwhile ends the process at once.

    MindSpore's libraries crash when they are interrupted half-loaded. Call this when all that is quick has been
    checked, and before anything is written.
    """
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        importlib.import_module("unetcli.engine")
    finally:
        signal.signal(signal.SIGINT, previous)


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def open_engine(run: Run, checkpoint: Path, device: str) -> Engine:
    """The engine with the weights of a run."""
    load_engine()
    from unetcli.data.cases import IGNORED
    from unetcli.engine import Engine, Runtime
    from unetcli.framework import cache_folder

    runtime = Runtime(device, graphs=cache_folder("graphs"))
    engine = Engine.start(run.config, runtime, ignored=IGNORED if run.facts.has_ignored else None)
    engine.load(checkpoint)
    return engine


def open_network(run: Run, checkpoint: Path, device: str, runtime: str) -> Member:
    """The network of a run, ready to predict.

    Args:
        run: The run.
        checkpoint: Its weights.
        device: "auto" or a device.
        runtime: "auto", or what must compute it.

    Raises:
        ConfigError: If the runtime is not installed, or cannot use the device.
        DeviceError: If the device is not there.
        RunError: If the checkpoint is broken, or the network cannot be written for the runtime that must compute it.
    """
    chosen = choose_runtime(runtime, device)
    if chosen == "mindspore" and runtime == device == "auto":
        load_engine()
        from unetcli.engine.device import choose_device

        device = choose_device(device)  # what looks like an accelerator may be none that MindSpore can use
        chosen = choose_runtime(runtime, device)
    if chosen == "mindspore":
        return Member(open_engine(run, checkpoint, device).predict, run.config)
    try:
        return Member(_open_kept(run, checkpoint, chosen), run.config, chosen)
    except (ConfigError, RunError, OSError) as error:
        if runtime != "auto":
            raise
        say(f"note: MindSpore computes, since {chosen} cannot: {error}")
        return Member(open_engine(run, checkpoint, device).predict, run.config)


def open_ensemble(runs: Sequence[Run], checkpoint: str, device: str, runtime: str) -> list[Member]:
    """The networks of several runs, which must take and find the same.

    Raises:
        ConfigError: If they differ in classes, channels, or what their tiles may be.
        RunError: If a checkpoint is missing or broken.
    """
    first = runs[0]
    for run in runs[1:]:
        for what, one, other in (
            ("classes", _classes(first), _classes(run)),
            ("channels", first.facts.channels, run.facts.channels),
            ("axes", first.config.model.ndim, run.config.model.ndim),
            ("border", first.config.model.margin, run.config.model.margin),
        ):
            if one != other:
                raise ConfigError(
                    f"--run {run.path}: its {what} are {other}, but {first.path} has {one}",
                    hint="runs of one ensemble must be of the same task",
                )
    weights = [run.checkpoint(checkpoint) for run in runs]
    return [open_network(run, path, device, runtime) for run, path in zip(runs, weights, strict=True)]


def keep_onnx(run: Run, checkpoint: Path) -> Path:
    """The network of a checkpoint as an ONNX file in the run, for images of any size; made where it is not there yet.

    The file has the checkpoint's hash in its name, so that another checkpoint never meets it.

    Raises:
        RunError: If the checkpoint is broken, or MindSpore cannot write the network so.
        OSError: If the run cannot be written to.
    """
    path = run.kept_onnx(checkpoint)
    if path.is_file():
        return path
    say(f"keeping the network as {path} for prediction without MindSpore")
    channels, ndim = run.config.model.in_channels, run.config.model.ndim
    path.parent.mkdir(exist_ok=True)
    open_engine(run, checkpoint, "CPU").export(path, "ONNX", [None, channels, *[None] * ndim])
    for old in path.parent.glob(f"{checkpoint.stem}-*.onnx"):
        if old != path:
            old.unlink()
    return path


def keep_for_prediction(run: Run, device: str) -> None:
    """Make the ONNX file of a trained run now, where predictions will ask for it; why it cannot be made is said."""
    if choose_runtime("auto", device) == "mindspore":
        return
    try:
        keep_onnx(run, run.checkpoint("best"))
    except (RunError, OSError) as error:
        say(f"note: MindSpore will compute predictions, since the network cannot be kept as ONNX: {error}")


def _open_kept(run: Run, checkpoint: Path, runtime: str) -> Predictor:
    """The function out of the run's ONNX file, which is made anew if it is damaged."""
    path = keep_onnx(run, checkpoint)
    try:
        return open_model(path, runtime)
    except RunError:
        path.unlink()
        return open_model(keep_onnx(run, checkpoint), runtime)


def _classes(run: Run) -> tuple[str, ...]:
    return tuple(info.name for info in run.facts.classes)
