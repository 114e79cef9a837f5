"""`unet export`: what it refuses before any work. The files themselves are tested end to end."""

from __future__ import annotations

import pytest
from processes import contents


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            "--format AIR",
            5,
            "--format AIR: MindSpore writes AIR files on Ascend only, and this runs on CPU\nhint:  use",
        ),
        ("--format MINDIR", 2, "export/model.mindir: already exists"),
        ("--format ONNX -o model.mindir", 2, "--output model.mindir: a file of this format must end in .onnx"),
        ("--run nowhere", 4, "nowhere: not a run folder"),
        ("-o new.mindir --check nowhere.tif", 3, "nowhere.tif: no such file or folder"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_writes_nothing(workshop, arguments, code, says):
    before = contents(workshop.run / "export")
    assert says in workshop.unet.refuses("export", *arguments.split(), code=code)
    assert contents(workshop.run / "export") == before
    assert not list(workshop.folder.glob("*.mindir"))
