"""Quantised sources that no CPU library loads: what is written is unpacked here, by the formats' own definitions, and
must be the numbers of the source layer it came from; the skip lists must name the layers that are left plain.
"""

import json
import re

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402 - after the skip

import solar_upscale as su  # noqa: E402
from solar_upscale.architecture.quantization import rewrite_module_lists  # noqa: E402
from solar_upscale.errors import UnsupportedError  # noqa: E402

LAYERS, HIDDEN, GROUP = 12, 32, 16
SOURCES = [0, 1, 2, 11, 10, 1, 10, 4, 5, 6, 7, 8, 9]  # repeats 1 and 10, drops 3, turns 10 and 11 round
MODULES = {f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"} | {
    "mlp.gate_proj": (64, HIDDEN),
    "mlp.up_proj": (64, HIDDEN),
    "mlp.down_proj": (HIDDEN, 64),
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
    "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 96,
}  # fmt: skip
PLAIN = {
    1: "",
    10: "mlp.",
    11: "self_attn.o_proj",
    3: "mlp.up_proj",
}  # by layer, how the names of its plain modules begin


def is_plain(layer, module):
    return layer in PLAIN and module.startswith(PLAIN[layer])


# --- packing and unpacking, by definition ------------------------------------------------------------------------


def pack(values, order=range(8)):
    """Eight 4-bit numbers of the last axis into each int32; ``order`` says which stands at the low end first."""
    groups = values.to(torch.int64).reshape(*values.shape[:-1], -1, 8)
    word = sum(groups[..., source] << (4 * place) for place, source in enumerate(order))
    return torch.where(word >= 2**31, word - 2**32, word).to(torch.int32)


def unpack(words, order=range(8)):
    values = torch.zeros(*words.shape, 8, dtype=torch.int64)
    for place, source in enumerate(order):
        values[..., source] = (words.to(torch.int64) >> (4 * place)) & 15
    return values.flatten(-2)


AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def gptq(generator, rows, columns):
    """Columns packed in pairs of eight down the input axis; zero points less one; a group for each input, unordered."""
    numbers = torch.randint(0, 16, (columns, rows), generator=generator)
    zeros = torch.randint(1, 16, (columns // GROUP, rows), generator=generator)
    return {
        "qweight": pack(numbers.T.contiguous()).T.contiguous(),
        "qzeros": pack(zeros - 1),
        "scales": torch.rand(columns // GROUP, rows, generator=generator).half(),
        "g_idx": torch.randint(0, columns // GROUP, (columns,), generator=generator).to(torch.int32),
    }


def from_gptq(parts):
    numbers = unpack(parts["qweight"].T.contiguous()).T
    groups = parts["g_idx"].long()
    return (parts["scales"].float()[groups] * (numbers - unpack(parts["qzeros"])[groups] - 1)).T


def awq(generator, rows, columns):
    """Outputs packed in eights, interleaved."""
    return {
        "qweight": pack(torch.randint(0, 16, (columns, rows), generator=generator), AWQ_ORDER),
        "qzeros": pack(torch.randint(0, 16, (columns // GROUP, rows), generator=generator), AWQ_ORDER),
        "scales": torch.rand(columns // GROUP, rows, generator=generator).half(),
    }


def from_awq(parts):
    numbers, zeros = unpack(parts["qweight"], AWQ_ORDER), unpack(parts["qzeros"], AWQ_ORDER)
    scales = parts["scales"].float().repeat_interleave(GROUP, 0)
    return (scales * (numbers - zeros.repeat_interleave(GROUP, 0))).T


def packed_int4(generator, rows, columns):
    return {
        "weight_packed": pack(torch.randint(0, 16, (rows, columns), generator=generator)),
        "weight_scale": torch.rand(rows, columns // GROUP, generator=generator).bfloat16(),
        "weight_shape": torch.tensor([rows, columns]),
    }


def from_packed_int4(parts):
    numbers = unpack(parts["weight_packed"])[:, : parts["weight_shape"][1]] - 8
    return numbers * parts["weight_scale"].float().repeat_interleave(GROUP, 1)


def float8(generator, rows, columns):
    weight = torch.randn(rows, columns, generator=generator).to(torch.float8_e4m3fn)
    return {"weight": weight, "weight_scale": torch.rand(rows, 1, generator=generator).bfloat16()}


def int8(generator, rows, columns):
    weight = torch.randint(-128, 128, (rows, columns), generator=generator).to(torch.int8)
    return {"weight": weight, "weight_scale": torch.rand(rows, 1, generator=generator).bfloat16()}


def from_scaled(parts):
    return parts["weight"].float() * parts["weight_scale"].float()


# --- how the libraries ask whether a module is left plain --------------------------------------------------------


def gptq_skips(section, name):
    """GPTQModel, vLLM: the first rule that matches from the start decides; -: leaves the module plain."""
    for rule in section["dynamic"]:
        if re.match(rule.removeprefix("-:").removeprefix("+:"), name):
            return rule.startswith("-:")
    return False


def awq_skips(section, name):
    """AutoAWQ, vLLM: any part of the name."""
    return any(entry in name for entry in section["modules_to_not_convert"])


def compressed_skips(section, name):
    """compressed-tensors: the whole name, or an expression from the start."""
    return any(
        re.match(entry.removeprefix("re:"), name) if entry.startswith("re:") else entry == name
        for entry in section["ignore"]
    )


GPTQ = {
    "bits": 4, "group_size": GROUP, "desc_act": True, "sym": False, "quant_method": "gptq", "checkpoint_format": "gptq",
    "lm_head": False,
    "dynamic": {
        r"-:model\.layers\.1\..*": {},
        r"+:.*\.10\.self_attn\.q_proj": {"bits": 4},
        r"-:.*\.(10)\.mlp\..*": {},
        r"-:.*\.11\.self_attn\.o_proj$": {},
        r"-:model\.layers\.[3]\.mlp\.up_proj": {},
        r"+:.*down.*": {"bits": 4},
    },
}  # fmt: skip
AWQ = {
    "bits": 4, "group_size": GROUP, "quant_method": "awq", "version": "gemm", "zero_point": True,
    "modules_to_not_convert": ["lm_head", "layers.1.", "layers.10.mlp", "model.layers.11.self_attn.o_proj",
                               ".3.mlp.up_proj"],
}  # fmt: skip
_WHOLE = [f"model.layers.1.{module}" for module in MODULES]


def compressed(kind, form):
    weights = {"num_bits": 4 if "pack" in form else 8, "type": kind, "symmetric": True, "strategy": "group"}
    return {
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}},
        "format": form, "quant_method": "compressed-tensors", "quantization_status": "compressed",
        "ignore": [*_WHOLE, r"re:.*layers\.10\.mlp\..*", "model.layers.11.self_attn.o_proj",
                   "model.layers.3.mlp.up_proj", "lm_head"],
    }  # fmt: skip


KINDS = {
    "gptq": (gptq, from_gptq, GPTQ, gptq_skips),
    "awq": (awq, from_awq, AWQ, awq_skips),
    "pack-quantized": (packed_int4, from_packed_int4, compressed("int", "pack-quantized"), compressed_skips),
    "float-quantized": (float8, from_scaled, compressed("float", "float-quantized"), compressed_skips),
    "int-quantized": (int8, from_scaled, compressed("int", "int-quantized"), compressed_skips),
}


@pytest.fixture(scope="module", params=list(KINDS))
def job(request, tmp_path_factory):
    """The kind, and the folders of a source and of what the program made of it."""
    source = tmp_path_factory.mktemp(request.param) / "source"
    source.mkdir()
    quantise, _, section, _ = KINDS[request.param]
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{name}.weight": torch.randn(96, HIDDEN).half() for name in ("model.embed_tokens", "lm_head")}
    tensors["model.norm.weight"] = torch.ones(HIDDEN).half()
    for layer in range(LAYERS):
        for module, shape in MODULES.items():
            stem = f"model.layers.{layer}.{module}"
            plain = {"weight": torch.randn(shape, generator=generator).half()}
            parts = plain if is_plain(layer, module) else quantise(generator, *shape)
            tensors |= {f"{stem}.{part}": tensor for part, tensor in parts.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.rand(HIDDEN, generator=generator).half()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    (source / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": section}))
    if request.param == "gptq":
        (source / "quantize_config.json").write_text(json.dumps({**section, "meta": {"quantizer": ["gptqmodel:5.0"]}}))
    target = source.parent / "target"
    su.upscale_checkpoint(source, target, SOURCES)
    return request.param, source, target


def parts_of(tensors, stem):
    return {name.removeprefix(f"{stem}."): tensor for name, tensor in tensors.items() if name.startswith(f"{stem}.")}


def test_every_module_unpacks_to_the_numbers_of_its_source_layer(job):
    kind, source, target = job
    numbers = KINDS[kind][1]
    before, after = load_file(source / "model.safetensors"), load_file(target / "model.safetensors")
    seen = set()
    for layer, origin in enumerate(SOURCES):
        for module in MODULES:
            old, new = (parts_of(t, f"model.layers.{i}.{module}") for t, i in ((before, origin), (after, layer)))
            assert old.keys() == new.keys()
            values = [parts["weight"].float() if len(parts) == 1 else numbers(parts) for parts in (old, new)]
            assert values[0].shape == MODULES[module]
            assert torch.equal(*values)
            seen.add((origin, module, values[0].sum().item()))
    assert len({total for *_, total in seen}) == len(seen), "two layers hold the same numbers"
    assert len(after) == sum(1 for name in after if ".layers." not in name) + sum(
        sum(name.startswith(f"model.layers.{origin}.") for name in before) for origin in SOURCES
    )


def test_skip_list_skips_the_same_modules_as_in_the_source(job):
    kind, source, target = job
    skips = KINDS[kind][3]
    for file in ("config.json", "quantize_config.json"):
        if not (source / file).exists():
            continue
        old, new = (json.loads((folder / file).read_text()) for folder in (source, target))
        old, new = old.get("quantization_config", old), new.get("quantization_config", new)
        for layer, origin in enumerate(SOURCES):
            before, after = (
                {module for module in MODULES if skips(section, f"model.layers.{number}.{module}")}
                for section, number in ((old, origin), (new, layer))
            )
            assert after == before == {module for module in MODULES if is_plain(origin, module)}, (layer, origin)
        assert skips(new, "lm_head") == skips(old, "lm_head")


@pytest.mark.parametrize("job", ["gptq"], indirect=True)
def test_rules_of_gptq_hold_for_the_modules_that_serving_engines_make_of_several(job):
    _, source, target = job
    old, new = (json.loads((f / "config.json").read_text())["quantization_config"] for f in (source, target))
    for layer, origin in enumerate(SOURCES):
        for module in ("self_attn.qkv_proj", "mlp.gate_up_proj", "mlp"):
            asked = [gptq_skips(s, f"model.layers.{i}.{module}") for s, i in ((old, origin), (new, layer))]
            assert asked[0] == asked[1], (layer, module)


@pytest.mark.parametrize("init", ["split", "identity", "scale=0.5"])
def test_start_that_needs_arithmetic_on_packed_numbers_is_refused(job, init, tmp_path):
    kind, source, _ = job
    if kind == "float-quantized" and init == "identity":
        su.upscale_checkpoint(source, tmp_path / "out", [*range(12), 5], init=init)
        tensors = load_file(tmp_path / "out" / "model.safetensors")
        for module in ("self_attn.o_proj", "mlp.down_proj"):
            assert not from_scaled(parts_of(tensors, f"model.layers.12.{module}")).any()
        return
    with pytest.raises(UnsupportedError, match="use --init copy") as caught:
        su.upscale_checkpoint(source, tmp_path / "out", [*range(12), 5], init=init)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# --- lists alone -------------------------------------------------------------------------------------------------

TOWERS = [
    f"{prefix}.{i}.{module}"
    for prefix in ("model.language_model.layers", "model.vision_tower.encoder.layers")
    for i in range(12)
    for module in ("mlp.up_proj", "mlp.down_proj", "self_attn.q_proj")
]


def rewritten(section, sources=SOURCES, modules=TOWERS):
    prefix = "model.language_model.layers"
    return rewrite_module_lists(section, modules, (prefix,), {prefix: sources})


def test_layers_of_another_tower_keep_their_numbers():
    towers = ["model.vision_tower.encoder.layers.3.mlp.up_proj", "vision_tower.encoder.layers.11.mlp"]
    assert rewritten({"ignore": towers})["ignore"] == towers


def test_prefix_with_its_components_in_another_order_is_the_same_layer():
    assert rewritten({"ignored_layers": ["language_model.model.layers.11.mlp"]})["ignored_layers"] == [
        "language_model.model.layers.3.mlp"
    ]


def test_name_that_fits_layers_of_two_towers_becomes_full_names():
    said = rewritten({"modules_to_not_convert": ["layers.11.mlp.up_proj"]})["modules_to_not_convert"]
    assert said == ["model.language_model.layers.3.mlp.up_proj", "model.vision_tower.encoder.layers.11.mlp.up_proj"]


def test_modelopt_globs_match_as_globs():
    section = {"quantization": {"exclude_modules": ["lm_head", "model.language_model.layers.1*", "*.self_attn*"]}}
    said = rewritten(section)["quantization"]["exclude_modules"]
    layers = {int(found[1]) for name in said if (found := re.match(r"model\.language_model\.layers\.(\d+)\.", name))}
    assert layers == {j for j, source in enumerate(SOURCES) if source in (1, 10, 11)}
    assert said[0] == "lm_head"
    assert said[-1] == "*.self_attn*"


def test_unmarked_expression_matches_as_in_transformers():
    section = {"modules_to_not_convert": [r"model.language_model.layers.(10|11).mlp"]}
    said = set(rewritten(section)["modules_to_not_convert"])
    wanted = {j for j, source in enumerate(SOURCES) if source in (10, 11)}
    assert said == {f"model.language_model.layers.{j}.mlp.{m}" for j in wanted for m in ("up_proj", "down_proj")}


def test_expression_for_numbers_of_one_digit_does_not_follow_the_number_of_digits():
    said = rewritten({"ignore": [r"re:model\.language_model\.layers\.\d\.mlp\.up_proj"]})["ignore"]
    assert set(said) == {f"model.language_model.layers.{j}.mlp.up_proj" for j, s in enumerate(SOURCES) if s < 10}


def test_lists_in_nested_settings_are_rewritten():
    section = {"sparsity_config": {"ignore": ["model.language_model.layers.11.mlp.up_proj"], "format": "dense"}}
    assert rewritten(section)["sparsity_config"] == {
        "ignore": ["model.language_model.layers.3.mlp.up_proj"],
        "format": "dense",
    }


def test_numbers_in_a_list_of_names_are_refused():
    with pytest.raises(UnsupportedError, match="expected module names, got 3"):
        rewritten({"ignore": [3]})
