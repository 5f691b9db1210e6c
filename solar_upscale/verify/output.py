"""An output against its plan and its source, byte by byte; without the source, all that the output alone can prove.

The file that is checked is never trusted: with a source the plan is made anew from it, and only what the job was is
taken from the output's provenance.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from solar_upscale.architecture import ResidualRule, Stack, find_stacks, name_splitter
from solar_upscale.errors import CheckpointError, printable
from solar_upscale.pattern import LayerPattern, parse_layers
from solar_upscale.plan.planner import make_plan
from solar_upscale.plan.transform import Zero, transform_chunks, transform_for
from solar_upscale.plan.types import ShardPlan, SourceIdentity, UpscalePlan
from solar_upscale.report.output_files import output_filenames, render_output_files
from solar_upscale.report.provenance import PROVENANCE_NAME, read_provenance, without_sentences
from solar_upscale.request import HubOptions, UpscaleRequest
from solar_upscale.source.checkpoint import Checkpoint, open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.opening import open_source
from solar_upscale.source.protocol import Source
from solar_upscale.start.factors import layer_factors
from solar_upscale.start.init import parse_init
from solar_upscale.start.residual import written_rules
from solar_upscale.strict_json import json_bytes, parse_json
from solar_upscale.text import counted, nbytes_text
from solar_upscale.write.execute import planned_bytes
from solar_upscale.write.work_files import RECORD_NAME

__all__ = ["VerifyReport", "is_finished", "recorded_source", "sidecar_digests", "verify_checkpoint", "verify_report"]

# Differences that one message names; the rest are counted.
MAX_NAMED = 5

# Documents that people may edit after the fact: a difference is told, but it is no fault.
_EDITABLE = frozenset({"README.md", "layer_map.svg"})

# What provenance says of the run and not of the result: another folder's name, another version of this program.
_OF_THE_RUN = ("version", "source", "revision")

# Bounds on what a provenance that is not trusted may ask for.
MAX_PROVENANCE_NBYTES = 64 * 2**20
MAX_SOURCE_LAYERS = 100_000

Differences = Iterator[str]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was proved; ``source`` is None where only the output was at hand, ``remarks`` are harmless differences."""

    output: str
    source: str | None
    layers: int
    shards: int
    tensors: int
    nbytes: int
    remarks: tuple[str, ...] = ()


def verify_checkpoint(
    output: str | Path | Source,
    source: str | Path | Source | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> VerifyReport:
    """Prove an output right, and return what was proved.

    With a source: the bytes of every tensor against the source's (computed again where the plan computes them), every
    header, the index, the config, every file that came along. Without: headers, index, config and every file that
    came along against the digests in the provenance, and all copies of a layer against one another.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote, or the id of a model that was published from one.
        source: What it was made from.
        revision: Branch, tag or commit of a Hub source; by default the recorded commit.
        token: A Hub token; True or None for the one logged in with, False for none.
        cache_dir: Where downloads are kept.
        local_files_only: Only what is in the cache; no network.
        on_bytes: Called with the number of tensor bytes each time some were compared.

    Raises:
        CheckpointError: a difference was found, or the output is not one of ours; names up to five differences.
        UnsupportedError, HubError: the source cannot be planned again or read.
    """
    hub = HubOptions(revision, token, None if cache_dir is None else Path(cache_dir), local_files_only)
    found = _open_output(output, hub)
    text, record = _read_provenance(found)
    request, made_from = read_provenance(record)
    checkpoint = open_checkpoint(found)
    remarks: list[str] = []
    if source is None:
        name = None
        pattern = _own_pattern(request, record)
        differences = _against_itself(checkpoint, request, pattern, record, on_bytes)
    else:
        opened = _open(source, made_from, hub)
        name = opened.name
        plan = _plan_again(opened, request, made_from, record)
        pattern = plan.pattern
        digests = sidecar_digests(plan, opened)
        files = render_output_files(plan, digests)
        differences = chain(
            _provenance(files.pop(PROVENANCE_NAME), text, record, remarks),
            _against_source(found, plan, files, digests, opened, on_bytes, remarks),
        )
    _refuse(found, differences)
    nbytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    return VerifyReport(
        found.name, name, len(pattern), len(checkpoint.shards), len(checkpoint.tensors), nbytes, tuple(remarks)
    )


def recorded_source(output: Path) -> SourceIdentity:
    """The source that an output's provenance names.

    Raises:
        CheckpointError: it has none that can be read.
    """
    return read_provenance(_read_provenance(FolderSource(output))[1])[1]


def verify_report(report: VerifyReport) -> str:
    """What was proved, for a person."""
    against = (
        f"byte for byte against {report.source}" if report.source else "by itself; --source SOURCE proves the rest"
    )
    lines = [
        f"{report.output}: right: {report.layers} layers, {report.tensors} tensors in "
        f"{counted(report.shards, 'shard')}, "
        f"{nbytes_text(report.nbytes)}, {against}",
        *(f"note: {printable(remark)}" for remark in report.remarks),
    ]
    return "\n".join(lines) + "\n"


def is_finished(
    output: Path, plan: UpscalePlan, source: Source, on_bytes: Callable[[int], None] = lambda nbytes: None
) -> bool:
    """Whether ``output`` already is the finished result of ``plan``.

    Where a Hub commit names the source's content, documents, headers and sizes prove it. A folder's content has no
    name (another model of the same shape may be called the same), so there the tensors are compared byte by byte.
    """
    if not output.is_dir():
        return False
    found = FolderSource(output)
    try:
        text, _ = _read_provenance(found)
        digests = sidecar_digests(plan, source)
        files = render_output_files(plan, digests)
        if text != files.pop(PROVENANCE_NAME):
            return False
        unlike = chain(_small_files(found, plan, files, digests, []), _headers(found, plan))
        if not plan.source.is_on_hub:
            unlike = chain(unlike, _tensors(found, plan, source, on_bytes))
        return next(unlike, None) is None
    except CheckpointError:
        return False


def sidecar_digests(plan: UpscalePlan, source: Source) -> dict[str, str]:
    """The SHA-256 of each file that comes along, as the source has it now.

    Raises:
        CheckpointError, HubError: one cannot be read.
    """
    return {file.name: _sha256(source.stream(file.name, 0, file.nbytes)) for file in plan.sidecars}


def _open_output(output: str | Path | Source, hub: HubOptions) -> Source:
    if not isinstance(output, str | Path):
        return output
    folder = Path(output).expanduser()
    if (folder / RECORD_NAME).is_file():
        raise CheckpointError(
            f"{folder}: its shards were deleted once they were published; verify that model by its id"
        )
    if folder.is_dir():
        return FolderSource(folder)
    if isinstance(output, Path) or output.count("/") != 1 or output.startswith((".", "/", "~")):
        raise CheckpointError(f"{folder}: is not a folder")
    return open_source(output, replace(hub, revision=None, stream=True))


def _read_provenance(found: Source) -> tuple[bytes, dict[str, Any]]:
    files = found.files()
    if PROVENANCE_NAME not in files:
        raise CheckpointError(f"{found.name}: no {PROVENANCE_NAME}; expected a folder that solar-upscale wrote")
    nbytes = files[PROVENANCE_NAME].nbytes
    if nbytes > MAX_PROVENANCE_NBYTES:
        raise CheckpointError(f"{PROVENANCE_NAME}: {nbytes} bytes; expected at most {MAX_PROVENANCE_NBYTES}")
    text = found.read(PROVENANCE_NAME, 0, nbytes)
    return text, parse_json(text, PROVENANCE_NAME)


def _open(source: str | Path | Source, made_from: SourceIdentity, hub: HubOptions) -> Source:
    if isinstance(source, str) and not Path(source).expanduser().is_dir():
        hub = replace(hub, revision=hub.revision or made_from.revision, stream=True)
    return open_source(source, hub if isinstance(source, str) else HubOptions())


def _plan_again(
    source: Source, request: UpscaleRequest, made_from: SourceIdentity, record: Mapping[str, Any]
) -> UpscalePlan:
    checkpoint = open_checkpoint(source)
    headers = [
        {"filename": shard.filename, "nbytes": shard.nbytes, "header_sha256": shard.header_digest}
        for shard in checkpoint.shards
    ]
    if record.get("source_shards") != headers:
        at = f" at {made_from.revision}" if made_from.is_on_hub else ""
        raise CheckpointError(
            f"{source.name}: its weight files are not those that {PROVENANCE_NAME} names; give the source that the "
            f"output was made from ({made_from.name}{at})"
        )
    return make_plan(checkpoint, request)


def _refuse(found: Source, differences: Differences) -> None:
    named = list(islice(differences, MAX_NAMED + 1))
    if named:
        more = "; and more" if len(named) > MAX_NAMED else ""
        raise CheckpointError(f"{found.name}: differs: {'; '.join(named[:MAX_NAMED])}{more}")


# ---------------------------------------------------------------- with the source


def _provenance(planned: bytes, text: bytes, record: Mapping[str, Any], remarks: list[str]) -> Differences:
    """The provenance to the byte, save for what it says of the run, and for the sentences of another version."""
    expected = json.loads(planned)
    facts, planned_facts = without_sentences(record), without_sentences(expected)
    odd = [key for key in {**expected, **record} if key not in _OF_THE_RUN and facts.get(key) != planned_facts.get(key)]
    yield from (f"{PROVENANCE_NAME}: {key} is not what the source gives" for key in odd)
    run = {key: record.get(key) for key in _OF_THE_RUN}
    if not odd and run["version"] == expected["version"] and json_bytes({**expected, **run}) != text:
        yield f"{PROVENANCE_NAME}: is not written as the plan writes it"
    remarks.extend(
        f"{PROVENANCE_NAME} names {key} {run[key]}, here it is {expected[key]}"
        for key in _OF_THE_RUN
        if run[key] != expected[key]
    )


def _against_source(
    found: Source,
    plan: UpscalePlan,
    files: Mapping[str, bytes],
    digests: Mapping[str, str],
    source: Source,
    on_bytes: Callable[[int], None],
    remarks: list[str],
) -> Differences:
    yield from _small_files(found, plan, files, digests, remarks)
    damaged = list(_headers(found, plan))
    yield from damaged
    if not damaged:
        yield from _tensors(found, plan, source, on_bytes)


def _small_files(
    found: Source, plan: UpscalePlan, expected: Mapping[str, bytes], digests: Mapping[str, str], remarks: list[str]
) -> Differences:
    """All but the shards and the provenance: ``expected`` by their bytes, copied files by their digests."""
    files = found.files()
    for name, data in expected.items():
        if name in files and _same(found.stream(name, 0, files[name].nbytes), [data]):
            continue
        if name in _EDITABLE:
            remarks.append(f"{name} is not the one that the plan writes")
        else:
            yield f"{name}: is not what the plan says" if name in files else f"{name}: is missing"
    for name, digest in digests.items():
        if name not in files:
            yield f"{name}: is missing"
        elif _sha256(found.stream(name, 0, files[name].nbytes)) != digest:
            yield f"{name}: is not the source's"
    for name in sorted(name for name in files.keys() - set(output_filenames(plan)) if not name.startswith(".")):
        if name.endswith(".safetensors"):
            yield f"{name}: weights that were not written by the plan"
        else:
            remarks.append(f"{name} was not written by the plan")


def _headers(found: Source, plan: UpscalePlan) -> Differences:
    files = found.files()
    for shard in plan.shards:
        if shard.filename not in files:
            yield f"{shard.filename}: is missing"
        elif files[shard.filename].nbytes != shard.nbytes:
            yield f"{shard.filename}: {files[shard.filename].nbytes} bytes; expected {shard.nbytes}"
        elif found.read(shard.filename, 0, len(shard.header)) != shard.header:
            yield f"{shard.filename}: the header is not the plan's"


def _tensors(found: Source, plan: UpscalePlan, source: Source, on_bytes: Callable[[int], None]) -> Differences:
    for shard in plan.shards:
        for move in shard.moves():
            written = found.stream(shard.filename, move.target_start, move.target_start + move.target_nbytes)
            place = _first_difference(written, planned_bytes(source, move), on_bytes)
            if place is not None:
                yield f"{shard.filename}: {_tensor_at(shard, move.target_start + place)}: is not the source's bytes"


def _tensor_at(shard: ShardPlan, place: int) -> str:
    start = place - len(shard.header)
    return next(item.target.name for item in shard.items if start < item.target.data_offsets[1])


def _same(left: Iterable[bytes], right: Iterable[bytes]) -> bool:
    return _first_difference(left, right, lambda nbytes: None) is None


def _first_difference(
    left: Iterable[bytes | memoryview], right: Iterable[bytes | memoryview], on_bytes: Callable[[int], None]
) -> int | None:
    """Where two streams first differ, in bytes from their start; None if they are equal. Chunks may differ in size."""
    lefts, rights = iter(left), iter(right)
    place = 0
    one = other = b""
    while True:
        one = one or bytes(next(lefts, b""))  # bytes, since comparing memoryviews goes element by element
        other = other or bytes(next(rights, b""))
        size = min(len(one), len(other))
        if not size:
            return None if len(one) == len(other) else place
        left_part, right_part = one[:size], other[:size]
        if left_part != right_part:
            return place + next(index for index in range(size) if left_part[index] != right_part[index])
        on_bytes(size)
        place += size
        one, other = one[size:], other[size:]


# ---------------------------------------------------------------- without it


def _own_pattern(request: UpscaleRequest, record: Mapping[str, Any]) -> LayerPattern:
    stack = record.get("stack")
    count = stack.get("layers") if isinstance(stack, dict) else None
    if type(count) is not int or not 0 < count <= MAX_SOURCE_LAYERS:
        raise CheckpointError(f"{PROVENANCE_NAME}: stack.layers: expected the source's number of layers")
    return parse_layers(request.layers, count)


def _against_itself(
    checkpoint: Checkpoint,
    request: UpscaleRequest,
    pattern: LayerPattern,
    record: Mapping[str, Any],
    on_bytes: Callable[[int], None],
) -> Differences:
    """What the output alone can prove: digests of small files and headers, the depth, copies against one another."""
    yield from _digests(checkpoint, record)
    stacks = {stack.name: stack for stack in find_stacks(checkpoint.tensors, checkpoint.config)}
    stack = stacks.get(request.stack or "")
    if stack is None or stack.num_layers != len(pattern):
        yield f"{request.stack}: {stack.num_layers if stack else 0} layers; expected {len(pattern)}"
        return
    factors = layer_factors(pattern, request, parse_init(request.init))
    rows = [(row.get("source"), row.get("factor", 1)) for row in _dicts(record.get("layers"))]
    if rows != list(zip(pattern.sources, factors, strict=True)):
        yield f"{PROVENANCE_NAME}: layers are not those of its job"
    layers = _tensors_of_each_layer(checkpoint, stack)
    changed = [target for target, factor in enumerate(factors) if factor != 1]
    rules = written_rules(checkpoint.config, checkpoint.tensors, stack, changed) if changed else {}
    scaled = {name: rule for each in rules.values() for name, rule in each.items()}
    first_of: dict[int, int] = {}
    for target, source in enumerate(pattern.sources):
        first = first_of.setdefault(source, target)
        if layers[first].keys() != layers[target].keys():
            yield f"layers {first} and {target} come from one layer, but hold different tensors"
            continue
        for rest, name in layers[target].items():
            yield from _copy(checkpoint, layers[first][rest], name, scaled, (factors[first], factors[target]), on_bytes)


def _digests(checkpoint: Checkpoint, record: Mapping[str, Any]) -> Differences:
    files = checkpoint.source.files()
    documents, sidecars = record.get("documents"), record.get("sidecars")
    if not isinstance(documents, dict) or "config.json" not in documents:
        yield f"{PROVENANCE_NAME}: documents do not name config.json"
    if not isinstance(sidecars, dict):
        yield f"{PROVENANCE_NAME}: sidecars: expected the digest of each file that came along"
    for name, digest in (pair for each in (documents, sidecars) if isinstance(each, dict) for pair in each.items()):
        if name not in files:
            yield f"{name}: is missing"
        elif _sha256(checkpoint.source.stream(name, 0, files[name].nbytes)) != digest:
            yield f"{name}: is not the one that was written"
    recorded = {str(row.get("filename")): row.get("header_sha256") for row in _dicts(record.get("shards"))}
    headers = {shard.filename: shard.header_digest for shard in checkpoint.shards}
    yield from (
        f"{name}: the header is not the one that was written"
        for name in sorted(headers.keys() | recorded.keys())
        if headers.get(name) != recorded.get(name)
    )
    extra = [name for name in files if name.endswith(".safetensors") and name not in headers]
    yield from (f"{name}: weights that the index does not name" for name in extra)


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _tensors_of_each_layer(checkpoint: Checkpoint, stack: Stack) -> list[dict[str, str]]:
    """For each layer, the full name of each of its tensors by the name's parts around the number."""
    layers: list[dict[str, str]] = [{} for _ in range(stack.num_layers)]
    split = name_splitter(stack.prefixes)
    for name in checkpoint.tensors:
        place = split(name)
        if place is not None and place[1] < stack.num_layers:
            layers[place[1]][f"{place[0]}.*{place[2]}"] = name
    return layers


def _copy(
    checkpoint: Checkpoint,
    first: str,
    name: str,
    scaled: Mapping[str, ResidualRule],
    factors: tuple[float, float],
    on_bytes: Callable[[int], None],
) -> Differences:
    """One tensor of a repeated layer against the same tensor of the layer's first use."""
    tensor = checkpoint.tensors[name]
    rule = scaled.get(name) or scaled.get(first)  # only layers with a factor other than 1 have rules
    transform = None
    if rule is not None and factors[0] != factors[1]:
        transform = transform_for(factors[1], rule, tensor)
        if factors[0] != 1 and not isinstance(transform, Zero):
            return  # both were computed; only the source can tell
    elif first == name:
        return
    expected = transform_chunks(transform, tensor.dtype, tensor.nbytes, lambda a, b: _data(checkpoint, first, a, b))
    if _first_difference(_data(checkpoint, name, 0, tensor.nbytes), expected, on_bytes) is not None:
        yield f"{name}: is not the copy of {first} that the provenance says"


def _data(checkpoint: Checkpoint, name: str, start: int, stop: int) -> Iterator[bytes]:
    shard = checkpoint.shard_of[name]
    offset = shard.data_start + checkpoint.tensors[name].data_offsets[0]
    return checkpoint.source.stream(shard.filename, offset + start, offset + stop)
