"""Requests as frozen values, made once at the edge from keywords, the command line, a recipe or provenance.

A request is passed on whole. Its entries are resolved in pattern/ and its ``init`` in start/. Only sizes such as "5GB"
are parsed here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from solar_upscale.errors import OutputError

__all__ = [
    "MODEL_ID",
    "Destination",
    "Entry",
    "HubOptions",
    "Layers",
    "UpscaleRequest",
    "check_destination",
    "destination_from",
    "entry_text",
    "parse_model_id",
    "parse_nbytes",
    "request_from",
]

Entry: TypeAlias = str | int | range | slice
"""One entry of the layer index language; ``range(0, 24)`` and ``slice(0, 24)`` mean what their texts mean."""

Layers: TypeAlias = Entry | Sequence[Entry]
"""Entries of the layer index language, as in FusionBench's ``layer_indices``; a single one need not be in a list."""

MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_.-]{1,96})?", re.ASCII)
"""What the id of a model on the Hub looks like."""

# Unit prefixes in capitals; the B after them is optional.
_PREFIXES = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """What to do with a source, independent of which source it is.

    A plan holds the canonical form: the shortest entries that give the pattern, the full name of the stack, and
    ``Init.spelling``. ``entry_scales`` is a factor or None for each entry, and overrides ``init``. ``max_shard_nbytes``
    is None for the mirror layout. ``expected_dtype`` (a safetensors dtype, "BF16") and ``scale_filters`` (parts of
    tensor names) are conditions of a recipe, checked while planning. ``base_model`` is the model id that the card of a
    local source names.
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
    base_model: str | None = None

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries as a tuple of texts."""
        entries = (self.layers,) if isinstance(self.layers, str | int | range | slice) else self.layers
        return tuple(map(entry_text, entries))


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Options for reading from the Hub; none applies to a folder.

    ``revision`` is a branch, tag or commit. ``token`` means what it means to the client: a token, True or None for the
    logged-in user's, False for none. ``stream`` reads weights by range requests, without storing a copy on disk.
    """

    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    local_files_only: bool = False
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to publish on the Hub, with options.

    ``repo_id`` is USER/NAME, created if it does not exist. ``private`` creates it private, and is refused if it exists
    and is public. ``revision`` is the branch to commit to, main by default. ``create_pr`` opens a pull request instead.
    With ``delete_local_shards`` each shard is uploaded as soon as it is finished, and then deleted locally.
    """

    repo_id: str
    token: str | bool | None = field(default=None, repr=False)
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    commit_message: str | None = None
    delete_local_shards: bool = False


def entry_text(entry: Entry) -> str:
    """An entry as text: ``range(0, 24)`` as "range(0, 24)", ``slice(0, 24)`` as "0:24"."""
    if not isinstance(entry, slice):
        return str(entry)
    bounds = ["" if bound is None else str(bound) for bound in (entry.start, entry.stop, entry.step)]
    return ":".join(bounds if entry.step is not None else bounds[:2])


def request_from(  # noqa: PLR0913 - one keyword for each option of the public functions
    layers: Layers,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    max_shard_size: int | str | None = None,
    drop_mtp: bool = False,
    assume_uniform: bool = False,
    dtype: str | None = None,
    scale_filters: str | Sequence[str] = (),
    base_model: str | None = None,
) -> UpscaleRequest:
    """The request that the keywords of the public functions describe.

    Raises:
        OutputError: ``max_shard_size`` is not a size, or ``base_model`` is not a model id.
    """
    return UpscaleRequest(
        layers,
        init=init,
        entry_scales=None if entry_scales is None else tuple(map(_plain_scale, entry_scales)),
        stack=stack,
        max_shard_nbytes=None if max_shard_size is None else parse_nbytes(max_shard_size),
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        expected_dtype=dtype,
        scale_filters=(scale_filters,) if isinstance(scale_filters, str) else tuple(scale_filters),
        base_model=None if base_model is None else parse_model_id(base_model),
    )


def _plain_scale(scale: float | None) -> float | None:
    """A number of NumPy's as a Python number, which JSON can express; anything else as it is, to be checked later."""
    from numbers import Real

    return scale.item() if isinstance(scale, Real) and hasattr(scale, "item") else scale


def destination_from(
    repo_id: str | None,
    *,
    token: str | bool | None = None,
    private: bool = False,
    create_pr: bool = False,
    commit_message: str | None = None,
    delete_local_shards: bool = False,
) -> Destination | None:
    """Return the destination, or None without a ``repo_id``.

    Raises:
        OutputError: a publishing option is given without a ``repo_id``.
    """
    options = {
        "--private": private,
        "--create-pr": create_pr,
        "--commit-message": commit_message,
        "--delete-local-shards": delete_local_shards,
    }
    if repo_id is not None:
        return Destination(repo_id, token, private, None, create_pr, commit_message, delete_local_shards)
    for option, value in options.items():
        if value:
            raise OutputError(f"{option} requires --push-to-hub USER/NAME")
    return None


def check_destination(destination: Destination | None, request: UpscaleRequest, *, concurrent_passes: bool) -> None:
    """Check that the publishing options are compatible with the request, and with several passes at a time.

    Raises:
        OutputError: ``delete_local_shards`` with concurrent passes or a max_shard_size.
    """
    if destination is None or not destination.delete_local_shards:
        return
    if concurrent_passes:
        raise OutputError("--delete-local-shards runs one pass at a time; leave out --workers and --dask")
    if request.max_shard_nbytes is not None:
        raise OutputError("--delete-local-shards needs shards that mirror the source's; leave --max-shard-size out")


def parse_model_id(text: str) -> str:
    """Return the text if it can be the id of a model on the Hub.

    Raises:
        OutputError: it cannot.
    """
    if MODEL_ID.fullmatch(text) is None:
        raise OutputError(f'base_model: "{text[:80]}" is not a model id; expected USER/NAME')
    return text


def parse_nbytes(size: int | str) -> int:
    """Parse a size in bytes: a number, or text such as "5GB" (10^9) or "512MiB" (2^20).

    Raises:
        OutputError: it is neither, or is not positive.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]I?|)B?\s*", str(size)[:80].upper(), re.ASCII)
    if match is None:
        raise OutputError(
            f'max_shard_size: "{str(size)[:80]}" is not a size; expected bytes, or text such as 5GB or 512MiB'
        )
    from decimal import Decimal

    nbytes = int(Decimal(match[1]) * _PREFIXES[match[2]])
    if not 0 < nbytes < 2**63:
        raise OutputError(f'max_shard_size: "{size}" is not a size that a file can have')
    return nbytes
