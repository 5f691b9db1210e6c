"""Which source layer each target layer comes from, for people: as text for a terminal, as SVG for a model page.

Everything here reads a pattern and returns text. Whether a terminal has colour is the caller's to know.
"""

from solar_upscale.report.layer_map.picture import svg_map
from solar_upscale.report.layer_map.runs import Run, runs
from solar_upscale.report.layer_map.terminal import terminal_map

__all__ = ["Run", "runs", "svg_map", "terminal_map"]
