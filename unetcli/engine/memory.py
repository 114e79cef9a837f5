"""What training takes of memory on a CPU, before it begins."""

# pyright: standard
# MindSpore 2.10 says that construct never returns

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from unetcli.engine.device import set_up_device
from unetcli.models import build_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetcli.config import Config, ModelSettings

FLOAT32 = 4
OF_PROCESS = (620_000_000, 820_000_000)
"""Bytes of a process that trains next to nothing, for images and for volumes."""
OF_ACTIVATIONS = (0.92, 1.9)
"""Copies of each output of a layer; more for volumes, whose layers turn them round."""
OF_FINEST = (80, 9)
"""Copies of the features of one patch at the finest level, in which convolutions compute whatever the batch."""
OF_PARAMETERS = 11
"""Copies of each parameter: itself, its gradient, the moments of the optimizer, and those that layers compute with."""
OF_LOADING = 470_000_000
"""Bytes of a process that has loaded MindSpore and no network yet."""
COPIES_LOADING = 2
"""Of each case as it is loaded, since MindRecord reads all rows ahead of those that are taken."""
ROWS_LOADING = 12
"""Of the size of the largest case, which MindRecord holds beside them."""
VALID_CHANNELS = 8
"""Of the finest level of a network without padding as it is tried, which must be on whole patches."""


def training_bytes(config: Config, case_bytes: Sequence[int] = ()) -> int:
    """About the most memory that a process holds while it trains on a CPU.

    The outputs of all layers are counted by running the network once on the smallest patch there is. The factors are
    fitted to 16 trainings, by the highest resident set (VmHWM) of fresh processes with MindSpore 2.10 and float32 on
    two cores: 15 of a unet, of 4 to 64 channels on images of 64 to 512 px, and of 12 and 24 on volumes, which they give
    to 10 %, and one of unet_valid, for which they give 24 % too much. Of 11 others, two deeper, three of other sizes,
    one each with residual blocks and without normalisation, two of UNet++, unet_cicek and unet_residual, they give 25 %
    too little to 13 % too much. A volume that is read whole, or a case measured in large tiles, may come on top.

    Images stay in memory, those of the validation too, and take more while they are loaded, before there is a network:
    the more of both counts. For 9 datasets that were loaded, of 3 to 200 images and 58 MB to 1 GB, this gives 5 % too
    little to 14 % too much.

    Args:
        config: Settings with `model.in_channels` and `model.num_classes` set.
        case_bytes: Of each case in memory, for training and validation; 0 of one that is mapped from a file.
    """
    set_up_device("CPU")
    model, patch = config.model, config.data.patch_size
    kind = model.ndim - 2
    num_features, num_parameters = _counted(model, patch)
    finest = FLOAT32 * model.channels[0] * math.prod(patch)
    training = (
        OF_PROCESS[kind]
        + sum(case_bytes)
        + OF_PARAMETERS * FLOAT32 * num_parameters
        + OF_ACTIVATIONS[kind] * num_features * finest * config.train.batch_size
        + OF_FINEST[kind] * finest
    )
    loading = OF_LOADING + COPIES_LOADING * sum(case_bytes) + ROWS_LOADING * max(case_bytes, default=0)
    return round(max(training, loading))


def _counted(model: ModelSettings, patch: Sequence[int]) -> tuple[float, int]:
    """Outputs of all layers, in features of the finest level, and the number of parameters."""
    network = build_model(model, seed=0)
    num_parameters = sum(parameter.size for parameter in network.trainable_params())
    size = tuple(min(length, 2 * stride) for length, stride in zip(patch, model.stride, strict=True))
    num_channels = model.channels[0]
    if model.margin:  # what a network eats is another share of each size, so that it must be that of the patch
        size, num_channels = tuple(patch), min(VALID_CHANNELS, num_channels)
        thin = model.model_copy(update={"base_channels": num_channels, "feature_scale": 1})
        network = build_model(thin, seed=0)
    num_values = _num_outputs(network, (1, model.in_channels or 1, *size))
    return num_values / (num_channels * math.prod(size)), num_parameters


def _num_outputs(network: nn.Cell, shape: tuple[int, ...]) -> int:
    """Values that all layers of a network put out for an input."""
    found = 0

    def add(cell: nn.Cell, _: Any, output: Any) -> None:
        nonlocal found
        if not isinstance(cell, nn.Identity):
            found += sum(value.size for value in (output if isinstance(output, list | tuple) else [output]))

    for _, cell in network.cells_and_names():
        if not list(cell.cells()):
            cell.register_forward_hook(add)
    mode = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    try:
        network.set_train()
        network(Tensor(np.zeros(shape, np.float32)))
    finally:
        mindspore.set_context(mode=mode)
    return found
