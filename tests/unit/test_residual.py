"""architecture/residual.py on names and shapes alone; what the rules do to a model is test_residual_sweep.py."""

from collections.abc import Mapping
from typing import Any

import pytest

from solar_upscale.architecture.blocks import READERS
from solar_upscale.architecture.record import ModelType
from solar_upscale.architecture.registry import hand_written
from solar_upscale.architecture.types import ResidualRule, Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo
from solar_upscale.start.residual import residual_rules, residual_writers

LLAMA = {
    "self_attn.q_proj.weight": (8, 8),
    "self_attn.k_proj.weight": (4, 8),
    "self_attn.v_proj.weight": (4, 8),
    "self_attn.o_proj.weight": (8, 8),
    "mlp.gate_proj.weight": (12, 8),
    "mlp.up_proj.weight": (12, 8),
    "mlp.down_proj.weight": (8, 12),
    "input_layernorm.weight": (8,),
    "post_attention_layernorm.weight": (8,),
}
CONFIG = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 3}


def tensors(*layers: Mapping[str, tuple[int, ...]], prefix: str = "model.layers") -> dict[str, TensorInfo]:
    named = {f"{prefix}.{i}.{name}": shape for i, layer in enumerate(layers) for name, shape in layer.items()}
    named["model.embed_tokens.weight"] = (100, 8)
    return {name: TensorInfo(name, "BF16", shape, (0, 0)) for name, shape in named.items()}


def writers(
    config: Mapping[str, Any], layer: Mapping[str, tuple[int, ...]], index: int = 1, stack: Stack | None = None
) -> dict[str, ResidualRule]:
    stack = stack or Stack("main", ("model.layers",), 3)
    found = residual_writers(config, tensors(layer, layer, layer, prefix=stack.prefixes[0]), stack, [index])[index]
    return {name.removeprefix(f"{stack.prefixes[0]}.{index}."): rule for name, rule in found.items()}


def without(layer: Mapping[str, tuple[int, ...]], name: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in layer.items() if key != name}


def test_llama_writes_through_o_proj_and_down_proj() -> None:
    assert writers(CONFIG, LLAMA) == {
        "self_attn.o_proj.weight": ResidualRule(),
        "mlp.down_proj.weight": ResidualRule(),
    }


def test_names_are_whole_and_only_of_the_layers_that_were_asked_for() -> None:
    found = residual_writers(CONFIG, tensors(LLAMA, LLAMA, LLAMA), Stack("main", ("model.layers",), 3), [2, 0])
    assert sorted(found) == [0, 2]
    assert set(found[2]) == {"model.layers.2.self_attn.o_proj.weight", "model.layers.2.mlp.down_proj.weight"}


def test_biases_are_multiplied_with_their_projections() -> None:
    found = writers(CONFIG, LLAMA | {"self_attn.o_proj.bias": (8,), "mlp.down_proj.bias": (8,)})
    assert found["self_attn.o_proj.bias"] == found["mlp.down_proj.bias"] == ResidualRule()


def test_layer_without_its_writer_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"llama: layer model\.layers\.1: expected one of self_attn\.o_proj"):
        writers(CONFIG, without(LLAMA, "self_attn.o_proj.weight"))


def test_matrix_that_the_table_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"model\.layers\.1\.adapter\.out\.weight: may write into the residual"):
        writers(CONFIG, LLAMA | {"adapter.out.weight": (8, 4)})


def test_problems_of_all_layers_are_reported_together() -> None:
    layer = without(LLAMA, "mlp.down_proj.weight")
    with pytest.raises(UnsupportedError, match=r"layers\.0: .*; layer model\.layers\.1: .*; layer model\.layers\.2: "):
        residual_writers(CONFIG, tensors(layer, layer, layer), Stack("main", ("model.layers",), 3), range(3))


def test_unknown_architecture_is_refused_with_the_candidates() -> None:
    with pytest.raises(
        UnsupportedError, match=r"nova: .* candidates by shape: model\.layers\.\*\.mlp\.down_proj\.weight, "
    ) as error:
        writers(CONFIG | {"model_type": "nova"}, LLAMA)
    assert "gate_proj" not in str(error.value)


def test_missing_model_type_is_unknown() -> None:
    with pytest.raises(UnsupportedError, match="is not known"):
        writers({"hidden_size": 8}, LLAMA)


def test_post_norm_blocks_are_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedError, match=r"bert: its blocks normalise the stream after adding to it"):
        writers({"model_type": "bert"}, LLAMA)


@pytest.mark.parametrize(("before", "refused"), [(True, False), (False, True), (None, False)])
def test_opt_depends_on_where_its_norms_are(before: bool | None, refused: bool) -> None:
    layer = {"self_attn.out_proj.weight": (8, 8), "fc1.weight": (12, 8), "fc2.weight": (8, 12)}
    config = {"model_type": "opt"} | ({} if before is None else {"do_layer_norm_before": before})
    if refused:
        with pytest.raises(UnsupportedError, match="opt with do_layer_norm_before False"):
            writers(config, layer)
    else:
        assert set(writers(config, layer)) == {"self_attn.out_proj.weight", "fc2.weight"}


@pytest.mark.parametrize(("model_type", "offset"), [("gemma2", 1.0), ("olmo2", 0.0)])
def test_norm_after_the_projection_takes_the_factor(model_type: str, offset: float) -> None:
    layer = LLAMA | {"pre_feedforward_layernorm.weight": (8,), "post_feedforward_layernorm.weight": (8,)}
    assert writers({"model_type": model_type}, layer) == {
        "post_attention_layernorm.weight": ResidualRule(offset),
        "post_feedforward_layernorm.weight": ResidualRule(offset),
    }


EXPERTS = {f"block_sparse_moe.experts.{i}.{w}.weight": (8, 8) for i in range(3) for w in ("w1", "w2", "w3")}
MIXTRAL = {name: shape for name, shape in LLAMA.items() if not name.startswith("mlp")} | EXPERTS


def test_every_expert_of_a_mixture_writes() -> None:
    found = writers({"model_type": "mixtral"}, MIXTRAL | {"block_sparse_moe.gate.weight": (3, 8)})
    assert set(found) == {"self_attn.o_proj.weight"} | {f"block_sparse_moe.experts.{i}.w2.weight" for i in range(3)}


def test_fused_experts_as_modules_have_them_write_too() -> None:
    fused = {name: shape for name, shape in LLAMA.items() if not name.startswith("mlp")}
    fused |= {"mlp.experts.down_proj": (3, 8, 8), "mlp.experts.gate_up_proj": (3, 16, 8), "mlp.gate.weight": (3, 8)}
    assert set(writers({"model_type": "mixtral"}, fused)) == {"self_attn.o_proj.weight", "mlp.experts.down_proj"}


def test_expert_without_its_writer_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"block_sparse_moe\.experts\.1\.w2: is missing"):
        writers({"model_type": "mixtral"}, without(MIXTRAL, "block_sparse_moe.experts.1.w2.weight"))


def test_scales_beside_fp8_weights_are_left_alone() -> None:
    layer = LLAMA | {"self_attn.o_proj.weight_scale_inv": (1, 1), "mlp.up_proj.weight_scale_inv": (1, 1)}
    assert set(writers(CONFIG, layer)) == {"self_attn.o_proj.weight", "mlp.down_proj.weight"}


@pytest.mark.parametrize("part", ["qweight", "weight_packed", "weight.absmax", "SCB", "lora_A.default.weight"])
def test_packed_or_unknown_tensors_below_a_writer_are_refused_by_name(part: str) -> None:
    layer = LLAMA | {f"self_attn.o_proj.{part}": (8, 8)}
    with pytest.raises(UnsupportedError, match=rf"model\.layers\.1\.self_attn\.o_proj\.{part}: is packed or unknown"):
        writers(CONFIG, layer)


def test_mxfp4_blocks_can_be_zeroed_and_nothing_else() -> None:
    layer = {name: shape for name, shape in LLAMA.items() if not name.startswith("mlp")} | {
        "mlp.experts.down_proj_blocks": (2, 8, 1, 16),
        "mlp.experts.down_proj_scales": (2, 8, 1),
        "mlp.experts.down_proj_bias": (2, 8),
        "mlp.experts.gate_up_proj_blocks": (2, 16, 1, 16),
        "mlp.experts.gate_up_proj_scales": (2, 16, 1),
        "mlp.router.weight": (2, 8),
    }
    assert writers({"model_type": "gpt_oss"}, layer) == {
        "self_attn.o_proj.weight": ResidualRule(),
        "mlp.experts.down_proj_blocks": ResidualRule(only_zero=True),
        "mlp.experts.down_proj_bias": ResidualRule(),
    }


def test_scalar_on_the_stream_becomes_one_in_an_identity() -> None:
    layer = LLAMA | {"post_feedforward_layernorm.weight": (8,), "layer_scalar": (1,)}
    assert writers({"model_type": "gemma4_text"}, layer)["layer_scalar"] == ResidualRule(-1.0, only_zero=True)


def test_layer_whose_keys_later_layers_reuse_is_refused() -> None:
    layer = LLAMA | {"post_feedforward_layernorm.weight": (8,)}
    config = {
        "model_type": "gemma4_text",
        "num_hidden_layers": 3,
        "num_kv_shared_layers": 1,
        "layer_types": ["full_attention", "full_attention", "full_attention"],
    }
    assert writers(config, layer, index=0)
    with pytest.raises(UnsupportedError, match="layer 1: the last 1 layers reuse its keys and values"):
        writers(config, layer, index=1)
    assert writers(config, layer, index=2)


def test_shared_keys_are_checked_once_for_a_layer_repeated_twice() -> None:
    layer = LLAMA | {"post_feedforward_layernorm.weight": (8,)}
    config = {
        "model_type": "gemma4_text",
        "num_hidden_layers": 3,
        "num_kv_shared_layers": 1,
        "layer_types": ["full_attention"] * 3,
    }
    stack = Stack("main", ("model.layers",), 3)
    assert set(residual_rules(config, tensors(layer, layer, layer), stack, [1])) == {1}


def test_config_of_the_stack_determines_its_block_type() -> None:
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip"}}
    stack = Stack("text", ("language_model.model.layers",), 3, ("text_config",))
    assert set(writers(config, LLAMA, stack=stack)) == {"self_attn.o_proj.weight", "mlp.down_proj.weight"}


def test_layer_outside_the_stack_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="layer 9: has no tensors"):
        residual_writers(CONFIG, tensors(LLAMA), Stack("main", ("model.layers",), 1), [9])


def test_no_architecture_is_both_known_and_refused_whatever_its_config() -> None:
    for record in hand_written().values():
        assert record.block is None or all(refusal.role or refusal.field for refusal in record.no_factor), record.name


@pytest.mark.parametrize("record", [r for r in hand_written().values() if r.block], ids=lambda record: record.name)
def test_no_writer_or_inner_projection_is_listed_as_a_reader(record: ModelType) -> None:
    assert record.block is not None
    entries = (*record.block.writers, *record.block.optional)
    last = {path.rpartition(".")[2] for entry in entries for path in entry.split("|")}
    assert not last & READERS.union(record.readers)


def test_reader_of_one_type_is_none_of_another() -> None:
    layer = LLAMA | {"self_attn.q_a_proj.weight": (4, 8)}
    with pytest.raises(UnsupportedError, match=r"llama: .*self_attn\.q_a_proj\.weight: may write into the residual"):
        writers(CONFIG, layer)
    assert writers(CONFIG | {"model_type": "deepseek_v3"}, layer)
