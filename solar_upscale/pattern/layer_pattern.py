"""The resolved pattern as a value. Parsing is in entries.py."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from solar_upscale.errors import PatternError
from solar_upscale.text import shortened

__all__ = ["LayerPattern"]


@dataclass(frozen=True, slots=True, repr=False)
class LayerPattern:
    """A resolved pattern: ``sources[i]`` is the source layer of target layer ``i`` (layers, from 0)."""

    sources: tuple[int, ...]
    num_source_layers: int

    def __post_init__(self) -> None:
        unresolved = [source for source in self.sources if type(source) is not int]
        if unresolved or not isinstance(self.sources, tuple):
            found = f"{unresolved[0]!r:.60}" if unresolved else f"a {type(self.sources).__name__}"
            raise PatternError(
                f"LayerPattern: expected a tuple of layer numbers, got {found}; resolve_layer_indices(layers, "
                'num_layers) gives the numbers of entries such as "0:24"'
            )
        outside = [source for source in self.sources if not 0 <= source < self.num_source_layers]
        if outside:
            raise PatternError(
                f"LayerPattern: source layer {outside[0]} does not exist; expected 0 to {self.num_source_layers - 1}"
            )

    def __repr__(self) -> str:
        entries = shortened(" ".join(self.entries), 200)
        return f"<LayerPattern {entries}: {len(self.sources)} layers from {self.num_source_layers}>"

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[int]:
        return iter(self.sources)

    @property
    def occurrences(self) -> tuple[int, ...]:
        """For each target layer, how often its source layer occurred before: 0 is the original, 1 the first repeat."""
        seen: Counter[int] = Counter()
        occurrences = []
        for source in self.sources:
            occurrences.append(seen[source])
            seen[source] += 1
        return tuple(occurrences)

    @property
    def counts(self) -> tuple[int, ...]:
        """For each source layer, the number of target layers that come from it."""
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
        """The target layers, after the first, whose predecessor is not their predecessor in the source."""
        pairs = pairwise(self.sources)
        return tuple(target for target, (before, source) in enumerate(pairs, start=1) if source != before + 1)

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """The longest stretches without a seam, in target order, as source layers [start, stop)."""
        edges = (0, *self.seams, len(self.sources))
        return tuple((self.sources[start], self.sources[stop - 1] + 1) for start, stop in pairwise(edges))

    @property
    def keeps_source_order(self) -> bool:
        """Whether every source layer is used, and the originals are in source order."""
        return tuple(dict.fromkeys(self.sources)) == tuple(range(self.num_source_layers))

    @property
    def entries(self) -> tuple[str, ...]:
        """The shortest readable entries that resolve to this pattern, such as ``("0:24", "8:32")``."""
        blocks = [(source, len(list(same))) for source, same in groupby(self.sources)]
        entries: list[str] = []
        plain: list[int] = []
        start = 0
        while start < len(blocks):
            (first, times), stop = blocks[start], start + 1
            while times > 1 and stop < len(blocks) and blocks[stop] == (blocks[stop - 1][0] + 1, times):
                stop += 1
            if stop - start > 1:
                entries += _progressions(plain, self.num_source_layers)
                entries.append(f"[i for i in range({first},{first + stop - start}) for _ in range({times})]")
                plain = []
            else:
                plain += [first] * times
            start = stop
        return (*entries, *_progressions(plain, self.num_source_layers))


def _progressions(sources: Sequence[int], depth: int) -> Iterator[str]:
    """Layers as entries, each for the longest evenly spaced run."""
    position = 0
    while position < len(sources):
        entry, length = _progression(sources, position, depth)
        yield entry
        position += length


def _progression(sources: Sequence[int], position: int, depth: int) -> tuple[str, int]:
    """The entry for the evenly spaced layers that start at ``position``, and the number of layers it covers."""
    first, *rest = sources[position : position + 2]
    step = rest[0] - first if rest else 0
    if step == 0:
        return str(first), 1
    length = 2
    while position + length < len(sources) and sources[position + length] == first + step * length:
        length += 1
    if step != 1 and length == 2:  # two layers are clearer as two entries than as a slice with a step
        return str(first), 1
    stop = min(first + step * length, depth)  # a stop beyond the model would be refused
    # A negative stop would count from the end; an omitted one means "down to layer 0".
    return f"{first}:{stop if stop >= 0 else ''}" + (f":{step}" if step != 1 else ""), length
