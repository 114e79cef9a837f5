"""The model file, its proof, and what must be known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unetcli.cli.export.images import crop
from unetcli.cli.networks import Member
from unetcli.cli.segmenting import segmenter
from unetcli.config import with_values
from unetcli.core.normalization import PERCENTILES, fit_normalization
from unetcli.deployment import complete_bundle, steps_in_words
from unetcli.engine.export import input_name, open_mindir
from unetcli.errors import RunError
from unetcli.evaluation import compare
from unetcli.files import replacing_folder, sha256
from unetcli.inference import TilePlan, predict_image, symmetries_of
from unetcli.report import say
from unetcli.runtimes import open_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from unetcli.config import Config
    from unetcli.engine import Engine
    from unetcli.evaluation import Agreement
    from unetcli.runs import Run


@dataclass(frozen=True, slots=True)
class Export:
    """One export.

    Args:
        run: What is exported.
        weights: Its checkpoint.
        engine: With these weights.
        file_format: Of the file.
        dynamic: Whether it takes any size.
        images: What it is proven on.
    """

    run: Run
    weights: Path
    engine: Engine
    file_format: str
    dynamic: bool
    images: list[NDArray[Any]]

    def write(self, path: Path, name: str) -> dict[str, Any]:
        """Write and prove the model file; what must be known of it, `name` being what it will be called."""
        shape = _input_shape(self.run.config, dynamic=self.dynamic)
        self.engine.export(path, self.file_format, shape)
        agreement = self.prove(path)
        facts = _describe(self.run, self.weights, name, shape)
        facts["input"]["name"] = input_name(path)
        return facts | {
            "format": self.file_format,
            "agreement": agreement.as_dict() if agreement else None,
            "sha256": sha256(path),
        }

    def prove(self, path: Path) -> Agreement | None:
        """Run the file and the engine over the same images, tile by tile; None of AIR, which nothing here reads."""
        if self.file_format == "AIR":
            return None
        config = _proving_config(self.run.config, dynamic=self.dynamic)
        run = open_model(path, "onnxruntime") if self.file_format == "ONNX" else open_mindir(path)
        ours, exported = (segmenter([Member(predict, config)], tta=False) for predict in (self.engine.predict, run))
        agreement = compare(self.images, ours.scores, exported.scores)
        if not agreement.is_close:
            raise RunError(
                f"{path.name}: the exported file disagrees with the run: largest difference "
                f"{agreement.largest_difference:.2g}, equal labels {agreement.equal_labels:.4%}; it was not kept",
                hint="this is a fault of the exporter; try the other format",
            )
        return agreement

    def example(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The middle of a real image as one input `(1, C, *S)`, and the run's scores of it."""
        config = self.run.config
        data = config.data
        plan = TilePlan.with_share(config.tile_size, 0, "constant", 1, config.model.margin)
        image = self.images[0]
        normalization = fit_normalization(
            image, data.normalization, data.lower, data.upper, output_range=data.output_range
        )
        kept: list[tuple[NDArray[Any], NDArray[Any]]] = []

        def keep(tiles: NDArray[Any]) -> NDArray[Any]:
            kept.append((tiles, self.engine.predict(tiles)))
            return kept[-1][1]

        predict_image(crop(normalization(image), plan.output_size), keep, plan)
        return kept[0]


def write_bundle(exporting: Export, path: Path) -> dict[str, Any]:
    """The folder of `path`, whole or not at all; what must be known of the file."""
    with replacing_folder(path.parent) as folder:
        facts = exporting.write(folder / path.name, path.name)
        forms = facts["symmetries"]["forms"]
        if any(turns % 2 for turns, _ in forms) and len(set(exporting.run.config.tile_size[-2:])) > 1:
            say("note: run.py does not average over turns, since a turned tile has another shape; name a square --tile")
            facts["symmetries"]["forms"] = forms[:1]
        tile, scores = exporting.example()
        facts["output"]["shape"] = list(scores.shape)
        facts |= steps_in_words(facts)
        complete_bundle(folder, facts, tile, scores)
    return facts


def _input_shape(config: Config, *, dynamic: bool) -> list[int | None]:
    """`(N, C, *S)`; None where any size is taken."""
    channels = config.model.in_channels
    return [None, channels, *[None] * config.model.ndim] if dynamic else [1, channels, *config.tile_size]


def _proving_config(config: Config, *, dynamic: bool) -> Config:
    """Tiles of the exported size one by one; pairs of another size where any is to be taken."""
    if not dynamic:
        return with_values(config, {"inference.batch_size": 1})
    eaten = 2 * config.model.margin
    size = [
        length - stride if length - stride > eaten else length + stride
        for length, stride in zip(config.tile_size, config.model.stride, strict=True)
    ]
    return with_values(config, {"inference.batch_size": 2, "inference.tile_size": size})


def _describe(run: Run, checkpoint: Path, name: str, shape: list[int | None]) -> dict[str, Any]:
    """What one must know to use the file without unet."""
    config = run.config
    spatial = ["depth", "height", "width"][-config.model.ndim :]
    tiling = config.inference
    plan = TilePlan.with_share(config.tile_size, tiling.overlap, tiling.blending, 1, config.model.margin)
    pairs = run.facts.mirror_pairs
    symmetries = symmetries_of(
        config.model.ndim,
        axes=config.augmentation.flip_axes,
        lateral_axis=config.model.ndim - 1 if pairs else None,
        pairs=pairs or None,
    )
    return {
        "model_file": name,
        "run": run.path.name,
        "checkpoint": {"name": checkpoint.name, "sha256": sha256(checkpoint)},
        "unet_version": run.facts.unet_version,
        "input": {"layout": ["batch", "channels", *spatial], "shape": shape, "dtype": "float32"},
        "output": {"layout": ["batch", "classes", *spatial], "values": "softmax scores", "dtype": "float32"},
        "normalization": {
            "method": config.data.normalization,
            "lower": config.data.lower,
            "upper": config.data.upper,
            "percentiles": list(PERCENTILES),
            "output_range": config.data.output_range,
        },
        "tiling": {
            "tile_size": config.tile_size,
            "overlap": config.inference.overlap,
            "overlap_pixels": plan.overlap,
            "blending": config.inference.blending,
            "border_pixels_eaten": config.model.margin,
            "size_multiple": config.model.stride,
        },
        "symmetries": {
            "forms": [[turns, list(axes)] for turns, axes in symmetries.forms] if config.inference.tta else [[0, []]],
            "pairs": list(symmetries.pairs),
        },
        "channels": run.facts.channels,
        "spacing": {"voxel": run.facts.spacing, "resample_to_it": run.facts.is_resampled},
        "classes": [info.model_dump() for info in run.facts.classes],
    }
