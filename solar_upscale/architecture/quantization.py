"""What names modules in a quantised checkpoint's config, rewritten to the new layer numbers.

Bytes follow their layers by themselves; what names a layer is here. A plain name gets its layer's new number. A regular
expression, a glob or a part of a name is never edited: it stays where it says of every target module what it said of
its source, and becomes the names of the modules that it matched where it does not.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from math import comb, prod
from typing import Any

from solar_upscale.errors import UnsupportedError

__all__ = ["rewrite_module_lists"]

# Lists of module names, and dicts keyed by them, wherever in the config they stand.
_NAME_LISTS = frozenset(
    (
        "modules_to_not_convert", "modules_to_convert", "ignore", "targets", "llm_int8_skip_modules", "ignored_layers",
        "skip_modules", "exclude", "exclude_modules", "modules_in_block_to_quantize_exclude",
    )
)  # fmt: skip
_NAME_DICTS = frozenset(
    (
        "dynamic", "module_dtypes", "layer_quant_config", "extra_config", "config_for_layers", "quantized_layers",
        "tune_metadata", "module_quant_configs", "module_config_overrides",
    )
)  # fmt: skip
_SEARCHED = frozenset(("extra_config", "module_quant_configs"))  # their expressions may match anywhere in a name
_GLOBS = frozenset(("exclude", "exclude_modules", "layer_quant_config", "quantized_layers"))  # ModelOpt, Quark
_PLAIN = re.compile(r"[^*+?()\[\]{}|\\^$]+")  # no glob and no expression
# The modules that serving engines make of several; they ask GPTQ's rules by these names too.
_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}

# Steps of a search, counted before it is made; about three seconds. A search for a part of a name counts as several.
MAX_WORK = 300_000_000
_SEARCH_WORK = 60
_MAX_PATTERN = 1000


def rewrite_module_lists(
    quantization: Mapping[str, Any],
    modules: Iterable[str],
    prefixes: Sequence[str],
    sources: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """The quantisation config with all that names modules saying the same of the target's layers.

    ``modules`` are the names of the source's modules; ``sources`` is the numbering by prefix.

    Raises:
        UnsupportedError: a field names layers in a way that this function does not know.
    """
    modules = tuple(sorted(set(modules)))
    numbered = map(_at_number, modules)
    known = frozenset((*prefixes, *(found[0] for found in numbered if found)))
    places: dict[tuple[str, int], list[int]] = defaultdict(list)
    for prefix in prefixes:
        for target, source in enumerate(sources[prefix]):
            places[prefix, source].append(target)
    names = _Names(modules, tuple(prefixes), places, known, _Budget())
    method = str(quantization.get("quant_method", ""))
    return _rewrite(quantization, names, globs=method.startswith(("modelopt", "quark")), substrings=method == "awq")


class _Budget:
    """What is left of the work that one config may cause: it may bring any expression and any number of names."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def spend(self, work: int, what: str) -> None:
        self.left -= work
        if self.left < 0:
            raise UnsupportedError(
                f"quantization_config: {what!r:.80}: finding the layers that it names could take too long; expected a "
                "few names, or expressions without repeated groups"
            )


@dataclass(frozen=True, slots=True)
class _Question:
    """An entry as a question to a name, and at most how much work the answer is for a name of some length."""

    entry: str
    asks: Callable[[str], bool]
    work: Callable[[int], int] = lambda length: _SEARCH_WORK
    alike: bool = False  # whether its text shows that it asks nothing of a layer's number


@dataclass(frozen=True, slots=True)
class _Names:
    """The source's module names, where each layer goes, and every prefix in the names that a number follows."""

    modules: tuple[str, ...]
    prefixes: tuple[str, ...]
    places: Mapping[tuple[str, int], Sequence[int]]
    numbered: frozenset[str]
    budget: _Budget
    known_targets: dict[str, list[str]] = field(default_factory=dict)

    def targets(self, name: str) -> list[str]:
        """What becomes of a source module; a module outside the layers stays."""
        if name not in self.known_targets:
            self.known_targets[name] = self._find_targets(name)
        return self.known_targets[name]

    def _find_targets(self, name: str) -> list[str]:
        for prefix in self.prefixes:
            found = re.fullmatch(rf"{re.escape(prefix)}\.([0-9]{{1,9}})(\..+|)", name, re.DOTALL)
            if found:
                return [f"{prefix}.{j}{found[2]}" for j in self.at(prefix, int(found[1]))]
        return [name]

    def at(self, prefix: str, layer: int) -> Sequence[int]:
        """The target layers that come from a source layer."""
        return self.places.get((prefix, layer), ())

    def owner(self, head: str) -> str | None:
        """The numbered prefix that a list means by ``head``; None if it is of none or of several.

        A list may leave out or add components at the front ("layers", "model.layers"), or put them in another order
        ("language_model.model.layers", "model.language_model.layers").
        """
        self.budget.spend(_SEARCH_WORK * len(self.numbered), head)
        if head in self.numbered:
            return head
        words = head.split(".")
        ranked: dict[int, list[str]] = {}
        for prefix in sorted(self.numbered):
            parts = prefix.split(".")
            shorter = min(len(parts), len(words))
            if sorted(parts) == sorted(words):
                ranked.setdefault(1000, []).append(prefix)
            elif parts[-shorter:] == words[-shorter:]:
                ranked.setdefault(shorter, []).append(prefix)
        best = ranked[max(ranked)] if ranked else []
        return best[0] if len(best) == 1 else None

    def asked(self) -> "_Names":
        """With the modules around these and those that serving engines make of several."""
        known = set(self.modules)
        more = {name[: dot.start()] for name in self.modules for dot in re.finditer(r"\.", name)}
        parents = {name.rpartition(".")[0] for name in self.modules}
        more |= {
            f"{parent}.{fused}"
            for parent in parents
            for fused, parts in _FUSED.items()
            if all(f"{parent}.{part}" in known for part in parts)
        }
        return replace(self, modules=tuple(sorted(known | more)))


def _rewrite(section: Mapping[str, Any], names: _Names, *, globs: bool, substrings: bool) -> dict[str, Any]:
    new: dict[str, Any] = {}
    for key, value in section.items():
        as_globs = key in _GLOBS or (globs and key != "targets")
        if key in _NAME_LISTS and isinstance(value, list | tuple):
            new[key] = _rewrite_list(key, value, names, globs=as_globs, substrings=substrings)
        elif key in _NAME_LISTS and value is not None:
            raise UnsupportedError(f"quantization_config: {key}: expected a list of names, got {value!r:.80}")
        elif key == "dynamic" and isinstance(value, Mapping):
            new[key] = _rewrite_rules(value, names)
        elif key in _NAME_DICTS and isinstance(value, Mapping):
            rewritten = {
                name: setting
                for entry, setting in value.items()
                for name in _rewrite_entry(entry, names, globs=as_globs, searched=key in _SEARCHED)
            }
            if any(_names_layers(setting, names.prefixes) for setting in value.values()):
                raise UnsupportedError(f"quantization_config: {key}: names layers by number inside its settings")
            new[key] = rewritten
        elif isinstance(value, Mapping) and not any(_names_layers(name, names.prefixes) for name in value):
            new[key] = _rewrite(value, names, globs=globs, substrings=substrings)
        elif _names_layers(value, names.prefixes):
            raise UnsupportedError(
                f"quantization_config: {key}: names layers by number in a way not known here: {value!r:.80}"
            )
        else:
            new[key] = value
    return new


def _rewrite_list(
    key: str, entries: Sequence[Any], names: _Names, *, globs: bool, substrings: bool = False
) -> list[Any]:
    rewritten: list[Any] = []
    for entry in entries:
        if isinstance(entry, int) and not isinstance(entry, bool):
            raise UnsupportedError(f"quantization_config: {key}: expected names of modules, got {entry}")
        if isinstance(entry, str):
            rewritten += _rewrite_entry(entry, names, globs=globs, substrings=substrings)
            names.budget.spend(_SEARCH_WORK, entry)
        else:
            rewritten.append(entry)
    return list(dict.fromkeys(rewritten))


def _rewrite_rules(rules: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    """GPTQModel's ``dynamic``: patterns with +: or -: in front, the first that matches wins, so order is kept."""
    new: dict[str, Any] = {}
    asked = names.asked()
    for rule, value in rules.items():
        sign = rule[:2] if rule[:2] in ("+:", "-:") else ""
        moved = _moved(_expression(rule.removeprefix(sign), rule), asked)
        for entry in [rule] if moved is None else [f"{sign}^{re.escape(name)}$" for name in moved]:
            new.setdefault(entry, value)
    return new


def _rewrite_entry(
    entry: str, names: _Names, *, globs: bool, searched: bool = False, substrings: bool = False
) -> list[str]:
    if entry.startswith("re:"):
        moved = _moved(_expression(entry.removeprefix("re:"), entry), names)
        return [entry] if moved is None else moved
    numbered = _at_number(entry)
    plain = _PLAIN.fullmatch(entry) is not None and not entry.endswith(".")
    if plain and numbered and not (substrings and not numbered[2]):
        owner = names.owner(numbered[0])
        if owner in names.prefixes:
            targets = names.at(owner, numbered[1])
            names.budget.spend(_SEARCH_WORK * (1 + len(targets)), entry)
            return [f"{numbered[0]}.{j}{numbered[2]}" for j in targets]
        if owner is not None:
            return [entry]
    if plain and not re.search(r"\d", entry):
        return [entry]
    moved = _moved(_question(entry, plain=plain or substrings, globs=globs, searched=searched), names)
    return [entry] if moved is None else moved


def _at_number(name: str) -> tuple[str, int, str] | None:
    """A name parted at its first number: what stands before it, the number, and the rest from its dot on."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if place and part.isascii() and part.isdigit():
            number = int(part) if len(part) < 10 else -1  # no layer has that number
            return ".".join(parts[:place]), number, "".join(f".{each}" for each in parts[place + 1 :])
    return None


def _question(entry: str, *, plain: bool, globs: bool, searched: bool) -> _Question:
    """How the libraries match an entry that is no plain name: a part of a name, a glob, or an expression."""
    if plain:
        return _Question(entry, lambda name: entry in name)
    if globs or entry.startswith("*"):
        stars = min(entry.count("*"), 50)
        return _Question(entry, lambda name: fnmatchcase(name, entry), lambda length: comb(length + stars, stars))
    if searched:
        return _expression(f".*(?:{entry})", entry, shown=rf".*{entry}")
    # As transformers does: from the start up to the end of a component, or literally at the end.
    inner = _expression(rf"(?:{entry})(?:(?<=\.)|(?=\.|$))", entry, shown=entry)
    return _Question(entry, lambda name: inner.asks(name) or name.endswith(entry), inner.work, inner.alike)


def _moved(question: _Question, names: _Names) -> list[str] | None:
    """The target's names of the modules that an entry matches; None if it matches just those as it stands."""
    wrong = False
    moved: list[str] = []
    if question.alike:
        return None
    for name in names.modules:
        targets = names.targets(name)
        names.budget.spend((1 + len(targets)) * question.work(len(name) + 3), question.entry)
        matched = question.asks(name)
        wrong = wrong or any(question.asks(target) != matched for target in targets)
        if matched:
            moved += targets
    return list(dict.fromkeys(moved)) if wrong else None


def _expression(pattern: str, entry: str, shown: str | None = None) -> _Question:
    """A regular expression from the start of a name; its work is counted on what the config ``shown`` brought."""
    own = pattern if shown is None else shown
    if _paths(own, 1) > MAX_WORK:
        _Budget().spend(MAX_WORK + 1, entry)
    try:
        with warnings.catch_warnings(action="ignore"):
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsupportedError(f"quantization_config: {entry!r:.80} is no regular expression: {error}") from error
    return _Question(
        entry, lambda name: compiled.match(name) is not None, cache(lambda length: _paths(own, length)), _alike(own)
    )


def _alike(pattern: str) -> bool:
    """Whether an expression can say nothing of a number: any number, or none, and no single characters in a row."""
    rest = re.sub(r"\\d\+|\[0-9\]\+|\.[*+]", "", pattern).replace("\\.", ".")
    return len(pattern) <= _MAX_PATTERN and not re.search(r"\d|\\|\[|\{|\.\.|\(\?", rest)


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


def _names_layers(value: Any, prefixes: Sequence[str]) -> bool:
    """Whether any string in ``value`` holds a layer's prefix, or the end of one, with a number behind it."""
    if isinstance(value, str):
        return any(re.search(rf"(?:^|[^\w]){re.escape(prefix.split('.')[-1])}\.\d", value) for prefix in prefixes)
    if isinstance(value, Mapping):
        return any(_names_layers(item, prefixes) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple) and any(_names_layers(item, prefixes) for item in value)
