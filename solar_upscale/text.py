"""Values as people read them: sizes, counts, tables. Pure functions of their arguments."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from solar_upscale.errors import printable

__all__ = ["count_text", "counted", "nbytes_text", "rows_text", "value_text"]

# How many lines a list of files or fields may take before the rest is only counted.
MAX_ROWS = 12


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


def value_text(value: Any) -> str:
    """A config value on one line; a long one is cut."""
    if value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 60:
        return text
    return f"{text[:50]}... ({len(value)} entries)" if isinstance(value, list | dict) else f"{text[:57]}..."
