from __future__ import annotations

import os
import subprocess

import pytest

from unetcli.deployment.converting import converter_script

LITE = "converter_lite --fmk={} --modelFile={} --outputFile=model_ascend --saveType=MINDIR --optimize=ascend_oriented"


@pytest.fixture
def called(tmp_path):
    """What a script calls, each program being one that tells its arguments."""
    for program in ("converter_lite", "atc"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@"\n')
        (tmp_path / program).chmod(0o755)

    def call(script, *arguments, code=0):
        (tmp_path / "convert.sh").write_text(script)
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["/bin/sh", str(tmp_path / "convert.sh"), *arguments],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout.strip() or done.stderr.strip()

    return call


@pytest.mark.parametrize("suffix", ["mindir", "onnx"])
def test_mindspore_lite_is_told_the_format_and_the_shape_by_the_name_of_the_input(called, suffix):
    script = converter_script(f"model.{suffix}", "x", (1, 1, 96, 96))
    expected = LITE.format(suffix.upper(), f"model.{suffix}")
    assert called(script, "lite") == f"{expected} --inputShape=x:1,1,96,96"


@pytest.mark.parametrize(
    ("shape", "layout", "sizes"),
    [((1, 1, 96, 96), "NCHW", "1,1,96,96"), ((1, 2, 32, 48, 32), "NCDHW", "1,2,32,48,32")],
)
def test_atc_is_told_the_shape_and_the_chip(called, shape, layout, sizes):
    script = converter_script("model.onnx", "x", shape)
    command = (
        "atc --model=model.onnx --framework=5 --output=model_ascend --output_type=FP32 "
        f"--input_format={layout} --input_shape=x:{sizes} --soc_version="
    )
    assert called(script, "atc") == f"{command}Ascend310"
    assert called(script, "atc", "Ascend310P3") == f"{command}Ascend310P3"


def test_an_air_file_has_its_shape_in_it(called):
    script = converter_script("model.air", None, (1, 1, 96, 96))
    expected = "atc --model=model.air --framework=1 --output=model_ascend --output_type=FP32 --soc_version=Ascend310"
    assert called(script, "atc") == expected


@pytest.mark.parametrize(
    ("suffix", "words", "usage"),
    [
        ("mindir", ["atc"], "usage: sh convert.sh lite"),
        ("air", ["lite"], "usage: sh convert.sh atc [CHIP]"),
        ("onnx", [], "usage: sh convert.sh lite | atc [CHIP]"),
    ],
)
def test_what_a_tool_does_not_take_is_not_offered(called, suffix, words, usage):
    assert called(converter_script(f"model.{suffix}", "x", (1, 1, 8, 8)), *words, code=2) == usage
