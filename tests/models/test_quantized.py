"""Quantised sources that load on a CPU: the model that transformers loads from the output answers as the loaded source
does after surgery in memory.
"""

import json

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import solar_upscale as su  # noqa: E402
from solar_upscale.cli import main  # noqa: E402
from solar_upscale.errors import UnsupportedError  # noqa: E402
from tests.support import quantized_models as tiny  # noqa: E402 - after the skips
from tests.support.quantized_models import ENTRIES, SOURCES  # noqa: E402

transformers.logging.set_verbosity_error()
LLAMA = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


def check_surgery(source, output, **settings):
    """Run the job, load both, and hold the output against the source's own loaded blocks in the new order."""
    su.upscale_checkpoint(source, output, ENTRIES)
    before, unexpected = tiny.load(source, **settings)
    after, still_unexpected = tiny.load(output, **settings)
    assert len(still_unexpected) == len(unexpected)
    oracle = tiny.operate(before, SOURCES)
    wanted = tiny.logits(oracle)
    assert torch.equal(tiny.logits(after), wanted)
    assert tiny.generated(after) == tiny.generated(oracle)
    assert not torch.allclose(tiny.logits(before), wanted, atol=0.05), "the order of layers does not show"
    return before, after


# --- FP8 with a scale for each block -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    """DeepSeek-V3's shape: FP8 in blocks of 128, routers and norms in BF16, a next-token layer after the last."""
    pytest.importorskip("accelerate", reason="transformers loads FP8 with accelerate alone")
    folder = tmp_path_factory.mktemp("deepseek") / "source"
    model = tiny.random_model(
        "deepseek_v3", hidden_size=256, intermediate_size=256, moe_intermediate_size=128, num_attention_heads=2,
        num_key_value_heads=2, q_lora_rank=128, kv_lora_rank=96, qk_rope_head_dim=32, qk_nope_head_dim=32,
        v_head_dim=32,
        n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1, n_shared_experts=1, first_k_dense_replace=1,
    )  # fmt: skip
    model.save_pretrained(folder)
    tensors = tiny.read(folder)
    last = {name: tensor for name, tensor in tensors.items() if name.startswith("model.layers.5.")}
    tensors |= {name.replace(".5.", ".6.", 1): tensor.clone() for name, tensor in last.items()}
    tensors |= {f"model.layers.6.{name}.weight": torch.ones(256) for name in ("enorm", "hnorm", "shared_head.norm")}
    tensors |= {"model.layers.6.eh_proj.weight": torch.ones(256, 512)}
    for name, tensor in list(tensors.items()):
        if (
            name.startswith("model.layers.")
            and tensor.ndim == 2
            and not name.endswith(("mlp.gate.weight", "eh_proj.weight"))
        ):
            tensors[name], tensors[f"{name}_scale_inv"] = tiny.fp8(tensor)
    tiny.write(
        folder,
        tensors,
        num_nextn_predict_layers=1,
        moe_layer_freq=1,
        quantization_config={
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128],
        },
    )  # fmt: skip
    return folder


def test_fp8_weights_and_their_scales_follow_their_layers(deepseek, tmp_path):
    _, after = check_surgery(deepseek, tmp_path / "out")
    tensors = tiny.read(deepseek)
    name = "model.layers.3.self_attn.q_a_proj.weight"
    scale = tensors[f"{name}_scale_inv"].repeat_interleave(128, 0).repeat_interleave(128, 1)
    plain = (tensors[name].float() * scale).to(torch.bfloat16)
    for layer in (2, 4):
        assert torch.equal(after.model.layers[layer].self_attn.q_a_proj.weight, plain)


def test_fp8_next_token_layer_keeps_its_scales_behind_the_last(deepseek, tmp_path):
    su.upscale_checkpoint(deepseek, tmp_path / "out", [*range(6), 5])
    before, after = tiny.read(deepseek), tiny.read(tmp_path / "out")
    heads = {name for name in before if name.startswith("model.layers.6.")}
    assert "model.layers.6.self_attn.o_proj.weight_scale_inv" in heads
    for name in heads:
        assert torch.equal(after[name.replace(".6.", ".7.", 1)].view(torch.uint8), before[name].view(torch.uint8))


def test_factor_on_fp8_is_refused_in_one_line(deepseek, tmp_path, capsys):
    code = main([str(deepseek), str(tmp_path / "out"), "--layers", "0:6", "3:6", "--init", "split", "-q"])
    error = capsys.readouterr().err
    assert code == 1
    assert error.count("\n") == 1
    assert "F8_E4M3 cannot be multiplied by a factor" in error
    assert not (tmp_path / "out").exists()


def test_identity_start_of_fp8_layers_is_exact(deepseek, tmp_path):
    su.upscale_checkpoint(deepseek, tmp_path / "out", [0, 1, 2, 3, 3, 4, 5, 5], init="identity")
    before, _ = tiny.load(deepseek)
    after, _ = tiny.load(tmp_path / "out")
    assert len(after.model.layers) == 8
    assert torch.equal(tiny.logits(after), tiny.logits(before))


# --- MXFP4 -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory):
    """gpt-oss's shape: the experts' matrices as blocks of two 4-bit floats a byte, an exponent for every 32 values."""
    folder = tmp_path_factory.mktemp("gpt_oss") / "source"
    sizes = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "num_attention_heads": 4}
    kinds = ["sliding_attention", "full_attention"] * 3
    model = tiny.random_model(
        "gpt_oss", **sizes, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, sliding_window=4,
        layer_types=kinds,
    )  # fmt: skip
    model.save_pretrained(folder)
    tensors = tiny.read(folder)
    generator = torch.Generator().manual_seed(2)
    for layer in range(6):
        for name, shape in {"gate_up_proj": (4, 192, 2), "down_proj": (4, 64, 3)}.items():
            stem = f"model.layers.{layer}.mlp.experts.{name}"
            del tensors[stem]
            tensors[f"{stem}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator).to(torch.uint8)
            tensors[f"{stem}_scales"] = torch.randint(120, 125, shape, generator=generator).to(torch.uint8)
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    tiny.write(folder, tensors, quantization_config={"modules_to_not_convert": skipped, "quant_method": "mxfp4"})
    return folder


def test_mxfp4_blocks_and_their_scales_follow_their_layers(gpt_oss, tmp_path):
    pytest.importorskip("accelerate", reason="transformers loads MXFP4 with accelerate alone")
    check_surgery(gpt_oss, tmp_path / "out", attn_implementation="eager")
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (gpt_oss, tmp_path / "out"))
    assert after["quantization_config"] == before["quantization_config"]
    assert after["layer_types"] == [before["layer_types"][source] for source in SOURCES]


def test_identity_start_of_mxfp4_layers_is_exact(gpt_oss, tmp_path):
    pytest.importorskip("accelerate", reason="transformers loads MXFP4 with accelerate alone")
    su.upscale_checkpoint(gpt_oss, tmp_path / "out", [0, 1, 1, 2, 3, 4, 4, 5], init="identity")
    before, _ = tiny.load(gpt_oss, attn_implementation="eager")
    after, _ = tiny.load(tmp_path / "out", attn_implementation="eager")
    assert torch.equal(tiny.logits(after), tiny.logits(before))


def test_factor_on_mxfp4_is_refused(gpt_oss, tmp_path):
    with pytest.raises(UnsupportedError, match=r"_blocks: this layer cannot be scaled by 0\.5, only by 0"):
        su.upscale_checkpoint(gpt_oss, tmp_path / "out", ["0:6", "3:6"], init="split")


# --- bitsandbytes ------------------------------------------------------------------------------------------------


def bits_and_bytes(folder, skipped, **settings):
    """A Llama quantised by the library itself, some modules of some layers left out, as Unsloth publishes them."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    plain = folder / "plain"
    tiny.random_model("llama", **LLAMA).save_pretrained(plain)
    config = transformers.BitsAndBytesConfig(llm_int8_skip_modules=skipped, **settings)
    model, _ = tiny.load(plain, quantization_config=config, dtype=torch.bfloat16)
    model.save_pretrained(folder / "source")
    return folder / "source"


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory):
    settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    skipped = ["lm_head", "model.layers.3.self_attn", "model.layers.4.mlp", "model.layers.5.mlp.down_proj"]
    return bits_and_bytes(tmp_path_factory.mktemp("nf4"), skipped, bnb_4bit_use_double_quant=True, **settings)


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory):
    return bits_and_bytes(tmp_path_factory.mktemp("int8"), ["lm_head", "model.layers.2"], load_in_8bit=True)


def test_four_bit_weights_and_their_state_follow_their_layers(four_bits, tmp_path):
    names = tiny.read(four_bits).keys()
    for part in ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4"):
        assert f"model.layers.1.mlp.up_proj.weight.{part}" in names
    _, after = check_surgery(four_bits, tmp_path / "out")
    section = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert section["llm_int8_skip_modules"] == [
        "lm_head",
        "model.layers.2.self_attn",
        "model.layers.4.self_attn",
        "model.layers.5.mlp.down_proj",
    ]
    plain = {name for name, module in after.named_modules() if type(module) is torch.nn.Linear}
    assert len(plain) == 1 + 2 * 4 + 1


def test_eight_bit_weights_and_their_scales_follow_their_layers(eight_bits, tmp_path):
    assert "model.layers.1.mlp.up_proj.SCB" in tiny.read(eight_bits)
    check_surgery(eight_bits, tmp_path / "out")
    section = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert section["llm_int8_skip_modules"] == ["lm_head", "model.layers.3"]


@pytest.mark.parametrize("init", ["split", "identity"])
@pytest.mark.parametrize("kind", ["four_bits", "eight_bits"])
def test_start_that_bitsandbytes_cannot_represent_is_refused_in_one_line(kind, init, request, tmp_path, capsys):
    source = request.getfixturevalue(kind)
    code = main([str(source), str(tmp_path / "out"), "--layers", "0:6", "1", "--init", init, "-q"])
    error = capsys.readouterr().err
    assert code == 1
    assert error.count("\n") == 1
    assert "use --init copy" in error
    assert not (tmp_path / "out").exists()
