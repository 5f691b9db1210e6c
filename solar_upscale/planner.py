"""From a checkpoint and a pattern to a plan: every decision is taken here or in the modules that this one asks.

What depth means for the model is asked of architecture/, where tensors lie of layout.py, what is written down about
the job of card.py and provenance.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

from solar_upscale import __version__
from solar_upscale.architecture import (
    DepthChange,
    GatherRule,
    ResidualRule,
    Stack,
    change_depth,
    choose_stack,
    find_stacks,
    name_splitter,
)
from solar_upscale.architecture.files import NUMBERED_FILES
from solar_upscale.architecture.kv_cache import kv_cache_nbytes
from solar_upscale.architecture.residual import residual_writers
from solar_upscale.card import model_card
from solar_upscale.checkpoint import Checkpoint
from solar_upscale.errors import CheckpointError, PatternError, UnsupportedError
from solar_upscale.header import Shard, TensorInfo
from solar_upscale.layer_map import svg_map
from solar_upscale.layout import Target, mirror_layout, model_layout
from solar_upscale.pattern import LayerPattern, parse_layers, resolve_entries
from solar_upscale.plan import INDEX_NAME, Job, Pass, Piece, Summary, UpscalePlan, json_bytes
from solar_upscale.provenance import PROVENANCE_NAME, provenance
from solar_upscale.transform import Gather, Init, check_factor, parse_init, transform_for

__all__ = ["factor_rules", "layer_factors", "make_plan"]

# Of a shallower model, the first two layers and the last are half or more: what is known of 30 says nothing of it.
_MIN_LAYERS = 6
_WHERE = "(SmolLM2-135M, docs/starts.md)"

# Tensors of the output; ten times those of the largest published checkpoint.
MAX_TARGET_TENSORS = 1_000_000


def make_plan(  # noqa: PLR0913 - what a job may say, one keyword each
    checkpoint: Checkpoint,
    layers: Any,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    max_shard_nbytes: int | None = None,
    drop_mtp: bool = False,
    assume_uniform: bool = False,
    dtype: str | None = None,
    scale_filters: Sequence[str] = (),
) -> UpscalePlan:
    """The plan for one job, from headers and config.json alone.

    ``dtype`` and ``scale_filters`` say what a recipe takes for granted: the dtype of every tensor, and by parts of
    their names the tensors that ``entry_scales`` apply to.

    Raises:
        PatternError: the pattern or ``init`` is malformed or does not fit the model.
        UnsupportedError: the model's depth cannot be changed truthfully in this way, or it is not what the recipe
            takes for granted.
        CheckpointError: the checkpoint contradicts itself.
    """
    _check_dtype(checkpoint, dtype)
    chosen = choose_stack(find_stacks(checkpoint.tensors, checkpoint.config), stack)
    pattern = parse_layers(layers, chosen.num_layers)
    change = change_depth(
        checkpoint.config,
        checkpoint.tensors,
        chosen,
        pattern,
        files=checkpoint.small_files(*NUMBERED_FILES),
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
    )
    start = parse_init(init)
    factors = layer_factors(pattern, layers, start, entry_scales)
    _check_filters(checkpoint, chosen, pattern, factors, scale_filters)
    targets, dropped = _targets(checkpoint, chosen, pattern, change, factors)
    kv = kv_cache_nbytes(checkpoint.config, checkpoint.tensors, chosen)
    entries, scales = _canonical_entries(layers, pattern, entry_scales)
    job = Job(
        source=checkpoint.source.name,
        revision=checkpoint.source.revision,
        layers=entries,
        stack=chosen.name,
        init=start.spelling,
        entry_scales=scales,
        max_shard_nbytes=max_shard_nbytes,
        drop_mtp=drop_mtp,
        assume_uniform=change.assumed_uniform,
    )
    passes = _lay_out(checkpoint, targets, max_shard_nbytes)
    plan = UpscalePlan(
        job=job,
        pattern=pattern,
        stack=chosen,
        change=change,
        factors=factors,
        passes=passes,
        sidecars=tuple(file for file in checkpoint.sidecars if file.name not in change.files),
        left_behind=checkpoint.left_behind,
        dropped=dropped,
        before=_summary(range(chosen.num_layers), checkpoint.tensors.values(), kv),
        after=_summary(pattern.sources, (target for group in targets for target in group), kv),
        warnings=(*checkpoint.warnings, *change.warnings, *_warnings(pattern, start, factors)),
        source_shards=checkpoint.shards,
        source_state=checkpoint.state,
    )
    return _with_documents(plan, checkpoint)


def layer_factors(
    pattern: LayerPattern, layers: Any, start: Init, entry_scales: Sequence[float | None] | None
) -> tuple[float, ...]:
    """The factor on each target layer's contribution to the residual stream; an entry's own scale wins over ``start``.

    Raises:
        PatternError: there are not as many scales as entries, or one is no number that float32 holds.
    """
    scales: Sequence[float | None] = (None,) * len(pattern)
    if entry_scales is not None:
        entries = resolve_entries(layers, pattern.num_source_layers)
        if len(entries) != len(entry_scales):
            raise PatternError(f"layers: {len(entries)} entries have {len(entry_scales)} scales; expected one for each")
        for number, scale in enumerate(entry_scales):
            if scale is not None:
                _check_scale(scale, f"layers: entry {number}: scale")
        scales = [scale for entry, scale in zip(entries, entry_scales, strict=True) for _ in entry]
    counts = Counter(pattern.sources)
    return tuple(
        start.factor(occurrence, counts[source]) if scale is None else scale
        for source, occurrence, scale in zip(pattern.sources, pattern.occurrences, scales, strict=True)
    )


def _check_scale(scale: float, where: str) -> None:
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise PatternError(f"{where}: expected a number, got {type(scale).__name__}")
    check_factor(scale, where)


def factor_rules(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    stack: Stack,
    pattern: LayerPattern,
    factors: Sequence[float],
) -> dict[str, ResidualRule]:
    """How a factor is put on each tensor that needs one, by source tensor name; empty where all factors are 1.

    Raises:
        UnsupportedError: where the layers write into the residual stream is not known.
    """
    layers = {source for source, factor in zip(pattern.sources, factors, strict=True) if factor != 1}
    if not layers:
        return {}
    found = residual_writers(config, tensors, stack, layers)
    return {name: rule for rules in found.values() for name, rule in rules.items()}


def _check_dtype(checkpoint: Checkpoint, dtype: str | None) -> None:
    other = [] if dtype is None else [each for each in checkpoint.tensors.values() if each.dtype != dtype]
    if other:
        raise UnsupportedError(
            f"{other[0].name}: is {other[0].dtype}; the recipe wants {dtype} written, and nothing is converted here; "
            f"remove dtype from the recipe to keep each tensor's own ({len(other)} tensors are not {dtype})"
        )


def _check_filters(
    checkpoint: Checkpoint, stack: Stack, pattern: LayerPattern, factors: Sequence[float], filters: Sequence[str]
) -> None:
    """A recipe's factors on tensors by name mean factors on layers only where they meet all that a layer adds."""
    if not filters:
        return
    rules = factor_rules(checkpoint.config, checkpoint.tensors, stack, pattern, factors)
    layers = {source for source, factor in zip(pattern.sources, factors, strict=True) if factor != 1}
    split = name_splitter(stack.prefixes)
    places = ((name, split(name)) for name in checkpoint.tensors)
    scaled = {name for name, place in places if place and place[1] in layers and any(each in name for each in filters)}
    plain = {name for name, rule in rules.items() if rule == ResidualRule()}
    odd = sorted(scaled ^ plain) or sorted(rules.keys() - plain)
    if odd:
        raise UnsupportedError(
            f"scale filters {', '.join(filters)}: do not match just what the layers add to the residual stream "
            f"({odd[0]}{' and more' if len(odd) > 1 else ''}); give the entries a scale of their own instead"
        )


def _canonical_entries(
    layers: Any, pattern: LayerPattern, entry_scales: Sequence[float | None] | None
) -> tuple[tuple[str, ...], tuple[float | None, ...] | None]:
    """The shortest entries that give the pattern; where entries have scales, none reaches across two of them."""
    if entry_scales is None or all(scale is None for scale in entry_scales):
        return pattern.entries, None
    entries: list[str] = []
    scales: list[float | None] = []
    for sources, scale in zip(resolve_entries(layers, pattern.num_source_layers), entry_scales, strict=True):
        words = LayerPattern(sources, pattern.num_source_layers).entries
        entries.extend(words)
        scales.extend([scale] * len(words))
    return tuple(entries), tuple(scales)


def _targets(
    checkpoint: Checkpoint, stack: Stack, pattern: LayerPattern, change: DepthChange, factors: Sequence[float]
) -> tuple[list[list[Target]], dict[str, str]]:
    """The output tensors that each source shard gives, and why each tensor that gives none is dropped."""
    uses = {prefix: _uses(numbering) for prefix, numbering in change.numbering.items()}
    split = name_splitter(tuple(uses))
    rules = factor_rules(checkpoint.config, checkpoint.tensors, stack, pattern, factors)
    targets: list[list[Target]] = []
    dropped: dict[str, str] = {}
    names: set[str] = set()
    count = 0
    for shard in checkpoint.shards:
        group: list[Target] = []
        targets.append(group)
        for tensor in shard.tensors:
            if tensor.name in change.dropped:
                dropped[tensor.name] = change.dropped[tensor.name]
                continue
            place = split(tensor.name)
            if place is None:
                group.append(_outside(shard, tensor, change.gathers.get(tensor.name)))
                continue
            prefix, layer, rest = place
            places = uses[prefix].get(layer, ())
            if not places:
                dropped[tensor.name] = f"layer {layer} is not in the pattern"
            rule = rules.get(tensor.name) if prefix in stack.prefixes else None
            count += len(places)
            if count > MAX_TARGET_TENSORS:
                raise UnsupportedError(
                    f"the layers would have more than {MAX_TARGET_TENSORS} tensors; that is the limit"
                )
            piece = _piece(shard, tensor)
            for occurrence, target in enumerate(places):
                transform = None
                if rule is not None and target < len(factors) and factors[target] != 1:
                    transform = transform_for(factors[target], rule, tensor)
                name = f"{prefix}.{target}{rest}"
                group.append(
                    Target(
                        name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.name, occurrence, (piece,), transform
                    )
                )
        names.update(target.name for target in group)
    if len(names) != sum(map(len, targets)):
        counts = Counter(target.name for group in targets for target in group)
        raise CheckpointError(f"{counts.most_common(1)[0][0]}: two source tensors would get this name")
    return targets, dropped


def _uses(numbering: Sequence[int]) -> dict[int, list[int]]:
    """For each source index, the target indices that use it, in order."""
    uses: dict[int, list[int]] = defaultdict(list)
    for target, source in enumerate(numbering):
        uses[source].append(target)
    return uses


def _piece(shard: Shard, tensor: TensorInfo) -> Piece:
    start, stop = tensor.data_offsets
    return Piece(shard.filename, shard.data_start + start, shard.data_start + stop)


def _outside(shard: Shard, tensor: TensorInfo, rule: GatherRule | None) -> Target:
    """A tensor outside the layers: as it is, or with its slices, one a layer, in the new order."""
    piece = _piece(shard, tensor)
    if rule is None or rule.sources == tuple(range(rule.source_slices)):
        return Target(tensor.name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.name, 0, (piece,))
    size = tensor.shape[rule.axis]
    if size % rule.source_slices or not tensor.nbytes:
        raise UnsupportedError(
            f"{tensor.name}: {list(tensor.shape)} has no equal slice for each of {rule.source_slices} layers"
        )
    shape = list(tensor.shape)
    shape[rule.axis] = size // rule.source_slices * len(rule.sources)
    rows = prod(tensor.shape[: rule.axis])
    slice_nbytes = tensor.nbytes // (rows * rule.source_slices)
    nbytes = rows * slice_nbytes * len(rule.sources)
    if rows > 1:
        gather = Gather(rows, rule.source_slices, slice_nbytes, rule.sources)
        return Target(tensor.name, tensor.dtype, tuple(shape), nbytes, tensor.name, 0, (piece,), gather)
    pieces = tuple(
        Piece(piece.filename, piece.start + source * slice_nbytes, piece.start + (source + 1) * slice_nbytes)
        for source in rule.sources
    )
    return Target(tensor.name, tensor.dtype, tuple(shape), nbytes, tensor.name, 0, pieces)


def _lay_out(checkpoint: Checkpoint, targets: list[list[Target]], max_shard_nbytes: int | None) -> tuple[Pass, ...]:
    if max_shard_nbytes is None:
        return mirror_layout(targets, [shard.nbytes - shard.data_start for shard in checkpoint.shards])
    return model_layout((target for group in targets for target in group), max_shard_nbytes)


def _warnings(pattern: LayerPattern, start: Init, factors: Sequence[float]) -> Iterable[str]:
    """What is known to hurt, with the figure and where it comes from (docs/starts.md)."""
    rows = list(zip(pattern.sources, pattern.occurrences, factors, strict=True))
    if pattern.num_source_layers >= _MIN_LAYERS:
        yield from _hurtful(pattern, rows)
    if start.kind == "identity" and not pattern.keeps_source_order:
        yield "not an identity: the originals are not all present in source order, so the model computes something else"
    elif start.kind == "identity" and any(factor != (not occurrence) for _, occurrence, factor in rows):
        yield "not an identity: an entry has a scale of its own, so the model computes something else"


def _hurtful(pattern: LayerPattern, rows: Sequence[tuple[int, int, float]]) -> Iterable[str]:
    """Of (source layer, occurrence, factor) in target order, what made a measured model worse."""
    sensitive = (0, 1, pattern.num_source_layers - 1)
    if lost := [layer for layer in sensitive if layer in pattern.dropped]:
        yield (
            f"drops source layer {_listed(lost)}: the first two layers and the last carry the most; "
            f"perplexity rose 5 to 1,700 times when one was dropped {_WHERE}"
        )
    first = {source: factor for source, occurrence, factor in rows if not occurrence}
    strong = {source for source, occurrence, factor in rows if occurrence and abs(factor) > 0.25}
    if hurt := [layer for layer in sensitive if layer in strong and first[layer] == 1]:
        yield (
            f"repeats source layer {_listed(hurt)}: perplexity rose 2 to 10 times when one of the first two layers or "
            f"the last was repeated as it is, 1.01 to 1.15 with --init scale=1,0.25 {_WHERE}"
        )
    if 0 in strong and first[0] != 1:
        yield f"divides source layer 0: perplexity rose 49 times when the first layer was split {_WHERE}"
    in_place = sum(one[0] == other[0] and one[2] == other[2] == 1 for one, other in pairwise(rows))
    if in_place > 1:  # a single one costs little wherever it is not one of those above
        yield (
            f"{in_place} layers follow a plain copy of themselves: perplexity rose 1.2 to 2.8 times with 2 to 28 such "
            f"layers of 30, 1.03 to 1.2 with --init split, not at all with --init identity {_WHERE}"
        )


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def _summary(layers: Sequence[int], tensors: Iterable[TensorInfo | Target], kv: Sequence[int] | None) -> Summary:
    parameters = nbytes = 0
    for tensor in tensors:
        parameters += prod(tensor.shape)
        nbytes += tensor.nbytes
    return Summary(len(layers), parameters, nbytes, None if kv is None else sum(kv[layer] for layer in layers))


def _with_documents(plan: UpscalePlan, checkpoint: Checkpoint) -> UpscalePlan:
    """The plan with the small files whose bytes follow from it; provenance comes last, since it tells of the others."""
    documents = {"config.json": json_bytes(plan.change.config), **plan.change.files}
    if len(plan.shards) > 1:
        documents[INDEX_NAME] = plan.index()
    documents["README.md"] = model_card(plan, source_readme=checkpoint.readme)
    documents["layer_map.svg"] = svg_map(plan.pattern, factors=plan.factors, title=plan.job.source).encode()
    plan = replace(plan, documents=documents)
    return replace(plan, documents={**documents, PROVENANCE_NAME: json_bytes(provenance(plan, __version__))})
