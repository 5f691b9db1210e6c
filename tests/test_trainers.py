"""trainers.py: the options select the new layers' parameters and no others."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from solar_upscale.trainers import trainer_options


def names(num_layers: int = 12, prefix: str = "model.layers") -> list[str]:
    layers = [f"{prefix}.{i}.{part}.weight" for i in range(num_layers) for part in ("mlp.down_proj", "input_layernorm")]
    return ["model.embed_tokens.weight", *layers, "vision_tower.layers.1.fc.weight", "lm_head.weight"]


def layers_of(selected: list[str], prefix: str = "model.layers") -> set[int]:
    assert all(name.startswith(prefix + ".") for name in selected)
    return {int(name.removeprefix(prefix + ".").split(".")[0]) for name in selected}


@given(layers=st.sets(st.integers(0, 11), min_size=1), prefix=st.sampled_from(["model.layers", "model.text.layers"]))
def test_the_patterns_select_the_new_layers_and_nothing_else(layers: set[int], prefix: str) -> None:
    options = trainer_options(sorted(layers), 12, prefix)
    # axolotl takes dots literally and matches from the start; ms-swift searches a regular expression.
    axolotl = re.compile(options["axolotl"]["unfrozen_parameters"][0].replace(".", r"\."))
    swift = re.compile(options["ms-swift"]["trainable_parameters_regex"])
    assert layers_of([name for name in names(prefix=prefix) if axolotl.match(name)], prefix) == layers
    assert layers_of([name for name in names(prefix=prefix) if swift.search(name)], prefix) == layers


def llama_factory_layers(options: dict[str, Any], num_layers: int) -> list[int]:
    """What LLaMA-Factory documents for its freeze options."""
    count = options["freeze_trainable_layers"]
    if options.get("use_llama_pro"):
        return [num_layers // count * (group + 1) - 1 for group in range(count)]
    return list(range(num_layers)[-count:] if count > 0 else range(-count))


@pytest.mark.parametrize("layers", [[10, 11], [0, 1, 2], [3, 7, 11], [2, 5, 8, 11], list(range(12))])
def test_llama_factory_gets_options_for_the_layers_that_it_can_name(layers: list[int]) -> None:
    assert llama_factory_layers(trainer_options(layers, 12, "model.layers")["llama-factory"], 12) == layers


@pytest.mark.parametrize("layers", [[5], [3, 7], [2, 6, 10], [1, 2]])
def test_llama_factory_is_told_what_its_options_cannot_name(layers: list[int]) -> None:
    assert set(trainer_options(layers, 12, "model.layers")["llama-factory"]) == {"cannot"}


def test_without_new_layers_there_is_nothing_to_train() -> None:
    assert trainer_options([], 12, "model.layers") == {}


def test_peft_cannot_name_a_stack_at_the_top() -> None:
    assert set(trainer_options([1], 12, "layers")["peft"]) == {"cannot"}


def test_peft_puts_adapters_on_the_new_layers_alone() -> None:
    peft = pytest.importorskip("peft", reason="PEFT's own selection is tried where it is installed")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=12, num_attention_heads=2
    )
    options = trainer_options([1, 4, 11], 12, "model.layers")["peft"]
    model = peft.get_peft_model(LlamaForCausalLM(config), peft.LoraConfig(target_modules=["q_proj"], **options))
    adapted = [name.split("model.layers.")[1] for name, part in model.named_parameters() if part.requires_grad]
    assert {int(name.split(".")[0]) for name in adapted} == {1, 4, 11}
