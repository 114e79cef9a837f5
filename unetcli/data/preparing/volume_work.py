"""Many cases at once, in processes of their own, of which each may fail alone."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import SimpleITK

from unetcli.data.preparing.volume_cases import make_case
from unetcli.data.preparing.volume_records import CaseSettings, Finished, RawCase, Skipped

SMALL = 256_000_000
MOST_JOBS = 8
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of `mallopt`, as in malloc.h."""


def default_jobs(num_bytes: int) -> int:
    """Processes for so much to write: one a processor, or this one alone where starting others costs more."""
    if num_bytes < SMALL:
        return 1
    num_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(num_processors, MOST_JOBS)


def work_on(cases: Sequence[RawCase], settings: CaseSettings, folder: Path, jobs: int) -> Iterator[Finished | Skipped]:
    """Make each case in one of `jobs` processes, and give the results as they come.

    A process that is killed, as the system does for want of memory, fails the case that kills it when run alone.

    Raises:
        DataError: If a case cannot be written.
        OSError: If a case cannot be written.
    """
    if jobs == 1:
        for raw in cases:
            yield make_case(raw, settings, folder)
        return
    waiting = deque(cases)
    while waiting:
        for raw in (yield from _until_broken(waiting, settings, folder, jobs)):
            yield _alone(raw, settings, folder)


def _until_broken(
    waiting: deque[RawCase], settings: CaseSettings, folder: Path, jobs: int
) -> Generator[Finished | Skipped, None, list[RawCase]]:
    """Work until nothing waits, or a process dies; gives back the cases that were in work then."""
    running: dict[Future[Finished | Skipped], RawCase] = {}
    with _pool(jobs) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running[pool.submit(make_case, waiting[0], settings, folder)] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    del running[future]
                    yield result
        except BrokenProcessPool:
            return list(running.values())
    return []


def _alone(raw: RawCase, settings: CaseSettings, folder: Path) -> Finished | Skipped:
    with _pool(1) as pool:
        try:
            return pool.submit(make_case, raw, settings, folder).result()
        except BrokenProcessPool:
            return Skipped(raw.id, "the process that read it was killed, most likely for want of memory")


def _pool(jobs: int) -> ProcessPoolExecutor:
    # spawned, since a fork would take threads of other libraries along in an unknown state
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Leave interruptions to the parent, never outlive it, and keep memory from case to case."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # each process has a processor of its own
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    _keep_memory()


def _keep_memory() -> None:
    """Do not give large arrays back to the system, which would take them apart and together again page by page.

    That costs as long as all other work on a case. Only the C library of GNU can be told so (`mallopt`).
    """
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL("libc.so.6")
        allocator.mallopt(M_MMAP_MAX, 0)
        allocator.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
