"""The whole command for every family, where neither torch nor transformers can be imported."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.support.published_configs import PUBLISHED, solar, tensor_names

# One for each encoding.
FAMILIES = (
    "Llama-3.1-8B", "Qwen2-57B-A14B", "gemma-3-1b", "gemma-3-4b", "gpt2", "gpt-neo-125m", "DeepSeek-V3",
    "Llama-4-Scout", "granite-4.0-h-tiny", "Jamba-v0.1", "Bamba-9B", "recurrentgemma-2b", "Nemotron-H-8B",
    "MiniMax-M2", "ERNIE-4.5-21B-A3B", "Hunyuan-A13B", "SmolLM3-3B", "Kimi-Linear-48B-A3B", "LFM2-1.2B",
    "MiniCPM3-4B", "ModernBERT-base", "xlm-mlm-ende-1024", "llava-1.5-7b", "Llama-3.2-11B-Vision", "t5-small",
    "bart-large-cnn", "switch-base-8",
)  # fmt: skip
# Two features that the published configs above lack: a tensor with a slice per layer, and pointers between layers.
OWN: dict[str, dict[str, Any]] = {
    "slices": {
        "model_type": "gemma3n_text",
        "num_hidden_layers": 8,
        "num_kv_shared_layers": 0,
        "layer_types": ["full_attention"] * 8,
    },
    "pointers": {
        "model_type": "mistral_large4_text",
        "num_hidden_layers": 8,
        "first_k_dense_replace": 0,
        "kv_source_layers": [0, 0, 2, 3, 2, 5, 6, 6],
    },
}
PROGRAM = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} was asked for")

sys.meta_path.insert(0, Blocker())
from solar_upscale.cli import main

for line in sys.stdin.read().splitlines():
    folder, *layers = line.split()
    for words in (
        ["inspect", folder],
        ["plan", folder, "--layers", *layers],
        ["-q", folder, folder + "-out", "--layers", *layers],
        ["verify", folder + "-out", "--source", folder],
    ):
        code = main(words)
        if code:
            sys.exit(f"{words}: exit code {code}")
"""


def write(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir()
    tensors = {name: np.full((2, 2), i, np.float32) for i, name in enumerate(tensor_names(config))}
    if config["model_type"] == "gemma3n_text":
        tensors["model.embed_tokens_per_layer.weight"] = np.arange(32, dtype=np.float32).reshape(2, 16)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def test_no_command_needs_torch_or_transformers_for_known_families(tmp_path: Path) -> None:
    configs = {name: PUBLISHED[name] for name in FAMILIES} | OWN
    lines = []
    for name, config in configs.items():
        write(tmp_path / name, config)
        lines.append(" ".join([str(tmp_path / name), *map(str, solar(config))]))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, config in configs.items():
        written = json.loads((tmp_path / f"{name}-out" / "config.json").read_text())
        assert written != config
