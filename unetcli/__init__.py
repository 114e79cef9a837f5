"""From biomedical images to a trained, measured and deployable U-Net, on MindSpore."""

__version__ = "0.5.0"
