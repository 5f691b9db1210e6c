"""An output against its plan and its source, byte by byte; without the source, all that the output alone can prove.

The file that is checked is never trusted: with a source the plan is made anew from it, and only what the job was is
taken from the output's provenance.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from solar_upscale.architecture import ResidualRule, find_stacks
from solar_upscale.architecture.residual import residual_writers
from solar_upscale.checkpoint import Checkpoint, open_checkpoint, parse_json
from solar_upscale.errors import CheckpointError, printable
from solar_upscale.execute import planned_bytes
from solar_upscale.hub_source import open_source
from solar_upscale.plan import Job, ShardPlan, UpscalePlan
from solar_upscale.planner import make_plan
from solar_upscale.provenance import PROVENANCE_NAME, job_from_provenance
from solar_upscale.report import nbytes_text
from solar_upscale.source import FolderSource, Source
from solar_upscale.transform import Zero, transform_chunks, transform_for

__all__ = ["VerifyReport", "is_finished", "verify_checkpoint", "verify_report"]

# Differences that one message names; the rest are counted.
MAX_NAMED = 5

# Documents that people may edit after the fact: a difference is told, but it is no fault.
_EDITABLE = frozenset({"README.md", "layer_map.svg"})

# What provenance says of the run and not of the result.
_NOT_COMPARED = ("version", "source", "revision")

Differences = Iterator[str]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was proved; ``source`` is None where only the output was at hand, ``remarks`` tell of harmless differences."""

    output: str
    source: str | None
    layers: int
    shards: int
    tensors: int
    nbytes: int
    remarks: tuple[str, ...] = ()


def verify_checkpoint(
    output: str | Path,
    source: str | Path | Source | None = None,
    *,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
    **how: Any,
) -> VerifyReport:
    """Prove an output right, and return what was proved.

    With a source: the bytes of every tensor against the source's (computed again where the plan computes them), every
    header, the index, the config, every file that came along. Without: headers, index, config and documents against
    the digests in the provenance, and all copies of a layer against one another.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote.
        source: What it was made from.
        on_bytes: Called with the number of tensor bytes each time some were compared.
        how: Options of ``open_source`` for a Hub id; the revision is the recorded one unless given.

    Raises:
        CheckpointError: a difference was found, or the output is not one of ours; names up to five differences.
        UnsupportedError, HubError: the source cannot be planned again or read.
    """
    folder = Path(output)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is not a folder")
    found = FolderSource(folder)
    record = _read_provenance(found)
    job = job_from_provenance(record)
    checkpoint = open_checkpoint(found)
    remarks: list[str] = []
    if source is None:
        differences = _against_itself(checkpoint, job, record, on_bytes)
        name = None
    else:
        opened = _open(source, job, how)
        plan = _plan_again(opened, job)
        differences = _against_source(found, plan, opened, record, on_bytes, remarks)
        name = opened.name
    _refuse(folder, differences)
    nbytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    layers = len(record["layers"])
    return VerifyReport(
        folder.name, name, layers, len(checkpoint.shards), len(checkpoint.tensors), nbytes, tuple(remarks)
    )


def verify_report(report: VerifyReport) -> str:
    """What was proved, for a person."""
    against = (
        f"byte for byte against {report.source}" if report.source else "by itself; --source SOURCE proves the rest"
    )
    lines = [
        f"{report.output}: right: {report.layers} layers, {report.tensors} tensors in {report.shards} shards, "
        f"{nbytes_text(report.nbytes)}, {against}",
        *(f"note: {printable(remark)}" for remark in report.remarks),
    ]
    return "\n".join(lines) + "\n"


def is_finished(output: Path, plan: UpscalePlan, source: Source) -> bool:
    """Whether ``output`` already is the finished result of ``plan``.

    Documents, headers and sizes must be the plan's. If a source file was touched after the output was written, that
    does not prove the tensors, and they are compared byte by byte.
    """
    found = FolderSource(output)
    try:
        if (
            not output.is_dir()
            or found.read(PROVENANCE_NAME, 0, len(plan.documents[PROVENANCE_NAME])) != (plan.documents[PROVENANCE_NAME])
        ):
            return False
        if next(_documents_and_sidecars(found, plan, source, []), None) or next(_headers(found, plan), None):
            return False
        written = (output / PROVENANCE_NAME).stat().st_mtime_ns
    except (CheckpointError, OSError):
        return False
    paths = [source.local_path(shard.filename) for shard in plan.source_shards]
    if all(path is not None and path.stat().st_mtime_ns < written for path in paths) or plan.job.revision:
        return True
    return next(_tensors(found, plan, source, lambda nbytes: None), None) is None


def _read_provenance(found: FolderSource) -> dict[str, Any]:
    files = found.files()
    if PROVENANCE_NAME not in files:
        raise CheckpointError(f"{found.name}: no {PROVENANCE_NAME}; expected a folder that solar-upscale wrote")
    text = found.read(PROVENANCE_NAME, 0, files[PROVENANCE_NAME].nbytes)
    return parse_json(text, PROVENANCE_NAME)


def _open(source: str | Path | Source, job: Job, how: dict[str, Any]) -> Source:
    if not isinstance(source, str | Path):
        return source
    if not Path(source).is_dir():
        how = {"revision": job.revision, **how, "stream": True}
    return open_source(str(source), **how)


def _plan_again(source: Source, job: Job) -> UpscalePlan:
    return make_plan(
        open_checkpoint(source),
        list(job.layers),
        init=job.init,
        entry_scales=job.entry_scales,
        stack=job.stack,
        max_shard_nbytes=job.max_shard_nbytes,
        drop_mtp=job.drop_mtp,
        assume_uniform=job.assume_uniform,
    )


def _refuse(folder: Path, differences: Differences) -> None:
    named = list(islice(differences, MAX_NAMED + 1))
    if named:
        more = "; and more" if len(named) > MAX_NAMED else ""
        raise CheckpointError(f"{folder.name}: differs: {'; '.join(named[:MAX_NAMED])}{more}")


def _against_source(
    found: FolderSource,
    plan: UpscalePlan,
    source: Source,
    record: Mapping[str, Any],
    on_bytes: Callable[[int], None],
    remarks: list[str],
) -> Differences:
    expected = json.loads(plan.documents[PROVENANCE_NAME])
    for key in expected.keys() | record.keys():
        if key not in _NOT_COMPARED and expected.get(key) != record.get(key):
            yield f"{PROVENANCE_NAME}: {key} is not what the source gives"
    yield from _documents_and_sidecars(found, plan, source, remarks)
    damaged = list(_headers(found, plan))
    yield from damaged
    if not damaged:
        yield from _tensors(found, plan, source, on_bytes)


def _documents_and_sidecars(found: FolderSource, plan: UpscalePlan, source: Source, remarks: list[str]) -> Differences:
    files = found.files()
    for name, data in plan.documents.items():
        if name == PROVENANCE_NAME:
            continue
        if name in files and _same(found.stream(name, 0, files[name].nbytes), [data]):
            continue
        if name in _EDITABLE:
            remarks.append(f"{name} is not the one that was written")
        else:
            yield f"{name}: is not what the plan says" if name in files else f"{name}: is missing"
    for file in plan.sidecars:
        if file.name not in files:
            yield f"{file.name}: is missing"
        elif not _same(found.stream(file.name, 0, files[file.name].nbytes), source.stream(file.name, 0, file.nbytes)):
            yield f"{file.name}: is not the source's"
    for name in files.keys() - set(plan.filenames):
        remarks.append(f"{name} was not written by the plan")


def _headers(found: FolderSource, plan: UpscalePlan) -> Differences:
    files = found.files()
    for shard in plan.shards:
        if shard.filename not in files:
            yield f"{shard.filename}: is missing"
        elif files[shard.filename].nbytes != shard.nbytes:
            yield f"{shard.filename}: {files[shard.filename].nbytes} bytes; expected {shard.nbytes}"
        elif found.read(shard.filename, 0, len(shard.header)) != shard.header:
            yield f"{shard.filename}: the header is not the plan's"


def _tensors(found: FolderSource, plan: UpscalePlan, source: Source, on_bytes: Callable[[int], None]) -> Differences:
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


def _against_itself(
    checkpoint: Checkpoint, job: Job, record: Mapping[str, Any], on_bytes: Callable[[int], None]
) -> Differences:
    """What the output alone can prove: digests of small files and headers, the depth, copies against one another."""
    yield from _digests(checkpoint, record)
    rows = record["layers"]
    stacks = {stack.name: stack for stack in find_stacks(checkpoint.tensors, checkpoint.config)}
    stack = stacks.get(job.stack)
    if stack is None or stack.num_layers != len(rows):
        yield f"{job.stack}: {stack.num_layers if stack else 0} layers; expected {len(rows)}"
        return
    factors = [float(row.get("factor", 1)) for row in rows]
    changed = [target for target, factor in enumerate(factors) if factor != 1]
    found = residual_writers(checkpoint.config, checkpoint.tensors, stack, changed) if changed else {}
    scaled = {name: rule for rules in found.values() for name, rule in rules.items()}
    first_of: dict[int, int] = {}
    layers = _tensors_of_each_layer(checkpoint, stack.prefixes, len(rows))
    for target, row in enumerate(rows):
        first = first_of.setdefault(row["source"], target)
        if layers[first].keys() != layers[target].keys():
            yield f"layers {first} and {target} come from one layer, but hold different tensors"
            continue
        for rest, name in layers[target].items():
            yield from _copy(checkpoint, layers[first][rest], name, scaled, (factors[first], factors[target]), on_bytes)


def _digests(checkpoint: Checkpoint, record: Mapping[str, Any]) -> Differences:
    files = checkpoint.source.files()
    for name, digest in record["documents"].items():
        if name in _EDITABLE:
            continue
        if name not in files:
            yield f"{name}: is missing"
            continue
        text = checkpoint.source.read(name, 0, files[name].nbytes)
        if hashlib.sha256(text).hexdigest() != digest:
            yield f"{name}: is not the one that was written"
    headers = {shard.filename: shard.header_digest for shard in checkpoint.shards}
    for row in record["shards"]:
        if headers.get(row["filename"]) != row["header_sha256"]:
            yield f"{row['filename']}: the header is not the one that was written"


def _tensors_of_each_layer(checkpoint: Checkpoint, prefixes: Iterable[str], count: int) -> list[dict[str, str]]:
    """For each layer, the full name of each of its tensors by the name's parts around the number."""
    layers: list[dict[str, str]] = [{} for _ in range(count)]
    for name in checkpoint.tensors:
        for prefix in prefixes:
            number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            if name.startswith(f"{prefix}.") and number.isdecimal() and int(number) < count:
                layers[int(number)][f"{prefix}.*.{rest}"] = name
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
    rule = scaled.get(name)
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
