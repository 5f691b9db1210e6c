"""JSON: parsed strictly and within limits from untrusted files, and formatted for people and programs."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from solar_upscale.errors import CheckpointError

__all__ = ["json_bytes", "json_pieces", "parse_json", "unique_keys"]

# Limits on untrusted JSON: Python values take far more memory than text, and no real file is deeply nested.
MAX_JSON_CONTAINERS = 200_000
MAX_JSON_VALUES = 500_000
MAX_JSON_DEPTH = 64


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8 that can be encoded again, without duplicate names, within the limits.

    Raises:
        CheckpointError: it is anything else; the message starts with ``where``.
    """
    if text.count(b"{") + text.count(b"[") > MAX_JSON_CONTAINERS:
        raise CheckpointError(f"{where}: exceeds the limit of {MAX_JSON_CONTAINERS} lists and objects")
    if text.count(b",") > MAX_JSON_VALUES:
        raise CheckpointError(f"{where}: exceeds the limit of {MAX_JSON_VALUES} values")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # an escape can spell half a character
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise CheckpointError(f"{where}: not UTF-8: {error.reason} at {error.start}") from error
    except RecursionError as error:
        raise CheckpointError(f"{where}: exceeds the limit of {MAX_JSON_DEPTH} nested levels") from error
    except ValueError as error:
        raise CheckpointError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object, got {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [each for parent in level for each in _children(parent) if isinstance(each, dict | list)]
    if level:
        raise CheckpointError(f"{where}: exceeds the limit of {MAX_JSON_DEPTH} nested levels")
    return value


def json_bytes(value: Any) -> bytes:
    """JSON as this project writes it: indented by two spaces, unescaped UTF-8, keys in order, one final newline."""
    return (_indented(value, "\n") + "\n").encode()


def _indented(value: Any, line: str) -> str:
    """``json.dumps(value, indent=2, ensure_ascii=False)`` for text keys, several times as fast.

    Python's C encoder does not indent, but in a container of plain values the separator can break the line. ``line`` is
    the line break and indentation before the value's closing bracket.
    """
    inner = f"{line}  "
    separator = f",{inner}"
    if not value or not isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    if not any(isinstance(each, dict | list | tuple) for each in _children(value)):
        text = json.dumps(value, ensure_ascii=False, separators=(separator, ": "))
        return f"{text[0]}{inner}{text[1:-1]}{line}{text[-1]}"
    if isinstance(value, dict):
        rows = (f"{json.dumps(key, ensure_ascii=False)}: {_indented(each, inner)}" for key, each in value.items())
    else:
        rows = (_indented(each, inner) for each in value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{inner}{separator.join(rows)}{line}{closing}"


def json_pieces(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the JSON text of a report in pieces; a list of plain values stays on one line.

    An iterator is formatted as a list with each item on its own line, in memory that does not grow with its length.
    """
    deeper = f"{indent}  "
    if isinstance(value, dict) and value:
        rows = (chain((f"{json.dumps(key)}: ",), json_pieces(each, deeper)) for key, each in value.items())
        yield from _rows("{", rows, "}", indent)
    elif isinstance(value, Iterator):
        yield from _rows("[", ((json.dumps(each),) for each in value), "]", indent)
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        yield from _rows("[", (json_pieces(each, deeper) for each in value), "]", indent)
    else:
        yield json.dumps(value)


def _rows(opening: str, rows: Iterable[Iterable[str]], closing: str, indent: str) -> Iterator[str]:
    before = opening
    for row in rows:
        yield f"{before}\n{indent}  "
        yield from row
        before = ","
    yield opening + closing if before == opening else f"\n{indent}{closing}"


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text.

    Raises:
        ValueError: it has a name twice, which readers understand differently.
    """
    value = dict(pairs)
    if len(value) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f'"{twice[:80]}" appears twice')
    return value


def _children(value: dict[str, Any] | Sequence[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
