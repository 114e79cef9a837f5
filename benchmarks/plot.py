"""Draw what the benchmarks have found: ratios beside their bars, and how cost grows.

python benchmarks/plot.py RESULTS.json PLOT.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from growth import fit_line
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

MET, MISSED, WITHOUT = "#3b75af", "#d1733a", "#b4b4b4"
"""Colours of a ratio within its bar, beyond it, and without one."""
LINES = {"2D": "#3b75af", "3D": "#8a4a9e"}
PANELS = (
    ("predict", "seconds", "unet predict", "seconds"),
    ("predict", "peak_mb", "unet predict", "peak memory, MB"),
    ("train", "seconds", "a training step", "seconds"),
)
"""What a panel of growth shows: question, value, title, axis."""


def main() -> None:
    """Read the results and write the plot."""
    source, target = map(Path, sys.argv[1:3])
    kept = json.loads(source.read_text("utf-8"))
    lines = [line for found in kept.values() for line in found["lines"]]
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "unet", "axes.spines.top": False, "axes.spines.right": False})
    draw(lines).savefig(target, bbox_inches="tight", metadata={"Date": None} if target.suffix == ".svg" else None)


def draw(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Ratios on the left, growth on the right."""
    ratios = [line for line in lines if "ratio" in line]
    figure = plt.figure(figsize=(13, max(7.0, 1.5 + 0.3 * len(ratios))), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.5, 1))
    draw_ratios(left.subplots(), ratios)
    for axes, (question, value, title, label) in zip(right.subplots(len(PANELS), 1), PANELS, strict=True):
        draw_growth(axes, lines, question, value)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("million pixels of the patch" if question == "train" else "million pixels of the image")
        axes.set_ylabel(label)
    return figure


def draw_ratios(axes: Axes, ratios: Sequence[Mapping[str, Any]]) -> None:
    """A row a question: the median from 1 on, the spread as a line, and what it must not exceed as a tick."""
    for row, line in enumerate(ratios):
        ratio, bar = line["ratio"], line.get("bar")
        colour = WITHOUT if bar is None else MET if ratio <= bar else MISSED
        axes.barh(row, ratio - 1, left=1, color=colour, height=0.62)
        axes.plot([line["low"], line["high"]], [row, row], color="#333333", linewidth=1)
        if bar is not None:
            axes.plot([bar, bar], [row - 0.42, row + 0.42], color="black", linewidth=2)
        text = f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"
        said = {"color": colour, "fontweight": "bold"} if colour == MISSED else {}
        axes.text(1.01, row, text, va="center", transform=axes.get_yaxis_transform(), **said)
        limit = "" if bar is None else f"{bar:g}"
        axes.text(1.12, row, limit, va="center", transform=axes.get_yaxis_transform())
    axes.text(1.01, -0.9, "ratio", fontweight="bold", transform=axes.get_yaxis_transform())
    axes.text(1.12, -0.9, "bar", fontweight="bold", transform=axes.get_yaxis_transform())
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(ratios)), [f"{line['question']}\n{line['peer_name']}" for line in ratios], fontsize=7.5)
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("ours / peer: less is better; thin line: least to most of the rounds")
    axes.set_title("unet beside its peers\n", loc="left", fontweight="bold")
    for colour, label in ((MET, "within its bar"), (MISSED, "beyond its bar"), (WITHOUT, "without a bar")):
        axes.barh(0, 0, left=1, color=colour, label=label)
    axes.plot([], [], color="black", linewidth=2, label="bar")
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(-0.01, 1.0))


def draw_growth(axes: Axes, lines: Sequence[Mapping[str, Any]], question: str, value: str) -> None:
    """The points of 2D and 3D, each with the straight line through them."""
    for kind, colour in LINES.items():
        points = [line for line in lines if line["question"] == f"growth {question} {kind}" and value in line]
        if not points:
            continue
        x = [point["pixels"] / 1e6 for point in points]
        y = [point[value] for point in points]
        axes.plot(x, y, "o", color=colour, markersize=4, label=kind)
        if len(points) > 1:
            start, slope, r2 = fit_line(x, y)
            ends = [0, max(x)]
            axes.plot(ends, [start + slope * end for end in ends], color=colour, linewidth=1)
            axes.lines[-1].set_label(f"{start:.3g} + {slope:.3g} a million, r2 {r2:.3f}")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
