"""A pattern in few words: its runs. No drawing here."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

__all__ = ["Run", "as_ranges", "runs"]


class Run(NamedTuple):
    """Target layers from ``target`` on that climb through ``layers`` neighbouring source layers from ``source`` on.

    ``times`` is how often each source layer stands in place before the next one: 5, 5, 6, 6 is two layers, two times.
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
    """The pattern as runs, in target order; each run is as long as it can be."""
    blocks = [(source, len(list(same))) for source, same in groupby(sources)]
    found: list[Run] = []
    target = 0
    for at, (source, times) in enumerate(blocks):
        in_place = times > 1 and (_climbs(blocks, at) or (at > 0 and _climbs(blocks, at - 1)))
        for run in (Run(target, source, 1, times),) if in_place else _one_by_one(target, source, times):
            last = found[-1] if found else None
            if last and last.times == run.times and last.source_stop == run.source:
                found[-1] = Run(last.target, last.source, last.layers + 1, run.times)
            else:
                found.append(run)
        target += times
    return tuple(found)


def _climbs(blocks: Sequence[tuple[int, int]], at: int) -> bool:
    """Whether the block at ``at`` and the next are neighbours that stand equally often: then both are one run."""
    return at + 1 < len(blocks) and blocks[at + 1] == (blocks[at][0] + 1, blocks[at][1])


def _one_by_one(target: int, source: int, times: int) -> Iterable[Run]:
    return (Run(target + copy, source, 1) for copy in range(times))


def as_ranges(layers: Sequence[int]) -> tuple[range, ...]:
    """Ascending layer numbers as ranges."""
    return tuple(range(run.source, run.source_stop) for run in runs(layers))
