"""How a run's objects are told apart. Imported in the commands' bodies, since it is not light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unetcli.cli.options import INSTANCES
from unetcli.errors import ConfigError
from unetcli.inference import Separation

if TYPE_CHECKING:
    from unetcli.runs import Run

Choice = Literal["run", "watershed", "components"]
"""A method, or that in the settings of the run."""

BORDER = "border"
"""Name of the class along which objects touch."""


def separation_of(run: Run, method: Choice = "run") -> Separation:
    """How a run's objects are told apart: as its settings say, or by another method.

    All classes but the background are of objects; where there are others, the class 'border' is what lies between them.

    Raises:
        ConfigError: If the run is of volumes.
    """
    settings = run.config.inference
    if run.config.model.ndim != 2:
        raise ConfigError(
            f"{INSTANCES}: {run.path} is of volumes, and objects are told apart in images only",
            hint=f"leave out {INSTANCES}; connected pieces of a mask are found by other tools",
        )
    names = {info.index: info.name for info in run.facts.classes if info.index}
    border = next((index for index, name in names.items() if name == BORDER), None) if len(names) > 1 else None
    return Separation(
        objects=tuple(sorted(index for index in names if index != border)),
        border=border,
        method=settings.instances if method == "run" else method,
        min_size=settings.instance_min_size,
        distance=settings.instance_distance,
    )


def separation_for(run: Run, method: Choice | None = None) -> Separation | None:
    """The same to be compared with the truth; None where that does not tell objects apart.

    Raises:
        ConfigError: If it does not, though a method is asked for.
    """
    if run.facts.has_instances:
        return separation_of(run, method or "run")
    if method is not None:
        raise ConfigError(
            f"{INSTANCES}: the labels of dataset '{run.facts.dataset}' do not tell objects apart, so that there is "
            "nothing to compare with",
            hint=f"leave out {INSTANCES}, or prepare the data so that they do, as 'unet prepare nuclei' does",
        )
    return None
