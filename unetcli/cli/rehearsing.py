"""`unet train --dry-run`: what a training would be. Imported in the command's body, since it is not light."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unetcli import report
from unetcli.data.patches import PatchSampler, Share
from unetcli.engine.device import choose_device
from unetcli.engine.memory import training_bytes
from unetcli.inference import bytes_as_text
from unetcli.runs import with_epochs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetcli.cli.planning import Request
    from unetcli.data.cases import LabelledImage
    from unetcli.runs import Run


def show(run: Run, cases: Sequence[LabelledImage], request: Request, device: str, *, as_json: bool) -> None:
    """Say what would be trained, of a run that has been checked; nothing is written.

    Args:
        run: The run, known or yet to be made.
        cases: For training.
        request: What was asked for.
        device: Where, or "auto".
        as_json: Whether for a program.

    Raises:
        ConfigError: If a run that is taken up has more epochs already.
        RunError: If it has lost its first weights.
    """
    if request.resume is not None:
        start = run.starting_point()
        if request.epochs is not None:
            run = replace(run, config=with_epochs(run.config, request.epochs, run.path))
    else:
        start = run.facts.initial.path if run.facts.initial else None
    train = run.config.train
    batches = PatchSampler(cases, run.config, has_ignored=run.facts.has_ignored, share=Share(run.patches_per_step))
    memory = training_bytes(run.config) if choose_device(device) == "CPU" else None
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
        "select_by": train.select_by,
        "memory_bytes": memory,
    }
    if as_json:
        report.emit_json(facts)
        return
    shown = facts | {
        "patch_size": " x ".join(map(str, facts["patch_size"])),
        "preset": facts["preset"] or "none",
        "first_weights": facts["first_weights"] or "drawn",
        "memory_bytes": "not known of this device" if memory is None else f"about {bytes_as_text(round(memory, -8))}",
    }
    rows = [[name.removesuffix("_bytes").replace("_", " "), str(value)] for name, value in shown.items()]
    report.table("would train", ["what", "how"], rows)
