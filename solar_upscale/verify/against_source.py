"""An output against the plan that its source gives: every file, every header, every byte of every tensor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from solar_upscale.digest import digest_chunks
from solar_upscale.errors import CheckpointError
from solar_upscale.plan.types import ShardPlan, UpscalePlan
from solar_upscale.report.output_files import output_filenames, render_output_files
from solar_upscale.report.provenance import PROVENANCE_NAME, without_sentences
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source
from solar_upscale.strict_json import json_bytes
from solar_upscale.verify.compare import Finding, Findings, first_difference, same_bytes
from solar_upscale.write.shards import OnBytes, planned_bytes

__all__ = ["ExpectedOutput", "compare_with_source", "expected_output", "is_finished"]

# Documents that people may edit after the fact: a difference is a note.
_EDITABLE = frozenset({"README.md", "layer_map.svg"})

# What provenance says of the run and not of the result: another folder's name, another version of this program.
_OF_THE_RUN = ("version", "source", "revision")


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """What an output must hold: a plan's shards, the files rendered from it, and the digests of those it copies."""

    plan: UpscalePlan
    source: Source
    rendered: Mapping[str, bytes]
    copied: Mapping[str, str]


def expected_output(plan: UpscalePlan, source: Source) -> ExpectedOutput:
    """What a plan makes of the source as it is now.

    Raises:
        CheckpointError, HubError: a file that is copied cannot be read.
    """
    copied = {file.name: digest_chunks(source.stream(file.name, 0, file.nbytes)) for file in plan.copied_files}
    return ExpectedOutput(plan, source, render_output_files(plan, copied), copied)


def compare_with_source(found: Source, provenance: bytes, expected: ExpectedOutput, on_bytes: OnBytes) -> Findings:
    """Every difference between an output, whose provenance is at hand, and what was expected."""
    yield from _provenance(provenance, expected.rendered[PROVENANCE_NAME])
    yield from _small_files(found, expected)
    damaged = list(_headers(found, expected.plan))
    yield from damaged
    if not damaged:
        yield from _tensors(found, expected, on_bytes)


def is_finished(output: Path, plan: UpscalePlan, source: Source, on_bytes: OnBytes = lambda nbytes: None) -> bool:
    """Whether ``output`` already is the finished result of ``plan``.

    Where a Hub commit names the source's content, documents, headers and sizes prove it. A folder's content has no
    name (another model of the same shape may be called the same), so there the tensors are compared byte by byte.
    """
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
        findings = chain(_small_files(found, expected), _headers(found, plan))
        if not plan.source.is_on_hub:
            findings = chain(findings, _tensors(found, expected, on_bytes))
        return all(finding.is_note for finding in findings)
    except CheckpointError:
        return False


def _provenance(text: bytes, planned: bytes) -> Findings:
    """The provenance to the byte, save for what it says of the run, and for the sentences of another version."""
    record: dict[str, Any] = json.loads(text)
    expected: dict[str, Any] = json.loads(planned)
    facts, planned_facts = without_sentences(record), without_sentences(expected)
    odd = [key for key in {**expected, **record} if key not in _OF_THE_RUN and facts.get(key) != planned_facts.get(key)]
    yield from (Finding(f"{PROVENANCE_NAME}: {key} is not what the source gives") for key in odd)
    run = {key: record.get(key) for key in _OF_THE_RUN}
    if not odd and json_bytes({**expected, **run}) != text:
        if run["version"] == expected["version"]:
            yield Finding(f"{PROVENANCE_NAME}: is not written as the plan writes it")
        else:
            yield Finding(f"{PROVENANCE_NAME} words some sentences as version {run['version']} does", is_note=True)
    for key in _OF_THE_RUN:
        if run[key] != expected[key]:
            yield Finding(f"{PROVENANCE_NAME} names {key} {run[key]}, here it is {expected[key]}", is_note=True)


def _small_files(found: Source, expected: ExpectedOutput) -> Findings:
    """All but the shards and the provenance: rendered files by their bytes, copied files by their digests."""
    files = found.files()
    for name, data in expected.rendered.items():
        if name == PROVENANCE_NAME or (name in files and same_bytes(found.stream(name, 0, files[name].nbytes), [data])):
            continue
        if name in _EDITABLE:
            yield Finding(f"{name} is not the one that the plan writes", is_note=True)
        else:
            yield Finding(f"{name}: is not what the plan says" if name in files else f"{name}: is missing")
    for name, digest in expected.copied.items():
        if name not in files:
            yield Finding(f"{name}: is missing")
        elif digest_chunks(found.stream(name, 0, files[name].nbytes)) != digest:
            yield Finding(f"{name}: is not the source's")
    extra = files.keys() - set(output_filenames(expected.plan))
    for name in sorted(name for name in extra if not name.startswith(".")):
        if name.endswith(".safetensors"):
            yield Finding(f"{name}: weights that were not written by the plan")
        else:
            yield Finding(f"{name} was not written by the plan", is_note=True)


def _headers(found: Source, plan: UpscalePlan) -> Findings:
    files = found.files()
    for shard in plan.shards:
        if shard.filename not in files:
            yield Finding(f"{shard.filename}: is missing")
        elif files[shard.filename].nbytes != shard.nbytes:
            yield Finding(f"{shard.filename}: {files[shard.filename].nbytes} bytes; expected {shard.nbytes}")
        elif found.read(shard.filename, 0, len(shard.header)) != shard.header:
            yield Finding(f"{shard.filename}: the header is not the plan's")


def _tensors(found: Source, expected: ExpectedOutput, on_bytes: OnBytes) -> Findings:
    for shard in expected.plan.shards:
        for move in shard.moves():
            written = found.stream(shard.filename, move.target_start, move.target_start + move.target_nbytes)
            offset = first_difference(written, planned_bytes(expected.source, move), on_bytes)
            if offset is not None:
                name = _tensor_at(shard, move.target_start + offset)
                yield Finding(f"{shard.filename}: {name}: is not the source's bytes")


def _tensor_at(shard: ShardPlan, offset: int) -> str:
    start = offset - len(shard.header)
    return next(item.target.name for item in shard.items if start < item.target.data_offsets[1])
