"""The layer map as an SVG: the source's layers on the left, the target's on the right, a band for every piece.

The file has only text, shapes and colours: no script, style sheet, font or external reference. It has its own
background, so that it looks the same on a light page and a dark one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from solar_upscale.errors import printable
from solar_upscale.pattern import LayerPattern
from solar_upscale.plan.layer_map.runs import Run, factors_text, range_text, runs
from solar_upscale.text import counted

__all__ = ["svg_map"]

WIDTH = 760
TOP, BOTTOM = 96, 62
STACK_HEIGHT, LAYER_HEIGHT = 480.0, 26.0
SOURCE_X, TARGET_X, STACK_WIDTH = 196, 470, 48
LABEL_GAP = 14.0
MAX_TITLE = 72
# Above these limits, pieces share shapes and lines are left out, so that the file stays small and legible.
MAX_PIECES = 240
MAX_LINES = 160

INK, QUIET, PAPER, EDGE = "#1f2933", "#5f6b7a", "#ffffff", "#d5dbe3"
COLOURS = {"first": "#3b76c4", "repeat": "#ee8f2f", "mixed": "#9a8279", "dropped": "#e7ebf0"}
MEANINGS = {"first": "first use", "repeat": "repeat", "mixed": "both"}
SEAM = "#c2255c"


class _Piece(NamedTuple):
    """Adjacent target layers of one kind, and the source layers that they span.

    ``factor`` is the factor of all of them, None where they differ.
    """

    target: int
    target_stop: int
    source: int
    source_stop: int
    kind: str
    factor: float | None

    @property
    def label(self) -> str:
        targets, sources = range(self.target, self.target_stop), range(self.source, self.source_stop)
        factor = " (several factors)" if self.factor is None else _factor_suffix((self.factor,))
        return f"{range_text(targets)} ← {range_text(sources)}{factor}"


class _Scale(NamedTuple):
    """Vertical positions of layers: both stacks have one scale, and the shorter one is centred."""

    height: float
    layer: float
    source_top: float
    target_top: float

    def source(self, layer: int) -> float:
        return self.source_top + layer * self.layer

    def target(self, layer: int) -> float:
        return self.target_top + layer * self.layer


def svg_map(pattern: LayerPattern, *, factors: Sequence[float] = (), title: str) -> str:
    """The map as one SVG document of bounded size. ``factors`` has one factor per target layer, or is empty."""
    scale = _scale(pattern.num_source_layers, len(pattern))
    copies = pattern.occurrences
    height = TOP + scale.height + BOTTOM
    counts = Counter(pattern.sources)
    pieces = _pieces(pattern.sources, copies, factors)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}" width="{WIDTH}" '
        f'height="{_n(height)}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f"<title>{_text(title)}</title>",
        f"<desc>{_text(_description(pattern, counts))}</desc>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{_n(height - 1)}" rx="10" fill="{PAPER}" stroke="{EDGE}"/>',
        f'<text x="28" y="36" font-size="18" font-weight="600">{_text(_short(title))}</text>',
        f'<text x="28" y="58" fill="{QUIET}">{_text(_description(pattern, counts))}</text>',
        _heading(SOURCE_X + STACK_WIDTH / 2, "source"),
        _heading(TARGET_X + STACK_WIDTH / 2, "target"),
        *_bands(pieces, scale),
        *_source_stack(pattern, counts, scale),
        *_target_stack(pattern, scale),
        *_target_labels(pattern, factors, scale),
        *_legend({piece.kind for piece in pieces}, pattern, counts, height - 24),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _scale(source_layers: int, target_layers: int) -> _Scale:
    deeper = max(source_layers, target_layers)
    layer = min(LAYER_HEIGHT, STACK_HEIGHT / deeper)
    height = deeper * layer
    return _Scale(height, layer, TOP + (height - source_layers * layer) / 2, TOP + (height - target_layers * layer) / 2)


def _pieces(sources: Sequence[int], copies: Sequence[int], factors: Sequence[float]) -> list[_Piece]:
    """The pattern as pieces, cut wherever the source jumps or the kind or the factor changes; at most MAX_PIECES."""
    pieces: list[_Piece] = []
    for target, source in enumerate(sources):
        kind = "repeat" if copies[target] else "first"
        factor = factors[target] if factors else 1.0
        last = pieces[-1] if pieces else None
        if last and last.kind == kind and last.source_stop == source and last.factor == factor:
            pieces[-1] = last._replace(target_stop=target + 1, source_stop=source + 1)
        else:
            pieces.append(_Piece(target, target + 1, source, source + 1, kind, factor))
    size = -(-len(pieces) // MAX_PIECES)
    return [_join(pieces[start : start + size]) for start in range(0, len(pieces), size)]


def _join(pieces: Sequence[_Piece]) -> _Piece:
    kinds = {piece.kind for piece in pieces}
    factors = {piece.factor for piece in pieces}
    return _Piece(
        pieces[0].target,
        pieces[-1].target_stop,
        min(piece.source for piece in pieces),
        max(piece.source_stop for piece in pieces),
        kinds.pop() if len(kinds) == 1 else "mixed",
        factors.pop() if len(factors) == 1 else None,
    )


def _bands(pieces: Sequence[_Piece], scale: _Scale) -> Iterable[str]:
    """Each piece as a band from source to target, and its block in the target stack; pointed at, it shows its label."""
    left, right = SOURCE_X + STACK_WIDTH, TARGET_X
    middle = (left + right) / 2
    opacity = "0.3" if len(pieces) <= MAX_LINES else "0.12"
    for piece in pieces:
        colour = COLOURS[piece.kind]
        top, bottom = _n(scale.source(piece.source)), _n(scale.source(piece.source_stop))
        to_top, to_bottom = _n(scale.target(piece.target)), _n(scale.target(piece.target_stop))
        yield (
            f'<path d="M{left} {top}C{_n(middle)} {top} {_n(middle)} {to_top} {right} {to_top}V{to_bottom}'
            f'C{_n(middle)} {to_bottom} {_n(middle)} {bottom} {left} {bottom}Z" '
            f'fill="{colour}" fill-opacity="{opacity}"/>'
        )
    for piece in pieces:
        span = scale.target(piece.target), scale.target(piece.target_stop)
        yield _block(TARGET_X, *span, COLOURS[piece.kind], label=piece.label)


def _source_stack(pattern: LayerPattern, counts: Counter[int], scale: _Scale) -> Iterable[str]:
    """The source's layers by how often they are used: dropped, once or repeatedly."""
    depth = pattern.num_source_layers
    stretches = [(count, list(layers)) for count, layers in groupby(range(depth), key=lambda layer: counts[layer])]
    labels = []
    for count, layers in _some(stretches, depth):
        top, bottom = scale.source(layers[0]), scale.source(layers[-1] + 1)
        kind = "mixed" if count < 0 else "dropped" if count == 0 else "repeat" if count > 1 else "first"
        yield _block(SOURCE_X, top, bottom, COLOURS[kind])
        use = "" if count < 0 or count == 1 else " dropped" if count == 0 else f" ×{count}"
        labels.append(((top + bottom) / 2, range_text(range(layers[0], layers[-1] + 1)) + use))
    yield from _lines(SOURCE_X, scale.source_top, depth, scale)
    for y, label in _apart(labels):
        yield f'<text x="{SOURCE_X - 12}" y="{_n(y + 4.5)}" text-anchor="end">{label}</text>'


def _some(stretches: list[tuple[int, list[int]]], depth: int) -> list[tuple[int, list[int]]]:
    """The stretches, or, where there are too many to draw, equal slices of the depth; a mixed one has the count -1."""
    if len(stretches) <= MAX_PIECES:
        return stretches
    flat = [count for count, layers in stretches for _ in layers]
    size = -(-depth // MAX_PIECES)
    slices = [range(start, min(start + size, depth)) for start in range(0, depth, size)]
    return [(flat[each.start] if len({flat[layer] for layer in each}) == 1 else -1, list(each)) for each in slices]


def _target_stack(pattern: LayerPattern, scale: _Scale) -> Iterable[str]:
    yield from _lines(TARGET_X, scale.target_top, len(pattern), scale)
    for seam in _seams_to_draw(pattern):
        y = _n(scale.target(seam))
        yield f'<path d="M{TARGET_X - 7} {y}H{TARGET_X + STACK_WIDTH + 7}" stroke="{SEAM}" stroke-width="1.5"/>'


def _target_labels(pattern: LayerPattern, factors: Sequence[float], scale: _Scale) -> Iterable[str]:
    """Which source layers each run comes from; where runs are too thin for a label each, some have none."""
    labels = []
    for run in runs(pattern.sources, factors):
        middle = (scale.target(run.target) + scale.target(run.target_stop)) / 2
        labels.append((middle, _run_text(run)))
    x = TARGET_X + STACK_WIDTH + 14
    for y, label in _apart(labels):
        yield f'<text x="{x}" y="{_n(y + 4.5)}">{label}</text>'


def _run_text(run: Run) -> str:
    each = f", each ×{run.times}" if run.times > 1 else ""
    return f"{range_text(run.targets)} ← {range_text(run.sources)}{each}{_factor_suffix(run.factors)}"


def _factor_suffix(factors: Sequence[float]) -> str:
    """The factors in brackets, " (×0.25)"; "" where all are 1."""
    text = factors_text(factors)
    return f" ({text.replace('x', '×')})" if text else ""


def _legend(kinds: set[str], pattern: LayerPattern, counts: Counter[int], y: float) -> Iterable[str]:
    items = [(name, COLOURS[kind]) for kind, name in MEANINGS.items() if kind in kinds]
    if len(counts) < pattern.num_source_layers:
        items.append(("dropped", COLOURS["dropped"]))
    x = 28
    for name, colour in items:
        yield f'<rect x="{x}" y="{_n(y - 11)}" width="13" height="13" rx="2" fill="{colour}" stroke="{EDGE}"/>'
        yield f'<text x="{x + 20}" y="{_n(y)}">{name}</text>'
        x += 50 + 7 * len(name)
    if _seams_to_draw(pattern):
        yield f'<path d="M{x} {_n(y - 4.5)}h22" stroke="{SEAM}" stroke-width="1.5"/>'
        yield f'<text x="{x + 29}" y="{_n(y)}">seam</text>'


def _seams_to_draw(pattern: LayerPattern) -> tuple[int, ...]:
    """The seams, unless they are so dense that they would hide the layers."""
    seams = pattern.seams
    return seams if len(seams) <= MAX_LINES else ()


def _description(pattern: LayerPattern, counts: Counter[int]) -> str:
    dropped = pattern.num_source_layers - len(counts)
    return (
        f"{pattern.num_source_layers} → {len(pattern)} layers: {counted(len(counts), 'first use')}, "
        f"{counted(len(pattern) - len(counts), 'repeat')}, {dropped} dropped, "
        f"{counted(len(pattern.seams), 'seam')}"
    )


def _block(x: float, top: float, bottom: float, colour: str, *, label: str = "") -> str:
    end = f"><title>{label}</title></rect>" if label else "/>"
    return f'<rect x="{_n(x)}" y="{_n(top)}" width="{STACK_WIDTH}" height="{_n(bottom - top)}" fill="{colour}"{end}'


def _lines(x: int, top: float, layers: int, scale: _Scale) -> Iterable[str]:
    """The stack's frame, and hairlines between layers unless there are too many to see."""
    if layers <= MAX_LINES:
        hairlines = "".join(f"M{x} {_n(top + layer * scale.layer)}h{STACK_WIDTH}" for layer in range(1, layers))
        if hairlines:
            yield f'<path d="{hairlines}" stroke="{PAPER}" stroke-width="0.8"/>'
    height = _n(layers * scale.layer)
    yield f'<rect x="{x}" y="{_n(top)}" width="{STACK_WIDTH}" height="{height}" fill="none" stroke="{QUIET}"/>'


def _apart(labels: Sequence[tuple[float, str]]) -> Iterable[tuple[float, str]]:
    """The labels, in order, without those that would touch the one before."""
    last = float("-inf")
    for y, label in labels:
        if y - last >= LABEL_GAP:
            yield y, label
            last = y


def _heading(x: float, text: str) -> str:
    return f'<text x="{_n(x)}" y="{TOP - 12}" text-anchor="middle" fill="{QUIET}">{text}</text>'


def _short(text: str) -> str:
    return text if len(text) <= MAX_TITLE else text[: MAX_TITLE - 1] + "…"


def _text(text: str) -> str:
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _n(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
