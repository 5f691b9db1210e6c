"""Makes a plan from a checkpoint and a request: every decision is made here or in the modules that this one calls.

architecture/ knows what depth means for the model, start/ how repeats start, and layout.py assigns tensors to shards.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

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
from solar_upscale.architecture.kv_cache import kv_cache_nbytes
from solar_upscale.architecture.numbered_files import NUMBERED_FILES
from solar_upscale.errors import CheckpointError, OutputError, PatternError, UnsupportedError
from solar_upscale.pattern import LayerPattern, parse_layers, resolve_entries
from solar_upscale.plan.layout import Target, mirror_layout, model_layout
from solar_upscale.plan.transform import Gather, transform_for
from solar_upscale.plan.types import INDEX_NAME, LAYER_NOT_USED, Pass, Piece, SourceIdentity, Summary, UpscalePlan
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.checkpoint import Checkpoint
from solar_upscale.source.header import DTYPE_BITS, Shard, TensorInfo
from solar_upscale.start.advice import pattern_warnings
from solar_upscale.start.factors import factor_rules, layer_factors
from solar_upscale.start.init import parse_init
from solar_upscale.strict_json import json_bytes
from solar_upscale.text import nbytes_text

__all__ = ["make_plan"]


# Maximum number of output tensors: ten times as many as the largest published checkpoint has.
MAX_TARGET_TENSORS = 1_000_000

# Why a next-token head is dropped.
MTP_NOT_USED = "next-token head left out (--drop-mtp)"


def make_plan(checkpoint: Checkpoint, request: UpscaleRequest) -> UpscalePlan:
    """The plan for one request, from headers and config.json alone.

    Raises:
        PatternError: the pattern or ``init`` is malformed or does not fit the model.
        UnsupportedError: the model's depth cannot be changed truthfully in this way, or the model does not meet a
            recipe's conditions.
        CheckpointError: the checkpoint contradicts itself.
        OutputError: shards are to hold fewer bytes than the tensors have.
    """
    _check_dtype(checkpoint, request.expected_dtype)
    stack = choose_stack(find_stacks(checkpoint.tensors, checkpoint.config), request.stack)
    pattern = parse_layers(request.layers, stack.num_layers)
    change = change_depth(
        checkpoint.config,
        checkpoint.tensors,
        stack,
        pattern,
        files=checkpoint.small_files(*NUMBERED_FILES),
        drop_mtp=request.drop_mtp,
        assume_uniform=request.assume_uniform,
    )
    start = parse_init(request.init)
    factors = layer_factors(pattern, request, start)
    _check_filters(checkpoint, stack, pattern, factors, request.scale_filters)
    targets, dropped = _targets(checkpoint, stack, pattern, change, factors)
    kv = kv_cache_nbytes(checkpoint.config, checkpoint.tensors, stack)
    passes = _lay_out(checkpoint, targets, request.max_shard_nbytes)
    canonical = replace(request, stack=stack.name, init=start.spelling, assume_uniform=change.assumed_uniform)
    plan = UpscalePlan(
        request=_with_canonical_entries(canonical, pattern),
        source=SourceIdentity(checkpoint.source.name, checkpoint.source.revision, checkpoint.source.is_on_hub),
        pattern=pattern,
        stack=stack,
        change=change,
        factors=factors,
        passes=passes,
        copied_files=tuple(file for file in checkpoint.copied_files if file.name not in change.files),
        skipped_files=checkpoint.skipped_files,
        dropped=dropped,
        before=_summary(range(stack.num_layers), checkpoint.tensors.values(), kv),
        after=_summary(pattern.sources, (target for group in targets for target in group), kv),
        warnings=(*checkpoint.warnings, *change.warnings, *pattern_warnings(pattern, start, factors)),
        source_shards=checkpoint.shards,
        source_state=checkpoint.state,
        model_files={"config.json": json_bytes(change.config), **change.files},
        source_card=checkpoint.readme,
    )
    if len(plan.shards) == 1:
        return plan
    return replace(plan, model_files={**plan.model_files, INDEX_NAME: plan.index()})


def _check_dtype(checkpoint: Checkpoint, dtype: str | None) -> None:
    """Refuse a checkpoint in which a tensor has another dtype than the one that was asked for."""
    if dtype is None:
        return
    if dtype not in DTYPE_BITS:
        raise PatternError(f'dtype: unknown "{dtype:.80}"; expected one of {", ".join(DTYPE_BITS)}')
    others = [each for each in checkpoint.tensors.values() if each.dtype != dtype]
    if others:
        raise UnsupportedError(
            f"{others[0].name}: expected dtype {dtype} in every tensor, got {others[0].dtype}, and dtypes are never "
            f"converted; leave dtype out to keep each tensor's own ({len(others)} tensors are not {dtype})"
        )


def _check_filters(
    checkpoint: Checkpoint, stack: Stack, pattern: LayerPattern, factors: Sequence[float], filters: Sequence[str]
) -> None:
    """Refuse a recipe's filters on tensor names unless they match all of a layer's residual writers, and only those."""
    if not filters:
        return
    rules = factor_rules(checkpoint.config, checkpoint.tensors, stack, pattern, factors)
    layers = {source for source, factor in zip(pattern.sources, factors, strict=True) if factor != 1}
    split = name_splitter(stack.prefixes)
    split_names = ((name, split(name)) for name in checkpoint.tensors)
    scaled = {
        name for name, parts in split_names if parts and parts[1] in layers and any(each in name for each in filters)
    }
    plain = {name for name, rule in rules.items() if rule == ResidualRule()}
    mismatched = sorted(scaled ^ plain) or sorted(rules.keys() - plain)
    if mismatched:
        raise UnsupportedError(
            f"scale filters {', '.join(filters)}: do not match exactly the tensors that write to the residual stream "
            f"({mismatched[0]}{' and others' if len(mismatched) > 1 else ''}); give each entry its own scale instead"
        )


def _with_canonical_entries(request: UpscaleRequest, pattern: LayerPattern) -> UpscaleRequest:
    """The request with the shortest entries that give the pattern, one scale to an entry, and no recipe conditions."""
    request = replace(request, expected_dtype=None, scale_filters=())
    if request.entry_scales is None or all(scale is None for scale in request.entry_scales):
        return replace(request, layers=pattern.entries, entry_scales=None)
    entries: list[str] = []
    scales: list[float | None] = []
    resolved = resolve_entries(request.layers, pattern.num_source_layers)
    for sources, scale in zip(resolved, request.entry_scales, strict=True):
        shortest = LayerPattern(sources, pattern.num_source_layers).entries
        entries.extend(shortest)
        scales.extend([scale] * len(shortest))
    return replace(request, layers=tuple(entries), entry_scales=tuple(scales))


def _targets(
    checkpoint: Checkpoint, stack: Stack, pattern: LayerPattern, change: DepthChange, factors: Sequence[float]
) -> tuple[list[list[Target]], dict[str, str]]:
    """The output tensors made from each source shard, and why each unused source tensor is dropped."""
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
            parts = split(tensor.name)
            if parts is None:
                group.append(_outside(shard, tensor, change.gathers.get(tensor.name)))
                continue
            prefix, layer, suffix = parts
            target_layers = uses[prefix].get(layer, ())
            if not target_layers:
                dropped[tensor.name] = LAYER_NOT_USED if layer < stack.num_layers else MTP_NOT_USED
            rule = rules.get(tensor.name) if prefix in stack.prefixes else None
            count += len(target_layers)
            if count > MAX_TARGET_TENSORS:
                raise UnsupportedError(f"the output exceeds the limit of {MAX_TARGET_TENSORS} tensors")
            piece = _piece(shard, tensor)
            for occurrence, target in enumerate(target_layers):
                transform = None
                if rule is not None and target < len(factors) and factors[target] != 1:
                    transform = transform_for(factors[target], rule, tensor)
                name = f"{prefix}.{target}{suffix}"
                group.append(
                    Target(
                        name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.name, occurrence, (piece,), transform
                    )
                )
        names.update(target.name for target in group)
    if len(names) != sum(map(len, targets)):
        counts = Counter(target.name for group in targets for target in group)
        raise CheckpointError(f"{counts.most_common(1)[0][0]}: two source tensors would both get this name")
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
    """A tensor outside the layers: unchanged, or with its slices, one per layer, in the new order."""
    piece = _piece(shard, tensor)
    if rule is None or rule.sources == tuple(range(rule.source_slices)):
        return Target(tensor.name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.name, 0, (piece,))
    size = tensor.shape[rule.axis]
    if size % rule.source_slices or not tensor.nbytes:
        raise UnsupportedError(
            f"{tensor.name}: {list(tensor.shape)} cannot be split into equal slices for {rule.source_slices} layers"
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
    flat = [target for group in targets for target in group]
    _check_shard_size(max_shard_nbytes, [target.nbytes for target in flat])
    return model_layout(flat, max_shard_nbytes)


def _check_shard_size(max_shard_nbytes: int, tensor_nbytes: Sequence[int]) -> None:
    """Check that a limit of the shards' size is not a number that lost its unit.

    Raises:
        OutputError: no tensor fits into it, or it is below 1 kB and not all do.
    """
    smallest, largest = min(tensor_nbytes, default=0), max(tensor_nbytes, default=0)
    if max_shard_nbytes < smallest or max_shard_nbytes < min(largest, 1000):
        meant = f"{max_shard_nbytes}GB" if max_shard_nbytes < 1000 else f"{max_shard_nbytes // 1000}GB"
        raise OutputError(
            f"--max-shard-size {max_shard_nbytes}: is {max_shard_nbytes} bytes, and the largest tensor has "
            f"{nbytes_text(largest)}; did you mean {meant}?"
        )


def _summary(layers: Sequence[int], tensors: Iterable[TensorInfo | Target], kv: Sequence[int] | None) -> Summary:
    parameters = nbytes = 0
    for tensor in tensors:
        parameters += prod(tensor.shape)
        nbytes += tensor.nbytes
    return Summary(len(layers), parameters, nbytes, None if kv is None else sum(kv[layer] for layer in layers))
