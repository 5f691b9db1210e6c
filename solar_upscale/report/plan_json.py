"""A plan as JSON values, for programs: a summary, or every tensor with its source bytes."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from solar_upscale.plan.transform import Gather, Scale, Transform, Zero
from solar_upscale.plan.types import ShardPlan, Summary, UpscalePlan, WriteItem
from solar_upscale.report.output_files import REPORTS

__all__ = ["plan_json", "plan_json_with_tensors"]


def plan_json(plan: UpscalePlan) -> dict[str, Any]:
    """The plan as JSON values; tensors are only counted."""
    return _plan_json(plan, lambda shard: {})


def plan_json_with_tensors(plan: UpscalePlan) -> dict[str, Any]:
    """The plan as JSON values; in each shard, ``tensors`` is an iterator, since a plan may have a million."""
    return _plan_json(plan, lambda shard: {"tensors": _tensor_rows(shard)})


def _plan_json(plan: UpscalePlan, tensors: Callable[[ShardPlan], dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": plan.source.name,
        "revision": plan.source.revision,
        "layers": list(plan.pattern.sources),
        "entries": list(plan.request.entries),
        "stack": plan.stack.name,
        "init": plan.request.init,
        "factors": list(plan.factors),
        "before": _summary_json(plan.before),
        "after": _summary_json(plan.after),
        "layout": "mirror" if plan.request.max_shard_nbytes is None else "model order",
        "total_size": plan.total_size,
        "clonable_nbytes": plan.clonable_nbytes,
        "config_changes": [
            {"path": change.path, "before": change.before, "after": change.after, "reason": change.reason}
            for change in plan.change.changes
        ],
        "shards": [{**_shard_json(shard), **tensors(shard)} for shard in plan.shards],
        "sidecars": [file.name for file in plan.copied_files],
        "documents": [*plan.model_files, *REPORTS],
        "dropped": {"layers": list(plan.pattern.dropped), "tensors": dict(Counter(plan.dropped.values()))},
        "left_behind": dict(plan.skipped_files),
        "warnings": list(plan.warnings),
    }


def _summary_json(summary: Summary) -> dict[str, int | None]:
    return {
        "layers": summary.layers,
        "parameters": summary.parameters,
        "nbytes": summary.nbytes,
        "bf16_nbytes": summary.bf16_nbytes,
        "kv_cache_nbytes_per_token": summary.kv_cache_nbytes,
    }


def _shard_json(shard: ShardPlan) -> dict[str, Any]:
    return {
        "filename": shard.filename,
        "nbytes": shard.nbytes,
        "data_start": len(shard.header),
        "num_tensors": len(shard.items),
        "source_shards": list(shard.source_filenames),
    }


def _tensor_rows(shard: ShardPlan) -> Iterator[dict[str, Any]]:
    return map(_tensor_row, shard.items)


def _tensor_row(item: WriteItem) -> dict[str, Any]:
    return {
        "name": item.target.name,
        "dtype": item.target.dtype,
        "shape": item.target.shape,
        "data_offsets": item.target.data_offsets,
        "source": item.source,
        "pieces": [(piece.filename, piece.start, piece.stop) for piece in item.pieces],
        "transform": _transform_json(item.transform),
    }


def _transform_json(transform: Transform) -> Any:
    match transform:
        case None:
            return None
        case Zero():
            return "zero"
        case Scale(factor, offset):
            return {"scale": factor, "offset": offset}
        case Gather(sources=sources):
            return {"gather": list(sources)}
