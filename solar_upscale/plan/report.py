"""Text reports on a plan: what would be written, and what was. Pure functions; cli/ prints and decides on colour."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from solar_upscale.architecture import FieldChange
from solar_upscale.errors import printable
from solar_upscale.plan.layer_map.runs import ranges_text
from solar_upscale.plan.layer_map.terminal import terminal_map
from solar_upscale.plan.types import LAYER_NOT_USED, ShardPlan, UpscalePlan
from solar_upscale.text import count_text, counted, nbytes_text, rows_text, seconds_text, value_text

__all__ = [
    "job_report",
    "plan_report",
    "written_report",
]


def plan_report(
    plan: UpscalePlan, output: str | None = None, *, width: int = 80, colour: bool = False, encoding: str = "utf-8"
) -> str:
    """What a plan would write, as text: sizes before and after, the layer map, config changes, files and warnings.

    ``output`` is the folder to write and what is there now, or None if no folder was named.
    """
    before, after = plan.before, plan.after
    sizes = [
        ("layers", str(before.layers), str(after.layers)),
        ("parameters", count_text(before.parameters), count_text(after.parameters)),
        ("weights", nbytes_text(before.nbytes), nbytes_text(after.nbytes)),
        ("memory in bf16", nbytes_text(before.bf16_nbytes), nbytes_text(after.bf16_nbytes)),
        ("KV cache per token", _optional_nbytes(before.kv_cache_nbytes), _optional_nbytes(after.kv_cache_nbytes)),
    ]
    sections = [
        _heading(plan),
        rows_text((name, f"{left} -> {right}") for name, left, right in sizes),
        terminal_map(plan.pattern, factors=plan.factors, width=width, colour=colour, encoding=encoding).rstrip("\n"),
        _titled("config.json", (_change_row(change) for change in plan.change.changes)),
        _titled("shards", _shard_rows(plan)),
        _titled("copied", [(", ".join(file.name for file in plan.copied_files) or "nothing",)], width=width),
        _titled("skipped", ((name, reason) for name, reason in plan.skipped_files.items())),
        _titled("dropped", _dropped_rows(plan)),
        _titled("output", [] if output is None else [(output,)]),
        "\n".join(_wrapped(f"warning: {printable(warning)}", width) for warning in plan.warnings),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def job_report(
    plan: UpscalePlan, output: str, state: str, *, width: int = 80, colour: bool = False, encoding: str = "utf-8"
) -> str:
    """What is about to be written, as text: the layer map, sizes, and the folder ``output`` with its ``state``."""
    before, after = plan.before, plan.after
    rows = [
        ("layers", f"{before.layers} -> {after.layers}"),
        ("parameters", f"{count_text(before.parameters)} -> {count_text(after.parameters)}"),
        ("weights", f"{nbytes_text(plan.total_size)} in {counted(len(plan.shards), 'file')}"),
        ("output", f"{output}: {state}"),
    ]
    picture = terminal_map(plan.pattern, factors=plan.factors, width=width, colour=colour, encoding=encoding)
    return f"{_heading(plan)}\n\n{picture.rstrip()}\n\n{rows_text(rows)}\n"


def written_report(where: str, moved: Mapping[str, int], seconds: float) -> str:
    """What was done, for a person: how the bytes came to be there, and how long it took."""
    ways = ", ".join(f"{nbytes_text(nbytes)} {way}" for way, nbytes in moved.items() if nbytes)
    return f"{where}: written in {seconds_text(seconds)}: {ways}\n" if ways else f"{where}: was there already\n"


def _heading(plan: UpscalePlan) -> str:
    revision = f" at {plan.source.revision[:12]}" if plan.source.revision else ""
    words = " ".join(f'"{entry}"' for entry in plan.request.entries)
    if len(words) > 60:
        words = f"{len(plan.request.entries)} entries"
    start = "" if plan.request.init == "copy" else f", init {plan.request.init}"
    return printable(f"{plan.source.name}{revision}: {plan.stack.name}, layers {words}{start}")


def _optional_nbytes(nbytes: int | None) -> str:
    return "unknown" if nbytes is None else nbytes_text(nbytes)


def _change_row(change: FieldChange) -> tuple[str, str]:
    return change.path, f"{value_text(change.before)} -> {value_text(change.after)}  ({change.reason})"


def _shard_rows(plan: UpscalePlan) -> Iterable[tuple[str, ...]]:
    for shard in plan.shards:
        yield shard.filename, nbytes_text(shard.nbytes), f"from {_sources_text(shard)}"
    yield (
        "total",
        nbytes_text(sum(shard.nbytes for shard in plan.shards)),
        f"{nbytes_text(plan.clonable_nbytes)} can be cloned on a file system that shares blocks",
    )


def _sources_text(shard: ShardPlan) -> str:
    names = shard.source_filenames
    return names[0] if len(names) == 1 else f"{len(names)} source shards"


def _dropped_rows(plan: UpscalePlan) -> Iterable[tuple[str, str]]:
    """Layers by their numbers; of other tensors one row per reason."""
    counts = Counter(plan.dropped.values())
    if plan.pattern.dropped:
        tensors = counted(counts.pop(LAYER_NOT_USED, 0), "tensor")
        yield ranges_text(plan.pattern.dropped), f"not in the pattern ({tensors})"
    yield from ((counted(count, "tensor"), reason) for reason, count in counts.items())


def _titled(title: str, rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    text = rows_text(rows) if width is None else "\n".join(_wrapped(f"  {printable(row[0])}", width) for row in rows)
    return f"{title}\n{text}" if text else ""


def _wrapped(text: str, width: int) -> str:
    """Text broken at spaces, every line indented like the first."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(
        text.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent or "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
