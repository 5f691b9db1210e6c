"""Files whose safetensors header violates the format, and changes that may invalidate a valid one."""

import json
import math

from hypothesis import strategies as st

from solar_upscale.source.header import DTYPE_BITS

__all__ = ["REFUSED_HEADERS", "entry", "file_of", "header_mutations", "mutate_header"]


def file_of(header: bytes | dict[str, object], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(
    dtype: object = "F32", shape: object = (1,), data_offsets: object = (0, 4), **extra: object
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **extra}


REFUSED_HEADERS = {
    "short": (b"1234567", "m.safetensors: is not a safetensors file; expected at least 8 bytes, got 7"),
    "empty": (b"", "m.safetensors: is not a safetensors file; expected at least 8 bytes, got 0"),
    "N is 0": (bytes(8), "m.safetensors: is not a safetensors file; its header length is 0"),
    "past the end": (
        file_of(b"{}")[:-1],
        "m.safetensors: is truncated or not a safetensors file; its header needs 2 bytes, but only 1 follow the length",
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
    "NaN": (file_of({"a": entry(x=math.nan)}, bytes(4)), "is not valid JSON: NaN is not valid JSON"),
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
        'm.safetensors: the header is not valid JSON: "a" appears twice',
    ),
    "duplicate field": (file_of(b'{"a":{"dtype":"U8","dtype":"I8"}}'), '"dtype" appears twice'),
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
        "m.safetensors: a: data_offsets: expected [start, stop] with start <= stop, got [0, 4, 4]",
    ),
    "one offset": (
        file_of({"a": entry(data_offsets=[4])}, bytes(4)),
        "expected [start, stop] with start <= stop, got [4]",
    ),
    "stop before start": (
        file_of({"a": entry(data_offsets=[4, 0])}, bytes(4)),
        "expected [start, stop] with start <= stop, got [4, 0]",
    ),
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
        "m.safetensors: a: F4 [3] needs 12 bits, which is not a whole number of bytes, data_offsets give 2 bytes",
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
        "m.safetensors: b: leaves a gap before it; expected start 4, got 5",
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
"""File and message; a message that starts with the filename is the complete message."""

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
header_mutations = st.lists(
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


def mutate_header(file: bytes, changes: list[tuple[str, int, bytes]], keep_length: bool) -> bytes:
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
