"""Options that several sources share, so that a name means the same everywhere."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unetcli.data.manifest import WeightMapFacts


class ChannelsWish(StrEnum):
    """The channels of a dataset whose images may be grey or in colour."""

    auto = "auto"
    grey = "grey"
    rgb = "rgb"


class ClassBalance(StrEnum):
    """What a pixel counts by its class alone, in a weight map."""

    balanced = "balanced"
    equal = "equal"


def finite(value: float | None) -> float | None:
    """The value.

    Raises:
        typer.BadParameter: If it is infinite or not a number.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def weight_map_facts(
    is_wanted: bool, classes: ClassBalance | None, w0: float | None, sigma: float | None
) -> WeightMapFacts | None:
    """How to compute the weight map; None if there is to be none.

    Raises:
        ConfigError: If how is told, but none is wanted.
    """
    from unetcli.data.manifest import WeightMapFacts
    from unetcli.errors import ConfigError

    told = {"classes": classes and classes.value, "w0": w0, "sigma": sigma}
    given = {name: value for name, value in told.items() if value is not None}
    if is_wanted:
        return WeightMapFacts.model_validate(given)
    for name, value in given.items():
        raise ConfigError(
            f"--weight-map-{name} {value}: says how to compute a weight map, but none is wanted",
            hint="give --weight-map too, or leave it out",
        )
    return None


OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Dataset folder to make.")]
NamedOutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Dataset folder to make; named after the source in datasets/ if left out."),
]
FoldsOption = Annotated[
    int | None,
    typer.Option(min=2, help="Number of folds, drawn at random; 5 if left out, or fewer where there are fewer cases."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the drawing of the folds.")]
SpacingOption = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        metavar="Z Y X", help="Resample to voxels of this size in mm; the published grids are kept if left out."
    ),
]
CompressOption = Annotated[
    bool,
    typer.Option(
        "--compress/--no-compress",
        help="Write .nii.gz, and an uncompressed copy that training cuts its patches from; or .nii, which is both.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Volumes worked on at once, each in its own process; as the processors allow if left out."
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail if a case would be skipped, and keep nothing.")]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Check and report, but write nothing; of volumes, the headers and grids alone."),
]
ChannelsOption = Annotated[
    ChannelsWish,
    typer.Option(
        help="'grey' makes grey of colours, 'rgb' three channels of grey; 'auto' keeps grey if all images are."
    ),
]
ValidationOption = Annotated[
    int | None,
    typer.Option(min=1, help="Draw so many cases to validate on, in one fold, in place of --folds."),
]
WeightMapOption = Annotated[
    bool,
    typer.Option(
        "--weight-map/--no-weight-map",
        help="Also store how much each pixel counts: its class, and more in the gaps between cells.",
    ),
]
WeightMapClassesOption = Annotated[
    ClassBalance | None,
    typer.Option(
        help="'balanced' lets rare classes count as much as the others, as the paper does; with 'equal' the gaps alone "
        "count more, which parts cells better where they are few. Balanced if left out.",
        show_default=False,
    ),
]
WeightMapW0Option = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1e6,
        callback=finite,
        help="What the map adds, at most, in a gap; 10 if left out.",
        show_default=False,
    ),
]
WeightMapSigmaOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        callback=finite,
        help="How fast that falls with the width of the gap, in pixels; 5 if left out.",
        show_default=False,
    ),
]
MirrorOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A=B",
        help="Classes that become each other in a mirror; left_x and right_x are found without. Repeatable.",
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(metavar="VALUE=NAME", help="What a value of the masks means, 'ignore' for nothing. Repeatable."),
]
LabelMapOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VALUE=INDEX",
        help="The class that a value, or a colour #RRGGBB, of the masks becomes, and 255 to ignore it; --label then "
        "names classes by their index. Repeatable.",
    ),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Cases whose names agree in what this matches (in its first group, if it has one) stay in one fold.",
    ),
]
