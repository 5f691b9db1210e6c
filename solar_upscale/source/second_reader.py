"""A second opinion on a shard: the safetensors library opens the file and must see what our own header says.

No tensor data is read, for the library maps the file into memory. A dtype that the installed version cannot name is
no fault of the shard: it is then not checked, and a note says so.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import DTYPE_BITS, TensorInfo, build_header

__all__ = ["check_with_safetensors"]


def check_with_safetensors(path: Path, filename: str, tensors: Iterable[TensorInfo]) -> str | None:
    """Check that the library reads the names, dtypes and shapes of ``tensors``; return a note if it lacks a dtype.

    Raises:
        CheckpointError: it refuses the file, or reads something else.
    """
    from safetensors import SafetensorError, __version__, safe_open

    expected = {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in tensors}
    unknown = sorted({dtype for dtype, _ in expected.values() if not _knows(dtype)})
    if unknown:
        return f"{filename}: not checked with safetensors {__version__}, which does not know {', '.join(unknown)}"
    try:
        with safe_open(path, "np") as file:
            slices = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118 - no mapping
            found = {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{filename}: the safetensors library cannot read it: {error}") from error
    if found != expected:
        name = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{filename}: {name}: the safetensors library reads {_text(found.get(name))}; expected "
            f"{_text(expected.get(name))}"
        )
    return None


@cache
def _knows(dtype: str) -> bool:
    """Whether the installed library knows a dtype, tested on a file of eight elements."""
    from safetensors import SafetensorError, deserialize

    nbytes = DTYPE_BITS[dtype]
    file = build_header([TensorInfo("x", dtype, (8,), (0, nbytes))]) + bytes(nbytes)
    try:
        deserialize(file)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return False
    return True


def _text(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "no such tensor" if tensor is None else f"{tensor[0]} {list(tensor[1])}"
