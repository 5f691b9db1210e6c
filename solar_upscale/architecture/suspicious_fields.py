"""Config fields that seem to refer to layers and that no record accounts for: refused rather than ignored."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["suspicious_fields"]

# Words in a field's name that make a number, or a list, suspicious.
_COUNTING = frozenset(
    "layer layers block blocks depth idx idxs period interval every pattern freq nextn mtp".split()  # noqa: SIM905 - words read best so
)
_LISTING = _COUNTING | {"stage", "stages", "ids", "indices", "indexes", "type", "types"}
# A dict under such a key is the config of a tower, a processor or a quantiser, even without a model_type.
_OTHER_MODEL = re.compile(
    r"vision|visual|image|video|audio|speech|talker|token2wav|code2wav|projector|resampler|perceiver|qformer|processor|lora"
    r"|quantization|compression|(^|_)vq|(^|_)dit"
)
# Fields that look as if they described layers and do not, in any model: those of transformers' base config, token ids,
# labels, and settings of rotary embeddings, norms and dropout. What is harmless in one type only belongs in its record.
_HARMLESS = frozenset(
    """
    architectures auto_map torch_dtype dtype id2label label2id id2lang lang2id task_specific_params model_type
    eos_token_id bos_token_id pad_token_id decoder_start_token_id suppress_tokens begin_suppress_tokens
    forced_decoder_ids bad_words_ids forced_bos_token_id forced_eos_token_id sep_token_id
    short_factor long_factor mrope_section rope_scaling rope_parameters
    layer_norm_eps layer_norm_epsilon layernorm_epsilon layer_norm layer_norm_elementwise_affine layerdrop
    encoder_layerdrop decoder_layerdrop layer_scale_init_value use_layer_norm apply_residual_connection_post_layernorm
    type_vocab_size token_type_ids hidden_act_type position_embedding_type position_embeddings_type
    """.split()  # noqa: SIM905 (a list of quoted names does not read better)
)


def suspicious_fields(
    config: Mapping[str, Any],
    path: tuple[str, ...],
    num_layers: int,
    explained: Collection[str],
    harmless: Collection[str] = (),
) -> list[str]:
    """Each field that seems to refer to layers and is not ``explained``, as "path: why it is suspicious".

    Searches the section at ``path`` with everything nested in it except configs of other models, and the plain fields
    of the sections around it. ``explained`` holds dotted names relative to the section; ``harmless`` holds names of
    single fields at any level.
    """
    harmless = _HARMLESS.union(harmless)
    found = []
    section: Mapping[str, Any] = config
    for depth in range(len(path) + 1):
        inside = depth == len(path)
        prefix = ".".join(path[:depth])
        for name, value in _leaves(section, deep=inside):
            if name in explained or name.split(".")[-1] in harmless or name.split(".")[0] in harmless:
                continue
            reason = _suspicion(name.split(".")[-1], value, num_layers)
            if reason:
                found.append(f"{prefix}.{name}: {reason}" if prefix else f"{name}: {reason}")
        if not inside:
            section = section[path[depth]]
    return found


def _leaves(section: Mapping[str, Any], prefix: str = "", *, deep: bool) -> Iterator[tuple[str, Any]]:
    """Every field with its dotted name, skipping dicts that are configs of other models."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping) or _keyed_by_number(value):
            yield name, value
        elif deep and "model_type" not in value and not _OTHER_MODEL.search(str(key)):
            yield from _leaves(value, f"{name}.", deep=True)


def _keyed_by_number(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(str(key).isdigit() for key in value)


def _suspicion(key: str, value: Any, num_layers: int) -> str | None:
    """Why a field may refer to layers; None if it does not look that way."""
    reason = None
    if isinstance(value, list | tuple):
        if len(value) == num_layers > 1:
            reason = f"has {num_layers} entries, one per layer"
        elif value and _LISTING.intersection(key.split("_")):
            reason = f"lists {value!r:.60}"
    elif isinstance(value, Mapping):
        reason = "is keyed by numbers, like layers" if _keyed_by_number(value) else None
    elif isinstance(value, str):
        fits = len(value) == num_layers > 3 and " " not in value and _LISTING.intersection(key.split("_"))
        reason = f"is {value!r:.60}" if "pattern" in key or fits else None
    elif isinstance(value, int) and not isinstance(value, bool):
        reason = f"is {value}" if _COUNTING.intersection(key.split("_")) and value else None
    elif isinstance(value, float):
        reason = f"is {value}" if "depth" in key else None
    return reason
