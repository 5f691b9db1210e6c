"""README.md of an output: a model card that says how it was made and inherits the fields that stay true of the source.

The source's own card is not trusted: a few fields of its front matter are validated and inherited, its text never.
"""

from solar_upscale.plan.types import UpscalePlan
from solar_upscale.report.card.body import MAP_NAME, card_body
from solar_upscale.report.card.front_matter import front_matter, inherited
from solar_upscale.report.card.loading import named

__all__ = ["MAP_NAME", "model_card", "named"]


def model_card(plan: UpscalePlan) -> bytes:
    """The card's bytes."""
    fields, remarks = inherited(plan.source_card)
    return f"---\n{front_matter(plan, fields)}---\n\n{card_body(plan, remarks)}".encode()
