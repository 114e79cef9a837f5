"""What training minimises, on images and volumes alike."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportArgumentType=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that one_hot takes only integers

from __future__ import annotations

import mindspore
from mindspore import Tensor, nn, ops

from unetcli.config import LossSettings


class SegmentationLoss(nn.Cell):
    """A weighted sum of cross entropy, soft Dice and focal loss of softmax scores.

    With p the scores, g the labels as 0 or 1 per class, and s the smoothing term:

    - Cross entropy: the mean of -log p over the pixels, p that of the true class.
    - Focal: the mean of -(1 - p)^gamma log p, the same p (Lin et al. 2017, arXiv:1708.02002, equation 4, without the
      class weights of its equation 5).
    - Dice, linear: 1 - (2 sum(p g) + s) / (sum(p) + sum(g) + s), each sum over the pixels of one image and one class,
      then the mean over images and classes (the denominator of Sudre et al. 2017, arXiv:1707.03237, without its class
      weights). Not over all classes at once, as with sigmoid scores: softmax scores of all classes add up to
      the number of pixels, and the loss would be 1 less the mean score of the true class.
    - Dice, squared: 1 - (2 sum(p g) + s) / (sum(p^2) + sum(g^2) + s), each sum over the pixels and classes of one
      image, then the mean over images (Milletari et al. 2016, arXiv:1606.04797, section 3, for one class). With the
      background and s near 0 it is 1 less the 'dice_coeff' by which MindSpore's model zoo measures its U-Nets.

    A class that an image has not got counts like any other: its linear Dice term is s / (sum(p) + s), and the
    loss falls to 0 as its scores do. Without `dice_background` Dice leaves class 0 out of its sums.

    Args:
        settings: Weights and forms.
        num_classes: K, with the background.

    Inputs:
        logits: `(N, K, *S)` float of any precision; computed in float32.
        labels: `(N, *S)` int32 in [0, K).

    Outputs:
        Scalar float32.
    """

    def __init__(self, settings: LossSettings, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.cross_entropy_weight = settings.cross_entropy
        self.dice_weight = settings.dice
        self.focal_weight = settings.focal
        self.gamma = settings.focal_gamma
        self.smooth = settings.dice_smooth
        self.first_class = 0 if settings.dice_background else 1
        self.is_squared = settings.dice_denominator == "squared"

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weighted sum."""
        batch = logits.shape[0]
        log_scores = _log_softmax(logits.astype(mindspore.float32).reshape(batch, self.num_classes, -1))
        truth = ops.one_hot(labels.reshape(batch, -1), self.num_classes, 1.0, 0.0, axis=1)  # (N, K, pixels)
        loss = 0.0
        if self.cross_entropy_weight or self.focal_weight:
            log_score = (log_scores * truth).sum(1)  # of the true class, (N, pixels)
            if self.cross_entropy_weight:
                loss = loss - self.cross_entropy_weight * log_score.mean()
            if self.focal_weight:
                loss = loss + self.focal_weight * self.focal(log_score)
        if self.dice_weight:
            loss = loss + self.dice_weight * self.dice(ops.exp(log_scores), truth)
        return loss

    def focal(self, log_score: Tensor) -> Tensor:
        """Focal loss from the logarithm of the true class's scores."""
        # kept off 0, where the gradient of a power below 1 is infinite
        doubt = ops.maximum(1 - ops.exp(log_score), 1e-6)
        return -(doubt**self.gamma * log_score).mean()

    def dice(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Soft Dice loss of `(N, K, pixels)` scores and truth."""
        scores, truth = scores[:, self.first_class :], truth[:, self.first_class :]
        common = (scores * truth).sum(2)  # (N, classes)
        if self.is_squared:
            total = (scores * scores).sum(2) + truth.sum(2)  # truth is its own square
            common, total = common.sum(1), total.sum(1)
        else:
            total = scores.sum(2) + truth.sum(2)
        return 1 - ((2 * common + self.smooth) / (total + self.smooth)).mean()


def build_loss(settings: LossSettings, num_classes: int) -> nn.Cell:
    """The loss that `settings` describe: from logits `(N, K, *S)` and labels `(N, *S)` int32 to a scalar."""
    return SegmentationLoss(settings, num_classes)


def _log_softmax(logits: Tensor) -> Tensor:
    """Over axis 1; the gradient of MindSpore's own takes three times as long there on CPU."""
    shifted = logits - ops.stop_gradient(logits.max(1, keepdims=True))
    return shifted - ops.log(ops.exp(shifted).sum(1, keepdims=True))
