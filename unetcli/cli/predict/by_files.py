"""Prediction on a device that is elsewhere: tiles are written for it, and what it made of them is read back.

Both go through the same segmenter as any prediction; only its network is a folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli import __version__, report
from unetcli.cli.networks import Member
from unetcli.cli.options import INSTANCES
from unetcli.cli.predict.batches import do_all, plan_masks
from unetcli.cli.predict.wishes import Wishes
from unetcli.cli.segmenting import FixedTiles, Segmenter, segmenter
from unetcli.core.normalization import fit_normalization
from unetcli.deployment import (
    INDEX,
    INPUTS,
    OUTPUTS,
    ImageTiles,
    Index,
    PageTiles,
    Tensor,
    TileWriter,
    Tiling,
    read_index,
    replay,
)
from unetcli.errors import ConfigError, DataError, RunError
from unetcli.files import refuse_existing, replacing_folder, sha256, write_json
from unetcli.inference.tiles import canvas_of, starts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from unetcli.cli.predict.batches import Failures
    from unetcli.cli.predict.wishes import Asked, Kind
    from unetcli.data.formats.masks import Outputs
    from unetcli.inference import Predictor, Scores

EXPORT, IMPORT = "--export-inputs", "--import-outputs"


@dataclass(frozen=True, slots=True)
class ByFiles(Segmenter):
    """A segmenter whose network is a folder.

    Args:
        tiling: Of one size, since the device has one.
        predictor_of: From the size of an image, or of a page, to what takes its normalised tiles; called once for each.
    """

    tiling: FixedTiles
    predictor_of: Callable[[tuple[int, ...]], Predictor] = field(kw_only=True)

    def predictor(self, image: NDArray[Any]) -> Predictor:
        """The function from tiles of this image, as stored, to scores; tiles of one value are as good as others."""
        data = self.config.data
        normalization = fit_normalization(
            image, data.normalization, data.lower, data.upper, output_range=data.output_range
        )
        predict = self.predictor_of(image.shape[1:])
        return lambda tiles: predict(normalization.along(tiles, 1))


def check_asked(asked: Asked, exported: Path | None, imported: Path | None, *, with_scores: bool) -> None:
    """Refuse what cannot be together with tiles as files.

    Raises:
        ConfigError: If something is.
    """
    if exported is not None:
        cleans = "--keep-largest, --fill-holes or --min-size"
        given = {IMPORT: imported is not None, "--scores": with_scores, cleans: bool(asked.cleaning)}
        given[INSTANCES] = asked.separation is not None
        _refuse(EXPORT, "which computes nothing", given)
    if imported is not None:
        options = {"--tile": asked.tile, "--overlap": asked.overlap, "--tta": asked.tta}
        given = {name: value is not None for name, value in options.items()}
        _refuse(IMPORT, f"since the tiles are those of {imported / INDEX}", given)
    if exported is not None or imported is not None:
        option = IMPORT if exported is None else EXPORT
        given = {
            "--device": asked.device != "auto",
            "--runtime": asked.runtime != "auto",
            "--max-memory": asked.max_memory is not None,
            "--distribute": asked.is_shared,
        }
        _refuse(option, "since the network is computed elsewhere", given)
        if len(asked.runs) > 1:
            raise ConfigError(
                f"{option}: takes one run, but {len(asked.runs)} are named; a device has one network",
                hint="call it for each run, with a folder of its own",
            )


def _refuse(option: str, why: str, given: Mapping[str, bool]) -> None:
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(f"{name}: cannot be with {option}, {why}", hint=f"leave out {name}")


def export_inputs(
    folder: Path, paths: Sequence[Path], kind: Kind, asked: Asked, *, overwrite: bool
) -> tuple[dict[str, Any], Failures]:
    """Write the tiles of images for a device: a whole folder with its index, or none.

    Returns:
        What was written, for `show_inputs`, and what is wrong with the images that were not.

    Raises:
        ConfigError: If the folder may not be replaced, or a form of a tile has another shape than it.
        DataError: If no image can be read.
    """
    refuse_existing(folder, overwrite=overwrite)
    if folder.exists() and not (folder / INDEX).is_file():
        raise ConfigError(
            f"{EXPORT} {folder}: is there and holds no {INDEX}, so it is not replaced", hint="name another folder"
        )
    plan, failures = plan_masks(paths, folder / "masks", kind, overwrite=True)
    segment = _cutter(asked)
    images: list[ImageTiles] = []
    with replacing_folder(folder) as temporary:
        for name in (INPUTS, OUTPUTS):
            (temporary / name).mkdir()

        def write(outputs: Outputs) -> dict[str, Any]:
            images.append(_write_image(outputs, kind, asked, segment, temporary / INPUTS))
            return {"image": str(outputs.image), "inputs": images[-1].num_inputs, "pages": len(images[-1].pages)}

        done = do_all(plan, write, failures)
        index = _index(asked, segment, images)
        write_json(temporary / INDEX, index.model_dump(mode="json"))
    facts = {"input_shape": list(index.input.shape), "output_shape": list(index.output.shape)}
    return {"folder": str(folder), **facts, "done": done, "failed": failures}, failures


def show_inputs(written: Mapping[str, Any], run: Path, *, as_json: bool) -> None:
    """What was written, and what comes next."""
    if as_json:
        report.emit_json(written)
        return
    rows = [[entry["image"], entry["pages"], entry["inputs"]] for entry in written["done"]]
    report.table(f"{written['folder']}/{INPUTS}", ["image", "pages", "tiles"], rows)
    shapes = [" x ".join(map(str, written[name])) for name in ("input_shape", "output_shape")]
    folder = written["folder"]
    report.say(
        f"each tile is {shapes[0]}, and its scores {shapes[1]}, as 32-bit floats\n"
        f"next: run the device over {folder}/{INPUTS}; of each NAME.bin it must write NAME_0.bin or NAME.bin to "
        f"{folder}/{OUTPUTS}; then: unet predict IMAGE... --run {run} {IMPORT} {folder}"
    )


def _cutter(asked: Asked) -> ByFiles:
    """The segmenter that a prediction would have with tiles of one size; not yet with a network."""
    config, facts = asked.run.config, asked.run.facts
    given = segmenter(
        [Member(_nowhere, config)], tta=asked.tta, tile=asked.tile, overlap=asked.overlap, pairs=facts.mirror_pairs
    )
    size = given.tiling.trial_size
    tiles = given.tiling.plan(given.work((len(facts.channels), *size), np.dtype(np.uint8)))
    forms = given.symmetries(None)
    if forms and any(turns % 2 for turns, _ in forms.forms) and size[-1] != size[-2]:
        raise ConfigError(
            f"--tta: a quarter turn gives tiles of {' x '.join(map(str, size))} another shape, and a device has one",
            hint="name a square --tile, or add --no-tta",
        )
    tiling = FixedTiles(replace(tiles, batch_size=1))
    return ByFiles(given.members, tiling, given.tta, given.pairs, predictor_of=partial(_same, _nowhere))


def _same(predictor: Predictor, _: tuple[int, ...]) -> Predictor:
    """The same for images of every size."""
    return predictor


def _nowhere(tiles: NDArray[Any]) -> Scores:
    raise AssertionError(f"the network of tiles {tiles.shape} is elsewhere")


def _write_image(outputs: Outputs, kind: Kind, asked: Asked, segment: ByFiles, folder: Path) -> ImageTiles:
    """Write the tiles of all pages of an image, or none if it cannot be read to its end."""
    tiles, facts = segment.tiling.tiles, asked.run.facts
    stem = Path(outputs.mask.name.removesuffix(".gz")).stem
    if (folder / f"{stem}-00000.bin").exists():
        raise ConfigError(
            f"{outputs.image}: its tiles would be called {stem}-00000.bin, as those of another image are",
            hint="rename one of them, or export them into different folders",
        )
    writer = TileWriter(folder, stem, (len(facts.classes), *tiles.output_size))
    recording = replace(segment, predictor_of=partial(_same, writer))
    pages: list[PageTiles] = []
    try:
        for image, geometry in kind.images(outputs.image, facts):
            first, size = len(writer.names), image.shape[1:]
            with report.progressing(outputs.image.name) as on_tile:
                recording.labels(image, geometry, on_tile)
            starts = starts_of(canvas_of(size, tiles), tiles)
            pages.append(PageTiles(size=size, starts=starts, inputs=tuple(writer.names[first:])))
    except DataError:
        writer.discard()
        raise
    return ImageTiles(path=outputs.image, sha256=content_hash(outputs), pages=tuple(pages))


def _index(asked: Asked, segment: ByFiles, images: Sequence[ImageTiles]) -> Index:
    tiles, facts = segment.tiling.tiles, asked.run.facts
    return Index(
        unet_version=__version__,
        run=str(asked.run.path),
        checkpoint_sha256=sha256(asked.weights),
        input=Tensor(shape=(1, len(facts.channels), *tiles.tile_size)),
        output=Tensor(shape=(1, len(facts.classes), *tiles.output_size)),
        tta=segment.tta,
        tiling=Tiling(
            tile_size=tiles.tile_size,
            overlap=tiles.overlap,
            blending=tiles.blending,
            border_pixels_eaten=tiles.margin,
            forms_per_tile=_num_forms(segment),
        ),
        images=tuple(images),
    )


def _num_forms(segment: Segmenter) -> int:
    """How many turned and mirrored forms of a tile are averaged."""
    forms = segment.symmetries(None)
    return len(forms) if forms else 1


def content_hash(outputs: Outputs) -> str:
    """The SHA-256 of an image's file; where it has several, that of the list of theirs."""
    image = outputs.image
    files = sorted(path for path in image.iterdir() if path.is_file()) if image.is_dir() else [image, *outputs.parts]
    hashes = [sha256(path) for path in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def imported_outputs(folder: Path, asked: Asked) -> Callable[[Outputs], Wishes]:
    """From an image to how it is segmented: by the scores that a device has left in a folder.

    Raises:
        DataError: If the folder has no index, or, from the function, if the image has no tiles in it.
        RunError: If the tiles are for another run, or for other settings of it.
    """
    index = read_index(folder)
    segment = _replaying(index, folder, asked)

    def wishes(outputs: Outputs) -> Wishes:
        pages = iter(index.tiles_of(outputs.image, content_hash(outputs)).pages)

        def predictor_of(size: tuple[int, ...]) -> Predictor:
            page = next(pages, None)
            if page is None or page.size != size:
                found = "no more pages" if page is None else f"a page of {page.size}"
                raise DataError(
                    f"{outputs.image}: {folder / INDEX} has {found}, not one of {size}",
                    hint=f"it was written by another version of unet; write it again with {EXPORT}",
                )
            return replay(folder / OUTPUTS, page.inputs, index.output.shape)

        replaying = replace(segment, predictor_of=predictor_of)
        return Wishes(replaying, asked.run.facts, asked.cleaning, separation=asked.separation)

    return wishes


def _replaying(index: Index, folder: Path, asked: Asked) -> ByFiles:
    """The segmenter that cut the tiles of an index; not yet with a network."""
    run, found = asked.run, sha256(asked.weights)
    if found != index.checkpoint_sha256:
        raise RunError(
            f"{asked.weights}: is not the checkpoint of {index.run} that the tiles in {folder} are for "
            f"(sha256 {found[:12]}..., expected {index.checkpoint_sha256[:12]}...)",
            hint=f"use --run {index.run} and the --checkpoint that was named with {EXPORT}",
        )
    segment = ByFiles(
        (Member(_nowhere, run.config),),
        FixedTiles(index.tiling.plan),
        index.tta,
        run.facts.mirror_pairs,
        predictor_of=partial(_same, _nowhere),
    )
    if _num_forms(segment) != index.tiling.forms_per_tile:
        raise RunError(
            f"{run.path}: its tiles have {_num_forms(segment)} forms by now, but {folder / INDEX} has "
            f"{index.tiling.forms_per_tile}",
            hint=f"the settings of the run were changed; write the tiles again with {EXPORT}",
        )
    return segment
