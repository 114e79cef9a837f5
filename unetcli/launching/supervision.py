"""The launcher's side: it starts `msrun`, passes signals on, and ends all processes when one of them fails."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from unetcli.errors import RanksError, counted
from unetcli.launching.cluster import Cluster, own_cores
from unetcli.launching.exchange import STREAMS, VARIABLE, Exchange, Launcher, Member

POLL = 0.2
"""Seconds between two looks at the processes."""
GRACE = 2.0
"""Seconds that others have to say that they fail too, once one has."""
BEGINNING = 10.0
"""Seconds from the start of the first process in which all must have been started, and those lost must be missed."""
PARTING = 30.0
"""Seconds that processes have to end once they have said so, or have been asked to and one of them has."""
SHOWN_LINES = 20
"""Last lines of a log that are shown."""
INTERRUPTED = 130


def launch(cluster: Cluster, arguments: Sequence[str], logs: Path) -> int:
    """Start `unet` in all processes of this machine, and stay with them until they have ended.

    What the first worker says is shown here; the others have files in `logs`. The first signal to end is passed on to
    all workers, the second ends them at once. Where a process fails or is killed, the others are ended.

    Args:
        cluster: How many processes there are.
        arguments: Of the command, as after `unet`.
        logs: Folder for what each process writes; what is in it is removed.

    Returns:
        The exit code: 0, 130 if it was interrupted, or that of the first worker, which has then said what is wrong.

    Raises:
        ConfigError: If the processes cannot meet at the place that the user has named.
        RanksError: If another worker fails, or one is killed.
    """
    master = cluster.meeting_point()
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="unet-launch-") as name, _signals() as signals:
        folder = Path(name)
        with _pipes(folder) as pipes:
            exchange = Exchange(folder)
            cores = own_cores()
            parts = cluster.parts(os.environ, cores)
            exchange.write_launcher(Launcher(**pipes, arguments=list(arguments), cores=parts))
            environment = cluster.environment(os.environ, len(cores)) | {
                VARIABLE: name,
                "PATH": os.pathsep.join([str(_python_first(folder)), os.environ.get("PATH", os.defpath)]),
            }
            with (logs / "launcher.log").open("w") as log:
                msrun = subprocess.Popen(  # noqa: S603 - our own interpreter
                    cluster.command(logs, master),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on
                )
                try:
                    return _Supervisor(msrun, exchange, cluster, logs, signals).wait()
                finally:
                    _end(msrun, exchange)


class _Supervisor:
    """Watches the processes of a call."""

    def __init__(
        self, msrun: subprocess.Popen[bytes], exchange: Exchange, cluster: Cluster, logs: Path, signals: list[int]
    ) -> None:
        self._msrun = msrun
        self._exchange = exchange
        self._cluster = cluster
        self._logs = logs
        self._signals = signals
        self._asked: set[int] = set()
        self._begun_at: float | None = None

    def wait(self) -> int:
        """Until all have ended; see `launch`."""
        leaving_since: float | None = None
        while self._msrun.poll() is None:
            time.sleep(POLL)
            workers = self._workers()
            if self._signals:
                if len(self._signals) > 1:
                    return INTERRUPTED
                self._pass_on(workers)
            is_done = len(workers) == self._cluster.num_local and all(each.code == 0 for each in workers)
            failed = self._failed()
            if not (is_done or failed):
                self._miss_silent()
                continue
            if not (is_done or self._signals):
                time.sleep(GRACE)
                return self._explain(failed)
            leaving_since = leaving_since or time.monotonic()
            if time.monotonic() - leaving_since > PARTING or all(map(_is_gone, workers)):
                break
        if self._signals:
            return INTERRUPTED
        return self._outcome()

    def _workers(self) -> list[Member]:
        return [member for member in self._exchange.members() if member.is_worker]

    def _failed(self) -> list[Member]:
        # first who is gone, then what they have said: a process may end well between two looks
        gone = {member.name for member in self._exchange.members() if _is_gone(member)}
        return [
            member
            for member in self._exchange.members()
            if member.code not in (None, 0) or (member.code is None and member.name in gone)
        ]

    def _miss_silent(self) -> None:
        """Raise `RanksError` if a process is gone that has never said that it has begun.

        msrun does not look at its scheduler, and waits for that one without end where no worker is left.
        """
        import psutil

        members = list(self._exchange.members())
        if len(members) == self._cluster.num_started:  # or psutil would look at all processes for as long as they live
            return
        with contextlib.suppress(psutil.NoSuchProcess):  # msrun has just ended, which is found out by its code
            children = psutil.Process(self._msrun.pid).children()
            alive = sum(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
            if children and self._begun_at is None:
                self._begun_at = time.monotonic()
            ended = sum(member.code is not None and _is_gone(member) for member in members)
            missing = self._cluster.num_started - alive - ended
            if self._begun_at is not None and missing > 0 and time.monotonic() - self._begun_at > BEGINNING:
                raise RanksError(
                    f"{missing} of {counted(self._cluster.num_started, 'process', 'processes')} of this machine "
                    f"{'was' if missing == 1 else 'were'} killed, or ran out of memory, while starting",
                    hint="a training goes on from its last epoch with --resume",
                )

    def _outcome(self) -> int:
        workers = self._workers()
        if len(workers) == self._cluster.num_local and all(each.code == 0 for each in workers):
            return 0
        if failed := self._failed():
            return self._explain(failed)
        log = self._logs / "launcher.log"
        processes = counted(self._cluster.num_local, "process", "processes")
        raise RanksError(
            f"MindSpore's launcher has ended with {len(workers)} of {processes} begun; "
            f"the end of {log}:\n{_end_of(log)}",
            hint="try 'unet doctor'",
        )

    def _pass_on(self, workers: Sequence[Member]) -> None:
        for worker in workers:
            if worker.pid not in self._asked:
                self._asked.add(worker.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, self._signals[0])

    def _explain(self, failed: Sequence[Member]) -> int:
        """The code of the first worker, where it too has said what is wrong; else an error about the first to fail."""
        member = self._first([member for member in failed if member.code is None] or failed)
        if member.code is not None:  # not where one was killed, which others can only suffer from
            for other in self._failed():
                if other.name == "worker_0" and other.code:
                    return other.code
        log = self._logs / f"{member.name}.log"
        how = f"left with code {member.code}" if member.code is not None else "was killed, or ran out of memory"
        raise RanksError(
            f"{member.name} of {self._cluster.size} {how}; the end of {log}:\n{_end_of(log)}",
            hint="a training goes on from its last epoch with --resume",
            exit_code=member.code,
        )

    def _first(self, failed: Sequence[Member]) -> Member:
        """Of several that are gone at one look, the one that msrun has missed; it has ended the others itself."""
        told = (self._logs / "launcher.log").read_text("utf-8", errors="replace")
        places = {member.name: told.find(f"process {member.pid} exit") for member in failed}
        return min(failed, key=lambda member: (places[member.name] < 0, places[member.name]))


@contextlib.contextmanager
def _signals() -> Generator[list[int]]:
    """Signals to end, as they come, in place of what they do otherwise."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _pipes(folder: Path) -> Generator[dict[str, str]]:
    """What the processes know the launcher by: its terminal where it has one, else pipes that it passes on."""
    alive = folder / "alive"
    os.mkfifo(alive)
    holding = os.open(alive, os.O_RDWR)  # both ends, so that it opens before anybody is at the other
    places = {"alive": str(alive)}
    done = threading.Event()
    relays: list[threading.Thread] = []
    for number, name in enumerate(STREAMS, start=1):
        if os.isatty(number):
            places[name] = os.ttyname(number)
            continue
        pipe = folder / name
        os.mkfifo(pipe)
        places[name] = str(pipe)
        source = os.open(pipe, os.O_RDWR)
        relays.append(threading.Thread(target=_relay, args=(source, number, done), daemon=True))
    for relay in relays:
        relay.start()
    try:
        yield places
    finally:
        done.set()
        for relay in relays:
            relay.join()
        os.close(holding)


def _relay(source: int, target: int, done: threading.Event) -> None:
    """Copy all that comes, until there is no more and none will come."""
    is_open = True
    while True:
        is_last = done.is_set()  # before the look, so that nothing is missed
        if select.select([source], [], [], 0 if is_last else POLL)[0]:
            content = os.read(source, 1 << 16)
            while is_open and content:
                try:
                    content = content[os.write(target, content) :]
                except BrokenPipeError:  # nobody reads any more; the processes go on
                    is_open = False
        elif is_last:
            break
    os.close(source)


def _python_first(folder: Path) -> Path:
    """A folder in which `python` is this interpreter: a script, since a link would leave its virtual environment."""
    place = folder / "bin"
    place.mkdir()
    script = place / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return place


def _is_gone(member: Member) -> bool:
    import psutil  # not at the top, since 'unet doctor' must begin without it

    try:
        return psutil.Process(member.pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def _end(msrun: subprocess.Popen[bytes], exchange: Exchange) -> None:
    """All that the launcher has started and that is still there; msrun itself would wait for half a minute."""
    import psutil

    numbers = {member.pid for member in exchange.members() if not _is_gone(member)}
    with contextlib.suppress(psutil.NoSuchProcess):
        numbers |= {process.pid for process in psutil.Process(msrun.pid).children(recursive=True)}
    msrun.kill()
    msrun.wait()
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _end_of(log: Path) -> str:
    """The last lines of a log."""
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.is_file() else []
    return "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:]) or "  (empty)"
