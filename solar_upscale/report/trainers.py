"""Settings that make each trainer train only the repeated layers, and notes on what a trainer cannot express.

Nothing is approximated: where a trainer's options would also train an original layer, its settings are None and a note
says why. The settings select parameters by name; memory/freeze.py freezes them in PyTorch.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from solar_upscale.architecture import Stack

__all__ = ["trainer_settings"]

# Prefixes that transformers renames on loading, (checkpoint, loaded model); both spellings are matched.
# Source: transformers 5.23, conversion_mapping.py, the renamings of the llava family.
SPELLINGS = (("language_model.model", "model.language_model"),)


def trainer_settings(
    stack: Stack, layers: Sequence[int], num_layers: int, tensor_names: Iterable[str]
) -> dict[str, Any]:
    """Settings for each trainer that train ``layers`` of a model of ``num_layers`` layers, and nothing else.

    ``regex`` is for no trainer in particular: Python's ``re.search`` finds it in the names of just these parameters.

    ``tensor_names`` are those of the output; they show whether a layer number or a list's name also matches elsewhere.

    Source: axolotl 0.19 utils/freeze.py; ms-swift 4.6 utils/transformers_utils.py; PEFT 0.21 tuners/tuners_utils.py;
    LLaMA-Factory 0.9.5 model/adapter.py.
    """
    if not layers:
        nothing: dict[str, Any] = dict.fromkeys(("axolotl", "ms-swift", "peft", "llama-factory"))
        note = "No layer is repeated, so there are no new layers to train."
        return {"layers": [], "regex": None, **nothing, "notes": [note]}
    names = tuple(tensor_names)
    others = _other_lists(stack, names)
    regex = "|".join(_regex(prefix, layers, others, r"\.") for prefix in stack.prefixes)
    llama_factory, notes = _llama_factory(stack, layers, num_layers, names)
    return {
        "layers": list(layers),
        "regex": regex,
        "axolotl": {"unfrozen_parameters": [_regex(prefix, layers, others, ".") for prefix in stack.prefixes]},
        "ms-swift": {"freeze_parameters_ratio": 1.0, "trainable_parameters_regex": regex},
        "peft": {"layers_to_transform": list(layers), "layers_pattern": _layers_patterns(stack, others)},
        "llama-factory": llama_factory,
        "notes": [
            "regex: for re.search on parameter names; axolotl's pattern is another, since it escapes dots itself.",
            "ms-swift: for full-parameter training; freeze_parameters_ratio freezes everything, the regex unfreezes "
            "the repeats.",
            "peft: target_modules must be a list of names; if it is a string, PEFT rejects layers_to_transform.",
            *notes,
        ],
    }


def _regex(prefix: str, layers: Sequence[int], others: frozenset[str], dot: str) -> str:
    """A pattern, anchored at the start, for every parameter of the layers.

    axolotl escapes each dot of a pattern itself (newer versions leave ".+" alone), so there ``dot`` is a bare dot and
    never a wildcard. A loaded model may spell the path before the list's own name differently, so the pattern has only
    as much of it as distinguishes the list from ``others``.
    """
    head = f"(?:[^ ]*{dot})?"
    names = _spellings(prefix) if others else (prefix.rpartition(".")[2],)
    if any(other.endswith(f".{prefix}") for other in others):
        head = ""
    escaped = "|".join(dot.join(map(re.escape, name.split("."))) for name in names)
    body = f"(?:{escaped})" if len(names) > 1 else escaped
    return f"^{head}{body}{dot}(?:{_numbers_regex({str(layer) for layer in layers})}){dot}"


def _numbers_regex(numbers: set[str]) -> str:
    """A short pattern for exactly these decimal numbers: 8, 9 and 10 are "10|[89]"."""
    tails: dict[str, set[str]] = defaultdict(set)
    for number in numbers:
        tails[number[0]].add(number[1:])
    digits: dict[str, list[str]] = defaultdict(list)
    for digit in sorted(tails):
        digits[_tail_regex(tails[digit])].append(digit)
    return "|".join(f"{_class(same)}{tail}" for tail, same in digits.items())


def _tail_regex(tails: set[str]) -> str:
    rest = _numbers_regex(tails - {""}) if tails != {""} else ""
    if not rest:
        return ""
    return f"(?:{rest})?" if "" in tails else f"(?:{rest})" if "|" in rest else rest


def _class(digits: Sequence[str]) -> str:
    if len(digits) == 1:
        return digits[0]
    if len(digits) > 2 and int(digits[-1]) - int(digits[0]) == len(digits) - 1:
        return f"[{digits[0]}-{digits[-1]}]"
    return f"[{''.join(digits)}]"


def _layers_patterns(stack: Stack, others: frozenset[str]) -> str | list[str]:
    """PEFT's layers_pattern: the list's own name, preceded by its parent's where another list has the same name."""
    spellings = [spelling for prefix in stack.prefixes for spelling in _spellings(prefix)]
    kept = 2 if others else 1
    patterns = list(dict.fromkeys(".".join(spelling.split(".")[-kept:]) for spelling in spellings))
    return patterns[0] if len(patterns) == 1 else patterns


def _spellings(prefix: str) -> tuple[str, ...]:
    """The prefix as the checkpoint spells it, and as a loaded model may spell it."""
    found = [prefix]
    for pair in SPELLINGS:
        for ours, theirs in (pair, pair[::-1]):
            if prefix.startswith(f"{ours}."):
                found.append(theirs + prefix[len(ours) :])
    return tuple(found)


def _other_lists(stack: Stack, names: Iterable[str]) -> frozenset[str]:
    """Every other list of modules with the same own name as the stack's, such as an encoder next to a decoder."""
    own = {prefix.rpartition(".")[2] for prefix in stack.prefixes}
    found = set()
    for name in names:
        parts = name.split(".")
        for index in range(1, len(parts)):
            if parts[index].isdecimal() and parts[index - 1] in own:
                found.add(".".join(parts[:index]))
    return frozenset(found - set(stack.prefixes))


def _llama_factory(
    stack: Stack, layers: Sequence[int], num_layers: int, names: Iterable[str]
) -> tuple[dict[str, Any] | None, list[str]]:
    """LLaMA-Factory's freeze tuning, which can train the last k layers, or the last of each of k equal groups."""
    count = len(layers)
    settings: dict[str, Any] = {"finetuning_type": "freeze", "freeze_trainable_layers": count}
    if tuple(layers) != tuple(range(num_layers - count, num_layers)):
        stride, rest = divmod(num_layers, count)
        if rest or tuple(layers) != tuple(range(stride - 1, num_layers, stride)):
            return None, [
                f"llama-factory: its options can train the last {count} layers, or the last of each of {count} equal "
                "groups; the repeats are neither."
            ]
        settings["use_llama_pro"] = True
    names = tuple(names)
    if _is_decoder_with_encoder(stack, names):
        return None, ["llama-factory: it counts the encoder's layers, but these are in the decoder."]
    other = _first_other_match(stack, layers, names)
    if other is not None:
        return None, [f"llama-factory: it matches a layer number anywhere in a name, so {other} would train too."]
    return settings, []


def _is_decoder_with_encoder(stack: Stack, names: Iterable[str]) -> bool:
    """Whether the stack is the decoder of a model whose top-level config counts the encoder's layers."""
    if stack.config_path or not any("decoder" in prefix.split(".") for prefix in stack.prefixes):
        return False
    return any("encoder" in name.split(".") for name in names)


def _first_other_match(stack: Stack, layers: Sequence[int], names: Iterable[str]) -> str | None:
    """The first tensor outside the layers whose name has one of their numbers between two dots, or None."""
    numbers = {str(layer) for layer in layers}
    for name in names:
        own = next((prefix for prefix in stack.prefixes if name.startswith(f"{prefix}.")), None)
        if own is not None and name[len(own) + 1 :].partition(".")[0] in numbers:
            continue
        if numbers.intersection(name.split(".")[1:-1]):
            return name
    return None
