from __future__ import annotations

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from unetcli.engine.checkpoint import read_checkpoint, write_checkpoint
from unetcli.engine.transfer import transfer
from unetcli.errors import ConfigError, RunError

TRAINED = {"model__dropout": 0.3, "model__upsample": "bilinear", "model__activation": "prelu", "train__seed": 1}
NEW = TRAINED | {"train__seed": 2}


@pytest.fixture
def engine(start, rng):
    """One that has been trained, as far as its parameters tell."""
    engine = start(**TRAINED)
    for parameter in engine._network.get_parameters():
        if parameter.dtype == mindspore.int32:
            parameter.set_data(Tensor(np.array(7, np.int32)))
        elif parameter.requires_grad or "moving" in parameter.name:
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    return engine


@pytest.fixture
def path(engine, tmp_path):
    path = tmp_path / "best.ckpt"
    engine.save(path, weights_only=True)
    return path


def weights_of(network):
    return {p.name: p.asnumpy() for p in network.get_parameters()}


def test_a_run_begins_with_all_that_another_has_learnt_and_with_its_own_dropout(engine, path, toy_config):
    found = transfer(path, toy_config(**NEW))
    expected, weights = weights_of(engine._network), weights_of(found.network)
    counters = {"dropout.0.calls", "dropout.1.calls"}
    assert {name for name in weights if not np.array_equal(weights[name], expected[name])} == counters
    assert all(weights[name] == 0 for name in counters)
    assert set(found.loaded) == weights.keys() - counters - {"upsample.0.double.weight"}
    assert (found.left_out, found.unused, found.notes) == ((), (), ())


def test_the_state_of_a_training_is_left_behind(engine, toy_config, tmp_path):
    for name, settings in {"adam": {}, "momentum": {"optimizer__name": "sgd", "optimizer__momentum": 0.9}}.items():
        engine.config = toy_config(**TRAINED | settings | {"train__accumulation": 2})
        engine._build_training(np.ones(4, np.float32))
        last = tmp_path / f"{name}.ckpt"
        engine.save(last)
        assert read_checkpoint(last)[1]["has_training"]
        found = transfer(last, toy_config(**NEW))
        assert found.unused == ()
        np.testing.assert_array_equal(found.network.head.weight.asnumpy(), engine._network.head.weight.asnumpy())


def test_what_it_writes_is_taken_up_as_a_training_that_has_not_begun(path, start, toy_config, tmp_path):
    found = transfer(path, toy_config(**NEW), ["head"])
    found.write(tmp_path / "init.ckpt")
    fresh = start(**NEW)
    fresh.load(tmp_path / "init.ckpt")
    assert fresh.step == 0
    weights = weights_of(found.network)
    assert all(np.array_equal(weights[name], value) for name, value in weights_of(fresh._network).items())
    fresh._build_training(np.ones(4, np.float32))  # from weights alone, since no step is behind them


def test_what_a_filter_names_begins_anew_whether_it_fits_or_not(path, toy_config, start):
    found = transfer(path, toy_config(**NEW), ["head", "conv2"])
    drawn = weights_of(start(**NEW)._network)
    weights = weights_of(found.network)
    assert "head.weight" in found.left_out
    assert all("head" in name or "conv2" in name for name in found.left_out)
    assert all(np.array_equal(weights[name], drawn[name]) for name in found.left_out)

    more_classes = transfer(path, toy_config(**NEW | {"model__num_classes": 5}), ["head"])
    assert more_classes.left_out == ("head.weight", "head.bias")
    assert more_classes.notes == ("that network had num_classes 2",)


@pytest.mark.parametrize(
    ("settings", "told", "hint"),
    [
        (
            {"model__num_classes": 5},
            r"has another shape of head.bias \(2,\) for \(5,\), head.weight \(2, 2, 1, 1\) for \(5, 2, 1, 1\)",
            "--filter-weight head",
        ),
        ({"model__upsample": "transposed"}, "lacks upsample.0.double.bias", "--filter-weight upsample"),
        (
            {"model__depth": 3},
            "lacks decoder.1.act1.w, decoder.1.act2.w, decoder.1.conv1.weight and",
            "--filter-weight decoder --filter-weight encoder --filter-weight upsample",
        ),
    ],
    ids=["classes", "upsampling", "depth"],
)
def test_what_does_not_fit_is_refused_by_name(path, toy_config, settings, told, hint):
    with pytest.raises(RunError, match=f"best.ckpt: does not fit this network: it {told}") as caught:
        transfer(path, toy_config(**NEW | settings))
    assert hint in caught.value.hint


def test_a_network_of_another_width_is_refused_as_such(path, toy_config):
    with pytest.raises(RunError, match="has 2 channels at the finest level, and this network has 4") as caught:
        transfer(path, toy_config(**NEW | {"model__base_channels": 8, "model__feature_scale": 2}))
    assert caught.value.hint == "add --set model.base_channels=4"


def test_a_checkpoint_of_which_nothing_fits_is_refused(path, toy_config):
    tensors, facts = read_checkpoint(path)
    cell = mindspore.nn.Cell()
    cell.insert_param_to_cell("other", Parameter(tensors["head.weight"], name="other"))
    write_checkpoint(path, cell, {name: facts[name] for name in ("has_training", "progress", "model")})
    with pytest.raises(RunError, match=r"best.ckpt: nothing in it fits this network"):
        transfer(path, toy_config(**NEW))


def test_filters_that_leave_nothing_are_refused(path, toy_config):
    with pytest.raises(RunError, match="nothing in it fits this network"):
        transfer(path, toy_config(**NEW), ["e"])


def test_a_filter_that_names_nothing_is_refused(path, toy_config):
    with pytest.raises(ConfigError, match=r"--filter-weight outc.weight: no parameter has that in its name") as caught:
        transfer(path, toy_config(**NEW), ["head", "outc.weight"])
    assert caught.value.hint == "the network has decoder, encoder, head, upsample"


def test_weights_that_are_not_finite_are_refused(path, toy_config):
    tensors = mindspore.load_checkpoint(str(path))
    values = tensors["head.weight"].asnumpy().copy()
    values[0] = np.nan
    tensors["head.weight"] = Parameter(Tensor(values), name="head.weight")
    facts = str(tensors.pop("unet_facts"))
    entries = [{"name": name, "data": p} for name, p in tensors.items()]
    mindspore.save_checkpoint(entries, str(path), append_dict={"unet_facts": facts}, crc_check=True)
    with pytest.raises(RunError, match=r"it has values that are not finite in head.weight"):
        transfer(path, toy_config(**NEW))
    transfer(path, toy_config(**NEW), ["head"])
