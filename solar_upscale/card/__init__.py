"""README.md of an output: a model card that inherits what is true of the source, and says how it was made.

The source's own card is not trusted: a few fields of its front matter are taken over after a check, its text never.
"""

from solar_upscale.card.body import MAP_NAME, card_body
from solar_upscale.card.front_matter import front_matter, inherited
from solar_upscale.plan import UpscalePlan

__all__ = ["MAP_NAME", "model_card"]


def model_card(plan: UpscalePlan, *, source_readme: bytes | None, repo_id: str | None = None) -> bytes:
    """The card's bytes. ``source_readme`` is the source's card, ``repo_id`` the Hub id that the output will have."""
    fields, remarks = inherited(source_readme)
    return f"---\n{front_matter(plan, fields)}---\n\n{card_body(plan, remarks, repo_id)}".encode()
