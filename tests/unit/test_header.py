"""header.py on exact bytes, and against the safetensors library."""

import hashlib
import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import DTYPE_BITS, Shard, TensorInfo, build_header, read_shard
from tests.support.fuzz import fuzzed
from tests.support.headers import REFUSED_HEADERS, entry, file_of, header_mutations, mutate_header


def shard_of(file: bytes, filename: str = "m.safetensors") -> Shard:
    return read_shard(filename, len(file), lambda start, stop: file[start:stop])


def laid_out(*tensors: tuple[str, str, tuple[int, ...]]) -> list[TensorInfo]:
    infos, position = [], 0
    for name, dtype, shape in tensors:
        stop = position + math.prod(shape) * DTYPE_BITS[dtype] // 8
        infos.append(TensorInfo(name, dtype, shape, (position, stop)))
        position = stop
    return infos


# Building.


def test_build_header_writes_exactly_these_bytes() -> None:
    header = build_header(laid_out(("a", "BF16", (2, 3)), ("ü", "U8", ())))
    text = (
        b'{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},'
        b'"\xc3\xbc":{"dtype":"U8","shape":[],"data_offsets":[12,13]}}'
    )
    assert header == b"\x90\0\0\0\0\0\0\0" + text + b" "


def test_build_header_writes_the_same_bytes_as_safetensors() -> None:
    arrays = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.uint8)}
    expected = safetensors.numpy.save(arrays, {"format": "pt"})
    assert build_header(laid_out(("w", "F32", (2, 2)), ("b", "U8", (3,)))) + bytes(19) == expected


def test_metadata_is_omitted_when_none_is_given() -> None:
    assert build_header([], metadata=None) == file_of(b"{}      ")


@pytest.mark.parametrize("residue", [0, 8, 104, 112, 2048, 4088])
def test_residue_aligns_data_start_with_less_than_a_block_of_padding(residue: int) -> None:
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
def test_layout_that_the_format_cannot_express_is_rejected(tensors: list[TensorInfo]) -> None:
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
def test_built_header_is_read_back_by_us_and_by_safetensors(
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


def test_file_written_by_safetensors_is_read(tmp_path) -> None:
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
def test_dtype_sizes_match_safetensors(dtype: str) -> None:
    nbytes = DTYPE_BITS[dtype]  # of 8 elements
    file = file_of({"a": entry(dtype, [8], [0, nbytes])}, bytes(nbytes))
    assert safetensors.deserialize(file)[0][1]["dtype"] == dtype
    assert shard_of(file).tensors == (TensorInfo("a", dtype, (8,), (0, nbytes)),)


@pytest.mark.parametrize(
    ("header", "nbytes"),
    [
        pytest.param({"__metadata__": None, "a": entry()}, 4, id="metadata null"),
        pytest.param({"a": entry(note={"limit of 64 nested levels": [1, 2.5, None]}, more=-3)}, 4, id="extra fields"),
        pytest.param({"\U0001f600\\ud83d": entry()}, 4, id="whole surrogate pairs"),
        pytest.param({}, 0, id="zero tensors"),
        pytest.param({"a": entry(shape=[3, 0], data_offsets=[0, 0]), "b": entry()}, 4, id="zero size"),
        pytest.param({"a": entry(shape=[0, 2**63, 2**63], data_offsets=[0, 0])}, 0, id="zero before overflow"),
        pytest.param({"b": entry(data_offsets=[4, 8]), "a": entry("U8", [4])}, 8, id="any order"),
        pytest.param(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}  \n\t ', 1, id="trailing whitespace"),
        pytest.param(b'{"a" :\n{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1, id="no multiple of 8"),
    ],
)
def test_valid_but_unusual_headers_are_read(header: bytes | dict[str, object], nbytes: int) -> None:
    file = file_of(header, bytes(nbytes))
    theirs = safetensors.deserialize(file)
    shard = shard_of(file)
    assert {t.name: (t.dtype, list(t.shape)) for t in shard.tensors} == {n: (i["dtype"], i["shape"]) for n, i in theirs}
    assert [t.data_offsets[0] for t in shard.tensors] == sorted(t.data_offsets[0] for t in shard.tensors)


def test_short_file_takes_one_read_and_long_header_two() -> None:
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

STRICTER_THAN_THE_LIBRARY = {"leading space", "duplicate", "entry as list"}


@pytest.mark.parametrize("case", REFUSED_HEADERS)
def test_malformed_header_is_refused_in_one_line(case: str) -> None:
    file, message = REFUSED_HEADERS[case]
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


def test_header_beyond_the_limit_is_refused_without_reading_it() -> None:
    def read(start: int, stop: int) -> bytes:
        assert stop <= 65536
        return (26 * 2**20).to_bytes(8, "little") + b"{" * (stop - 8)

    with pytest.raises(CheckpointError, match=r"has 27262976 bytes; the limit is 26214400 \(25 MiB\)"):
        read_shard("m", 2**40, read)


def test_more_tensors_than_the_limit_are_refused() -> None:
    text = ",".join(f'"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(250_001))
    with pytest.raises(CheckpointError, match="250000 tensors"):
        shard_of(file_of(b"{" + text.encode() + b"}"))
    plain = ",".join(f'"{i}":0' for i in range(250_001))
    with pytest.raises(CheckpointError, match="has 250001 tensors; the limit is 250000"):
        shard_of(file_of(b"{" + plain.encode() + b"}"))


def test_header_that_would_exhaust_memory_is_refused_before_parsing() -> None:
    for filler in (b"[],", b"{},", b'"ab",'):
        with pytest.raises(CheckpointError, match="250000 tensors"):
            shard_of(file_of(b'{"a":{"x":[' + filler * (24 * 2**20 // len(filler)) + b"0]}}"))


def test_short_read_is_refused() -> None:
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


@fuzzed(1500)
@given(st.sampled_from(BASES), header_mutations, st.booleans())
def test_mutated_header_is_read_as_safetensors_reads_it_or_refused(
    base: bytes, changes: list[tuple[str, int, bytes]], keep_length: bool
) -> None:
    file = mutate_header(base, changes, keep_length)
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
        stricter = ("appears twice", "does not start with", "expected an object, got a list")
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
def test_random_bytes_accepted_by_us_are_accepted_by_safetensors(noise: bytes) -> None:
    for file in (noise, file_of(noise)):
        try:
            shard_of(file)
        except CheckpointError:
            continue
        safetensors.deserialize(file)
