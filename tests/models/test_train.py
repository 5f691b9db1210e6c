import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from solar_upscale.errors import PatternError, UnsupportedError  # noqa: E402 - after the skips
from solar_upscale.memory.freeze import freeze_originals  # noqa: E402


def tiny_llama(layers=6):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def train(model, parameters, steps=3):
    optimiser = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    tokens = torch.arange(16).reshape(2, 8)
    for _ in range(steps):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def layer_of(name):
    return int(name.split(".")[2]) if name.startswith("model.layers.") else None


@pytest.mark.parametrize("handed", ["trainable", "all"])
def test_after_training_old_layers_are_bit_identical_and_new_ones_changed(handed):
    model = tiny_llama()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    tokens = torch.arange(8).reshape(1, 8)
    model(input_ids=tokens, labels=tokens).loss.backward()  # gradients from before must not count
    trainable = freeze_originals(model, [2, 4])
    train(model, trainable if handed == "trainable" else list(model.parameters()))
    for name, after in model.named_parameters():
        assert torch.equal(after, before[name]) == (layer_of(name) not in (2, 4)), name


def test_returned_parameters_are_those_of_the_layers():
    model = tiny_llama()
    returned = {id(each) for each in freeze_originals(model, (5, 1))}
    assert returned == {id(each) for layer in (1, 5) for each in model.model.layers[layer].parameters()}
    assert returned == {id(each) for each in model.parameters() if each.requires_grad}


def test_zeroed_repeat_learns():
    model = tiny_llama()
    for each in (model.model.layers[3].self_attn.o_proj, model.model.layers[3].mlp.down_proj):
        torch.nn.init.zeros_(each.weight)
    train(model, freeze_originals(model, [3]))
    assert model.model.layers[3].mlp.down_proj.weight.abs().sum() > 0
    assert model.model.layers[3].self_attn.o_proj.weight.abs().sum() > 0


def test_layer_that_does_not_exist_is_named():
    with pytest.raises(PatternError, match=r"layer 6 does not exist; model\.layers has 6 layers \(0 to 5\)"):
        freeze_originals(tiny_llama(), [2, 6])


def test_pattern_in_place_of_layer_numbers_is_refused():
    with pytest.raises(PatternError, match=r"expected layer indices.*got \['0:6', '2:8'\]"):
        freeze_originals(torch.nn.ModuleList([torch.nn.Linear(2, 2)]), ["0:6", "2:8"])


def test_no_layer_at_all_is_refused():
    with pytest.raises(PatternError, match="no layer to train"):
        freeze_originals(tiny_llama(), [])


def test_list_is_found_beside_others_by_the_configured_depth():
    model = tiny_llama()
    model.extra = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)])
    assert freeze_originals(model, [1])[0] is next(model.model.layers[1].parameters())


def test_two_lists_of_equal_length_are_ambiguous():
    model = tiny_llama()
    model.extra = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(6)])
    with pytest.raises(UnsupportedError, match=r"found model\.layers \(6\), extra \(6\); choose with stack="):
        freeze_originals(model, [1])
    assert freeze_originals(model, [1], stack="extra") == list(model.extra[1].parameters())


def test_experts_lists_inside_layers_do_not_confuse():
    outer = torch.nn.ModuleList([torch.nn.ModuleList([torch.nn.Linear(2, 2)]) for _ in range(4)])
    model = torch.nn.Module()
    model.blocks = outer
    assert freeze_originals(model, [2]) == list(outer[2].parameters())


@pytest.mark.parametrize("stack", [None, "encoder.block"])
def test_decoder_is_the_default_beside_an_encoder(stack):
    config = transformers.T5Config(
        vocab_size=32, d_model=16, d_kv=8, d_ff=24, num_layers=4, num_decoder_layers=6, num_heads=2
    )
    model = transformers.T5ForConditionalGeneration(config)
    returned = freeze_originals(model, [3], stack=stack)
    assert {id(each) for each in returned} == {
        id(each) for each in model.get_submodule(stack or "decoder.block")[3].parameters()
    }


def test_parameters_shared_with_an_original_stay_frozen():
    model = tiny_llama()
    model.model.layers[3].mlp = model.model.layers[2].mlp
    before = {name: each.detach().clone() for name, each in model.named_parameters(remove_duplicate=False)}
    train(model, freeze_originals(model, [3]))
    for name, after in model.named_parameters(remove_duplicate=False):
        assert torch.equal(after, before[name]) == (layer_of(name) != 3 or ".mlp." in name), name


def test_layers_without_parameters_of_their_own_are_refused_and_the_model_is_unchanged():
    model = tiny_llama()
    model.model.layers[3] = model.model.layers[2]
    with pytest.raises(UnsupportedError, match="are all shared with the rest of the model"):
        freeze_originals(model, [3])
    assert all(each.requires_grad for each in model.parameters())


def test_packed_weights_are_refused_and_the_model_is_unchanged():
    model = tiny_llama()
    packed = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    model.model.layers[2].mlp.down_proj.weight = packed
    with pytest.raises(UnsupportedError, match=r"stored as torch\.uint8, and cannot be trained"):
        freeze_originals(model, [2])
    assert all(each.requires_grad for each in model.parameters() if each is not packed)
