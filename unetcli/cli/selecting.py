"""What a run's weights are selected by. Imported in the commands' bodies, since it is not light."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from unetcli.cli.separating import separation_for
from unetcli.data.cases import IGNORED
from unetcli.errors import ConfigError
from unetcli.evaluation import Measures, selectable

if TYPE_CHECKING:
    from unetcli.runs import Run


def selecting_measures(run: Run) -> Measures:
    """What a validation of the run measures: the overlap, and more only where the weights are selected by it.

    Raises:
        ConfigError: If there is no such measure of this dataset.
    """
    facts, wanted = run.facts, run.config.train.select_by
    classes = [info.name for info in facts.classes]
    ignored = IGNORED if facts.has_ignored else None
    plain = Measures(ignored=ignored)
    more = Measures(
        ignored=ignored,
        zoo_volumes=facts.kind == "luna16",
        membrane=facts.kind == "isbi",
        separation=separation_for(run),
    )
    has_scores = run.config.model.ndim == 2
    if wanted in selectable(classes, plain, has_scores=has_scores):
        return plain
    known = selectable(classes, more, has_scores=has_scores)
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        meant = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(
            f"train.select_by: {wanted}: no such measure of {facts.dataset}",
            hint=f"{meant}known are: {', '.join(known)}",
        )
    return more
