"""Run all benchmarks, and make a table and a plot of what they find: `make bench`.

    python benchmarks/run.py [--quick | --rounds N] [--only NAME ...] [--redraw]

Each script runs with `--json`. Its lines are kept in `results.json` beside this file; from there the table between the
two marks in `README.md` and `results.svg` are made, so that one script can be run anew (`--only`) and the rows of the
others stay, and both can be drawn anew (`--redraw`). Where a script fails, what it has found before it failed stays, or
what it found the last time; it is named under the table, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from compare import UNSET

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PLOT = HERE / "results.svg"
README = HERE / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
ROUNDS = {
    "train_step": 3,
    "predict_image": 3,
    "predict_volume": 2,
    "start_up": 3,
    "data": 3,
    "measures": 1,
    "prepare": 2,
    "processes": 3,
    "growth": 3,
}
"""Of each script, so that all take about half an hour; MedPy alone takes minutes for one."""
PACKAGES = {
    "MindSpore": "mindspore",
    "OpenVINO": "openvino",
    "ONNX Runtime": "onnxruntime",
    "PyTorch": "torch",
    "MONAI": "monai",
    "nnU-Net": "nnunetv2",
    "NumPy": "numpy",
}
COLUMNS = ("question", "ours", "peer", "ratio (low to high)", "bar", "met")


def main() -> None:
    """Run what is asked for, keep it, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--quick", dest="rounds", action="store_const", const=1, help="one round each")
    number.add_argument("--rounds", type=int, help="so many rounds each")
    parser.add_argument("--only", nargs="+", choices=list(ROUNDS), default=list(ROUNDS))
    parser.add_argument("--redraw", action="store_true", help="run nothing, make the table and the plot anew")
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    failed: list[str] = []
    for name in () if arguments.redraw else arguments.only:
        rounds = arguments.rounds or ROUNDS[name]
        print(f"\n{name}, {rounds} rounds", flush=True)
        lines, succeeded = results_of(name, ["--rounds", str(rounds)])
        if lines:
            kept[name] = {"lines": lines, "date": str(dt.date.today()), **machine()}
        if not succeeded:
            failed.append(name)
            kept.setdefault(name, {"lines": []})["failed"] = str(dt.date.today())
        kept = {script: kept[script] for script in ROUNDS if script in kept}
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    write_table(kept)
    # in a process of its own, so that this one needs no more than the standard library
    subprocess.run([sys.executable, str(HERE / "plot.py"), str(RESULTS), str(PLOT)], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def results_of(name: str, options: list[str]) -> tuple[list[dict[str, Any]], bool]:
    """The lines of JSON of a script, whose other output is passed on, and whether it has succeeded."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *options]
    environment = {key: value for key, value in os.environ.items() if key not in UNSET}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines: list[dict[str, Any]] = []
        for line in process.stdout or ():
            if line.startswith('{"question"'):
                lines.append(json.loads(line))
            else:
                print(line, end="", flush=True)
    return lines, process.returncode == 0 and bool(lines)


def machine() -> dict[str, Any]:
    """What was measured on, and with which versions."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in read_lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {"Python": platform.python_version()} | {
        name: found for name, package in PACKAGES.items() if (found := installed(package))
    }
    return {"machine": f"{os.cpu_count()} cores of {cpu}, {memory / 2**30:.0f} GiB", "versions": versions}


def installed(package: str) -> str | None:
    """The version of a package, without what its build adds."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None


def read_lines(path: str) -> list[str]:
    """The lines of a file; none if it is not there."""
    return Path(path).read_text("utf-8").splitlines() if Path(path).exists() else []


def write_table(kept: Mapping[str, Any]) -> None:
    """Put the table between its marks in the README, or at its end where there are none."""
    text = README.read_text("utf-8")
    if BEGIN not in text or END not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    README.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{rest.split(END, 1)[1]}", "utf-8")


def table(kept: Mapping[str, Any]) -> str:
    """All results in Markdown, with what they were measured on, and what has failed."""
    rows = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for name in ROUNDS:
        for line in kept.get(name, {}).get("lines", ()):
            if not line["question"].startswith("growth"):
                rows.append(f"| {' | '.join(cells(name, line))} |")
    conditions: dict[str, list[str]] = {}
    for name, found in kept.items():
        if "date" in found:
            versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
            conditions.setdefault(f"{found['date']}, {found['machine']}; {versions}", []).append(name)
    notes = [
        (f"{', '.join(names)}: " if len(conditions) > 1 else "") + condition for condition, names in conditions.items()
    ]
    notes += [f"{name} has failed ({found['failed']})" for name, found in kept.items() if "failed" in found]
    plot = f"![what it takes beside its peers, and how it grows]({PLOT.name})"
    return "\n".join([*rows, "", *(f"- {note}." for note in notes), "", plot])


def cells(script: str, line: Mapping[str, Any]) -> list[str]:
    """One row of the table."""
    unit = line.get("unit", "patches/s" if script == "data" else "s")
    peer = line.get("peer_name") or ""
    ours, theirs = (f"{short(line[key])} {unit}" if line.get(key) is not None else "" for key in ("ours", "peer"))
    if line.get("ours_peak_mb"):
        ours, theirs = f"{ours}, {line['ours_peak_mb']:.0f} MB", f"{theirs}, {line['peer_peak_mb']:.0f} MB"
    ratio = f"**{short(line['ratio'])}** ({short(line['low'])} to {short(line['high'])})" if "ratio" in line else ""
    bar = line.get("bar")
    limit = "" if bar is None else f"{bar:g}" if "ratio" in line else f"{bar:g} {unit}"
    met = {True: "yes", False: "no", None: ""}[is_met(line)]
    return [line["question"], ours, f"{theirs} ({peer})" if theirs else "", ratio, limit, met]


def is_met(line: Mapping[str, Any]) -> bool | None:
    """Whether a result is within its bar, a ratio or a value of ours; None if it has none."""
    if line.get("bar") is None:
        return None
    return line.get("ratio", line["ours"]) <= line["bar"]


def short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


if __name__ == "__main__":
    main()
