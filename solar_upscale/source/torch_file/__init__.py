"""Finds the byte range of each tensor in a pytorch_model.bin, without running torch or pickle.

torch.save writes a pickle that describes the tensors, and their storages as plain bytes. The pickle is interpreted in
state_pickle.py; the storages are located here. No tensor data is read.
"""

import io
import struct
import zipfile
from math import prod
from pathlib import Path

from solar_upscale.digest import digest_bytes
from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import DTYPE_BITS, Shard, TensorInfo
from solar_upscale.source.torch_file.state_pickle import CONVERT, Machine, Tensor, kind

__all__ = ["read_torch_file"]

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of torch.serialization.MAGIC_NUMBER
_LEGACY_PROTOCOL = 1001
_MAX_DIRECTORY_NBYTES = 8 * 2**20  # for a zip directory and for a pickle: room for 50,000 tensors

_Ranges = dict[str, tuple[int, int]]  # storage key to [start, stop), in bytes from the start of the file


def read_torch_file(path: Path, filename: str) -> Shard:
    """Return the tensors of a file that torch.save wrote, as byte ranges of that file.

    ``data_start`` is 0, so ``data_offsets`` count from the start of the file. Tensors may share bytes (tied weights,
    views), and there are gaps between them.

    Args:
        path: The file.
        filename: Its name in messages and in the result.

    Raises:
        CheckpointError: The file is truncated or malformed, holds anything but a flat state dict, or has a tensor that
            is not one contiguous range.
    """
    try:
        with _BoundedFile(path) as file:
            return _read_shard(file, filename)
    except OSError as error:
        raise CheckpointError(f"{filename}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, struct.error) as error:
        raise CheckpointError(f"{filename}: is a truncated or broken zip file: {error}; download it again") from error
    except ValueError as error:  # every refusal below, and text that is not UTF-8
        raise CheckpointError(f"{filename}: {error}") from error


class _BoundedFile(io.FileIO):
    """A file that refuses large reads: zipfile trusts the file about the size of its directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_NBYTES:
            raise ValueError(f"has a directory or pickle of {size} bytes; the limit is {_MAX_DIRECTORY_NBYTES}")
        return super().read(size) or b""

    def read_range(self, start: int, stop: int) -> bytes:
        if not 0 <= start <= stop < 2**63:
            raise ValueError(f"is malformed; it refers to byte {start}, which no file has")
        self.seek(start)
        data = self.read(stop - start)
        if len(data) != stop - start:
            raise ValueError(f"is truncated; expected {stop} bytes, got {start + len(data)}")
        return data


def _read_shard(file: _BoundedFile, filename: str) -> Shard:
    nbytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    first = file.read(64)
    if first.startswith(_ZIP_MAGIC):
        pickled, state, ranges = _read_zip(file)
    elif first.startswith(_LEGACY_MAGIC):
        pickled, state, ranges = _read_legacy(file, nbytes)
    elif first.startswith(b"version https://git-lfs"):
        raise ValueError("is a Git LFS pointer, not the weights; run: git lfs pull")
    else:
        raise ValueError(f"is not a torch.save file; expected a zip archive or torch's older format, got {first[:8]!r}")
    for key, (start, stop) in ranges.items():
        if not 0 <= start <= stop <= nbytes:
            raise ValueError(f'storage "{key}" is truncated; it ends at byte {stop}, the file at {nbytes}')
    tensors = [_tensor_info(key, value, ranges) for key, value in _entries(state).items()]
    tensors.sort(key=lambda tensor: tensor.data_offsets)
    digest = digest_bytes(pickled + repr(sorted(ranges.items())).encode())
    return Shard(filename, tuple(tensors), data_start=0, nbytes=nbytes, header_digest=digest)


# Locating the pickle and the storages: in a zip archive, or one after the other.


def _read_zip(file: _BoundedFile) -> tuple[bytes, object, _Ranges]:
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if len(infos) != len(archive.infolist()):
            raise ValueError("the zip archive has two entries of the same name")
    pickles = [name for name in infos if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"is not a torch.save archive; expected one entry */data.pkl, got {len(pickles)}")
    folder = pickles[0].removesuffix("data.pkl")
    if (byteorder := infos.get(folder + "byteorder")) is not None:
        _check_byteorder(file.read_range(*_entry_range(file, byteorder)).decode())
    pickled = file.read_range(*_entry_range(file, infos[pickles[0]]))
    machine = Machine(pickled)
    state = machine.run()
    ranges: _Ranges = {}
    for key in machine.storages:
        if (info := infos.get(f"{folder}data/{key}")) is None:
            raise ValueError(f'storage "{key}" is missing; the archive has no entry {folder}data/{key}')
        ranges[key] = _entry_range(file, info)
    return pickled, state, ranges


def _entry_range(file: _BoundedFile, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Return the byte range of an entry's content; its start is known only from the local header before it."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise ValueError(f"{info.filename} is compressed or encrypted; expected plain bytes; {CONVERT}")
    header = file.read_range(info.header_offset, info.header_offset + 30)
    if not header.startswith(_ZIP_MAGIC):
        raise ValueError(f"{info.filename} is not at byte {info.header_offset}, where the zip directory lists it")
    start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return start, start + info.file_size


def _read_legacy(file: _BoundedFile, nbytes: int) -> tuple[bytes, object, _Ranges]:
    """Read the format of torch before 1.6: five pickles, then each storage, preceded by its number of elements."""
    head = file.read_range(0, min(nbytes, _MAX_DIRECTORY_NBYTES))
    machine = Machine(head, len(_LEGACY_MAGIC))
    version = machine.run()
    if version != _LEGACY_PROTOCOL:
        raise ValueError(f"has an unknown version; expected {_LEGACY_PROTOCOL}, got {kind(version)}")
    system = machine.run()
    _check_byteorder("little" if isinstance(system, dict) and system.get("little_endian") is True else "big")
    state = machine.run()
    keys = machine.run()
    ranges: _Ranges = {}
    position = machine.position
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in machine.storages or key in ranges:
            raise ValueError("lists a storage twice, or one that no tensor uses")
        numel = int.from_bytes(file.read_range(position, position + 8), "little")
        start = position + 8
        position = start + numel * DTYPE_BITS[machine.storages[key].dtype] // 8
        if position > nbytes:
            raise ValueError(f'storage "{key}" is truncated; it ends at byte {position}, the file at {nbytes}')
        ranges[key] = start, position
    if missing := machine.storages.keys() - ranges.keys():
        raise ValueError(f'storage "{min(missing)}" is missing')
    return head[: machine.position], state, ranges


def _check_byteorder(byteorder: str) -> None:
    if byteorder != "little":
        raise ValueError(f'was written on a big-endian machine; expected byteorder "little"; {CONVERT}')


# Reading the state dict.


def _entries(state: object) -> dict[str, object]:
    if not isinstance(state, dict):
        raise ValueError(f"holds {kind(state)}, not a state dict; {CONVERT}")
    # torch attaches the module versions to the dict as an attribute; in some files they are an entry.
    return {key: value for key, value in state.items() if key != "_metadata"}


def _tensor_info(key: object, value: object, ranges: _Ranges) -> TensorInfo:
    """Return a tensor as a range of the file, after checking that it is row-major and lies within its storage."""
    if not isinstance(value, Tensor) or not isinstance(key, str) or key == "__metadata__":
        raise ValueError(f'"{key}" is {kind(value)}; expected a flat state dict of named tensors; {CONVERT}')
    itemsize = DTYPE_BITS[value.dtype] // 8
    start, stop = ranges[value.storage.key]
    storage_nbytes = value.storage.numel * DTYPE_BITS[value.storage.dtype] // 8
    if storage_nbytes > stop - start:
        raise ValueError(f"{key}: its storage has {stop - start} bytes; expected {storage_nbytes}")
    numel = prod(value.shape)
    if numel == 0:
        return TensorInfo(key, value.dtype, value.shape, (start, start))
    first = value.storage_offset * itemsize
    nbytes = numel * itemsize
    if not _is_contiguous(value):
        raise ValueError(
            f"{key}: is a transposed, sliced or expanded view; expected contiguous rows, "
            f"got shape {list(value.shape)} with strides {list(value.stride)}; {CONVERT}"
        )
    if first + nbytes > storage_nbytes:
        raise ValueError(f"{key}: ends at byte {first + nbytes} of its storage, which has {storage_nbytes}")
    return TensorInfo(key, value.dtype, value.shape, (start + first, start + first + nbytes))


def _is_contiguous(tensor: Tensor) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
