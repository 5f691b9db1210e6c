"""What names modules in a quantised checkpoint's config, rewritten to the new layer numbers.

Bytes follow their layers by themselves; what names a layer is here. A plain name gets its layer's new number. A regular
expression, a glob or a part of a name is never edited: it stays where it says of every target module what it said of
its source, and becomes the names of the modules that it matched where it does not.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import comb, prod
from typing import Any, NamedTuple

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
_PLAIN = re.compile(r"[\w.-]+")
# The modules that serving engines make of several; they ask GPTQ's rules by these names too.
_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}

# A config may bring any regular expression and any number of names, so the work is bounded, in steps: the same job gets
# the same answer on a slow machine. A step is one name tried, or a hundred ways through it, in about a microsecond.
# Published configs take a few steps for each entry and module.
_MAX_STEPS = 1_000_000  # for all entries together
_MAX_STEPS_PER_MODULE = 1000  # more, for each module of the model
_WAYS_PER_STEP = 100
_TYPICAL_NAME = 40  # characters
_MAX_PATHS = 2_000_000  # ways through one name, tried in some hundredths of a second
_MAX_ENTRY = 1000  # characters
_MAX_DIGITS = 9


class _Question(NamedTuple):
    """Whether an entry means a module, by its name, and how many steps one answer takes."""

    asks: Callable[[str], bool]
    steps: int = 1


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
    names = _Names(modules, prefixes, sources)
    method = str(quantization.get("quant_method", ""))
    return _rewrite(quantization, names, globs=method.startswith(("modelopt", "quark")), substrings=method == "awq")


class _Names:
    """The source's module names, what becomes of each, and every prefix in them that a number follows."""

    def __init__(self, modules: Iterable[str], prefixes: Sequence[str], sources: Mapping[str, Sequence[int]]) -> None:
        self.prefixes = frozenset(prefixes)
        self._sources = sources
        self._places: dict[tuple[str, int], list[int]] = defaultdict(list)
        for prefix in prefixes:
            for target, source in enumerate(sources[prefix]):
                self._places[prefix, source].append(target)
        self.moves = {name: self._targets(name) for name in sorted(set(modules))}
        numbered = (re.match(r"(.+?)\.\d+(?:\.|$)", name) for name in self.moves)
        self.numbered = self.prefixes.union(found[1] for found in numbered if found)
        self._steps_left = _MAX_STEPS + _MAX_STEPS_PER_MODULE * len(self.moves)

    def places(self, prefix: str, number: str) -> list[int]:
        """The target layers that come from a source layer."""
        return self._places.get((prefix, int(number)), []) if len(number) <= _MAX_DIGITS else []

    def spend(self, steps: int, entry: str) -> None:
        """Stop where entries, each of them bounded, are too many.

        Raises:
            UnsupportedError: all together take more steps than there are for a model of this size.
        """
        self._steps_left -= steps
        if self._steps_left < 0:
            raise UnsupportedError(
                f"quantization_config: {entry!r:.80}: finding the layers that all entries name takes too many steps; "
                "name modules plainly instead, or upscale the model before it is quantised"
            )

    def _targets(self, name: str) -> list[str]:
        """What becomes of a source module; a module outside the layers stays."""
        for prefix in self.prefixes:
            found = re.fullmatch(rf"{re.escape(prefix)}\.(\d{{1,{_MAX_DIGITS}}})(\..+|)", name, re.DOTALL)
            if found:
                return [f"{prefix}.{j}{found[2]}" for j in self._places.get((prefix, int(found[1])), [])]
        return [name]

    def owner(self, head: str) -> str | None:
        """The numbered prefix that a list means by ``head``; None if it is of none or of several.

        A list may leave out or add components at the front ("layers", "model.layers"), or put them in another order
        ("language_model.model.layers", "model.language_model.layers").
        """
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
        more = {name[: dot.start()] for name in self.moves for dot in re.finditer(r"\.", name)}
        parents = {name.rpartition(".")[0] for name in self.moves}
        more |= {
            f"{parent}.{fused}"
            for parent in parents
            for fused, parts in _FUSED.items()
            if all(f"{parent}.{part}" in self.moves for part in parts)
        }
        return _Names({*self.moves, *more}, sorted(self.prefixes), self._sources)


def _rewrite(section: Mapping[str, Any], names: _Names, *, globs: bool, substrings: bool) -> dict[str, Any]:
    new: dict[str, Any] = {}
    for key, value in section.items():
        as_globs = key in _GLOBS or (globs and key != "targets")
        if key in _NAME_LISTS and isinstance(value, list | tuple):
            new[key] = _rewrite_list(key, value, names, globs=as_globs, substrings=substrings)
        elif key == "dynamic" and isinstance(value, Mapping):
            new[key] = _rewrite_rules(value, names)
        elif key in _NAME_DICTS and isinstance(value, Mapping):
            new[key] = _rewrite_keys(key, value, names, globs=as_globs)
        elif isinstance(value, Mapping) and not any(_names_layers(name, names.prefixes) for name in value):
            new[key] = _rewrite(value, names, globs=globs, substrings=substrings)
        else:
            _refuse_other(key, value, names)
            new[key] = value
    return new


def _rewrite_keys(key: str, settings: Mapping[str, Any], names: _Names, *, globs: bool) -> dict[str, Any]:
    """A dict keyed by module names."""
    if any(_names_layers(setting, names.prefixes) for setting in settings.values()):
        raise UnsupportedError(
            f"quantization_config: {key}: names layers by number inside its settings; upscale the model before it is "
            "quantised"
        )
    return {
        name: setting
        for entry, setting in settings.items()
        for name in _rewrite_entry(entry, names, globs=globs, searched=key in _SEARCHED)
    }


def _refuse_other(key: str, value: Any, names: _Names) -> None:
    """Refuse what names layers in a form of its own, and what ought to be names and is not."""
    if key in _NAME_LISTS and isinstance(value, int | float) and not isinstance(value, bool):
        raise UnsupportedError(f"quantization_config: {key}: expected names of modules, got {value!r:.60}; correct it")
    if _names_layers(value, names.prefixes):
        raise UnsupportedError(
            f"quantization_config: {key}: names layers by number in a way not known here: {value!r:.80}; upscale the "
            "model before it is quantised"
        )


def _rewrite_list(
    key: str, entries: Sequence[Any], names: _Names, *, globs: bool, substrings: bool = False
) -> list[Any]:
    rewritten: list[Any] = []
    for entry in entries:
        if not isinstance(entry, str):
            raise UnsupportedError(
                f"quantization_config: {key}: expected names of modules, got {entry!r:.60}; correct it"
            )
        rewritten += _rewrite_entry(entry, names, globs=globs, substrings=substrings)
    return list(dict.fromkeys(rewritten))


def _rewrite_rules(rules: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    """GPTQModel's ``dynamic``: patterns with +: or -: in front, the first that matches wins, so order is kept."""
    new: dict[str, Any] = {}
    asked = names.asked()
    for rule, value in rules.items():
        sign = rule[:2] if rule[:2] in ("+:", "-:") else ""
        moved = _moved(_expression(rule.removeprefix(sign), rule), rule, asked)
        for entry in [rule] if moved is None else [f"{sign}^{re.escape(name)}$" for name in moved]:
            new.setdefault(entry, value)
    return new


def _rewrite_entry(
    entry: str, names: _Names, *, globs: bool, searched: bool = False, substrings: bool = False
) -> list[str]:
    if len(entry) > _MAX_ENTRY:
        raise UnsupportedError(
            f"quantization_config: {entry!r:.80}: has over {_MAX_ENTRY:,} characters; split it into several entries"
        )
    if entry.startswith("re:"):
        moved = _moved(_expression(entry.removeprefix("re:"), entry), entry, names)
        return [entry] if moved is None else moved
    numbered = re.fullmatch(r"([A-Za-z_][\w.-]*?)\.(\d+)(\..+|)", entry)
    plain = _PLAIN.fullmatch(entry) is not None and not entry.endswith(".")
    if plain and numbered and not (substrings and not numbered[3]):
        owner = names.owner(numbered[1])
        if owner in names.prefixes:
            return [f"{numbered[1]}.{j}{numbered[3]}" for j in names.places(owner, numbered[2])]
        if owner is not None:
            return [entry]
    if plain and not re.search(r"\d", entry):
        return [entry]
    moved = _moved(_asks(entry, plain=plain or substrings, globs=globs, searched=searched), entry, names)
    return [entry] if moved is None else moved


def _asks(entry: str, *, plain: bool, globs: bool, searched: bool) -> _Question:
    """How the libraries match an entry that is no plain name: a part of a name, a glob, or an expression."""
    if plain:
        return _Question(lambda name: entry in name)
    if globs or entry.startswith("*"):
        return _Question(lambda name: fnmatchcase(name, entry))
    if searched:
        return _expression(f".*(?:{entry})", entry)
    # As transformers does: from the start up to the end of a component, or literally at the end.
    matches = _expression(rf"(?:{entry})(?:(?<=\.)|(?=\.|$))", entry)
    return _Question(lambda name: matches.asks(name) or name.endswith(entry), matches.steps)


def _moved(question: _Question, entry: str, names: _Names) -> list[str] | None:
    """The target's names of the modules that an entry matches; None if it matches just those as it stands."""
    wrong = False
    moved: list[str] = []
    for name, targets in names.moves.items():
        names.spend(question.steps * (1 + len(targets)), entry)
        matched = question.asks(name)
        wrong = wrong or any(question.asks(target) != matched for target in targets)
        if matched:
            moved += targets
    return list(dict.fromkeys(moved)) if wrong else None


def _expression(pattern: str, entry: str) -> _Question:
    if len(entry) > _MAX_ENTRY or _paths(pattern, 80) > _MAX_PATHS:
        raise UnsupportedError(
            f"quantization_config: {entry!r:.80}: trying this expression could take too long; expected at most "
            f"{_MAX_ENTRY:,} characters, and few repeats, none of them of a group; name modules plainly instead"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsupportedError(
            f"quantization_config: {entry!r:.80} is no regular expression: {error}; correct it"
        ) from error
    steps = 1 + _paths(pattern, _TYPICAL_NAME) // _WAYS_PER_STEP
    return _Question(lambda name: compiled.match(name) is not None, steps)


def _paths(pattern: str, length: int) -> int:
    """At most how many ways an engine that tries them all can go through a text of this length."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]", "x", pattern, flags=re.DOTALL)
    # A comment could hide the end of a set from the line above; no published expression has one.
    if re.search(r"\)[*+{]", plain) or re.search(r"\(\?(#|[a-zA-Z-]*x)", pattern):
        return _MAX_PATHS + 1
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
    return ways * prod(open_groups) * comb(length + repeats, repeats)


def _names_layers(value: Any, prefixes: Iterable[str]) -> bool:
    """Whether any string in ``value`` holds a layer's prefix, or the end of one, with a number behind it."""
    if isinstance(value, str):
        return any(re.search(rf"(?:^|[^\w]){re.escape(prefix.split('.')[-1])}\.\d", value) for prefix in prefixes)
    if isinstance(value, Mapping):
        return any(_names_layers(item, prefixes) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple) and any(_names_layers(item, prefixes) for item in value)
