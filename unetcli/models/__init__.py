"""Networks and losses, as cells of MindSpore. No files, no choice of device, no contexts."""

from unetcli.models.losses import build_loss
from unetcli.models.unet import build_model

__all__ = ["build_loss", "build_model"]
