"""What trainers need to train only the new layers: each option's own words, or why it cannot say a pattern.

Pure functions of layer numbers and names; plain PyTorch is train.py. Nothing here is imported from a trainer.
"""

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["trainer_options"]


def trainer_options(new_layers: Sequence[int], num_layers: int, prefix: str) -> dict[str, dict[str, Any]]:
    """The options, by trainer, that train the layers ``new_layers`` and freeze all else; empty if there are none.

    Where a trainer's options cannot say it, its only entry is "cannot", with the reason.

    Args:
        new_layers: The layers to train (target layers, from 0).
        num_layers: The number of target layers.
        prefix: What stands before a layer's number in the names of the loaded model's parameters ("model.layers").
    """
    layers = sorted(set(new_layers))
    if not layers:
        return {}
    numbers = "|".join(map(str, layers))
    return {
        "axolotl": {"unfrozen_parameters": [f"^{prefix}.({numbers})."]},
        "llama-factory": _llama_factory(layers, num_layers),
        "ms-swift": {
            "freeze_parameters_ratio": 1.0,
            "trainable_parameters_regex": rf"^{re.escape(prefix)}\.({numbers})\.",
        },
        "peft": _peft(layers, prefix),
    }


def _llama_factory(layers: list[int], num_layers: int) -> dict[str, Any]:
    """Source: LLaMA-Factory, model/adapter.py: the first n, the last n, or the last of each of n equal groups."""
    count = len(layers)
    freeze = {"finetuning_type": "freeze", "freeze_trainable_modules": "all"}
    if layers == list(range(num_layers - count, num_layers)):
        return freeze | {"freeze_trainable_layers": count}
    if layers == list(range(count)):
        return freeze | {"freeze_trainable_layers": -count}
    if num_layers % count == 0 and layers == list(range(num_layers // count - 1, num_layers, num_layers // count)):
        return freeze | {"freeze_trainable_layers": count, "use_llama_pro": True}
    return {
        "cannot": "freeze_trainable_layers names the first or last layers, and use_llama_pro the last of each of equal "
        "groups; these layers are neither"
    }


def _peft(layers: list[int], prefix: str) -> dict[str, Any]:
    """Source: PEFT, tuners/tuners_utils.py, check_target_module_exists: a dot and a name stand before the pattern."""
    _, dot, pattern = prefix.partition(".")
    if not dot:
        return {"cannot": f'layers_pattern needs a name before the stack\'s own; the parameters start with "{prefix}."'}
    return {"layers_to_transform": layers, "layers_pattern": re.escape(pattern)}
