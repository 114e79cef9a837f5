"""The road to a device that runs one network at one shape: tiles as files, and a folder with all that it needs.

`runner.py` is not imported: it is what `unet export --bundle` puts beside a model, to be run without unet.
"""

from unetcli.deployment.bundle import complete_bundle
from unetcli.deployment.exchange import TileWriter, read_scores, replay
from unetcli.deployment.index import INDEX, INPUTS, OUTPUTS, ImageTiles, Index, PageTiles, Tensor, Tiling, read_index
from unetcli.deployment.steps import steps_in_words

__all__ = [
    "INDEX",
    "INPUTS",
    "OUTPUTS",
    "ImageTiles",
    "Index",
    "PageTiles",
    "Tensor",
    "TileWriter",
    "Tiling",
    "complete_bundle",
    "read_index",
    "read_scores",
    "replay",
    "steps_in_words",
]
