"""A training task small enough to compile in seconds and to learn in a dozen steps."""

from __future__ import annotations

import numpy as np
import pytest

from unetcli.config import Config, load_config
from unetcli.engine import Engine, Runtime

BATCH, SIZE = 2, 16


class ToyBatches:
    """Bright squares on noise; a batch follows from its step alone."""

    steps_per_epoch = 4
    patches_per_step = BATCH

    def __getitem__(self, step):
        rng = np.random.default_rng(step)
        labels = np.kron(rng.integers(0, 2, (BATCH, 4, 4)), np.ones((4, 4), int)).astype(np.int32)
        image = 2 * labels - 1 + rng.normal(0, 0.5, labels.shape)
        return image[:, None].astype(np.float32), labels


def make_config(**settings) -> Config:
    """Settings of a tiny network; double underscores stand for dots."""
    options = {
        "model.in_channels": 1,
        "model.num_classes": 2,
        "model.base_channels": 2,
        "model.depth": 2,
        "data.patch_size": (SIZE, SIZE),
        "train.batch_size": BATCH,
        "train.epochs": 3,
        "optimizer.learning_rate": 0.02,
        "schedule.name": "constant",
    }
    return load_config(options=options | {name.replace("__", "."): value for name, value in settings.items()})


@pytest.fixture(scope="session")
def toy_config():
    return make_config


@pytest.fixture(scope="session")
def toy_batches():
    return ToyBatches


@pytest.fixture(scope="session")
def start():
    """Starts an engine on the CPU from settings."""
    return lambda **settings: Engine.start(make_config(**settings), Runtime("CPU"))
