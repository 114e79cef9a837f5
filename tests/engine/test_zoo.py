"""Checkpoints of the model zoo's three networks, made here by twins with its names, five levels and few channels."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from unetcli.engine.transfer import transfer
from unetcli.errors import RunError

LEVELS = 5


def parts(kind, below, width):
    """The layers of two convolutions, as the zoo lists them."""
    if kind == "medical":
        convolutions = [nn.Conv2d(c, width, 3, pad_mode="valid", has_bias=True) for c in (below, width)]
        return nn.SequentialCell([convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU()])
    norm = [nn.BatchNorm2d(width)] if kind == "normed" else []
    other = [nn.BatchNorm2d(width)] if kind == "normed" else []
    return nn.SequentialCell(
        [
            nn.SequentialCell([nn.Conv2d(below, width, 3), *norm, nn.ReLU()]),
            nn.SequentialCell([nn.Conv2d(width, width, 3), *other, nn.ReLU()]),
        ]
    )


class Named(nn.Cell):
    """One cell under a name, so that its parameters have it as the zoo's have."""

    def __init__(self, **cells):
        super().__init__()
        for name, cell in cells.items():
            setattr(self, name, cell)
        self.names = tuple(cells)

    def construct(self, x):
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class Medical(nn.Cell):
    """The zoo's unet_medical."""

    def __init__(self, width, num_classes):
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.inc = Named(double_conv=parts("medical", 1, width))
        for level in range(1, LEVELS):
            block = Named(double_conv=parts("medical", widths[level - 1], widths[level]))
            down = nn.SequentialCell([nn.MaxPool2d(2, 2), block])
            setattr(self, f"down{level}", Named(maxpool_conv=down))
            below, above = widths[LEVELS - level], widths[LEVELS - level - 1]
            up = nn.Conv2dTranspose(below, above, 2, 2)
            setattr(self, f"up{level}", Named(up=up, conv=Named(double_conv=parts("medical", below, above))))
        self.outc = Named(conv=nn.Conv2d(width, num_classes, 1, has_bias=True))

    def construct(self, x):
        skips = [self.inc(x)]
        for level in range(1, LEVELS):
            skips.append(getattr(self, f"down{level}")(skips[-1]))
        x = skips.pop()
        for number in range(1, LEVELS):
            up = getattr(self, f"up{number}")
            x = ops.relu(up.up(x))
            skip = skips.pop()
            margin = (skip.shape[2] - x.shape[2]) // 2
            x = up.conv(ops.cat((x, skip[:, :, margin:-margin, margin:-margin]), 1))
        return self.outc(x)


class Up(nn.Cell):
    """The zoo's upsampling, of both padded networks."""

    def __init__(self, below, width, num_inputs, transposed):
        super().__init__()
        self.conv = Named(convs=parts("plain", num_inputs * width, width))
        self.up_conv = nn.Conv2dTranspose(below, width, 2, 2) if transposed else nn.Conv2d(below, width, 1)

    def construct(self, x, *skips):
        return self.conv(ops.cat((self.up_conv(x), *skips), 1))


class Simple(nn.Cell):
    """The zoo's unet_simple."""

    def __init__(self, width, num_classes, kind="normed", *, transposed=True):
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        for level in range(LEVELS):
            below = widths[level - 1] if level else 1
            setattr(self, f"conv{level}", Named(convs=parts(kind, below, widths[level])))
        for level in range(LEVELS - 1):
            setattr(self, f"up_concat{level + 1}", Up(widths[level + 1], widths[level], 2, transposed))
        self.final = nn.Conv2d(width, num_classes, 1)

    def construct(self, x):
        skips = (self.conv0(x),)  # a tuple, since a list cannot grow where another test has had graphs compiled
        for level in range(1, LEVELS):
            skips = (*skips, getattr(self, f"conv{level}")(ops.max_pool2d(skips[-1], 2, 2)))
        x = skips[-1]
        for level in range(LEVELS - 1, 0, -1):
            x = getattr(self, f"up_concat{level}")(x, skips[level - 1])
        return self.final(x)


class Nested(nn.Cell):
    """The zoo's unet_nested."""

    def __init__(self, width, num_classes):
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        for level in range(LEVELS):
            below = widths[level - 1] if level else 1
            setattr(self, f"conv{level}0", Named(convs=parts("normed", below, widths[level])))
        for column in range(1, LEVELS):
            for level in range(LEVELS - column):
                up = Up(widths[level + 1], widths[level], column + 1, transposed=True)
                setattr(self, f"up_concat{level}{column}", up)
            setattr(self, f"final{column}", nn.Conv2d(width, num_classes, 1))

    def construct(self, x):
        rows = []
        for level in range(LEVELS):
            x = getattr(self, f"conv{level}0")(ops.max_pool2d(x, 2, 2) if level else x)
            rows.append([x])
        for column in range(1, LEVELS):
            for level in range(LEVELS - column):
                node = getattr(self, f"up_concat{level}{column}")
                rows[level].append(node(rows[level + 1][column - 1], *rows[level][:column]))
        return [getattr(self, f"final{column}")(rows[0][column]) for column in range(1, LEVELS)]


MEDICAL = {
    "model__architecture": "unet_valid",
    "model__norm": "none",
    "model__upsample_activation": True,
    "data__patch_size": (188, 204),
}
SIMPLE = {"model__architecture": "unet_simple"}
NESTED = {"model__architecture": "unet_nested"}


@pytest.fixture
def saved(rng, tmp_path):
    """Writes a network as the zoo does, with the state of its optimiser, and all of its weights away from 0."""

    def save(network):
        for parameter in network.get_parameters():
            values = rng.uniform(0.5, 1.5, parameter.shape)
            if len(parameter.shape) > 1:
                values = rng.normal(0, np.prod(parameter.shape[1:]) ** -0.5, parameter.shape)
            parameter.set_data(Tensor(values.astype(np.float32)))
        optimizer = nn.Adam(network.trainable_params(), 1e-4, weight_decay=5e-4)
        step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.MSELoss()), optimizer)
        path = tmp_path / "ckpt_unet_adam-400_600.ckpt"
        mindspore.save_checkpoint(step, str(path))
        return path

    return save


@pytest.fixture
def config_of(toy_config):
    base = {"model__depth": LEVELS, "model__base_channels": 2, "model__num_classes": 3, "data__patch_size": (16, 32)}
    return lambda settings: toy_config(**(base | settings))


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        (Medical(2, 3), MEDICAL),
        (Simple(2, 3), SIMPLE),
        (Simple(2, 3, "plain"), SIMPLE | {"model__norm": "none"}),
        (Nested(2, 3), NESTED | {"model__deep_supervision": True}),
    ],
    ids=["unet_medical", "unet_simple", "unet_simple without norm", "unet_nested"],
)
def test_a_network_of_the_zoo_gives_the_same_logits_here(rng, saved, config_of, network, settings):
    config = config_of(settings)
    found = transfer(saved(network), config)
    x = Tensor(rng.standard_normal((2, 1, *config.data.patch_size), dtype=np.float32))
    expected = network.set_train(False)(x)
    expected = (expected[-1] if isinstance(expected, list) else expected).asnumpy()
    np.testing.assert_allclose(
        found.network.set_train(False)(x).asnumpy(), expected, rtol=0, atol=1e-4 * expected.std()
    )
    assert (found.left_out, found.unused, found.notes) == ((), (), ())
    assert found.origin == f"{settings['model__architecture'].replace('valid', 'medical')} of MindSpore's model zoo"


def test_all_heads_of_the_zoo_are_in_their_places(saved, config_of):
    network = Nested(2, 3)
    found = transfer(saved(network), config_of(NESTED | {"model__norm": "batch", "model__deep_supervision": True}))
    heads = [*found.network.early_heads, found.network.head]
    for column, head in enumerate(heads, 1):
        expected = getattr(network, f"final{column}").weight.asnumpy()
        np.testing.assert_array_equal(head.weight.asnumpy(), expected)
        assert not head.bias.asnumpy().any()


def test_heads_that_are_not_trained_here_are_not_used(saved, config_of):
    found = transfer(saved(Nested(1, 3)), config_of(NESTED | {"model__base_channels": 1}))
    assert found.unused == tuple(f"early_heads.{n}.{part}" for n in range(3) for part in ("weight", "bias"))


@pytest.mark.parametrize("name", ["final4", "final4.weight", "head"])
def test_a_filter_may_be_a_name_of_the_zoo(saved, config_of, name):
    config = config_of(NESTED | {"model__base_channels": 1, "model__num_classes": 5, "model__deep_supervision": False})
    found = transfer(saved(Nested(1, 3)), config, [name])
    assert found.left_out == ("head.weight", "head.bias")


def test_weights_of_half_precision_become_float32(saved, config_of):
    path = saved(Simple(1, 3))
    halves = mindspore.load_checkpoint(str(path))
    tensors = [{"name": name, "data": Tensor(p.asnumpy().astype(np.float16))} for name, p in halves.items()]
    mindspore.save_checkpoint(tensors, str(path))
    found = transfer(path, config_of(SIMPLE | {"model__base_channels": 1}))
    assert found.network.head.weight.dtype == mindspore.float32


def test_interpolation_that_differs_is_said(saved, config_of):
    settings = SIMPLE | {"model__base_channels": 1, "model__upsample": "bilinear"}
    found = transfer(saved(Simple(1, 3, transposed=False)), config_of(settings))
    assert found.notes == (
        "the zoo interpolates between corners and this network between areas, a quarter of a pixel away",
    )


@pytest.mark.parametrize(
    ("network", "settings", "found", "hint"),
    [
        (Medical(1, 3), MEDICAL | {"model__upsample_activation": False}, "upsample_activation False", "=true"),
        (Simple(1, 3), NESTED, "architecture unet_nested", "model.architecture=unet_simple"),
        (Simple(1, 3), SIMPLE | {"model__norm": "none"}, "norm none", "model.norm=batch"),
        (Simple(1, 3), SIMPLE | {"model__upsample": "bilinear"}, "upsample bilinear", "model.upsample=transposed"),
        (Medical(1, 3), MEDICAL | {"model__depth": 4, "data__patch_size": (92, 92)}, "depth 4", "model.depth=5"),
    ],
    ids=["activation", "architecture", "norm", "upsample", "depth"],
)
def test_settings_of_another_network_are_refused(saved, config_of, network, settings, found, hint):
    with pytest.raises(RunError, match=f"which is another network than one with .*{found}") as caught:
        transfer(saved(network), config_of(settings | {"model__base_channels": 1}))
    assert hint in caught.value.hint


def test_a_checkpoint_of_another_network_is_refused(saved, config_of):
    with pytest.raises(RunError, match="neither of unet nor of a network that it knows") as caught:
        transfer(saved(nn.Dense(2, 2)), config_of(SIMPLE))
    assert "unet_medical, unet_nested and unet_simple" in caught.value.hint
