"""What all tests share: a seeded generator, and where the real data lies."""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from unetcli.framework import hold_instructions, prepare_process

# neither what a user has kept, nor anything for a user to find
caches = tempfile.TemporaryDirectory(prefix="unet-tests-")
atexit.register(caches.cleanup)
os.environ["XDG_CACHE_HOME"] = caches.name
hold_instructions()
prepare_process()  # no test module has imported MindSpore yet
# a shell's background job ignores Ctrl-C, and so would the processes that the tests start and stop with it
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("unet", deadline=None)  # a busy machine is not a failure
settings.load_profile("unet")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150518)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real labelled data; tests that need it are skipped where it is not there."""
    root = Path(os.environ.get("UNET_REAL_DATA", "../shared/data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set UNET_REAL_DATA")
    return root
