"""The oracle for a model is its logits: the checkpoint that the program writes, the same surgery in memory, the source.

Every model is tiny and random, with weights strong enough that the order of layers shows.
"""

import copy
from functools import lru_cache

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import solar_upscale as su  # noqa: E402 - after the skips
from solar_upscale.cli import main  # noqa: E402

LAYERS = 6
_COMMON = {"vocab_size": 96, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_LLAMA = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_KINDS = ["sliding_attention", "full_attention", "sliding_attention"] * 2  # no period of the model's own
_SLIDING = {"sliding_window": 4, "layer_types": _KINDS}

FAMILIES = {
    "mistral": {**_LLAMA, "sliding_window": 4},
    "llama": {**_LLAMA, "tie_word_embeddings": True},
    "qwen2": {**_LLAMA, "use_sliding_window": True, "max_window_layers": 3, **_SLIDING},
    "qwen3": {**_LLAMA, "head_dim": 8, "use_sliding_window": True, "max_window_layers": 3, **_SLIDING},
    "gemma2": {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, **_SLIDING},
    "gemma3_text": {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, **_SLIDING},
    "gpt2": {"vocab_size": 96, "n_positions": 64, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "bos_token_id": 1,
             "eos_token_id": 2, "pad_token_id": 0},
    "mixtral": {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "phi3": {**_LLAMA, "sliding_window": None},
    "gpt_neox": {**_COMMON, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS,
                 "num_attention_heads": 4},
    "opt": {**_COMMON, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": LAYERS,
            "num_attention_heads": 4},
    "falcon": {**_COMMON, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "alibi": False,
               "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
}  # fmt: skip

# Entries as users write them, and the source layers they give: three repeats, a new order, and no middle layers.
PATTERNS = {
    "solar": (["0:5", "2:6"], [0, 1, 2, 3, 4, 2, 3, 4, 5]),
    "reordered": (["5", "3", "4", "[0,0]", "1"], [5, 3, 4, 0, 0, 1]),
    "dropped": (["0:2", "4:6"], [0, 1, 4, 5]),
}
IDS = torch.tensor([[1, 17, 42, 9, 77, 30, 5, 61, 23, 88, 12, 50]])


@pytest.fixture(scope="module", params=list(FAMILIES))
def source(request, tmp_path_factory):
    """The folder of a tiny checkpoint of one family."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(request.param, **FAMILIES[request.param])
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            strength = 0.3 if parameter.ndim > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator) * strength
            parameter.copy_(parameter + noise if name.endswith("weight") and parameter.ndim == 1 else noise)
    folder = tmp_path_factory.mktemp(request.param) / "source"
    model.save_pretrained(folder, max_shard_size="60KB")
    return folder


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def stored(source, request, tmp_path_factory):
    """The same checkpoint stored in one dtype, and that dtype."""
    folder = tmp_path_factory.mktemp("stored") / "stored"
    source_model(source, request.param).save_pretrained(folder)
    return folder, request.param


def load(folder, dtype=torch.float32):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=dtype)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


@lru_cache(maxsize=4)
def _loaded_once(folder, dtype):
    return load(folder, dtype)


def source_model(folder, dtype=torch.float32):
    """A copy of the source model, loaded once, that a test may modify."""
    return copy.deepcopy(_loaded_once(folder, dtype))


def logits(model, ids=IDS):
    with torch.inference_mode():
        return model(ids, use_cache=False).logits


def layers_run(model):
    """The number of blocks that one forward pass runs."""
    blocks = next(
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers
    )
    entered = []
    hooks = [block.register_forward_hook(lambda *_: entered.append(1)) for block in blocks]
    logits(model)
    for hook in hooks:
        hook.remove()
    return len(entered)


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_checkpoint_and_memory_give_the_same_logits(source, tmp_path, pattern):
    words, sources = PATTERNS[pattern]
    assert main([str(source), str(tmp_path / "out"), "--layers", *words, "-q"]) == 0
    written = load(tmp_path / "out")
    in_memory = su.upscale_model(source_model(source), words)
    assert torch.equal(logits(written), logits(in_memory))
    assert written.config.num_hidden_layers == in_memory.config.num_hidden_layers == len(sources)
    assert layers_run(written) == layers_run(in_memory) == len(sources)
    assert written.config.to_diff_dict().get("layer_types") == in_memory.config.to_diff_dict().get("layer_types")


def test_layer_order_changes_the_logits(source):
    """Without this the comparisons above would prove nothing."""
    straight = logits(source_model(source))
    for sources in ([0, 1, 3, 2, 4, 5], [0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 5]):
        changed = logits(su.upscale_model(source_model(source), sources))
        assert (changed - straight).abs().max() > 0.05


@pytest.mark.parametrize("pattern", ["solar", "reordered"])
def test_cached_decoding_agrees_with_uncached(source, pattern):
    words, _ = PATTERNS[pattern]
    model = su.upscale_model(source_model(source), words)
    whole = logits(model)
    cache, steps = None, []
    with torch.inference_mode():
        for token in IDS[0]:
            step = model(token.reshape(1, 1), past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            steps.append(step.logits[:, -1])
    assert len({id(layer) for layer in cache.layers}) == model.config.num_hidden_layers
    torch.testing.assert_close(torch.stack(steps, 1), whole, atol=2e-4, rtol=2e-4)
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cached = model.generate(IDS, use_cache=True, **options)
    assert torch.equal(cached, model.generate(IDS, use_cache=False, **options))


def test_identity_gives_the_logits_of_the_source(stored, tmp_path):
    folder, dtype = stored
    before = logits(source_model(folder, dtype))
    for number, words in enumerate((["0:5", "2:6"], ["[i for i in range(6) for _ in range(2)]"])):
        output = tmp_path / f"out{number}"
        assert main([str(folder), str(output), "--layers", *words, "--init", "identity", "-q"]) == 0
        written = load(output, dtype)
        assert torch.equal(logits(written), before)
        assert layers_run(written) == written.config.num_hidden_layers > LAYERS
        assert torch.equal(logits(su.upscale_model(source_model(folder, dtype), words, init="identity")), before)


def test_identity_is_not_claimed_for_another_order(source, tmp_path, capsys):
    before = logits(source_model(source))
    words = ["1", "0", "2:6", "2"]
    assert main(["plan", str(source), "--layers", *words, "--init", "identity"]) == 0
    assert "not an identity" in capsys.readouterr().out
    assert not torch.equal(logits(su.upscale_model(source_model(source), words, init="identity")), before)


@pytest.mark.parametrize("init", ["split", "scale=1,0.3", "scale=0.7"])
def test_factors_give_the_same_bits_in_file_and_memory(stored, tmp_path, init):
    folder, dtype = stored
    words = ["0:4", "2:5", "3", "5"]  # layer 3 three times: a third is no power of two
    assert main([str(folder), str(tmp_path / "out"), "--layers", *words, "--init", init, "-q"]) == 0
    written = load(tmp_path / "out", dtype)
    in_memory = su.upscale_model(source_model(folder, dtype), words, init=init)
    theirs = in_memory.state_dict()
    assert written.state_dict().keys() == theirs.keys()
    for name, tensor in written.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(logits(written), logits(in_memory))
    assert not torch.equal(logits(written), logits(su.upscale_model(source_model(folder, dtype), words)))


def test_entry_of_a_recipe_has_its_own_factor_in_file_and_memory(source, tmp_path):
    scales = [None, 0.25, None]
    words = ["0:4", "2:5", "5"]
    plan = su.upscale_checkpoint(source, tmp_path / "out", words, entry_scales=scales)
    assert plan.factors == (1, 1, 1, 1, 0.25, 0.25, 0.25, 1)
    in_memory = su.upscale_model(source_model(source), words, entry_scales=scales)
    assert torch.equal(logits(load(tmp_path / "out")), logits(in_memory))


def test_saving_and_loading_the_model_in_memory_keeps_everything(source, tmp_path):
    model = su.upscale_model(source_model(source), ["0:5", "2:6"], init="split")
    before = logits(copy.deepcopy(model))
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(load(tmp_path / "again")), before)
