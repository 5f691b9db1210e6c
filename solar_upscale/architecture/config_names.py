"""The field names under which configs of any model type keep layer counts and their text decoder's section."""

from solar_upscale.architecture.registry import find_type

__all__ = ["COUNT_NAMES", "MTP_FIELDS", "TEXT_SECTIONS", "count_names"]

# Fields that count layers.
COUNT_NAMES = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "decoder_layers", "encoder_layers",
    "num_decoder_layers", "num_encoder_layers",
)  # fmt: skip

# Fields that count next-token (MTP) layers, which follow the last layer or form a module of their own.
MTP_FIELDS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")

# Where a config keeps its text decoder, in order of preference. Models with remote code use these names too, so they
# are tried for every model type; `make tables` checks that they reach every text model of transformers.
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
    """The fields in which a section of this type may count a stack of this role, the one to write first."""
    record = find_type(model_type)
    own = record.counts.get(role) if record else None
    return own or (COUNT_NAMES if role in ("decoder", "encoder") else (*COUNT_NAMES, "depth"))
