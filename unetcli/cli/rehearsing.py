"""`unet train --dry-run`: what a training would be. Imported in the command's body, since it is not light."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unetcli import report
from unetcli.config import with_values
from unetcli.data.patches import PatchSampler, Share
from unetcli.engine.checkpoint import read_checkpoint
from unetcli.engine.device import choose_device
from unetcli.engine.memory import training_bytes
from unetcli.files import refuse_unwritable
from unetcli.inference import bytes_as_text
from unetcli.runs import with_epochs

if TYPE_CHECKING:
    from pathlib import Path

    from unetcli.cli.planning import Request
    from unetcli.cli.train import Split
    from unetcli.config import TrainSettings
    from unetcli.runs import Run


def show(run: Run, cases: Split, request: Request, device: str, *, num_processes: int, as_json: bool) -> None:
    """Say what would be trained, of a run that has been checked; nothing is written.

    Args:
        run: The run, known or yet to be made.
        cases: For training and validation.
        request: What was asked for.
        device: Where, or "auto".
        num_processes: How many would train together.
        as_json: Whether for a program.

    Raises:
        ConfigError: If a run that is taken up has more epochs already.
        DataError: If the run could not be written.
        RunError: If it has lost its first weights.
    """
    ended, epoch = None, 1
    if request.resume is not None:
        refuse_unwritable(run.last_checkpoint)
        start = run.starting_point()
        if request.epochs is not None:
            run = replace(run, config=with_epochs(run.config, request.epochs, run.path))
        if start:
            ended, epoch = _place_in(run.config.train, start)
    else:
        refuse_unwritable(run.path)
        start = run.facts.initial.path if run.facts.initial else None
    train = run.config.train
    batches = PatchSampler(cases[0], run.config, has_ignored=run.facts.has_ignored, share=Share(run.patches_per_step))
    facts: dict[str, Any] = {
        "run": str(run.path),
        "preset": run.config.preset,
        "dataset": str(run.facts.dataset_path),
        "train_cases": len(run.facts.train),
        "validation_cases": len(run.facts.validation),
        "first_weights": str(start) if start else None,
        "patch_size": list(run.config.data.patch_size),
        "patches_per_step": run.patches_per_step,
        "steps_per_epoch": batches.steps_per_epoch,
        "epochs": train.epochs,
        "next_epoch": epoch,
        "ended": ended,
        "select_by": train.select_by,
        "processes": num_processes,
        "memory_bytes": _memory(run, cases, num_processes) if choose_device(device) == "CPU" else None,
    }
    if as_json:
        report.emit_json(facts)
        return
    rows = [[name.removesuffix("_bytes").replace("_", " "), str(value)] for name, value in _shown(facts).items()]
    report.table("would train", ["what", "how"], rows)


def _place_in(train: TrainSettings, checkpoint: Path) -> tuple[str | None, int | None]:
    """How a training has ended that is taken up from a checkpoint, and the epoch that it goes on at: one is None."""
    _, facts = read_checkpoint(checkpoint)
    progress = facts["progress"]
    if progress["closed_epochs"] >= train.epochs:
        return "finished", None
    if train.patience is not None and progress["stale"] >= train.patience:
        return "stopped early", None
    return None, progress["closed_epochs"] + 1


def _memory(run: Run, cases: Split, num_processes: int) -> int:
    """Bytes of each process, which has all cases, and its part of a batch."""
    batch_size = run.patches_per_step // run.config.train.accumulation // num_processes
    config = with_values(run.config, {"train.batch_size": batch_size})
    return training_bytes(config, [case.held_bytes for part in cases for case in part])


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as people read them."""
    memory, ended, processes = facts["memory_bytes"], facts["ended"], facts["processes"]
    together = f" for each of {processes} processes" if processes > 1 else ""
    text = "not known of this device" if memory is None else f"about {bytes_as_text(round(memory, -8))}{together}"
    more = "; more need --epochs N" if ended == "finished" else ""
    shown = facts | {
        "patch_size": " x ".join(map(str, facts["patch_size"])),
        "preset": facts["preset"] or "none",
        "first_weights": facts["first_weights"] or "drawn",
        "next_epoch": f"none, the run has {ended}{more}" if ended else facts["next_epoch"],
        "memory_bytes": text,
    }
    return {name: value for name, value in shown.items() if name != "ended"}
