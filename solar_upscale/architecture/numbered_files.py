"""Small JSON files beside the weights that refer to layers by number, rewritten to the new numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.architecture.types import FieldChange, Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.strict_json import json_bytes, parse_json

__all__ = ["NUMBERED_FILES", "rewrite_files"]

_GENERATION = "generation_config.json"
_HEADS = "alignment_heads"

NUMBERED_FILES = ("quantize_config.json", "quantization_config.json", "hf_quant_config.json", _GENERATION)


def rewrite_files(
    files: Mapping[str, bytes], modules: Iterable[str], stack: Stack, numbering: Mapping[str, Sequence[int]]
) -> tuple[dict[str, bytes], list[FieldChange]]:
    """The new content of each file that must change, and the changes.

    ``modules`` are the names of the source's modules; ``numbering`` maps each prefix to the source layer of each target
    layer.

    Raises:
        CheckpointError: a file is not a JSON object.
        UnsupportedError: a file refers to layers in an unknown way.
    """
    rewritten: dict[str, bytes] = {}
    changes: list[FieldChange] = []
    for name, content in files.items():
        if name == _GENERATION and _HEADS.encode() not in content:
            continue
        old = parse_json(content, name)
        if name == _GENERATION:
            new = _follow_heads(old, stack, numbering[stack.prefixes[0]])
        else:
            from solar_upscale.architecture.quantization import rewrite_module_lists

            new = rewrite_module_lists(old, modules, tuple(numbering), numbering)
        if new != old:
            rewritten[name] = json_bytes(new)
            changes += [
                FieldChange(f"{name}: {key}", value, new.get(key), "refers to layers by number")
                for key, value in old.items()
                if new.get(key) != value
            ]
    return rewritten, changes


def _follow_heads(generation: Mapping[str, Any], stack: Stack, sources: Sequence[int]) -> dict[str, Any]:
    """Whisper's alignment heads, pairs of a decoder layer and one of its heads: each pair follows its layer.

    They give word timestamps. If none of these layers is left, the field is removed, and transformers reports that it
    cannot compute timestamps.
    """
    pairs = generation.get(_HEADS)
    if stack.role != "decoder" or pairs is None:
        return dict(generation)
    layers = range(stack.num_layers)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int and pair[0] in layers for pair in pairs
    ):
        raise UnsupportedError(
            f"{_GENERATION}: {_HEADS}: expected pairs of a decoder layer (0 to {layers[-1]}) and a head, "
            f"got {pairs!r:.80}; correct them, or remove the field"
        )
    heads = [[target, head] for target, source in enumerate(sources) for layer, head in pairs if layer == source]
    rest = {key: value for key, value in generation.items() if key != _HEADS}
    return {key: heads if key == _HEADS else value for key, value in generation.items()} if heads else rest
