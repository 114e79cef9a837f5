"""Options that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "CPU"
    gpu = "GPU"
    ascend = "Ascend"


class RuntimeName(StrEnum):
    """What computes the network at prediction."""

    auto = "auto"
    mindspore = "mindspore"
    openvino = "openvino"
    onnxruntime = "onnxruntime"


def one_of(words: type[StrEnum]) -> dict[str, Any]:
    """What an option needs that takes one of several words in any case, and shows them as they are written.

    Without it help and errors show them in lower case, which is how no document writes them.
    """

    def parse(text: str) -> StrEnum:
        for word in words:
            if word.casefold() == text.casefold():
                return word
        known = ", ".join(f"'{word}'" for word in words)
        raise typer.BadParameter(f"{str(text)!r} is not one of {known}")

    return {"parser": parse, "metavar": "|".join(words)}


def parse_tile(text: str | tuple[int, ...]) -> str | tuple[int, ...]:
    """'auto', 'patch', or the size of a tile such as 64x64x64.

    Raises:
        typer.BadParameter: For anything else.
    """
    if isinstance(text, tuple) or text in ("auto", "patch"):
        return text
    if not re.fullmatch(r"\d+([x,]\d+){1,2}", text):
        raise typer.BadParameter(f"{text!r} is no tile; write auto, patch, or a size as 512x512 or 64x64x64 (Z Y X)")
    return tuple(map(int, re.split("[x,]", text)))


def parse_bytes(text: str | int) -> int:
    """Bytes of a size such as 2GB, 500MB or 1.5GiB; a bare number is bytes.

    Raises:
        typer.BadParameter: For anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", str(text).lower())
    if match is None or float(match[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is not a size; write it as 2GB, 500MB or 1.5GiB")
    unit = (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " ")
    return int(float(match[1]) * unit)


INSTANCES = "--instances"
METHODS = ("watershed", "components")
"""To tell objects apart by."""
OF_THE_RUN = "run"
"""Stands for the method in the settings of the run."""
FORMS = f"{', '.join(f'{INSTANCES}={method}' for method in METHODS)}, or {INSTANCES} alone"
"""How the option is written."""


def parse_method(text: str) -> str:
    """A method to tell objects apart by, or `OF_THE_RUN`.

    Raises:
        typer.BadParameter: For anything else.
    """
    if text.lower() not in (*METHODS, OF_THE_RUN):
        raise typer.BadParameter(f"{text!r} is no way to tell objects apart; write {FORMS}")
    return text.lower()


ALL_FOLDS = "all"
"""Stands for every fold of the dataset, one run after the other."""


def parse_fold(text: str | int) -> str | int:
    """The number of a fold, or `ALL_FOLDS`.

    Raises:
        typer.BadParameter: For anything else.
    """
    if text == ALL_FOLDS:
        return ALL_FOLDS
    if not str(text).isdecimal():
        raise typer.BadParameter(f"{text!r} is no fold; write its number, from 0, or all")
    return int(text)


RunOption = Annotated[
    Path | None, typer.Option("--run", "-r", help="Run folder; the newest in runs/ if left out.", show_default=False)
]
FoldOption = Annotated[
    Any,
    typer.Option(
        "--fold",
        parser=parse_fold,
        metavar="N|all",
        help="Split to validate on, from 0 ('cross_valid_ind'); 'all' trains on each, one run after the other.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option("--device", **one_of(Device), help="Where to compute; auto takes the first of Ascend, GPU, CPU."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]
CheckpointOption = Annotated[
    str, typer.Option("--checkpoint", help="Which weights of the run: 'best', 'last', or a .ckpt file.")
]
TtaOption = Annotated[
    bool | None,
    typer.Option("--tta/--no-tta", help="Average over flips and turns; as the run's settings say if left out."),
]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        "--runtime",
        **one_of(RuntimeName),
        help="What computes the network; on a CPU, auto takes the first installed of openvino, onnxruntime, mindspore.",
    ),
]
TileOption = Annotated[
    Any,
    typer.Option(
        "--tile",
        parser=parse_tile,
        metavar="SIZE",
        help="auto for the largest tiles that the memory allows, patch for the size of training patches, or a size as "
        "512x512 or 64x64x64; as the run's settings say if left out.",
        show_default=False,
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        "--overlap", min=0, max=0.9, help="Least share of a tile that its neighbour repeats; with --tile auto, chosen."
    ),
]
MaxMemoryOption = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        parser=parse_bytes,
        metavar="SIZE",
        help="Most memory of the process, such as 2GB; the plan is said first and kept.",
        show_default=False,
    ),
]
