"""Interprets the pickle of a state dict on a machine that cannot call anything.

It implements the few opcodes that torch.save writes. A global is only a name, from a short allowlist, and a call builds
a dict or one of the values below. So there is no blocklist to maintain: the worst that a hostile pickle can do is raise
a ValueError, which torch_file turns into a CheckpointError. Tensor data is not read here.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["CONVERT", "Machine", "Storage", "Tensor", "kind"]

CONVERT = "load it with torch and save it as safetensors"

_MAX_OPERATIONS = 2_000_000  # bounds memory too: each operation makes at most one small value
_MAX_RANK = 64  # torch's own limit

_STORAGES: Mapping[str, str] = {
    "torch.BFloat16Storage": "BF16",
    "torch.BoolStorage": "BOOL",
    "torch.ByteStorage": "U8",
    "torch.CharStorage": "I8",
    "torch.ComplexFloatStorage": "C64",
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.IntStorage": "I32",
    "torch.LongStorage": "I64",
    "torch.ShortStorage": "I16",
    "torch.storage.UntypedStorage": "U8",  # holds the dtypes below
}
_DTYPES: Mapping[str, str] = {
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.float8_e8m0fnu": "F8_E8M0",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
}
"""torch's name to the safetensors dtype. torch has no storage class for the newer dtypes.

Source: torch 2.13, ``_new_dtypes`` and ``_dtype_to_storage_type_map`` in torch/storage.py.
"""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of ``numel`` elements; ``key`` identifies it in the file."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, in elements of its dtype; not yet checked to lie within the storage."""

    storage: Storage
    dtype: str
    storage_offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


# The calls that a state dict makes, with torch's names and arguments.


def _ordered_dict(args: tuple[object, ...]) -> object:
    if args:
        raise ValueError(f"the pickle passes arguments to OrderedDict; expected none; {CONVERT}")
    return {}


def _rebuild_tensor_v2(args: tuple[object, ...]) -> object:
    """Build a tensor from (storage, offset, shape, stride, requires_grad, hooks[, metadata])."""
    return _rebuild_tensor(args[:6], None, args[6:])


def _rebuild_tensor_v3(args: tuple[object, ...]) -> object:
    """Build a tensor from the arguments of ``_rebuild_tensor_v2``, with the dtype before the metadata."""
    dtype = args[6] if len(args) > 6 else None
    if not isinstance(dtype, _Global) or dtype.name not in _DTYPES:
        raise ValueError(f"the pickle builds a tensor whose dtype is {kind(dtype)}")
    return _rebuild_tensor(args[:6], _DTYPES[dtype.name], args[7:])


def _rebuild_tensor(args: tuple[object, ...], dtype: str | None, metadata: tuple[object, ...]) -> Tensor:
    storage, offset, shape, stride = args[:4] if len(args) == 6 else (None,) * 4
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise ValueError("the pickle builds a tensor from something other than a storage, a shape and strides")
    if len(shape) != len(stride) or len(shape) > _MAX_RANK:
        raise ValueError(f"the pickle builds a tensor with {len(shape)} sizes and {len(stride)} strides")
    numbers = (offset, *shape, *stride)
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError(
            "the pickle builds a tensor whose offset, shape or strides are not integers from 0 to 2**63 - 1"
        )
    if any(metadata):
        raise ValueError(f"the pickle builds a conjugated or negated tensor; {CONVERT}")
    assert isinstance(offset, int)
    return Tensor(storage, dtype or storage.dtype, offset, shape, stride)


def _rebuild_parameter(args: tuple[object, ...]) -> object:
    """Unwrap the tensor of (tensor, requires_grad, hooks)."""
    if len(args) != 3 or not isinstance(args[0], Tensor):
        raise ValueError("the pickle builds a Parameter from something other than a tensor")
    return args[0]


_CALLS: Mapping[str, Callable[[tuple[object, ...]], object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
}


class Machine:
    """A pickle interpreter whose only values are numbers, text, containers of its own, and the types above."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.storages: dict[str, Storage] = {}  # every storage seen, by key
        self.position = position
        self._data = data
        self._operations = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """Return the value of the pickle at ``position``, and move ``position`` past it.

        Raises:
            ValueError: The pickle is malformed, too large, or refers to anything but tensors.
        """
        self._stack, self._marks, self._memo = [], [], {}
        while (opcode := self._number(1)) != _STOP:
            self._operations += 1
            if self._operations > _MAX_OPERATIONS:
                raise ValueError(f"the pickle exceeds the limit of {_MAX_OPERATIONS} operations")
            step = _OPCODES.get(opcode)
            if step is None:
                raise ValueError(f"the pickle uses opcode {bytes([opcode])!r}, which is not supported; {CONVERT}")
            step(self)
        return self._pop()

    def _take(self, nbytes: int) -> bytes:
        data = self._data[self.position : self.position + nbytes]
        if len(data) != nbytes:
            raise ValueError("the pickle is truncated, or larger than the limit")
        self.position += nbytes
        return data

    def _number(self, nbytes: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(nbytes), "little", signed=signed)

    def _text(self, nbytes: int) -> str:
        return self._take(nbytes).decode()

    def _line(self) -> str:
        text = self._take(max(self._data.find(b"\n", self.position) + 1 - self.position, 1))
        return text[:-1].decode()

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("the pickle is malformed: it pops from an empty stack")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise ValueError("the pickle is malformed: it pops a mark that was never pushed")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _pop_tuple(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self._push(tuple(reversed(values)))

    def _put(self, index: int) -> None:
        value = self._pop()
        self._push(value)
        self._memo[index] = value

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError("the pickle is malformed: it gets a memo entry that was never put")
        self._push(self._memo[index])

    def _append(self, values: list[object]) -> None:
        target = self._pop()
        if not isinstance(target, list):
            raise ValueError(f"the pickle appends to {kind(target)}")
        target.extend(values)
        self._push(target)

    def _set_items(self, values: list[object]) -> None:
        target = self._pop()
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError(f"the pickle sets {len(values)} keys and values of {kind(target)}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):  # model and optimizer state dicts have no other keys
                raise ValueError(f"the pickle has a key that is {kind(key)}; {CONVERT}")
            if key in target:
                raise ValueError(f'the pickle has the key "{key}" twice')
            target[key] = value
        self._push(target)

    def _check_protocol(self) -> None:
        if (protocol := self._number(1)) != 2:
            raise ValueError(f"is a pickle of protocol {protocol}; expected 2, as torch.save writes it; {CONVERT}")

    def _look_up(self) -> None:
        name = f"{self._line()}.{self._line()}"
        if name not in _CALLS and name not in _STORAGES and name not in _DTYPES:
            next_step = f"; {CONVERT}" if name.startswith("torch.") else ""
            raise ValueError(f'the pickle refers to "{name}"; only tensors are read{next_step}')
        self._push(_Global(name))

    def _call(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, _Global) or function.name not in _CALLS or not isinstance(args, tuple):
            raise ValueError(f"the pickle calls {kind(function)}; only tensors are read")
        self._push(_CALLS[function.name](args))

    def _drop_state(self) -> None:
        """Ignore an attribute: the module versions that torch attaches to a state dict are not tensors."""
        self._pop()
        target = self._pop()
        if not isinstance(target, dict):
            raise ValueError(f"the pickle sets attributes on {kind(target)}; {CONVERT}")
        self._push(target)

    def _load_storage(self) -> None:
        """Load ("storage", type, key, location, numel); the older format appends a view, which is always None."""
        match self._pop():
            case ("storage", _Global(name), str(key), str(), int(numel)) if name in _STORAGES and numel >= 0:
                pass
            case ("storage", _Global(name), str(key), str(), int(numel), None) if name in _STORAGES and numel >= 0:
                pass
            case _:
                raise ValueError("the pickle refers to something that is not a storage; only tensors are read")
        storage = Storage(key, _STORAGES[name], numel)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f'the pickle gives storage "{key}" two types or sizes')
        self._push(storage)


_STOP = ord(".")
_OPCODES: Mapping[int, Callable[[Machine], None]] = {
    0x80: Machine._check_protocol,
    ord("("): lambda machine: machine._marks.append(len(machine._stack)),
    # Values.
    ord("N"): lambda machine: machine._push(None),
    0x88: lambda machine: machine._push(True),
    0x89: lambda machine: machine._push(False),
    ord("K"): lambda machine: machine._push(machine._number(1)),
    ord("M"): lambda machine: machine._push(machine._number(2)),
    ord("J"): lambda machine: machine._push(machine._number(4, signed=True)),
    0x8A: lambda machine: machine._push(machine._number(machine._number(1), signed=True)),
    ord("G"): lambda machine: machine._push(struct.unpack(">d", machine._take(8))[0]),
    ord("X"): lambda machine: machine._push(machine._text(machine._number(4))),
    ord("U"): lambda machine: machine._push(machine._text(machine._number(1))),  # a str of Python 2
    # Containers.
    ord(")"): lambda machine: machine._push(()),
    0x85: lambda machine: machine._pop_tuple(1),
    0x86: lambda machine: machine._pop_tuple(2),
    0x87: lambda machine: machine._pop_tuple(3),
    ord("t"): lambda machine: machine._push(tuple(machine._pop_to_mark())),
    ord("]"): lambda machine: machine._push([]),
    ord("a"): lambda machine: machine._append([machine._pop()]),
    ord("e"): lambda machine: machine._append(machine._pop_to_mark()),
    ord("}"): lambda machine: machine._push({}),
    ord("s"): lambda machine: machine._set_items([machine._pop(), machine._pop()][::-1]),
    ord("u"): lambda machine: machine._set_items(machine._pop_to_mark()),
    # The memo.
    ord("q"): lambda machine: machine._put(machine._number(1)),
    ord("r"): lambda machine: machine._put(machine._number(4)),
    ord("h"): lambda machine: machine._get(machine._number(1)),
    ord("j"): lambda machine: machine._get(machine._number(4)),
    # What a full interpreter would execute.
    ord("c"): Machine._look_up,
    ord("R"): Machine._call,
    ord("b"): Machine._drop_state,
    ord("Q"): Machine._load_storage,
}


def kind(value: object) -> str:
    """Return a short description of a value: the value itself may be megabytes, or contain itself."""
    if isinstance(value, _Global):
        return f'"{value.name}"'
    if isinstance(value, int | float):
        return f"{value}"
    names = {dict: "a dict", list: "a list", tuple: "a tuple", str: "text", Tensor: "a tensor", Storage: "a storage"}
    return names.get(type(value), "nothing")
