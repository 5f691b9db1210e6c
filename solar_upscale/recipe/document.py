"""Untrusted YAML as plain values with line numbers. The keys are interpreted in dialects.py.

Only what a recipe needs is supported: mappings with text keys, lists, text, integers, decimals, true, false, null.
Tags, anchors and aliases, duplicate keys, several documents, and files of absurd size, depth or length are refused from
the parser's events, before any value is built.

Scalars follow YAML 1.2, not 1.1, where ``8:32`` is the number 512, ``010`` is 8 and ``no`` is false: an unquoted range
stays text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import yaml

from solar_upscale.errors import PatternError

__all__ = ["Node", "read_document"]

MAX_DEPTH = 16  # a mergekit file with filters is 8 deep
MAX_EVENTS = 100_000  # a pattern's maximum of 10,000 entries, each with a factor, takes 60,000

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the document and its location, as ``file:line``."""

    value: "Scalar | list[Node] | dict[str, Node]"
    where: str

    def __str__(self) -> str:
        """The value as shown in messages."""
        match self.value:
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case str(text):
                return f'"{text}"' if len(text) <= 80 else f'"{text[:80]}..."'
            case None:
                return "null"
            case bool(truth):
                return str(truth).lower()
            case number:
                return str(number)


def read_document(text: str, filename: str) -> Node:
    """Parse a YAML text that holds one document.

    Raises:
        PatternError: the text is not YAML, holds no or several documents, or uses an unsupported feature.
    """
    events = _Events(text, filename)
    events.take(yaml.StreamStartEvent)
    if isinstance(events.next(), yaml.StreamEndEvent):
        raise PatternError(f"{filename}: the file is empty; expected a recipe")
    root = _value(events, events.next())
    events.take(yaml.DocumentEndEvent)
    if not isinstance(last := events.next(), yaml.StreamEndEvent):
        raise PatternError(f"{events.where(last)}: a second document begins; expected one recipe per file")
    return root


_E = TypeVar("_E", bound=yaml.Event)


class _Events:
    """The parser's events one by one, each checked for unsupported features before it is returned."""

    def __init__(self, text: str, filename: str) -> None:
        self._filename = filename
        self._events = self._checked(text)

    def next(self) -> yaml.Event:
        return next(self._events)

    def take(self, kind: type[_E]) -> _E:
        event = self.next()
        assert isinstance(event, kind), event  # the parser's grammar
        return event

    def where(self, event: yaml.Event) -> str:
        assert event.start_mark is not None  # the parser marks every event
        return f"{self._filename}:{event.start_mark.line + 1}"

    def _checked(self, text: str) -> Iterator[yaml.Event]:
        depth = 0
        for count, event in enumerate(self._parsed(text)):
            if count >= MAX_EVENTS:
                raise PatternError(
                    f"{self.where(event)}: too long for a recipe; at most {MAX_EVENTS:,} YAML items are allowed"
                )
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise PatternError(
                        f"{self.where(event)}: nested too deeply; at most {MAX_DEPTH} levels are allowed"
                    )
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
                mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
                found = f"{mark}{event.anchor[:80]}"
                raise PatternError(
                    f"{self.where(event)}: {found}: anchors and aliases are not supported; write the value out"
                )
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise PatternError(f"{self.where(event)}: tag {tag[:80]} is not supported; write the plain value")
            yield event

    def _parsed(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark is not None else 1
            raise PatternError(f"{self._filename}:{line}: not YAML: {(error.problem or '')[:200]}") from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise PatternError(f"{self._filename}:{line}: not YAML: {error.reason}") from error
        except (ValueError, OverflowError) as error:  # the scanner passes "\UFFFFFFFF" to chr and long versions to int
            raise PatternError(f"{self._filename}: not YAML: {error}") from error


def _value(events: _Events, event: yaml.Event) -> Node:
    """Build the value that starts with ``event``; the recursion is bounded by MAX_DEPTH."""
    where = events.where(event)
    if isinstance(event, yaml.ScalarEvent):
        return Node(event.value if event.style else _resolve(event.value), where)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Node] = []
        while not isinstance(item := events.next(), yaml.SequenceEndEvent):
            items.append(_value(events, item))
        return Node(items, where)
    assert isinstance(event, yaml.MappingStartEvent), event
    fields: dict[str, Node] = {}
    while not isinstance(item := events.next(), yaml.MappingEndEvent):
        key = _value(events, item)
        if not isinstance(key.value, str):
            raise PatternError(f"{key.where}: key {key} is not text; quote it (also a range such as 8:)")
        value = _value(events, events.next())
        if key.value in fields:
            raise PatternError(f"{key.where}: duplicate key {key}; first at {fields[key.value].where}")
        fields[key.value] = value
    return Node(fields, where)


def _resolve(text: str) -> Scalar:
    """The value of an unquoted scalar. Whatever is not clearly something else is text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text
