"""Lists of module names in a quantised checkpoint's config, rewritten to the new layer numbers.

Bytes follow their layers by themselves; what names a layer is here. A regular expression is matched against the real
module names and replaced by the names it matched; it is never edited.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import comb, prod
from typing import Any

from solar_upscale.errors import UnsupportedError

__all__ = ["rewrite_module_lists"]

# Lists of plain module names: the whole name, its beginning, or a part of it, as the libraries match them.
_NAME_LISTS = (
    "modules_to_not_convert", "ignore", "llm_int8_skip_modules", "ignored_layers", "exclude", "exclude_modules",
    "modules_in_block_to_quantize_exclude", "kept_layers_idx",
)  # fmt: skip
_NAME_DICTS = ("dynamic", "module_dtypes", "layer_quant_config", "extra_config")

# Steps of a search, counted before it is made; about three seconds. A search for a part of a name counts as several.
MAX_WORK = 300_000_000
_SEARCH_WORK = 20
_MAX_PATTERN = 1000
_MAX_DIGITS = 9


def rewrite_module_lists(
    quantization: Mapping[str, Any],
    modules: Iterable[str],
    prefixes: Sequence[str],
    sources: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """The quantisation config with every list of module names saying the same of the target's layers.

    ``modules`` are the names of the source's modules; ``sources`` is the numbering by prefix.

    Raises:
        UnsupportedError: a field names layers in a way that this function does not know.
    """
    found = _Modules(modules, prefixes, sources)
    new = dict(quantization)
    for key, value in quantization.items():
        if key in _NAME_LISTS and isinstance(value, list | tuple):
            new[key] = _rewrite_list(value, found)
        elif key in _NAME_DICTS and isinstance(value, Mapping):
            new[key] = _rewrite_dict(value, found, names_only=key != "dynamic")
        elif key == "config_groups" and isinstance(value, Mapping):
            new[key] = {group: _rewrite_scheme(scheme, found) for group, scheme in value.items()}
        elif _names_layers(value, prefixes):
            raise UnsupportedError(
                f"quantization_config: {key}: names layers by number in a way not known here: {value!r:.80}"
            )
    return new


class _Modules:
    """The source's modules and where each layer goes, searched for a bounded amount of work in all.

    A config may bring any regular expression and any number of names, so the work is counted before it is done.
    """

    def __init__(self, modules: Iterable[str], prefixes: Sequence[str], sources: Mapping[str, Sequence[int]]) -> None:
        self.names = sorted(set(modules))
        self.prefixes = prefixes
        self._lengths = Counter(map(len, self.names))
        self._targets: dict[tuple[str, int], list[int]] = defaultdict(list)
        for prefix in prefixes:
            for target, source in enumerate(sources[prefix]):
                self._targets[prefix, source].append(target)
        self._left = MAX_WORK

    def matching(self, pattern: str) -> list[str]:
        """The names that a regular expression matches from their beginning."""
        self._spend(sum(count * _paths(pattern, length) for length, count in self._lengths.items()), pattern)
        try:
            with warnings.catch_warnings(action="ignore"):
                compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UnsupportedError(f"quantization_config: {pattern!r:.80} is no regular expression: {error}") from error
        return [name for name in self.names if compiled.match(name)]

    def holding(self, text: str) -> list[str]:
        """The names that a text is part of."""
        self._spend(_SEARCH_WORK * (len(self.names) + 50), text)
        return [name for name in self.names if text in name]

    def targets(self, prefix: str, number: str) -> list[int]:
        """The target layers that come from a source layer."""
        found = self._targets.get((prefix, int(number)), []) if len(number) <= _MAX_DIGITS else []
        self._spend(_SEARCH_WORK * (1 + len(found)), number)
        return found

    def _spend(self, work: int, what: str) -> None:
        self._left -= work
        if self._left < 0:
            raise UnsupportedError(
                f"quantization_config: {what!r:.80}: finding the layers that it names could take too long; expected a "
                "few names, or expressions without repeated groups"
            )


def _paths(pattern: str, length: int) -> int:
    """At most how many ways an engine that tries them all can go through a text of this length."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]", "x", pattern, flags=re.DOTALL)
    # A comment could hide the end of a set from the line above; no published expression has one.
    if len(pattern) > _MAX_PATTERN or re.search(r"\)[*+{]", plain) or re.search(r"\(\?(#|[a-zA-Z-]*x)", pattern):
        return MAX_WORK + 1
    repeats = len(re.findall(r"[*+{]", plain))
    ways: int = 2 ** len(re.findall(r"(?<![(*+?}])\?", plain))
    open_groups = [1]
    for char in plain:
        if char == "(":
            open_groups.append(1)
        elif char == "|":
            open_groups[-1] += 1
        elif char == ")" and len(open_groups) > 1:
            ways *= open_groups.pop()
    return min(ways * prod(open_groups) * comb(length + repeats, repeats), MAX_WORK + 1)


def _rewrite_scheme(scheme: Any, modules: _Modules) -> Any:
    if not isinstance(scheme, Mapping) or not scheme.get("targets"):
        return scheme
    if not isinstance(scheme["targets"], list | tuple):
        raise UnsupportedError(
            f"quantization_config: config_groups: targets: expected a list of names, got {scheme['targets']!r:.80}"
        )
    return {**scheme, "targets": _rewrite_list(scheme["targets"], modules)}


def _rewrite_list(entries: Sequence[Any], modules: _Modules) -> list[Any]:
    rewritten: list[Any] = []
    for entry in entries:
        rewritten += _rewrite_entry(entry, modules) if isinstance(entry, str) else [entry]
    once: list[Any] = []
    seen: set[str] = set()
    for each in rewritten:
        if not isinstance(each, str):
            once.append(each)
        elif each not in seen:
            seen.add(each)
            once.append(each)
    return once


def _rewrite_dict(rules: Mapping[str, Any], modules: _Modules, *, names_only: bool) -> dict[str, Any]:
    """GPTQModel's ``dynamic``: patterns with +: or -: in front, the first that matches wins, so order is kept.

    Elsewhere (``names_only``) a plain dotted name is a module and not an expression.
    """
    new: dict[str, Any] = {}
    for rule, value in rules.items():
        sign = rule[:2] if rule[:2] in ("+:", "-:") else ""
        pattern = rule.removeprefix(sign)
        if not _says_number(pattern):
            new.setdefault(rule, value)
            continue
        if names_only and re.fullmatch(r"[\w.-]+", rule):
            new |= {name: value for name in _rewrite_entry(rule, modules) if name not in new}
            continue
        for name in _spread(modules.matching(pattern), modules):
            new.setdefault(f"{sign}^{re.escape(name)}$", value)
    return new


def _rewrite_entry(entry: str, modules: _Modules) -> list[str]:
    if entry.startswith("re:"):
        pattern = entry.removeprefix("re:")
        return _spread(modules.matching(pattern), modules) if _says_number(pattern) else [entry]
    for prefix in modules.prefixes:
        found = re.fullmatch(rf"(.*?{_tail(prefix)})\.(\d+)(\..+|)", entry, re.DOTALL)
        if found:
            return [f"{found[1]}.{target}{found[3]}" for target in modules.targets(prefix, found[2])]
    if re.search(r"\d", entry):
        matched = modules.holding(entry)
        if any(_touches_index(entry, name, modules.prefixes) for name in matched):
            return _spread(matched, modules)
    return [entry]


def _spread(names: Iterable[str], modules: _Modules) -> list[str]:
    """The target's names of these source modules."""
    spread = []
    for name in names:
        for prefix in modules.prefixes:
            found = re.fullmatch(rf"{re.escape(prefix)}\.(\d+)(\..+|)", name, re.DOTALL)
            if found:
                spread += [f"{prefix}.{target}{found[2]}" for target in modules.targets(prefix, found[1])]
                break
        else:
            spread.append(name)
    return spread


def _tail(prefix: str) -> str:
    """The prefix as a list may write it: with or without its first components ("model.layers" or "layers")."""
    parts = prefix.split(".")
    return "(?:" + "|".join(re.escape(".".join(parts[i:])) for i in range(len(parts))) + ")"


def _says_number(pattern: str) -> bool:
    """Whether an expression may say which layers: a digit other than a class or a count, or it is too long to tell."""
    return len(pattern) > _MAX_PATTERN or bool(re.search(r"\d", re.sub(r"\\d|\[0-9\]|\{\d*,?\d*\}", "", pattern)))


def _touches_index(entry: str, name: str, prefixes: Sequence[str]) -> bool:
    start = name.find(entry)
    for prefix in prefixes:
        found = re.match(rf"{re.escape(prefix)}\.(\d+)(?:\.|$)", name)
        if found and start < found.end(1) and start + len(entry) > found.start(1):
            return True
    return False


def _names_layers(value: Any, prefixes: Sequence[str]) -> bool:
    """Whether any string in ``value`` holds a layer's prefix with a number behind it."""
    if isinstance(value, str):
        return any(re.search(rf"{_tail(prefix)}\.\d", value) for prefix in prefixes)
    if isinstance(value, Mapping):
        return any(_names_layers(item, prefixes) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple) and any(_names_layers(item, prefixes) for item in value)
