"""What was asked for, as frozen values made once at the edge: from keywords, the command line, a recipe, provenance.

A request travels whole. How its entries resolve is pattern/, what its start means is start/; nothing is checked here
but the size of a shard, which is the one value with a spelling of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from solar_upscale.errors import OutputError

__all__ = [
    "Destination",
    "HubOptions",
    "Layers",
    "UpscaleRequest",
    "check_destination",
    "destination_from",
    "parse_nbytes",
]

Layers: TypeAlias = str | int | Sequence[str | int]
"""Entries of the layer index language, as FusionBench's ``layer_indices`` has them; one alone is a pattern too."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """What to make of a source, whichever source that is.

    A plan holds the canonical form: the shortest entries that give the pattern, the stack by its name, the start as
    ``Init.spelling`` has it. ``entry_scales`` is a factor or None for each entry and wins over ``init``.
    ``max_shard_nbytes`` is None for the mirror layout. ``expected_dtype`` (a safetensors word, "BF16") and
    ``scale_filters`` (parts of tensor names) are what a recipe takes for granted, checked while planning.
    """

    layers: Layers
    init: str = "copy"
    entry_scales: tuple[float | None, ...] | None = None
    stack: str | None = None
    max_shard_nbytes: int | None = None
    drop_mtp: bool = False
    assume_uniform: bool = False
    expected_dtype: str | None = None
    scale_filters: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries one by one, as text."""
        entries = (self.layers,) if isinstance(self.layers, str | int) else self.layers
        return tuple(map(str, entries))


@dataclass(frozen=True, slots=True)
class HubOptions:
    """How a Hub source is read; a folder has none of it.

    ``revision`` is a branch, tag or commit. ``token`` is as the client takes it: a token, True or None for the one that
    is logged in, False for none. ``stream`` reads weights by ranges, so that no copy of them lands on disk.
    """

    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    local_files_only: bool = False
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to publish on the Hub, and how.

    ``repo_id`` is USER/NAME, made if it does not exist. ``private`` makes it private, and is refused where it exists
    and is public. ``revision`` is the branch to write, main by default. ``create_pr`` opens a pull request instead.
    With ``delete_local_shards`` each shard is sent and deleted here as soon as it is finished.
    """

    repo_id: str
    token: str | bool | None = field(default=None, repr=False)
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    commit_message: str | None = None
    delete_local_shards: bool = False


def destination_from(
    repo_id: str | None,
    *,
    token: str | bool | None = None,
    private: bool = False,
    create_pr: bool = False,
    commit_message: str | None = None,
    delete_local_shards: bool = False,
) -> Destination | None:
    """Where to publish what is upscaled; None where nothing is published.

    Raises:
        OutputError: something is asked of publishing, and nothing is published.
    """
    asked = {
        "--private": private,
        "--create-pr": create_pr,
        "--commit-message": commit_message,
        "--delete-local-shards": delete_local_shards,
    }
    if repo_id is not None:
        return Destination(repo_id, token, private, None, create_pr, commit_message, delete_local_shards)
    for option, value in asked.items():
        if value:
            raise OutputError(f"{option} belongs to --push-to-hub USER/NAME")
    return None


def check_destination(destination: Destination | None, request: UpscaleRequest, *, concurrent_passes: bool) -> None:
    """Check that the publishing options are compatible with the request, and with several passes at a time.

    Raises:
        OutputError: ``delete_local_shards`` with concurrent passes or a max_shard_size.
    """
    if destination is None or not destination.delete_local_shards:
        return
    if concurrent_passes:
        raise OutputError(
            "--delete-local-shards holds the shards of one pass at a time; leave --workers out, and --dask"
        )
    if request.max_shard_nbytes is not None:
        raise OutputError("--delete-local-shards needs shards that mirror the source's; leave --max-shard-size out")


def parse_nbytes(size: int | str) -> int:
    """A size in bytes from a number, or from text such as "5GB" (10^9) or "512MiB" (2^20).

    Raises:
        OutputError: it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]?I?B?)\s*", str(size)[:80].upper(), re.ASCII)
    unit = match[2] if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or (match[2] and match[2] != "B" and unit not in _UNITS):
        raise OutputError(
            f'max_shard_size: "{str(size)[:80]}" is not a size; expected bytes, or text such as 5GB or 512MiB'
        )
    from decimal import Decimal

    nbytes = int(Decimal(match[1]) * _UNITS.get(unit, 1))
    if not 0 < nbytes < 2**63:
        raise OutputError(f'max_shard_size: "{size}" is not a size that a file can have')
    return nbytes
