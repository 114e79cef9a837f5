"""What each of two processes finds; run by MindSpore's launcher (see test_company.py)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from unetcli.framework import prepare_process

prepare_process()

import mindspore  # noqa: E402
import numpy as np  # noqa: E402
from mindspore import Tensor, nn  # noqa: E402

from unetcli.engine import join  # noqa: E402
from unetcli.engine.company import schedule  # noqa: E402
from unetcli.engine.training import Interrupted  # noqa: E402
from unetcli.launching import place_of  # noqa: E402
from unetcli.models.blocks import Dropout  # noqa: E402
from unetcli.models.layers import ImageLayers, VolumeLayers  # noqa: E402
from unetcli.models.planes import PlaneLayers  # noqa: E402
from unetcli.models.slices import SliceLayers  # noqa: E402
from unetcli.models.synchronized import SynchronizedBatchNorm  # noqa: E402

LAYOUTS = {
    "images": ((4, 3, 6, 5), ImageLayers, False),
    "images, fused": ((4, 3, 6, 5), PlaneLayers, True),
    "slices, fused": ((4, 2, 3, 6, 5), SliceLayers, True),
    "volumes": ((4, 3, 2, 6, 5), VolumeLayers, False),
}


def speak(company):
    """Every way to exchange something."""
    own = []

    def work(item):
        own.append(item)
        return item * item

    def be_interrupted(item):
        if item == 1:
            raise Interrupted
        return item

    rank = company.rank
    said = {"rank": rank, "numbers": np.arange(100 * rank), "text": "äö" * 1000 * rank}
    found = {
        "gathered": [
            {"rank": each["rank"], "sum": int(each["numbers"].sum()), "text": each["text"]}
            for each in company.gather(said)
        ],
        "from_main": company.from_main(lambda: f"made by {rank}"),
        "mean": company.mean([rank, 2 + 2 * rank]),
        "in_turn": company.in_turn(range(5), work),
        "own": own,
        "interrupted": False,
    }
    try:
        company.in_turn(range(2), be_interrupted)
    except Interrupted:
        found["interrupted"] = True
    return found


def norm(company, shape, layers, fused):
    """Largest differences from one normalisation of the whole batch, in NumPy."""
    rng = np.random.default_rng(1)
    x, grad = rng.normal(2, 3, shape).astype(np.float32), rng.normal(0, 1, shape).astype(np.float32)
    part = slice(2 * company.rank, 2 * company.rank + 2)
    channel_axis = layers.channel_axis
    cell = SynchronizedBatchNorm(3, company.size, layers.planes, fused=fused).set_train()
    cell.gamma.set_data(Tensor(np.array([0.5, 1.0, 2.0], np.float32)))

    def loss(values, weight):
        y = cell(values)
        return (y * weight).sum(), y

    step = mindspore.value_and_grad(loss, 0, cell.trainable_params(), has_aux=True)
    (_, y), (by_x, by_weights) = step(Tensor(x[part]), Tensor(grad[part]))

    axes = tuple(axis for axis in range(len(shape)) if axis != channel_axis)
    wide = tuple(3 if axis == channel_axis else 1 for axis in range(len(shape)))
    x, grad = x.astype(np.float64), grad.astype(np.float64)
    mean, variance = x.mean(axes), x.var(axes)
    deviation = np.sqrt(variance + 1e-5).reshape(wide)
    normalised = (x - mean.reshape(wide)) / deviation
    gamma = np.array([0.5, 1.0, 2.0])
    by_gamma, by_beta = (grad * normalised).sum(axes), grad.sum(axes)
    count = x.size / 3
    wanted = grad - (by_beta.reshape(wide) + normalised * by_gamma.reshape(wide)) / count
    own = [sum(g) for g in zip(*(company.gather([p.asnumpy() for p in by_weights])), strict=True)]
    return {
        "forward": distance(y, (normalised * gamma.reshape(wide))[part]),
        "gradient": distance(by_x, (wanted * gamma.reshape(wide) / deviation)[part]),
        "weights": max(float(np.abs(a - b).max()) for a, b in zip(own, (by_gamma, by_beta), strict=True)),
        "running": max(
            distance(cell.moving_mean, 0.1 * mean),
            distance(cell.moving_variance, 0.9 + 0.1 * variance * count / (count - 1)),
        ),
    }


def dropout(company):
    """The share of values of this process that are not those of the whole batch."""
    x = np.arange(1, 81, dtype=np.float32).reshape(4, 20)
    part = slice(2 * company.rank, 2 * company.rank + 2)
    whole = Dropout(0.4, seed=3).set_train()(Tensor(x)).asnumpy()
    own = Dropout(0.4, seed=3, rank=company.rank).set_train()(Tensor(x[part])).asnumpy()
    return float(np.mean(whole[part] != own))


def apart(company):
    """The mean of the ranks, after the first process alone has compiled a network in the midst of training."""
    with company.averaging_gradients():
        if company.is_main:
            with company.apart():
                nn.Dense(3, 2).set_train(False).compile(Tensor(np.ones((1, 3), np.float32)))
        return company.mean([company.rank])


def distance(one, other):
    """The largest of all values."""
    return float(np.abs(one.asnumpy() - other).max())


def main():
    """Find all of it and write it down."""
    place = place_of(os.environ)
    if place.role == "scheduler":
        schedule()
        return
    company = join("CPU")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    found = speak(company) | {"rank": company.rank, "is_main": company.is_main}
    found["norm"] = {name: norm(company, *layout) for name, layout in LAYOUTS.items()}
    found["dropout"] = dropout(company)
    found["apart"] = apart(company)
    Path(sys.argv[1], f"found-{company.rank}.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
