"""A folder with all that a device needs beside the model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetcli.deployment.converting import converter_script
from unetcli.files import write_json, write_text
from unetcli.inference import Scores

RUNNER = "runner.py"


def complete_bundle(folder: Path, facts: Mapping[str, Any], tile: Scores, scores: Scores) -> None:
    """Put beside a model file what it takes to use it: `model.json`, an example, the converter's command, the runner.

    Args:
        folder: Where the model file lies already.
        facts: What `model.json` says; the name of the file, its input and its output are read from it here.
        tile: A real input `(1, C, *S)`, normalised.
        scores: What the run makes of it, `(1, K, *S')`.
    """
    example = folder / "example"
    example.mkdir()
    for name, array in (("input", tile), ("output", scores)):
        np.ascontiguousarray(array, "<f4").tofile(example / f"{name}.bin")
    write_json(folder / "model.json", facts)
    source = facts["input"]
    write_text(folder / "convert.sh", converter_script(facts["model_file"], source["name"], source["shape"]))
    write_text(folder / "run.py", Path(__file__).with_name(RUNNER).read_text("utf-8"))
