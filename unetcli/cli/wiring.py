"""What several commands connect in the same way. Imported in their bodies, since it is not light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli.core.normalization import normalize
from unetcli.data.manifest import fingerprint, load_cases, load_manifest
from unetcli.engine import Engine, Runtime
from unetcli.errors import RunError
from unetcli.inference import Predictor, TilePlan, predict_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.config import Config
    from unetcli.data.cases import LabelledImage
    from unetcli.data.manifest import Manifest
    from unetcli.runs import Run


def open_engine(run: Run, checkpoint: Path, device: str) -> Engine:
    """The engine with the weights of a run."""
    engine = Engine.start(run.config, Runtime(device))
    engine.load(checkpoint)
    return engine


def manifest_of(run: Run, dataset: Path | None = None) -> Manifest:
    """The manifest of the dataset that a run was trained on, in `dataset` or where it was at training.

    Raises:
        RunError: If it is another dataset by now.
    """
    folder = dataset or run.facts.dataset_path
    manifest = load_manifest(folder)
    if fingerprint(manifest) != run.facts.fingerprint:
        raise RunError(
            f"{folder}: is not the dataset that {run.path} was trained on (its cases or classes differ)",
            hint="name the right one with --dataset, or prepare it as it was",
        )
    return manifest


def labelled_cases(run: Run, dataset: Path | None, part: str) -> tuple[LabelledImage, ...]:
    """The cases that a run trained or validated on; `part` is "train" or "validation"."""
    ids = run.facts.train if part == "train" else run.facts.validation
    return load_cases(dataset or run.facts.dataset_path, manifest_of(run, dataset), ids)


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
        normalized = normalize(image, data.normalization, data.lower, data.upper)
        return predict_image(normalized, predictor, plan, tta=use_tta)

    return segment
