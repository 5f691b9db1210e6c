"""All small files of an output, as bytes: rendered once to be written, and again to be verified."""

from collections.abc import Mapping

from solar_upscale._version import __version__
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.report.card import model_card
from solar_upscale.report.layer_map.picture import svg_map
from solar_upscale.report.provenance import PROVENANCE_NAME, provenance
from solar_upscale.strict_json import json_bytes

__all__ = ["REPORT_NAMES", "output_filenames", "render_output_files"]

REPORT_NAMES = ("README.md", "layer_map.svg", PROVENANCE_NAME)


def output_filenames(plan: UpscalePlan) -> tuple[str, ...]:
    """The name of every file in the output."""
    shards, copied_files = (shard.filename for shard in plan.shards), (file.name for file in plan.copied_files)
    return (*shards, *copied_files, *plan.model_files, *REPORT_NAMES)


def render_output_files(plan: UpscalePlan, copied_digests: Mapping[str, str]) -> dict[str, bytes]:
    """Every file that is neither a shard nor copied from the source, by name.

    ``copied_digests`` maps each copied file to its SHA-256, which provenance records.
    """
    return {
        **plan.model_files,
        "README.md": model_card(plan),
        "layer_map.svg": svg_map(plan.pattern, factors=plan.factors, title=plan.source.name).encode(),
        PROVENANCE_NAME: json_bytes(provenance(plan, __version__, copied_digests)),
    }
