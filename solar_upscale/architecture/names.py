"""The names that configs of any model type give to counts of layers and to the section of their text decoder."""

from solar_upscale.architecture.registry import find_type

__all__ = ["COUNT_NAMES", "MTP_FIELDS", "TEXT_SECTIONS", "count_names"]

# The names under which a config says how many layers there are.
COUNT_NAMES = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "decoder_layers", "encoder_layers",
    "num_decoder_layers", "num_encoder_layers",
)  # fmt: skip

# The names under which a config counts the next-token layers that stand after the last layer, or beside the stack.
MTP_FIELDS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")

# Where a config keeps its text decoder, best first. Published models with code of their own use these names too, so
# they are tried in a model of any type; `make tables` checks that they reach every text model of transformers.
TEXT_SECTIONS: tuple[tuple[str, ...], ...] = (
    ("text_config",),
    ("llm_config",),
    ("language_config",),
    ("thinker_config", "text_config"),
    ("vlm_config", "text_config"),
    ("decoder", "text_config"),
    ("decoder",),
)


def count_names(model_type: str, role: str) -> tuple[str, ...]:
    """The names under which a section of this type may count a stack of this role, the one to write first."""
    known = find_type(model_type)
    own = known.counts.get(role) if known else None
    return own or (COUNT_NAMES if role in ("decoder", "encoder") else (*COUNT_NAMES, "depth"))
