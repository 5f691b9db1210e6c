"""Hand-made plans, for tests of reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from solar_upscale.architecture import DepthChange, FieldChange, Stack
from solar_upscale.pattern import LayerPattern
from solar_upscale.plan.types import Pass, Piece, ShardPlan, SourceIdentity, Summary, UpscalePlan, WriteItem
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.header import Shard, TensorInfo

HUB_COMMIT = "26bca36bde8333b5d7f72e9ed20ccda6a618af24"
SUFFIXES = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def make_plan(
    sources: Sequence[int],
    num_source_layers: int,
    *,
    entries: Sequence[str] = ("0:1",),
    source: str = "mistralai/Mistral-7B-v0.1",
    revision: str | None = HUB_COMMIT,
    init: str = "copy",
    factors: Sequence[float] | None = None,
    stack: Stack | None = None,
    config: Mapping[str, Any] | None = None,
    names: Sequence[str] = ("model.embed_tokens.weight",),
    warnings: Sequence[str] = (),
    model_files: Mapping[str, bytes] | None = None,
    **request: Any,
) -> UpscalePlan:
    stack = stack or Stack("model.layers", ("model.layers",), num_source_layers)
    names = [*names, *(f"{stack.name}.{layer}.{suffix}" for layer in range(len(sources)) for suffix in SUFFIXES)]
    items = tuple(
        WriteItem(TensorInfo(name, "BF16", (2, 2), (8 * at, 8 * at + 8)), name, (Piece("model.safetensors", 0, 8),))
        for at, name in enumerate(names)
    )
    config = {"architectures": ["MistralForCausalLM"], "num_hidden_layers": len(sources), **(config or {})}
    change = FieldChange("num_hidden_layers", num_source_layers, len(sources), "counts the layers")
    return UpscalePlan(
        request=UpscaleRequest(tuple(entries), init, stack=stack.name, **request),
        source=SourceIdentity(source, revision, is_on_hub=revision is not None),
        pattern=LayerPattern(tuple(sources), num_source_layers),
        stack=stack,
        change=DepthChange(config, (change,), {stack.name: tuple(sources)}),
        factors=tuple(factors) if factors is not None else (1.0,) * len(sources),
        passes=(Pass((ShardPlan("model.safetensors", b"header", items),)),),
        copied_files=(),
        skipped_files={"model.gguf": "weights in another format"},
        dropped={},
        before=Summary(num_source_layers, 7_241_732_096, 14_483_464_192, 131_072),
        after=Summary(len(sources), 10_731_524_096, 21_463_048_192, 196_608),
        warnings=tuple(warnings),
        source_shards=(Shard("model.safetensors", (), 6, 100, "ab" * 32),),
        source_state={"model.safetensors": "100:1700000000000000000"},
        model_files=model_files or {},
    )


def solar_plan(**options: Any) -> UpscalePlan:
    return make_plan((*range(24), *range(8, 32)), 32, entries=("0:24", "8:32"), **options)


def llama_pro_plan(**options: Any) -> UpscalePlan:
    sources = [layer for block in range(8) for layer in (*range(4 * block, 4 * block + 4), 4 * block + 3)]
    factors = [0.0 if at % 5 == 4 else 1.0 for at in range(40)]
    entries = [entry for block in range(8) for entry in (f"{4 * block}:{4 * block + 4}", str(4 * block + 3))]
    return make_plan(sources, 32, entries=entries, init="identity", factors=factors, **options)
