"""What training takes of memory: outputs of layers that are counted, and how the rest goes with the settings."""

from __future__ import annotations

import mindspore
import pytest
from mindspore import nn

from unetcli.config import Config, with_values
from unetcli.engine.memory import (
    COPIES_LOADING,
    OF_ACTIVATIONS,
    OF_FINEST,
    OF_LOADING,
    OF_PARAMETERS,
    OF_PROCESS,
    ROWS_LOADING,
    _counted,
    _num_outputs,
)
from unetcli.engine.memory import training_bytes as bytes_of

SMALL = {"model.base_channels": 4, "model.depth": 3, "model.in_channels": 1, "model.num_classes": 2}
OF_3D = SMALL | {"model.ndim": 3, "data.patch_size": (8, 16, 16)}
OF_2D = SMALL | {"data.patch_size": (32, 32)}


def config_of(values, **more):
    return with_values(Config(), values | {name.replace("__", "."): value for name, value in more.items()})


def test_outputs_of_all_layers_are_counted_but_of_those_that_do_nothing():
    network = nn.SequentialCell(nn.Conv2d(1, 2, 3), nn.Identity(), nn.SequentialCell(nn.ReLU(), nn.MaxPool2d(2, 2)))
    assert _num_outputs(network, (1, 1, 8, 8)) == 2 * 64 + 2 * 64 + 2 * 16


@pytest.mark.parametrize("values", [OF_2D, OF_3D])
def test_memory_is_the_sum_of_its_parts(values):
    config = config_of(values, train__batch_size=3)
    kind = config.model.ndim - 2
    num_features, num_parameters = _counted(config.model, config.data.patch_size)
    finest = 4 * 4 * (32 * 32 if kind == 0 else 8 * 16 * 16)
    expected = OF_PROCESS[kind] + OF_PARAMETERS * 4 * num_parameters
    expected += 3 * OF_ACTIVATIONS[kind] * num_features * finest + OF_FINEST[kind] * finest
    assert bytes_of(config) == pytest.approx(expected, abs=1)


def test_images_stay_in_memory_and_take_more_while_they_are_loaded():
    config = config_of(OF_2D)
    assert bytes_of(config, [1000, 0, 5000]) == bytes_of(config) + 6000
    large = [40_000_000] * 20 + [50_000_000]
    assert bytes_of(config, large) == OF_LOADING + COPIES_LOADING * 850_000_000 + ROWS_LOADING * 50_000_000


def test_layers_are_counted_by_the_size_of_a_patch_without_taking_its_memory():
    small, large = (config_of(OF_2D, data__patch_size=(side, side)) for side in (32, 8192))
    assert _counted(small.model, small.data.patch_size)[0] == _counted(large.model, large.data.patch_size)[0]


def test_a_network_that_eats_a_margin_is_counted_on_whole_patches():
    small, large = (config_of(OF_2D, model__architecture="unet_valid", data__patch_size=(s, s)) for s in (60, 124))
    assert _counted(small.model, small.data.patch_size)[0] < _counted(large.model, large.data.patch_size)[0]


def test_how_it_computes_is_left_as_it_was():
    before = mindspore.get_context("mode")
    bytes_of(config_of(OF_2D))
    assert mindspore.get_context("mode") == before
