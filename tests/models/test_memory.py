import copy
import warnings

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import nn  # noqa: E402 - after the skips
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM  # noqa: E402 - after the skips

import solar_upscale as su  # noqa: E402
from solar_upscale import DepthUpscalingAlgorithm, PatternError, UnsupportedError, upscale_layers, upscale_model  # noqa: E402

SOLAR = ["range(0,24)", "range(8,32)"]
IDS = torch.tensor([[1, 17, 42, 9, 77, 30, 5, 61]])
TINY = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny(model_type="mistral", layers=6, **settings):
    """A random float32 model in which the order of layers matters."""
    torch.manual_seed(0)
    sizes = {**TINY, "num_hidden_layers": layers, "initializer_range": 0.3, **settings}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    return AutoModelForCausalLM.from_config(config).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def count_runs(model, layers):
    ran = []
    for layer in layers:
        layer.register_forward_hook(lambda *_: ran.append(1))
    logits(model)
    return len(ran)


# ---------------------------------------------------------------- what is known to hurt


@pytest.mark.parametrize(
    ("layers", "init", "words"),
    [
        (["0:6", "2:8"], "copy", "which needs further training: perplexity rose by a factor of 1.41"),
        (["0:7", "1:8"], "copy", "severe damage: perplexity rose by a factor of 4.3"),
        (["0:6", "2:8"], "split", "splits a repeated window, layers 2 to 5"),
        (["::-1"], "copy", "reverses 8 layers"),
    ],
)
def test_upscaling_in_memory_warns_as_the_plan_does(tmp_path, layers, init, words):
    model = tiny(layers=8)
    model.save_pretrained(tmp_path)
    with pytest.warns(su.UpscaleWarning) as caught:
        upscale_model(model, layers, init=init)
    said = tuple(str(warning.message) for warning in caught)
    assert any(words in text for text in said)
    assert said == su.plan_checkpoint(tmp_path, layers, init=init).warnings
    assert {warning.filename for warning in caught} == {__file__}


def test_harmless_upscaling_in_memory_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upscale_model(tiny(layers=8), ["0:6", "2:8"], init="scale=1,0.25")


# ---------------------------------------------------------------- what was done, and doing it twice


def test_report_says_what_is_new_and_the_config_does_not_have_it():
    model = tiny(layers=8)
    with pytest.raises(UnsupportedError, match="was not upscaled in this process"):
        su.upscale_report(model)
    before = set(model.config.to_dict())
    upscale_model(model, ["0:6", "2:8"], init="scale=1,0.25")
    report = su.upscale_report(model)
    assert report.new_layers == (6, 7, 8, 9)
    assert repr(report) == "<UpscaledModel model.layers: 8 -> 12 layers, 4 new layers, init scale=1,0.25>"
    assert set(model.config.to_dict()) == before
    assert not [name for name in model.state_dict() if "solar" in name]


def test_same_cell_run_twice_is_refused_and_named():
    model = upscale_model(tiny(layers=8), ["0:6", "2:8"], init="identity")
    for again in (model, copy.deepcopy(model)):
        with pytest.raises(UnsupportedError, match=r"was upscaled already, from 8 to 12 layers; .*again=True"):
            upscale_model(again, ["0:6", "2:8"], init="identity")
    assert len(model.model.layers) == 12
    upscale_model(model, ["0:12", "11"], init="identity", again=True)
    assert len(model.model.layers) == 13


def test_refused_upscaling_is_not_recorded():
    model = tiny(layers=8)
    with pytest.raises(PatternError):
        upscale_model(model, ["0:9"])
    upscale_model(model, ["0:8", "7"])


def test_trainable_parameters_are_shown_by_number():
    model = upscale_model(tiny(layers=8), ["0:6", "2:8"], init="identity")
    trained = su.freeze_originals(model, su.upscale_report(model).new_layers)
    assert len(repr(trained)) < 100
    assert repr(trained).startswith(f"<TrainableParameters: {len(trained)} tensors, ")
    torch.optim.SGD(trained, lr=0.1)


# ---------------------------------------------------------------- FusionBench's documented examples


def test_basic_example_of_fusionbench():
    model = nn.ModuleList([nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 50), nn.Linear(50, 10)])
    algorithm = DepthUpscalingAlgorithm(layer_indices=[0, 1, 2, 1, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upscaled_model = algorithm.run(model)
    assert len(model) == 4
    assert [type(layer) for layer in upscaled_model] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(upscaled_model[4].weight, model[3].weight)


def solar_example(**changed):
    """FusionBench's Mistral example with a small width; the depth and the calls are its own."""
    model_config = MistralConfig(
        **{
            "architectures": ["MistralForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 16,
            "initializer_range": 0.3,
            "intermediate_size": 24,
            "max_position_embeddings": 128,
            "model_type": "mistral",
            "num_attention_heads": 4,
            "num_hidden_layers": 32,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "use_cache": True,
            "vocab_size": 96,
            **changed,
        }
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(model_config).eval()


def test_solar_example_of_fusionbench_gives_48_layers_and_names_what_is_missing():
    model = solar_example()
    originals = list(model.model.layers)
    algorithm = DepthUpscalingAlgorithm(layer_indices=SOLAR)
    with pytest.warns(UserWarning, match="upscale_model"):
        upscaled_model = algorithm.run(model.model.layers)
    model.model.layers = upscaled_model
    assert type(upscaled_model) is nn.ModuleList
    assert len(model.model.layers) == 48
    for place, source in enumerate([*range(24), *range(8, 32)]):
        assert torch.equal(upscaled_model[place].mlp.down_proj.weight, originals[source].mlp.down_proj.weight)
        assert upscaled_model[place].self_attn.layer_idx == place
    assert count_runs(model, upscaled_model) == 32, "transformers goes by the config, which the warning is about"


def test_solar_example_through_upscale_model_executes_and_keeps_48_layers(tmp_path):
    model = upscale_model(solar_example(), SOLAR)
    before = logits(model)
    assert count_runs(model, model.model.layers) == 48
    model.save_pretrained(tmp_path)
    again = MistralForCausalLM.from_pretrained(tmp_path).eval()
    assert len(again.model.layers) == count_runs(again, again.model.layers) == 48
    assert torch.equal(logits(again), before)


def test_algorithm_takes_a_whole_model():
    model = solar_example(num_hidden_layers=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", su.UpscaleWarning)
        assert DepthUpscalingAlgorithm(layer_indices=["range(0,6)", "range(2,8)"]).run(model) is model
    assert count_runs(model, model.model.layers) == model.config.num_hidden_layers == 12


def test_yaml_of_fusionbench_through_omegaconf():
    omegaconf = pytest.importorskip("omegaconf")
    text = '_target_: DepthUpscalingAlgorithm\nlayer_indices: [0, 2, "range(4,6)"]\n'
    config = omegaconf.OmegaConf.create(text)
    assert isinstance(config, omegaconf.DictConfig)
    assert isinstance(config.layer_indices, omegaconf.ListConfig)
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(6))
    upscaled = DepthUpscalingAlgorithm(config.layer_indices).run(layers)
    assert [next(i for i in range(6) if torch.equal(each.weight, layers[i].weight)) for each in upscaled] == [
        0,
        2,
        4,
        5,
    ]
    model = tiny()
    upscale_model(model, config.layer_indices)
    assert model.config.num_hidden_layers == 4


# ---------------------------------------------------------------- lists of layers


@pytest.mark.parametrize("kind", [nn.ModuleList, list, tuple, lambda layers: nn.Sequential(*layers)])
def test_container_keeps_its_type_and_the_source_is_unchanged(kind):
    layers = kind([nn.Linear(3, 3) for _ in range(4)])
    weights = [layer.weight.clone() for layer in layers]
    upscaled = upscale_layers(layers, ["0:3", "1:4"])
    assert type(upscaled) is type(layers)
    assert [torch.equal(each.weight, weights[i]) for each, i in zip(upscaled, [0, 1, 2, 1, 2, 3], strict=True)] == [
        True
    ] * 6
    with torch.no_grad():
        for each in upscaled:
            each.weight.zero_()
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, weights, strict=True))


def test_copies_are_independent_of_each_other():
    upscaled = upscale_layers([nn.Linear(3, 3) for _ in range(2)], [0, 0, 1])
    before = upscaled[1].weight.clone()
    with torch.no_grad():
        upscaled[0].weight.zero_()
    assert torch.equal(upscaled[1].weight, before)
    assert len({id(parameter) for each in upscaled for parameter in each.parameters()}) == 6


def test_layers_without_any_torch_are_deep_copied():
    blocks = [{"name": name, "part": [name]} for name in "abc"]
    upscaled = upscale_layers(blocks, ["2", "0:2", "2"])
    assert [each["name"] for each in upscaled] == ["c", "a", "b", "c"]
    upscaled[0]["part"].append("changed")
    assert blocks[2]["part"] == upscaled[3]["part"] == ["c"]


def test_what_the_blocks_share_stays_shared_and_the_config_is_not_copied():
    model = tiny()
    upscaled = upscale_layers(model.model.layers, ["0:6", "2:4"])
    configs = {id(part.config) for block in upscaled for part in block.modules() if hasattr(part, "config")}
    assert configs == {id(model.config)}
    shared = nn.Linear(2, 2)
    blocks = [nn.Sequential(nn.Linear(2, 2), shared) for _ in range(3)]
    made = upscale_layers(blocks, [0, 0, 2])
    assert {id(block[1]) for block in made} == {id(shared)}
    assert len({id(block[0]) for block in made}) == 3


def test_offset_between_a_blocks_layer_idx_and_its_position_is_kept():
    class Block(nn.Module):
        def __init__(self, number):
            super().__init__()
            self.layer_number = number + 1  # as Megatron counts
            self.inner = nn.Linear(1, 1)
            self.inner.layer_idx = number

    blocks = nn.ModuleList(Block(number) for number in range(4))
    with pytest.warns(UserWarning, match="num_hidden_layers"):
        made = DepthUpscalingAlgorithm(["2:4", "0:4"]).run(blocks)
    assert [block.layer_number for block in made] == [1, 2, 3, 4, 5, 6]
    assert [block.inner.layer_idx for block in made] == [0, 1, 2, 3, 4, 5]
    assert [block.layer_number for block in blocks] == [1, 2, 3, 4]


def test_bad_pattern_names_what_is_wrong():
    with pytest.raises(PatternError, match="source layers 4 and 5 do not exist"):
        upscale_layers([nn.Linear(1, 1)] * 4, ["range(0,6)"])
    with pytest.raises(PatternError, match="6 layers"):
        upscale_model(tiny(), ["range(4,9)"])


# ---------------------------------------------------------------- whole models


def test_change_is_in_place_and_first_uses_are_the_same_objects():
    model = tiny()
    blocks, container = list(model.model.layers), model.model.layers
    assert upscale_model(model, ["0:5", "2:6"]) is model
    assert model.model.layers is container
    assert [layer is blocks[source] for layer, source in zip(container, [0, 1, 2, 3, 4, 2, 3, 4, 5], strict=True)] == [
        *[True] * 5, *[False] * 3, True,
    ]  # fmt: skip
    assert len({id(parameter) for layer in container for parameter in layer.parameters()}) == 9 * 9
    assert [layer.self_attn.layer_idx for layer in container] == list(range(9))
    assert all(layer.self_attn.config is model.config for layer in container)


def test_layers_keep_their_kind_and_the_config_says_so():
    kinds = ["sliding_attention", "full_attention"] * 3
    model = tiny("gemma2", head_dim=8, sliding_window=4, layer_types=kinds)
    sources = [0, 1, 2, 3, 2, 5]
    windows = [layer.self_attn.sliding_window for layer in model.model.layers]
    upscale_model(model, sources)
    assert [layer.self_attn.sliding_window for layer in model.model.layers] == [windows[source] for source in sources]
    assert model.config.layer_types == [kinds[source] for source in sources]


def test_attributes_only_remote_code_knows_are_corrected():
    model = tiny("gpt_neo", layers=4, hidden_size=16, num_heads=2, attention_types=[[["global", "local"], 2]])
    upscale_model(model, ["0:4", "2:4"])
    assert model.transformer.h[5].attn.attention_layers == ["global", "local"] * 3
    assert count_runs(model, model.transformer.h) == 6


def test_block_that_computes_indices_of_its_submodules_keeps_doing_so():
    class Doubled(MistralForCausalLM):
        """Like LongCat-Flash: two caches per layer."""

        def __init__(self, config):
            super().__init__(config)
            for place, layer in enumerate(self.model.layers):
                layer.self_attn.cache_places = [2 * place, 2 * place + 1]
                layer.mlp.layer_idx = 2 * place

    model = upscale_model(Doubled(MistralConfig(**TINY, num_hidden_layers=6)), ["0:5", "2:6"])
    assert [layer.mlp.layer_idx for layer in model.model.layers] == list(range(0, 18, 2))
    assert model.model.layers[8].self_attn.cache_places == [16, 17]


def test_class_with_a_custom_constructor_gets_the_right_layer_indices():
    class Own(MistralForCausalLM):
        def __init__(self, config, more):
            super().__init__(config)

    model = upscale_model(Own(MistralConfig(**TINY, num_hidden_layers=6), more=1), ["0:5", "2:6"])
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == list(range(9))
    assert count_runs(model, model.model.layers) == 9


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_each_stack_of_an_encoder_decoder_model(stack, tmp_path):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 96, "init_std": 0.3}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32}
    config = transformers.MarianConfig(
        encoder_layers=3, decoder_layers=4, pad_token_id=0, decoder_start_token_id=0, **sizes, **heads
    )
    model = transformers.MarianMTModel(config).eval()
    upscale_model(model, ["0:3", "1:3"], stack=stack)
    assert (model.config.encoder_layers, model.config.decoder_layers) == ((5, 4) if stack == "encoder" else (3, 5))
    model.save_pretrained(tmp_path)
    again = transformers.MarianMTModel.from_pretrained(tmp_path).eval()
    tokens = {"input_ids": IDS, "decoder_input_ids": IDS.flip(1)}
    with torch.no_grad():
        assert torch.equal(model(**tokens).logits, again(**tokens).logits)
        cached = model.generate(IDS, max_new_tokens=6, min_new_tokens=6, num_beams=1)
        assert torch.equal(
            cached, model.generate(IDS, max_new_tokens=6, min_new_tokens=6, num_beams=1, use_cache=False)
        )


def test_configs_held_by_submodules_are_updated():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "vocab_size": 96}
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(num_layers=3, num_decoder_layers=4, decoder_start_token_id=0, **sizes)
    ).eval()
    assert model.decoder.config is not model.config
    upscale_model(model, ["0:4", "2:4"], stack="decoder")
    assert (model.config.num_layers, model.config.num_decoder_layers) == (3, 6)
    assert model.decoder.config.num_layers == 6
    assert model.encoder.config.num_layers == 3
    # transformers 5.23 cannot cache a T5 whose two depths differ, upscaled or built so; without a cache it runs.
    with torch.no_grad():
        assert model.generate(IDS, max_new_tokens=6, min_new_tokens=6, use_cache=False).shape[1] == 7


def test_tied_embeddings_stay_tied():
    model = upscale_model(tiny("llama", tie_word_embeddings=True), ["0:5", "2:6"])
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_cache_has_the_new_depth_of_the_decoder():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "vocab_size": 96}
    config = transformers.T5Config(num_layers=6, num_decoder_layers=4, decoder_start_token_id=0, **sizes)
    model = upscale_model(transformers.T5ForConditionalGeneration(config).eval(), ["0:4", "2:4"], stack="decoder")
    cached = model.generate(IDS, max_new_tokens=6, min_new_tokens=6)
    assert torch.equal(cached, model.generate(IDS, max_new_tokens=6, min_new_tokens=6, use_cache=False))


def test_training_with_gradient_checkpointing_reaches_every_layer():
    model = tiny()
    model.activation_checkpointing_enable()
    upscale_model(model, ["0:5", "2:6"])
    model.train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for layer in model.model.layers for parameter in layer.parameters())


def test_hooks_and_frozen_parameters_are_copied():
    model = tiny()
    seen = []
    model.model.layers[3].register_forward_hook(lambda *_: seen.append(1))
    model.model.layers[3].requires_grad_(False)
    upscale_model(model, ["0:5", "2:6"])
    logits(model)
    assert len(seen) == 2
    frozen = [not next(layer.parameters()).requires_grad for layer in model.model.layers]
    assert frozen == [place in (3, 6) for place in range(9)]


def test_manually_set_attributes_are_kept():
    model = tiny()
    model.train()
    model.model.layers[2].self_attn.attention_dropout = 0.25
    upscale_model(model, ["0:5", "2:6"])
    assert [layer.self_attn.attention_dropout for layer in model.model.layers] == [0, 0, 0.25, 0, 0, 0.25, 0, 0, 0]
    assert all(layer.training for layer in model.model.layers)


def test_device_map_is_updated():
    model = tiny()
    outside = {"model.embed_tokens": 0, "lm_head": 1}
    model.hf_device_map = outside | {f"model.layers.{i}": i // 3 for i in range(6)}
    upscale_model(model, ["0:5", "4:6"])
    assert model.hf_device_map == outside | {
        f"model.layers.{i}": device for i, device in enumerate([0, 0, 0, 1, 1, 1, 1])
    }


def test_model_on_the_meta_device_takes_a_pattern_and_no_factor():
    with torch.device("meta"):
        model = MistralForCausalLM(MistralConfig(**TINY, num_hidden_layers=6))
    with pytest.raises(UnsupportedError, match="not in memory"):
        upscale_model(model, ["0:5", "2:6"], init="split")
    upscale_model(model, ["0:5", "2:6"])
    assert len(model.model.layers) == model.config.num_hidden_layers == 9


def test_offloaded_layers_are_refused_and_the_model_is_unchanged():
    model = tiny()
    model.model.layers[4].to("meta")
    with pytest.raises(UnsupportedError, match=r"model\.layers\.4\..* not in memory"):
        upscale_model(model, ["0:5", "2:6"])
    assert len(model.model.layers) == model.config.num_hidden_layers == 6


def test_factor_on_a_parameter_of_two_layers_is_refused():
    model = tiny()
    model.model.layers[3].mlp.down_proj.weight = model.model.layers[2].mlp.down_proj.weight
    with pytest.raises(
        UnsupportedError, match=r"2\.mlp\.down_proj.*, since it is the same parameter as model\.layers\.3\.mlp"
    ):
        upscale_model(model, ["0:3", "2:6"], init="split")
    model = tiny()
    model.model.layers[2].self_attn.o_proj.weight = model.model.layers[2].self_attn.q_proj.weight
    with pytest.raises(UnsupportedError, match=r"2\.self_attn\.o_proj.*, since it is the same parameter as .*q_proj"):
        upscale_model(model, ["0:3", "2:6"], init="split")


def test_block_used_twice_is_refused_and_the_model_is_unchanged():
    model = tiny()
    model.model.layers[3] = model.model.layers[2]
    with pytest.raises(UnsupportedError, match=r"model\.layers: layers 2 and 3 are the same module"):
        upscale_model(model, ["0:5", "2:6"])
    assert len(model.model.layers) == model.config.num_hidden_layers == 6


def test_factor_that_overflows_is_refused_and_the_model_is_unchanged():
    model = tiny().half()
    with pytest.raises(UnsupportedError, match=r"layers\.3\.\S+: factor 3e\+07 makes a number overflow F16"):
        upscale_model(model, ["0:4", "3:6"], init="scale=1,3e7")
    assert len(model.model.layers) == model.config.num_hidden_layers == 6
    assert all(each.isfinite().all() for each in model.parameters())


def test_refusal_leaves_the_model_as_it_was():
    model = tiny("gpt2", n_embd=16, n_head=2, n_layer=4, scale_attn_by_inverse_layer_idx=True)
    before = copy.deepcopy(model.config.to_dict())
    blocks = list(model.transformer.h)
    with pytest.raises(UnsupportedError, match="every layer must keep its index"):
        upscale_model(model, ["0:3", "1:4"])
    assert model.config.to_dict() == before
    assert list(model.transformer.h) == blocks


def test_class_that_builds_something_else_for_the_new_depth_is_refused():
    class Growing(MistralForCausalLM):
        def __init__(self, config):
            super().__init__(config)
            self.extra = nn.Linear(config.num_hidden_layers, 1)

    model = Growing(MistralConfig(**TINY, num_hidden_layers=6))
    with pytest.raises(UnsupportedError, match=r"extra\.weight: expected \[1, 6\], got \[1, 9\]"):
        upscale_model(model, ["0:5", "2:6"])
    assert len(model.model.layers) == model.config.num_hidden_layers == 6


def test_rwkv_rescaled_by_a_forward_pass_is_refused():
    model = transformers.RwkvForCausalLM(
        transformers.RwkvConfig(vocab_size=96, hidden_size=16, num_hidden_layers=6, rescale_every=2)
    ).eval()
    assert len(upscale_model(copy.deepcopy(model), ["0:5", "2:6"]).rwkv.blocks) == 9
    logits(model)
    with pytest.raises(UnsupportedError, match="before its first run"):
        upscale_model(model, ["0:5", "2:6"])


def test_dropped_layer_kind_leaves_nothing_in_the_saved_file(tmp_path):
    model = tiny("gemma3_text", head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"] * 3)
    names = set(model.state_dict())
    upscale_model(model, [1, 3, 5])
    assert set(model.state_dict()) <= names
    model.save_pretrained(tmp_path)
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_objects_that_are_not_transformers_models_are_refused():
    with pytest.raises(UnsupportedError, match=r"Linear: has no config; .*upscale_layers"):
        upscale_model(nn.Linear(2, 2), [0])
    model = tiny()
    model._hf_peft_config_loaded = True
    with pytest.raises(UnsupportedError, match="adapters"):
        upscale_model(model, ["0:5", "2:6"])


def test_static_cache_of_the_old_depth_is_discarded():
    model = tiny()
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    model.generate(IDS, cache_implementation="static", disable_compile=True, **options)
    upscale_model(model, ["0:5", "2:6"])
    static = model.generate(IDS, cache_implementation="static", disable_compile=True, **options)
    assert torch.equal(static, model.generate(IDS, use_cache=False, **options))


def test_upscaling_twice_is_upscaling_by_the_composition():
    once = upscale_model(upscale_model(tiny(), ["0:5", "2:6"]), ["0:7", "4:9"], again=True)
    nine = [0, 1, 2, 3, 4, 2, 3, 4, 5]
    together = upscale_model(tiny(), [nine[i] for i in [*range(7), *range(4, 9)]])
    assert torch.equal(logits(once), logits(together))
    assert once.config.to_dict() == together.config.to_dict()


def test_random_state_of_the_user_is_untouched():
    model = tiny()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    upscale_model(model, ["0:5", "2:6"])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("init", ["identity", "split", "scale=1,0.25"])
def test_factors_scale_what_the_block_adds(init):
    model = upscale_model(tiny(), ["0:4", "2:6"], init=init)
    plain = upscale_model(tiny(), ["0:4", "2:6"])
    factors = {"identity": (1, 0), "split": (0.5, 0.5), "scale=1,0.25": (1, 0.25)}[init]
    for name, parameter in model.named_parameters():
        expected = plain.get_parameter(name)
        for places, factor in zip(((2, 3), (4, 5)), factors, strict=True):
            if name.startswith(tuple(f"model.layers.{place}." for place in places)) and "o_proj" in name:
                assert torch.equal(parameter, expected * factor), name
        if "o_proj" not in name and "down_proj" not in name:
            assert torch.equal(parameter, expected), name


def test_exports_are_the_same_objects():
    assert su.upscale_model is upscale_model
    assert su.memory.__all__ == ["DepthUpscalingAlgorithm", "upscale_layers", "upscale_model"]
