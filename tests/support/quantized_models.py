"""Tiny quantised checkpoints in the shapes in which they are published, and surgery on the loaded model as the oracle.

What is packed here is unpacked by the libraries; nothing of the package is used.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

# Repeats layer 3, drops layer 4, and swaps 2 and 3; the first layer stays, because some models are dense there.
SOURCES = [0, 1, 3, 2, 3, 5]
ENTRIES = ["0:2", "3", "2:4", "5"]
IDS = torch.tensor([[1, 17, 42, 9, 77, 30, 5, 61, 23, 88, 12, 50]])
COMMON: dict[str, Any] = {
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_hidden_layers": 6,
}


def random_model(model_type: str, **settings: Any) -> Any:
    """A model with weights large enough that the order of layers matters."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **COMMON, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * parameter.shape[-1] ** -0.5 * 2 if parameter.ndim > 1 else 1 + noise * 0.1)
    return model.to(torch.bfloat16).eval()


def read(folder: Path) -> dict[str, Any]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no dict)


def write(folder: Path, tensors: dict[str, Any], **config: Any) -> None:
    """Replace the weights, and set fields of config.json."""
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    settings = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(settings, indent=2))


def fp8(weight: Any) -> tuple[Any, Any]:
    """A weight in FP8 with one inverse scale for each block of 128 by 128 or less, as DeepSeek-V3 publishes it."""
    rows, columns = weight.shape
    high, wide = min(rows, 128), min(columns, 128)
    blocks = weight.float().reshape(rows // high, high, columns // wide, wide)
    scale = blocks.abs().amax((1, 3)) / 448
    packed = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
    return packed, scale


def load(folder: Path, **settings: Any) -> Any:
    """The loaded model and its unexpected tensors; checks that none is missing or has another shape."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **settings)
    assert not info["missing_keys"], info
    assert not info["mismatched_keys"], info
    return model.eval(), sorted(info["unexpected_keys"])


def logits(model: Any) -> Any:
    with torch.no_grad():
        answer = model(IDS, use_cache=False).logits
    assert torch.isfinite(answer).all()
    return answer


def generated(model: Any) -> list[int]:
    with torch.no_grad():
        return model.generate(IDS, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(IDS))[0].tolist()


def operate(model: Any, sources: list[int]) -> Any:
    """A copy of a loaded model whose blocks are copies in another order, numbered anew."""
    model = copy.deepcopy(model)
    old = model.model.layers
    model.model.layers = torch.nn.ModuleList(copy.deepcopy(old[source]) for source in sources)
    for number, layer in enumerate(model.model.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    kinds = getattr(model.config, "layer_types", None)
    model.config.num_hidden_layers = len(sources)
    if kinds:
        model.config.layer_types = [kinds[source] for source in sources]
    return model
