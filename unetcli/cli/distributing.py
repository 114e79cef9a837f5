"""One command in several processes: its options, and how a process becomes several or takes its place among them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from unetcli.cli.options import FORMS, INSTANCES, METHODS, OF_THE_RUN
from unetcli.errors import ConfigError, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unetcli.engine import Company
    from unetcli.launching import Cluster

Made = TypeVar("Made")

FLAG = "--distribute"
ALL = "all"
"""Stands for as many processes as there are devices."""


class DistributingCommand(TyperCommand):
    """A command whose `--distribute` may stand without a number, and whose `--instances` without a method."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put what stands for all devices, or for the run's own method, where none is given."""
        filled: list[str] = []
        for place, text in enumerate(args):
            filled.append(text)
            following = args[place + 1] if place + 1 < len(args) else ""
            if text == FLAG and not following.isdecimal():
                filled.append(ALL)
            elif text == INSTANCES and not self._is_method(following, ctx):
                filled.append(OF_THE_RUN)
        return super().parse_args(ctx, filled)

    def _is_method(self, text: str, ctx: Any) -> bool:
        """Whether what follows `--instances` is meant as its method, and not as the next option or an image.

        Raises:
            typer.BadParameter: If it can be meant as neither.
        """
        if text.lower() in METHODS:
            return True
        if not text or text.startswith("-") or not any(INSTANCES in param.opts for param in self.params):
            return False
        if not any(param.param_type_name == "argument" for param in self.params):
            return True  # there are no images, so that it is refused as a method
        if Path(text).exists() or any(sign in text for sign in "*?["):
            return False
        raise typer.BadParameter(
            f"{text!r} is no image, and no way to tell objects apart; write {FORMS}", ctx, param_hint=f"'{INSTANCES}'"
        )


def parse_processes(text: str | int) -> str | int:
    """A number of processes, or `ALL`.

    Raises:
        typer.BadParameter: For anything else.
    """
    if text == ALL:
        return ALL
    if not str(text).isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no number of processes; write 2 or more, or nothing for all devices")
    return int(text)


DistributeOption = Annotated[
    Any,
    typer.Option(
        FLAG,
        parser=parse_processes,
        metavar="[N]",
        help="Compute in N processes, one a device; in as many as there are devices if N is left out.",
        show_default=False,
    ),
]
NodesOption = Annotated[int, typer.Option("--nodes", min=1, help="Machines; the command is started once on each.")]
NodeRankOption = Annotated[int, typer.Option("--node-rank", min=0, help="Number of this machine among them, from 0.")]
MasterOption = Annotated[
    str | None,
    typer.Option("--master", metavar="HOST:PORT", help="Where all meet: the machine of rank 0, and a free port there."),
]


@dataclass(frozen=True, slots=True)
class Spread:
    """What the options say.

    Args:
        number: Processes a machine; `ALL`, or None for this one alone.
        nodes: Machines.
        node_rank: Number of this one.
        master: Where they meet.
    """

    number: int | str | None
    nodes: int = 1
    node_rank: int = 0
    master: str | None = None

    def __post_init__(self) -> None:
        if self.number is None and (self.nodes > 1 or self.node_rank or self.master):
            raise ConfigError(f"--nodes, --node-rank and --master: only with {FLAG}", hint=f"add {FLAG}")

    def cluster(self, device: str) -> Cluster | None:
        """The processes to start; None where this one is to compute alone.

        Raises:
            ConfigError: If there is one device only and no number is given, the options do not fit, or the place to
                meet at cannot be opened.
            DeviceError: If the device is not there.
        """
        if self.number is None:
            return None
        from unetcli.cli.networks import load_engine
        from unetcli.launching import Cluster, own_cores, parse_master
        from unetcli.report import say

        load_engine()
        from unetcli.engine.device import choose_device, count_devices

        chosen = choose_device(device)
        if self.number == ALL and chosen == "CPU":
            raise ConfigError(
                f"{FLAG}: the processor is one device, so the number of processes must be given",
                hint=f"write {FLAG} 2 for two; each has its part of the cores",
            )
        master = parse_master(self.master) if self.master else None
        number = count_devices(chosen) if isinstance(self.number, str) else self.number
        cluster = Cluster(number, self.nodes, self.node_rank, master, is_on_cores=chosen == "CPU")
        cluster.meeting_point()  # or nothing must be made
        if cluster.is_on_cores and number > (num_cores := len(own_cores())):
            say(f"warning: {number} processes share {counted(num_cores, 'core')}, and will wait for each other")
        return cluster if cluster.size > 1 else None


def is_started_among_others() -> bool:
    """Whether a launcher has started this process as one of several."""
    return "MS_ROLE" in os.environ


def say_before(text: str) -> None:
    """Say what is found before processes are started; in those that `launch` has started nothing, which said it."""
    from unetcli.launching import is_launched
    from unetcli.report import say

    if not is_launched():
        say(text)


def meet(device: str) -> Company | None:
    """The processes that were started together with this one; None if it is alone."""
    if not is_started_among_others():
        return None
    from unetcli.cli.networks import load_engine

    load_engine()
    from unetcli.engine import join
    from unetcli.engine.device import choose_device

    return join(choose_device(device))


def leave_to(cluster: Cluster, arguments: Sequence[str], logs: Path) -> None:
    """Let the processes of a cluster do it, and leave as they do."""
    from unetcli.launching import launch
    from unetcli.report import say

    if cluster.num_nodes > 1:
        logs /= f"node-{cluster.node_rank}"
    say(f"starting {counted(cluster.num_local, 'process', 'processes')}; the logs are in {logs}")
    raise typer.Exit(launch(cluster, arguments, logs))


def meet_or_spread(spread: Spread, device: str, logs: Path) -> Company | None:
    """The same call in several processes, where it is asked for; None if this one is to do it alone."""
    company = meet(device)
    if company is None and (cluster := spread.cluster(device)):
        leave_to(cluster, sys.argv[1:], logs)
    return company


def main_first(company: Company | None, make: Callable[[], Made]) -> Made:
    """What `make` gives, in the main process first, so that the others find what it keeps for them."""
    if company is None or company.size == 1:
        return make()
    made = make() if company.is_main else None
    company.gather(None)
    return made if made is not None else make()


def num_own(company: Company | None, number: int) -> int:
    """How many of so many pieces of work are this process's."""
    return number if company is None else len(range(company.rank, number, company.size))


def schedule_if_asked() -> None:
    """Bring the others together and leave, in the process that a launcher has started for that."""
    from unetcli.launching import place_of

    place = place_of(os.environ)
    if place is not None and place.role == "scheduler":
        from unetcli.cli.networks import load_engine

        load_engine()
        from unetcli.engine.company import schedule

        schedule()
        raise typer.Exit
