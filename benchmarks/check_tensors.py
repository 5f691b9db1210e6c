"""Whether an output holds the source's tensors under their new names, as the safetensors library reads both."""

import re
import sys
from pathlib import Path

import torch
from safetensors import safe_open


def main() -> None:
    """``python -m benchmarks.check_tensors SOURCE OUT LAYER[,LAYER...]``: exit code 1 if not."""
    source, output = map(Path, sys.argv[1:3])
    layers = list(map(int, sys.argv[3].split(",")))
    before, after = _places(source), _places(output)
    expected = {name for name in before if ".layers." not in name}
    for target, layer in enumerate(layers):
        old, new = f"model.layers.{layer}.", f"model.layers.{target}."
        expected |= {new + name.removeprefix(old) for name in before if name.startswith(old)}
    assert after.keys() == expected, "other names than expected"
    for name, path in after.items():
        old = re.sub(r"layers\.(\d+)\.", lambda found: f"layers.{layers[int(found[1])]}.", name)
        assert torch.equal(_bits(before[old], old), _bits(path, name)), name
    print(len(after))


def _places(folder: Path) -> dict[str, Path]:
    places = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            places |= dict.fromkeys(file.keys(), path)
    return places


def _bits(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
    return tensor.view(torch.int16)


if __name__ == "__main__":
    main()
