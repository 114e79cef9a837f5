"""`unet predict` of a volume beside MONAI's and nnU-Net's sliding windows: `make bench`.

    python benchmarks/predict_volume.py [--rounds 3] [--size 160 256 256] [--json] [--work DIR]

A made-up CT of 256 x 256 x 160 voxels, int16, and a padded 3D U-Net of 16 to 128 channels (depth 4, kernels of 3,
strides of 2, batch normalisation, transposed convolutions) with 4 classes. All contestants have the same weights, read
the same uncompressed `.nii` and write a mask as `.nii.gz`, as `unet` always does. Whole processes are timed, from the
start of Python to its end, in turn; `inside` counts from the opening of the image to the written mask, without imports
and the loading of weights. Before the rounds `unet` runs once, since it makes its ONNX file once a run.

- MONAI: `sliding_window_inference` of the network in PyTorch, tiles of 64 x 64 x 64: overlap 0.5 with Gaussian weights,
  and its own default, 0.25 with equal ones. `inference_mode`; batch (1 or 4) and memory layout (channels first or last)
  are the quickest of a trial.
- nnU-Net: `nnUNetPredictor.predict_from_files_sequential` with the same network and memory layout, tiles of
  64 x 64 x 64, step 0.5, Gaussian, no mirroring; one tile at a time, sums in half precision, as it is written.
- unet: with the tiles and overlap of the peer, as it is by default, and with MindSpore alone.

The shares of equal labels are printed, since all should compute the same but for the rounding and for what large tiles
see beyond the border of small ones.
"""

from __future__ import annotations

from compare import alternate, parser, publish
from predictions import Task, memory, question, say_agreement, with_pytorch

SIZE = (160, 256, 256)
TILE = (64, 64, 64)
SAME_TILES = ("--tile", "x".join(map(str, TILE)), "--overlap", "0.5")


def main() -> None:
    """Alternate them and print the ratios."""
    options = parser(__doc__)
    options.add_argument("--size", type=int, nargs=3, default=SIZE, help="voxels, as Z Y X")
    arguments = options.parse_args()
    task = Task.prepare(arguments.work, "volume", tuple(arguments.size))
    trial = task.trial(*TILE)
    tile = ("--tile", *map(str, TILE))
    contestants = {
        "unet, same tiles": task.ours("unet, same tiles", *SAME_TILES),
        "MONAI 0.5": task.peer("MONAI 0.5", "monai", trial, *tile, "--overlap", "0.5", "--mode", "gaussian"),
        "unet": task.ours("unet"),
        "MONAI 0.25": task.peer("MONAI 0.25", "monai", trial, *tile, "--overlap", "0.25", "--mode", "constant"),
        "unet, MindSpore": task.ours("unet, MindSpore", *SAME_TILES, "--runtime", "mindspore"),
        "nnU-Net": task.peer("nnU-Net", "nnunet", trial, *tile, "--overlap", "0.5", "--mode", "gaussian"),
    }
    contestants["unet"]()
    rounds = alternate(contestants, arguments.rounds)
    say_agreement(rounds, "MONAI 0.5")
    monai, nnunet = with_pytorch("MONAI"), with_pytorch("nnU-Net")
    publish(
        [
            question("predict volume, same tiles", rounds, ("unet, same tiles", "MONAI 0.5"), monai, 0.6),
            question("predict volume, same tiles, MindSpore", rounds, ("unet, MindSpore", "MONAI 0.5"), monai, 1.3),
            question("predict volume, same tiles, nnU-Net", rounds, ("unet, same tiles", "nnU-Net"), nnunet, None),
            question("predict volume, defaults, peer at 0.5 Gaussian", rounds, ("unet", "MONAI 0.5"), monai, 0.2),
            question("predict volume, defaults of both", rounds, ("unet", "MONAI 0.25"), monai, 0.4),
            question("predict volume, defaults, nnU-Net", rounds, ("unet", "nnU-Net"), nnunet, None),
            memory("predict volume, peak memory, defaults", rounds, ("unet", "MONAI 0.25"), monai, 0.5),
            memory("predict volume, peak memory, same tiles", rounds, ("unet, same tiles", "MONAI 0.5"), monai, 0.5),
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
