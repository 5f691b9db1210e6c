"""Kinds of layers that a pattern must keep in a model that mixes them.

That each layer keeps its own kind is checked in depth.py.
"""

from collections.abc import Sequence

from solar_upscale.architecture.type_facts import TypeFacts
from solar_upscale.errors import UnsupportedError

__all__ = ["kind_warnings"]

_RECURRENT = frozenset(("linear_attention", "conv", "recurrent", "mamba", "mamba2"))
_ATTENTION = frozenset(("full_attention", "sliding_attention", "attention", "hybrid", "indexed_attention"))


def kind_warnings(facts: TypeFacts, sources: Sequence[int]) -> list[str]:
    """A warning if the pattern drops all attention layers of a hybrid.

    transformers takes the sequence length from the cache of an attention layer. Without one, a forward pass works but
    ``generate`` raises, in every hybrid type tried except MiniMax (Qwen3-Next, Qwen3.5, Kimi-Linear, Nemotron-H, LFM2,
    Granite 4, Zamba2).

    Raises:
        UnsupportedError: the pattern drops all layers of a kind that the type's config class insists on.
    """
    for attribute in facts.attributes:
        kinds = attribute.read(facts.view, facts.view.num_layers)
        if kinds is None or not all(isinstance(kind, str) for kind in kinds):
            continue
        kept = {kinds[source] for source in sources}
        for kind in (kind for record in facts.records for kind in record.required_kinds):
            if kind in kinds and kind not in kept:
                raise UnsupportedError(
                    f"{facts.model_type}: the pattern drops every {kind} layer, and transformers rejects such configs; "
                    f"keep one of source layers {_listed(kinds, {kind})}"
                )
        if _RECURRENT.intersection(kinds) and _ATTENTION.intersection(kinds) and not kept & _ATTENTION:
            return [
                "the pattern drops every attention layer, so transformers cannot generate with a cache; "
                f"keep one of source layers {_listed(kinds, _ATTENTION)}"
            ]
    return []


def _listed(kinds: Sequence[str], wanted: frozenset[str] | set[str]) -> str:
    found = [str(layer) for layer, kind in enumerate(kinds) if kind in wanted]
    return ", ".join(found[:8]) + (" and more" if len(found) > 8 else "")
