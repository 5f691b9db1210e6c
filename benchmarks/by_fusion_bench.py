"""Depth upscaling as FusionBench's documentation shows it, then saved; run by the Python of its own environment."""

import json
import sys

import torch
from fusion_bench.method.depth_upscaling import DepthUpscalingAlgorithm
from transformers import AutoModelForCausalLM


def main() -> None:
    """``python by_fusion_bench.py SOURCE OUT LAYER_INDICES_AS_JSON``."""
    source, output, indices = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    layers = DepthUpscalingAlgorithm(layer_indices=json.loads(indices)).run(model.model.layers)
    model.model.layers = layers
    model.save_pretrained(output)


if __name__ == "__main__":
    main()
