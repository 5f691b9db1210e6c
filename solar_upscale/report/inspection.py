"""What matters about a checkpoint for changing its depth: stacks, sizes, config fields, residual-writing tensors."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

from solar_upscale.architecture import Stack, depth_fields, find_stacks, name_splitter
from solar_upscale.errors import UnsupportedError, printable
from solar_upscale.source.checkpoint import Checkpoint
from solar_upscale.start.residual import residual_writers
from solar_upscale.text import count_text, counted, nbytes_text, rows_text, value_text

__all__ = ["inspect_report", "inspection"]


def inspection(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything that ``inspect`` prints, as JSON values; sizes in bytes, the default stack first."""
    dtypes: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        dtypes[tensor.dtype] += tensor.nbytes
    return {
        "source": checkpoint.source.name,
        "revision": checkpoint.source.revision,
        "model_type": checkpoint.config.get("model_type"),
        "architectures": checkpoint.config.get("architectures"),
        "shards": len(checkpoint.shards),
        "nbytes": checkpoint.nbytes,
        "tensors": len(checkpoint.tensors),
        "parameters": sum(prod(tensor.shape) for tensor in checkpoint.tensors.values()),
        "dtypes": dict(dtypes.most_common()),
        "stacks": [_stack(checkpoint, stack) for stack in find_stacks(checkpoint.tensors, checkpoint.config)],
        "sidecars": [file.name for file in checkpoint.copied_files],
        "left_behind": dict(checkpoint.skipped_files),
        "warnings": list(checkpoint.warnings),
    }


def inspect_report(found: Mapping[str, Any]) -> str:
    """The inspection as text."""
    dtypes = ", ".join(f"{dtype} {nbytes_text(nbytes)}" for dtype, nbytes in found["dtypes"].items())
    named = found["architectures"]
    kind = ", ".join(map(str, named)) if isinstance(named, list) and named else "no architectures listed"
    lines = [
        f"{found['source']}: {found['model_type']} ({kind})",
        rows_text(
            [
                ("parameters", count_text(found["parameters"])),
                ("weights", f"{nbytes_text(found['nbytes'])} in {counted(found['shards'], 'shard')}: {dtypes}"),
                *([("revision", found["revision"])] if found["revision"] else []),
            ]
        ),
    ]
    for position, stack in enumerate(found["stacks"]):
        default = " (default)" if position == 0 and len(found["stacks"]) > 1 else ""
        lines.append(f"stack {stack['name']}{default}: {counted(stack['layers'], 'layer')}, {stack['role']}")
        rows = [
            ("each layer", f"{nbytes_text(low)}" if low == high else f"{nbytes_text(low)} to {nbytes_text(high)}")
            for low, high in [(min(stack["layer_nbytes"]), max(stack["layer_nbytes"]))]
        ]
        rows += [(field["path"], f"{value_text(field['value'])}  ({field['treatment']})") for field in stack["fields"]]
        writers = stack["residual_writers"]
        rows.append(("writes to residual", ", ".join(writers) if writers else "not known; only --init copy works"))
        lines.append(rows_text(rows))
    lines += [f"warning: {warning}" for warning in found["warnings"]]
    return "\n".join(printable(line) for text in lines for line in text.split("\n")) + "\n"


def _stack(checkpoint: Checkpoint, stack: Stack) -> dict[str, Any]:
    split = name_splitter(stack.prefixes)
    nbytes = [0] * stack.num_layers
    for name, tensor in checkpoint.tensors.items():
        parts = split(name)
        if parts is not None and parts[1] < stack.num_layers:
            nbytes[parts[1]] += tensor.nbytes
    writers, refusal = _writers(checkpoint, stack)
    return {
        "name": stack.name,
        "role": stack.role,
        "layers": stack.num_layers,
        "layer_nbytes": nbytes,
        "fields": [
            {"path": field.path, "value": field.value, "treatment": field.treatment}
            for field in depth_fields(checkpoint.config, stack)
        ],
        "residual_writers": writers,
        "residual_refusal": refusal,
    }


def _writers(checkpoint: Checkpoint, stack: Stack) -> tuple[list[str], str | None]:
    """The paths within a layer of the tensors that write to the residual stream, or why they are not known."""
    split = name_splitter(stack.prefixes)
    try:
        found = residual_writers(checkpoint.config, checkpoint.tensors, stack, range(stack.num_layers))
    except UnsupportedError as error:
        return [], str(error)
    split_names = (split(name) for rules in found.values() for name in rules)
    return sorted({parts[2].lstrip(".") for parts in split_names if parts is not None}), None
