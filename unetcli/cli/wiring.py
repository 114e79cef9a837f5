"""What several commands connect in the same way. Imported in their bodies, since it is not light."""

from __future__ import annotations

import importlib
import os
import signal
from typing import TYPE_CHECKING, Any

from unetcli.core.normalization import fit_normalization
from unetcli.data.manifest import fingerprint, load_cases, load_manifest
from unetcli.errors import DataError, RunError
from unetcli.inference import Predictor, TilePlan, predict_image
from unetcli.report import say
from unetcli.runs import RUNS, open_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.config import Config
    from unetcli.data.cases import LabelledImage
    from unetcli.data.manifest import Manifest
    from unetcli.engine import Engine
    from unetcli.runs import Run


def take_run(path: Path | None) -> Run:
    """The run of a folder, or the newest in `runs/`; which one is said."""
    run = open_run(path)
    say(f"run: {run.path}{'' if path else f' (the newest in {RUNS}/)'}")
    return run


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
    from unetcli.engine import Engine, Runtime

    engine = Engine.start(run.config, Runtime(device))
    engine.load(checkpoint)
    return engine


def dataset_of(run: Run, dataset: Path | None, *, otherwise: str) -> tuple[Path, Manifest]:
    """The dataset that a run was trained on: `dataset`, or where it was at training.

    Args:
        run: The run.
        dataset: Where the user says it is.
        otherwise: What to do where it is not, to complete "prepare it as it was, or ...".

    Raises:
        DataError: If it is not there any more.
        RunError: If it is another dataset by now.
    """
    folder = dataset or run.facts.dataset_path
    hint = f"prepare it as it was, or {otherwise}"
    if dataset is None and not folder.exists():
        raise DataError(f"{folder}: the dataset that {run.path} was trained on is no longer there", hint=hint)
    manifest = load_manifest(folder)
    if fingerprint(manifest) != run.facts.fingerprint:
        raise RunError(
            f"{folder}: is not the dataset that {run.path} was trained on (its cases or classes differ)", hint=hint
        )
    return folder, manifest


def labelled_cases(run: Run, dataset: Path | None, part: str, *, otherwise: str) -> tuple[LabelledImage, ...]:
    """The cases that a run trained or validated on; `part` is "train" or "validation", the rest as for `dataset_of`."""
    ids = run.facts.train if part == "train" else run.facts.validation
    folder, manifest = dataset_of(run, dataset, otherwise=otherwise)
    load_engine()
    return load_cases(folder, manifest, ids)


def tile_plan(config: Config) -> TilePlan:
    """How the images of a run are cut into tiles."""
    return TilePlan(
        tile_size=config.tile_size,
        overlap=config.inference.overlap,
        blending=config.inference.blending,
        batch_size=config.inference.batch_size,
        margin=config.model.margin,
    )


def segmenter(
    predictor: Predictor, config: Config, *, tta: bool | None = None
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """From an image as stored to its scores: normalised, tiled, through the network, blended.

    Args:
        predictor: From tiles to scores.
        config: Of the run.
        tta: Average over flips and turns; as the run's settings say if None.
    """
    data, plan = config.data, tile_plan(config)
    use_tta = config.inference.tta if tta is None else tta

    def segment(image: NDArray[Any]) -> NDArray[np.float32]:
        normalization = fit_normalization(
            image, data.normalization, data.lower, data.upper, output_range=data.output_range
        )
        return predict_image(normalization(image), predictor, plan, tta=use_tta)

    return segment
