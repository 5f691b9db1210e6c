"""Whole jobs on any input: a correct result or a one-line error, whatever a checkpoint, recipe or output contains."""

import io
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

import solar_upscale as su
from solar_upscale.architecture.config_names import COUNT_NAMES, MTP_FIELDS
from solar_upscale.architecture.registry import all_types
from solar_upscale.architecture.universal_attributes import UNIVERSAL_ATTRIBUTES
from solar_upscale.cli import main
from solar_upscale.errors import UpscaleError
from solar_upscale.report.inspection import inspect_report, inspection
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.strict_json import parse_json
from tests.support.checkpoints import MISTRAL, assert_layers_come_from, mistral_shapes, tree, write_checkpoint
from tests.support.faults import scratch_folder
from tests.support.fuzz import fuzzed
from tests.support.headers import header_mutations, mutate_header
from tests.support.sources import headers_only, tensors_in_order

resource = pytest.importorskip("resource", reason="memory is bounded by what the system counts")

INDEX = "model.safetensors.index.json"
LAYERS, SOURCES = ["0:2", "1:3"], [0, 1, 1, 2]
MAX_SECONDS, MAX_KIB = 5, 300 * 1024


@pytest.fixture(scope="module")
def world() -> Iterator[Path]:
    """A folder in memory with a valid checkpoint ``s`` of three layers and its finished output ``made``."""
    with scratch_folder() as folder:
        write_checkpoint(folder / "s", shards=2, layers=3, hidden=8, inner=8, vocab=8)
        assert run("s", "made", "--layers", *LAYERS, at=folder)[0] == 0
        yield folder


def run(*words: str, at: Path) -> tuple[int, str]:
    """Exit code and stderr of the program; checks time, memory, and that a failure is reported in one line."""
    places = [str(at / word) if word in ("s", "out", "made", "any.yaml") else word for word in words]
    out, err = io.StringIO(), io.StringIO()
    started, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*places, "-q"])
    assert time.process_time() - started < MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MAX_KIB
    assert code in (0, 1)
    text = err.getvalue()
    assert code == 0 or (text.startswith("solar-upscale: ") and text.endswith("\n") and text[:-1].isprintable()), text
    assert all(char.isprintable() or char == "\n" for char in out.getvalue())
    return code, text


def right_or_refused(world: Path, name: str, content: bytes) -> None:
    """Replace a file of the valid source, run every command on it, and restore the file."""
    source, sound = world / "s", (world / "s" / name).read_bytes()
    (source / name).write_bytes(content)
    try:
        before = tree(source)
        inspected, _ = run("inspect", "s", at=world)
        planned, plan_errors = run("plan", "s", "--layers", *LAYERS, at=world)
        written, errors = run("s", "out", "--layers", *LAYERS, at=world)
        assert tree(source) == before, "the source was touched"
        assert (planned, plan_errors) == (written, errors), "the plan reported something else"
        assert not inspected or written, "what cannot be read was written"
        event("refused" if written else "written")
        if written:
            assert sorted(path.name for path in world.iterdir()) == ["made", "s"]
            return
        assert run("verify", "out", "--source", "s", at=world) == (0, "")
        assert run("verify", "out", at=world) == (0, "")
        assert_layers_come_from(world / "out", source, SOURCES)
        assert_only_recorded_changes(world / "out", source)
    finally:
        (source / name).write_bytes(sound)
        shutil.rmtree(world / "out", ignore_errors=True)


def assert_only_recorded_changes(output: Path, source: Path) -> None:
    """Check that the config equals the source's, apart from the fields that the provenance lists."""
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (source, output))
    record = json.loads((output / "solar_upscale.json").read_text())
    recorded = {change["path"].partition(".")[0].partition("[")[0] for change in record["config_changes"]}
    assert {key for key in {**old, **new} if repr(old.get(key, "absent")) != repr(new.get(key, "absent"))} <= recorded
    assert new["num_hidden_layers"] == len(SOURCES)


# ---------------------------------------------------------------- strategies: JSON, valid and almost valid


def written(pairs: Sequence[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"


ODD = [
    *("null", "true", "NaN", "-Infinity", "1e999", "-0", "0.5", "3.0", "-1", "2", "4", "[]", "{}", "x", "[3]", "[[3]]"),
    *(str(10**9), str(2**63), str(10**30), "1e-999", '""', '"3"', '"\\ud800"', '"\\u001b[2J"'),
    *('"../../etc/passwd"', '"/dev/zero"', '"model-00001-of-00002.safetensors"', '"mistral"', '["full_attention"]'),
    *("{1: 2}", '{"a": 1, "a": 2}', "[" * 65 + "]" * 65),
]
LONG = st.sampled_from(["9", "[", '{"a":', "[],", '"y",', "1e"]).map(lambda piece: piece * 5000)
TEXTS = st.recursive(
    st.sampled_from(ODD) | LONG | st.integers().map(str) | st.text(max_size=20).map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.text(max_size=5).map(json.dumps), inner), max_size=4).map(written)
    ),
    max_leaves=8,
)


def edits(keys: Sequence[str]) -> st.SearchStrategy[list[tuple[str, str, str]]]:
    """Changes to an object: a key (from a list, or any other), the kind of change, and a text for its value."""
    key = st.sampled_from(keys) | st.text(max_size=10)
    return st.lists(st.tuples(key, st.sampled_from(["set", "set", "twice", "drop"]), TEXTS), min_size=1, max_size=3)


def edited(value: dict[str, Any], changes: Sequence[tuple[str, str, str]]) -> str:
    """An object as text after the changes, which may duplicate keys and contain values that are not JSON."""
    pairs = [(key, json.dumps(each)) for key, each in value.items()]
    for key, how, text in changes:
        if how != "twice":
            pairs = [pair for pair in pairs if pair[0] != key]
        if how != "drop":
            pairs.append((key, text))
    return written([(json.dumps(key), text) for key, text in pairs])


CONFIG_KEYS = [
    *MISTRAL,
    *("num_hidden_layers", "num_hidden_layers", "layer_types", "rope_scaling", "quantization_config", "text_config"),
    *("auto_map", "max_window_layers", "use_sliding_window", "num_nextn_predict_layers", "n_layer", "architectures"),
]
RECORD_KEYS = [
    *("format", "source", "revision", "job", "stack", "layers", "documents", "sidecars", "shards", "source_shards"),
    *("before", "after", "version", "config_changes", "trainers", "tool"),
]
JOB_KEYS = ["layers", "stack", "init", "entry_scales", "max_shard_nbytes", "drop_mtp", "assume_uniform"]


def names_in(value: Any) -> set[str]:
    """Every word in a record: the fields that a model type's config may use."""
    if isinstance(value, str):
        return {value} if value.isidentifier() else set()
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    return {name for each in value for name in names_in(each)} if isinstance(value, list | tuple) else set()


TYPES = all_types()
FIELDS = {name: sorted(names_in(record)) for name, record in TYPES.items() if not record.composite}
COMPOSITE = sorted(name for name, record in TYPES.items() if record.composite)
COMMON = [*COUNT_NAMES, *MTP_FIELDS, *sorted(names_in(UNIVERSAL_ATTRIBUTES)), "text_config", "quantization_config"]
HUGE = [10**9, -(10**9), 2**63, -(10**30), 1e308]
SCALARS = st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([0.5, 2.0, *HUGE, "", "x", "S*M-"])
KINDS = st.sampled_from(
    ["full_attention", "sliding_attention", "linear_attention", "sparse", "dense", 0, 1, True, None]
)
PIECES = ["re:", "-:", "model.layers.", "layers", "1", "7", ".mlp", "q_proj", "\\d", "9" * 5000, "(?i)", *"().*+?|[]^$"]
QUANTISED = st.dictionaries(
    st.sampled_from(["ignore", "exclude", "kept_layers_idx", "dynamic", "module_dtypes", "config_groups", "x"]),
    st.recursive(
        st.none() | st.integers(-1, 9) | st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["targets", "re:1", "-:.*1"]), inner, max_size=2)
        ),
        max_leaves=6,
    ),
    max_size=2,
)
VALUES = st.recursive(
    SCALARS | st.lists(KINDS, min_size=8, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from([*COMMON, "0", "7"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config of any known model type with unusual values in the fields that matter for it."""
    model_type = draw(st.sampled_from(sorted(FIELDS)))
    own = st.sampled_from([*FIELDS[model_type], *COMMON])
    config = {**MISTRAL, "model_type": model_type}
    config |= draw(st.dictionaries(own | own | st.sampled_from(sorted(MISTRAL)), VALUES, max_size=4))
    if draw(st.booleans()):
        config["quantization_config"] = draw(QUANTISED)
    around = draw(st.none() | st.sampled_from(COMPOSITE))
    return config if around is None else {"model_type": around, "text_config": config}


# ---------------------------------------------------------------- properties


def config_with(model_type: str, **fields: Any) -> dict[str, Any]:
    return {**MISTRAL, "model_type": model_type, **fields}


@fuzzed(200)
@example(config=config_with("axk1", first_k_dense_replace=[]), init="copy")
@example(config=config_with("jamba", attn_layer_period=0), init="copy")
@example(config=config_with("gpt_neo", attention_types=[[[], 10**9]]), init="copy")
@example(config=config_with("gemma3n_text", num_kv_shared_layers=-(10**9)), init="copy")
@example(config=config_with("mistral", num_kv_shared_layers="x", layer_types=[]), init="identity")
@example(config=config_with("mistral", architectures=True), init="copy")
@given(config=configs(), init=st.sampled_from(["copy", "identity", "split"]))
def test_any_config_of_any_known_model_type_is_planned_or_refused(config: dict[str, Any], init: str) -> None:
    tensors = tensors_in_order([(name, "F16", shape) for name, shape in mistral_shapes(8).items()])
    started = time.process_time()
    source = headers_only({"model.safetensors": tensors}, config)
    try:
        inspect_report(inspection(open_checkpoint(source)))
        plan = su.plan_checkpoint(source, ["0:6", "2:8"], init=init)
    except UpscaleError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        event("planned")
        assert plan.after.layers == 12
        assert parse_json(plan.model_files["config.json"], "config.json").keys() >= config.keys()
    assert time.process_time() - started < MAX_SECONDS


@fuzzed(70)
@example(changes=[("architectures", "set", "true")])
@given(changes=edits(CONFIG_KEYS))
def test_any_config_gives_a_correct_result_or_a_one_line_error(
    world: Path, changes: list[tuple[str, str, str]]
) -> None:
    config = json.loads((world / "s" / "config.json").read_text())
    right_or_refused(world, "config.json", edited(config, changes).encode())


@fuzzed(70)
@given(data=st.data())
def test_any_index_gives_a_correct_result_or_a_one_line_error(world: Path, data: st.DataObject) -> None:
    index = json.loads((world / "s" / INDEX).read_text())
    weight_map = index["weight_map"]
    if data.draw(st.booleans()):
        text = edited(index, data.draw(edits(["metadata", "weight_map"])))
    else:
        text = f'{{"weight_map": {edited(weight_map, data.draw(edits(list(weight_map))))}}}'
    right_or_refused(world, INDEX, text.encode())


@fuzzed(120)
@given(changes=header_mutations, keep_length=st.booleans(), number=st.sampled_from([1, 2]))
def test_any_header_gives_a_correct_result_or_a_one_line_error(
    world: Path, changes: list[tuple[str, int, bytes]], keep_length: bool, number: int
) -> None:
    name = f"model-{number:05d}-of-00002.safetensors"
    right_or_refused(world, name, mutate_header((world / "s" / name).read_bytes(), changes, keep_length))


@fuzzed(100)
@given(data=st.data())
def test_any_provenance_is_verified_or_refused_in_one_line(world: Path, data: st.DataObject) -> None:
    path = world / "made" / "solar_upscale.json"
    sound = path.read_bytes()
    record = json.loads(sound)
    if data.draw(st.booleans()):
        text = edited(record, data.draw(edits(RECORD_KEYS)))
    else:
        text = edited(record, [("job", "set", edited(record["job"], data.draw(edits(JOB_KEYS))))])
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        run("verify", "made", at=world)
        if run("verify", "made", "--source", "s", at=world)[0] == 0:
            said = json.loads(text)
            assert all(said[key] == record[key] for key in record if key not in ("source", "revision", "version"))
    finally:
        path.write_bytes(sound)


WORDS = st.sampled_from(
    [
        *("layers", "layer_indices", "init", "source", "slices", "sources", "model", "layer_range", "merge_method"),
        *("_target_", "DepthUpscalingAlgorithm", "passthrough", "scale", "identity", "copy", "split", "dtype", "0:2"),
        *(
            ": ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "\n",
            "\n  ",
            "&a ",
            "*a",
            "!!python/object ",
            "<<",
            "'",
            '"',
            "|",
            ">",
        ),
        *("0", "2", "-1", "1e9", ".nan", "true", "~", "range(0,3)", "[0]*10**9", "9**9**9", "\x1b", "\u202e", "---"),
    ]
)


@fuzzed(100)
@given(text=st.lists(WORDS, max_size=30).map("".join) | TEXTS.map("layers: {}".format))
def test_any_recipe_gives_a_plan_or_a_one_line_error(world: Path, text: str) -> None:
    (world / "any.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        run("plan", "s", "--config", "any.yaml", at=world)
    finally:
        (world / "any.yaml").unlink()
