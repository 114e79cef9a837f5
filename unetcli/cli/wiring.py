"""What several commands connect in the same way. Imported in their bodies, since it is not light."""

from __future__ import annotations

import importlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unetcli.core.normalization import fit_normalization
from unetcli.data.cases import IGNORED
from unetcli.data.manifest import fingerprint, load_cases, load_manifest
from unetcli.errors import ConfigError, DataError, RunError
from unetcli.evaluation import Prediction
from unetcli.inference import TilePlan, average, labels_of, predict_image, predict_labels, symmetries_of
from unetcli.report import say
from unetcli.runs import RUNS, open_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.config import Config
    from unetcli.core.geometry import Geometry
    from unetcli.data.cases import LabelledImage
    from unetcli.data.manifest import Manifest
    from unetcli.engine import Engine
    from unetcli.evaluation import LabelledCase
    from unetcli.inference import OnTile, Predictor, Scores, Symmetries
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

    engine = Engine.start(run.config, Runtime(device), ignored=IGNORED if run.facts.has_ignored else None)
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


@dataclass(frozen=True, slots=True)
class Member:
    """One network of an ensemble: its function from normalised tiles to scores, and its settings."""

    predict: Predictor
    config: Config


@dataclass(frozen=True, slots=True)
class Segmenter:
    """From an image as stored to its scores or labels: normalised, tiled, through every network, averaged, blended.

    Args:
        members: The networks.
        plan: How images are cut into tiles.
        tta: Whether to average over the symmetries of an image.
        pairs: For each class, the one that it becomes in a mirror; none if empty.
    """

    members: tuple[Member, ...]
    plan: TilePlan
    tta: bool = False
    pairs: tuple[int, ...] = ()

    def predictor(self, image: NDArray[Any]) -> Predictor:
        """The function from tiles of this image, as stored, to scores."""
        return average([_normalizing(member, image) for member in self.members])

    def symmetries(self, geometry: Geometry | None) -> Symmetries | None:
        """What is averaged over; None for the image as it is."""
        if not self.tta:
            return None
        ndim = len(self.plan.tile_size)
        lateral = geometry.lateral_axis if geometry else ndim - 1
        axes = self.members[0].config.augmentation.flip_axes
        return symmetries_of(ndim, axes=axes, lateral_axis=lateral if self.pairs else None, pairs=self.pairs or None)

    def scores(self, image: NDArray[Any], geometry: Geometry | None = None, on_tile: OnTile | None = None) -> Scores:
        """`(K, *S)` of an image `(C, *S)`."""
        tta = self.symmetries(geometry) or False
        return predict_image(image, self.predictor(image), self.plan, tta=tta, on_tile=on_tile)

    def labels(
        self, image: NDArray[Any], geometry: Geometry | None = None, on_tile: OnTile | None = None
    ) -> NDArray[np.uint8]:
        """`(*S)` of an image `(C, *S)`; scores live for a slab only."""
        symmetries = self.symmetries(geometry)
        return predict_labels(image, self.predictor(image), self.plan, symmetries=symmetries, on_tile=on_tile)

    def case(self, case: LabelledCase) -> Prediction:
        """Scores and labels of a case; of a volume, whose scores may not fit into memory, the labels alone."""
        if len(self.plan.tile_size) == 3:
            return Prediction(self.labels(case.image, case.geometry))
        scores = self.scores(case.image)
        return Prediction(labels_of(scores), scores)


def segmenter(
    members: Sequence[Member],
    *,
    tta: bool | None = None,
    overlap: float | None = None,
    pairs: tuple[int, ...] = (),
) -> Segmenter:
    """One or several networks that segment as the settings of the first say.

    Args:
        members: The networks.
        tta: Average over symmetries; as the settings say if None.
        overlap: Least share of a tile that its neighbour repeats; as the settings say if None.
        pairs: See `Segmenter`.
    """
    config = members[0].config
    plan = TilePlan.with_share(
        tile_size=config.tile_size,
        share=config.inference.overlap if overlap is None else overlap,
        blending=config.inference.blending,
        batch_size=config.inference.batch_size,
        margin=config.model.margin,
    )
    return Segmenter(tuple(members), plan, config.inference.tta if tta is None else tta, pairs)


def open_ensemble(runs: Sequence[Run], checkpoint: str, device: str) -> list[Member]:
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
        try:
            run.config.model.check_size("tile", first.config.tile_size)
        except ValueError as error:
            raise ConfigError(f"--run {run.path}: cannot take the tiles of {first.path}: {error}") from error
    weights = [run.checkpoint(checkpoint) for run in runs]
    return [Member(open_engine(run, path, device).predict, run.config) for run, path in zip(runs, weights, strict=True)]


def _classes(run: Run) -> tuple[str, ...]:
    return tuple(info.name for info in run.facts.classes)


def _normalizing(member: Member, image: NDArray[Any]) -> Predictor:
    data = member.config.data
    normalization = fit_normalization(image, data.normalization, data.lower, data.upper, output_range=data.output_range)

    def predict(tiles: NDArray[Any]) -> Scores:
        return member.predict(normalization.along(tiles, 1))

    return predict
