"""Compares an output with the plan made from its source: every file, every header, every byte of every tensor."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from solar_upscale.digest import digest_chunks
from solar_upscale.errors import CheckpointError
from solar_upscale.plan.types import ShardPlan, UpscalePlan
from solar_upscale.report.output_files import output_filenames, render_output_files
from solar_upscale.report.provenance import PROVENANCE_NAME, without_later_keys, without_sentences
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source
from solar_upscale.strict_json import json_bytes
from solar_upscale.verify.compare import Finding, Findings, first_difference, same_bytes
from solar_upscale.write.shards import OnBytes, planned_bytes

__all__ = ["ExpectedOutput", "compare_with_source", "expected_output", "is_finished", "looks_finished"]

# Documents that people may edit later: a difference is a note.
_EDITABLE = frozenset({"README.md", "layer_map.svg"})

# Provenance keys that describe the run rather than the result: they may differ between folders and versions.
_RUN_KEYS = ("version", "source", "revision")


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """What an output must hold: a plan's shards, the files rendered from it, and the digests of its copied files."""

    plan: UpscalePlan
    source: Source
    rendered: Mapping[str, bytes]
    copied: Mapping[str, str]


def expected_output(plan: UpscalePlan, source: Source) -> ExpectedOutput:
    """The output that a plan gives with the source as it is now.

    Raises:
        CheckpointError, HubError: a file to be copied cannot be read.
    """
    copied = {file.name: digest_chunks(source.stream(file.name, 0, file.nbytes)) for file in plan.copied_files}
    return ExpectedOutput(plan, source, render_output_files(plan, copied), copied)


def compare_with_source(found: Source, provenance: bytes, expected: ExpectedOutput, on_bytes: OnBytes) -> Findings:
    """Every difference between an output, whose provenance has been read, and the expected output."""
    yield from _provenance(provenance, expected.rendered[PROVENANCE_NAME])
    yield from _small_files(found, expected)
    differences = list(_headers(found, expected.plan))
    yield from differences
    if not differences:
        yield from _tensors(found, expected, on_bytes)


def is_finished(output: Path, plan: UpscalePlan, source: Source, on_bytes: OnBytes = lambda nbytes: None) -> bool:
    """Whether ``output`` already is the finished result of ``plan``.

    If the source is pinned to a Hub commit, equal documents, headers and sizes are enough. A folder's content has no
    such id (another model of the same shape may have the same name), so there the tensors are compared byte by byte.
    """

    def compare_tensors(found: Source, expected: ExpectedOutput) -> Findings:
        return iter(()) if plan.source.is_on_hub else _tensors(found, expected, on_bytes)

    return _is_result(output, plan, source, compare_tensors)


def looks_finished(output: Path, plan: UpscalePlan, source: Source) -> bool:
    """Whether ``output`` has the documents, headers and sizes of the finished result; no tensor is read."""
    return _is_result(output, plan, source, lambda found, expected: iter(()))


def _is_result(
    output: Path, plan: UpscalePlan, source: Source, compare_tensors: Callable[[Source, ExpectedOutput], Findings]
) -> bool:
    if not output.is_dir():
        return False
    found = FolderSource(output)
    try:
        provenance = found.files().get(PROVENANCE_NAME)
        if provenance is None:
            return False
        expected = expected_output(plan, source)
        written = found.stream(PROVENANCE_NAME, 0, provenance.nbytes)
        if not same_bytes(written, [expected.rendered[PROVENANCE_NAME]]):
            return False
        findings = chain(_small_files(found, expected), _headers(found, plan), compare_tensors(found, expected))
        return all(finding.is_note for finding in findings)
    except CheckpointError:
        return False


def _provenance(text: bytes, planned: bytes) -> Findings:
    """Compare the provenance byte by byte, except for the run's own keys and the wording of another version."""
    record: dict[str, Any] = json.loads(text)
    expected: dict[str, Any] = json.loads(planned)
    facts, planned_facts = without_sentences(record), without_sentences(without_later_keys(expected, record))
    differing = [
        key for key in {**expected, **record} if key not in _RUN_KEYS and facts.get(key) != planned_facts.get(key)
    ]
    yield from (Finding(f"{PROVENANCE_NAME}: {key} does not match the source") for key in differing)
    run = {key: record.get(key) for key in _RUN_KEYS}
    if not differing and json_bytes({**expected, **run}) != text:
        if run["version"] == expected["version"]:
            yield Finding(f"{PROVENANCE_NAME}: is not formatted as planned")
        else:
            yield Finding(f"{PROVENANCE_NAME} has the wording of version {run['version']}", is_note=True)
    for key in _RUN_KEYS:
        if run[key] != expected[key]:
            yield Finding(f"{PROVENANCE_NAME} records {key} {run[key]}, here it is {expected[key]}", is_note=True)


def _small_files(found: Source, expected: ExpectedOutput) -> Findings:
    """Compare everything but shards and provenance: rendered files by their bytes, copied files by their digests."""
    files = found.files()
    for name, data in expected.rendered.items():
        if name == PROVENANCE_NAME or (name in files and same_bytes(found.stream(name, 0, files[name].nbytes), [data])):
            continue
        if name in _EDITABLE:
            yield Finding(f"{name} {'differs from the planned one' if name in files else 'is missing'}", is_note=True)
        else:
            yield Finding(f"{name}: is not as planned" if name in files else f"{name}: is missing")
    for name, digest in expected.copied.items():
        if name not in files:
            yield Finding(f"{name}: is missing")
        elif digest_chunks(found.stream(name, 0, files[name].nbytes)) != digest:
            yield Finding(f"{name}: differs from the source's")
    extra = files.keys() - set(output_filenames(expected.plan))
    for name in sorted(name for name in extra if not name.startswith(".")):
        if name.endswith(".safetensors"):
            yield Finding(f"{name}: is a weight file that is not in the plan")
        else:
            yield Finding(f"{name} is not in the plan", is_note=True)


def _headers(found: Source, plan: UpscalePlan) -> Findings:
    files = found.files()
    for shard in plan.shards:
        if shard.filename not in files:
            yield Finding(f"{shard.filename}: is missing")
        elif files[shard.filename].nbytes != shard.nbytes:
            yield Finding(f"{shard.filename}: expected {shard.nbytes} bytes, got {files[shard.filename].nbytes}")
        elif found.read(shard.filename, 0, len(shard.header)) != shard.header:
            yield Finding(f"{shard.filename}: the header is not as planned")


def _tensors(found: Source, expected: ExpectedOutput, on_bytes: OnBytes) -> Findings:
    for shard in expected.plan.shards:
        for move in shard.moves():
            written = found.stream(shard.filename, move.target_start, move.target_start + move.target_nbytes)
            offset = first_difference(written, planned_bytes(expected.source, move), on_bytes)
            if offset is not None:
                name = _tensor_at(shard, move.target_start + offset)
                yield Finding(f"{shard.filename}: {name}: differs from the source")


def _tensor_at(shard: ShardPlan, offset: int) -> str:
    start = offset - len(shard.header)
    return next(item.target.name for item in shard.items if start < item.target.data_offsets[1])
