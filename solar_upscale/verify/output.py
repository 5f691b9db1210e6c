"""Verifies an output: against its source, byte by byte, or without it, as far as possible.

The output is never trusted: with a source the plan is made again from it, and only the request is read from the
output's provenance. Harmless differences are reported as notes, not errors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from solar_upscale.errors import CheckpointError, printable
from solar_upscale.plan.planner import make_plan
from solar_upscale.plan.types import SourceIdentity, UpscalePlan
from solar_upscale.report.provenance import PROVENANCE_NAME, read_provenance
from solar_upscale.request import HubOptions, UpscaleRequest
from solar_upscale.source.checkpoint import Checkpoint, open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.opening import did_you_mean_folder, open_source
from solar_upscale.source.protocol import Source
from solar_upscale.source.second_reader import check_with_safetensors
from solar_upscale.strict_json import parse_json
from solar_upscale.text import counted, nbytes_text
from solar_upscale.verify.against_source import compare_with_source, expected_output
from solar_upscale.verify.compare import Finding, Findings
from solar_upscale.verify.without_source import compare_without_source, recorded_pattern
from solar_upscale.write.work_files import RECORD_NAME

__all__ = ["VerifyReport", "recorded_source", "verify_checkpoint", "verify_report"]

# Maximum number of differences in one message.
MAX_NAMED = 5

# A limit on untrusted provenance.
MAX_PROVENANCE_NBYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was verified; ``source`` is None if it was not given, ``notes`` are harmless differences."""

    output: str
    source: str | None
    layers: int
    shards: int
    tensors: int
    nbytes: int
    notes: tuple[str, ...] = ()


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
    """Verify an output and return a report.

    With a source, every tensor is compared with the source's bytes (recomputed where the plan computes them), and so
    are every header, the index, the config and every copied file. Without one, headers, index, config and copied files
    are checked against the digests in the provenance, and the copies of each layer are compared with one another.
    Either way the safetensors library opens each local shard and must read the same names, dtypes and shapes.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote, or the id of a model that was published from one.
        source: The checkpoint that it was made from.
        revision: Branch, tag or commit of a Hub source; by default the recorded commit.
        token: A Hub token; True or None for the one logged in with, False for none.
        cache_dir: The download cache.
        local_files_only: Use only the cache, no network.
        on_bytes: Called with the number of tensor bytes compared since the last call.

    Raises:
        CheckpointError: there is a difference, or solar-upscale did not write the output; names up to five differences.
        UnsupportedError, HubError: the source cannot be planned again or read.
    """
    hub = HubOptions(revision, token, None if cache_dir is None else Path(cache_dir), local_files_only)
    found = _open_output(output, hub)
    text, record = _read_provenance(found)
    request, made_from = read_provenance(record)
    checkpoint = open_checkpoint(found)
    notes = _notes(found, _check_with_library(checkpoint))
    if source is None:
        name, pattern = None, recorded_pattern(request, record)
        notes += _notes(found, compare_without_source(checkpoint, request, pattern, record, on_bytes))
    else:
        opened = _open_source(source, made_from, hub)
        plan = _plan_again(opened, request, made_from, record)
        name, pattern = opened.name, plan.pattern
        notes += _notes(found, compare_with_source(found, text, expected_output(plan, opened), on_bytes))
    shards, tensors = checkpoint.shards, checkpoint.tensors
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    return VerifyReport(found.name, name, len(pattern), len(shards), len(tensors), nbytes, notes)


def recorded_source(output: Path) -> SourceIdentity:
    """The source recorded in an output's provenance.

    Raises:
        CheckpointError: there is no provenance, or it is invalid.
    """
    return read_provenance(_read_provenance(FolderSource(output))[1])[1]


def verify_report(report: VerifyReport) -> str:
    """The report as text."""
    against = f"against {report.source}" if report.source else "without the source; add --source SOURCE to check all"
    tensors = f"{counted(report.layers, 'layer')}, {counted(report.tensors, 'tensor')}"
    size = f"{counted(report.shards, 'shard')}, {nbytes_text(report.nbytes)}"
    lines = [
        f"{report.output}: OK: {tensors} ({size}) verified {against}",
        *(f"note: {printable(note)}" for note in report.notes),
    ]
    return "\n".join(lines) + "\n"


def _open_output(output: str | Path | Source, hub: HubOptions) -> Source:
    if not isinstance(output, str | Path):
        return output
    folder = Path(output).expanduser()
    if (folder / RECORD_NAME).is_file():
        raise CheckpointError(
            f"{folder}: the shards were deleted after publishing; verify the published model by its Hub id instead"
        )
    if folder.is_dir():
        return FolderSource(folder)
    if isinstance(output, Path) or output.count("/") != 1 or output.startswith((".", "/", "~")):
        raise CheckpointError(
            f"{folder}: is not a folder; expected an output, or the id of a published model"
            f"{did_you_mean_folder(str(folder))}"
        )
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


def _open_source(source: str | Path | Source, made_from: SourceIdentity, hub: HubOptions) -> Source:
    if isinstance(source, str) and not Path(source).expanduser().is_dir():
        recorded = made_from.revision if made_from.is_on_hub else None
        hub = replace(hub, revision=hub.revision or recorded, stream=True)
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
            f"{source.name}: the weight files are not the ones recorded in {PROVENANCE_NAME}; give the source that the "
            f"output was made from ({made_from.name}{at})"
        )
    return make_plan(checkpoint, request)


def _check_with_library(checkpoint: Checkpoint) -> Findings:
    """What the safetensors library reads differently in the local shards."""
    for shard in checkpoint.shards:
        path = checkpoint.source.local_path(shard.filename)
        if path is not None:
            try:
                note = check_with_safetensors(path, shard.filename, shard.tensors)
            except CheckpointError as error:
                yield Finding(str(error))
            else:
                yield from [] if note is None else [Finding(note, is_note=True)]


def _notes(found: Source, findings: Findings) -> tuple[str, ...]:
    """The notes among the findings.

    Raises:
        CheckpointError: some findings are not notes.
    """
    notes: list[str] = []
    differences: list[str] = []
    for finding in findings:
        (notes if finding.is_note else differences).append(finding.text)
        if len(differences) > MAX_NAMED:
            break
    if differences:
        more = "; and more" if len(differences) > MAX_NAMED else ""
        raise CheckpointError(f"{found.name}: verification failed: {'; '.join(differences[:MAX_NAMED])}{more}")
    return tuple(notes)
