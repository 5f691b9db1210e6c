"""train.py: only the new layers learn."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from solar_upscale.errors import UnsupportedError
from solar_upscale.train import freeze_originals


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def test_after_some_steps_old_layers_are_the_same_bits_and_new_ones_have_changed() -> None:
    model = tiny()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.AdamW(freeze_originals(model, [1, 3], "model.layers"), lr=1e-2)
    tokens = torch.randint(0, 64, (2, 8))
    for _ in range(3):
        optimiser.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimiser.step()
    new = ("model.layers.1.", "model.layers.3.")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is not name.startswith(new), name


def test_a_layer_that_starts_as_an_identity_learns() -> None:
    model = tiny()
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    trained = freeze_originals(model, [1], "model.layers")
    tokens = torch.randint(0, 64, (2, 8))
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert sum(float(parameter.grad.abs().sum()) for parameter in trained if parameter.grad is not None) > 0


@pytest.mark.parametrize("layers", [[4], [1, 9], []])
def test_layers_that_do_not_exist_are_refused_before_anything_is_frozen(layers: list[int]) -> None:
    model = tiny()
    with pytest.raises(UnsupportedError, match=r"model\.layers: the model has no layer"):
        freeze_originals(model, layers, "model.layers")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_parameter_that_old_and_new_layers_share_is_refused_by_name() -> None:
    model = tiny()
    model.model.layers[1].mlp = model.model.layers[0].mlp
    with pytest.raises(UnsupportedError, match=r"model\.layers\.0\.mlp\.gate_proj\.weight: is shared"):
        freeze_originals(model, [1], "model.layers")
