"""All small files of an output, as bytes: rendered once to be written, and again to be verified."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from solar_upscale._version import __version__
from solar_upscale.plan.layer_map.picture import svg_map
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.report.card import model_card
from solar_upscale.report.provenance import PROVENANCE_NAME, provenance
from solar_upscale.strict_json import json_bytes

__all__ = ["REPORTS", "Render", "output_filenames", "render_output_files"]

Render: TypeAlias = Callable[[UpscalePlan, Mapping[str, str]], bytes]
"""Renders one file from the plan, and from the SHA-256 of each copied file, which provenance records."""


def _provenance(plan: UpscalePlan, copied_digests: Mapping[str, str]) -> bytes:
    return json_bytes(provenance(plan, __version__, copied_digests))


# The files that describe an output. To add one, add an entry: it is then written, published and verified.
REPORTS: Mapping[str, Render] = {
    "README.md": lambda plan, copied_digests: model_card(plan),
    "layer_map.svg": lambda plan, copied_digests: svg_map(
        plan.pattern, factors=plan.factors, title=plan.source.name
    ).encode(),
    PROVENANCE_NAME: _provenance,
}


def output_filenames(plan: UpscalePlan) -> tuple[str, ...]:
    """The name of every file in the output."""
    shards, copied_files = (shard.filename for shard in plan.shards), (file.name for file in plan.copied_files)
    return (*shards, *copied_files, *plan.model_files, *REPORTS)


def render_output_files(plan: UpscalePlan, copied_digests: Mapping[str, str]) -> dict[str, bytes]:
    """Every file that is neither a shard nor copied from the source, by name."""
    return {**plan.model_files, **{name: render(plan, copied_digests) for name, render in REPORTS.items()}}
