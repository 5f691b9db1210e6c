"""Lists of module names in a quantised checkpoint's config, rewritten to the new layer numbers.

Bytes follow their layers by themselves; what names a layer is here. A regular expression is matched against the real
module names and replaced by the names it matched; it is never edited.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.errors import UnsupportedError

__all__ = ["rewrite_module_lists"]

# Lists of plain module names: the whole name, its beginning, or a part of it, as the libraries match them.
_NAME_LISTS = (
    "modules_to_not_convert", "ignore", "llm_int8_skip_modules", "ignored_layers", "exclude", "exclude_modules",
    "modules_in_block_to_quantize_exclude", "kept_layers_idx",
)  # fmt: skip
_NAME_DICTS = ("dynamic", "module_dtypes", "layer_quant_config", "extra_config")


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
    names = sorted(set(modules))
    new = dict(quantization)
    for key, value in quantization.items():
        if key in _NAME_LISTS and isinstance(value, list | tuple):
            new[key] = _rewrite_list(value, names, prefixes, sources)
        elif key in _NAME_DICTS and isinstance(value, Mapping):
            new[key] = _rewrite_dict(value, names, prefixes, sources, names_only=key != "dynamic")
        elif key == "config_groups" and isinstance(value, Mapping):
            new[key] = {
                group: {
                    **scheme,
                    **(
                        {"targets": _rewrite_list(scheme["targets"], names, prefixes, sources)}
                        if scheme.get("targets")
                        else {}
                    ),
                }
                for group, scheme in value.items()
            }
        elif _names_layers(value, prefixes):
            raise UnsupportedError(
                f"quantization_config: {key}: names layers by number in a way not known here: {value!r:.80}"
            )
    return new


def _rewrite_list(
    entries: Sequence[Any], modules: list[str], prefixes: Sequence[str], sources: Mapping[str, Sequence[int]]
) -> list[Any]:
    rewritten: list[Any] = []
    for entry in entries:
        rewritten += _rewrite_entry(entry, modules, prefixes, sources) if isinstance(entry, str) else [entry]
    return list(dict.fromkeys(rewritten))


def _rewrite_dict(
    rules: Mapping[str, Any],
    modules: list[str],
    prefixes: Sequence[str],
    sources: Mapping[str, Sequence[int]],
    *,
    names_only: bool,
) -> dict[str, Any]:
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
            new |= {name: value for name in _rewrite_entry(rule, modules, prefixes, sources) if name not in new}
            continue
        matched = [name for name in modules if _matches(pattern, name)]
        for name in _spread(matched, prefixes, sources):
            new.setdefault(f"{sign}^{re.escape(name)}$", value)
    return new


def _rewrite_entry(
    entry: str, modules: list[str], prefixes: Sequence[str], sources: Mapping[str, Sequence[int]]
) -> list[str]:
    if entry.startswith("re:"):
        pattern = entry.removeprefix("re:")
        if not _says_number(pattern):
            return [entry]
        return _spread([name for name in modules if _matches(pattern, name)], prefixes, sources)
    for prefix in prefixes:
        found = re.fullmatch(rf"(.*?{_tail(prefix)})\.(\d+)(\..+|)", entry)
        if found:
            numbering = sources[prefix]
            return [f"{found[1]}.{j}{found[3]}" for j, source in enumerate(numbering) if source == int(found[2])]
    if re.search(r"\d", entry) and _meets(entry, modules, prefixes):
        matched = [name for name in modules if entry in name]
        return _spread(matched, prefixes, sources)
    return [entry]


def _spread(names: Iterable[str], prefixes: Sequence[str], sources: Mapping[str, Sequence[int]]) -> list[str]:
    """The target's names of these source modules."""
    spread = []
    for name in names:
        for prefix in prefixes:
            found = re.fullmatch(rf"{re.escape(prefix)}\.(\d+)(\..+|)", name)
            if found:
                spread += [f"{prefix}.{j}{found[2]}" for j, s in enumerate(sources[prefix]) if s == int(found[1])]
                break
        else:
            spread.append(name)
    return spread


def _tail(prefix: str) -> str:
    """The prefix as a list may write it: with or without its first components ("model.layers" or "layers")."""
    parts = prefix.split(".")
    return "(?:" + "|".join(re.escape(".".join(parts[i:])) for i in range(len(parts))) + ")"


def _says_number(pattern: str) -> bool:
    """Whether a regular expression may say which layers: a digit other than a class or a count of repetitions."""
    return bool(re.search(r"\d", re.sub(r"\\d|\[0-9\]|\{\d*,?\d*\}", "", pattern)))


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.match(pattern, name) is not None
    except re.error as error:
        raise UnsupportedError(f"quantization_config: {pattern!r} is no regular expression: {error}") from error


def _meets(entry: str, modules: list[str], prefixes: Sequence[str]) -> bool:
    """Whether the text overlaps a layer's number somewhere ("layers.1", ".11.mlp")."""
    return any(entry in name and _touches_index(entry, name, prefixes) for name in modules)


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
