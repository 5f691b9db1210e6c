"""JSON from files that are not trusted, parsed strictly and within bounds."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from solar_upscale.errors import CheckpointError

__all__ = ["parse_json"]

# Bounds on what their JSON may hold: values cost far more memory than text, and nothing real is deep.
MAX_JSON_CONTAINERS = 200_000


MAX_JSON_VALUES = 500_000


MAX_JSON_DEPTH = 64


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8 that can be written again, no name twice, neither huge nor deep.

    Raises:
        CheckpointError: it is anything else; ``where`` names the file.
    """
    if text.count(b"{") + text.count(b"[") > MAX_JSON_CONTAINERS:
        raise CheckpointError(f"{where}: holds more than {MAX_JSON_CONTAINERS} lists and objects; that is the limit")
    if text.count(b",") > MAX_JSON_VALUES:
        raise CheckpointError(f"{where}: holds more than {MAX_JSON_VALUES} values; that is the limit")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # an escape can spell half a character
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise CheckpointError(f"{where}: not UTF-8: {error.reason} at {error.start}") from error
    except RecursionError as error:
        raise CheckpointError(f"{where}: nested more than {MAX_JSON_DEPTH} deep; that is the limit") from error
    except ValueError as error:
        raise CheckpointError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object, got {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [each for parent in level for each in _children(parent) if isinstance(each, dict | list)]
    if level:
        raise CheckpointError(f"{where}: nested more than {MAX_JSON_DEPTH} deep; that is the limit")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice[:80]!r} stands twice in one object")
    return value


def _children(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
