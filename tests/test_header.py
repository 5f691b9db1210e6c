"""header.py on exact bytes, and against the safetensors library."""

import hashlib
import json
import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from fuzz import fuzzed
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import DTYPE_BITS, Shard, TensorInfo, build_header, read_shard


def shard_of(file: bytes, filename: str = "m.safetensors") -> Shard:
    return read_shard(filename, len(file), lambda start, stop: file[start:stop])


def file_of(header: bytes | dict[str, object], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(
    dtype: object = "F32", shape: object = (1,), data_offsets: object = (0, 4), **extra: object
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **extra}


def laid_out(*tensors: tuple[str, str, tuple[int, ...]]) -> list[TensorInfo]:
    infos, position = [], 0
    for name, dtype, shape in tensors:
        stop = position + math.prod(shape) * DTYPE_BITS[dtype] // 8
        infos.append(TensorInfo(name, dtype, shape, (position, stop)))
        position = stop
    return infos


# Building.


def test_built_bytes_are_exactly_these() -> None:
    header = build_header(laid_out(("a", "BF16", (2, 3)), ("ü", "U8", ())))
    text = (
        b'{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},'
        b'"\xc3\xbc":{"dtype":"U8","shape":[],"data_offsets":[12,13]}}'
    )
    assert header == b"\x90\0\0\0\0\0\0\0" + text + b" "


def test_built_bytes_equal_what_the_library_writes() -> None:
    arrays = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.uint8)}
    expected = safetensors.numpy.save(arrays, {"format": "pt"})
    assert build_header(laid_out(("w", "F32", (2, 2)), ("b", "U8", (3,)))) + bytes(19) == expected


def test_no_metadata_is_written_when_none_is_given() -> None:
    assert build_header([], metadata=None) == file_of(b"{}      ")


@pytest.mark.parametrize("residue", [0, 8, 104, 112, 2048, 4088])
def test_residue_places_the_data_start_with_less_than_a_block_of_spaces(residue: int) -> None:
    tensors = laid_out(("a", "I16", (5,)))
    header = build_header(tensors, residue=residue)
    plain = build_header(tensors, metadata={"format": "pt"})
    assert len(header) % 4096 == residue
    assert header[8:].rstrip(b" ") == plain[8:].rstrip(b" ")
    assert len(header) - len(plain.rstrip(b" ")) <= 4095
    assert shard_of(header + bytes(10)).data_start == len(header)
    assert safetensors.deserialize(header + bytes(10))[0][0] == "a"


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param([TensorInfo("a", "U8", (1,), (1, 2))], id="start"),
        pytest.param([TensorInfo("a", "U8", (1,), (0, 1)), TensorInfo("b", "U8", (1,), (2, 3))], id="hole"),
        pytest.param([TensorInfo("a", "U8", (0,), (0, 0)), TensorInfo("a", "U8", (0,), (0, 0))], id="twice"),
        pytest.param([TensorInfo("__metadata__", "U8", (0,), (0, 0))], id="reserved"),
    ],
)
def test_a_layout_that_the_format_cannot_say_is_not_built(tensors: list[TensorInfo]) -> None:
    with pytest.raises(AssertionError):
        build_header(tensors)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=12).filter(lambda n: n != "__metadata__")
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
dtypes = st.sampled_from([dtype for dtype, bits in DTYPE_BITS.items() if bits % 8 == 0])
layouts = st.lists(st.tuples(names, dtypes, shapes), max_size=6, unique_by=lambda t: t[0]).map(lambda ts: laid_out(*ts))


@fuzzed(100)
@given(
    layouts, st.none() | st.dictionaries(names, names, max_size=3), st.none() | st.integers(0, 511).map(lambda n: 8 * n)
)
def test_what_is_built_reads_back_here_and_in_the_library(
    tensors: list[TensorInfo], metadata: dict[str, str] | None, residue: int | None
) -> None:
    header = build_header(tensors, metadata=metadata, residue=residue)
    data = bytes(index % 251 for index in range(tensors[-1].data_offsets[1] if tensors else 0))
    file = header + data

    shard = shard_of(file)
    assert shard.tensors == tuple(sorted(tensors, key=lambda t: t.data_offsets))
    assert shard.data_start == len(header)
    assert shard.nbytes == len(file)
    assert shard.metadata == (metadata or {})
    assert shard.header_digest == hashlib.sha256(header).hexdigest()
    assert len(header) % 8 == 0

    theirs = dict(safetensors.deserialize(file))
    assert theirs.keys() == {t.name for t in tensors}
    for tensor in tensors:
        start, stop = tensor.data_offsets
        assert theirs[tensor.name]["dtype"] == tensor.dtype
        assert tuple(theirs[tensor.name]["shape"]) == tensor.shape
        assert bytes(theirs[tensor.name]["data"]) == data[start:stop]
        assert tensor.nbytes == stop - start
        assert tensor.numel == math.prod(tensor.shape)


# Reading what others write.


def test_a_file_of_the_library_is_read(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    arrays = {
        "x": np.arange(6, dtype=np.float16).reshape(2, 3),
        "y": np.array(7, dtype=np.int64),
        "z": np.zeros((0, 4)),
    }
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np"})
    file = path.read_bytes()
    shard = shard_of(file)
    assert shard.metadata == {"format": "np"}
    with safe_open(path, framework="np") as library:
        for tensor in shard.tensors:
            start, stop = (shard.data_start + offset for offset in tensor.data_offsets)
            assert tensor.shape == tuple(library.get_slice(tensor.name).get_shape())
            assert tensor.dtype == library.get_slice(tensor.name).get_dtype()
            assert file[start:stop] == library.get_tensor(tensor.name).tobytes()
    assert sorted(tensor.name for tensor in shard.tensors) == ["x", "y", "z"]


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_every_dtype_has_the_size_that_the_library_gives_it(dtype: str) -> None:
    nbytes = DTYPE_BITS[dtype]  # of 8 elements
    file = file_of({"a": entry(dtype, [8], [0, nbytes])}, bytes(nbytes))
    assert safetensors.deserialize(file)[0][1]["dtype"] == dtype
    assert shard_of(file).tensors == (TensorInfo("a", dtype, (8,), (0, nbytes)),)


@pytest.mark.parametrize(
    ("header", "nbytes"),
    [
        pytest.param({"__metadata__": None, "a": entry()}, 4, id="metadata null"),
        pytest.param({"a": entry(note={"deep": [1, 2.5, None]}, more=-3)}, 4, id="extra fields"),
        pytest.param({"\U0001f600\\ud83d": entry()}, 4, id="whole surrogate pairs"),
        pytest.param({}, 0, id="zero tensors"),
        pytest.param({"a": entry(shape=[3, 0], data_offsets=[0, 0]), "b": entry()}, 4, id="zero size"),
        pytest.param({"a": entry(shape=[0, 2**63, 2**63], data_offsets=[0, 0])}, 0, id="zero before overflow"),
        pytest.param({"b": entry(data_offsets=[4, 8]), "a": entry("U8", [4])}, 8, id="any order"),
        pytest.param(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}  \n\t ', 1, id="trailing whitespace"),
        pytest.param(b'{"a" :\n{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1, id="no multiple of 8"),
    ],
)
def test_what_is_legal_is_read(header: bytes | dict[str, object], nbytes: int) -> None:
    file = file_of(header, bytes(nbytes))
    theirs = safetensors.deserialize(file)
    shard = shard_of(file)
    assert {t.name: (t.dtype, list(t.shape)) for t in shard.tensors} == {n: (i["dtype"], i["shape"]) for n, i in theirs}
    assert [t.data_offsets[0] for t in shard.tensors] == sorted(t.data_offsets[0] for t in shard.tensors)


def test_a_short_file_is_read_once_and_a_long_header_twice() -> None:
    def reads(file: bytes) -> Iterator[tuple[int, int]]:
        calls = []

        def read(start: int, stop: int) -> bytes:
            calls.append((start, stop))
            return file[start:stop]

        read_shard("m", len(file), read)
        return calls

    short = build_header(laid_out(("a", "U8", (10,)))) + bytes(10)
    assert reads(short) == [(0, len(short))]
    big_data = build_header(laid_out(("a", "U8", (100_000,)))) + bytes(100_000)
    assert reads(big_data) == [(0, 4096)]
    bigger_data = build_header(laid_out(("a", "U8", (17_000_000,)))) + bytes(17_000_000)
    assert reads(bigger_data) == [(0, 65536)]
    long = build_header(laid_out(*((f"model.layers.{i}.weight", "U8", (1,)) for i in range(2000)))) + bytes(2000)
    assert reads(long) == [(0, 4096), (4096, len(long) - 2000)]


# Refusing.

REFUSED = {
    "short": (b"1234567", "m.safetensors: is no safetensors file; expected at least 8 bytes, got 7"),
    "empty": (b"", "m.safetensors: is no safetensors file; expected at least 8 bytes, got 0"),
    "N is 0": (bytes(8), "m.safetensors: is no safetensors file; it gives its header 0 bytes"),
    "past the end": (
        file_of(b"{}")[:-1],
        "m.safetensors: is truncated or no safetensors file; its header takes 2 bytes, 1 follow its length",
    ),
    "git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "m.safetensors: is a Git LFS pointer, not the weights; run: git lfs pull",
    ),
    "not UTF-8": (file_of(b'{"\xff":1}'), "is not valid JSON: 'utf-8' codec can't decode byte 0xff"),
    "a list": (file_of(b"[]"), "the header does not start with '{'; got b'[]'"),
    "BOM": (file_of(b"\xef\xbb\xbf{}"), "the header does not start with '{'"),
    "leading space": (file_of(b" {}"), "the header does not start with '{'; got b' {}'"),
    "truncated JSON": (file_of(b'{"a":'), "is not valid JSON"),
    "NUL padding": (file_of(b"{}\0\0"), "is not valid JSON: Extra data"),
    "trailing garbage": (file_of(b"{}{}"), "is not valid JSON: Extra data"),
    "NaN": (file_of({"a": entry(x=math.nan)}, bytes(4)), "is not valid JSON: NaN is no JSON"),
    "infinite": (file_of(b'{"a":1e999}'), "is not valid JSON: number out of range: 1e999"),
    "digits": (file_of(b'{"a":' + b"1" * 5000 + b"}"), "is not valid JSON: Exceeds the limit"),
    "deep lists": (file_of(b'{"a":' + b"[" * 700_000), "is not valid JSON"),
    "deep objects": (file_of(b'{"a":' * 200_000), "is not valid JSON"),
    "half a surrogate": (
        file_of({"\ud800": entry()}, bytes(4)),
        r"is not valid JSON: 'utf-8' codec can't encode character '\ud800'",
    ),
    "half in metadata": (file_of({"__metadata__": {"a": "\udc00"}}), r"can't encode character '\udc00'"),
    "half in an extra field": (file_of({"a": entry(x={"\udc00": 1})}, bytes(4)), r"can't encode character '\udc00'"),
    "duplicate": (
        file_of(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
            b"0",
        ),
        'm.safetensors: the header is not valid JSON: "a" is there twice',
    ),
    "duplicate field": (file_of(b'{"a":{"dtype":"U8","dtype":"I8"}}'), '"dtype" is there twice'),
    "metadata list": (file_of({"__metadata__": []}), "__metadata__: expected an object of strings, got a list"),
    "metadata number": (file_of({"__metadata__": {"a": 1}}), "__metadata__: a: expected a string, got a number"),
    "entry as list": (
        file_of(b'{"a":["F32",[1],[0,4]]}', bytes(4)),
        "m.safetensors: a: expected an object, got a list",
    ),
    "dtype": (
        file_of({"a": entry("F128")}, bytes(4)),
        f'm.safetensors: a: unknown dtype; expected one of {", ".join(DTYPE_BITS)}, got "F128"',
    ),
    "dtype absent": (file_of({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "got nothing"),
    "dtype list": (file_of({"a": entry(["F32"])}, bytes(4)), "unknown dtype; expected one of"),
    "no offsets": (
        file_of({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
        "m.safetensors: a: data_offsets: expected a list of integers, got nothing",
    ),
    "three offsets": (
        file_of({"a": entry(data_offsets=[0, 4, 4])}, bytes(4)),
        "m.safetensors: a: data_offsets: expected a start and a stop not before it, got [0, 4, 4]",
    ),
    "one offset": (file_of({"a": entry(data_offsets=[4])}, bytes(4)), "a start and a stop not before it, got [4]"),
    "stop before start": (file_of({"a": entry(data_offsets=[4, 0])}, bytes(4)), "a stop not before it, got [4, 0]"),
    "no shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), "a: shape: expected a list"),
    "negative": (
        file_of({"a": entry(shape=[-1, -1])}, bytes(4)),
        "m.safetensors: a: shape: expected integers from 0 to 2**64 - 1, got -1",
    ),
    "minus zero": (file_of(b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), "2**64 - 1, got -0.0"),
    "float": (file_of({"a": entry(shape=[1.0])}, bytes(4)), "2**64 - 1, got 1.0"),
    "boolean": (file_of({"a": entry(shape=[True])}, bytes(4)), "2**64 - 1, got True"),
    "text": (file_of({"a": entry(shape=["1"])}, bytes(4)), "2**64 - 1, got a string"),
    "huge": (file_of({"a": entry(shape=[2**64])}, bytes(4)), "2**64 - 1, got 18446744073709551616"),
    "size": (
        file_of({"model.layers.7.mlp.up_proj.weight": entry("BF16", [11008, 4096], [0, 90177530])}),
        "m.safetensors: model.layers.7.mlp.up_proj.weight: BF16 [11008, 4096] needs 90177536 bytes, "
        "data_offsets give 90177530 bytes",
    ),
    "odd F4": (
        file_of({"a": entry("F4", [3], [0, 2])}, bytes(2)),
        "m.safetensors: a: F4 [3] needs 12 bits, no whole number of bytes, data_offsets give 2 bytes",
    ),
    "product overflow": (
        file_of({"a": entry("U8", [2**32, 2**32], [0, 0])}),
        "m.safetensors: a: U8 [4294967296, 4294967296] overflows 64 bits",
    ),
    "zero overflow": (
        file_of({"a": entry("U8", [2**63, 4, 0], [0, 0])}),
        "m.safetensors: a: U8 [9223372036854775808, 4, 0] overflows 64 bits",
    ),
    "long overflow": (file_of({"a": entry("U8", [2**63] * 100_000, [0, 0])}), ", ... 100000 sizes] overflows 64 bits"),
    "hole": (
        file_of({"a": entry(), "b": entry(data_offsets=[5, 9])}, bytes(9)),
        "m.safetensors: b: leaves a hole before it; expected start 4, got 5",
    ),
    "first hole": (file_of({"a": entry(data_offsets=[4, 8])}, bytes(8)), "expected start 0, got 4"),
    "alias": (
        file_of({"a": entry(), "b": entry()}, bytes(4)),
        "m.safetensors: b: overlaps the tensor before it; expected start 4, got 0",
    ),
    "data truncated": (
        file_of({"a": entry()}, bytes(3)),
        "m.safetensors: is truncated; expected 4 bytes of data, got 3",
    ),
    "data absent": (file_of({"a": entry()}), "m.safetensors: is truncated; expected 4 bytes of data, got 0"),
    "data longer": (
        file_of({"a": entry()}, bytes(5)),
        "m.safetensors: has bytes after its last tensor; expected 4 bytes of data, got 5",
    ),
}
"""File and message; a message that starts with the file's name is the whole of it."""

STRICTER_THAN_THE_LIBRARY = {"leading space", "duplicate", "entry as list"}


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_the_format_is_refused_in_one_line(case: str) -> None:
    file, message = REFUSED[case]
    with pytest.raises(CheckpointError) as caught:
        shard_of(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith("m.safetensors: ")
    assert "\n" not in str(caught.value)
    if case in STRICTER_THAN_THE_LIBRARY:
        safetensors.deserialize(file)
    else:
        with pytest.raises(SafetensorError):
            safetensors.deserialize(file)


def test_a_header_beyond_the_limit_is_refused_unread() -> None:
    def read(start: int, stop: int) -> bytes:
        assert stop <= 65536
        return (26 * 2**20).to_bytes(8, "little") + b"{" * (stop - 8)

    with pytest.raises(CheckpointError, match=r"takes 27262976 bytes; the limit is 26214400 \(25 MiB\)"):
        read_shard("m", 2**40, read)


def test_more_tensors_than_the_limit_are_refused() -> None:
    text = ",".join(f'"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(250_001))
    with pytest.raises(CheckpointError, match="250000 tensors"):
        shard_of(file_of(b"{" + text.encode() + b"}"))
    plain = ",".join(f'"{i}":0' for i in range(250_001))
    with pytest.raises(CheckpointError, match="has 250001 tensors; the limit is 250000"):
        shard_of(file_of(b"{" + plain.encode() + b"}"))


def test_values_that_would_fill_the_memory_are_refused_before_they_are_parsed() -> None:
    for filler in (b"[],", b"{},", b'"ab",'):
        with pytest.raises(CheckpointError, match="250000 tensors"):
            shard_of(file_of(b'{"a":{"x":[' + filler * (24 * 2**20 // len(filler)) + b"0]}}"))


def test_a_read_that_gives_too_little_is_refused() -> None:
    file = build_header(laid_out(*((f"model.layers.{i}.weight", "U8", (1,)) for i in range(2000)))) + bytes(2000)
    with pytest.raises(CheckpointError, match="the header cannot be read"):
        read_shard("m", len(file), lambda start, stop: file[start : min(stop, 70_000)])


# Mutations: the library's answer, or a refusal.

BASES = [
    safetensors.numpy.save(
        {
            "model.a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "model.b": np.arange(4, dtype=np.float16),
            "c": np.array(33, dtype=np.uint8),
        },
        {"format": "pt"},
    ),
    file_of({"a": entry(x=[{"y": -0.5}], z=1e3), "b": entry("F4", [8], [4, 8]), "__metadata__": {"ü": "\n"}}, bytes(8)),
]
PIECES = [
    b"-",
    b"0",
    b"1e9",
    b'"',
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b"null",
    b"true",
    b" ",
    b"\0",
    b"\xff",
    b".0",
    b"\\ud83d",
]
positions = st.integers(0, 400)
mutations = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"), positions, st.integers(0, 255).map(lambda byte: bytes([byte])) | st.sampled_from(PIECES)
        ),
        st.tuples(st.just("insert"), positions, st.binary(min_size=1, max_size=3) | st.sampled_from(PIECES)),
        st.tuples(st.just("delete"), positions, st.just(b"")),
        st.tuples(st.just("cut"), positions, st.just(b"")),
    ),
    min_size=1,
    max_size=3,
)


def mutated(file: bytes, changes: list[tuple[str, int, bytes]], keep_length: bool) -> bytes:
    data_start = 8 + int.from_bytes(file[:8], "little")
    text, data = file[8:data_start], file[data_start:]
    for kind, position, piece in changes:
        at = position % max(len(text), 1)
        if kind == "set":
            text = text[:at] + piece + text[at + len(piece) :]
        elif kind == "insert":
            text = text[:at] + piece + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + 1 :]
        else:
            text, data = (text[:at], data) if position % 2 else (text, data[: position % 8])
    return file[:8] + text + data if keep_length else file_of(text, data)


@fuzzed(1500)
@given(st.sampled_from(BASES), mutations, st.booleans())
def test_a_mutated_header_is_read_as_the_library_reads_it_or_refused(
    base: bytes, changes: list[tuple[str, int, bytes]], keep_length: bool
) -> None:
    file = mutated(base, changes, keep_length)
    assume(file != base)
    try:
        theirs = dict(safetensors.deserialize(file))
    except SafetensorError:
        theirs = None
    try:
        shard = shard_of(file)
    except CheckpointError as error:
        shard, refusal = None, str(error)
    if shard is None:
        stricter = ("is there twice", "does not start with", "expected an object, got a list")
        assert theirs is None or any(reason in refusal for reason in stricter), refusal
        return
    assert theirs is not None
    assert theirs.keys() == {tensor.name for tensor in shard.tensors}
    for tensor in shard.tensors:
        start, stop = (shard.data_start + offset for offset in tensor.data_offsets)
        assert theirs[tensor.name]["dtype"] == tensor.dtype
        assert tuple(theirs[tensor.name]["shape"]) == tensor.shape
        assert bytes(theirs[tensor.name]["data"]) == file[start:stop]
    assert all(before.data_offsets[1] == after.data_offsets[0] for before, after in pairwise(shard.tensors))


@fuzzed(100)
@given(st.binary(max_size=200))
def test_noise_is_refused_by_both_or_by_neither(noise: bytes) -> None:
    for file in (noise, file_of(noise)):
        try:
            shard_of(file)
        except CheckpointError:
            continue
        safetensors.deserialize(file)
