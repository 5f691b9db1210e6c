"""A pattern condensed into runs. Nothing is drawn here."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

__all__ = ["Run", "as_ranges", "runs"]


class Run(NamedTuple):
    """Target layers from ``target`` on that step through ``layers`` consecutive source layers from ``source`` on.

    ``times`` is how often each source layer appears in a row before the next one: 5, 5, 6, 6 is two layers, two times.
    """

    target: int
    source: int
    layers: int
    times: int = 1

    @property
    def target_stop(self) -> int:
        """The target layer after the run."""
        return self.target + self.layers * self.times

    @property
    def source_stop(self) -> int:
        """The source layer after the run."""
        return self.source + self.layers


def runs(sources: Sequence[int]) -> tuple[Run, ...]:
    """The pattern as runs, in target order, each as long as possible."""
    blocks = [(source, len(list(same))) for source, same in groupby(sources)]
    found: list[Run] = []
    target = 0
    for index, (source, times) in enumerate(blocks):
        in_place = times > 1 and (_joins_next(blocks, index) or (index > 0 and _joins_next(blocks, index - 1)))
        for run in (Run(target, source, 1, times),) if in_place else _one_by_one(target, source, times):
            last = found[-1] if found else None
            if last and last.times == run.times and last.source_stop == run.source:
                found[-1] = Run(last.target, last.source, last.layers + 1, run.times)
            else:
                found.append(run)
        target += times
    return tuple(found)


def _joins_next(blocks: Sequence[tuple[int, int]], index: int) -> bool:
    """Whether a block and the next are consecutive source layers, repeated equally often: then both are one run."""
    return index + 1 < len(blocks) and blocks[index + 1] == (blocks[index][0] + 1, blocks[index][1])


def _one_by_one(target: int, source: int, times: int) -> Iterable[Run]:
    return (Run(target + copy, source, 1) for copy in range(times))


def as_ranges(layers: Sequence[int]) -> tuple[range, ...]:
    """Ascending layer numbers as ranges."""
    return tuple(range(run.source, run.source_stop) for run in runs(layers))
