"""From a checkpoint and a pattern to a plan: what is asked of the plan, and what is refused."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import solar_upscale as su
from solar_upscale.errors import CheckpointError, OutputError, PatternError, UnsupportedError, UpscaleError
from solar_upscale.plan.transform import Scale, Zero
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.recipe import load_recipe
from solar_upscale.report.card.loading import reproduce_block
from solar_upscale.report.plan_json import plan_json, plan_json_with_tensors
from solar_upscale.request import parse_nbytes
from solar_upscale.strict_json import json_pieces
from tests.support.checkpoints import MISTRAL, mistral_shapes, tree, write_checkpoint
from tests.support.sources import MemorySource, headers_only, llama_shapes, published_shards, tensors_in_order

SOLAR = ["0:6", "2:8"]


def tiny(
    layers: int = 8, *, dtype: str = "F16", extra: Mapping[str, tuple[int, ...]] | None = None, **config: Any
) -> MemorySource:
    shapes = mistral_shapes(layers) | (extra or {})
    tensors = tensors_in_order([(name, dtype, shape) for name, shape in shapes.items()])
    return headers_only({"model.safetensors": tensors}, {**MISTRAL, "num_hidden_layers": layers, **config})


def items_of(plan: UpscalePlan) -> dict[str, Any]:
    return {item.target.name: item for shard in plan.shards for item in shard.items}


# ---------------------------------------------------------------- what a plan says


def test_each_output_tensor_is_made_of_the_bytes_of_the_layer_that_the_pattern_names() -> None:
    source = tiny()
    plan = su.plan_checkpoint(source, SOLAR)
    items = items_of(plan)
    sources = [*range(6), *range(2, 8)]
    assert len(items) == 12 * 9 + 3
    tensors = {tensor.name: tensor for shard in plan.source_shards for tensor in shard.tensors}
    start = plan.source_shards[0].data_start
    for name, item in items.items():
        parts = name.split(".")
        if parts[1] == "layers":
            parts[2] = str(sources[int(parts[2])])
        assert item.source == ".".join(parts)
        (piece,) = item.pieces
        first, last = tensors[item.source].data_offsets
        assert (piece.start, piece.stop) == (start + first, start + last)


def test_planning_reads_no_tensor_data_and_is_quick() -> None:
    shapes = llama_shapes(32, 4096, 14336, 32000, 1024)
    source = headers_only(published_shards(shapes), {**MISTRAL, "num_hidden_layers": 32})
    started = time.process_time()
    su.plan_checkpoint(source, ["0:24", "8:32"])
    assert time.process_time() - started < 1
    assert sum(stop - start for name, start, stop in source.reads if name.endswith(".safetensors")) <= 3 * 2**17


def test_sizes_before_and_after() -> None:
    shapes = llama_shapes(32, 4096, 14336, 32000, 1024)
    config = {
        **MISTRAL,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
    }
    plan = su.plan_checkpoint(headers_only(published_shards(shapes), config), ["0:24", "8:32"])
    assert (plan.before.layers, plan.after.layers) == (32, 48)
    assert (plan.before.parameters, plan.after.parameters) == (7_241_732_096, 10_731_524_096)
    assert plan.after.nbytes == plan.total_size == 2 * 10_731_524_096
    assert plan.before.kv_cache_nbytes == 131_072
    assert plan.after.kv_cache_nbytes == 131_072 * 3 // 2


def test_every_source_tensor_is_accounted_for() -> None:
    plan = su.plan_checkpoint(tiny(), ["0:3", "5"])
    used = {item.source for item in items_of(plan).values()}
    every = {tensor.name for shard in plan.source_shards for tensor in shard.tensors}
    assert used | set(plan.dropped) == every
    assert not used & set(plan.dropped)
    assert set(plan.dropped.values()) == {"its layer is not in the pattern"}


def test_plan_is_immutable() -> None:
    first, second = (su.plan_checkpoint(tiny(), SOLAR) for _ in range(2))
    assert first == second
    assert json.dumps(plan_json(first)) == json.dumps(plan_json(second))
    with pytest.raises(AttributeError):
        first.request = second.request  # type: ignore[misc]


def test_plan_as_json_names_every_byte() -> None:
    plan = su.plan_checkpoint(tiny(), SOLAR)
    value = json.loads("".join(json_pieces(plan_json_with_tensors(plan))))
    tensors = [tensor for shard in value["shards"] for tensor in shard["tensors"]]
    assert sum(stop - start for tensor in tensors for _, start, stop in tensor["pieces"]) == plan.total_size
    assert value["layers"] == [*range(6), *range(2, 8)]
    assert value["config_changes"] == [
        {"path": "num_hidden_layers", "before": 8, "after": 12, "reason": plan.change.changes[0].reason}
    ]


def test_plan_as_json_is_a_summary_with_the_same_facts_by_default() -> None:
    plan = su.plan_checkpoint(tiny(), ["0:3", "5"], max_shard_size=50_000)
    summary, whole = (
        json.loads("".join(json_pieces(each))) for each in (plan_json(plan), plan_json_with_tensors(plan))
    )
    for shard in whole["shards"]:
        tensors = shard.pop("tensors")
        assert len(tensors) == shard["num_tensors"]
        assert {name for tensor in tensors for name, _, _ in tensor["pieces"]} == set(shard["source_shards"])
    assert summary == whole
    assert summary["dropped"] == {
        "layers": [3, 4, 6, 7],
        "tensors": {"its layer is not in the pattern": len(plan.dropped)},
    }


def test_index_matches_transformers() -> None:
    plan = su.plan_checkpoint(tiny(), SOLAR, max_shard_size=50_000)
    index = json.loads(plan.model_files["model.safetensors.index.json"])
    assert index["metadata"] == {"total_parameters": plan.after.parameters, "total_size": plan.total_size}
    assert index["weight_map"] == plan.weight_map
    assert list(index["weight_map"]) == sorted(items_of(plan))
    assert "model.safetensors.index.json" not in su.plan_checkpoint(tiny(), SOLAR).model_files


def test_other_spellings_of_a_pattern_are_the_same_job() -> None:
    plans = [
        su.plan_checkpoint(tiny(), layers)
        for layers in (SOLAR, ["range(0,6)", "range(2, n)"], [0, 1, *range(2, 6), *range(2, 8)])
    ]
    assert plans[0] == plans[1] == plans[2]


# ---------------------------------------------------------------- starts


def factors_in(plan: UpscalePlan) -> dict[str, Any]:
    return {name: item.transform for name, item in items_of(plan).items() if item.transform is not None}


def test_identity_zeroes_what_repeats_add_and_nothing_else() -> None:
    changed = factors_in(su.plan_checkpoint(tiny(), SOLAR, init="identity"))
    assert changed == {
        f"model.layers.{layer}.{name}.weight": Zero()
        for layer in range(6, 10)
        for name in ("self_attn.o_proj", "mlp.down_proj")
    }


def test_entry_scale_overrides_the_start() -> None:
    plan = su.plan_checkpoint(tiny(), SOLAR, init="identity", entry_scales=[None, 0.25])
    assert plan.factors == (1,) * 6 + (0.25,) * 6
    assert set(factors_in(plan).values()) == {Scale(0.25)}
    assert plan.request.entry_scales == (None, 0.25)


@pytest.mark.parametrize("init", ["copy", "identity", "split", "scale=1,0.5"])
def test_recipe_of_the_card_gives_the_same_plan(init: str, tmp_path: Path) -> None:
    plan = su.plan_checkpoint(tiny(), ["0:6", "[2, 5, 4]", "2:8"], init=init, entry_scales=[None, 0.25, None])
    found = re.search(r"```yaml\n(.*?)\n```", reproduce_block(plan, None), re.DOTALL)
    assert found is not None
    (tmp_path / "recipe.yaml").write_text(found[1], "utf-8")
    request = load_recipe(tmp_path / "recipe.yaml").request
    again = su.plan_checkpoint(tiny(), request.layers, init=request.init, entry_scales=request.entry_scales)
    assert again == plan
    assert (again.factors, again.request.init) == (plan.factors, init)


@pytest.mark.parametrize("scale", [np.float32(0.5), np.float64(0.5), np.float16(0.5)])
def test_scale_may_be_a_number_of_numpy(scale: Any) -> None:
    assert su.plan_checkpoint(tiny(), SOLAR, entry_scales=[None, scale]) == su.plan_checkpoint(
        tiny(), SOLAR, entry_scales=[None, 0.5]
    )


def test_scales_must_be_as_many_as_entries() -> None:
    with pytest.raises(PatternError, match="2 entries have 3 scales"):
        su.plan_checkpoint(tiny(), SOLAR, entry_scales=[None, 0.25, 1])


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1e39, 1e-60, True, "0.5", [0.5]])
def test_scale_outside_every_dtype_is_refused(scale: Any) -> None:
    with pytest.raises(PatternError, match=r"factor|expected a number"):
        su.plan_checkpoint(tiny(), SOLAR, entry_scales=[None, scale])


def test_dtype_that_cannot_be_scaled_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"F8_E4M3 cannot be multiplied"):
        su.plan_checkpoint(tiny(dtype="F8_E4M3"), SOLAR, init="split")


# ---------------------------------------------------------------- what a recipe takes for granted


def test_dtype_of_a_recipe_must_be_that_of_every_tensor() -> None:
    assert su.plan_checkpoint(tiny(), SOLAR, dtype="F16") == su.plan_checkpoint(tiny(), SOLAR)
    with pytest.raises(
        UnsupportedError, match=r"model.embed_tokens.weight: expected dtype BF16 .*, got F16, .*75 tensors"
    ):
        su.plan_checkpoint(tiny(), SOLAR, dtype="BF16")


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", "FP8", ""])
def test_unknown_dtype_is_refused_with_the_names_of_safetensors(dtype: str) -> None:
    with pytest.raises(PatternError, match=rf'dtype: unknown "{dtype}"; expected one of .*, BF16,'):
        su.plan_checkpoint(tiny(), SOLAR, dtype=dtype)


def test_scale_filters_must_cover_the_residual_writers() -> None:
    scales = {"entry_scales": [None, 0.5]}
    plan = su.plan_checkpoint(tiny(), SOLAR, **scales, scale_filters=["o_proj", "down_proj"])
    assert plan == su.plan_checkpoint(tiny(), SOLAR, **scales)
    with pytest.raises(UnsupportedError, match=r"scale filters o_proj: do not match"):
        su.plan_checkpoint(tiny(), SOLAR, **scales, scale_filters="o_proj")
    for filters in (["o_proj"], ["o_proj", "down_proj", "v_proj"], ["proj"], ["nothing"]):
        with pytest.raises(UnsupportedError, match=r"scale filters .* do not match exactly the tensors"):
            su.plan_checkpoint(tiny(), SOLAR, **scales, scale_filters=filters)


def test_scale_filters_are_refused_where_a_norm_follows_the_projection() -> None:
    norms = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    shapes = llama_shapes(8, 32, 64, 100, 16, layer_norms=norms, tied=True)
    config = {**MISTRAL, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}
    source = headers_only(published_shards(shapes), config)
    with pytest.raises(UnsupportedError, match="scale filters"):
        su.plan_checkpoint(source, SOLAR, entry_scales=[None, 0.5], scale_filters=["o_proj", "down_proj"])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["range(2,10)"], "the model has 8 layers"),
        (["0:9"], "8 layers"),
        ([8], "8"),
        ([-9], "8"),
        ([], "layer|entr"),
        ([""], "."),
        (["range(8,8)"], "no|empty|nothing"),
        ([True], "bool|True"),
        ([1.0], "float|1.0"),
        ([None], "None"),
        ([[0, 1]], "nested|list"),
        (["__import__('os').system('x')"], "."),
        (["range(10**12)"], "."),
        (["[0]*10**9"], "."),
        (["9**9**9"], "."),
        ("0:6 2:8", "."),
        (None, "."),
        (object(), "."),
        (["x" * 10_001], "10,?000"),
        (["\x1b[2J"], "."),
    ],
)
def test_wrong_pattern_is_one_line(layers: Any, message: str) -> None:
    started = time.process_time()
    with pytest.raises(PatternError, match=message) as caught:
        su.plan_checkpoint(tiny(), layers)
    assert time.process_time() - started < 2
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "init", ["", "zero", "scale", "scale=", "scale=x", "scale=nan", "scale=1e99", "split=2", "\x1b"]
)
def test_wrong_start_is_one_line(init: str) -> None:
    with pytest.raises(PatternError, match="--init"):
        su.plan_checkpoint(tiny(), SOLAR, init=init)


@pytest.mark.parametrize("name", ["", "no.such", "\x1b[2J", "layers.0"])
def test_unknown_stack_error_lists_the_stacks(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"model\.layers \(decoder, 8 layers\)"):
        su.plan_checkpoint(tiny(), SOLAR, stack=name)


def test_gap_among_the_layers_is_refused() -> None:
    shapes = {name: shape for name, shape in mistral_shapes(8).items() if not name.startswith("model.layers.3.")}
    tensors = tensors_in_order([(name, "F16", shape) for name, shape in shapes.items()])
    with pytest.raises(UpscaleError, match="layer"):
        su.plan_checkpoint(headers_only({"model.safetensors": tensors}, MISTRAL), SOLAR)


def test_model_without_layers_is_refused() -> None:
    source = headers_only({"model.safetensors": tensors_in_order([("head.weight", "F16", (4, 4))])}, MISTRAL)
    with pytest.raises(UnsupportedError, match="no list of layers"):
        su.plan_checkpoint(source, [0])


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.99999999999999999999.x.weight",
        f"model.layers.{'9' * 5000}.x.weight",
        "model.layers.-1.x.weight",
        "model.layers.٣.x.weight",
        "model.layers.03.x.weight",
        "model.layers..x.weight",
        "model.layers.8.x.weight",
        "model.layers.3",
        "model.layers.\x1b[2J.x",
        "\x1b[31m",
        "",
        ".",
        "x" * 100_000,
        "../../etc/passwd",
        "__metadata__.x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("limit", [None, 10_000])
def test_odd_tensor_name_is_planned_or_refused(name: str, limit: int | None) -> None:
    started = time.process_time()
    try:
        plan = su.plan_checkpoint(tiny(extra={name: (2, 2)}), SOLAR, max_shard_size=limit)
    except UpscaleError as error:
        assert str(error).isprintable()  # noqa: PT017
        assert len(str(error)) < 2200  # noqa: PT017
    else:
        assert name in items_of(plan) or name in plan.dropped
    assert time.process_time() - started < 5


def test_more_target_tensors_than_any_model_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar_upscale.plan.planner.MAX_TARGET_TENSORS", 107)
    with pytest.raises(UnsupportedError, match=r"exceeds the limit of 107 tensors"):
        su.plan_checkpoint(tiny(), SOLAR)


def test_absurd_depth_is_bounded() -> None:
    with pytest.raises(PatternError, match=r"10,?000"):
        su.plan_checkpoint(tiny(), ["[0] * 10_001"])
    started = time.process_time()
    assert su.plan_checkpoint(tiny(), ["[0] * 3_000"]).after.layers == 3_000
    assert time.process_time() - started < 10


# ---------------------------------------------------------------- sizes as text

PREFIXES = {
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        (5, 5), ("5", 5), ("5GB", 5 * 10**9), ("5gb", 5 * 10**9), ("1.5 kB", 1500), ("512MiB", 2**29), ("2K", 2000),
        ("0.1GB", 10**8), ("1TB", 10**12), ("7B", 7),
        *((f"3{prefix}{b}", 3 * factor) for prefix, factor in PREFIXES.items() for b in ("", "B")),
    ],
)  # fmt: skip
def test_size_text_is_parsed(text: str | int, nbytes: int) -> None:
    assert parse_nbytes(text) == nbytes


@pytest.mark.parametrize(
    "text",
    [
        "", "GB", "-5GB", "5XB", "5iB", "5PB", "5BB", "5 5", "0", "0.1B", "1e9", "9" * 500, "9" * 18 + "TB", "٣GB",
        "nan", "\x1b", True, -1,
    ],
)  # fmt: skip
def test_invalid_size_text_is_refused(text: Any) -> None:
    with pytest.raises(OutputError, match="max_shard_size"):
        parse_nbytes(text)


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("output", ["s", "s/out", "s/../s/deep/out", ".", ".."])
def test_output_in_the_source_or_around_it_is_refused(output: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "home" / "s")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"is inside the source or contains it|current or the home"):
        su.upscale_checkpoint(source, tmp_path / "home" / output, SOLAR, overwrite=True)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OutputError, match="is inside the source"):
        su.upscale_checkpoint(source, tmp_path / "link" / "out", SOLAR)
    assert tree(tmp_path) == before


def test_path_is_a_folder_even_if_a_model_has_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        su.plan_checkpoint(Path("user/name"), SOLAR)


def test_unknown_option_is_a_type_error() -> None:
    options: Sequence[str] = ["shard_size", "layer"]
    for option in options:
        with pytest.raises(TypeError, match=option):
            su.plan_checkpoint(tiny(), SOLAR, **{option: 5})
