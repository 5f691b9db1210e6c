"""A recipe as a value: what a YAML file asks for, before any checkpoint is looked at."""

from dataclasses import dataclass

__all__ = ["Published", "Recipe"]


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a recipe's published model. It is shown beside the recipe; no plan depends on it.

    Parameters are counted once where the embedding is tied. ``note`` says what differs, or what was inferred.
    """

    source_layers: int | None = None
    target_layers: int | None = None
    source_parameters: int | None = None
    target_parameters: int | None = None
    reference: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One job as a file says it. A field that the file does not name is None.

    ``layers`` are the entries as written, for ``solar_upscale.pattern`` to resolve; ``entry_scales`` has one factor or
    None for each. ``revision`` belongs to ``source``: who replaces the one drops the other. ``init`` and
    ``max_shard_size`` are the texts of the options of these names.

    Two things only the checkpoint can settle, and the planner must. ``dtype`` (a safetensors word, "BF16") is what a
    mergekit file wants written: any tensor of another dtype would be converted. ``scale_filters`` are the parts of
    tensor names that a mergekit file's factors apply to: they mean ``entry_scales`` only where they match exactly the
    projections that write into the residual stream.
    """

    name: str
    dialect: str
    layers: tuple[int | str, ...]
    entry_scales: tuple[float | None, ...]
    source: str | None = None
    revision: str | None = None
    init: str | None = None
    stack: str | None = None
    max_shard_size: str | int | None = None
    dtype: str | None = None
    scale_filters: tuple[str, ...] = ()
    published: Published | None = None
