"""The safetensors header: parse it strictly, build it exactly. No tensor data passes through here.

A file is 8 bytes that give N in little-endian order, N bytes of JSON, and the tensors' data without gaps. Everything
that the Rust reader refuses is refused here too, and so is anything that two readers could interpret differently.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod
from types import MappingProxyType
from typing import NamedTuple

from solar_upscale.digest import digest_bytes
from solar_upscale.errors import CheckpointError
from solar_upscale.strict_json import unique_keys

__all__ = [
    "BLOCK_NBYTES",
    "DTYPE_BITS",
    "MAX_HEADER_NBYTES",
    "MAX_TENSORS",
    "Shard",
    "TensorInfo",
    "build_header",
    "read_shard",
]

DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 8,
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        "U8": 8,
        "I8": 8,
        "F8_E5M2": 8,
        "F8_E4M3": 8,
        "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8,
        "I16": 16,
        "U16": 16,
        "F16": 16,
        "BF16": 16,
        "I32": 32,
        "U32": 32,
        "F32": 32,
        "C64": 64,
        "F64": 64,
        "I64": 64,
        "U64": 64,
    }
)
"""Bits of one element, by dtype; F4 and F6 elements are packed, so a tensor of them must still fill whole bytes.

Source: safetensors 0.8, ``Dtype::bitsize`` in safetensors/src/tensor.rs.
"""

BLOCK_NBYTES = 4096
"""Block size in bytes: cloning shares whole blocks, so source and target offsets must agree modulo this.

Where the file system's blocks are larger, the kernel refuses with EINVAL and the bytes are copied.
"""

MAX_HEADER_NBYTES = 25 * 2**20
MAX_TENSORS = 250_000
_MAX_FIRST_READ_NBYTES = 2**16
_MIN_FIRST_READ_NBYTES = 2**12
_TORCH_METADATA: Mapping[str, str] = MappingProxyType({"format": "pt"})  # transformers writes and requires it


class TensorInfo(NamedTuple):
    """An entry of a header. ``data_offsets`` is [start, stop) in bytes, relative to the start of the data region."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Size of the tensor's data, in bytes."""
        return self.data_offsets[1] - self.data_offsets[0]

    @property
    def numel(self) -> int:
        """Number of elements; one for a scalar."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, repr=False)
class Shard:
    """One weight file: its tensors, and where its data region starts (in bytes from the start of the file).

    ``tensors`` are in the order of their offsets, ``nbytes`` is the size of the whole file, and ``header_digest`` is
    the sha256 (hex) of everything before the data, which identifies the layout.
    """

    filename: str
    tensors: tuple[TensorInfo, ...]
    data_start: int
    nbytes: int
    header_digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Shard {self.filename}: {len(self.tensors)} tensors, {self.nbytes} bytes>"


def read_shard(filename: str, nbytes: int, read: Callable[[int, int], bytes]) -> Shard:
    """Return the header of a safetensors file, checked in full against the size of the file.

    Args:
        filename: Name of the file in messages and in the result.
        nbytes: Size of the whole file, in bytes.
        read: Returns exactly the bytes [start, stop) of the file. It is called once, and again only for a header longer
            than 64 KiB, or, in a file under 16 MiB, longer than 4 KiB and a 256th of the file.

    Raises:
        CheckpointError: The file breaks the format, or its header is larger than 25 MiB or 250,000 tensors.
    """
    # A small file gets a small first read: over the network, data read along with the header is fetched twice.
    first = read(0, min(nbytes, max(_MIN_FIRST_READ_NBYTES, min(_MAX_FIRST_READ_NBYTES, nbytes // 256))))
    data_start = _data_start(filename, nbytes, first)
    header = first[:data_start] if data_start <= len(first) else first + read(len(first), data_start)
    if len(header) != data_start:
        raise CheckpointError(f"{filename}: the header cannot be read; expected {data_start} bytes, got {len(header)}")
    entries = _parse_json(filename, header[8:])
    metadata = _metadata(filename, entries.pop("__metadata__", None))
    if len(entries) > MAX_TENSORS:
        raise CheckpointError(f"{filename}: the header has {len(entries)} tensors; the limit is {MAX_TENSORS}")
    tensors = [_tensor_info(filename, name, entry) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: tensor.data_offsets)
    _check_layout(filename, tensors, nbytes - data_start)
    return Shard(filename, tuple(tensors), data_start, nbytes, digest_bytes(header), metadata)


def build_header(
    tensors: Sequence[TensorInfo],
    *,
    metadata: Mapping[str, str] | None = _TORCH_METADATA,
    residue: int | None = None,
) -> bytes:
    """Return the bytes before the data: the length, compact JSON, and padding spaces.

    Args:
        tensors: In the order of their offsets, which start at 0 and have no gaps.
        metadata: Written as ``__metadata__``; None omits it.
        residue: Required offset of the data modulo 4096, a multiple of 8, reached with at most 4095 spaces. None pads
            to the next multiple of 8.
    """
    entries: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    position = 0
    for tensor in tensors:
        assert tensor.data_offsets[0] == position, f"{tensor.name} does not start at {position}"
        assert tensor.name not in entries, f"{tensor.name} appears twice"
        position = tensor.data_offsets[1]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    if residue is None:
        padding = -len(text) % 8
    else:
        assert 0 <= residue < BLOCK_NBYTES, f"residue {residue} is outside a block"
        assert residue % 8 == 0, f"residue {residue} is not a multiple of 8"
        padding = (residue - 8 - len(text)) % BLOCK_NBYTES
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding


def _data_start(filename: str, nbytes: int, first: bytes) -> int:
    """Return the offset of the data region, from the first bytes of the file, after a plausibility check."""
    if first.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{filename}: is a Git LFS pointer, not the weights; run: git lfs pull")
    if len(first) < 8:
        raise CheckpointError(f"{filename}: is not a safetensors file; expected at least 8 bytes, got {nbytes}")
    header_nbytes = int.from_bytes(first[:8], "little")
    if header_nbytes == 0:
        raise CheckpointError(f"{filename}: is not a safetensors file; its header length is 0")
    if header_nbytes > nbytes - 8:
        raise CheckpointError(
            f"{filename}: is truncated or not a safetensors file; its header needs {header_nbytes} bytes, but only "
            f"{nbytes - 8} follow the length"
        )
    if header_nbytes > MAX_HEADER_NBYTES:
        raise CheckpointError(
            f"{filename}: the header has {header_nbytes} bytes; the limit is {MAX_HEADER_NBYTES} (25 MiB)"
        )
    return 8 + header_nbytes


def _parse_json(filename: str, header: bytes) -> dict[str, object]:
    if not header.startswith(b"{"):
        raise CheckpointError(f"{filename}: the header does not start with '{{'; got {header[:16]!r}")
    # A tensor takes one brace, two brackets, and 8 commas at rank 5. Counting these first bounds the memory needed:
    # as Python values, 25 MiB of empty lists would take 600 MiB.
    if header.count(b"{") + header.count(b"[") > 3 * MAX_TENSORS + 2 or header.count(b",") > 8 * MAX_TENSORS:
        raise CheckpointError(f"{filename}: the header exceeds the limit of {MAX_TENSORS} tensors")
    try:
        entries = json.loads(
            header.decode(),
            object_pairs_hook=unique_keys,
            parse_int=_integer if b"-0" in header else None,
            parse_float=_finite_float,
            parse_constant=_refuse_constant,
        )
        if b"\\u" in header:
            # An escape can spell half of a surrogate pair, which UTF-8 cannot encode.
            json.dumps(entries, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # ValueError: JSON, UTF-8, an integer of thousands of digits
        raise CheckpointError(f"{filename}: the header is not valid JSON: {error}") from error
    assert isinstance(entries, dict)
    return entries


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)  # the Rust reader parses -0 as a float, which no size or offset may be


def _finite_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"number out of range: {text[:32]}")
    return number


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not valid JSON")


def _metadata(filename: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{filename}: __metadata__: expected an object of strings, got {_kind(value)}")
    for key, text in value.items():
        if not isinstance(text, str):
            raise CheckpointError(f"{filename}: __metadata__: {key}: expected a string, got {_kind(text)}")
    return value


def _tensor_info(filename: str, name: str, entry: object) -> TensorInfo:
    """Return one entry as a value, with its own fields checked, but not yet its position among the others."""
    if not isinstance(entry, dict):
        raise CheckpointError(f"{filename}: {name}: expected an object, got {_kind(entry)}")
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        got = f'"{dtype[:32]}"' if isinstance(dtype, str) else _kind(dtype)
        raise CheckpointError(f"{filename}: {name}: unknown dtype; expected one of {', '.join(DTYPE_BITS)}, got {got}")
    shape = _sizes(filename, name, "shape", entry.get("shape"))
    offsets = _sizes(filename, name, "data_offsets", entry.get("data_offsets"))
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"{filename}: {name}: data_offsets: expected [start, stop] with start <= stop, got {_brief(offsets)}"
        )
    _check_size(filename, name, dtype, shape, offsets[1] - offsets[0])
    return TensorInfo(name, sys.intern(dtype), shape, (offsets[0], offsets[1]))


def _sizes(filename: str, name: str, key: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise CheckpointError(f"{filename}: {name}: {key}: expected a list of integers, got {_kind(value)}")
    for item in value:
        if type(item) is not int or not 0 <= item < 2**64:  # a bool is an int to isinstance
            got = item if isinstance(item, int | float) else _kind(item)
            raise CheckpointError(f"{filename}: {name}: {key}: expected integers from 0 to 2**64 - 1, got {got}")
    return tuple(value)


def _check_size(filename: str, name: str, dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
    nbits = DTYPE_BITS[dtype]
    for size in shape:
        nbits *= size
        if nbits >= 2**64:  # stop here: the product of two million sizes takes hours
            raise CheckpointError(f"{filename}: {name}: {dtype} {_brief(shape)} overflows 64 bits")
    if nbits != 8 * nbytes:
        needs = f"{nbits // 8} bytes" if nbits % 8 == 0 else f"{nbits} bits, which is not a whole number of bytes"
        raise CheckpointError(
            f"{filename}: {name}: {dtype} {_brief(shape)} needs {needs}, data_offsets give {nbytes} bytes"
        )


def _check_layout(filename: str, tensors: Sequence[TensorInfo], data_nbytes: int) -> None:
    """Check that the tensors, in the order of their offsets, fill the data region without gap or overlap."""
    position = 0
    for tensor in tensors:
        start, stop = tensor.data_offsets
        if start != position:
            what = "overlaps the tensor before it" if start < position else "leaves a gap before it"
            raise CheckpointError(f"{filename}: {tensor.name}: {what}; expected start {position}, got {start}")
        position = stop
    if position != data_nbytes:
        what = "is truncated" if position > data_nbytes else "has bytes after its last tensor"
        raise CheckpointError(f"{filename}: {what}; expected {position} bytes of data, got {data_nbytes}")


def _brief(sizes: tuple[int, ...]) -> str:
    return str(list(sizes)) if len(sizes) <= 8 else f"[{sizes[0]}, {sizes[1]}, ... {len(sizes)} sizes]"


def _kind(value: object) -> str:
    """Return the JSON type of a value, for messages: the value itself may be megabytes."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")
