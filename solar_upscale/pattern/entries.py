"""Resolves what the user wrote to source layers: the public functions of the layer index language.

An entry is an integer or a text; a pattern is a sequence of entries. Texts are evaluated in functions.py.
"""

import operator
import reprlib
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import groupby
from typing import NamedTuple

from solar_upscale.errors import PatternError
from solar_upscale.pattern import guess
from solar_upscale.pattern.functions import evaluate
from solar_upscale.pattern.interpreter import MAX_ITEMS, Budget, OneShot, Value
from solar_upscale.pattern.layer_pattern import LayerPattern
from solar_upscale.request import Layers, entry_text
from solar_upscale.text import shortened

__all__ = ["entry_warnings", "parse_layers", "repeat_every", "resolve_entries", "resolve_layer_indices"]

MAX_ENTRIES = 10_000
MAX_TARGET_LAYERS = MAX_ITEMS
_SHOWN_ENTRIES = 5
_SHOWN_TEXT = 120


def parse_layers(layers: Layers, num_layers: int, *, where: str = "--layers") -> LayerPattern:
    """Return the pattern that ``layers`` describes for a model of ``num_layers`` layers.

    Args:
        layers: integers, texts such as ``"range(0,24)"`` or ``"0:24"``, or a mix; a single one need not be in a list.
        num_layers: depth of the source (layers); ``n`` and ``num_layers`` in a text.
        where: prefix of messages: where the user wrote the pattern.

    Raises:
        PatternError: an entry is malformed, yields nothing or names a layer that does not exist.
    """
    found = resolve_entries(layers, num_layers, where=where)
    return LayerPattern(tuple(source for sources in found for source in sources), operator.index(num_layers))


def resolve_layer_indices(layers: Layers, num_layers: int) -> list[int]:
    """Return the source layer of each target layer (layers, from 0; negative indices are resolved).

    Raises:
        PatternError: an entry is malformed, yields nothing or names a layer that does not exist.
    """
    return list(parse_layers(layers, num_layers, where="layers").sources)


def resolve_entries(layers: Layers, num_layers: int, *, where: str = "--layers") -> tuple[tuple[int, ...], ...]:
    """Return the source layers of each entry of ``layers``, for callers with data for each entry, such as a scale.

    Raises:
        PatternError: an entry is malformed, yields nothing or names a layer that does not exist.
    """
    depth = _depth(num_layers)
    budget = Budget()
    found: list[_Found] = []
    total = 0
    for entry in _entries(layers, where):
        found.append(_resolve(entry, depth, budget, where))
        total += len(found[-1].sources)
        if len(found) > MAX_ENTRIES:
            raise PatternError(f"{where}: has more than {MAX_ENTRIES:,} entries")
        if total > MAX_TARGET_LAYERS:
            raise PatternError(f"{where}: names more than {MAX_TARGET_LAYERS:,} target layers")
    if not found:
        raise PatternError(f'{where}: names no layer; write at least one entry, such as "0:{depth}"')
    outside = [result for result in found if result.outside]
    if outside:
        raise PatternError(_outside_message(outside, depth, budget, where))
    return tuple(tuple(source % depth for source in result.sources) for result in found)


def repeat_every(every: int) -> str:
    """Return the entry in which each ``every``-th layer is followed by its repeat, as LLaMA-Pro's blocks are expanded.

    Raises:
        PatternError: ``every`` is not a positive integer.
    """
    step = _integer(every)
    if step is None or step < 1:
        raise PatternError(f"repeat_every: expected a positive integer, got {_shown(every)}")
    return f"sorted([*range(n), *range({step - 1}, n, {step})])"


def entry_warnings(entries: Sequence[str | int]) -> Sequence[str]:
    """What sound entries probably do not mean: lists of two layers where all of them look like mergekit's ranges."""
    ranges = [(entry, meant) for entry in entries if (meant := guess.layer_range(entry))]
    if not ranges or len(ranges) < len(entries):
        return ()
    entry, meant = ranges[0]
    start, stop = meant.split(":")
    return (
        f'"{shortened(str(entry))}" is a list of two layers, {start} and {stop}; for what layer_range means in '
        f"mergekit write {' '.join(slice_text for _, slice_text in ranges[:_SHOWN_ENTRIES])}",
    )


class _Found(NamedTuple):
    """The layers of one entry, as written, and those among them that the model does not have."""

    entry: str | int
    sources: Sequence[int]
    outside: Sequence[int]


def _depth(num_layers: object) -> int:
    depth = _integer(num_layers)
    if depth is None or depth < 1:
        raise PatternError(f"num_layers: expected a positive integer, got {_shown(num_layers)}")
    return depth


def _integer(value: object) -> int | None:
    """``value`` as an int if it is an integer, numpy's included; None for anything else, and for a bool."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several numbers has the method but raises
        return None


def _has_integer_bounds(entry: slice) -> bool:
    return all(bound is None or _integer(bound) is not None for bound in (entry.start, entry.stop, entry.step))


def _entries(layers: object, where: str) -> Iterable[object]:
    if isinstance(layers, str | slice | range) or _integer(layers) is not None:
        return (layers,)
    # OmegaConf's ListConfig and numpy's arrays are not registered as Sequence, so check for the methods.
    unordered = isinstance(layers, Mapping | Set | bytes | bytearray)
    if not unordered and isinstance(layers, Iterable) and hasattr(layers, "__getitem__"):
        return layers
    raise PatternError(f'{where}: expected a list of integers and texts such as "0:24", got {_shown(layers)}')


def _resolve(entry: object, depth: int, budget: Budget, where: str) -> _Found:
    index = _integer(entry)
    if index is not None:
        return _Found(index, (index,), () if -depth <= index < depth else (index,))
    if isinstance(entry, range) or (isinstance(entry, slice) and _has_integer_bounds(entry)):
        entry = entry_text(entry)
    if isinstance(entry, str):
        return _resolve_text(entry, depth, budget, f"{where} {_shown(entry)}")
    meant = guess.entry_as_text(entry)
    advice = f'; did you mean "{meant}"?' if meant else ""
    raise PatternError(
        f"{where} {_shown(entry)}: an entry is an integer, text or range, not {_kind(entry)}; {_has(depth)}{advice}"
    )


def _resolve_text(text: str, depth: int, budget: Budget, where: str) -> _Found:
    if meant := guess.dash_as_slice(text, depth):
        meant = shortened(meant, _SHOWN_TEXT)
        raise PatternError(f'{where}: is not a range; did you mean "{meant}" (the second number is not included)?')
    sources: list[int] = []
    outside: list[int] = []
    for part in _evaluate(text, depth, budget, where):
        if isinstance(part, slice):
            named, missing = _slice_layers(part, depth, where)
        else:
            named = _value_layers(part, depth, where)
            missing = [index for index in named if not -depth <= index < depth]
        if not named and not missing and isinstance(part, slice | range):
            raise PatternError(f"{where}: yields no layer; {_has(depth)}{_advice(guess.forwards(text), depth, budget)}")
        sources.extend(named)
        outside.extend(missing)
        if len(sources) > MAX_TARGET_LAYERS:
            raise PatternError(f"{where}: names more than {MAX_TARGET_LAYERS:,} target layers")
    if not sources and not outside:
        raise PatternError(f"{where}: yields no layer; {_has(depth)}{_advice(guess.forwards(text), depth, budget)}")
    return _Found(text, sources, outside)


def _evaluate(text: str, depth: int, budget: Budget, where: str) -> Sequence[slice | Value]:
    """The parts of a text; entries that share one text for want of quotes are named one by one."""
    try:
        return evaluate(text, num_layers=depth, budget=budget, where=where)
    except PatternError as error:
        words = guess.separate_entries(text)
        if words is None or not all(_resolves(word, depth, budget) for word in words):
            raise
        quoted = " ".join(f'"{word}"' for word in words)
        raise PatternError(f"{where}: holds {len(words)} entries; quote each by itself: {quoted}") from error


def _slice_layers(part: slice, depth: int, where: str) -> tuple[Sequence[int], Sequence[int]]:
    """The layers of ``part``, and those outside the model as the user would write them. Nothing is clamped.

    The bounds themselves must be in the model, even if a step would skip the missing layers.
    """
    step = 1 if part.step is None else part.step
    first, last = (0, depth) if step > 0 else (depth - 1, -1)
    start = first if part.start is None else part.start + (depth if part.start < 0 else 0)
    stop = last if part.stop is None else part.stop + (depth if part.stop < 0 else 0)
    layers = range(start, stop, step)
    _check_length(layers, where)
    outside = [layer if layer >= 0 else layer - depth for layer in layers if not 0 <= layer < depth]
    bounds = [(part.start, 0), (part.stop, 1 if step > 0 else -1)]
    beyond = [
        bound - inside if bound > 0 else bound
        for bound, inside in bounds
        if bound is not None and not -depth <= bound <= depth
    ]
    return layers, outside or beyond


def _value_layers(value: Value, depth: int, where: str) -> Sequence[int]:
    """The indices that ``value`` holds; every one must be an integer."""
    if isinstance(value, set):
        raise PatternError(f"{where}: is a set, which has no order; write sorted(...) around it; {_has(depth)}")
    if isinstance(value, int | float):
        value = [value]
    elif isinstance(value, OneShot):
        value = list(value.items)
    _check_length(value, where)
    if isinstance(value, range):
        return value
    indices: list[int] = []
    for index in value:
        if isinstance(index, bool) or not isinstance(index, int):
            raise PatternError(f"{where}: {_refused_item(index)}; {_has(depth)}")
        indices.append(index)
    return indices


def _check_length(value: Sequence[object], where: str) -> None:
    if len(value) > MAX_TARGET_LAYERS:
        raise PatternError(f"{where}: names {len(value):,} target layers; at most {MAX_TARGET_LAYERS:,} are allowed")


def _refused_item(item: Value) -> str:
    """Why ``item`` in the result of a text is not a layer, and what to write instead."""
    if isinstance(item, bool):
        return f"yields {item}, a bool, where a layer is needed; write {int(item)} if the layer is meant"
    if isinstance(item, float):
        return f"yields {item}, a float, where a layer is needed; use // to divide, or int(...)"
    return "yields a sequence inside a sequence; write separate entries, or unpack: [*range(0,4), *range(2,6)]"


def _outside_message(outside: Sequence[_Found], depth: int, budget: Budget, where: str) -> str:
    """The message for all entries with layers that do not exist."""
    problems = [f"{_shown(result.entry)}: {_do_not_exist(result.outside)}" for result in outside[:_SHOWN_ENTRIES]]
    if len(outside) > _SHOWN_ENTRIES:
        problems.append(f"and {len(outside) - _SHOWN_ENTRIES:,} more entries")
    meant = []
    for result in outside[:_SHOWN_ENTRIES]:
        texts = guess.within_depth(result.entry, depth)
        meant.extend([f'"{text}"' for text in texts if _resolves(text, depth, budget)][:1])
    advice = f"; did you mean {' '.join(meant)}?" if meant else ""
    return f"{where} {'; '.join(problems)}; {_has(depth)}{advice}"


def _do_not_exist(layers: Sequence[int]) -> str:
    """``layers`` in words, with consecutive ones as "8 to 15"."""
    distinct = sorted(set(layers))
    runs = [list(run) for _, run in groupby(enumerate(distinct), lambda pair: pair[1] - pair[0])]
    words = []
    for run in runs[:_SHOWN_ENTRIES]:
        first, last = _number(run[0][1]), _number(run[-1][1])
        words.append(first if len(run) == 1 else f"{first} {'and' if len(run) == 2 else 'to'} {last}")
    more = " and more" if len(runs) > _SHOWN_ENTRIES else ""
    if len(distinct) == 1:
        return f"source layer {words[0]} does not exist"
    return f"source layers {', '.join(words)}{more} do not exist"


def _advice(texts: Iterable[str], depth: int, budget: Budget) -> str:
    meant = next((text for text in texts if _resolves(text, depth, budget)), None)
    return f'; did you mean "{meant}"?' if meant else ""


def _resolves(text: str, depth: int, budget: Budget) -> bool:
    """Whether ``text`` is a valid entry: a suggestion must not be refused itself."""
    try:
        return len(text) <= _SHOWN_TEXT and not _resolve_text(text, depth, budget, "").outside
    except PatternError:
        return False


def _has(depth: int) -> str:
    return "the model has 1 layer (0)" if depth == 1 else f"the model has {depth} layers (0 to {depth - 1})"


def _kind(value: object) -> str:
    if value is None:
        return "None (null in YAML)"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _number(value: int) -> str:
    """``value`` in digits, or its size in bits if it has more digits than Python prints."""
    return (
        str(value) if value.bit_length() <= 64 else f"{'-' if value < 0 else ''}(a number of {value.bit_length()} bits)"
    )


def _shown(value: object) -> str:
    """``value`` as the user wrote it, truncated for a message."""
    if isinstance(value, str):
        return f'"{shortened(value)}"'
    index = _integer(value)
    if index is not None:
        return _number(index)
    try:
        return shortened(reprlib.repr(value))
    except ValueError:  # it contains a number with more digits than Python prints
        return _kind(value)
