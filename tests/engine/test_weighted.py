"""Training with weights of pixels: where all weigh 1 it is training without, and elsewhere they are learned from."""

from __future__ import annotations

import numpy as np
import pytest

from unetcli.engine.checkpoint import read_checkpoint


class Weighed:
    """Batches with weights; `make` gives those of a batch's labels."""

    def __init__(self, batches, make):
        self._batches = batches
        self._make = make
        self.steps_per_epoch = batches.steps_per_epoch
        self.patches_per_step = batches.patches_per_step

    def __getitem__(self, step):
        images, labels = self._batches[step]
        return images, labels, self._make(labels).astype(np.float32)


@pytest.fixture
def fit(start, tmp_path):
    """Train two epochs; gives the weights and moments that it ends with, and the losses."""

    def fit(name, batches, **settings):
        losses = []
        engine = start(train__epochs=2, model__deep_supervision=True, model__depth=3, **settings)

        def record(event):
            losses.extend([event["loss"]] if event["event"] == "step" else [])

        engine.fit(batches, lambda: {"mean_iou": 0.5}, record, tmp_path / name)
        tensors, _ = read_checkpoint(tmp_path / name / "last.ckpt")
        return {name: tensor.asnumpy() for name, tensor in tensors.items()}, losses

    return fit


def test_weights_of_one_train_as_no_weights_do(fit, toy_batches):
    plain, plain_losses = fit("plain", toy_batches())
    weighed, losses = fit("weighed", Weighed(toy_batches(), np.ones_like), loss__weight_map=True)
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-6)
    assert weighed.keys() == plain.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(weighed[name], value, atol=1e-6, err_msg=name)


def test_what_weighs_nothing_is_not_learned(fit, toy_batches):
    _, losses = fit("nothing", Weighed(toy_batches(), np.zeros_like), loss__weight_map=True)
    assert losses == [0.0] * 8
