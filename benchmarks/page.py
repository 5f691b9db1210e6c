"""The results as Markdown tables and a plot. docs/benchmarks.md is written here and never by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log10
from pathlib import Path

from benchmarks.chart import line_svg
from benchmarks.measure import Sample

__all__ = ["SIDE_BY_SIDE", "Line", "Page", "Promise", "Scaling", "Table", "short_table", "write_page"]

_INTRO = """\
# Benchmarks

Written by `make bench`; do not edit. {machine}.

Every process is measured whole: wall time, user and system CPU, peak memory (ru_maxrss), bytes dirtied in files. The
programs take turns, so that other work on the machine affects all of them alike; figures are medians, and a ratio is
the median of the ratios within each round. Sources are warm in the page cache and already on disk. Before each run,
memory for its output is touched and freed, so that no run pays for memory that a virtual machine had returned to its
host. All output is made durable within the measured time: solar-upscale syncs what it writes, the others are followed
by `sync` of each file and folder. Start-up is importing what the work imports. Ratios carry over to other machines
better than seconds do.
"""

SIDE_BY_SIDE = "Side by side on "

_HEADS = {
    "wall": "wall s",
    "cpu": "CPU s",
    "peak": "peak MiB",
    "written": "written MiB",
    "blocks": "disk taken MiB",
    "rounds": "runs",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A row: what was run, its medians, and further columns as text."""

    what: str
    sample: Sample
    rounds: int
    more: Mapping[str, str] = field(default_factory=dict)

    def cell(self, column: str) -> str:
        """The text of one column."""
        match column:
            case "wall" | "cpu":
                return f"{getattr(self.sample, column):.3f}"
            case "peak":
                return f"{self.sample.peak / 2**20:.0f}"
            case "written" | "blocks":
                return f"{getattr(self.sample, column) / 2**20:.2f}"
            case "rounds":
                return str(self.rounds)
        return self.more.get(column, "")


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, a sentence, and rows."""

    title: str
    lines: Sequence[Line]
    columns: Sequence[str]
    said: str = ""

    def text(self) -> str:
        """The table as Markdown."""
        heads = ["", *(_HEADS.get(column, column) for column in self.columns)]
        rows = [[line.what, *map(line.cell, self.columns)] for line in self.lines]
        rule = ["---", *("---:" for _ in self.columns)]
        body = "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])
        return f"## {self.title}\n\n" + (f"{self.said}\n\n" if self.said else "") + body + "\n"


@dataclass(frozen=True, slots=True)
class Promise:
    """A bound that the project sets itself, and what was measured; both in the same unit, said in ``what``."""

    what: str
    bound: float
    measured: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the measured value is within the bound."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def row(self) -> str:
        """The promise as a row of the table."""
        side = "at least" if self.at_least else "at most"
        verdict = "yes" if self.kept else "**no**"
        return f"| {self.what} | {side} {self.bound:g} | {self.measured:.4g} | {verdict} |"


@dataclass(frozen=True, slots=True)
class Scaling:
    """One curve of the plot: bytes of the source and what the run took."""

    kind: str
    points: Sequence[tuple[int, Sample]]


@dataclass(slots=True)
class Page:
    """All that was measured, in order."""

    machine: str
    tables: list[Table] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    scaling: list[Scaling] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def promises_text(self) -> str:
        """The promises and whether this run kept them."""
        head = "| | bound | measured | kept |\n| --- | ---: | ---: | --- |\n"
        return "## What is promised\n\n" + head + "\n".join(promise.row() for promise in self.promises) + "\n"


def short_table(page: Page) -> str:
    """The side by side tables in short, for the README: every way, and what it took on each file system."""
    tables = [table for table in page.tables if table.title.startswith(SIDE_BY_SIDE)]
    kinds = [table.title.removeprefix(SIDE_BY_SIDE) for table in tables]
    ways = list(dict.fromkeys(line.what for table in tables for line in table.lines))
    rows = [
        ["", *(f"{kind}: {head}" for kind in kinds for head in ("time", "memory", "disk"))],
        ["---", *("---:" for _ in kinds for _ in range(3))],
    ]
    for way in ways:
        rows.append([way])
        for table in tables:
            found = [line for line in table.lines if line.what == way]
            rows[-1] += _short(found[0].sample) if found else ["", "", ""]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _short(sample: Sample) -> list[str]:
    return [f"{sample.wall:.2f} s", f"{sample.peak / 2**20:.0f} MiB", f"{sample.blocks / 2**20:,.1f} MiB"]


def write_page(page: Page, folder: Path) -> None:
    """Write benchmarks.md and benchmarks.svg into the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "benchmarks.svg").write_text(_plot(page.scaling))
    parts = [
        _INTRO.format(machine=page.machine),
        page.promises_text(),
        "![Time and peak memory over the size of the source](benchmarks.svg)\n",
        *(table.text() for table in page.tables),
        "".join(f"{note}\n" for note in page.notes),
    ]
    (folder / "benchmarks.md").write_text("\n".join(part for part in parts if part))


# ---------------------------------------------------------------- the plot

_COLOURS = ("#0b6e99", "#c4551b", "#5a7d2a")
_WIDTH, _HEIGHT, _LEFT, _TOP = 360, 240, 60, 50


def _plot(curves: Sequence[Scaling]) -> str:
    """Two log-log panels: seconds, and peak memory in MiB, over the source's size in GB."""
    panels = [
        _panel(0, "wall time, s", [(c.kind, [(n / 1e9, s.wall) for n, s in c.points]) for c in curves]),
        _panel(1, "peak memory, MiB", [(c.kind, [(n / 1e9, s.peak / 2**20) for n, s in c.points]) for c in curves]),
    ]
    width, height = 2 * (_WIDTH + _LEFT) + 40, _HEIGHT + _TOP + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(number: int, title: str, curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    xs = [x for _, points in curves for x, _ in points]
    ys = [y for _, points in curves for _, y in points]
    low_x, high_x = _decades(xs)
    low_y, high_y = _decades(ys)
    left = _LEFT + number * (_WIDTH + _LEFT + 20)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - low_x) / (high_x - low_x) * _WIDTH
        up = (log10(y) - low_y) / (high_y - low_y) * _HEIGHT
        return round(left + across, 1), round(_TOP + _HEIGHT - up, 1)

    parts = [f'<text x="{left}" y="{_TOP - 24}" font-weight="600">{title}</text>']
    for power in range(low_x, high_x + 1):
        x, y = at(10**power, 10**low_y)
        parts.append(f'<path d="M{x} {_TOP}V{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{10.0**power:g} GB</text>')
    for power in range(low_y, high_y + 1):
        x, y = at(10**low_x, 10**power)
        parts.append(f'<path d="M{x} {y}H{left + _WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    lines = [[at(x, y) for x, y in points] for _, points in curves]
    for index, (kind, _) in enumerate(curves):
        colour = _COLOURS[index % len(_COLOURS)]
        parts += line_svg(lines[index], colour, lines[index + 1 :])
        parts.append(f'<text x="{left + 60 * index}" y="{_TOP - 8}" fill="{colour}">{kind}</text>')
    return "\n".join(parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = log10(min(values)), log10(max(values))
    return int(low // 1), max(int(-(-high // 1)), int(low // 1) + 1)
