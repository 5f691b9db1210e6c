"""Formats sizes, counts and tables for people. Pure functions of their arguments."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from solar_upscale.errors import printable

__all__ = [
    "closest",
    "count_text",
    "counted",
    "listed",
    "nbytes_text",
    "rows_text",
    "seconds_text",
    "short_count",
    "shortened",
    "value_text",
]

# Lines of a list of files or fields; the rest are only counted.
MAX_ROWS = 12


def rows_text(rows: Iterable[Sequence[str]], *, indent: str = "  ", max_rows: int | None = MAX_ROWS) -> str:
    """Rows with their columns aligned; those beyond ``max_rows`` are only counted."""
    table = [[printable(cell) for cell in row] for row in rows]
    shown = table if max_rows is None or len(table) <= max_rows else table[: max_rows - 1]
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


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names and the number of the others: "a, b, c and 2 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def closest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice most like ``word``, whatever its case; None if none reaches ``cutoff`` (1 is equal)."""
    from difflib import get_close_matches

    by_folded = {choice.casefold(): choice for choice in choices}
    found = get_close_matches(word.casefold()[:200], by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def shortened(text: str, limit: int = 60) -> str:
    """The text, truncated with dots if it is too long for a message."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def nbytes_text(nbytes: int) -> str:
    """A size in decimal units, as disks and the Hub count: 14.48 GB."""
    if nbytes < 1000:
        return f"{nbytes} bytes"
    return _scaled(nbytes, ("kB", "MB", "GB", "TB"))


def seconds_text(seconds: float) -> str:
    """A duration: 0.3 s, 2 min 5 s, 1 h 4 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def short_count(count: int) -> str:
    """A number of parameters, rounded: 10.73 B."""
    return str(count) if count < 1000 else _scaled(count, ("K", "M", "B", "T"))


def count_text(count: int) -> str:
    """A number of parameters, rounded and exact: 10.73 B (10,731,524,096)."""
    return str(count) if count < 1000 else f"{short_count(count)} ({count:,})"


def _scaled(number: int, units: Sequence[str]) -> str:
    """A number of at least 1000 to four digits, in the largest of ``units`` (a thousand apart) that it reaches."""
    size = number / 1000
    for unit in units[:-1]:
        if size < 999.95:  # what four digits round to less than 1000
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} {units[-1]}"


def value_text(value: Any) -> str:
    """A config value on one line; a long one is cut."""
    if value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 60:
        return text
    return f"{text[:50]}... ({len(value)} entries)" if isinstance(value, list | dict) else shortened(text)
