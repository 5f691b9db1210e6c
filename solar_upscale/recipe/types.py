"""A recipe as a value: the contents of a YAML file, not yet checked against a checkpoint."""

from dataclasses import dataclass

from solar_upscale.request import UpscaleRequest

__all__ = ["Published", "Recipe"]


@dataclass(frozen=True, slots=True)
class Published:
    """Facts about a recipe's published model, for display only; no plan depends on them.

    Parameter counts include a tied embedding once. ``note`` says what differs, or what was inferred.
    """

    source_layers: int | None = None
    target_layers: int | None = None
    source_parameters: int | None = None
    target_parameters: int | None = None
    reference: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A job read from a file: the request, and the source if the file names one.

    ``revision`` belongs to ``source``: a caller that replaces the source must drop the revision.
    """

    name: str
    dialect: str
    request: UpscaleRequest
    source: str | None = None
    revision: str | None = None
    published: Published | None = None
