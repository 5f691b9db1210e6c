"""A recipe as a value: what a YAML file asks for, before any checkpoint is looked at."""

from dataclasses import dataclass

from solar_upscale.request import UpscaleRequest

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
    """One job as a file says it: the request, and the source if the file names one.

    ``revision`` belongs to ``source``: who replaces the one drops the other.
    """

    name: str
    dialect: str
    request: UpscaleRequest
    source: str | None = None
    revision: str | None = None
    published: Published | None = None
