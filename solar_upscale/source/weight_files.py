"""Recognises weight files by suffix."""

__all__ = ["READABLE_SUFFIXES", "WEIGHT_SUFFIXES"]

READABLE_SUFFIXES = (".safetensors", ".bin")
"""Weights in the formats that are supported."""

WEIGHT_SUFFIXES = (
    *READABLE_SUFFIXES,
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".mlmodel",
    ".msgpack",
    ".npz",
    ".onnx",
    ".onnx_data",
    ".ot",
    ".pkl",
    ".pt",
    ".pth",
    ".tflite",
)
"""Weights in any format: large files, which are not copied with a model's other files."""
