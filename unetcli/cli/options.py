"""Options that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "CPU"
    gpu = "GPU"
    ascend = "Ascend"


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


RunOption = Annotated[
    Path | None, typer.Option("--run", "-r", help="Run folder; the newest in runs/ if left out.", show_default=False)
]
DeviceOption = Annotated[
    Device,
    typer.Option("--device", case_sensitive=False, help="Where to compute; auto takes the first of Ascend, GPU, CPU."),
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
