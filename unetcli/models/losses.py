"""What training minimises, on images and volumes alike."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# MindSpore 2.10 says that construct never returns, and that one_hot takes only integers

from __future__ import annotations

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from unetcli.config import LossSettings

# keeps a quotient finite where nothing counts, and changes none that has something
_TINY = 1e-20


class SegmentationLoss(nn.Cell):
    """A weighted sum of cross entropy, soft Dice and focal loss of softmax scores.

    With p the scores, g the labels as 0 or 1 per class, and s the smoothing term:

    - Cross entropy: the mean of -log p over the pixels, p that of the true class. With class weights w it is the
      weighted mean sum(-w log p) / sum(w), w that of the true class, as PyTorch has it.
    - With weights m of the pixels, cross entropy is the mean of -m log p over the pixels, or with class weights
      sum(-m w log p) / sum(w). It is not divided by the sum of m, so that a map twice as large pulls twice as hard, as
      in the sum of Ronneberger et al. 2015 (arXiv:1505.04597, equation 1). Focal loss is weighted in the same way, Dice
      is not.
    - Focal: the mean of -(1 - p)^gamma log p, the same p (Lin et al. 2017, arXiv:1708.02002, equation 4); with
      class weights the same weighted mean, where their equation 5 divides by the number of pixels.
    - Dice, linear: 1 - (2 sum(p g) + s) / (sum(p) + sum(g) + s), each sum over the pixels of one image and one class,
      then the mean over images and classes (the denominator of Sudre et al. 2017, arXiv:1707.03237, without its class
      weights). Not over all classes at once, as with sigmoid scores: softmax scores of all classes add up to
      the number of pixels, and the loss would be 1 less the mean score of the true class.
    - Dice, squared: 1 - (2 sum(p g) + s) / (sum(p^2) + sum(g^2) + s), each sum over the pixels and classes of one
      image, then the mean over images (Milletari et al. 2016, arXiv:1606.04797, section 3, for one class). With the
      background and s near 0 it is 1 less the 'dice_coeff' by which MindSpore's model zoo measures its U-Nets.
    - With `dice_per` 'batch' the sums go over the pixels of all images of a batch, as nnU-Net's batch Dice.

    With `logit_adjustment` a, cross entropy and focal loss are of softmax(logits + a), Dice of the logits as they are.
    With a the logarithm of the mean weight of each class, the logits are those of a network that learned cross
    entropy without weights, for the reason for which King and Zeng 2001 ("Logistic regression in rare events data",
    section 4.1) correct the intercept of a regression on a balanced sample; with a the logarithm of the frequency of
    each class, they are those for classes that are all as frequent (Menon et al. 2021, arXiv:2007.07314, section 4).

    A class that an image has not got counts like any other: its linear Dice term is s / (sum(p) + s), and the
    loss falls to 0 as its scores do. Without `dice_background` Dice leaves class 0 out of its sums.

    Pixels with the label `ignored` are in no sum and no mean; nor is an image that has no others in the mean of Dice.
    Where nothing is left to count, a loss is 0.

    Args:
        settings: Weights and forms.
        num_classes: K, with the background.
        ignored: A label that counts for nothing.

    Inputs:
        logits: `(N, K, *S)` float of any precision; computed in float32.
        labels: `(N, *S)` int32 in [0, K), or `ignored`.
        pixel_weights: `(N, *S)` float32; None where all pixels weigh 1.

    Outputs:
        Scalar float32.

    Raises:
        ValueError: If there are class weights or adjustments, but not one for each class, or the latter are still to be
            taken from the dataset.
    """

    def __init__(self, settings: LossSettings, num_classes: int, *, ignored: int | None = None) -> None:
        super().__init__()
        weights = settings.class_weights
        if weights is not None and len(weights) != num_classes:
            raise ValueError(f"class_weights must be {num_classes} numbers, got {list(weights)}")
        added = settings.logit_adjustment
        if added == "weights":
            added = settings.log_weights or ()
        if added is not None and len(added) != num_classes:
            raise ValueError(f"logit_adjustment must be {num_classes} numbers, got {list(added)}")
        self.num_classes = num_classes
        self.logit_adjustment = None if added is None else Tensor(np.array(added, np.float32).reshape(1, -1, 1))
        self.ignored = ignored
        self.class_weights = None if weights is None else Tensor(np.array(weights, np.float32).reshape(1, -1, 1))
        self.cross_entropy_weight = settings.cross_entropy
        self.dice_weight = settings.dice
        self.focal_weight = settings.focal
        self.gamma = settings.focal_gamma
        self.smooth = settings.dice_smooth
        self.first_class = 0 if settings.dice_background else 1
        self.is_squared = settings.dice_denominator == "squared"
        self.is_per_batch = settings.dice_per == "batch"

    def construct(self, logits: Tensor, labels: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The weighted sum."""
        batch = logits.shape[0]
        log_scores = _log_softmax(logits.astype(mindspore.float32).reshape(batch, self.num_classes, -1))
        labels = labels.reshape(batch, -1)
        counted = None
        if self.ignored is not None:
            counted = (labels != self.ignored).astype(mindspore.float32)  # (N, pixels)
            labels = ops.where(labels != self.ignored, labels, 0)
        truth = ops.one_hot(labels, self.num_classes, 1.0, 0.0, axis=1)  # (N, K, pixels)
        if counted is not None:
            truth = truth * counted.expand_dims(1)
        loss = 0.0
        if self.cross_entropy_weight or self.focal_weight:
            adjusted = log_scores
            if self.logit_adjustment is not None:
                adjusted = _log_softmax(log_scores + self.logit_adjustment)
            log_score = (adjusted * truth).sum(1)  # of the true class, (N, pixels)
            weighed = log_score if pixel_weights is None else log_score * pixel_weights.reshape(batch, -1)
            weight = counted if self.class_weights is None else (truth * self.class_weights).sum(1)
            if self.cross_entropy_weight:
                loss = loss - self.cross_entropy_weight * _mean(weighed, weight)
            if self.focal_weight:
                # doubt kept off 0, where the gradient of a power below 1 is infinite
                doubt = ops.maximum(1 - ops.exp(log_score), 1e-6)
                loss = loss - self.focal_weight * _mean(doubt**self.gamma * weighed, weight)
        if self.dice_weight:
            loss = loss + self.dice_weight * self.dice(ops.exp(log_scores), truth, counted)
        return loss

    def dice(self, scores: Tensor, truth: Tensor, counted: Tensor | None) -> Tensor:
        """Soft Dice loss of `(N, K, pixels)` scores and truth; `counted` `(N, pixels)` is 0 where they do not count."""
        scores, truth = scores[:, self.first_class :], truth[:, self.first_class :]
        if counted is not None:
            scores = scores * counted.expand_dims(1)
        common = (scores * truth).sum(2)  # (N, classes)
        if self.is_squared:
            total = (scores * scores).sum(2) + truth.sum(2)  # truth is its own square
            common, total = common.sum(1, keepdims=True), total.sum(1, keepdims=True)
        else:
            total = scores.sum(2) + truth.sum(2)
        if self.is_per_batch:
            common, total = common.sum(0, keepdims=True), total.sum(0, keepdims=True)
        if counted is None:
            return 1 - ((2 * common + self.smooth) / (total + self.smooth)).mean()
        pixels = counted.sum(1, keepdims=True)
        if self.is_per_batch:
            pixels = pixels.sum(0, keepdims=True)
        terms = 1 - (2 * common + self.smooth) / ops.maximum(total + self.smooth, _TINY)
        return _mean(terms, (pixels > 0).astype(mindspore.float32) * ops.ones_like(terms))


class DeepSupervision(nn.Cell):
    """The loss of each of several logits, weighted by their resolution: 1, 1/2, 1/4 ..., divided by their sum.

    As nnU-Net (Isensee et al. 2021). Logits of equal size weigh alike, so that those of UNet++ give the mean of their
    losses, where MindSpore's model zoo takes the sum. Labels, and weights of pixels, are brought to a resolution by
    taking every s-th pixel along each axis.

    Args:
        loss: Of one resolution.

    Inputs:
        logits: `(N, K, *S)`, or a tuple of such with sizes that divide the first's, in falling order.
        labels: `(N, *S)` int32.
        pixel_weights: `(N, *S)` float32; None where all pixels weigh 1.

    Outputs:
        Scalar float32.
    """

    def __init__(self, loss: nn.Cell) -> None:
        super().__init__()
        self.loss = loss

    def construct(
        self, logits: Tensor | tuple[Tensor, ...], labels: Tensor, pixel_weights: Tensor | None = None
    ) -> Tensor:
        """The weighted mean."""
        if not isinstance(logits, tuple):
            return self.loss(logits, labels, pixel_weights)
        total = 0.0
        weights = 0.0
        halvings = 0
        shape = logits[0].shape
        for scores in logits:
            if scores.shape != shape:
                shape = scores.shape
                halvings = halvings + 1
            thinned = None if pixel_weights is None else _thin(pixel_weights, shape[2:])
            total = total + self.loss(scores, _thin(labels, shape[2:]), thinned) / 2**halvings
            weights = weights + 1 / 2**halvings
        return total / weights


def build_loss(settings: LossSettings, num_classes: int, *, ignored: int | None = None) -> nn.Cell:
    """The loss that `settings` describe: from logits `(N, K, *S)` and labels `(N, *S)` int32 to a scalar.

    It takes the weights of the pixels, `(N, *S)` float32, as a third input, or none.
    Where a network has deep supervision, the logits are a tuple of those of each resolution, the finest first.

    Args:
        settings: Weights and forms.
        num_classes: K, with the background.
        ignored: A label that counts for nothing.

    Raises:
        ValueError: If there are class weights or adjustments, but not one for each class, or the latter are still to be
            taken from the dataset.
    """
    return DeepSupervision(SegmentationLoss(settings, num_classes, ignored=ignored))


def _thin(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    """Every s-th pixel along each axis, one axis at a time: several at once are slow on CPU."""
    for axis, length in enumerate(size, 1):
        stride = labels.shape[axis] // length
        if stride > 1:
            labels = labels[(slice(None),) * axis + (slice(None, None, stride),)]
    return labels


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean, or the weighted one; 0 where no weight is left."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / ops.maximum(weight.sum(), _TINY)


def _log_softmax(logits: Tensor) -> Tensor:
    """Over axis 1; the gradient of MindSpore's own takes three times as long there on CPU."""
    shifted = logits - ops.stop_gradient(logits.max(1, keepdims=True))
    return shifted - ops.log(ops.exp(shifted).sum(1, keepdims=True))
