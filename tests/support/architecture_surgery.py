"""A tiny model on disk and in memory, and surgery on it that does not use the records: the oracle of the sweep."""

import copy
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from solar_upscale.architecture import Stack
from solar_upscale.source.header import TensorInfo
from tests.support import tiny_models
from tests.support.tiny_models import Pair

__all__ = [
    "INDEX_LISTS",
    "Built",
    "add_next_token_layer",
    "build",
    "load",
    "logits_of",
    "module_lists",
    "operate",
    "read_built",
]


@dataclass
class Built:
    """A tiny model on disk and in memory, with its logits."""

    pair: Pair
    folder: Path
    model: Any
    logits: Any
    baseline: dict[str, Any]
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def build(pair: Pair, folder: Path) -> Built:
    """Build the model, save it, and load what was saved.

    Raises:
        Exception: whatever transformers raises; the sweep reports it as the reason why the type is not built.
    """
    model = tiny_models.tiny_model(pair)
    model.save_pretrained(folder)
    built = read_built(pair, folder, type(model))
    saved, loaded = model.state_dict(), built.model.state_dict()
    # Tied and computed embeddings may differ after loading, but not half of the model.
    if sum(not torch.equal(saved[name], loaded[name]) for name in saved) > len(saved) // 2:
        raise ValueError("transformers does not load what it saves")
    return built


def read_built(pair: Pair, folder: Path, model_class: Any) -> Built:
    """The model that transformers loads from the folder, with the folder's config and tensors."""
    loaded, info = load(model_class, folder)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (the file is no dict)
                piece = file.get_slice(name)
                tensors[name] = TensorInfo(name, piece.get_dtype(), tuple(piece.get_shape()), (0, 0))
    config = json.loads((folder / "config.json").read_text())
    # A forward pass may change weights in place (RWKV halves some), so a copy is run.
    return Built(pair, folder, loaded, logits_of(copy.deepcopy(loaded)), info, tensors, config)


def load(model_class: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    model, info = model_class.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    return model.eval(), {key: sorted(map(str, value)) for key, value in info.items() if key.endswith("keys") and value}


def logits_of(model: Any) -> Any:
    """The model's logits for a fixed text; None for one that needs more than text."""
    ids = (torch.arange(24) * 7 % 90 + 5)[None]
    kwargs: dict[str, Any] = {"input_ids": ids}
    wanted = inspect.signature(model.forward).parameters
    if "decoder_input_ids" in wanted:
        kwargs |= {"decoder_input_ids": ids.flip(1)}
    if "use_cache" in wanted or "decoder_input_ids" in wanted:
        kwargs |= {"use_cache": False}
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            output = model(**kwargs)
    except Exception:  # a model may require any input; then only weights are compared
        try:
            with torch.no_grad():
                output = model(**kwargs, **extra_inputs(model))
        except Exception:  # a model may fail in any way; then only weights are compared
            return None
    logits = output.get("logits") if hasattr(output, "get") else output[0]
    return logits if torch.is_tensor(logits) and torch.isfinite(logits).all() else None


def extra_inputs(model: Any) -> dict[str, Any]:
    """Inputs that some models need besides text."""
    wanted = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(1)
    size = getattr(getattr(model.config, "vision_config", None), "image_size", 32)
    inputs: dict[str, Any] = {}
    if "pixel_values" in wanted:
        inputs["pixel_values"] = torch.randn(1, 3, size, size, generator=generator)
    if "bbox" in wanted:
        inputs["bbox"] = torch.zeros(1, 24, 4, dtype=torch.long)
    if "flattened_patches" in wanted:
        inputs = {"flattened_patches": torch.rand(1, 6, 3 * 8 * 8 + 2, generator=generator)}
    return inputs


def module_lists(model: Any, stack: Stack) -> list[str]:
    """The module lists of the stack, whose names may differ from its prefixes in the checkpoint."""
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == stack.num_layers and ".0." not in f".{name}."
    }
    found = []
    for prefix in stack.prefixes:
        parts = set(prefix.split("."))
        ranked = sorted(lists, key=lambda name: (-len(parts & set(name.split("."))), len(name)))
        found += ranked[:1]
    return list(dict.fromkeys(found))


def operate(built: Built, stack: Stack, sources: list[int], *, renumber: bool, around: Any = None) -> Any:
    """A copy of the model with copies of its blocks in the new order, and the new depth in the config around them.

    If ``around`` is given, the modules around the blocks get that config, for models that compute layer kinds from a
    period or a count.
    """
    model = copy.deepcopy(built.model)
    names = module_lists(model, stack)
    if not names:
        return None
    for name in names:
        parent = model.get_submodule(name.rpartition(".")[0])
        old = model.get_submodule(name)
        blocks = [copy.deepcopy(old[s]) for s in sources]
        if renumber:
            for j, block in enumerate(blocks):
                for module in block.modules():
                    for attribute in ("layer_idx", "layer_id", "layer_number", "layer_index"):
                        if isinstance(getattr(module, attribute, None), int):
                            setattr(module, attribute, j)
        setattr(parent, name.rpartition(".")[2], torch.nn.ModuleList(blocks))
        _permute_slices(parent, stack.num_layers, sources)
        for key, value in list(vars(parent).items()):
            if isinstance(value, set | list) and key.endswith("_layers") and all(isinstance(v, int) for v in value):
                setattr(parent, key, type(value)(j for j, s in enumerate(sources) if s in value))
        if around is None:
            _set_depth(model, parent, stack.num_layers, sources)
        else:
            _use_config(model, names, around)
    return model


def _permute_slices(parent: Any, n: int, sources: list[int]) -> None:
    """Gemma's per-layer inputs: one slice per layer of an embedding and of a projection."""
    for attribute, axis in (("embed_tokens_per_layer", 1), ("per_layer_model_projection", 0)):
        module = getattr(parent, attribute, None)
        if module is not None:
            slices = module.weight.detach().chunk(n, axis)
            module.weight = torch.nn.Parameter(torch.cat([slices[s] for s in sources], axis))


def _use_config(model: Any, names: list[str], around: Any) -> None:
    """Give every module outside the blocks the config of the loaded model."""
    text, types = around.get_text_config(), {type(around): around}
    types[type(text)] = text
    for name, module in model.named_modules():
        config = getattr(module, "config", None)
        if config is not None and not any(f"{name}.".startswith(f"{prefix}.") for prefix in names):
            module.config = types.get(type(config), config)


def _set_depth(model: Any, parent: Any, n: int, sources: list[int]) -> None:
    """Update the configs that the modules around the blocks read."""
    configs = {id(c): c for c in (getattr(parent, "config", None), model.config.get_text_config()) if c is not None}
    for config in configs.values():
        values = vars(config)
        for key, value in list(values.items()):
            if isinstance(value, list) and len(value) == n and not key.startswith("_") and key not in INDEX_LISTS:
                values[key] = [value[s] for s in sources]
            elif key in tiny_models.COUNTS and value == n:
                values[key] = len(sources)
    for key, value in list(vars(parent).items()):
        if key in ("num_hidden_layers", "num_layers", "n_layers") and value == n:
            setattr(parent, key, len(sources))


INDEX_LISTS = {"moe_layers", "kv_source_layers", "full_attn_idxs", "rope_scaling_layers"}


def add_next_token_layer(folder: Path, n: int) -> None:
    """Add a next-token layer under the index after the last layer, as in DeepSeek-V3 and GLM-4.5."""
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no dict)
    last = {name: tensor for name, tensor in tensors.items() if name.startswith(f"model.layers.{n - 1}.")}
    tensors |= {name.replace(f".{n - 1}.", f".{n}.", 1): tensor.clone() for name, tensor in last.items()}
    tensors |= {f"model.layers.{n}.eh_proj.weight": torch.ones(2, 4), f"model.layers.{n}.enorm.weight": torch.ones(2)}
    save_file(tensors, path, {"format": "pt"})
