"""Depth upscaling as a careful script with the safetensors library does it: load and save a shard at a time."""

import json
import re
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.*)")


def main() -> None:
    """``python -m benchmarks.by_safetensors SOURCE OUT LAYER[,LAYER...]``: an output shard for each use of a shard."""
    source, output = map(Path, sys.argv[1:3])
    layers = list(map(int, sys.argv[3].split(",")))
    output.mkdir()
    weight_map: dict[str, str] = {}
    for number, path in enumerate(sorted(source.glob("*.safetensors"))):
        held = load_file(path)
        for use in range(max(map(layers.count, layers))):
            tensors = dict(_of_use(held, layers, use))
            if tensors:
                filename = f"model-{number:05d}-{use}.safetensors"
                save_file(tensors, output / filename, metadata={"format": "pt"})
                weight_map |= dict.fromkeys(tensors, filename)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (output / "model.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((source / "config.json").read_text())
    (output / "config.json").write_text(json.dumps({**config, "num_hidden_layers": len(layers)}))
    for name in ("generation_config.json", "tokenizer_config.json"):
        shutil.copy(source / name, output / name)


def _of_use(held: dict[str, torch.Tensor], layers: list[int], use: int) -> list[tuple[str, torch.Tensor]]:
    """The tensors that a shard gives when its layers are used for the ``use``-th time, under their new names."""
    tensors = []
    for name, tensor in held.items():
        found = _LAYER.fullmatch(name)
        if found is None:
            tensors += [(name, tensor)] if use == 0 else []
            continue
        targets = [target for target, layer in enumerate(layers) if layer == int(found[1])]
        if use < len(targets):
            tensors.append((f"model.layers.{targets[use]}.{found[2]}", tensor))
    return tensors


if __name__ == "__main__":
    main()
