"""An output against its plan and its source, byte by byte; without the source, all that the output alone can prove.

The file that is checked is never trusted: with a source the plan is made anew from it, and only what the job was is
taken from the output's provenance.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from solar_upscale.architecture import ResidualRule, Stack, find_stacks, name_splitter
from solar_upscale.architecture.residual import written_rules
from solar_upscale.checkpoint import Checkpoint, open_checkpoint, parse_json
from solar_upscale.errors import CheckpointError, printable
from solar_upscale.execute import planned_bytes
from solar_upscale.hub_source import open_source
from solar_upscale.pattern import LayerPattern, parse_layers
from solar_upscale.plan import Job, ShardPlan, UpscalePlan, json_bytes
from solar_upscale.planner import layer_factors, make_plan
from solar_upscale.provenance import PROVENANCE_NAME, job_from_provenance, with_sidecars
from solar_upscale.push import RECORD_NAME
from solar_upscale.report import counted, nbytes_text
from solar_upscale.source import FolderSource, Source
from solar_upscale.transform import Zero, parse_init, transform_chunks, transform_for

__all__ = ["VerifyReport", "is_finished", "recorded_job", "sidecar_digests", "verify_checkpoint", "verify_report"]

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
    on_bytes: Callable[[int], None] = lambda nbytes: None,
    **how: Any,
) -> VerifyReport:
    """Prove an output right, and return what was proved.

    With a source: the bytes of every tensor against the source's (computed again where the plan computes them), every
    header, the index, the config, every file that came along. Without: headers, index, config and every file that
    came along against the digests in the provenance, and all copies of a layer against one another.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote, or the id of a model that was published from one.
        source: What it was made from.
        on_bytes: Called with the number of tensor bytes each time some were compared.
        how: Options of ``open_source`` for Hub ids; the revision is the source's, by default the recorded one.

    Raises:
        CheckpointError: a difference was found, or the output is not one of ours; names up to five differences.
        UnsupportedError, HubError: the source cannot be planned again or read.
    """
    found = _open_output(output, how)
    text, record = _read_provenance(found)
    job = job_from_provenance(record)
    checkpoint = open_checkpoint(found)
    remarks: list[str] = []
    if source is None:
        name = None
        pattern = _own_pattern(job, record)
        differences = _against_itself(checkpoint, job, pattern, record, on_bytes)
    else:
        opened = _open(source, job, how)
        name = opened.name
        plan = _plan_again(opened, job, record)
        pattern = plan.pattern
        digests = sidecar_digests(plan, opened)
        differences = chain(
            _provenance(with_sidecars(plan.documents[PROVENANCE_NAME], digests), text, record, remarks),
            _against_source(found, plan, digests, opened, on_bytes, remarks),
        )
    _refuse(found, differences)
    nbytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    return VerifyReport(
        found.name, name, len(pattern), len(checkpoint.shards), len(checkpoint.tensors), nbytes, tuple(remarks)
    )


def recorded_job(output: Path) -> Job:
    """The job that an output's provenance names.

    Raises:
        CheckpointError: it has none that can be read.
    """
    return job_from_provenance(_read_provenance(FolderSource(output))[1])


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
        if text != with_sidecars(plan.documents[PROVENANCE_NAME], digests):
            return False
        unlike = chain(_documents_and_sidecars(found, plan, digests, []), _headers(found, plan))
        if plan.job.revision is None:
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


def _open_output(output: str | Path | Source, how: Mapping[str, Any]) -> Source:
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
    return open_source(output, **{**how, "revision": None, "stream": True})


def _read_provenance(found: Source) -> tuple[bytes, dict[str, Any]]:
    files = found.files()
    if PROVENANCE_NAME not in files:
        raise CheckpointError(f"{found.name}: no {PROVENANCE_NAME}; expected a folder that solar-upscale wrote")
    nbytes = files[PROVENANCE_NAME].nbytes
    if nbytes > MAX_PROVENANCE_NBYTES:
        raise CheckpointError(f"{PROVENANCE_NAME}: {nbytes} bytes; expected at most {MAX_PROVENANCE_NBYTES}")
    text = found.read(PROVENANCE_NAME, 0, nbytes)
    return text, parse_json(text, PROVENANCE_NAME)


def _open(source: str | Path | Source, job: Job, how: dict[str, Any]) -> Source:
    if not isinstance(source, str | Path):
        return source
    if isinstance(source, Path):
        return open_source(str(source.absolute()))
    if not Path(source).expanduser().is_dir():
        how = {**how, "revision": how.get("revision") or job.revision, "stream": True}
    return open_source(source, **how)


def _plan_again(source: Source, job: Job, record: Mapping[str, Any]) -> UpscalePlan:
    checkpoint = open_checkpoint(source)
    headers = [
        {"filename": shard.filename, "nbytes": shard.nbytes, "header_sha256": shard.header_digest}
        for shard in checkpoint.shards
    ]
    if record.get("source_shards") != headers:
        raise CheckpointError(
            f"{source.name}: its weight files are not those that {PROVENANCE_NAME} names; give the source that the "
            f"output was made from ({job.source}{f' at {job.revision}' if job.revision else ''})"
        )
    return make_plan(
        checkpoint,
        list(job.layers),
        init=job.init,
        entry_scales=job.entry_scales,
        stack=job.stack,
        max_shard_nbytes=job.max_shard_nbytes,
        drop_mtp=job.drop_mtp,
        assume_uniform=job.assume_uniform,
    )


def _refuse(found: Source, differences: Differences) -> None:
    named = list(islice(differences, MAX_NAMED + 1))
    if named:
        more = "; and more" if len(named) > MAX_NAMED else ""
        raise CheckpointError(f"{found.name}: differs: {'; '.join(named[:MAX_NAMED])}{more}")


# ---------------------------------------------------------------- with the source


def _provenance(planned: bytes, text: bytes, record: Mapping[str, Any], remarks: list[str]) -> Differences:
    """The provenance to the byte, save for what it says of the run."""
    expected = json.loads(planned)
    odd = [key for key in {**expected, **record} if key not in _OF_THE_RUN and expected.get(key) != record.get(key)]
    yield from (f"{PROVENANCE_NAME}: {key} is not what the source gives" for key in odd)
    run = {key: record.get(key) for key in _OF_THE_RUN}
    if not odd and json_bytes({**expected, **run}) != text:
        yield f"{PROVENANCE_NAME}: is not written as the plan writes it"
    remarks.extend(
        f"{PROVENANCE_NAME} names {key} {run[key]}, here it is {expected[key]}"
        for key in _OF_THE_RUN
        if run[key] != expected[key]
    )


def _against_source(
    found: Source,
    plan: UpscalePlan,
    digests: Mapping[str, str],
    source: Source,
    on_bytes: Callable[[int], None],
    remarks: list[str],
) -> Differences:
    yield from _documents_and_sidecars(found, plan, digests, remarks)
    damaged = list(_headers(found, plan))
    yield from damaged
    if not damaged:
        yield from _tensors(found, plan, source, on_bytes)


def _documents_and_sidecars(
    found: Source, plan: UpscalePlan, digests: Mapping[str, str], remarks: list[str]
) -> Differences:
    files = found.files()
    for name, data in plan.documents.items():
        if name == PROVENANCE_NAME:
            continue
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
    for name in sorted(name for name in files.keys() - set(plan.filenames) if not name.startswith(".")):
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


def _own_pattern(job: Job, record: Mapping[str, Any]) -> LayerPattern:
    stack = record.get("stack")
    count = stack.get("layers") if isinstance(stack, dict) else None
    if type(count) is not int or not 0 < count <= MAX_SOURCE_LAYERS:
        raise CheckpointError(f"{PROVENANCE_NAME}: stack.layers: expected the source's number of layers")
    return parse_layers(list(job.layers), count)


def _against_itself(
    checkpoint: Checkpoint,
    job: Job,
    pattern: LayerPattern,
    record: Mapping[str, Any],
    on_bytes: Callable[[int], None],
) -> Differences:
    """What the output alone can prove: digests of small files and headers, the depth, copies against one another."""
    yield from _digests(checkpoint, record)
    stacks = {stack.name: stack for stack in find_stacks(checkpoint.tensors, checkpoint.config)}
    stack = stacks.get(job.stack)
    if stack is None or stack.num_layers != len(pattern):
        yield f"{job.stack}: {stack.num_layers if stack else 0} layers; expected {len(pattern)}"
        return
    factors = layer_factors(pattern, list(job.layers), parse_init(job.init), job.entry_scales)
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
