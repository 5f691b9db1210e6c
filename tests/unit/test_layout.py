"""Where output tensors lie: the layout that can be cloned, and the conventional one."""

import json
import pickle
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar_upscale.errors import UnsupportedError
from solar_upscale.plan.layout import MAX_SHARD_TENSORS, SHORT_RUN_NBYTES, Target, mirror_layout, model_layout
from solar_upscale.plan.planner import make_plan
from solar_upscale.plan.transform import Zero
from solar_upscale.plan.types import Pass, Piece, ShardPlan, UpscalePlan
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.header import BLOCK_NBYTES, DTYPE_BITS, MAX_TENSORS, read_shard
from tests.support.sources import Shapes, headers_only, llama_shapes, nbytes_of, published_shards, tensors_in_order

GEMMA_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
# Shapes of published models, the size at which their files were cut, and SOLAR's pattern at their depth.
PUBLISHED = {
    "Mistral-7B-v0.3": ("mistral", llama_shapes(32, 4096, 14336, 32768, 1024), 5, 3, 6),
    "Llama-3.1-8B": ("llama", llama_shapes(32, 4096, 14336, 128256, 1024), 5, 4, 7),
    "Qwen2.5-7B": ("qwen2", llama_shapes(28, 3584, 18944, 152064, 512, biases=True), 4, 4, 7),
    "Qwen3-8B": ("qwen3", llama_shapes(36, 4096, 12288, 151936, 1024, head_norm=128), 5, 4, 7),
    "Gemma-2-9B": (
        "gemma2",
        llama_shapes(42, 3584, 14336, 256000, 2048, q=4096, layer_norms=GEMMA_NORMS, tied=True),
        5,
        4,
        6,
    ),
}


def plan_of(
    shapes: Shapes,
    layers: Sequence[str],
    *,
    model_type: str = "mistral",
    max_nbytes: int = 5 * 10**9,
    max_shard_nbytes: int | None = None,
) -> UpscalePlan:
    depth = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("model.layers."))
    config = {"model_type": model_type, "num_hidden_layers": depth, "use_sliding_window": False}
    source = headers_only(published_shards(shapes, max_nbytes), config)
    return make_plan(open_checkpoint(source), UpscaleRequest(layers, max_shard_nbytes=max_shard_nbytes))


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_shapes_give_few_shards_of_which_all_but_the_edges_can_be_cloned(model: str) -> None:
    model_type, shapes, gigabytes, source_shards, target_shards = PUBLISHED[model]
    depth = max(int(name.split(".")[2]) for name in shapes if ".layers." in name) + 1
    layers = [f"0:{depth * 3 // 4}", f"{depth // 4}:{depth}"]
    plan = plan_of(shapes, layers, model_type=model_type, max_nbytes=gigabytes * 10**9)
    assert (len(plan.source_shards), len(plan.shards)) == (source_shards, target_shards)
    assert plan.clonable_nbytes >= 0.99999 * plan.total_size
    check_no_shard_outgrows_its_source(plan)


ODD: Mapping[str, tuple[Shapes, Sequence[str]]] = {
    "odd hidden size": (llama_shapes(24, 1234, 4321, 32000, 618), ["0:18", "6:24"]),
    "dropped layers": (llama_shapes(32, 4096, 14336, 32000, 1024), ["0:3", "5:9", "12:14", "20:32"]),
    "every second layer": (llama_shapes(32, 1100, 3000, 32000, 100), ["range(0,32,2)"]),
    "one layer a hundred times": (llama_shapes(32, 4096, 14336, 32000, 1024), ["0:16", "[16] * 100", "17:32"]),
    "one odd layer a hundred times": (llama_shapes(12, 2050, 7001, 32000, 513), ["0:6", "[6] * 100", "7:12"]),
    "each layer twice in place": (
        llama_shapes(32, 2050, 7001, 32000, 513),
        ["[i for i in range(n) for _ in range(2)]"],
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_shards_stay_few(case: str) -> None:
    shapes, layers = ODD[case]
    plan = plan_of(shapes, layers)
    room = max(SHORT_RUN_NBYTES, *(shard.nbytes - shard.data_start for shard in plan.source_shards))
    natural = len(plan.source_shards) + plan.total_size // room
    assert len(plan.shards) <= 2 * natural
    check_no_shard_outgrows_its_source(plan)


def check_no_shard_outgrows_its_source(plan: UpscalePlan) -> None:
    sizes = {shard.filename: shard.nbytes - shard.data_start for shard in plan.source_shards}
    for shard in plan.shards:
        (source,) = {piece.filename for item in shard.items for piece in item.pieces}
        assert shard.data_nbytes <= max(sizes[source], SHORT_RUN_NBYTES)


def test_layout_does_not_depend_on_the_run() -> None:
    shapes, layers = ODD["one layer a hundred times"]
    first, second = plan_of(shapes, layers), plan_of(shapes, layers)
    assert first.passes == second.passes
    assert first.model_files == second.model_files


def test_plan_of_a_huge_model_is_quick() -> None:
    shapes = llama_shapes(126, 16384, 53248, 128256, 1024)
    plan = plan_of(shapes, ["0:94", "32:126"], model_type="llama")
    assert len(plan.source_shards) > 150
    assert plan.clonable_nbytes >= 0.99999 * plan.total_size
    assert len(plan.shards) <= 2 * len(plan.source_shards)


# ---------------------------------------------------------------- runs and residues


def target(
    name: str, start: int, nbytes: int, *, occurrence: int = 0, dtype: str = "U8", filename: str = "a"
) -> Target:
    count = nbytes * 8 // DTYPE_BITS[dtype]
    return Target(name, dtype, (count,), nbytes, name, occurrence, (Piece(filename, start, start + nbytes),))


BIG = SHORT_RUN_NBYTES + 8


def test_data_starts_at_the_residue_of_the_first_run() -> None:
    ((shard,),) = [each.shards for each in mirror_layout([[target("a", 3 * 4096 + 88, BIG)]], [BIG])]
    assert len(shard.header) % BLOCK_NBYTES == 88
    assert shard.header[8 + int.from_bytes(shard.header[:8], "little") :] == b""


def test_aligned_run_is_appended_and_misaligned_run_opens_a_shard() -> None:
    agreeing = [target("a", 4096, BIG), target("b", 4096 * 10**6 + BIG, BIG)]
    other = [target("a", 4096, BIG), target("b", 4096 * 10**6 + BIG + 8, BIG)]
    limit = 4 * BIG
    assert names(mirror_layout([agreeing], [limit])) == [["a", "b"]]
    assert names(mirror_layout([other], [limit])) == [["a"], ["b"]]


def test_short_run_is_appended_even_if_misaligned() -> None:
    targets = [target("a", 4096, BIG), target("b", 4096 * 10**6 + 8, 800)]
    assert names(mirror_layout([targets], [4 * BIG])) == [["a", "b"]]


def test_second_occurrences_come_after_the_first() -> None:
    targets = [target("a", 0, 8), target("a2", 0, 8, occurrence=1), target("b", 8, 8), target("b2", 8, 8, occurrence=1)]
    assert names(mirror_layout([targets], [100])) == [["a", "b", "a2", "b2"]]


def test_unaligned_source_is_copied_not_refused() -> None:
    (each,) = mirror_layout([[target("a", 4097, BIG), target("b", 4097 + BIG, 8)]], [BIG])
    assert all(len(shard.header) % 8 == 0 for shard in each.shards)


def test_fully_dropped_source_shard_has_no_pass() -> None:
    assert names(mirror_layout([[], [target("a", 0, 8)]], [8, 8])) == [["a"]]


def names(passes: Sequence[Pass]) -> list[list[str]]:
    return [[item.target.name for item in shard.items] for each in passes for shard in each.shards]


def test_tensors_that_cannot_follow_one_another_do_not_make_a_shard_each() -> None:
    """A layer of 7 bytes, four of them a float: no repeat could stand right behind another."""
    targets = [
        target(f"{kind}{occurrence}", start, nbytes, occurrence=occurrence, dtype=dtype)
        for kind, start, nbytes, dtype in (("scale", 64, 4, "F32"), ("packed", 68, 3, "U8"))
        for occurrence in range(100)
    ]
    passes = mirror_layout([targets], [7])
    assert sum(len(each.shards) for each in passes) <= 2
    check_layout(targets, passes, aligned=True)


def test_shard_never_exceeds_the_tensor_limit_of_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SHARD_TENSORS <= MAX_TENSORS
    monkeypatch.setattr("solar_upscale.plan.layout.MAX_SHARD_TENSORS", 100)
    targets = [target(f"t{number}", number, 1) for number in range(105)]
    for passes in (mirror_layout([targets], [len(targets)]), model_layout(targets, 10**9)):
        assert sorted(len(shard.items) for each in passes for shard in each.shards) == [5, 100]


def test_names_too_long_for_a_header_are_refused() -> None:
    targets = [target(f"{number:04}{'x' * 30_000}", number, 1) for number in range(1000)]
    with pytest.raises(UnsupportedError, match=r"its header would have .* the limit is 26214400"):
        mirror_layout([targets], [1000])


# ---------------------------------------------------------------- the conventional layout


def test_model_layout_is_in_natural_order_and_respects_the_size() -> None:
    shapes = llama_shapes(12, 64, 128, 100, 32)
    plan = plan_of(shapes, ["0:12"], max_shard_nbytes=100_000)
    order = [item.target.name for shard in plan.shards for item in shard.items]
    layers = [int(name.split(".")[2]) for name in order if name.startswith("model.layers.")]
    assert layers == sorted(layers)
    assert len(plan.shards) > 3
    for shard, following in zip(plan.shards, plan.shards[1:], strict=False):
        assert shard.data_nbytes <= 100_000
        assert shard.data_nbytes + following.items[0].target.nbytes > 100_000, "cut before it was full"


def test_tensor_larger_than_the_size_has_a_shard_of_its_own() -> None:
    targets = [target("a", 0, 10), target("b", 10, 5000), target("c", 5010, 10)]
    assert names(model_layout(targets, 100)) == [["a"], ["b"], ["c"]]


def test_natural_order_handles_numbers_of_any_length() -> None:
    targets = [target(f"t.{number}", at, 1) for at, number in enumerate(["10", "9", "9" * 5000, "1" + "0" * 5000])]
    assert [name[:4] for (name,) in names(model_layout(targets, 1))] == ["t.9", "t.10", "t.99", "t.10"]


# ---------------------------------------------------------------- properties


@st.composite
def shard_targets(draw: st.DrawFn) -> list[Target]:
    """A source shard with tensors of several dtypes and odd sizes, of which each is used a few times or not at all."""
    data_start = draw(st.sampled_from([8, 64, 4096, 4104, 65, 67]))
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(["U8", "BF16", "F32", "F64", "F8_E4M3", "F4"]), st.integers(0, 9)),
            min_size=1,
            max_size=12,
        )
    )
    rows = [(dtype, 2 * count if dtype == "F4" else count) for dtype, count in rows]
    if draw(st.booleans()):  # as safetensors writes them: every tensor aligned
        rows.sort(key=lambda row: -DTYPE_BITS[row[0]])
    targets = []
    for number, tensor in enumerate(tensors_in_order([(f"t{at}", *row) for at, row in enumerate(_shaped(rows))])):
        start = data_start + tensor.data_offsets[0]
        piece = Piece("source", start, start + tensor.nbytes)
        for occurrence in range(draw(st.integers(0, 4))):
            transform = Zero() if draw(st.integers(0, 5)) == 0 else None
            name = f"t{number}.{occurrence}"
            targets.append(
                Target(name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.name, occurrence, (piece,), transform)
            )
    return targets


def _shaped(rows: Sequence[tuple[str, int]]) -> list[tuple[str, tuple[int, ...]]]:
    return [(dtype, (count,)) for dtype, count in rows]


@settings(max_examples=200, deadline=None)
@given(st.lists(shard_targets(), min_size=1, max_size=3))
def test_mirror_layout_places_every_tensor_once_and_aligned(groups: list[list[Target]]) -> None:
    groups = [[_in_file(each, f"source{number}") for each in group] for number, group in enumerate(groups)]
    passes = mirror_layout(groups, [100] * len(groups))
    check_layout([each for group in groups for each in group], passes, aligned=True)
    for each in passes:
        assert len({piece.filename for shard in each.shards for item in shard.items for piece in item.pieces}) <= 1
        assert len(each.shards) <= 4
    assert passes == mirror_layout(groups, [100] * len(groups))
    assert pickle.loads(pickle.dumps(passes)) == passes  # noqa: S301 - our own


def _in_file(each: Target, filename: str) -> Target:
    pieces = tuple(Piece(filename, piece.start, piece.stop) for piece in each.pieces)
    name = f"{filename}.{each.name}"
    return Target(name, each.dtype, each.shape, each.nbytes, each.source, each.occurrence, pieces, each.transform)


@settings(max_examples=100, deadline=None)
@given(shard_targets(), st.integers(1, 200))
def test_model_layout_places_every_tensor_once_and_aligned(targets: list[Target], limit: int) -> None:
    passes = model_layout(targets, limit)
    check_layout(targets, passes, aligned=True)
    assert all(shard.data_nbytes <= limit or len(shard.items) == 1 for each in passes for shard in each.shards)


def check_layout(targets: Sequence[Target], passes: Sequence[Pass], *, aligned: bool) -> None:
    """Each target stands once, with its own pieces; a shard is what its header says, to the reader that is strict."""
    expected = {each.name: each for each in targets}
    found = [item for each in passes for shard in each.shards for item in shard.items]
    assert sorted(item.target.name for item in found) == sorted(expected)
    for item in found:
        wanted = expected[item.target.name]
        assert (item.target.dtype, item.target.shape, item.source) == (wanted.dtype, wanted.shape, wanted.source)
        assert (item.pieces, item.transform) == (wanted.pieces, wanted.transform)
        assert item.target.nbytes == nbytes_of(wanted.dtype, wanted.shape)
    for each in passes:
        for shard in each.shards:
            check_shard(shard, aligned=aligned)


def check_shard(shard: ShardPlan, *, aligned: bool) -> None:
    read = read_shard(shard.filename, shard.nbytes, reader_of(shard))
    assert len(shard.header) % 8 == 0
    assert read.data_start == len(shard.header)
    assert [tensor.name for tensor in read.tensors] == [
        item.target.name for item in sorted(shard.items, key=lambda item: item.target.data_offsets)
    ]
    assert json.loads(shard.header[8:])["__metadata__"] == {"format": "pt"}
    if aligned:
        for item in shard.items:
            assert item.target.data_offsets[0] % max(1, DTYPE_BITS[item.target.dtype] // 8) == 0, item.target
    moves = list(shard.moves())
    wanted = [item for item in shard.items if item.target.nbytes or item.transform is not None]
    assert sum(move.target_nbytes for move in moves) == sum(item.target.nbytes for item in wanted)
    place = len(shard.header)
    for move in moves:
        assert move.target_start == place
        place += move.target_nbytes


def reader_of(shard: ShardPlan) -> Callable[[int, int], bytes]:
    return lambda start, stop: (shard.header + bytes(max(0, stop - len(shard.header))))[start:stop]
