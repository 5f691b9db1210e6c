"""What was measured of repeated windows, as a table: perplexity of SmolLM2-135M-Instruct (30 layers) as a ratio.

Source: docs/starts.md, which ``make quality`` writes; a test compares the two.
"""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["MEASURED_LAYERS", "REVERSALS", "SOURCE", "WINDOWS", "Window", "nearest_window"]

SOURCE = "SmolLM2-135M, docs/starts.md"
MEASURED_LAYERS = 30

# How far, as a part of the depth, the ends of a window may be from those of a measured one that stands for it.
_REACH = 0.1


class Window(NamedTuple):
    """Layers [start, stop) of 30 repeated once as a window, and by what factor perplexity rose."""

    start: int
    stop: int
    ratio: float

    @property
    def text(self) -> str:
        """As the page writes it: "[8,22)"."""
        return f"[{self.start},{self.stop})"


# By how both passes start. SOLAR's windows are first, so that they are chosen where another is as near.
# Layers in descending order: 14 of 30 in the middle, and all of them.
REVERSALS = (102.0, 144119.0)

WINDOWS: dict[str, tuple[Window, ...]] = {
    "copy": (
        Window(13, 17, 1.158), Window(12, 18, 1.198), Window(10, 20, 1.311), Window(8, 22, 1.410),
        Window(6, 24, 1.818), Window(4, 26, 4.30), Window(2, 28, 4.04),
        Window(0, 15, 9.82), Window(2, 17, 1.409), Window(4, 19, 1.328), Window(5, 20, 1.307), Window(6, 21, 1.358),
        Window(8, 23, 1.518), Window(10, 25, 7.87), Window(12, 27, 2.24), Window(15, 30, 11),
        Window(0, 8, 81), Window(2, 10, 1.238), Window(4, 12, 1.216), Window(6, 14, 1.176), Window(8, 16, 1.139),
        Window(10, 18, 1.257), Window(14, 22, 1.266), Window(22, 30, 5.16),
    ),
    "split": (Window(5, 20, 1.758), Window(8, 23, 1.698)),
}  # fmt: skip


def nearest_window(windows: Iterable[Window], start: int, stop: int, num_layers: int) -> Window | None:
    """The measured window nearest to layers [start, stop) of ``num_layers``, by the ends as parts of the depth.

    None if none is near enough to say anything.
    """

    def distance(window: Window) -> float:
        ends = (start / num_layers - window.start / MEASURED_LAYERS, stop / num_layers - window.stop / MEASURED_LAYERS)
        return round(max(map(abs, ends)), 6)

    nearest = min(windows, key=distance)
    return nearest if distance(nearest) <= _REACH else None
