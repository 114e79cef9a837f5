from __future__ import annotations

import mindspore
import pytest


@pytest.fixture(autouse=True, scope="package")
def operation_by_operation():
    """Networks of a few voxels take far longer to compile than to compute; the engine's tests compile them."""
    mode = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    yield
    mindspore.set_context(mode=mode)
