"""Recognises weight files by suffix."""

__all__ = ["MERGE_ADAPTER", "READABLE_SUFFIXES", "WEIGHT_SUFFIXES"]

MERGE_ADAPTER = "merge it into its base model first (PEFT: merge_and_unload), and give the merged model"
"""What to do with an adapter that was given as a checkpoint."""

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
