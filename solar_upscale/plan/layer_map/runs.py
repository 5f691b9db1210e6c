"""A pattern condensed into runs. Nothing is drawn here."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

__all__ = ["Run", "as_ranges", "factor_text", "factors_text", "range_text", "ranges_text", "runs"]


class Run(NamedTuple):
    """Target layers from ``target`` on that step through ``layers`` consecutive source layers from ``source`` on.

    ``times`` is how often each source layer appears in a row before the next one: 5, 5, 6, 6 is two layers, two times.
    ``factors`` holds one factor for each of these times, the same for every source layer of the run, so that what is
    said of a run is true of each of its layers.
    """

    target: int
    source: int
    layers: int
    factors: tuple[float, ...] = (1.0,)

    @property
    def times(self) -> int:
        """How often each source layer appears in a row."""
        return len(self.factors)

    @property
    def target_stop(self) -> int:
        """The target layer after the run."""
        return self.target + self.layers * self.times

    @property
    def source_stop(self) -> int:
        """The source layer after the run."""
        return self.source + self.layers

    @property
    def targets(self) -> range:
        """The target layers."""
        return range(self.target, self.target_stop)

    @property
    def sources(self) -> range:
        """The source layers."""
        return range(self.source, self.source_stop)


class _Block(NamedTuple):
    """One source layer and the factors of the target layers in a row that come from it."""

    source: int
    factors: tuple[float, ...]


def runs(sources: Sequence[int], factors: Sequence[float] = ()) -> tuple[Run, ...]:
    """The pattern as runs, in target order, each as long as possible without a change of factor.

    ``factors`` holds one factor a target layer, or nothing where all are 1.
    """
    pairs = zip(sources, factors or (1.0,) * len(sources), strict=True)
    blocks = [_Block(source, tuple(f for _, f in same)) for source, same in groupby(pairs, key=lambda pair: pair[0])]
    found: list[Run] = []
    target = 0
    for index, block in enumerate(blocks):
        in_place = len(block.factors) > 1 and (
            _joins_next(blocks, index) or (index > 0 and _joins_next(blocks, index - 1))
        )
        for run in (Run(target, block.source, 1, block.factors),) if in_place else _one_by_one(target, block):
            last = found[-1] if found else None
            if last and last.factors == run.factors and last.source_stop == run.source:
                found[-1] = last._replace(layers=last.layers + 1)
            else:
                found.append(run)
        target += len(block.factors)
    return tuple(found)


def _joins_next(blocks: Sequence[_Block], index: int) -> bool:
    """Whether the next block is the next source layer with the same factors: then both are one run."""
    return index + 1 < len(blocks) and blocks[index + 1] == _Block(blocks[index].source + 1, blocks[index].factors)


def _one_by_one(target: int, block: _Block) -> Iterable[Run]:
    return (Run(target + copy, block.source, 1, (factor,)) for copy, factor in enumerate(block.factors))


def as_ranges(layers: Sequence[int]) -> tuple[range, ...]:
    """Ascending layer numbers as ranges."""
    return tuple(run.sources for run in runs(layers))


def range_text(layers: range) -> str:
    """``range(0, 24)`` as "0-23", one layer as its number."""
    return str(layers.start) if len(layers) == 1 else f"{layers.start}-{layers.stop - 1}"


def ranges_text(layers: Sequence[int]) -> str:
    """Ascending layer numbers in words: "layer 5", "layers 0-3, 20"."""
    words = ", ".join(map(range_text, as_ranges(layers)))
    return f"layer {words}" if len(layers) == 1 else f"layers {words}"


def factor_text(factor: float) -> str:
    """A factor with at most four digits: "x0.25"."""
    return f"x{factor:.4g}"


def factors_text(factors: Sequence[float]) -> str:
    """A run's factors: "x0.5" for all of it, or "x1 then x0" where the times of a layer differ; "" where all are 1."""
    words = list(map(factor_text, factors))
    if len(set(factors)) > 1:
        return " then ".join(words)
    return "" if factors[0] == 1 else words[0]
