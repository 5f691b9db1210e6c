"""Which files hold weights, by the end of their name."""

__all__ = ["READABLE_SUFFIXES", "WEIGHT_SUFFIXES"]

READABLE_SUFFIXES = (".safetensors", ".bin")
"""Weights that a checkpoint can be read from."""

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
"""Weights in any format: not small, and not copied along with a model's other files."""
