"""Reports as text: a plan, a checkpoint, a verification. Pure functions; printing and colour are decided by cli/."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from solar_upscale.architecture import FieldChange
from solar_upscale.errors import printable
from solar_upscale.layer_map import terminal_map
from solar_upscale.plan import ShardPlan, UpscalePlan

if TYPE_CHECKING:
    from solar_upscale.recipe import Recipe

__all__ = [
    "count_text",
    "counted",
    "nbytes_text",
    "plan_report",
    "recipes_json",
    "recipes_report",
    "rows_text",
    "value_text",
    "written_report",
]

# How many lines a list of files or fields may take before the rest is only counted.
MAX_ROWS = 12


def plan_report(plan: UpscalePlan, *, width: int = 80, colour: bool = False, encoding: str = "utf-8") -> str:
    """What a plan would write, for a person: sizes before and after, the layer map, config changes, files, warnings."""
    before, after = plan.before, plan.after
    sizes = [
        ("layers", str(before.layers), str(after.layers)),
        ("parameters", count_text(before.parameters), count_text(after.parameters)),
        ("weights", nbytes_text(before.nbytes), nbytes_text(after.nbytes)),
        ("memory in bf16", nbytes_text(before.bf16_nbytes), nbytes_text(after.bf16_nbytes)),
        ("KV cache a token", _optional_nbytes(before.kv_cache_nbytes), _optional_nbytes(after.kv_cache_nbytes)),
    ]
    sections = [
        _heading(plan),
        rows_text((name, f"{left} -> {right}") for name, left, right in sizes),
        terminal_map(plan.pattern, factors=plan.factors, width=width, colour=colour, encoding=encoding).rstrip("\n"),
        _titled("config.json", (_change_row(change) for change in plan.change.changes)),
        _titled("shards", _shard_rows(plan)),
        _titled("comes along", [(", ".join(file.name for file in plan.sidecars) or "nothing",)], width=width),
        _titled("left behind", ((name, reason) for name, reason in plan.left_behind.items())),
        _titled("dropped tensors", _dropped_rows(plan.dropped)),
        "\n".join(_wrapped(f"warning: {printable(warning)}", width) for warning in plan.warnings),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def written_report(
    plan: UpscalePlan,
    where: str,
    moved: Mapping[str, int],
    *,
    width: int = 80,
    colour: bool = False,
    encoding: str = "utf-8",
) -> str:
    """What was done, for a person: the layer map, and how the bytes came to be there."""
    ways = (
        ", ".join(f"{nbytes_text(nbytes)} {way}" for way, nbytes in moved.items() if nbytes) or "it was there already"
    )
    before, after = plan.before, plan.after
    rows = [
        ("layers", f"{before.layers} -> {after.layers}"),
        ("parameters", f"{count_text(before.parameters)} -> {count_text(after.parameters)}"),
        ("weights", f"{nbytes_text(plan.total_size)} in {counted(len(plan.shards), 'file')}: {ways}"),
        ("written to", where),
    ]
    picture = terminal_map(plan.pattern, factors=plan.factors, width=width, colour=colour, encoding=encoding).rstrip(
        "\n"
    )
    return f"{_heading(plan)}\n\n{picture}\n\n{rows_text(rows)}\n"


def recipes_json(recipes: "Iterable[Recipe]") -> list[dict[str, Any]]:
    """The recipes as JSON values."""
    return [
        {
            "name": recipe.name,
            "source": recipe.source,
            "layers": list(recipe.layers),
            "init": recipe.init,
            "published": asdict(recipe.published) if recipe.published else None,
        }
        for recipe in recipes
    ]


def recipes_report(recipes: "Iterable[Recipe]") -> str:
    """One row a recipe: its name, its source, depth and parameters before and after."""
    table = [("name", "source", "layers", "parameters", "init")]
    for recipe in recipes:
        facts = recipe.published
        layers = f"{facts.source_layers} -> {facts.target_layers}" if facts else ""
        parameters = ""
        if facts and facts.source_parameters and facts.target_parameters:
            parameters = f"{_billions(facts.source_parameters)} -> {_billions(facts.target_parameters)}"
        table.append((recipe.name, recipe.source or "", layers, parameters, recipe.init or "copy"))
    return rows_text(table, indent="", most=None) + "\n"


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B"


def rows_text(rows: Iterable[Sequence[str]], *, indent: str = "  ", most: int | None = MAX_ROWS) -> str:
    """Rows with their columns aligned; more than ``most`` are cut and counted."""
    table = [[printable(cell) for cell in row] for row in rows]
    shown = table if most is None or len(table) <= most else table[: most - 1]
    widths = [max((len(row[column]) for row in shown if column < len(row) - 1), default=0) for column in range(8)]
    lines = [
        indent
        + "  ".join(cell.ljust(widths[column]) if column < len(row) - 1 else cell for column, cell in enumerate(row))
        for row in shown
    ]
    if len(table) > len(shown):
        lines.append(f"{indent}... and {len(table) - len(shown)} more")
    return "\n".join(line.rstrip() for line in lines)


def counted(count: int, what: str) -> str:
    """A number with its noun: "1 shard", "2 shards"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def nbytes_text(nbytes: int) -> str:
    """A size in decimal units, as disks and the Hub count: 14.48 GB."""
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{nbytes} bytes" if unit == "bytes" else f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def count_text(count: int) -> str:
    """A number of parameters as people say it, and exactly: 10.73 B (10,731,524,096)."""
    if count < 1000:
        return str(count)
    size = float(count)
    for unit in ("K", "M", "B"):
        size /= 1000
        if size < 1000:
            return f"{size:.4g} {unit} ({count:,})"
    return f"{size / 1000:.4g} T ({count:,})"


def _heading(plan: UpscalePlan) -> str:
    revision = f" at {plan.job.revision[:12]}" if plan.job.revision else ""
    words = " ".join(f'"{entry}"' for entry in plan.job.layers)
    if len(words) > 60:
        words = f"{len(plan.job.layers)} entries"
    start = "" if plan.job.init == "copy" else f", init {plan.job.init}"
    return printable(f"{plan.job.source}{revision}: {plan.stack.name}, layers {words}{start}")


def _optional_nbytes(nbytes: int | None) -> str:
    return "unknown" if nbytes is None else nbytes_text(nbytes)


def value_text(value: Any) -> str:
    """A config value on one line; a long one is cut."""
    if value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 60:
        return text
    return f"{text[:50]}... ({len(value)} entries)" if isinstance(value, list | dict) else f"{text[:57]}..."


def _change_row(change: FieldChange) -> tuple[str, str]:
    return change.path, f"{value_text(change.before)} -> {value_text(change.after)}  ({change.reason})"


def _shard_rows(plan: UpscalePlan) -> Iterable[tuple[str, ...]]:
    for shard in plan.shards:
        yield shard.filename, nbytes_text(shard.nbytes), f"from {_sources_text(shard)}"
    yield (
        "in all",
        nbytes_text(plan.nbytes),
        f"{nbytes_text(plan.clonable_nbytes)} can be cloned where blocks are shared",
    )


def _sources_text(shard: ShardPlan) -> str:
    names = sorted({piece.filename for item in shard.items for piece in item.pieces})
    return names[0] if len(names) == 1 else f"{len(names)} source shards"


def _dropped_rows(dropped: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """One row a reason, not one a tensor."""
    reasons: dict[str, int] = {}
    for reason in dropped.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    return ((f"{count} tensors", reason) for reason, count in reasons.items())


def _titled(title: str, rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    text = rows_text(rows) if width is None else "\n".join(_wrapped(f"  {printable(row[0])}", width) for row in rows)
    return f"{title}\n{text}" if text else ""


def _wrapped(text: str, width: int) -> str:
    """Text broken at spaces, every line set in as the first one is."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(
        text.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent or "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
