"""Options that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

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
