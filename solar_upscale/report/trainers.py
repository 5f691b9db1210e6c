"""What trainers need to train the repeats alone: settings as values, one table a trainer, and what cannot be said.

Nothing is approximated: where a trainer's option would also train an original layer, its settings are None and a note
says why. The settings name parameters; freezing them in PyTorch is train.py.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from solar_upscale.architecture import Stack

__all__ = ["trainer_settings"]

# How transformers spells, in a loaded model, what stands before a layer's list in a checkpoint; both are matched.
# Source: transformers 5.23, conversion_mapping.py, the renamings of the llava family.
SPELLINGS = (("language_model.model", "model.language_model"),)


def trainer_settings(
    stack: Stack, layers: Sequence[int], num_layers: int, tensor_names: Iterable[str]
) -> dict[str, Any]:
    """Settings for each trainer that train ``layers`` of a model of ``num_layers`` layers, and nothing else.

    ``tensor_names`` are those of the output; they show whether a number or a list's name would also match elsewhere.

    Source: axolotl 0.19 utils/freeze.py; ms-swift 4.6 utils/transformers_utils.py; PEFT 0.21 tuners/tuners_utils.py;
    LLaMA-Factory 0.9.5 model/adapter.py.
    """
    if not layers:
        nothing: dict[str, Any] = dict.fromkeys(("axolotl", "ms-swift", "peft", "llama-factory"))
        return {"layers": [], **nothing, "notes": ["No layer is repeated, so there is none to train apart."]}
    names = tuple(tensor_names)
    others = _other_lists(stack, names)
    llama_factory, notes = _llama_factory(stack, layers, num_layers, names)
    return {
        "layers": list(layers),
        "axolotl": {"unfrozen_parameters": [_regex(prefix, layers, others, ".") for prefix in stack.prefixes]},
        "ms-swift": {
            "freeze_parameters_ratio": 1.0,
            "trainable_parameters_regex": "|".join(_regex(prefix, layers, others, r"\.") for prefix in stack.prefixes),
        },
        "peft": {"layers_to_transform": list(layers), "layers_pattern": _layers_patterns(stack, others)},
        "llama-factory": llama_factory,
        "notes": [
            "ms-swift: with full-parameter training; freeze_parameters_ratio freezes all, the regex thaws the repeats.",
            "peft: target_modules must be a list of names; PEFT refuses layers_to_transform beside a string.",
            *notes,
        ],
    }


def _regex(prefix: str, layers: Sequence[int], others: frozenset[str], dot: str) -> str:
    """A pattern, anchored at the start, for every parameter of the layers.

    axolotl escapes each dot of a pattern itself (newer ones spare ".+"), so there ``dot`` is bare and none is a
    wildcard. What stands before the list's own name may be spelt differently in a loaded model; as little of it is
    asked for as tells the list from ``others``.
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
    """PEFT's layers_pattern: the list's own name, with its parent's where another list has the same name."""
    spellings = [spelling for prefix in stack.prefixes for spelling in _spellings(prefix)]
    kept = 2 if others else 1
    patterns = list(dict.fromkeys(".".join(spelling.split(".")[-kept:]) for spelling in spellings))
    return patterns[0] if len(patterns) == 1 else patterns


def _spellings(prefix: str) -> tuple[str, ...]:
    """The prefix as the checkpoint spells it, and as a loaded model may."""
    found = [prefix]
    for pair in SPELLINGS:
        for ours, theirs in (pair, pair[::-1]):
            if prefix.startswith(f"{ours}."):
                found.append(theirs + prefix[len(ours) :])
    return tuple(found)


def _other_lists(stack: Stack, names: Iterable[str]) -> frozenset[str]:
    """Every other list of modules whose own name is that of the stack's: an encoder beside a decoder."""
    own = {prefix.rpartition(".")[2] for prefix in stack.prefixes}
    found = set()
    for name in names:
        parts = name.split(".")
        for at in range(1, len(parts)):
            if parts[at].isdecimal() and parts[at - 1] in own:
                found.add(".".join(parts[:at]))
    return frozenset(found - set(stack.prefixes))


def _llama_factory(
    stack: Stack, layers: Sequence[int], num_layers: int, names: Iterable[str]
) -> tuple[dict[str, Any] | None, list[str]]:
    """LLaMA-Factory's freeze tuning: it can train the last k layers or the last of each of k equal groups."""
    count = len(layers)
    settings: dict[str, Any] = {"finetuning_type": "freeze", "freeze_trainable_layers": count}
    if tuple(layers) != tuple(range(num_layers - count, num_layers)):
        stride, rest = divmod(num_layers, count)
        if rest or tuple(layers) != tuple(range(stride - 1, num_layers, stride)):
            why = f"the last {count} layers, or the last of each of {count} equal groups; the repeats are neither"
            return None, [f"llama-factory: its options can train {why}."]
        settings["use_llama_pro"] = True
    names = tuple(names)
    if _has_encoder_beside(stack, names):
        return None, ["llama-factory: it counts the layers of the encoder, and these are the decoder's."]
    stranger = _matched_by_number(stack, layers, names)
    if stranger is not None:
        return None, [
            f"llama-factory: it finds layers by their number anywhere in a name, so {stranger} would train too."
        ]
    return settings, []


def _has_encoder_beside(stack: Stack, names: Iterable[str]) -> bool:
    """Whether the stack is the decoder of a model whose own config counts the layers of an encoder."""
    if stack.config_path or not any("decoder" in prefix.split(".") for prefix in stack.prefixes):
        return False
    return any("encoder" in name.split(".") for name in names)


def _matched_by_number(stack: Stack, layers: Sequence[int], names: Iterable[str]) -> str | None:
    """The first tensor outside the layers whose name has one of their numbers between two dots."""
    numbers = {str(layer) for layer in layers}
    for name in names:
        own = next((prefix for prefix in stack.prefixes if name.startswith(f"{prefix}.")), None)
        if own is not None and name[len(own) + 1 :].partition(".")[0] in numbers:
            continue
        if numbers.intersection(name.split(".")[1:-1]):
            return name
    return None
