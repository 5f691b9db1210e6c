"""Models that mix kinds of layers: what a pattern must leave of them.

Each layer keeping its own kind is depth.py; here is only what the layers must hold together.
"""

from collections.abc import Sequence

from solar_upscale.architecture.known import Known
from solar_upscale.errors import UnsupportedError

__all__ = ["lost_kinds"]

_RECURRENT = frozenset(("linear_attention", "conv", "recurrent", "mamba", "mamba2"))
_ATTENTION = frozenset(("full_attention", "sliding_attention", "attention", "hybrid", "indexed_attention"))


def lost_kinds(known: Known, sources: Sequence[int]) -> list[str]:
    """A warning if the pattern leaves none of a hybrid's attention layers.

    transformers counts a text's length by the cache of an attention layer: without one a forward pass works and
    ``generate`` raises, for every hybrid type tried but MiniMax (Qwen3-Next, Qwen3.5, Kimi-Linear, Nemotron-H, LFM2,
    Granite 4, Zamba2).

    Raises:
        UnsupportedError: the type's own config class accepts no model without a kind that the pattern drops.
    """
    for attribute in known.attributes:
        kinds = attribute.read(known.view, known.view.num_layers)
        if kinds is None or not all(isinstance(kind, str) for kind in kinds):
            continue
        left = {kinds[source] for source in sources}
        for kind in (kind for record in known.records for kind in record.demands):
            if kind in kinds and kind not in left:
                raise UnsupportedError(
                    f"{known.model_type}: the pattern leaves no {kind} layer, and transformers refuses such a config; "
                    f"keep one of source layers {_listed(kinds, {kind})}"
                )
        if _RECURRENT.intersection(kinds) and _ATTENTION.intersection(kinds) and not left & _ATTENTION:
            return [
                "the pattern leaves no attention layer: transformers cannot generate with a cache from such a model; "
                f"keep one of source layers {_listed(kinds, _ATTENTION)}"
            ]
    return []


def _listed(kinds: Sequence[str], wanted: frozenset[str] | set[str]) -> str:
    found = [str(layer) for layer, kind in enumerate(kinds) if kind in wanted]
    return ", ".join(found[:8]) + (" and more" if len(found) > 8 else "")
