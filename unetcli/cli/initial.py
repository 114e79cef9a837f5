"""`unet train --init-from`: a new run's first weights out of another network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unetcli.errors import ConfigError, RunError
from unetcli.files import sha256
from unetcli.report import say
from unetcli.runs import InitialFacts, open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unetcli.engine.transfer import Transfer
    from unetcli.runs import Run, RunFacts


@dataclass(frozen=True, slots=True)
class Initial:
    """Where the first weights are to come from.

    Args:
        checkpoint: The file.
        filters: Parameters with one of these in their names begin anew.
    """

    checkpoint: Path
    filters: tuple[str, ...] = ()

    @classmethod
    def asked(cls, source: Path | None, filters: Sequence[str] | None) -> Initial | None:
        """What the options ask for; None if the first weights are to be drawn.

        Raises:
            ConfigError: If there are filters, but nothing to filter, or an empty one.
            RunError: If the source is neither a run with a best checkpoint nor a checkpoint.
        """
        if source is None:
            if filters:
                raise ConfigError("--filter-weight: only with --init-from", hint="name a run or a .ckpt file with it")
            return None
        if "" in (filters or ()):
            raise ConfigError("--filter-weight: is empty, and would leave out everything", hint="name a parameter")
        checkpoint = open_run(source).checkpoint("best") if source.is_dir() else source
        if not checkpoint.is_file():
            raise RunError(f"--init-from {source}: no such run or checkpoint", hint="name a run folder or a .ckpt file")
        if checkpoint.suffix != ".ckpt":
            raise RunError(
                f"--init-from {source}: must be a run folder or a .ckpt file, found a name that ends in "
                f"{checkpoint.suffix or 'nothing'!r}",
                hint="MindSpore reads a checkpoint only under that name",
            )
        return cls(checkpoint, tuple(filters or ()))

    def take_over(self, run: Run) -> tuple[RunFacts, Callable[[Path], None]]:
        """The facts of a run that begins with these weights, and what writes them.

        Raises:
            ConfigError: If a filter names no parameter.
            RunError: If the checkpoint cannot be read or does not fit.
        """
        from unetcli.engine.transfer import transfer

        digest = sha256(self.checkpoint)
        found = transfer(self.checkpoint, run.config, self.filters)
        self._say(found)
        facts = InitialFacts(
            path=self.checkpoint.resolve(),
            sha256=digest,
            origin=found.origin,
            filters=self.filters,
            left_out=found.left_out,
        )
        return run.facts.model_copy(update={"initial": facts}), found.write

    def _say(self, found: Transfer) -> None:
        total = len(found.loaded) + len(found.left_out)
        say(f"first weights: {len(found.loaded)} of {total} parameters from {self.checkpoint} ({found.origin})")
        for what, names in (("begin anew", found.left_out), ("not used", found.unused)):
            if names:
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                say(f"  {what}: {', '.join(names[:6])}{more}")
        for note in found.notes:
            say(f"  note: {note}")
