"""A whole image of any size through a function that takes tiles of one size.

The function may be a network, an exported model, or a lambda; nothing here knows which.
"""

from unetcli.inference.automatic import TileRules, common_tiles, effective_halo, largest_tiles, tile_cost
from unetcli.inference.blending import Slab
from unetcli.inference.ensembles import average
from unetcli.inference.instances import Instances, Separation, separate
from unetcli.inference.memory import MemoryPlan, PredictorCost, Work, bytes_as_text, fit_memory, plan_memory
from unetcli.inference.pipeline import ahead, behind
from unetcli.inference.postprocess import Changes, Cleaning, clean, fill_holes, keep_largest, remove_small
from unetcli.inference.slabs import labels_of, predict_image, predict_labels, predict_slabs
from unetcli.inference.symmetries import Symmetries, over_symmetries, symmetries_of
from unetcli.inference.tiles import OnTile, Predictor, Scores, TilePlan
from unetcli.inference.uniform import once_for_uniform

__all__ = [
    "Changes",
    "Cleaning",
    "Instances",
    "MemoryPlan",
    "OnTile",
    "Predictor",
    "PredictorCost",
    "Scores",
    "Separation",
    "Slab",
    "Symmetries",
    "TilePlan",
    "TileRules",
    "Work",
    "ahead",
    "average",
    "behind",
    "bytes_as_text",
    "clean",
    "common_tiles",
    "effective_halo",
    "fill_holes",
    "fit_memory",
    "keep_largest",
    "labels_of",
    "largest_tiles",
    "once_for_uniform",
    "over_symmetries",
    "plan_memory",
    "predict_image",
    "predict_labels",
    "predict_slabs",
    "remove_small",
    "separate",
    "symmetries_of",
    "tile_cost",
]
