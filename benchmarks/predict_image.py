"""`unet predict` of a stack of images beside PyTorch and MONAI's sliding window: `make bench`.

    python benchmarks/predict_image.py [--rounds 3] [--size 30 512 512] [--json] [--work DIR]

A made-up stack of 30 pages of 512 x 512 pixels, uint8, and the network of the preset `isbi`: padded, 16 to 256
channels, depth 5, batch normalisation, transposed convolutions; 2 classes. All contestants have the same weights, read
the same TIF and write a TIF. Whole processes are timed, from the start of Python to its end, in turn; `inside` counts
from the opening of the stack to the written masks, without imports and the loading of weights. Before the rounds `unet`
runs once, since it makes its ONNX file once a run.

- PyTorch: whole pages, `inference_mode`; batch (1 or 4) and memory layout (channels first or last) are the quickest of
  a trial.
- MONAI: `sliding_window_inference` with tiles of 256 x 256: overlap 0.5 with Gaussian weights, and its own default,
  0.25 with equal ones. Along 512 pixels either are 3 tiles, and so are those of `unet`, which spreads them evenly.
- unet: with the tiles and overlap of the peer, as it is by default, and with MindSpore alone.

In 2D nearly all is arithmetic, so the speed that is reached is set beside that of a large product of matrices and of
one large convolution on this machine. A multiplication and an addition are 2 FLOP; what overlapping tiles compute again
counts again.
"""

from __future__ import annotations

import statistics
from importlib.metadata import version
from typing import Any

from compare import Rounds, alternate, parser, publish, run
from predictions import Task, inside, memory, peers, question, say_agreement, with_pytorch

SIZE = (30, 512, 512)
TILE = (256, 256)
SAME_TILES = ("--tile", "x".join(map(str, TILE)), "--overlap", "0.5")


def main() -> None:
    """Alternate them and print the ratios."""
    options = parser(__doc__)
    options.add_argument("--size", type=int, nargs=3, default=SIZE, help="pages, and pixels as Y X")
    arguments = options.parse_args()
    task = Task.prepare(arguments.work, "stack", tuple(arguments.size))
    page = tuple(arguments.size[1:])
    tiles, pages = task.trial(*TILE), task.trial(*page)
    whole = ("--tile", "x".join(map(str, page)))
    tile = ("--tile", *map(str, TILE))
    contestants = {
        "unet, whole pages": task.ours("unet, whole pages", *whole),
        "PyTorch": task.peer("PyTorch", "whole", pages),
        "unet, MindSpore": task.ours("unet, MindSpore", *whole, "--runtime", "mindspore"),
        "unet": task.ours("unet"),
        "MONAI 0.25": task.peer("MONAI 0.25", "monai", tiles, *tile, "--overlap", "0.25", "--mode", "constant"),
        "unet, same tiles": task.ours("unet, same tiles", *SAME_TILES),
        "MONAI 0.5": task.peer("MONAI 0.5", "monai", tiles, *tile, "--overlap", "0.5", "--mode", "gaussian"),
    }
    contestants["unet"]()
    rounds = alternate(contestants, arguments.rounds)
    say_agreement(rounds, "PyTorch")
    pytorch, monai = with_pytorch(), with_pytorch("MONAI")
    publish(
        [
            question("predict stack, whole pages", rounds, ("unet, whole pages", "PyTorch"), pytorch, 0.9),
            question("predict stack, whole pages, MindSpore", rounds, ("unet, MindSpore", "PyTorch"), pytorch, 1.3),
            question("predict stack, same tiles, overlap 0.5", rounds, ("unet, same tiles", "MONAI 0.5"), monai, 0.9),
            question("predict stack, same tiles, overlap 0.25", rounds, ("unet, same tiles", "MONAI 0.25"), monai, 0.9),
            question("predict stack, defaults, peer at 0.5 Gaussian", rounds, ("unet", "MONAI 0.5"), monai, 0.5),
            question("predict stack, defaults of both", rounds, ("unet", "MONAI 0.25"), monai, 0.5),
            memory("predict stack, peak memory, defaults", rounds, ("unet", "MONAI 0.25"), monai, None),
            *speeds(rounds, arguments.size[0] * pages["gflop_per_tile"]),
        ],
        as_json=arguments.json,
    )


def speeds(rounds: Rounds, gflop: float) -> list[dict[str, Any]]:
    """GFLOP/s over whole pages, of the work itself, and what the machine can do."""
    ours, peer = (gflop / statistics.median(map(inside, rounds[name])) for name in ("unet, whole pages", "PyTorch"))
    limits = run(peers("limits")).facts
    product = ("product of 3072 x 3072 matrices", limits["matrix_product"], with_pytorch())
    convolution = ("3 x 3 convolution of 128 channels", limits["convolution"], f"OpenVINO {version('openvino')}")
    lines: list[tuple[str, float | None, float, str]] = [
        ("arithmetic of predict stack, whole pages", ours, peer, with_pytorch()),
        *((f"limit, {what}", None, value, name) for what, value, name in (product, convolution)),
    ]
    return [
        {"question": question, "ours": one, "peer": other, "peer_name": name, "unit": "GFLOP/s"}
        for question, one, other, name in lines
    ]


if __name__ == "__main__":
    main()
