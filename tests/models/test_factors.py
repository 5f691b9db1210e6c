"""``split`` and ``scale`` through the program, compared with a reference that does not modify tensors.

The reference is the source model with its blocks repeated by hand, in which forward hooks multiply what each part of a
block hands to the residual stream: whole outputs of attention, mixer, feed-forward or of the norm after them.
"""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import solar_upscale as su  # noqa: E402 - after the skips
from solar_upscale.cli import main  # noqa: E402 - after the skips

LAYERS = 4
WORDS, SOURCES = ["0:3", "1:4", "2"], [0, 1, 2, 1, 2, 3, 2]  # layer 1 twice, layer 2 three times
IDS = torch.tensor([[1, 17, 42, 9, 77, 30, 5, 61, 23, 88]])

_COMMON: dict[str, Any] = {
    "vocab_size": 96, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
}  # fmt: skip
_LLAMA = {**_COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
_MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16,
          "mamba_chunk_size": 8}  # fmt: skip
_KINDS = ["sliding_attention", "full_attention"] * 2

# For each family, its config and the submodules of a block whose outputs are added to the stream.
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "mistral": ({**_LLAMA, "sliding_window": 4}, ("self_attn", "mlp")),
    "gemma2": (
        {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4, "layer_types": _KINDS},
        ("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "olmo2": (_LLAMA, ("post_attention_layernorm", "post_feedforward_layernorm")),
    "gpt2": (
        {"vocab_size": 96, "n_positions": 64, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "bos_token_id": 1,
         "eos_token_id": 2, "pad_token_id": 0},
        ("attn", "mlp"),
    ),
    "mixtral": ({**_LLAMA, "num_local_experts": 4, "sliding_window": None}, ("self_attn", "mlp")),
    "falcon": ({**_COMMON, "alibi": False, "bias": True, "parallel_attn": True}, ("self_attention", "mlp")),
    "falcon_h1": ({**_LLAMA, "head_dim": 8, **_MAMBA}, ("mamba", "self_attn", "feed_forward")),
    # A hybrid whose blocks differ along the stack, and a multiplier on what is added.
    "bamba": (
        {**_LLAMA, "attn_layer_indices": [1, 3], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1,
         "mamba_d_state": 16, "mamba_chunk_size": 8},
        ("mamba|self_attn", "feed_forward"),
    ),
    "granite": ({**_LLAMA, "residual_multiplier": 0.25}, ("self_attn", "mlp")),
}  # fmt: skip

STARTS: dict[str, list[float]] = {
    "scale=1,0.25": [1, 1, 1, 0.25, 0.25, 1, 0.25],
    "scale=0.5,0.25,2": [0.5, 0.5, 0.5, 0.25, 0.25, 0.5, 2],
    "split": [1, 1 / 2, 1 / 3, 1 / 2, 1 / 3, 1, 1 / 3],
    "scale=1,-0.7": [1, 1, 1, -0.7, -0.7, 1, -0.7],
}
# A gain stored as w in (1 + w) is rounded where it is stored, whatever the factor.
_ROUNDED = {"gemma2"}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Any]:
    """A family's name, a tiny model of it with strong random weights, and its checkpoint."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(request.param, **FAMILIES[request.param][0])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("A_log", "dt_bias", ".D")):
                continue  # their range is narrow
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(noise if parameter.ndim > 1 else parameter + noise)
    folder = tmp_path_factory.mktemp(request.param) / "source"
    model.save_pretrained(folder)
    return request.param, model, folder


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits


def reference(name: str, model: Any, factors: list[float]) -> Any:
    """The model with its blocks repeated, and hooks on what each of their parts adds."""
    model = copy.deepcopy(model)
    path, blocks = next(
        (path, part)
        for path, part in model.named_modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == LAYERS
    )
    repeated = torch.nn.ModuleList([copy.deepcopy(blocks[source]) for source in SOURCES])
    owner, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(owner), attribute, repeated)
    for field in ("layer_types", "layers_block_type"):
        if isinstance(kinds := vars(model.config).get(field), list):
            setattr(model.config, field, [kinds[source] for source in SOURCES])
    model.config.num_hidden_layers = len(SOURCES)
    for block, factor in zip(repeated, factors, strict=True):
        for part in FAMILIES[name][1]:
            (found,) = [getattr(block, each) for each in part.split("|") if getattr(block, each, None) is not None]
            found.register_forward_hook(times(factor))
    return logits(model)


def times(factor: float) -> Any:
    def hook(module: Any, args: Any, output: Any) -> Any:
        return (output[0] * factor, *output[1:]) if isinstance(output, tuple) else output * factor

    return hook


@pytest.mark.parametrize("init", list(STARTS))
def test_factor_scales_everything_a_block_adds(family: tuple[str, Any, Any], tmp_path: Any, init: str) -> None:
    name, model, source = family
    assert main([str(source), str(tmp_path / "out"), "--layers", *WORDS, "--init", init, "-q"]) == 0
    got = logits(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    expected = reference(name, model, STARTS[init])
    powers_of_two = all(abs(factor) in (0.25, 0.5, 1, 2) for factor in STARTS[init])
    if powers_of_two and name not in _ROUNDED:
        assert torch.equal(got, expected)
    else:
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    # Without the factors, and with them on another layer, the logits are others: the comparison can fail.
    for others in ([1.0] * len(SOURCES), STARTS[init][1:] + STARTS[init][:1]):
        assert (reference(name, model, others) - expected).abs().max() > 1e-3 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=["fp16", "bf16", "fp32"])
def test_model_in_memory_has_the_bits_of_the_checkpoint(
    family: tuple[str, Any, Any], tmp_path: Any, dtype: Any
) -> None:
    copy.deepcopy(family[1]).to(dtype).save_pretrained(tmp_path / "source")
    assert main([str(tmp_path / "source"), str(tmp_path / "out"), "--layers", *WORDS, "--init", "scale=0.3", "-q"]) == 0
    written = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    stored = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "source")
    in_memory = su.upscale_model(stored, WORDS, init="scale=0.3").state_dict()
    assert written.keys() == in_memory.keys()
    for name, tensor in in_memory.items():
        assert tensor.dtype == written[name].dtype
        assert torch.equal(tensor, written[name]), name
    assert dtype in {tensor.dtype for tensor in in_memory.values()}
