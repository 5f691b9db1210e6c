"""Rewrite the module names in a quantised checkpoint's config to the new layer numbers.

A plain name gets its layer's new number. A regular expression, a glob or a part of a name is never edited: it is kept
if it matches exactly the target modules whose sources it matched, and replaced by their names if it does not.
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

# Lists of module names, and dicts keyed by them, at any level of the config.
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
# Modules that serving engines fuse; they look these names up in GPTQ's rules too.
_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}

# A config may contain any regular expression and any number of names, so the work is bounded; it is counted in steps,
# so that a slow machine gives the same answer. A step is one name tried, or a hundred paths of a regular expression
# through it, and takes about a microsecond. Published configs take a few steps per entry and module.
_MAX_STEPS = 1_000_000  # for all entries together
_MAX_STEPS_PER_MODULE = 1000  # in addition, for each module of the model
_PATHS_PER_STEP = 100
_TYPICAL_NAME = 40  # characters
_MAX_PATHS = 2_000_000  # through one name: some hundredths of a second
_MAX_ENTRY = 1000  # characters
_MAX_DIGITS = 9


class _Matcher(NamedTuple):
    """Whether an entry matches a module's name, and how many steps one match takes."""

    matches: Callable[[str], bool]
    steps: int = 1


def rewrite_module_lists(
    quantization: Mapping[str, Any],
    modules: Iterable[str],
    prefixes: Sequence[str],
    sources: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """The quantisation config in which every module name refers to the corresponding target layers.

    ``modules`` are the names of the source's modules; ``sources`` is the numbering by prefix.

    Raises:
        UnsupportedError: a field refers to layers in an unknown way, or matching takes too many steps.
    """
    names = _Names(modules, prefixes, sources)
    method = str(quantization.get("quant_method", ""))
    return _rewrite(quantization, names, globs=method.startswith(("modelopt", "quark")), substrings=method == "awq")


class _Names:
    """The source's module names, their names in the target, and every prefix that an index follows."""

    def __init__(self, modules: Iterable[str], prefixes: Sequence[str], sources: Mapping[str, Sequence[int]]) -> None:
        self.prefixes = frozenset(prefixes)
        self._sources = sources
        self._targets_of: dict[tuple[str, int], list[int]] = defaultdict(list)
        for prefix in prefixes:
            for target, source in enumerate(sources[prefix]):
                self._targets_of[prefix, source].append(target)
        self.renames = {name: self._renamed_module(name) for name in sorted(set(modules))}
        numbered = (re.match(r"(.+?)\.\d+(?:\.|$)", name) for name in self.renames)
        self.numbered = self.prefixes.union(found[1] for found in numbered if found)
        self._steps_left = _MAX_STEPS + _MAX_STEPS_PER_MODULE * len(self.renames)

    def targets(self, prefix: str, number: str) -> list[int]:
        """The target layers that come from a source layer."""
        return self._targets_of.get((prefix, int(number)), []) if len(number) <= _MAX_DIGITS else []

    def charge(self, steps: int, entry: str) -> None:
        """Charge steps to the budget of all entries together.

        Raises:
            UnsupportedError: the budget for a model of this size is used up.
        """
        self._steps_left -= steps
        if self._steps_left < 0:
            raise UnsupportedError(
                f"quantization_config: {entry!r:.80}: matching all entries with the modules takes too many steps; "
                "list plain module names instead, or upscale the model before it is quantised"
            )

    def _renamed_module(self, name: str) -> list[str]:
        """A source module's names in the target; a module outside the layers keeps its name."""
        for prefix in self.prefixes:
            found = re.fullmatch(rf"{re.escape(prefix)}\.(\d{{1,{_MAX_DIGITS}}})(\..+|)", name, re.DOTALL)
            if found:
                return [f"{prefix}.{j}{found[2]}" for j in self._targets_of.get((prefix, int(found[1])), [])]
        return [name]

    def owner(self, head: str) -> str | None:
        """The numbered prefix that ``head`` refers to; None if there is none, or several.

        Lists may omit or add leading components ("layers", "model.layers"), or order them differently
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

    def with_fused(self) -> "_Names":
        """These names with those of parent modules and of the modules that serving engines fuse."""
        more = {name[: dot.start()] for name in self.renames for dot in re.finditer(r"\.", name)}
        parents = {name.rpartition(".")[0] for name in self.renames}
        more |= {
            f"{parent}.{fused}"
            for parent in parents
            for fused, parts in _FUSED.items()
            if all(f"{parent}.{part}" in self.renames for part in parts)
        }
        return _Names({*self.renames, *more}, sorted(self.prefixes), self._sources)


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
            _refuse_unknown(key, value, names)
            new[key] = value
    return new


def _rewrite_keys(key: str, settings: Mapping[str, Any], names: _Names, *, globs: bool) -> dict[str, Any]:
    """A dict keyed by module names."""
    if any(_names_layers(setting, names.prefixes) for setting in settings.values()):
        raise UnsupportedError(
            f"quantization_config: {key}: refers to layers by number inside its settings, which is not supported; "
            "upscale the model before it is quantised"
        )
    return {
        name: setting
        for entry, setting in settings.items()
        for name in _rewrite_entry(entry, names, globs=globs, searched=key in _SEARCHED)
    }


def _refuse_unknown(key: str, value: Any, names: _Names) -> None:
    """Refuse a field that refers to layers in an unknown way, and a list of names that is a number."""
    if key in _NAME_LISTS and isinstance(value, int | float) and not isinstance(value, bool):
        raise UnsupportedError(f"quantization_config: {key}: expected module names, got {value!r:.60}; correct it")
    if _names_layers(value, names.prefixes):
        raise UnsupportedError(
            f"quantization_config: {key}: refers to layers by number in an unknown way: {value!r:.80}; upscale the "
            "model before it is quantised"
        )


def _rewrite_list(
    key: str, entries: Sequence[Any], names: _Names, *, globs: bool, substrings: bool = False
) -> list[Any]:
    rewritten: list[Any] = []
    for entry in entries:
        if not isinstance(entry, str):
            raise UnsupportedError(f"quantization_config: {key}: expected module names, got {entry!r:.60}; correct it")
        rewritten += _rewrite_entry(entry, names, globs=globs, substrings=substrings)
    return list(dict.fromkeys(rewritten))


def _rewrite_rules(rules: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    """GPTQModel's ``dynamic``: patterns prefixed with +: or -:, of which the first match wins, so order is kept."""
    new: dict[str, Any] = {}
    names_with_fused = names.with_fused()
    for rule, value in rules.items():
        sign = rule[:2] if rule[:2] in ("+:", "-:") else ""
        renamed = _renamed(_expression(rule.removeprefix(sign), rule), rule, names_with_fused)
        for entry in [rule] if renamed is None else [f"{sign}^{re.escape(name)}$" for name in renamed]:
            new.setdefault(entry, value)
    return new


def _rewrite_entry(
    entry: str, names: _Names, *, globs: bool, searched: bool = False, substrings: bool = False
) -> list[str]:
    if len(entry) > _MAX_ENTRY:
        raise UnsupportedError(
            f"quantization_config: {entry!r:.80}: expected at most {_MAX_ENTRY:,} characters, "
            f"got {len(entry):,}; split it into several entries"
        )
    if entry.startswith("re:"):
        renamed = _renamed(_expression(entry.removeprefix("re:"), entry), entry, names)
        return [entry] if renamed is None else renamed
    numbered = re.fullmatch(r"([A-Za-z_][\w.-]*?)\.(\d+)(\..+|)", entry)
    plain = _PLAIN.fullmatch(entry) is not None and not entry.endswith(".")
    if plain and numbered and not (substrings and not numbered[3]):
        owner = names.owner(numbered[1])
        if owner in names.prefixes:
            return [f"{numbered[1]}.{j}{numbered[3]}" for j in names.targets(owner, numbered[2])]
        if owner is not None:
            return [entry]
    if plain and not re.search(r"\d", entry):
        return [entry]
    renamed = _renamed(_matcher(entry, plain=plain or substrings, globs=globs, searched=searched), entry, names)
    return [entry] if renamed is None else renamed


def _matcher(entry: str, *, plain: bool, globs: bool, searched: bool) -> _Matcher:
    """The matcher that the libraries use for an entry: part of a name, a glob, or a regular expression."""
    if plain:
        return _Matcher(lambda name: entry in name)
    if globs or entry.startswith("*"):
        return _Matcher(lambda name: fnmatchcase(name, entry))
    if searched:
        return _expression(f".*(?:{entry})", entry)
    # Like transformers: match from the start to the end of a component, or compare literally at the end.
    anchored = _expression(rf"(?:{entry})(?:(?<=\.)|(?=\.|$))", entry)
    return _Matcher(lambda name: anchored.matches(name) or name.endswith(entry), anchored.steps)


def _renamed(matcher: _Matcher, entry: str, names: _Names) -> list[str] | None:
    """The target's names of the modules that an entry matches; None if the unchanged entry matches exactly those."""
    wrong = False
    renamed: list[str] = []
    for name, targets in names.renames.items():
        names.charge(matcher.steps * (1 + len(targets)), entry)
        matched = matcher.matches(name)
        wrong = wrong or any(matcher.matches(target) != matched for target in targets)
        if matched:
            renamed += targets
    return list(dict.fromkeys(renamed)) if wrong else None


def _expression(pattern: str, entry: str) -> _Matcher:
    if len(entry) > _MAX_ENTRY or _paths(pattern, 80) > _MAX_PATHS:
        raise UnsupportedError(
            f"quantization_config: {entry!r:.80}: matching this expression could take too long; expected at most "
            f"{_MAX_ENTRY:,} characters and few repeats, none of a group; list plain module names instead"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsupportedError(
            f"quantization_config: {entry!r:.80}: not a regular expression: {error}; correct it"
        ) from error
    steps = 1 + _paths(pattern, _TYPICAL_NAME) // _PATHS_PER_STEP
    return _Matcher(lambda name: compiled.match(name) is not None, steps)


def _paths(pattern: str, length: int) -> int:
    """An upper bound on the paths that a backtracking engine tries on a text of this length."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]", "x", pattern, flags=re.DOTALL)
    # A comment could hide the end of a character class from the line above; no published expression has one.
    if re.search(r"\)[*+{]", plain) or re.search(r"\(\?(#|[a-zA-Z-]*x)", pattern):
        return _MAX_PATHS + 1
    repeats = len(re.findall(r"[*+{]", plain))
    paths: int = 2 ** len(re.findall(r"(?<![(*+?}])\?", plain))
    open_groups = [1]
    for char in plain:
        if char == "(":
            open_groups.append(1)
        elif char == "|":
            open_groups[-1] += 1
        elif char == ")" and len(open_groups) > 1:
            paths *= open_groups.pop()
    return paths * prod(open_groups) * comb(length + repeats, repeats)


def _names_layers(value: Any, prefixes: Iterable[str]) -> bool:
    """Whether any string in ``value`` contains the last component of a layer prefix followed by an index."""
    if isinstance(value, str):
        return any(re.search(rf"(?:^|[^\w]){re.escape(prefix.split('.')[-1])}\.\d", value) for prefix in prefixes)
    if isinstance(value, Mapping):
        return any(_names_layers(item, prefixes) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple) and any(_names_layers(item, prefixes) for item in value)
