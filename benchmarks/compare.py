"""What the benchmarks share: programs in turn, each in a process of its own, and the ratios of what they take.

It imports the standard library alone. The peak memory that Linux tells of a process begins with that of the one which
started it, so the process that compares others must be small.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNSET = ("ONEDNN_MAX_CPU_ISA", "GLOG_v")
"""What `unet` sets for itself; in a peer's process the first would slow PyTorch down."""


@dataclass(frozen=True, slots=True)
class Done:
    """A process that has ended.

    Attributes:
        seconds: From its start to its end.
        cpu_seconds: Of all processors, which tells more where other work runs beside it.
        peak_mb: The most memory it has held, in MB of a million bytes; NaN if this process has held more itself.
        output: What it has printed on standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object that ends the output, on one line or indented."""
        return json.loads(self.output[f"\n{self.output}".rindex("\n{") :])


Rounds = Mapping[str, Sequence[Done]]
"""By the name of a contestant, how each of its rounds has gone."""


def run(command: Sequence[str | Path]) -> Done:
    """Start a program and wait for its end; what it says on standard error is shown if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        if process.stdout is None:
            raise RuntimeError("a process without standard output")
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-4000:]
            sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{output[-2000:]}{said}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) if usage.ru_maxrss > own else math.nan
    return Done(seconds, usage.ru_utime + usage.ru_stime, peak / 1e6, output)


def alternate(contestants: Mapping[str, Callable[[], Done]], rounds: int) -> Rounds:
    """Run all contestants in turn, `rounds` times over, and say how each has done."""
    done: dict[str, list[Done]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, start in contestants.items():
            result = start()
            done[name].append(result)
            print(
                f"round {number}: {name}: {result.seconds:.2f} s, {result.cpu_seconds:.2f} s of processors, "
                f"{result.peak_mb:.0f} MB",
                flush=True,
            )
    return done


def comparison(
    question: str,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    *,
    bar: float | None = None,
    unit: str = "s",
) -> dict[str, Any]:
    """The result of one question: medians, and the median and the spread of the ratios ours / peer of the rounds.

    Args:
        question: What was compared.
        ours: What ours took in each round; less is better.
        peer: What the peer took.
        peer_name: With its version.
        bar: The largest ratio that is good enough.
        unit: Of `ours` and `peer`.
    """
    ratios = [one / other for one, other in zip(ours, peer, strict=True)]
    return {
        "question": question,
        "ours": statistics.median(ours),
        "peer": statistics.median(peer),
        "unit": unit,
        "peer_name": peer_name,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "rounds": len(ratios),
        "bar": bar,
    }


def of_processes(
    question: str, ours: Sequence[Done], peer: Sequence[Done], peer_name: str, *, bar: float | None = None
) -> dict[str, Any]:
    """The comparison of the seconds of processes, with the peak memory of both."""
    seconds = [done.seconds for done in ours], [done.seconds for done in peer]
    memory = {
        f"{name}_peak_mb": statistics.median(done.peak_mb for done in each)
        for name, each in (("ours", ours), ("peer", peer))
    }
    return comparison(question, *seconds, peer_name, bar=bar) | memory


def describe(result: Mapping[str, Any]) -> str:
    """A result as a sentence."""
    if "ratio" not in result:
        facts = (
            f"{name} {_short(value)}" for name, value in result.items() if name != "question" and value is not None
        )
        return f"{result['question']}: {', '.join(facts)}"
    unit = result.get("unit", "s")
    text = (
        f"{result['question']}: {_short(result['ours'])} {unit}, "
        f"{result['peer_name']} {_short(result['peer'])} {unit}, ratio {_short(result['ratio'])} "
        f"({_short(result['low'])} to {_short(result['high'])} in {result['rounds']} rounds)"
    )
    if result.get("ours_peak_mb"):
        text += f", peak {result['ours_peak_mb']:.0f} and {result['peer_peak_mb']:.0f} MB"
    return text if result.get("bar") is None else f"{text}, bar {result['bar']}"


def publish(results: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print results: sentences, or one JSON object a line at the end of the output."""
    for result in results:
        print(describe(result))
    if as_json:
        for result in results:
            print(json.dumps(result))


def parser(description: str | None, *, rounds: int = 3) -> argparse.ArgumentParser:
    """The options that the benchmarks share."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=rounds, help="how often each contestant runs")
    options.add_argument("--json", action="store_true", help="end with one JSON object a result and line")
    options.add_argument("--work", type=Path, default=Path("bench-work"), help="where the files go; they are kept")
    return options


def _short(value: object) -> str:
    """A number with three digits that count."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
