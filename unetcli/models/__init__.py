"""Networks and losses, as cells of MindSpore. No files, no choice of device, no contexts."""

from unetcli.models.build import build_model
from unetcli.models.losses import build_loss

__all__ = ["build_loss", "build_model"]
