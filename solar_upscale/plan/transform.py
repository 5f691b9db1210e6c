"""Transforms of a tensor's bytes: none, all zeros, multiplication by a factor, or another order of its slices.

A transform is a value in the plan; ``transform_for`` makes one from a factor, which follows from ``--init``. The
functions are pure: bytes in, bytes out, in bounded memory. start/residual.py knows which tensors a factor applies to,
and planner.py applies it; untouched bytes are moved by write/move.py.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from solar_upscale.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np

    from solar_upscale.architecture.types import ResidualRule
    from solar_upscale.source.header import TensorInfo

__all__ = [
    "SCALABLE_DTYPES",
    "Gather",
    "Scale",
    "Transform",
    "Zero",
    "check_scalable",
    "check_zeroable",
    "scale_chunks",
    "too_large",
    "transform_chunks",
    "transform_for",
]

# Element size in bytes of the dtypes that can be multiplied by a factor.
SCALABLE_DTYPES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
# Dtypes in which zero bytes are the value 0.0. F8_E8M0 has no zero; for integers it depends on the quantisation.
ZEROABLE_DTYPES = frozenset(SCALABLE_DTYPES) | {"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}

_BLOCK_NBYTES = 1 << 18  # arithmetic works on blocks whose float32 copies stay in the processor's cache
_CHUNK_NBYTES = 4 << 20  # the largest chunk that is yielded


@dataclass(frozen=True, slots=True)
class Zero:
    """Every element is zero; the source is not read."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Every element w becomes ``(w + offset) * factor - offset``.

    ``offset`` is 0 for a projection or a plain gain, and 1 for a norm that stores w and applies the gain (1 + w).
    """

    factor: float
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Gather:
    """The tensor is [rows, slices, slice_nbytes] in memory; slice j of a target row is source slice ``sources[j]``."""

    rows: int
    source_slices: int
    slice_nbytes: int
    sources: tuple[int, ...]


Transform = Zero | Scale | Gather | None


def transform_for(factor: float, rule: "ResidualRule", tensor: "TensorInfo") -> Transform:
    """The transform that multiplies a layer's contribution through ``tensor`` by ``factor``; ``rule`` is the tensor's.

    Raises:
        UnsupportedError: the tensor's dtype, or its role in the layer, does not allow this factor.
    """
    if factor == 1:
        return None
    if rule.only_zero and factor != 0:
        raise UnsupportedError(
            f"{tensor.name}: this layer cannot be scaled by {factor:g}, only by 0; use --init copy or identity"
        )
    if factor == 0 and rule.offset == 0:
        if not rule.only_zero:
            check_zeroable(tensor.dtype, tensor.name)
        return Zero()
    check_scalable(tensor.dtype, tensor.name)
    return Scale(factor, rule.offset)


def check_scalable(dtype: str, name: str) -> None:
    """Check that a tensor of this dtype can be multiplied; ``name`` is for the message.

    Raises:
        UnsupportedError: it cannot (FP8, packed or integer).
    """
    if dtype not in SCALABLE_DTYPES:
        raise UnsupportedError(
            f"{name}: {dtype} cannot be multiplied by a factor; expected one of {', '.join(SCALABLE_DTYPES)}; "
            "use --init copy or an unquantised source"
        )


def check_zeroable(dtype: str, name: str) -> None:
    """Check that zero bytes are the value zero in this dtype; ``name`` is for the message.

    Raises:
        UnsupportedError: they may not be (packed or integer).
    """
    if dtype not in ZEROABLE_DTYPES:
        raise UnsupportedError(
            f"{name}: {dtype} may be packed, so zero bytes may not be the value zero; expected one of "
            f"{', '.join(sorted(ZEROABLE_DTYPES))}; use --init copy or an unquantised source"
        )


def transform_chunks(
    transform: Transform, dtype: str, nbytes: int, read: Callable[[int, int], Iterable[bytes]]
) -> Iterator[bytes | memoryview]:
    """Yield the target tensor's bytes in order, in chunks of a few MiB at most.

    Args:
        transform: The transform of the source tensor.
        dtype: Its dtype, as in the header.
        nbytes: Size of the source tensor, in bytes.
        read: Returns the source tensor's bytes [start, stop) in chunks of any size.

    Raises:
        UnsupportedError: the dtype cannot be multiplied, which planning checks first, or a number overflows.
    """
    if transform is None:
        yield from read(0, nbytes)
    elif isinstance(transform, Zero):
        zeros = memoryview(bytes(min(nbytes, _BLOCK_NBYTES)))
        for start in range(0, nbytes, _BLOCK_NBYTES):
            yield zeros[: nbytes - start]
    elif isinstance(transform, Scale):
        yield from scale_chunks(transform, dtype, read(0, nbytes))
    else:
        yield from _gather_chunks(transform, read)


def scale_chunks(scale: Scale, dtype: str, chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the chunks multiplied; an incoming chunk may end inside an element, except the last.

    Each of the three steps is computed in float32 (float64 for F64), and the result is rounded once to the dtype, to
    nearest, ties to even: the same bits as torch's ``((w.float() + offset) * factor - offset).to(w.dtype)``. A power of
    two is exact unless the result is below the dtype's smallest normal number. Infinities stay infinite; NaN stays NaN,
    but its payload may change.

    Raises:
        UnsupportedError: the dtype cannot be multiplied, or a number overflows it.
    """
    check_scalable(dtype, "tensor")
    width, scale_block = SCALABLE_DTYPES[dtype], _checked(dtype) if abs(scale.factor) > 1 else _SCALE_BLOCK[dtype]
    rest = b""
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        if rest:  # complete the element that the previous chunk began
            missing = width - len(rest)
            rest, view = rest + bytes(view[:missing]), view[missing:]
            if len(rest) < width:
                continue
            yield scale_block(scale, memoryview(rest))
        whole = len(view) - len(view) % width
        rest = bytes(view[whole:])
        for start in range(0, whole, _BLOCK_NBYTES):
            yield scale_block(scale, view[start : min(start + _BLOCK_NBYTES, whole)])
    assert not rest, "the bytes of a tensor are whole elements"


def _checked(dtype: str) -> Callable[[Scale, memoryview], bytes]:
    """The scaling function with an overflow check, for factors above 1."""

    def scale_block(scale: Scale, block: memoryview) -> bytes:
        scaled = _SCALE_BLOCK[dtype](scale, block)
        if _infinities(scaled, dtype) > _infinities(block, dtype):
            raise UnsupportedError(too_large(scale.factor, dtype))
        return scaled

    return scale_block


def too_large(factor: float, dtype: str) -> str:
    """The message for a factor that turns a finite number into an infinity."""
    return f"factor {factor:g} makes a number overflow {dtype}; use a smaller factor"


def _infinities(data: bytes | memoryview, dtype: str) -> int:
    import numpy as np

    if dtype == "BF16":
        return int(np.count_nonzero((np.frombuffer(data, "<u2") & 0x7FFF) == 0x7F80))
    return int(np.count_nonzero(np.isinf(np.frombuffer(data, f"<f{SCALABLE_DTYPES[dtype]}"))))


def _scale_bf16(scale: Scale, block: memoryview) -> bytes:
    import numpy as np

    values = (np.frombuffer(block, "<u2").astype("<u4") << np.uint32(16)).view("<f4")
    _scale_in_place(scale, values)
    bits = values.view("<u4")
    nan = np.isnan(values)
    # Round the dropped 16 bits to nearest, ties to even; a carry out of the mantissa gives the right exponent.
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    bits >>= np.uint32(16)
    rounded = bits.astype("<u2")
    rounded[nan] = 0x7FC0  # rounding could have carried a NaN into infinity
    return rounded.tobytes()


def _scale_as(stored: str, computed: str) -> Callable[[Scale, memoryview], bytes]:
    def scale_block(scale: Scale, block: memoryview) -> bytes:
        import numpy as np

        values = np.frombuffer(block, stored).astype(computed)
        _scale_in_place(scale, values)
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(stored, copy=False).tobytes()

    return scale_block


_SCALE_BLOCK: dict[str, Callable[[Scale, memoryview], bytes]] = {
    "BF16": _scale_bf16,
    "F16": _scale_as("<f2", "<f4"),
    "F32": _scale_as("<f4", "<f4"),
    "F64": _scale_as("<f8", "<f8"),
}


def _scale_in_place(scale: Scale, values: "np.ndarray[Any, Any]") -> None:
    import numpy as np

    with np.errstate(all="ignore"):  # the source's weights may have infinities and NaN
        values += values.dtype.type(scale.offset)
        values *= values.dtype.type(scale.factor)
        values -= values.dtype.type(scale.offset)


def _gather_chunks(gather: Gather, read: Callable[[int, int], Iterable[bytes]]) -> Iterator[bytes]:
    row_nbytes = gather.source_slices * gather.slice_nbytes
    if max(row_nbytes, len(gather.sources) * gather.slice_nbytes) <= _CHUNK_NBYTES:
        yield from _gather_rows(gather, row_nbytes, read(0, gather.rows * row_nbytes))
        return
    for row in range(0, gather.rows * row_nbytes, row_nbytes):
        for source in gather.sources:
            start = row + source * gather.slice_nbytes
            yield from read(start, start + gather.slice_nbytes)


def _gather_rows(gather: Gather, row_nbytes: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    import numpy as np

    step = _CHUNK_NBYTES // max(row_nbytes, len(gather.sources) * gather.slice_nbytes) * row_nbytes
    rest = b""
    for chunk in chunks:
        pending = rest + chunk
        whole = len(pending) - len(pending) % row_nbytes
        for start in range(0, whole, step):
            rows = np.frombuffer(pending[start : min(start + step, whole)], np.uint8)
            yield rows.reshape(-1, gather.source_slices, gather.slice_nbytes)[:, gather.sources].tobytes()
        rest = pending[whole:]
    assert not rest, "the bytes of a tensor are whole rows"
