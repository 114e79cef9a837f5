"""What a tile takes inside a network, by runtime."""

from __future__ import annotations

_FLOAT32 = 4
_FINEST_FEATURES = {"openvino": (7.0, 5.3), "onnxruntime": (8.5, 8.5), "mindspore": (8.0, 15.0)}
"""How many features of the finest level are held at once, at most, of images and of volumes."""


def tile_bytes_per_pixel(runtime: str, channels: float, ndim: int = 3) -> float:
    """Most bytes that a network holds for each pixel of a batch, beside the pixel itself.

    Nearly all of it is features of the finest level, so it grows with their number alone. Measured in numbers of such
    features, as the highest resident set (VmHWM) of fresh processes beyond what was resident after a small tile, on
    two cores with AVX-512, with OpenVINO 2026.4, ONNX Runtime 1.31 and MindSpore 2.10:

    - unet of 16 and 32 channels, 256 to 2048 px a side: OpenVINO 5.8 to 5.9, ONNX Runtime 7.0 to 8.2, MindSpore 6.0;
    - the same with residual blocks: OpenVINO 6.5, ONNX Runtime 8.0;
    - unet on volumes of 16 and 32 channels, 64 x 64 x 64 to 96 x 128 x 128 px: OpenVINO 4.9 to 5.1, ONNX Runtime 6.0
      to 6.6, MindSpore 13.0;
    - unet_cicek: OpenVINO 14.8, ONNX Runtime 15.6; unet_residual less than 2.8; unet_valid less than 3.9;
    - unet_nested of depth 2 to 5, 768 px a side: OpenVINO 4.4, 7.9, 14.1, 23.2, ONNX Runtime 7.0, 9.3, 17.0, 22.0,
      MindSpore 5.8, 10.8, 15.3, 21.0; on volumes of depth 3 and 4: OpenVINO 7.6, 12.9, ONNX Runtime 8.1, 10.1,
      MindSpore 38.1, 57.9;
    - unet with attention gates: OpenVINO 8.7, ONNX Runtime 8.3, MindSpore 16.2; on volumes 6.2, 5.9 and 19.2.

    MindSpore takes about 100 MB more for each size of tile that it compiles. None of the three gives back what the
    largest tile took.

    Args:
        runtime: "openvino", "onnxruntime" or "mindspore".
        channels: Of the finest level, which is `ModelSettings.channels[0]`; more for networks that hold more there, as
            unet_cicek, whose skips meet what is thrice as wide, and unet_nested, whose last node takes all before it.
        ndim: 2 for images, 3 for volumes.
    """
    return _FLOAT32 * _FINEST_FEATURES[runtime][ndim - 2] * channels
