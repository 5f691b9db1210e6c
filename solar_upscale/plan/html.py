"""A plan in a notebook: the layer map as a picture, and the report as text, in the notebook's own colours."""

from html import escape

from solar_upscale.plan.layer_map.picture import svg_map
from solar_upscale.plan.report import plan_report
from solar_upscale.plan.types import UpscalePlan

__all__ = ["plan_html"]

# The text has the page's ink on the page's paper, light or dark; the picture brings its own paper.
_TEXT_STYLE = "color:inherit;background:transparent;line-height:1.2;overflow-x:auto"


def plan_html(plan: UpscalePlan) -> str:
    """The plan as one HTML element without scripts or references; names from files are escaped."""
    picture = svg_map(plan.pattern, factors=plan.factors, title=plan.source.name)
    report = escape(plan_report(plan, width=100))
    return f'<div style="color-scheme:light dark">{picture}<pre style="{_TEXT_STYLE}">{report}</pre></div>'
