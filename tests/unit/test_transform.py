"""transform.py: bytes in, bytes out, against torch's own arithmetic and rounding."""

import itertools
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.architecture.types import ResidualRule
from solar_upscale.errors import PatternError, UnsupportedError
from solar_upscale.plan import transform
from solar_upscale.plan.transform import (
    Gather,
    Scale,
    Transform,
    Zero,
    check_scalable,
    check_zeroable,
    scale_chunks,
    transform_chunks,
    transform_for,
)
from solar_upscale.source.header import TensorInfo
from solar_upscale.start import init
from solar_upscale.start.init import STARTS, Init, Start, check_factor, parse_init

FACTORS = (0.0, 0.5, 0.25, 1 / 3, 0.1, -0.7, 2.0, 1.0, 3e38, 1e-30)
TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def torch_scaled(tensor: torch.Tensor, scale: Scale) -> torch.Tensor:
    wide = tensor.double() if tensor.dtype == torch.float64 else tensor.float()
    return ((wide + scale.offset) * scale.factor - scale.offset).to(tensor.dtype)


def run(change: Transform, dtype: str, data: bytes, chunk: int = 1 << 16) -> bytes:
    return b"".join(transform_chunks(change, dtype, len(data), reader(data, chunk)))


def reader(data: bytes, chunk: int) -> Callable[[int, int], Iterator[bytes]]:
    return lambda start, stop: (data[at : min(at + chunk, stop)] for at in range(start, stop, chunk))


def every_value(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_half_precision_value_is_scaled_to_the_bits_of_torch(dtype: str, factor: float, offset: float) -> None:
    values, scale = every_value(TORCH_DTYPES[dtype]), Scale(factor, offset)
    values = values[~torch_scaled(values, scale).isinf() | values.isinf()]  # what overflows is refused
    expected = torch_scaled(values, scale)
    got = torch.frombuffer(bytearray(run(scale, dtype, raw(values))), dtype=TORCH_DTYPES[dtype])
    # NaN stays NaN; its payload is not compared because torch's own differs between its vector and scalar code.
    assert torch.equal(got.isnan(), expected.isnan())
    number = ~expected.isnan()
    assert torch.equal(got[number].view(torch.int16), expected[number].view(torch.int16))


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_wide_floats_are_scaled_to_the_bits_of_torch(dtype: str, factor: float, offset: float) -> None:
    random = torch.Generator().manual_seed(0)
    exponents = torch.randint(-40, 38, (20_000,), generator=random).double()
    values = torch.randn(20_000, generator=random, dtype=torch.float64) * 10.0**exponents
    special = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 1e-44, 3.4e38], dtype=torch.float64)
    tensor = torch.cat([values, special]).to(TORCH_DTYPES[dtype])
    scale = Scale(factor, offset)
    tensor = tensor[~torch_scaled(tensor, scale).isinf() | tensor.isinf()]  # what overflows is refused
    expected = torch_scaled(tensor, scale)
    got = torch.frombuffer(bytearray(run(scale, dtype, raw(tensor))), dtype=TORCH_DTYPES[dtype])
    number = ~expected.isnan()
    assert torch.equal(got.isnan(), expected.isnan())
    assert raw(got[number]) == raw(expected[number])


@pytest.mark.parametrize("chunk", [3, 1 << 16])
@pytest.mark.parametrize(("dtype", "factor"), [("BF16", -2.0), ("F16", 3.0), ("F32", 1e30), ("F64", 1.5)])
def test_factor_that_makes_an_infinity_is_refused(dtype: str, factor: float, chunk: int) -> None:
    largest = torch.finfo(TORCH_DTYPES[dtype]).max
    values = torch.tensor([1.0, float("inf"), float("nan"), largest], dtype=TORCH_DTYPES[dtype])
    with pytest.raises(UnsupportedError, match=rf"makes a number overflow {dtype}"):
        run(Scale(factor), dtype, raw(values), chunk)
    values[-1] = 0.25
    got = torch.frombuffer(bytearray(run(Scale(factor), dtype, raw(values), chunk)), dtype=values.dtype)
    assert got.isinf().tolist() == [False, True, False, False]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_power_of_two_is_undone_exactly(dtype: str) -> None:
    data = raw(torch.randn(1000, generator=torch.Generator().manual_seed(1)).to(TORCH_DTYPES[dtype]))
    assert run(Scale(4.0), dtype, run(Scale(0.25), dtype, data)) == data


def test_halving_below_the_smallest_normal_number_rounds_to_even() -> None:
    smallest = torch.tensor([1, 3], dtype=torch.int16)  # the subnormals 1 and 3 units above zero
    assert np.frombuffer(run(Scale(0.5), "BF16", raw(smallest)), np.uint16).tolist() == [0, 2]


@given(cuts=st.lists(st.integers(0, 400), max_size=12), dtype=st.sampled_from(sorted(TORCH_DTYPES)))
def test_chunk_boundaries_do_not_matter(cuts: list[int], dtype: str) -> None:
    data = raw(torch.randn(50, generator=torch.Generator().manual_seed(2)).to(TORCH_DTYPES[dtype]))
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:stop] for start, stop in itertools.pairwise(edges)]
    whole = b"".join(scale_chunks(Scale(0.3), dtype, [data]))
    assert b"".join(scale_chunks(Scale(0.3), dtype, chunks)) == whole


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I32", "U8", "F4", "C64"])
def test_dtype_that_cannot_be_multiplied_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"layers\.3\.o_proj\.weight: {dtype} cannot be multiplied"):
        check_scalable(dtype, "layers.3.o_proj.weight")


@pytest.mark.parametrize("dtype", ["F8_E8M0", "I32", "U8"])
def test_dtype_whose_zero_bytes_need_not_be_zero_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"a\.weight: {dtype} may be packed"):
        check_zeroable(dtype, "a.weight")


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
)
def test_zero_bytes_are_zero_in_the_float8_dtypes_that_are_allowed(dtype: torch.dtype) -> None:
    names = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
    check_zeroable(names.get(dtype, "F8_" + str(dtype).removeprefix("torch.float8_").upper()), "a.weight")
    assert torch.zeros(8, dtype=torch.uint8).view(dtype).float().tolist() == [0.0] * 8


def test_zeros_are_made_without_reading() -> None:
    def read(start: int, stop: int) -> Iterator[bytes]:
        raise AssertionError("read")

    assert b"".join(transform_chunks(Zero(), "BF16", 10_000_000, read)) == bytes(10_000_000)


def test_without_a_transform_chunks_pass_through() -> None:
    assert run(None, "U8", b"packed bytes", chunk=5) == b"packed bytes"


@given(
    rows=st.integers(0, 5),
    slices=st.integers(1, 4),
    nbytes=st.integers(1, 6),
    order=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    chunk=st.integers(1, 40),
    limit=st.sampled_from([4, 40, 4096]),
)
def test_gathered_slices_match_numpy_take(
    rows: int, slices: int, nbytes: int, order: list[int], chunk: int, limit: int
) -> None:
    sources = tuple(index % slices for index in order)
    data = np.random.default_rng(0).integers(0, 256, (rows, slices, nbytes), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transform, "_CHUNK_NBYTES", limit)
        got = run(Gather(rows, slices, nbytes, sources), "U8", data.tobytes(), chunk)
    assert got == np.take(data, sources, axis=1).tobytes()


@pytest.mark.parametrize(
    "change", [Zero(), Scale(0.3), Gather(32768, 8, 256, (0, 1, 2, 2, 1, 0, 5, 7)), Gather(1, 8, 1 << 23, (3,) * 8)]
)
def test_memory_does_not_grow_with_the_tensor(change: Transform) -> None:
    def read(start: int, stop: int) -> Iterator[bytes]:
        for at in range(start, stop, 1 << 20):
            yield bytes(min(1 << 20, stop - at))

    tracemalloc.start()
    nbytes = sum(len(chunk) for chunk in transform_chunks(change, "BF16", 1 << 26, read))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert nbytes == 1 << 26
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("text", "init", "spelling"),
    [
        ("copy", Init("copy"), "copy"),
        ("identity", Init("identity"), "identity"),
        (" split ", Init("split"), "split"),
        ("scale=0.25", Init("scale", (1.0, 0.25)), "scale=1,0.25"),
        ("scale=1, .5,1e-3", Init("scale", (1.0, 0.5, 0.001)), "scale=1,0.5,0.001"),
        ("scale=-2,0", Init("scale", (-2.0, 0.0)), "scale=-2,0"),
    ],
)
def test_each_spelling_round_trips(text: str, init: Init, spelling: str) -> None:
    assert parse_init(text) == init
    assert init.spelling == spelling
    assert parse_init(spelling) == init


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=5))
def test_any_factors_round_trip_through_text(factors: list[float]) -> None:
    init = Init("scale", tuple(factors))
    assert parse_init(init.spelling) == init


@pytest.mark.parametrize("text", ["", "zero", "copy=1", "scale", "scale:0.5", "identity,split", "COPY"])
def test_unknown_start_error_lists_the_choices(text: str) -> None:
    with pytest.raises(PatternError, match=r"unknown --init .*; choose copy, identity, split or scale=F1,F2"):
        parse_init(text)


@pytest.mark.parametrize("factor", [10**400, 10**39, float("nan"), 1e39, 1e-60])
def test_number_outside_float32_is_refused(factor: float) -> None:
    with pytest.raises(PatternError, match=r"entry 1: factor \S+.* cannot be used; expected a finite number"):
        check_factor(factor, "entry 1")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e39", "1e-60", "1_0", "0x1", "", "1.5.2", "٣", "half"])
def test_factor_that_is_not_a_finite_float32_is_refused(number: str) -> None:
    with pytest.raises(PatternError, match="--init"):
        parse_init(f"scale=1,{number}")


def test_start_of_a_million_factors_is_refused_at_once() -> None:
    with pytest.raises(PatternError, match="has 2000007 characters; expected at most 10000"):
        parse_init("scale=1" + ",1" * 1_000_000)


def test_each_start_gives_its_documented_factors() -> None:
    assert [Init("copy").factor(j, 3) for j in range(3)] == [1, 1, 1]
    assert [Init("identity").factor(j, 3) for j in range(3)] == [1, 0, 0]
    assert [Init("split").factor(j, 4) for j in range(4)] == [0.25] * 4
    assert [Init("scale", (1.0, 0.5)).factor(j, 4) for j in range(4)] == [1, 0.5, 0.5, 0.5]


def info(dtype: str) -> TensorInfo:
    return TensorInfo("layers.3.o_proj.weight", dtype, (2, 2), (0, 8))


def test_factor_becomes_the_cheapest_equivalent_transform() -> None:
    assert transform_for(1.0, ResidualRule(), info("I32")) is None
    assert transform_for(0.0, ResidualRule(), info("BF16")) == Zero()
    assert transform_for(-0.0, ResidualRule(), info("F8_E4M3")) == Zero()
    assert transform_for(0.5, ResidualRule(), info("BF16")) == Scale(0.5)
    assert transform_for(0.0, ResidualRule(1.0), info("F32")) == Scale(0.0, 1.0)
    assert transform_for(0.0, ResidualRule(only_zero=True), info("U8")) == Zero()


@pytest.mark.parametrize(
    ("factor", "rule", "dtype", "message"),
    [
        (0.5, ResidualRule(), "F8_E4M3", "F8_E4M3 cannot be multiplied"),
        (0.0, ResidualRule(), "U8", "U8 may be packed"),
        (0.0, ResidualRule(1.0), "F8_E4M3", "F8_E4M3 cannot be multiplied"),
        (0.5, ResidualRule(only_zero=True), "BF16", "only by 0"),
    ],
)
def test_factor_that_a_tensor_cannot_take_is_refused_by_name(
    factor: float, rule: ResidualRule, dtype: str, message: str
) -> None:
    with pytest.raises(UnsupportedError, match=rf"layers\.3\.o_proj\.weight: .*{message}"):
        transform_for(factor, rule, info(dtype))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_zero_factor_on_a_gain_stored_as_one_plus_w_gives_minus_one(dtype: str) -> None:
    gain = torch.randn(500, generator=torch.Generator().manual_seed(3)).to(TORCH_DTYPES[dtype])
    got = torch.frombuffer(bytearray(run(Scale(0.0, 1.0), dtype, raw(gain))), dtype=TORCH_DTYPES[dtype])
    assert torch.equal(got, torch.full((500,), -1.0, dtype=TORCH_DTYPES[dtype]))


@pytest.mark.parametrize("kind", STARTS)
def test_start_is_an_entry_that_help_and_card_describe(kind):
    start = STARTS[kind]
    assert start.spelling.partition("=")[0] == kind
    assert start.brief
    assert start.description.endswith(".")
    assert parse_init(start.spelling.replace("F1,F2,...", "1,0.5")).kind == kind


def test_adding_a_start_is_adding_an_entry(monkeypatch):
    halve = Start("halve", "each repeat adds half of what the one before adds", "Halved.", lambda _, i, count: 0.5**i)
    monkeypatch.setattr(init, "STARTS", {**STARTS, "halve": halve})
    assert [parse_init("halve").factor(i, 3) for i in range(3)] == [1, 0.5, 0.25]
    with pytest.raises(PatternError, match=r"choose copy, identity, split, scale=F1,F2,\.\.\. or halve"):
        parse_init("third")
