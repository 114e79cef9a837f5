"""What a person sees: progress, tables, and the same as JSON for a program.

Results go to standard output, talk to standard error. Progress moves only on a terminal; elsewhere there is a
line an epoch.

NumPy is imported where something is drawn, so that `unet doctor` can say that it is missing.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from unetcli.errors import counted
from unetcli.files import write_json, write_text
from unetcli.report.overlays import write_overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from unetcli.evaluation import Evaluation

__all__ = [
    "TrainingDisplay",
    "counting",
    "emit_json",
    "progressing",
    "save_evaluation",
    "say",
    "show_evaluation",
    "show_export",
    "show_installation",
    "show_predictions",
    "show_training",
    "table",
    "write_overlay",
]

OVER_CASES = (
    *("dice", "iou", "precision", "recall", "specificity", "volume_difference"),
    *("hd95_mm", "asd_mm", "assd_mm", "surface_dice"),
)
"""Measures that are shown over cases; the files have all."""

OF_OBJECTS = (
    *("average_precision_50", "average_precision_75", "mean_average_precision"),
    *("panoptic_quality", "segmentation_quality", "recognition_quality"),
)
"""The same of objects."""

BACKGROUND = "background"
"""The class whose statistics are in the files alone."""

STATISTICS = ("measure", "mean", "median", "95 % interval of the mean", "n")
"""Columns of what is shown over cases."""

NUM_WORST = 5
"""Cases that are shown one by one."""


def say(text: str) -> None:
    """A line of talk, on standard error."""
    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(text)


def emit_json(value: Any) -> None:
    """A result for a program, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; numbers are set right, and None is shown as absent."""
    shown = Table(title=title, title_justify="left")
    for index, name in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        shown.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_text(value) for value in row))
    width = None if sys.stdout.isatty() else 120
    Console(highlight=False, markup=False, emoji=False, width=width).print(shown)


def _text(value: Any) -> str:
    match value:
        case None:
            return "absent"
        case float():
            return f"{value:.4f}"
        case _:
            return str(value)


@contextlib.contextmanager
def counting(what: str, total: int) -> Generator[Callable[[], None]]:
    """A bar over `total` pieces of work on a terminal, and nothing elsewhere; call what it gives after each."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


@contextlib.contextmanager
def progressing(what: str) -> Generator[Callable[[int, int], None]]:
    """The same for work whose extent shows as it begins; what it gives is called with the pieces done and in all."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class TrainingDisplay:
    """Follows a training by its events: a bar on a terminal, a line an epoch elsewhere.

    Args:
        num_epochs: Epochs in all.
        steps_per_epoch: Steps of each.
        batch_size: Images of a step.
    """

    def __init__(self, num_epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        self._num_epochs = num_epochs
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._score: str | None = None
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("step {task.completed}/{task.total}  {task.fields[status]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(
            "training", total=num_epochs * steps_per_epoch, epoch=f"1/{num_epochs}", status="compiling the network"
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event of the engine."""
        if event["event"] == "step":
            self._show_step(event)
        else:
            self._show_epoch(event)

    def _show_step(self, event: Mapping[str, Any]) -> None:
        score = "" if self._score is None else f"  {self._score}"
        status = (
            f"loss {event['loss']:.4f}  lr {event['learning_rate']:.2e}  "
            f"{self._batch_size / event['seconds']:.1f} img/s{score}"
        )
        self._progress.update(
            self._task, completed=event["step"], epoch=f"{event['epoch']}/{self._num_epochs}", status=status
        )

    def _show_epoch(self, event: Mapping[str, Any]) -> None:
        parts = [f"epoch {event['epoch']:>{len(str(self._num_epochs))}}/{self._num_epochs}"]
        if event["loss"] is not None:
            parts.append(f"loss {event['loss']:.4f}")
        parts.append(f"lr {event['learning_rate']:.2e}")
        if event["images_per_second"] is not None:
            parts.append(f"{event['images_per_second']:.1f} img/s")
            parts.append(f"waiting for data {event['wait_share']:.1%}")
        if event["validation"] is not None:
            self._score = score_text(event["select_by"], event["score"])
            parts.append(self._score + (" (best)" if event["is_best"] else ""))
        self._console.print("   ".join(parts), markup=False, soft_wrap=True)


def say_translation(facts: Mapping[str, Any], file: Path, *, weights: str = "") -> None:
    """How a settings file of the model zoo was understood: every key, and what became of it.

    Args:
        facts: What `Translation.facts` gives.
        file: The file.
        weights: Options that would load weights which the file asks for, and which are not loaded otherwise.
    """
    say(f"{file}: a file of the MindSpore model zoo, laid over the preset {facts['preset']}")
    for of in facts["translated"]:
        say(f"  {of['key']} -> {of['setting']}: {of['value']}")
    if facts["without_counterpart"]:
        say("  without a counterpart:")
    for key, reason in facts["without_counterpart"].items():
        say(f"  {key}: {reason}")
    if weights:
        say(
            f"warning: {file} asks for the weights of another training, which are not loaded; add {weights}, or go on "
            "with a whole run by --resume RUN"
        )


def score_text(name: str, value: float | None) -> str:
    """A measure that a run is selected by, with its value."""
    shown = "mean IoU" if name == "mean_iou" else name
    return f"{shown} {_text(value) if value is None else f'{value:.4f}'}"


def show_training(outcome: Mapping[str, Any], *, as_json: bool) -> None:
    """How a training ended, and what comes next."""
    if as_json:
        emit_json(outcome)
        return
    run = shlex.quote(outcome["run"])
    score = outcome["best_score"]
    best = "no best weights yet" if score is None else f"best {score_text(outcome['select_by'], score)}"
    epochs, steps = (counted(outcome[f"{noun}s"], noun) for noun in ("epoch", "step"))
    say(f"{outcome['outcome']} after {epochs} ({steps}), {best}")
    say(
        f"go on with: unet train --resume {run}"
        if outcome["outcome"] == "interrupted"
        else f"next: unet eval --run {run}"
    )


def save_evaluation(result: Evaluation, folder: Path) -> None:
    """Write `summary.json`, with the statistics over cases, and `cases.csv`, the worst case first."""
    write_json(folder / "summary.json", _with_statistics(result))
    rows = result.rows()
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "cases.csv", text.getvalue())


def show_evaluation(result: Evaluation, folder: Path, *, as_json: bool) -> None:
    """The measures as tables, or as JSON: of all pixels, of each class over the cases, and of the worst cases."""
    if as_json:
        emit_json(_with_statistics(result) | {"folder": str(folder)})
        return
    summary = result.summary()
    classes: dict[str, dict[str, Any]] = summary["classes"]
    columns = ["class", *next(iter(classes.values()))]
    table("classes", columns, [[name, *values.values()] for name, values in classes.items()])
    overall = [[name, value] for name, value in summary.items() if name not in ("classes", "instances")]
    table("1 case" if summary["num_cases"] == 1 else f"all {summary['num_cases']} cases", ["measure", "value"], overall)
    for name, measures in result.statistics().items():
        if name == BACKGROUND:  # nearly all of it is right, whatever is found
            continue
        table(f"{name}, over cases", STATISTICS, _over(OVER_CASES, measures))
    if "instances" in summary:
        _show_objects(summary["instances"])
        table("objects, over cases", STATISTICS, _over(OF_OBJECTS, result.object_statistics()))
    _show_worst(result)
    say(f"tables, JSON and overlays: {folder}")


def _with_statistics(result: Evaluation) -> dict[str, Any]:
    of_objects = result.object_statistics()
    more = {"object_statistics": of_objects} if of_objects else {}
    return result.summary() | {"statistics": result.statistics()} | more


def _show_objects(instances: Mapping[str, Any]) -> None:
    """The measures of all objects, and some of each class where there are several that objects are of."""
    table("objects of all cases", ["measure", "value"], [[*each] for each in instances.items() if each[0] != "classes"])
    classes: Mapping[str, Mapping[str, Any]] = instances.get("classes", {})
    if classes:
        names = ("num_true_objects", "num_predicted_objects", *OF_OBJECTS[:4])
        rows = [[name, *(values[measure] for measure in names)] for name, values in classes.items()]
        shown = [name.replace("_", " ") for name in names]  # to be broken into lines
        table("objects of each class", ["class", *shown], rows)


def _over(names: Sequence[str], measures: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of a table of statistics; an interval is one text, so that its ends stay together."""
    rows: list[list[Any]] = []
    for name in (name for name in names if name in measures):
        of = measures[name]
        interval = None if of["low"] is None else f"{of['low']:.4f} to {of['high']:.4f}"
        rows.append([name, of["mean"], of["median"], interval, of["num_cases"]])
    return rows


def _show_worst(result: Evaluation) -> None:
    names = [f"{name}_{measure}" for name in result.classes[1:] for measure in ("dice", "hd95_mm")]
    rows = result.rows()[:NUM_WORST]
    shown = [name for name in names if any(name in row for row in rows)]
    table("worst cases", ["case", *shown], [[row["case"], *(row.get(name) for name in shown)] for row in rows])


def show_predictions(done: Sequence[Mapping[str, Any]], failures: Mapping[str, str], *, as_json: bool) -> None:
    """What was written for each image, and why where nothing was."""
    if as_json:
        emit_json({"done": list(done), "failed": dict(failures)})
        return
    rows = [[entry["image"], entry["mask"], *_found(entry), f"{entry['seconds']:.1f}"] for entry in done]
    table("segmented", ["image", "mask", "extent", "classes", "seconds"], rows)


def _found(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The extent of an image and its classes: pages and their shares, or voxels and ml."""
    if "pages" in entry:
        shares = entry["class_shares"].items()
        objects = [counted(entry["num_objects"], "object")] if "num_objects" in entry else []
        return counted(entry["pages"], "page"), ", ".join(
            [*(f"{name} {share:.1%}" for name, share in shares), *objects]
        )
    volumes = entry["volumes_ml"].items()
    if None in entry["volumes_ml"].values():  # the file does not tell the size of its voxels
        volumes = ((name, share) for name, share in entry["class_shares"].items())
        return " x ".join(map(str, entry["size"])), ", ".join(f"{name} {share:.1%}" for name, share in volumes)
    return " x ".join(map(str, entry["size"])), ", ".join(f"{name} {_ml(volume)} ml" for name, volume in volumes)


def _ml(volume: float) -> str:
    """Three digits, and no fewer than the whole millilitres."""
    return f"{volume:.3g}" if volume < 100 else f"{volume:.0f}"


def show_export(path: Path, facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Where a model file is, and how equal to its run it was found."""
    agreement = facts["agreement"]
    if as_json:
        emit_json({"model": str(path), **facts})
        return
    rows = [
        ["file", str(path)],
        ["description", f"{path}.json"],
        ["size", f"{path.stat().st_size / 1e6:.1f} MB"],
        ["input", str(facts["input"]["shape"])],
        ["pixels compared with the run", agreement["num_pixels"]],
        ["equal labels", f"{agreement['equal_labels']:.4%}"],
        ["largest difference of a score", f"{agreement['largest_difference']:.1e}"],
    ]
    table("exported", ["", ""], rows)


def show_installation(findings: Mapping[str, Mapping[str, Any]], *, as_json: bool) -> None:
    """What there is of all that `unet` needs, whether it will do, and the next steps.

    Args:
        findings: By name: `status`, `found`, `next_step` and `facts`.
        as_json: For a program.
    """
    works = all(finding["status"] != "problem" for finding in findings.values())
    if as_json:
        emit_json({"works": works, "findings": findings})
        return
    marks = {"ok": "ok", "warning": "! warning", "problem": "X problem"}
    rows = [[name, marks[finding["status"]], finding["found"]] for name, finding in findings.items()]
    table("installation", ["what", "status", "found"], rows)
    steps: dict[str, list[str]] = {}
    for name, finding in findings.items():
        if finding["next_step"]:
            steps.setdefault(finding["next_step"], []).append(name)
    if steps:
        # a command is copied from here, so it is no cell of a table, which would break it into lines
        lines = (f"  {', '.join(names)}: {step}\n" for step, names in steps.items())
        sys.stdout.write("next steps\n" + "".join(lines))
