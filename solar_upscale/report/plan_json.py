"""A plan as JSON values, for programs."""

from typing import Any

from solar_upscale.plan.transform import Gather, Scale, Transform, Zero
from solar_upscale.plan.types import ShardPlan, Summary, UpscalePlan
from solar_upscale.report.output_files import REPORT_NAMES

__all__ = ["plan_json"]


def plan_json(plan: UpscalePlan) -> dict[str, Any]:
    """The whole plan as JSON values: every output tensor with the source bytes it is made of."""
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
        "shards": [_shard_json(shard) for shard in plan.shards],
        "sidecars": [file.name for file in plan.sidecars],
        "documents": [*plan.model_files, *REPORT_NAMES],
        "dropped": dict(plan.dropped),
        "left_behind": dict(plan.left_behind),
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
        "tensors": [
            {
                "name": item.target.name,
                "dtype": item.target.dtype,
                "shape": list(item.target.shape),
                "data_offsets": list(item.target.data_offsets),
                "source": item.source,
                "pieces": [[piece.filename, piece.start, piece.stop] for piece in item.pieces],
                "transform": _transform_json(item.transform),
            }
            for item in shard.items
        ],
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
