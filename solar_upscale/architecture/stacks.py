"""Find the lists of layers in a model from tensor names: which modules are numbered, and which of them are layers.

Vision and audio towers are listed too, but never chosen as the text decoder.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from solar_upscale.architecture.config_names import MTP_FIELDS, TEXT_SECTIONS, count_names
from solar_upscale.architecture.registry import find_type
from solar_upscale.architecture.types import Stack
from solar_upscale.errors import UnsupportedError

__all__ = ["choose_stack", "find_stacks", "name_splitter", "numbered", "section_at", "section_type"]

# Words in a prefix that mark something other than the text model.
_OTHER = re.compile(
    "|".join(
        (
            r"vision|visual|image|img|video|(^|_)vit(_|$)|vae|(^|_)vq|sam_model|patch|timm|radio|qwen2_model",
            r"audio|speech|sound|codec|vocoder|talker|code2wav|token2wav|t2u|depth_decoder",
            r"tower|qformer|perceiver|resampler|connector|projector|projection|aligner|merger|adapter|adaptor|mlp1",
            r"protein|(^|\.)(experts?|gemma_expert|action_expert)(\.|$)|(^|_)dit(_|$)|(^|_)mm_|bottom",
            r"(^|[._])mtp|cross_attn_layers|deepstack|(^|\.)convs?\d*(\.|$)|(^|\.)neck|(^|\.)embed|altup|lm_head",
        )
    )
)
_ROLES = (("vision", re.compile(r"vision|visual|image|img|video|(^|_)vit(_|$)|sam_model|radio|timm|qwen2_model")),
          ("audio", re.compile(r"audio|speech|sound|codec|vocoder")))  # fmt: skip
_ENCODER = re.compile(r"(^|_)encoder$")
# Modules with a config section of their own.
_OWN_SECTIONS = {
    "global_transformer": ("global_config",),
    "local_decoder": ("decoder_config",),
    "local_encoder": ("encoder_config",),
    "patcher": ("patcher_config",),
}
_ENCODER_SECTIONS: tuple[tuple[str, ...], ...] = (
    ("encoder", "text_config"), ("encoder",), ("encoder_config",), ("text_encoder",), *TEXT_SECTIONS, (),
    ("vision_config",), ("audio_config",),
)  # fmt: skip
_MTP_PARTS = frozenset({"eh_proj", "enorm", "hnorm", "shared_head", "final_layernorm", "input_proj"})

Rests = dict[int, set[str]]


def find_stacks(tensors: Iterable[str], config: Mapping[str, Any]) -> tuple[Stack, ...]:
    """Every list of layers in the model, the text decoder first.

    ``tensors`` are the tensor names of a checkpoint or of a module's state dict.
    """
    groups = {prefix: rests for prefix, rests in numbered(tensors).items() if 0 in rests}
    sets, parallel = _parallel(groups, str(config.get("model_type", "")))
    sets += [(prefix,) for prefix, rests in groups.items() if prefix not in parallel and _looks_like_layers(rests)]
    text = [prefixes for prefixes in sets if not _OTHER.search(prefixes[0])]
    decoders = [prefixes for prefixes in text if not _is_encoder(prefixes[0])]
    found = []
    for prefixes in sets:
        rests = groups[prefixes[0]]
        if prefixes not in text:
            role = next((name for name, words in _ROLES if words.search(prefixes[0])), "other")
        else:
            beside_decoder = decoders or _has_decoder(config)
            role = "encoder" if beside_decoder and prefixes not in decoders else "decoder"
        path = _section_path(config, prefixes[0], role, max(rests) + 1)
        num_layers = _without_mtp(rests, config, path, role)
        size = sum(len(names) for names in rests.values())
        counted = num_layers in _counts(config, path, role).values() or not _counts(config, path, role)
        found.append((role, counted, size, Stack(prefixes[0], prefixes, num_layers, path, role)))
    order = {"decoder": 0, "encoder": 1, "other": 3}
    found.sort(key=lambda item: (order.get(item[0], 2), not item[1], -item[2]))
    return tuple(stack for *_, stack in found)


def choose_stack(stacks: tuple[Stack, ...], name: str | None) -> Stack:
    """The stack called ``name`` (its prefix, the end of its prefix, or its role); the text decoder for None.

    Raises:
        UnsupportedError: there is no stack, no text decoder to choose by default, or not exactly one of that name.
    """
    listed = ", ".join(f"{stack.name} ({stack.role}, {stack.num_layers} layers)" for stack in stacks)
    if not stacks:
        raise UnsupportedError(
            "the tensors contain no list of layers numbered from 0, so nothing can be repeated or dropped; choose the "
            "checkpoint of a whole model"
        )
    if name is None:
        if stacks[0].role not in ("decoder", "encoder"):
            raise UnsupportedError(f"no text decoder among the stacks; choose one with --stack: {listed}")
        return stacks[0]
    matches = [stack for stack in stacks if name in stack.prefixes]
    matches = matches or [stack for stack in stacks if f".{stack.name}".endswith(f".{name}")]
    matches = matches or [stack for stack in stacks if stack.role == name]
    if len(matches) != 1:
        raise UnsupportedError(f"--stack {name}: {len(matches)} stacks have that name; the stacks are: {listed}")
    return matches[0]


@lru_cache(maxsize=64)
def name_splitter(prefixes: tuple[str, ...]) -> Callable[[str], tuple[str, int, str] | None]:
    """A function that splits a tensor name into (prefix, layer, rest with its dot); None outside the stack."""
    alternatives = "|".join(re.escape(prefix) for prefix in sorted(prefixes, key=len, reverse=True))
    pattern = re.compile(rf"({alternatives})\.(0|[1-9][0-9]{{0,5}})(\..+|)\Z", re.DOTALL)

    def split(name: str) -> tuple[str, int, str] | None:
        match = pattern.match(name)
        return (match[1], int(match[2]), match[3]) if match else None

    return split


def section_at(config: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """The part of the config at ``path``."""
    section: Any = config
    for key in path:
        section = section.get(key) if isinstance(section, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def section_type(config: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """The model type of a section: its own, else the one that the root's model type implies."""
    own = section_at(config, path).get("model_type")
    root = str(config.get("model_type") or "")
    if path and isinstance(own, str) and own:
        return own
    record = find_type(root)
    return (record.text_type if record else None) or root


def numbered(tensors: Iterable[str]) -> dict[str, Rests]:
    """What follows each index, by prefix. Only a name's first number counts: the others are inside a layer."""
    groups: dict[str, Rests] = defaultdict(lambda: defaultdict(set))
    for name in tensors:
        parts = name.split(".")
        position = next((i for i, part in enumerate(parts) if part.isascii() and part.isdigit()), None)
        if position:
            groups[".".join(parts[:position])][int(parts[position])].add(".".join(parts[position + 1 :]))
    return groups


def _looks_like_layers(rests: Rests) -> bool:
    """Whether a numbered list is one of layers: several modules each, and no second index right after the first."""
    names = set().union(*rests.values())
    modules = {name.rpartition(".")[0] for name in names if "." in name}
    return len(modules) > 1 and not any(name.split(".")[0].isdigit() for name in names)


def _parallel(groups: Mapping[str, Rests], model_type: str) -> tuple[list[tuple[str, ...]], set[str]]:
    """Groups of prefixes that share one numbering in this model type, and all prefixes in them."""
    record = find_type(model_type)
    endings = record.parallel if record else ()
    sets = []
    for prefix in groups:
        if endings and f".{prefix}".endswith(f".{endings[0]}"):
            stem = prefix.removesuffix(endings[0])
            together = tuple(stem + ending for ending in endings if stem + ending in groups)
            if len(together) == len(endings):
                sets.append(together)
    return sets, {prefix for prefixes in sets for prefix in prefixes}


def _is_encoder(prefix: str) -> bool:
    """Whether the outermost "encoder" or "decoder" is an encoder: a BERT used as a decoder is decoder.bert.encoder."""
    for part in prefix.split("."):
        if part == "decoder":
            return False
        if _ENCODER.search(part):
            return True
    return False


def _has_decoder(config: Mapping[str, Any]) -> bool:
    """Whether the config is that of an encoder-decoder, even if the checkpoint has the encoder only, as T5's may."""
    both = isinstance(config.get("encoder"), Mapping) and isinstance(config.get("decoder"), Mapping)
    record = find_type(str(config.get("model_type")))
    return both or (record is not None and "encoder" in record.counts)


def _section_path(config: Mapping[str, Any], prefix: str, role: str, layers: int) -> tuple[str, ...]:
    """The path of the config section that describes this stack: preferably one whose count matches."""
    for part in prefix.split("."):
        if part in _OWN_SECTIONS and section_at(config, _OWN_SECTIONS[part]):
            return _OWN_SECTIONS[part]
    if role == "decoder":
        candidates: tuple[tuple[str, ...], ...] = (*TEXT_SECTIONS, ())
    elif role == "encoder":
        candidates = _ENCODER_SECTIONS
    else:
        words = {"vision": ("vision", "visual", "image", "vit"), "audio": ("audio", "speech", "encoder")}.get(role, ())
        candidates = tuple(path for path in _sections(config) if any(word in path[-1] for word in words))
    existing = [path for path in candidates if section_at(config, path)]
    for path in existing:
        if layers in _counts(config, path, role).values():
            return path
    return existing[0] if existing and role in ("decoder", "encoder") else ()


def _sections(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every dict in the config whose name ends in "config"."""
    found = []
    for key, value in config.items():
        if isinstance(value, Mapping) and key.endswith("config"):
            found += [(*path, key), *_sections(value, (*path, key))]
    return found


def _counts(config: Mapping[str, Any], path: tuple[str, ...], role: str) -> dict[str, int]:
    section = section_at(config, path)
    values = {name: section.get(name) for name in count_names(section_type(config, path), role)}
    return {name: value for name, value in values.items() if isinstance(value, int) and not isinstance(value, bool)}


def _without_mtp(rests: Rests, config: Mapping[str, Any], path: tuple[str, ...], role: str) -> int:
    """The number of layers without the next-token layers that some models number after the last layer."""
    total = max(rests) + 1
    counts = [value for value in _counts(config, path, role).values() if value <= total]
    if not counts or total in counts:
        return total
    count = max(counts)
    mtp_parts = {part for index, names in rests.items() if index >= count for name in names for part in name.split(".")}
    section = section_at(config, path)
    declared = any(isinstance(section.get(name), int) and section[name] for name in MTP_FIELDS)
    return count if declared or mtp_parts & _MTP_PARTS else total
