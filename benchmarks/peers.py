"""The peers of `unet predict`: the same network in PyTorch, through MONAI's tiles, nnU-Net's, or none.

    python benchmarks/peers.py monai|nnunet|whole --image FILE --weights FILE --output FILE ...
    python benchmarks/peers.py trial --weights FILE --tile 64 64 64
    python benchmarks/peers.py agreement --image MASK --output MASK
    python benchmarks/peers.py limits

Each is a process of its own: files in, files out, and on the last line one JSON object. `seconds` in it leaves out the
imports and the loading of weights, as the `seconds` of `unet predict --json` do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from subjects import HOUNSFIELD, SPACING

if TYPE_CHECKING:
    import torch

GREY = (0.0, 255.0)
REPEATS = 5


def main() -> None:
    """Do one thing and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WORK))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--tile", type=int, nargs="+")
    parser.add_argument("--overlap", type=float)
    parser.add_argument("--mode", choices=["gaussian", "constant"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    facts = WORK[arguments.what](arguments)
    print(json.dumps(facts | {"mask": str(arguments.output)}))


def with_monai(arguments: argparse.Namespace) -> dict[str, Any]:
    """MONAI's sliding window over a volume, or over each page of a stack."""
    import torch
    from monai.inferers import sliding_window_inference

    network = Twin.load(arguments.weights, channels_last=arguments.channels_last)
    tile, overlap, mode, batch = arguments.tile, arguments.overlap, arguments.mode, arguments.batch

    def labels_of(image: torch.Tensor) -> NDArray[np.uint8]:
        scores = sliding_window_inference(image[None, None], tile, batch, network, overlap, mode)
        return scores.argmax(1)[0].to(torch.uint8).numpy()

    with torch.inference_mode():
        return {"seconds": segment(arguments.image, arguments.output, lambda pages: map(labels_of, pages))}


def whole_slices(arguments: argparse.Namespace) -> dict[str, Any]:
    """Whole pages through PyTorch, some at a time."""
    import torch

    network = Twin.load(arguments.weights, channels_last=arguments.channels_last)

    def labels_of(pages: torch.Tensor) -> list[NDArray[np.uint8]]:
        batches = (network(pages[i : i + arguments.batch, None]) for i in range(0, len(pages), arguments.batch))
        return [mask.numpy() for scores in batches for mask in scores.argmax(1).to(torch.uint8)]

    with torch.inference_mode():
        return {"seconds": segment(arguments.image, arguments.output, labels_of)}


def segment(image: Path, output: Path, labels_of: Callable[[torch.Tensor], Any]) -> float:
    """Read, normalise, segment, write; how many seconds that took. A volume counts as one page."""
    import torch

    started = time.perf_counter()
    if image.suffix == ".nii":
        import nibabel as nib

        volume = nib.load(image)
        voxels = np.asarray(volume.dataobj).transpose(2, 1, 0)  # the network has Z first
        (labels,) = labels_of(torch.from_numpy(normalised(voxels, *HOUNSFIELD))[None])
        nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), volume.affine), output)
    else:
        import tifffile

        pages = tifffile.imread(image)
        pages = pages.reshape(-1, *pages.shape[-2:])
        tifffile.imwrite(output, np.stack(list(labels_of(torch.from_numpy(normalised(pages, *GREY))))))
    return time.perf_counter() - started


def normalised(image: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """As the runs say: from -1 to 1, and clipped."""
    result = np.ascontiguousarray(image, np.float32)
    result -= (low + high) / 2
    result *= 2 / (high - low)
    return result.clip(-1, 1, out=result)


def with_nnunet(arguments: argparse.Namespace) -> dict[str, Any]:
    """nnU-Net's own predictor without mirroring, with a plan made by hand around the same network."""
    import os

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # it warns without them
        os.environ.setdefault(name, str(arguments.output.parent))
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    network = Twin.load(arguments.weights, channels_last=arguments.channels_last)
    plans = PlansManager(nnunet_plans(arguments.tile))
    dataset = {
        "labels": {"background": 0} | {f"class {index}": index for index in range(1, network.num_classes)},
        "channel_names": {"0": "CT"},
        "file_ending": ".nii.gz",
    }
    predictor = nnUNetPredictor(
        tile_step_size=1 - arguments.overlap,
        use_gaussian=arguments.mode == "gaussian",
        use_mirroring=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network, plans, plans.get_configuration("3d_fullres"), [network.state_dict()], dataset, "", None
    )
    started = time.perf_counter()
    target = str(arguments.output).removesuffix(dataset["file_ending"])
    predictor.predict_from_files_sequential([[str(arguments.image)]], [target], overwrite=True)
    return {"seconds": time.perf_counter() - started}


def nnunet_plans(tile: list[int]) -> dict[str, Any]:
    """What nnU-Net's planning would have found: the spacing of the volume, and CT normalisation to -1 to 1."""
    low, high = HOUNSFIELD
    resampling = {
        f"resampling_fn_{what}{suffix}": value
        for what in ("data", "seg", "probabilities")
        for suffix, value in (
            ("", "resample_data_or_seg_to_shape"),
            ("_kwargs", {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}),
        )
    }
    return {
        "dataset_name": "made-up",
        "plans_name": "plans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "mean": (low + high) / 2,
                "std": (high - low) / 2,
                "percentile_00_5": low,
                "percentile_99_5": high,
            }
        },
        "configurations": {
            "3d_fullres": {
                "preprocessor_name": "DefaultPreprocessor",
                "patch_size": tile,
                "spacing": list(SPACING),
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "architecture": {},
                **resampling,
            }
        },
    }


def trial(arguments: argparse.Namespace) -> dict[str, Any]:
    """Which batch and which layout of memory PyTorch is quickest with, per tile, and how much a tile is."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    tile = tuple(arguments.tile)
    tiles = {batch: torch.zeros(batch, 1, *tile) for batch in (1, 4)}
    networks = {last: Twin.load(arguments.weights, channels_last=last) for last in (False, True)}
    found: dict[tuple[int, bool], list[float]] = {(batch, last): [] for last in networks for batch in tiles}
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            networks[False](tiles[1])
        for _ in range(REPEATS):
            for (batch, last), seconds in found.items():
                seconds.append(elapsed(lambda: networks[last](tiles[batch])) / batch)  # noqa: B023 - called at once
    best = {way: min(seconds) for way, seconds in found.items()}
    batch, last = min(best, key=best.__getitem__)
    return {
        "batch": batch,
        "channels_last": last,
        "seconds_per_tile": best[batch, last],
        "gflop_per_tile": counter.get_total_flops() / 1e9,
        "tried": {f"batch {b}, channels {'last' if c else 'first'}": seconds for (b, c), seconds in best.items()},
    }


def agreement(arguments: argparse.Namespace) -> dict[str, Any]:
    """The share of equal labels in two masks of the same size."""
    one, other = (read_mask(path) for path in (arguments.image, arguments.output))
    return {"equal": float(np.mean(one == other)), "classes": len(np.unique(other))}


def read_mask(path: Path) -> NDArray[Any]:
    """The values of a mask."""
    if ".nii" in path.suffixes:
        import nibabel as nib

        return np.asarray(nib.load(path).dataobj)
    import tifffile

    return tifffile.imread(path)


def limits(_: argparse.Namespace) -> dict[str, Any]:
    """GFLOP/s of this machine in float32: a large matrix product, and a large convolution."""
    import torch

    one, other = torch.rand(2, 3072, 3072).unbind()
    product = 2 * 3072**3 / min(elapsed(lambda: one @ other) for _ in range(REPEATS))
    return {"matrix_product": product / 1e9, "convolution": large_convolution() / 1e9}


def large_convolution() -> float:
    """FLOP/s of OpenVINO over 3 x 3 weights between 128 channels of 256 x 256."""
    from unetcli.runtimes.with_openvino import import_openvino

    openvino = import_openvino()
    from openvino import opset13

    rng = np.random.default_rng(1)
    image = rng.random((1, 128, 256, 256), np.float32)
    given = opset13.parameter(image.shape, np.float32)
    weights = opset13.constant(rng.random((128, 128, 3, 3), np.float32))
    model = openvino.Model([opset13.convolution(given, weights, [1, 1], [1, 1], [1, 1], [1, 1])], [given])
    request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    request.infer([image])
    seconds = min(elapsed(lambda: request.infer([image])) for _ in range(2 * REPEATS))
    return 2 * 128 * 128 * 9 * 256 * 256 / seconds


def elapsed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


WORK: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "monai": with_monai,
    "nnunet": with_nnunet,
    "whole": whole_slices,
    "trial": trial,
    "agreement": agreement,
    "limits": limits,
}

if __name__ == "__main__":
    from twin import Twin

    main()
