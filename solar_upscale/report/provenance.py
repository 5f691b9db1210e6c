"""solar_upscale.json: how an output was made, precisely enough to plan it again, verify it, and train it.

The document depends only on the request and the source: no timestamps, no absolute paths, not the output's name.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from solar_upscale.digest import digest_bytes
from solar_upscale.errors import CheckpointError
from solar_upscale.plan.types import SourceIdentity, UpscalePlan
from solar_upscale.report.trainers import trainer_settings
from solar_upscale.request import MODEL_ID, UpscaleRequest
from solar_upscale.text import shortened

__all__ = ["FORMAT", "PROVENANCE_NAME", "provenance", "read_provenance", "without_later_keys", "without_sentences"]

PROVENANCE_NAME = "solar_upscale.json"
# Incremented when a reader of the old format would misread the new one; every format up to this one can be read.
FORMAT = 1
# What 0.1.0, whose format is the same, did not write: the top-level key, and the key in it.
_LATER_KEYS = (("trainers", "regex"),)
MAX_ENTRIES, MAX_TEXT = 10_000, 10_000


def provenance(plan: UpscalePlan, version: str, copied_digests: Mapping[str, str]) -> dict[str, Any]:
    """The document, as JSON values: first the run, then the output.

    ``copied_digests`` maps each file copied from the source to its SHA-256.
    """
    sources = plan.pattern.sources
    return {
        "format": FORMAT,
        "tool": "solar-upscale",
        "version": version,
        "source": plan.source.name,
        "revision": plan.source.revision,
        "job": _request_json(plan.request),
        "stack": {"name": plan.stack.name, "prefixes": list(plan.stack.prefixes), "layers": plan.stack.num_layers},
        "before": asdict(plan.before),
        "after": asdict(plan.after),
        "layers": _rows(plan),
        "dropped_layers": sorted(set(range(plan.pattern.num_source_layers)) - set(sources)),
        "config_changes": [change._asdict() for change in plan.change.changes],
        "assumed_uniform": plan.change.assumed_uniform,
        "dropped_tensors": dict(sorted(plan.dropped.items())),
        "warnings": list(plan.warnings),
        "source_shards": [_shard_row(each.filename, each.nbytes, each.header_digest) for each in plan.source_shards],
        "shards": [_shard_row(each.filename, each.nbytes, digest_bytes(each.header)) for each in plan.shards],
        "documents": {name: digest_bytes(data) for name, data in sorted(plan.model_files.items())},
        "sidecars": dict(sorted(copied_digests.items())),
        "trainers": trainer_settings(plan.stack, plan.pattern.repeats, len(sources), plan.weight_map),
    }


def _shard_row(filename: str, nbytes: int, header_sha256: str) -> dict[str, Any]:
    return {"filename": filename, "nbytes": nbytes, "header_sha256": header_sha256}


def _request_json(request: UpscaleRequest) -> dict[str, Any]:
    """The request, in a form that ``read_provenance`` can plan again."""
    values = {name: getattr(request, name) for name in _CHECKS}
    scales = None if request.entry_scales is None else list(request.entry_scales)
    optional = {name: value for name in _OPTIONAL_CHECKS if (value := getattr(request, name)) is not None}
    return {**values, "layers": list(request.entries), "entry_scales": scales, **optional}


def _rows(plan: UpscalePlan) -> list[dict[str, Any]]:
    """One row per target layer: its source layer, which copy it is (0 is the first), and whether a seam precedes it."""
    seams = frozenset(plan.pattern.seams)
    copies = plan.pattern.occurrences
    rows: list[dict[str, Any]] = []
    for target, source in enumerate(plan.pattern.sources):
        row: dict[str, Any] = {"target": target, "source": source, "copy": copies[target], "seam": target in seams}
        if plan.factors and plan.factors[target] != 1:
            row["factor"] = plan.factors[target]
        rows.append(row)
    return rows


def read_provenance(document: Mapping[str, Any]) -> tuple[UpscaleRequest, SourceIdentity]:
    """The request that a document records, ready to be planned again, and its source.

    Raises:
        CheckpointError: the document has an unsupported format, or a value is missing, unknown or invalid.
    """
    if not isinstance(document, Mapping):
        raise CheckpointError(f"{PROVENANCE_NAME}: expected a JSON object, got {type(document).__name__}")
    found = document.get("format")
    if type(found) is not int or found < 1:
        raise CheckpointError(f"{PROVENANCE_NAME}: format: expected a whole number from 1, got {_shown(found)}")
    if found > FORMAT:
        raise CheckpointError(
            f"{PROVENANCE_NAME}: format: expected at most {FORMAT}, got {_shown(found)}; the file was written by a "
            "newer solar-upscale, upgrade to read it"
        )
    job = document.get("job")
    if not isinstance(job, Mapping):
        raise CheckpointError(f"{PROVENANCE_NAME}: job: expected a JSON object, got {_shown(job)}")
    mismatched = sorted(map(str, (set(job) - set(_OPTIONAL_CHECKS)) ^ set(_CHECKS)))
    if mismatched:
        problem = "is missing" if mismatched[0] in _CHECKS else "is unknown"
        raise CheckpointError(
            f"{PROVENANCE_NAME}: job.{mismatched[0][:80]} {problem}; was it written by another version?"
        )
    _check(document, _SOURCE_CHECKS, "")
    _check(job, _CHECKS | {name: check for name, check in _OPTIONAL_CHECKS.items() if name in job}, "job.")
    scales = job["entry_scales"]
    if scales is not None and len(scales) != len(job["layers"]):
        raise CheckpointError(
            f"{PROVENANCE_NAME}: job.entry_scales: expected one for each of the {len(job['layers'])} entries, "
            f"got {len(scales)}"
        )
    values = {**job, "layers": tuple(job["layers"]), "entry_scales": None if scales is None else tuple(scales)}
    return UpscaleRequest(**values), _source_identity(document["source"], document["revision"])


def _source_identity(name: str, revision: str | None) -> SourceIdentity:
    """The recorded source; the document does not say whether it is on the Hub, so a commit hash stands for that."""
    return SourceIdentity(name, revision, is_on_hub=re.fullmatch(r"[0-9a-f]{40}", revision or "") is not None)


def without_sentences(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without warnings, reasons and notes, whose wording may change between versions."""

    def keys(value: Any) -> Any:
        return sorted(value) if isinstance(value, dict) else value

    def without(value: Any, name: str) -> Any:
        return {key: each for key, each in value.items() if key != name} if isinstance(value, dict) else value

    facts = {key: value for key, value in document.items() if key != "warnings"}
    changes = facts.get("config_changes")
    return facts | {
        "config_changes": [without(row, "reason") for row in changes] if isinstance(changes, list) else changes,
        "dropped_tensors": keys(facts.get("dropped_tensors")),
        "trainers": without(facts.get("trainers"), "notes"),
    }


def without_later_keys(document: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The document without the keys that were added to the format later and that ``record``, an older one, lacks."""
    kept = dict(document)
    for name, key in _LATER_KEYS:
        values, recorded = kept.get(name), record.get(name)
        if isinstance(values, dict) and isinstance(recorded, dict) and key not in recorded:
            kept[name] = {other: value for other, value in values.items() if other != key}
    return kept


def _check(values: Mapping[str, Any], checks: "_Checks", where: str) -> None:
    for key, (check, expected) in checks.items():
        if key not in values:
            raise CheckpointError(f"{PROVENANCE_NAME}: {where}{key} is missing; was it written by another version?")
        if not check(values[key]):
            raise CheckpointError(f"{PROVENANCE_NAME}: {where}{key}: expected {expected}, got {_shown(values[key])}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def _is_entries(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_ENTRIES and all(map(_is_text, value))


def _is_scales(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(each is None or _is_number(each) for each in value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value < 2**63)


def _is_model_id(value: Any) -> bool:
    return isinstance(value, str) and MODEL_ID.fullmatch(value) is not None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_Checks = dict[str, tuple[Callable[[Any], bool], str]]
_SOURCE_CHECKS: _Checks = {
    "source": (_is_text, "a name"),
    "revision": (lambda value: value is None or _is_text(value), "a commit hash or null"),
}
_CHECKS: _Checks = {
    "layers": (_is_entries, f"a list of 1 to {MAX_ENTRIES} entries, each a string"),
    "stack": (_is_text, "a name"),
    "init": (_is_text, "an --init value such as copy"),
    "entry_scales": (_is_scales, "a list of finite numbers and nulls, or null"),
    "max_shard_nbytes": (_is_size, "a positive number of bytes or null"),
    "drop_mtp": (_is_flag, "true or false"),
    "assume_uniform": (_is_flag, "true or false"),
}
# Written only where they were asked for, so that other documents are those of versions that did not have them.
_OPTIONAL_CHECKS: _Checks = {
    "base_model": (_is_model_id, "a model id"),
}


def _shown(value: Any) -> str:
    if type(value) is int and abs(value) >= 2**63:
        return "an integer beyond 64 bits"
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return shortened(text, 80)
