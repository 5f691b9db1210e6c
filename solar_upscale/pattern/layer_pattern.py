"""The resolved pattern as a value. How a user writes one is in entries.py."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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
        words = []
        position = 0
        while position < len(self.sources):
            word, length = self._in_place(position) or self._progression(position)
            words.append(word)
            position += length
        return tuple(words)

    def _in_place(self, position: int) -> tuple[str, int] | None:
        """The word for neighbouring layers that each stand k times in place, and how many target layers it covers."""
        first = self.sources[position]
        times = 1
        while self.sources[position + times : position + times + 1] == (first,):
            times += 1
        layers = 1
        while self._stands(first + layers, position + layers * times, times):
            layers += 1
        if times == 1 or layers == 1:
            return None
        return f"[i for i in range({first},{first + layers}) for _ in range({times})]", layers * times

    def _stands(self, layer: int, position: int, times: int) -> bool:
        """Whether exactly ``times`` target layers from ``position`` on come from ``layer``."""
        stop = position + times
        return self.sources[position:stop] == (layer,) * times and self.sources[stop : stop + 1] != (layer,)

    def _progression(self, position: int) -> tuple[str, int]:
        """The word for the evenly spaced layers that begin at ``position``, and how many layers it covers."""
        first, *rest = self.sources[position : position + 2]
        step = rest[0] - first if rest else 0
        if step == 0:
            return str(first), 1
        length = 2
        while position + length < len(self.sources) and self.sources[position + length] == first + step * length:
            length += 1
        if length > 1 and self._in_place(position + length - 1):
            length -= 1  # the last layer begins a block of layers in place
        if length == 1:
            return str(first), 1
        if step != 1 and length == 2:  # two layers apart are clearer as themselves than with a step
            return str(first), 1
        stop = min(first + step * length, self.num_source_layers)  # a stop beyond the model would be refused
        # A stop below 0 would count from the end; left out, it means "down to layer 0".
        return f"{first}:{stop if stop >= 0 else ''}" + (f":{step}" if step != 1 else ""), length
