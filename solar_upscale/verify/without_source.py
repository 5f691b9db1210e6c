"""Verifies an output without its source: recorded digests, headers, the depth, and that copies of a layer agree."""

from collections.abc import Iterator, Mapping
from typing import Any

from solar_upscale.architecture import ResidualRule, Stack, find_stacks, name_splitter
from solar_upscale.digest import digest_chunks
from solar_upscale.errors import CheckpointError
from solar_upscale.pattern import LayerPattern, parse_layers
from solar_upscale.plan.transform import Zero, transform_chunks, transform_for
from solar_upscale.report.provenance import PROVENANCE_NAME
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.checkpoint import Checkpoint
from solar_upscale.start.factors import layer_factors
from solar_upscale.start.init import parse_init
from solar_upscale.start.residual import residual_rules
from solar_upscale.verify.compare import Finding, Findings, first_difference
from solar_upscale.write.shards import OnBytes

__all__ = ["compare_without_source", "recorded_pattern"]

# A limit on untrusted provenance.
MAX_SOURCE_LAYERS = 100_000


def compare_without_source(
    checkpoint: Checkpoint,
    request: UpscaleRequest,
    pattern: LayerPattern,
    record: Mapping[str, Any],
    on_bytes: OnBytes,
) -> Findings:
    """Every difference that shows without the source: in small files, headers, the depth, and copies of a layer."""
    yield from _digests(checkpoint, record)
    stacks = {stack.name: stack for stack in find_stacks(checkpoint.tensors, checkpoint.config)}
    stack = stacks.get(request.stack or "")
    if stack is None or stack.num_layers != len(pattern):
        yield Finding(f"{request.stack}: expected {len(pattern)} layers, got {stack.num_layers if stack else 0}")
        return
    factors = layer_factors(pattern, request, parse_init(request.init))
    rows = [(row.get("source"), row.get("factor", 1)) for row in _dicts(record.get("layers"))]
    if rows != list(zip(pattern.sources, factors, strict=True)):
        yield Finding(f"{PROVENANCE_NAME}: layers do not match job.layers")
    layers = _tensors_of_each_layer(checkpoint, stack)
    changed = [target for target, factor in enumerate(factors) if factor != 1]
    rules = residual_rules(checkpoint.config, checkpoint.tensors, stack, changed) if changed else {}
    scaled = {name: rule for each in rules.values() for name, rule in each.items()}
    first_of: dict[int, int] = {}
    for target, source in enumerate(pattern.sources):
        first = first_of.setdefault(source, target)
        if layers[first].keys() != layers[target].keys():
            yield Finding(f"layers {first} and {target} are copies of one layer, but have different tensors")
            continue
        pair = factors[first], factors[target]
        for relative_name, name in layers[target].items():
            yield from _copy(checkpoint, layers[first][relative_name], name, scaled, pair, on_bytes)


def recorded_pattern(request: UpscaleRequest, record: Mapping[str, Any]) -> LayerPattern:
    """The pattern of the recorded request, for the recorded number of source layers.

    Raises:
        CheckpointError: that number is missing or out of bounds.
        PatternError: the request does not fit that number.
    """
    stack = record.get("stack")
    count = stack.get("layers") if isinstance(stack, dict) else None
    if type(count) is not int or not 0 < count <= MAX_SOURCE_LAYERS:
        raise CheckpointError(f"{PROVENANCE_NAME}: stack.layers: expected the source's number of layers")
    return parse_layers(request.layers, count)


def _digests(checkpoint: Checkpoint, record: Mapping[str, Any]) -> Findings:
    files = checkpoint.source.files()
    documents, sidecars = record.get("documents"), record.get("sidecars")
    if not isinstance(documents, dict) or "config.json" not in documents:
        yield Finding(f"{PROVENANCE_NAME}: documents: config.json is missing")
    if not isinstance(sidecars, dict):
        yield Finding(f"{PROVENANCE_NAME}: sidecars: expected the digest of each copied file")
    for name, digest in (pair for each in (documents, sidecars) if isinstance(each, dict) for pair in each.items()):
        if name not in files:
            yield Finding(f"{name}: is missing")
        elif digest_chunks(checkpoint.source.stream(name, 0, files[name].nbytes)) != digest:
            yield Finding(f"{name}: does not match its recorded digest")
    recorded = {str(row.get("filename")): row.get("header_sha256") for row in _dicts(record.get("shards"))}
    headers = {shard.filename: shard.header_digest for shard in checkpoint.shards}
    yield from (
        Finding(f"{name}: the header does not match its recorded digest")
        for name in sorted(headers.keys() | recorded.keys())
        if headers.get(name) != recorded.get(name)
    )
    extra = [name for name in files if name.endswith(".safetensors") and name not in headers]
    yield from (Finding(f"{name}: is a weight file that is not in the index") for name in extra)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _tensors_of_each_layer(checkpoint: Checkpoint, stack: Stack) -> list[dict[str, str]]:
    """For each layer, its tensors' full names by the same names without the layer number."""
    layers: list[dict[str, str]] = [{} for _ in range(stack.num_layers)]
    split = name_splitter(stack.prefixes)
    for name in checkpoint.tensors:
        parts = split(name)
        if parts is not None and parts[1] < stack.num_layers:
            layers[parts[1]][f"{parts[0]}.*{parts[2]}"] = name
    return layers


def _copy(
    checkpoint: Checkpoint,
    first: str,
    name: str,
    scaled: Mapping[str, ResidualRule],
    factors: tuple[float, float],
    on_bytes: OnBytes,
) -> Findings:
    """Compare a tensor of a repeated layer with the same tensor of the layer's first use."""
    tensor = checkpoint.tensors[name]
    rule = scaled.get(name) or scaled.get(first)  # only layers with a factor other than 1 have rules
    transform = None
    if rule is not None and factors[0] != factors[1]:
        transform = transform_for(factors[1], rule, tensor)
        if factors[0] != 1 and not isinstance(transform, Zero):
            return  # both were computed, so only the source can tell
    elif first == name:
        return
    expected = transform_chunks(transform, tensor.dtype, tensor.nbytes, lambda a, b: _data(checkpoint, first, a, b))
    if first_difference(_data(checkpoint, name, 0, tensor.nbytes), expected, on_bytes) is not None:
        yield Finding(f"{name}: is not the recorded copy of {first}")


def _data(checkpoint: Checkpoint, name: str, start: int, stop: int) -> Iterator[bytes]:
    shard = checkpoint.shard_of[name]
    offset = shard.data_start + checkpoint.tensors[name].data_offsets[0]
    return checkpoint.source.stream(shard.filename, offset + start, offset + stop)
