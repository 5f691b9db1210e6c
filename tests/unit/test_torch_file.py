"""torch_file against torch itself: the same tensors, and nothing that pickle could be made to do."""

import copyreg
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import Shard, read_shard
from solar_upscale.source.torch_file import read_torch_file
from tests.support.fuzz import fuzzed

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
]
NEWER_DTYPES = [  # torch writes these to its older format, and cannot read them from there
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
]


def saved(state: object, zipped: bool = True, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped, **options)
    return buffer.getvalue()


def read(folder: Path, content: bytes) -> Shard:
    path = folder / "weights"
    path.write_bytes(content)
    return read_torch_file(path, "pytorch_model.bin")


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(folder, content)
    message = str(caught.value)
    assert message.startswith("pytorch_model.bin: ")
    assert "\n" not in message
    return message


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def check_against_torch(shard: Shard, content: bytes, written: dict[str, torch.Tensor] | None = None) -> None:
    """Compare with what torch reads, or with what was written where torch cannot read back its own file."""
    theirs = torch.load(io.BytesIO(content), weights_only=True) if written is None else written
    assert sorted(tensor.name for tensor in shard.tensors) == sorted(theirs)
    assert (shard.data_start, shard.nbytes) == (0, len(content))
    for tensor in shard.tensors:
        start, stop = tensor.data_offsets
        assert tensor.shape == tuple(theirs[tensor.name].shape)
        assert content[start:stop] == bytes_of(theirs[tensor.name])


def zip_with(content: bytes, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return the archive with entries replaced (by their last name), added, or left out where None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        entries = {name.split("/", 1)[1]: source.read(name) for name in source.namelist()}
        for name, data in (entries | changes).items():
            if data is not None:
                target.writestr(f"archive/{name}", data)
    return buffer.getvalue()


# What is read.


@FORMATS
def test_module_is_read_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    content = saved(module.state_dict(), zipped)  # with `_metadata`, and a scalar of int64
    shard = read(tmp_path, content)
    check_against_torch(shard, content)
    assert len(shard.tensors) == 7
    assert [t.data_offsets for t in shard.tensors] == sorted(t.data_offsets for t in shard.tensors)


@FORMATS
@pytest.mark.parametrize("dtype", DTYPES + NEWER_DTYPES, ids=str)
def test_every_dtype_has_the_name_that_safetensors_gives_it(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    tensor = torch.arange(24, dtype=torch.uint8).remainder(2 if dtype == torch.bool else 24).view(dtype)
    state = {"a": tensor, "b": tensor[1:]}
    content = saved(state, zipped)
    shard = read(tmp_path, content)
    check_against_torch(shard, content, None if zipped or dtype in DTYPES else state)
    ours = safetensors.torch.save({"a": tensor})
    (expected,) = read_shard("m", len(ours), lambda start, stop: ours[start:stop]).tensors
    assert [t.dtype for t in shard.tensors] == [expected.dtype] * 2
    assert shard.tensors[0].shape == expected.shape


@FORMATS
def test_tied_weights_and_views_share_a_byte_range(tmp_path: Path, zipped: bool) -> None:
    weight = torch.arange(12.0).reshape(4, 3)
    content = saved({"embed": weight, "head": weight, "rows": weight[1:3], "flat": weight.view(12)[4:5]}, zipped)
    shard = read(tmp_path, content)
    check_against_torch(shard, content)
    ranges = {tensor.name: tensor.data_offsets for tensor in shard.tensors}
    start = ranges["embed"][0]
    assert ranges["head"] == ranges["embed"] == (start, start + 48)
    assert ranges["rows"] == (start + 12, start + 36)
    assert ranges["flat"] == (start + 16, start + 20)


@FORMATS
def test_parameters_scalars_and_empty_tensors_are_read(tmp_path: Path, zipped: bool) -> None:
    state = {
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "scalar": torch.tensor(3, dtype=torch.int16),
        "empty": torch.zeros(0, 7),
        "empty view": torch.ones(4)[4:],
        "one column": torch.arange(6.0).reshape(6, 1)[:, :1].t(),  # strides of a size of 1 mean nothing
        "_metadata": OrderedDict(version=1),
    }
    content = saved(state, zipped)
    shard = read(tmp_path, content)
    del state["_metadata"]
    without = saved(state, zipped)
    check_against_torch(read(tmp_path, without), without)
    assert {t.name for t in shard.tensors} == state.keys()


@FORMATS
def test_digest_depends_on_layout_and_not_on_data(tmp_path: Path, zipped: bool) -> None:
    content = saved({"a": torch.zeros(3, 2)}, zipped)
    shard = read(tmp_path, content)
    start, stop = shard.tensors[0].data_offsets
    other_data = content[:start] + b"\x01" * (stop - start) + content[stop:]
    assert read(tmp_path, other_data).header_digest == shard.header_digest
    assert read(tmp_path, saved({"a": torch.zeros(2, 3)}, zipped)).header_digest != shard.header_digest


def test_moved_storage_changes_the_digest(tmp_path: Path) -> None:
    content = saved({"a": torch.zeros(3, 2)})
    moved = zip_with(content, {})
    assert read(tmp_path, moved).tensors[0].data_offsets != read(tmp_path, content).tensors[0].data_offsets
    assert read(tmp_path, moved).header_digest != read(tmp_path, content).header_digest


shapes = st.lists(st.integers(0, 4), max_size=3)


@fuzzed(40)
@given(
    state=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(lambda name: name != "_metadata"),
        st.tuples(shapes, st.sampled_from(DTYPES + NEWER_DTYPES)),
        max_size=4,
    ),
    zipped=st.booleans(),
)
def test_any_state_dict_is_read_as_torch_reads_it(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, tuple[list[int], torch.dtype]], zipped: bool
) -> None:
    tensors = {name: torch.ones(shape).to(dtype) for name, (shape, dtype) in state.items()}
    content = saved(tensors, zipped)
    check_against_torch(read(tmp_path_factory.getbasetemp(), content), content, None if zipped else tensors)


# What is refused.

SQUARE = torch.arange(6.0).reshape(2, 3)


@FORMATS
@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param(
            {"w": SQUARE.t()},
            "pytorch_model.bin: w: is a transposed, sliced or expanded view; expected contiguous rows, "
            "got shape [3, 2] with strides [1, 3]; load it with torch and save it as safetensors",
            id="transposed",
        ),
        pytest.param({"w": SQUARE[:, 1:]}, "got shape [2, 2] with strides [3, 1]", id="sliced"),
        pytest.param({"w": torch.ones(1).expand(3)}, "got shape [3] with strides [0]", id="expanded"),
        pytest.param(
            {"model": {"w": SQUARE}, "epoch": 3},
            'pytorch_model.bin: "model" is a dict; expected a flat state dict of named tensors; '
            "load it with torch and save it as safetensors",
            id="nested",
        ),
        pytest.param({"lr": 0.5}, '"lr" is 0.5; expected a flat state dict', id="float"),
        pytest.param({"name": "x"}, '"name" is text; expected a flat state dict', id="text"),
        pytest.param({7: SQUARE}, '"7" is a tensor; expected a flat state dict of named tensors', id="numbered"),
        pytest.param({"__metadata__": SQUARE}, '"__metadata__" is a tensor', id="reserved"),
        pytest.param([SQUARE], "holds a list, not a state dict", id="list"),
        pytest.param(SQUARE, "holds a tensor, not a state dict", id="tensor"),
        pytest.param({(1, 2): SQUARE}, "has a key that is a tuple", id="tuple key"),
        pytest.param({"c": SQUARE.to(torch.complex64).conj()}, "conjugated or negated tensor", id="conjugated"),
        pytest.param(
            {"z": SQUARE.to(torch.complex128)},
            'refers to "torch.ComplexDoubleStorage"; only tensors are read; load it with torch',
            id="complex128",
        ),
        pytest.param({"s": SQUARE.to_sparse()}, 'refers to "torch._utils._rebuild_sparse_tensor"', id="sparse"),
        pytest.param({"m": SQUARE.to("meta")}, 'refers to "torch._utils._rebuild_meta_tensor_no_storage"', id="meta"),
    ],
)
def test_anything_but_a_flat_state_dict_of_contiguous_tensors_is_refused(
    tmp_path: Path, state: object, message: str, zipped: bool
) -> None:
    assert message in refusal(tmp_path, saved(state, zipped))


def test_another_pickle_protocol_is_refused_with_the_next_step(tmp_path: Path) -> None:
    assert refusal(tmp_path, saved({"a": torch.ones(2)}, pickle_protocol=4)) == (
        "pytorch_model.bin: is a pickle of protocol 4; expected 2, as torch.save writes it; "
        "load it with torch and save it as safetensors"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b"", "is not a torch.save file; expected a zip archive or torch's older format, got b''", id="empty"
        ),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "run: git lfs pull", id="lfs"),
        pytest.param(safetensors.torch.save({"a": SQUARE}), "is not a torch.save file", id="safetensors"),
        pytest.param(pickle.dumps({"a": 1}), "is not a torch.save file", id="pickle"),
        pytest.param(b"PK\x03\x04" + bytes(100), "is a truncated or broken zip file", id="no zip"),
    ],
)
def test_file_not_saved_by_torch_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path, content)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^pytorch_model\.bin: cannot be read: No such file"):
        read_torch_file(tmp_path / "absent", "pytorch_model.bin")


@FORMATS
def test_file_cut_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    content = saved({"a": torch.ones(4), "b": torch.ones(3)}, zipped)
    for nbytes in range(0, len(content), 7):
        refusal(tmp_path, content[:nbytes])
    refusal(tmp_path, content[:-1])


ARCHIVE = saved({"a": torch.ones(4), "b": torch.ones(3)})
BIG_DIRECTORY = b"PK\x03\x04" + bytes(9 * 2**20) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 9 * 2**20, 4, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(zip_with(ARCHIVE, {}, zipfile.ZIP_DEFLATED), "is compressed or encrypted", id="compressed"),
        pytest.param(zip_with(ARCHIVE, {"data/1": None}), 'storage "1" is missing', id="missing storage"),
        pytest.param(zip_with(ARCHIVE, {"data/1": b"12345678"}), "b: its storage has 8 bytes; expected 12", id="short"),
        pytest.param(zip_with(ARCHIVE, {"data.pkl": None}), "expected one entry */data.pkl, got 0", id="no pickle"),
        pytest.param(zip_with(ARCHIVE, {"byteorder": b"big"}), "written on a big-endian machine", id="big-endian"),
        pytest.param(zip_with(ARCHIVE, {"data.pkl": b""}), "the pickle is truncated", id="empty pickle"),
        pytest.param(zip_with(ARCHIVE, {"data.pkl": bytes(9 * 2**20)}), "the limit is 8388608", id="big pickle"),
        pytest.param(BIG_DIRECTORY, "has a directory or pickle of 9437184 bytes", id="big directory"),
    ],
)
def test_broken_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path, content)


def test_archive_without_a_byteorder_is_little_endian(tmp_path: Path) -> None:
    content = zip_with(ARCHIVE, {"byteorder": None})
    check_against_torch(read(tmp_path, content), content)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(ARCHIVE)
    with zipfile.ZipFile(buffer, "a") as archive:
        name = archive.namelist()[0]
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, b"")
    assert "two entries of the same name" in refusal(tmp_path, buffer.getvalue())


def test_legacy_file_of_a_big_endian_machine_is_refused(tmp_path: Path) -> None:
    content = saved({"a": torch.ones(4)}, zipped=False)
    assert content.count(b"little_endianq\x02\x88") == 1
    swapped = content.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    assert "written on a big-endian machine" in refusal(tmp_path, swapped)


# What a pickle can be made to do elsewhere. Each attack is first proved on the pickle module.


class Trap:
    """Makes a folder as soon as anything makes one of it, or gives it a state."""

    def __new__(cls, path: str | None = None, **_: object) -> "Trap":
        if path is not None:
            Path(path).mkdir()
        return super().__new__(cls)

    def __setstate__(self, path: str) -> None:
        Path(path).mkdir()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


TRAP = f"{__name__}\nTrap\n".encode()
EXTENSION = 240
ATTACKS: dict[str, Callable[[str], bytes]] = {
    "REDUCE": lambda path: b"c" + TRAP + text(path) + b"\x85R",
    "INST": lambda path: b"(" + text(path) + b"i" + TRAP,
    "OBJ": lambda path: b"(c" + TRAP + text(path) + b"o",
    "NEWOBJ": lambda path: b"c" + TRAP + text(path) + b"\x85\x81",
    "NEWOBJ_EX": lambda path: b"c" + TRAP + text(path) + b"\x85}\x92",
    "STACK_GLOBAL": lambda path: text(__name__) + text("Trap") + b"\x93" + text(path) + b"\x85R",
    "EXT1": lambda path: b"\x82" + bytes([EXTENSION]) + text(path) + b"\x85R",
    "BUILD": lambda path: b"c" + TRAP + b")\x81" + text(path) + b"b",
    "os.mkdir": lambda path: b"cos\nmkdir\n" + text(path) + b"\x85R",
    "getattr": lambda path: (
        b"cbuiltins\ngetattr\ncos\npath\n" + text("os") + b"\x86R0cos\nmkdir\n" + text(path) + b"\x85R"
    ),
}


@pytest.fixture
def extension() -> Any:
    copyreg.add_extension(__name__, "Trap", EXTENSION)
    yield
    copyreg.remove_extension(__name__, "Trap", EXTENSION)


@FORMATS
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_pickle_code_runs(tmp_path: Path, extension: None, attack: str, zipped: bool) -> None:
    marker = tmp_path / "marker"
    payload = ATTACKS[attack](str(marker))
    for hostile in (b"\x80\x02" + payload + b".", b"\x80\x02}" + text("a") + payload + b"s."):
        pickle.loads(hostile)  # noqa: S301 (the attack itself, proved real)
        marker.rmdir()
        if zipped:
            content = zip_with(ARCHIVE, {"data.pkl": hostile})
        else:
            content = saved({"a": torch.ones(4)}, zipped=False)
            state = content.index(b"\x80\x02}q\x00X\x01\x00\x00\x00a")
            content = content[:state] + hostile + content[state:]
        refusal(tmp_path, content)
        assert not marker.exists()


def test_global_requested_by_a_pickle_is_named(tmp_path: Path) -> None:
    hostile = b"\x80\x02cposix\nsystem\n" + text("true") + b"\x85R."
    assert refusal(tmp_path, zip_with(ARCHIVE, {"data.pkl": hostile})) == (
        'pytorch_model.bin: the pickle refers to "posix.system"; only tensors are read'
    )


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        pytest.param(
            b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("__init__") + b"K\x01sb",
            'sets attributes on "torch._utils._rebuild_tensor_v2"',
            id="BUILD on a function",
        ),
        pytest.param(text("system") + text("true") + b"\x85R", "calls text", id="calls text"),
        pytest.param(b"ctorch\nFloatStorage\n)R", 'calls "torch.FloatStorage"', id="calls a storage type"),
        pytest.param(b"ctorch._utils\n_rebuild_tensor_v2\n)R", "a tensor from something other", id="no arguments"),
        pytest.param(b"ctorch._utils\n_rebuild_tensor_v3\n)R", "a tensor whose dtype is nothing", id="no dtype"),
        pytest.param(b"ctorch._utils\n_rebuild_parameter\n)R", "a Parameter from something other", id="no parameter"),
        pytest.param(b"ccollections\nOrderedDict\n]\x85R", "passes arguments to OrderedDict", id="dict of pairs"),
        pytest.param(text("storage") + b"Q", "not a storage", id="text as storage"),
        pytest.param(b"(" + text("module") + b"NNNtQ", "not a storage", id="module"),
        pytest.param(b"}(" + text("a") + b"u", "sets 1 keys and values of a dict", id="odd items"),
        pytest.param(b"(u", "pops from an empty stack", id="no dict"),
        pytest.param(b"u", "pops a mark that was never pushed", id="no mark"),
        pytest.param(b"}(0", "uses opcode b'0'", id="unknown opcode"),
        pytest.param(b"h\x07", "gets a memo entry that was never put", id="no memo"),
        pytest.param(b")K\x01a", "appends to a tuple", id="append to tuple"),
        pytest.param(b"}" + text("a") + b"Ns" + text("a") + b"Ns", 'the key "a" twice', id="duplicate"),
        pytest.param(b"X\xff\xff\xff\xff", "the pickle is truncated", id="long text"),
        pytest.param(b"X\x01\0\0\0\xff", "'utf-8' codec can't decode", id="no UTF-8"),
        pytest.param(b"cposix", "the pickle", id="no newline"),
        pytest.param(b"}q\0" + text("a") + b"h\0s" + b"K\x01\x85" * 10, "holds a tuple", id="contains itself"),
        pytest.param(b"(" * 2_000_001, "exceeds the limit of 2000000 operations", id="many operations"),
        pytest.param(b")" + b"\x85" * 300_000, "holds a tuple, not a state dict", id="limit of 64 nested levels"),
        pytest.param(b"]r\xff\xff\xff\xff", "holds a list, not a state dict", id="far memo"),
    ],
)
def test_hostile_pickle_is_refused(tmp_path: Path, pickled: bytes, message: str) -> None:
    content = zip_with(ARCHIVE, {"data.pkl": b"\x80\x02" + pickled + b"."})
    assert message in refusal(tmp_path, content)


def storage(key: str = "0", numel: int = 4, kind: str = "Float", rest: bytes = b"") -> bytes:
    numel_bytes = b"\x8a\x08" + struct.pack("<q", numel)
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}Storage\n".encode()
        + text(key)
        + text("cpu")
        + numel_bytes
        + rest
        + b"tQ"
    )


def state_of(
    storage_bytes: bytes, *, offset: int = 0, shape: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85"
) -> bytes:
    offset_bytes = b"\x8a\x08" + struct.pack("<q", offset)
    call = b"(" + storage_bytes + offset_bytes + shape + stride + b"\x89}t"
    return b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + call + b"Rs."


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        pytest.param(state_of(storage(), offset=1), "a: ends at byte 20 of its storage, which has 16", id="offset"),
        pytest.param(state_of(storage(), offset=-1), "not integers from 0", id="negative offset"),
        pytest.param(state_of(storage(), shape=b"K\x05\x85"), "a: ends at byte 20", id="shape"),
        pytest.param(state_of(storage(), shape=b"\x88\x85"), "not integers from 0", id="boolean size"),
        pytest.param(state_of(storage(), shape=b"J\xff\xff\xff\xff\x85"), "not integers from 0", id="negative size"),
        pytest.param(state_of(storage(), shape=b"K\x04K\x01\x86"), "2 sizes and 1 strides", id="ranks"),
        pytest.param(state_of(storage(), shape=b"(" + b"K\x01" * 65 + b"t"), "65 sizes", id="rank"),
        pytest.param(state_of(storage(), shape=b"]"), "a tensor from something other", id="list as shape"),
        pytest.param(state_of(storage(numel=5)), "a: its storage has 16 bytes; expected 20", id="numel"),
        pytest.param(state_of(storage(numel=-4)), "not a storage", id="negative numel"),
        pytest.param(state_of(storage(kind="Double")), "its storage has 16 bytes; expected 32", id="wider"),
        pytest.param(state_of(storage(key="../0")), 'storage "../0" is missing', id="no such key"),
        pytest.param(state_of(storage(rest=b"N\x85")), "not a storage", id="view of a storage"),
        pytest.param(
            b"\x80\x02}" + text("x") + storage() + b"s" + storage(kind="Int") + b".", "two types", id="two types"
        ),
    ],
)
def test_tensor_that_does_not_fit_its_storage_is_refused(tmp_path: Path, pickled: bytes, message: str) -> None:
    assert read(tmp_path, zip_with(ARCHIVE, {"data.pkl": state_of(storage())})).tensors[0].shape == (4,)
    assert message in refusal(tmp_path, zip_with(ARCHIVE, {"data.pkl": pickled}))


# Mutations: a shard whose ranges lie in the file, or a refusal.

BASES = {
    zipped: saved({"a": torch.arange(4.0), "b": torch.nn.Parameter(torch.ones(2, 3)).to(torch.float8_e5m2)}, zipped)
    for zipped in (True, False)
}


@fuzzed(600)
@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(["set", "insert", "delete"]), st.integers(0, 4000), st.binary(min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
@example(True, [("set", 1850, b"\x81")], False)
def test_mutated_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, zipped: bool, changes: list[tuple[str, int, bytes]], in_pickle: bool
) -> None:
    content = BASES[zipped]
    before, after = b"", b""
    if in_pickle:  # of a zip, rebuilt around the changed pickle; of a legacy file, its front
        zipped_pickle = zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl") if zipped else content[:500]
        before, content, after = b"", zipped_pickle, b"" if zipped else content[500:]
    for change, position, piece in changes:
        at = position % len(content)
        end = at if change == "insert" else at + len(piece)
        content = content[:at] + (b"" if change == "delete" else piece) + content[end:] or b"\0"
    content = zip_with(BASES[True], {"data.pkl": content}) if in_pickle and zipped else before + content + after
    try:
        shard = read(tmp_path_factory.getbasetemp(), content)
    except CheckpointError:
        return
    for tensor in shard.tensors:
        start, stop = tensor.data_offsets
        assert 0 <= start <= stop <= len(content)
