"""Checkpoints: written whole, read strictly.

MindSpore deletes the old file before it writes a new one, and reads a file of another network without an
error; both are mended here. A checkpoint is MindSpore's own format with a checksum, and one JSON text
beside the tensors. Nothing is unpickled.
"""

# pyright: standard, reportAttributeAccessIssue=false
# MindSpore 2.10 has a Parameter's shape be nearly anything

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore
import numpy as np

from unetcli.errors import RunError
from unetcli.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mindspore import Parameter, nn

FORMAT = 1
_FACTS = "unet_facts"
# follow from the settings, so that a run that is given more epochs takes up a longer schedule
_DERIVED = {"learning_rate"}


def write_checkpoint(path: Path, cell: nn.Cell, facts: Mapping[str, Any]) -> None:
    """Write all parameters of `cell`, and facts.

    Args:
        path: Where to; ends in `.ckpt`.
        cell: Whose parameters are written.
        facts: Whatever JSON can hold.

    Raises:
        RunError: If a parameter is not finite. The loss alone does not tell, since ReLU turns NaN into 0.
    """
    tensors = [
        {"name": name, "data": parameter} for name, parameter in cell.parameters_dict().items() if name not in _DERIVED
    ]
    for tensor in tensors:
        if not np.isfinite(tensor["data"].asnumpy()).all():
            raise RunError(
                f"{path}: not written, since {tensor['name']} has values that are not finite",
                hint="lower optimizer.learning_rate or set optimizer.clip_norm",
            )
    text = json.dumps({"format": FORMAT, **facts})
    # in a folder of its own, since MindSpore writes beside its target too and leaves that file where it fails
    with replacing(path) as temporary, tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        written = Path(folder) / temporary.name
        mindspore.save_checkpoint(tensors, str(written), append_dict={_FACTS: text}, crc_check=True)
        written.replace(temporary)


def read_checkpoint(path: Path) -> tuple[dict[str, Parameter], dict[str, Any]]:
    """Parameters by name, and the facts.

    Raises:
        RunError: If the file is missing, broken, or not one of ours.
    """
    tensors, facts = read_any_checkpoint(path)
    if facts is None:
        raise RunError(
            f"{path}: is a MindSpore checkpoint, but was not written by unet",
            hint="use last.ckpt or best.ckpt of a run",
        )
    return tensors, facts


def read_any_checkpoint(path: Path) -> tuple[dict[str, Parameter], dict[str, Any] | None]:
    """Parameters by name, and the facts; None if other software wrote the file.

    Raises:
        RunError: If the file is missing or broken.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint", hint="train first, or name another run with --run")
    try:
        tensors = mindspore.load_checkpoint(str(path), crc_check=True)
    except (ValueError, RuntimeError, TypeError) as error:
        raise RunError(
            f"{path}: cannot be read as a checkpoint; it is incomplete or was changed", hint="use another checkpoint"
        ) from error
    facts = tensors.pop(_FACTS, None)
    if facts is None:
        return tensors, None
    facts = json.loads(str(facts))
    if facts["format"] != FORMAT:
        raise RunError(
            f"{path}: is a checkpoint of format {facts['format']}, and this unet reads format {FORMAT}",
            hint="use the unet that wrote it; run.json beside it says which",
        )
    return tensors, facts


def restore(cell: nn.Cell, tensors: Mapping[str, Parameter], path: Path) -> None:
    """Put `tensors` into `cell`; every parameter of it must be there, with its shape.

    Raises:
        RunError: Naming what is missing, unexpected or of another shape.
    """
    wanted = {name: p for name, p in cell.parameters_dict().items() if name not in _DERIVED}
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    differing = sorted(
        f"{name} {tensors[name].shape} for {p.shape}"
        for name, p in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(p.shape)
    )
    for what, names in (("lacks", missing), ("has unknown", unexpected), ("has another shape of", differing)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise RunError(
                f"{path}: does not belong to this network: it {what} {', '.join(names[:3])}{more}",
                hint="use a checkpoint of a run with the same model settings",
            )
    mindspore.load_param_into_net(cell, dict(tensors), strict_load=True)
