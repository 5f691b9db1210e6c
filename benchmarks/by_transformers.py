"""Depth upscaling as a script with transformers does it: load, edit the list of layers, save."""

import copy
import sys

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    """``python -m benchmarks.by_transformers SOURCE OUT LAYER[,LAYER...]``."""
    source, output, layers = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    old = model.model.layers
    used: set[int] = set()
    new = []
    for index in map(int, layers.split(",")):
        new.append(copy.deepcopy(old[index]) if index in used else old[index])
        used.add(index)
    for index, layer in enumerate(new):
        layer.self_attn.layer_idx = index
    model.model.layers = torch.nn.ModuleList(new)
    model.config.num_hidden_layers = len(new)
    model.save_pretrained(output, max_shard_size="500MB")


if __name__ == "__main__":
    main()
