"""The exact commands that bring an exported file to an Ascend chip, as a script for `sh`.

They follow, as read in November 2026, for converter_lite (MINDIR and ONNX)
https://www.mindspore.cn/lite/cloud_docs/en/r2.10.0/mindir/converter_tool.html and for atc (5 is ONNX, 1 is AIR)
https://www.hiascend.com/document/detail/en/canncommercial/850/graph/graphdevg/atlasag_25_0083.html as well as the pages
of options that are named in the script.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

CONVERTED = "model_ascend"

_BEGIN = """\
#!/bin/sh
# Makes of {model} what an Ascend chip runs, at the one input shape {shape}.
# On a machine with the tool installed: {calls}
set -eu
cd "$(dirname "$0")"
case "${{1:-}}" in
"""

_LITE = """\
lite)
  # MindSpore Lite, cloud side, makes {output}.mindir, for: python run.py --model {output}.mindir
  # https://www.mindspore.cn/lite/cloud_docs/en/r2.10.0/mindir/converter_tool.html
  # Its documentation names Atlas 200/300/500, which have Ascend 310, and Ascend 310P as what it runs on:
  # https://www.mindspore.cn/lite/cloud_docs/en/r2.10.0/quick_start/one_hour_introduction.html
  # It computes in 16-bit floats (precision_mode enforce_fp16) unless --configFile names a file that says otherwise:
  # https://www.mindspore.cn/lite/docs/en/r2.7.0/mindir/converter_tool_ascend.html
  {command}
  ;;
"""

_ATC = """\
atc)
  # CANN's compiler makes {output}.om for Ascend 310; a second word names another chip, as npu-smi info has it, such as
  # Ascend310P3. It computes in 16-bit floats (precision_mode force_fp16) unless told otherwise.
  # https://www.hiascend.com/doc_center/source/zh/canncommercial/60RC1/inferapplicationdev/atctool/atctool_0064.html
  # https://www.hiascend.com/document/detail/zh/canncommercial/800/devaids/devtools/atc/atlasatcparam_16_0030.html
{notes}  # Then over tiles that unet predict --export-inputs DIR has written:
  # python3 -m ais_bench --model {output}.om --input DIR/inputs --output DIR --output_dirname outputs --outfmt BIN
  {command}
  ;;
"""

_END = """\
*)
  echo "usage: {calls}" >&2
  exit 2
  ;;
esac
"""


def converter_script(model_file: str, input_name: str | None, shape: Sequence[int]) -> str:
    """The script.

    Args:
        model_file: The exported file, beside the script; its suffix tells the format.
        input_name: What the file calls its input; None of an AIR file, which has its shape in it.
        shape: Of the input, `(1, C, *S)`.
    """
    suffix = model_file.rpartition(".")[2]
    sizes = ",".join(map(str, shape))
    parts = [_lite(model_file, f"{input_name}:{sizes}")] * (suffix in ("mindir", "onnx"))
    parts += [_atc(model_file, None if input_name is None else f"{input_name}:{sizes}", len(shape))] * (
        suffix in ("onnx", "air")
    )
    calls = {
        "mindir": "sh convert.sh lite",
        "onnx": "sh convert.sh lite | atc [CHIP]",
        "air": "sh convert.sh atc [CHIP]",
    }
    words = {"model": model_file, "shape": sizes, "calls": calls[suffix]}
    return _BEGIN.format(**words) + "".join(parts) + _END.format(**words)


def _lite(model_file: str, input_shape: str) -> str:
    options = {
        "fmk": model_file.rpartition(".")[2].upper(),
        "modelFile": model_file,
        "outputFile": CONVERTED,
        "saveType": "MINDIR",
        "optimize": "ascend_oriented",
        "inputShape": input_shape,
    }
    return _LITE.format(output=CONVERTED, command=_command("converter_lite", options))


def _atc(model_file: str, input_shape: str | None, ndim: int) -> str:
    is_onnx = model_file.endswith(".onnx")
    options = {"model": model_file, "framework": "5" if is_onnx else "1", "output": CONVERTED, "output_type": "FP32"}
    notes = "  # An AIR file has the shape of its input in it.\n"
    if input_shape is not None:
        notes = (
            "  # https://hiascend.com/document/detail/zh/canncommercial/601/inferapplicationdev/atctool/atctool_0052.html\n"
            "  # https://www.hiascend.com/document/detail/zh/canncommercial/latest/devaids/atctool/atlasatcparam_16_0015.html\n"
        )
        options |= {"input_format": "NCDHW" if ndim == 5 else "NCHW", "input_shape": input_shape}
    command = f'{_command("atc", options)} \\\n    --soc_version="${{2:-Ascend310}}"'
    return _ATC.format(output=CONVERTED, notes=notes, command=command)


def _command(program: str, options: dict[str, str]) -> str:
    """One option a line."""
    return " \\\n    ".join([program, *(f"--{name}={shlex.quote(value)}" for name, value in options.items())])
