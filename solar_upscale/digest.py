"""SHA-256 as hexadecimal text: of bytes, of streamed chunks, and of a whole file."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["digest_bytes", "digest_chunks", "digest_file"]


def digest_bytes(data: bytes) -> str:
    """The digest of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def digest_chunks(chunks: Iterable[bytes | memoryview]) -> str:
    """The digest of a stream, however it is cut into chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a local file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
