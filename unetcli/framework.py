"""How MindSpore must find its process; it looks once, when it is first imported."""

from __future__ import annotations

import os


def prepare_process() -> None:
    """Set what MindSpore reads from the environment, where the user has not.

    `GLOG_v` 3 shows its errors but not its log. `ONEDNN_MAX_CPU_ISA` AVX2 is for speed: on processors with
    AVX-512, oneDNN 3.10 as MindSpore 2.10 calls it falls back to reference code for most convolutions,
    about forty times slower.
    """
    os.environ.setdefault("GLOG_v", "3")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
