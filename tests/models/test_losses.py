from __future__ import annotations

import mindspore
import numpy as np
import pytest
import torch
from mindspore import Tensor

from unetcli.config import LossSettings
from unetcli.models import build_loss

OFF = {"cross_entropy": 0.0}
CASES = {
    "cross entropy": LossSettings(),
    "linear": LossSettings(**OFF, dice=1.0),
    "linear, no background": LossSettings(**OFF, dice=1.0, dice_background=False, dice_smooth=1e-5),
    "squared": LossSettings(**OFF, dice=1.0, dice_denominator="squared"),
    "squared, no background": LossSettings(**OFF, dice=1.0, dice_denominator="squared", dice_background=False),
    "focal": LossSettings(**OFF, focal=1.0),
    "all": LossSettings(cross_entropy=0.5, dice=2.0, focal=0.25, focal_gamma=1.5),
}


def loss_by_torch(settings: LossSettings, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The published formulas, pixel lists and double precision."""
    num_classes = logits.shape[1]
    scores = torch.softmax(logits, 1)
    truth = torch.nn.functional.one_hot(labels.long(), num_classes).movedim(-1, 1).double()
    true_score = scores.gather(1, labels.long()[:, None])
    total = settings.cross_entropy * torch.nn.functional.cross_entropy(logits, labels.long())
    total = total + settings.focal * (-((1 - true_score) ** settings.focal_gamma) * true_score.log()).mean()
    power = 2 if settings.dice_denominator == "squared" else 1
    groups = range(0 if settings.dice_background else 1, num_classes)
    terms = []
    for p_image, g_image in zip(scores, truth, strict=True):
        regions = [list(groups)] if power == 2 else [[k] for k in groups]
        for region in regions:
            p, g = p_image[region].flatten(), g_image[region].flatten()
            s = settings.dice_smooth
            terms.append(1 - (2 * (p * g).sum() + s) / ((p**power).sum() + (g**power).sum() + s))
    return total + settings.dice * sum(terms) / len(terms)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("size", [(6, 5), (4, 3, 5)], ids=["2D", "3D"])
def test_losses_and_gradients_equal_their_formulas(rng, settings, size):
    logits = rng.normal(0, 3, (2, 3, *size)).astype(np.float32)
    labels = rng.integers(0, 2, (2, *size)).astype(np.int32)  # class 2 is absent

    loss = build_loss(settings, 3)
    value, gradient = mindspore.value_and_grad(loss)(Tensor(logits), Tensor(labels))

    reference = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = loss_by_torch(settings, reference, torch.tensor(labels))
    expected.backward()
    assert value.shape == ()
    assert float(value.asnumpy()) == pytest.approx(expected.item(), rel=2e-6)
    largest = reference.grad.abs().max().item()
    np.testing.assert_allclose(gradient.asnumpy(), reference.grad.numpy(), atol=3e-6 * largest)


def test_a_compiled_loss_equals_the_eager_one(rng):
    loss = build_loss(CASES["all"], 2)
    logits = Tensor(rng.standard_normal((2, 2, 8, 8), dtype=np.float32))
    labels = Tensor(rng.integers(0, 2, (2, 8, 8)).astype(np.int32))

    @mindspore.jit
    def compiled(logits, labels):
        return loss(logits, labels)

    assert float(compiled(logits, labels).asnumpy()) == pytest.approx(float(loss(logits, labels).asnumpy()), rel=1e-6)


def test_squared_dice_of_all_classes_is_one_less_the_measure_of_the_zoo(rng):
    logits = rng.standard_normal((1, 2, 8, 8), dtype=np.float32)
    labels = rng.integers(0, 2, (1, 8, 8)).astype(np.int32)
    scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).ravel()
    truth = np.stack([labels == 0, labels == 1], axis=1).ravel().astype(np.float64)
    zoo = 2 * scores @ truth / (scores @ scores + truth @ truth + 1e-6)

    settings = LossSettings(**OFF, dice=1.0, dice_denominator="squared", dice_smooth=0.0)
    value = build_loss(settings, 2)(Tensor(logits), Tensor(labels))

    assert float(value.asnumpy()) == pytest.approx(1 - zoo, abs=1e-6)


def test_linear_dice_by_hand():
    # scores 3/4 for the true class of two pixels, one of each class: per class 2 * 0.75 / (1 + 1)
    logits = Tensor(np.log(np.array([[[[3, 1]], [[1, 3]]]], np.float32)))
    labels = Tensor(np.array([[[0, 1]]], np.int32))
    settings = LossSettings(**OFF, dice=1.0, dice_smooth=0.0)
    assert float(build_loss(settings, 2)(logits, labels).asnumpy()) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_a_sure_and_right_network_has_no_loss_and_a_finite_gradient(settings):
    labels = np.tile(np.arange(3, dtype=np.int32), (1, 4, 2))
    logits = 1000 * np.stack([labels == k for k in range(3)], axis=1).astype(np.float32)
    value, gradient = mindspore.value_and_grad(build_loss(settings, 3))(Tensor(logits), Tensor(labels))
    assert float(value.asnumpy()) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(gradient.asnumpy()).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient_is_finite_where_a_power_below_one_is_steepest(gamma):
    logits = Tensor(np.array([[[[100.0, -100.0]], [[0.0, 0.0]]]], np.float32))
    labels = Tensor(np.zeros((1, 1, 2), np.int32))
    loss = build_loss(LossSettings(**OFF, focal=1.0, focal_gamma=gamma), 2)
    assert np.isfinite(mindspore.grad(loss)(logits, labels).asnumpy()).all()


def test_half_precision_logits_are_summed_in_single_precision():
    logits = Tensor(np.zeros((1, 2, 512, 512), np.float16))
    labels = Tensor(np.zeros((1, 512, 512), np.int32))
    value = build_loss(LossSettings(dice=1.0, dice_smooth=0.0), 2)(logits, labels)
    # cross entropy log 2; Dice 1 - 1 / 1.5 for class 0 and 1 for the absent class 1
    assert value.dtype == mindspore.float32
    assert float(value.asnumpy()) == pytest.approx(np.log(2) + (1 / 3 + 1) / 2, rel=1e-5)


def value_and_gradient(settings: LossSettings, logits, labels, *, ignored: int | None = None):
    loss = build_loss(settings, logits.shape[1], ignored=ignored)
    value, gradient = mindspore.value_and_grad(loss)(Tensor(logits), Tensor(labels))
    return float(value.asnumpy()), gradient.asnumpy()


@pytest.mark.parametrize("ignored", [None, 255, 2])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 3.0)])
def test_class_weights_and_an_ignored_label_count_as_in_torch(rng, weights, ignored):
    logits = rng.normal(0, 3, (2, 3, 4, 3, 5)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 4, 3, 5)).astype(np.int32)
    if ignored is not None:
        labels[:, 1] = ignored
    value, gradient = value_and_gradient(LossSettings(class_weights=weights), logits, labels, ignored=ignored)

    reference = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        reference,
        torch.tensor(labels).long(),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        ignore_index=-100 if ignored is None else ignored,
    )
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=2e-6)
    np.testing.assert_allclose(gradient, reference.grad.numpy(), atol=3e-6 * np.abs(reference.grad).max().item())


@pytest.mark.parametrize("dice_per", ["image", "batch"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_ignored_pixels_are_as_if_cut_off(rng, settings, dice_per):
    settings = settings.model_copy(update={"dice_per": dice_per, "class_weights": (1.0, 2.0, 0.5)})
    logits = rng.normal(0, 3, (2, 3, 6, 5)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6, 5)).astype(np.int32)
    expected, gradient = value_and_gradient(settings, logits[:, :, :4], labels[:, :4])
    labels[:, 4:] = 9
    value, whole = value_and_gradient(settings, logits, labels, ignored=9)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(whole[:, :, :4], gradient, atol=1e-6)
    assert not whole[:, :, 4:].any()


def test_an_image_without_labels_is_not_in_the_mean_of_dice(rng):
    settings = LossSettings(**OFF, dice=1.0)
    logits = rng.normal(0, 3, (2, 3, 6, 5)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6, 5)).astype(np.int32)
    alone, _ = value_and_gradient(settings, logits[:1], labels[:1])
    labels[1] = 9
    assert value_and_gradient(settings, logits, labels, ignored=9)[0] == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("dice_per", ["image", "batch"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_a_batch_without_labels_has_no_loss_and_no_gradient(rng, settings, dice_per):
    settings = settings.model_copy(update={"dice_per": dice_per, "dice_smooth": 0.0})
    logits = rng.normal(0, 3, (2, 3, 6, 5)).astype(np.float32)
    labels = np.full((2, 6, 5), 9, np.int32)
    value, gradient = value_and_gradient(settings, logits, labels, ignored=9)
    assert value == 0
    assert not gradient.any()


def test_dice_of_a_batch_by_hand():
    # scores 3/4 for the true class of all four pixels; two images, class 1 only in the first
    logits = Tensor(np.log(np.array([[[[1, 3]], [[3, 1]]], [[[3, 3]], [[1, 1]]]], np.float32)))
    labels = Tensor(np.array([[[1, 0]], [[0, 0]]], np.int32))
    settings = LossSettings(**OFF, dice=1.0, dice_smooth=0.0, dice_per="batch")
    # class 0: 2 * 9/4 / (10/4 + 3); class 1: 2 * 3/4 / (6/4 + 1)
    expected = 1 - (4.5 / 5.5 + 1.5 / 2.5) / 2
    assert float(build_loss(settings, 2)(logits, labels).asnumpy()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (1, 2, 2)], ids=str)
def test_deep_supervision_is_the_weighted_mean_over_resolutions(rng, stride):
    settings = LossSettings(dice=1.0)
    size = (8, 8, 4)[: len(stride)]
    labels = rng.integers(0, 3, (2, *size)).astype(np.int32)
    logits, terms = [], []
    for level in range(3):
        thinned = labels[(slice(None), *(slice(None, None, step**level) for step in stride))]
        logits.append(rng.standard_normal((2, 3, *thinned.shape[1:]), dtype=np.float32))
        terms.append(value_and_gradient(settings, logits[-1], thinned)[0])
    value = build_loss(settings, 3)(tuple(map(Tensor, logits)), Tensor(labels))
    assert float(value.asnumpy()) == pytest.approx(np.dot(terms, [4 / 7, 2 / 7, 1 / 7]), rel=1e-5)


def test_every_class_has_a_weight():
    with pytest.raises(ValueError, match=r"class_weights must be 3 numbers, got \[1.0, 2.0\]"):
        build_loss(LossSettings(class_weights=(1.0, 2.0)), 3)


def test_weights_of_pixels_multiply_cross_entropy_and_focal_loss_as_in_torch(rng):
    settings = LossSettings(cross_entropy=0.7, focal=0.3, dice=0.5, class_weights=(0.5, 2.0, 1.0))
    logits = rng.normal(0, 3, (2, 3, 6, 5)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6, 5)).astype(np.int32)
    labels[0, 2] = 255
    weights = rng.random((2, 6, 5), np.float32) * 9

    loss = build_loss(settings, 3, ignored=255)
    value, gradient = mindspore.value_and_grad(loss)(Tensor(logits), Tensor(labels), Tensor(weights))

    reference = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    truth = torch.tensor(labels).long()
    each = torch.nn.functional.cross_entropy(
        reference, truth, torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64), ignore_index=255, reduction="none"
    )
    of_class = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)[torch.where(truth == 255, 0, truth)] * (truth != 255)
    plain = each / torch.where(of_class > 0, of_class, 1)
    weighed = torch.tensor(weights).double() * each
    focal = (1 - torch.exp(-plain)) ** 2 * weighed
    expected = (0.7 * weighed.sum() + 0.3 * focal.sum()) / of_class.sum()
    without = build_loss(LossSettings(cross_entropy=0.0, dice=0.5), 3, ignored=255)
    dice, dice_gradient = mindspore.value_and_grad(without)(Tensor(logits), Tensor(labels))
    expected.backward()
    assert float(value.asnumpy()) == pytest.approx(expected.item() + float(dice.asnumpy()), rel=2e-6)
    largest = reference.grad.abs().max().item()
    found = gradient.asnumpy() - dice_gradient.asnumpy()
    np.testing.assert_allclose(found, reference.grad.numpy(), atol=3e-6 * largest)


def test_weights_of_one_change_no_bit(rng):
    loss = build_loss(LossSettings(focal=0.5, dice=1.0), 2)
    logits = Tensor(rng.standard_normal((2, 2, 8, 8), dtype=np.float32))
    labels = Tensor(rng.integers(0, 2, (2, 8, 8)).astype(np.int32))
    weights = Tensor(np.ones((2, 8, 8), np.float32))
    assert loss(logits, labels, weights).asnumpy() == loss(logits, labels).asnumpy()
    doubled = build_loss(LossSettings(), 2)
    assert doubled(logits, labels, 2 * weights).asnumpy() == pytest.approx(2 * doubled(logits, labels).asnumpy())


def test_coarser_outputs_are_weighed_by_every_second_pixel(rng):
    fine, coarse = (Tensor(rng.standard_normal((1, 2, n, n), dtype=np.float32)) for n in (8, 4))
    labels = rng.integers(0, 2, (1, 8, 8)).astype(np.int32)
    weights = rng.random((1, 8, 8), np.float32)
    loss = build_loss(LossSettings(), 2)

    found = loss((fine, coarse), Tensor(labels), Tensor(weights)).asnumpy()

    of_fine = loss(fine, Tensor(labels), Tensor(weights)).asnumpy()
    thinned = (Tensor(np.ascontiguousarray(array[:, ::2, ::2])) for array in (labels, weights))
    of_coarse = loss(coarse, *thinned).asnumpy()
    assert found == pytest.approx((of_fine + of_coarse / 2) / 1.5, rel=1e-6)


@pytest.mark.parametrize("part", ["cross_entropy", "focal"])
def test_an_adjustment_is_added_to_the_logits_but_not_for_dice(rng, part):
    logits = rng.normal(0, 3, (2, 3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 4, 5)).astype(np.int32)
    added = (0.5, -1.25, 2.0)
    settings = LossSettings(**OFF | {part: 1.0}, logit_adjustment=added)
    expected = LossSettings(**OFF | {part: 1.0})
    by_hand = loss_by_torch(expected, torch.tensor(logits + np.reshape(added, (3, 1, 1))), torch.tensor(labels))
    value = build_loss(settings, 3)(Tensor(logits), Tensor(labels))
    assert float(value.asnumpy()) == pytest.approx(by_hand.item(), rel=2e-6)

    both = settings.model_copy(update={"dice": 1.0})
    dice = loss_by_torch(LossSettings(**OFF, dice=1.0), torch.tensor(logits), torch.tensor(labels))
    value = build_loss(both, 3)(Tensor(logits), Tensor(labels))
    assert float(value.asnumpy()) == pytest.approx(by_hand.item() + dice.item(), rel=2e-6)


def test_with_the_logarithm_of_class_weights_the_best_logits_are_those_of_the_shares():
    """A quarter of the pixels is of class 1 and weighs 5 times as much; the loss is least at the share itself."""
    labels = Tensor(np.array([[[0, 0, 0, 1]]], np.int32))
    logits = np.tile(np.log(np.array([0.75, 0.25], np.float32)).reshape(1, 2, 1, 1), (1, 1, 1, 4))
    weights = (1.0, 5.0)
    settings = LossSettings(class_weights=weights, logit_adjustment="weights", log_weights=tuple(np.log(weights)))
    gradient = mindspore.grad(build_loss(settings, 2))(Tensor(logits), labels).asnumpy()
    np.testing.assert_allclose(gradient.sum((0, 2, 3)), 0, atol=1e-6)
    plain = mindspore.grad(build_loss(LossSettings(class_weights=weights), 2))(Tensor(logits), labels).asnumpy()
    assert np.abs(plain.sum((0, 2, 3))).min() > 0.1


@pytest.mark.parametrize("added", ["weights", (1.0, 2.0)])
def test_an_adjustment_that_is_not_of_every_class_is_refused(added):
    with pytest.raises(ValueError, match="logit_adjustment must be 3 numbers"):
        build_loss(LossSettings(class_weights=(1.0, 2.0, 3.0), logit_adjustment=added), 3)
