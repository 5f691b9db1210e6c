"""The resolved pattern as a value. How a user writes one is in entries.py."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

__all__ = ["LayerPattern"]


@dataclass(frozen=True, slots=True)
class LayerPattern:
    """A resolved pattern: ``sources[i]`` is the source layer of target layer ``i`` (layers, from 0)."""

    sources: tuple[int, ...]
    num_source_layers: int

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[int]:
        return iter(self.sources)

    @property
    def occurrences(self) -> tuple[int, ...]:
        """For each target layer, how often its source layer came before: 0 is the original, 1 the first repeat."""
        seen: Counter[int] = Counter()
        numbers = []
        for source in self.sources:
            numbers.append(seen[source])
            seen[source] += 1
        return tuple(numbers)

    @property
    def counts(self) -> tuple[int, ...]:
        """For each source layer, how many target layers come from it."""
        counts = Counter(self.sources)
        return tuple(counts[layer] for layer in range(self.num_source_layers))

    @property
    def repeats(self) -> tuple[int, ...]:
        """The target layers that are not the first from their source layer."""
        return tuple(target for target, number in enumerate(self.occurrences) if number > 0)

    @property
    def dropped(self) -> tuple[int, ...]:
        """The source layers that no target layer comes from."""
        return tuple(layer for layer, count in enumerate(self.counts) if count == 0)

    @property
    def seams(self) -> tuple[int, ...]:
        """The target layers, after the first, that do not follow the layer they followed in the source."""
        pairs = pairwise(self.sources)
        return tuple(target for target, (before, source) in enumerate(pairs, start=1) if source != before + 1)

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """The longest stretches without a seam, in target order, as source layers [start, stop)."""
        edges = (0, *self.seams, len(self.sources))
        return tuple((self.sources[start], self.sources[stop - 1] + 1) for start, stop in pairwise(edges))

    @property
    def keeps_source_order(self) -> bool:
        """Whether every source layer is used, and the originals stand in the source's order."""
        return tuple(dict.fromkeys(self.sources)) == tuple(range(self.num_source_layers))

    @property
    def entries(self) -> tuple[str, ...]:
        """The pattern in its shortest plain words, such as ``("0:24", "8:32")``; they resolve to the same pattern."""
        blocks = [(source, len(list(same))) for source, same in groupby(self.sources)]
        words: list[str] = []
        plain: list[int] = []
        at = 0
        while at < len(blocks):
            (first, times), stop = blocks[at], at + 1
            while times > 1 and stop < len(blocks) and blocks[stop] == (blocks[stop - 1][0] + 1, times):
                stop += 1
            if stop - at > 1:
                words += _progressions(plain, self.num_source_layers)
                words.append(f"[i for i in range({first},{first + stop - at}) for _ in range({times})]")
                plain = []
            else:
                plain += [first] * times
            at = stop
        return (*words, *_progressions(plain, self.num_source_layers))


def _progressions(sources: Sequence[int], depth: int) -> Iterator[str]:
    """Layers as words, each for as many evenly spaced ones as follow one another."""
    position = 0
    while position < len(sources):
        word, length = _progression(sources, position, depth)
        yield word
        position += length


def _progression(sources: Sequence[int], position: int, depth: int) -> tuple[str, int]:
    """The word for the evenly spaced layers that begin at ``position``, and how many layers it covers."""
    first, *rest = sources[position : position + 2]
    step = rest[0] - first if rest else 0
    if step == 0:
        return str(first), 1
    length = 2
    while position + length < len(sources) and sources[position + length] == first + step * length:
        length += 1
    if step != 1 and length == 2:  # two layers apart are clearer as themselves than with a step
        return str(first), 1
    stop = min(first + step * length, depth)  # a stop beyond the model would be refused
    # A stop below 0 would count from the end; left out, it means "down to layer 0".
    return f"{first}:{stop if stop >= 0 else ''}" + (f":{step}" if step != 1 else ""), length
