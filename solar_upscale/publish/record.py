"""A small file that records uploads made before the commit, so that uploaded shards can be deleted locally."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from solar_upscale.errors import OutputError

__all__ = ["SentFile", "load_record", "save_record"]


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that was uploaded: its size in bytes and its hash."""

    nbytes: int
    sha256: str


def load_record(record: Path, endpoint: str, repo_id: str) -> dict[str, SentFile]:
    """The files that an earlier run uploaded to this repository; none if the record is for another one.

    Raises:
        OutputError: the file is not a record.
    """
    if not record.exists():
        return {}
    try:
        found = json.loads(record.read_bytes())
        if (found["endpoint"], found["repo_id"]) != (endpoint, repo_id):
            return {}
        return {str(name): SentFile(int(file["nbytes"]), str(file["sha256"])) for name, file in found["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{record}: not a record of uploads; remove it to upload everything again") from error


def save_record(record: Path, endpoint: str, repo_id: str, sent: Mapping[str, SentFile]) -> None:
    """Record the uploaded files; the record is on disk once this returns.

    Raises:
        OutputError: the record cannot be written.
    """
    files = {name: asdict(file) for name, file in sorted(sent.items())}
    text = json.dumps({"endpoint": endpoint, "repo_id": repo_id, "files": files}, indent=1)
    temporary = record.with_name(f"{record.name}.new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(record)
    except OSError as error:
        raise OutputError(f"{record}: cannot be written: {error.strerror or error}") from error
