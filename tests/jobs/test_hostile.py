"""All hostile inputs, given to the program itself: one line, exit code 1, little time and memory, nothing left behind.

The parts have tests of their own, which say more of each message. Here the whole process is watched: what it prints,
what it takes, and that it leaves its source and all that is around it as they were.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.bad_checkpoints import BAD, in_config, read_one
from tests.support.checkpoints import RUNS_CODE, put_pickle, write_checkpoint
from tests.support.headers import REFUSED_HEADERS
from tests.support.program import Program, Run, running_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures the process, and makes FIFOs and devices")

MAX_SECONDS, MAX_KIB = 5, 300 * 1024
SHARD = "model-00002-of-00002.safetensors"
JOB = ("s", "out", "--layers", "0:6", "2:8")


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running_program() as program:
        yield program


def assert_cheap(run: Run) -> None:
    assert run.seconds < MAX_SECONDS, f"{run.seconds} s"
    assert run.peak_kib < MAX_KIB, f"{run.peak_kib} KiB"


def states(folder: Path) -> dict[str, Any]:
    """Everything below a folder: kind, size, modification time, and the content of small files."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and status.st_size < 10**6 else b""
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


# ---------------------------------------------------------------- the list

# Headers that the safetensors library refuses, and two that it accepts and this project does not.
HEADERS: dict[str, str] = {
    "under 8 bytes": "short",
    "empty file": "empty",
    "header of no bytes": "N is 0",
    "header past the end": "past the end",
    "not UTF-8": "not UTF-8",
    "not an object": "a list",
    "truncated JSON": "truncated JSON",
    "padded with NUL": "NUL padding",
    "trailing garbage": "trailing garbage",
    "unknown dtype": "dtype",
    "missing offsets": "no offsets",
    "one offset too many": "three offsets",
    "negative dimension": "negative",
    "dimension that is a float": "float",
    "overlap and alias": "alias",
    "hole": "hole",
    "start that is not 0": "first hole",
    "end before start": "stop before start",
    "range unlike shape times dtype": "size",
    "overflow of a product": "product overflow",
    "F4 with an odd count": "odd F4",
    "data truncated": "data truncated",
    "data longer": "data longer",
    "data absent": "data absent",
    "name given twice": "duplicate",
    "leading space": "leading space",
    "deep lists": "deep lists",
    "deep objects": "deep objects",
    "Git LFS pointer": "git-lfs",
    "half a character in a name": "half a surrogate",
}


def put_header(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "s" / SHARD).write_bytes(content)


def header_of(nbytes: int, content: bytes = b"{") -> Callable[[Path], object]:
    """A header with this declared length, in a sparse file that really is that long."""

    def spoil(folder: Path) -> None:
        path = folder / "s" / SHARD
        path.write_bytes(nbytes.to_bytes(8, "little") + content)
        os.truncate(path, 8 + min(nbytes, 10**9))

    return spoil


def header_of_tensors(count: int) -> Callable[[Path], object]:
    text = "{" + ",".join(f'"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(count)) + "}"
    return put_header(len(text).to_bytes(8, "little") + text.encode())


def torch_pickle(pickled: bytes, zipped: bool = True) -> Callable[[Path], object]:
    return lambda folder: put_pickle(folder / "s", pickled, zipped)


BOMB = "a: &a [x, x]\n" + "".join(f"{y}: &{y} [*{x}, *{x}]\n" for x, y in pairwise("abcdefghijklmno"))


def index_of_files(count: int) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        text = '{"weight_map":{' + ",".join(f'"{number}":"{number}"' for number in range(count)) + "}}"
        (folder / "s" / "model.safetensors.index.json").write_text(text)

    return spoil


def recipe(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "job.yaml").write_text(text)


def moved_into_out(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "s").rename(folder / "out" / "s")


def linked(folder: Path) -> None:
    (folder / "link").symlink_to("s")


def fifo_for_out(folder: Path) -> None:
    os.mkfifo(folder / "out")


def fifo_for_config(folder: Path) -> None:
    (folder / "s" / "config.json").unlink()
    os.mkfifo(folder / "s" / "config.json")


def fifo_for_recipe(folder: Path) -> None:
    os.mkfifo(folder / "job.yaml")


def as_it_is(folder: Path) -> None:
    pass


def provenance(text: str, piece: str = "", count: int = 0, end: str = "") -> Callable[[Path], object]:
    return lambda folder: (folder / "s" / "solar_upscale.json").write_text(text + piece * count + end)


# Expressions with catastrophic backtracking, and invalid ones.
QUANTISED: dict[str, Any] = {
    "repeated group": {"ignore": [r"re:(\w+\.?)+1!"]},
    "repeated group behind a set that looks open": {"ignore": [r"re:[\][](\w*)*1b]"]},
    "repeated group behind a comment": {"ignore": ["re:(?#[)([a-z.0-9]+)+1!]"]},
    "many optional characters": {"ignore": ["re:" + r"[\w.]?" * 60 + "1!"]},
    "many repetitions": {"ignore": ["re:" + ".*" * 12 + "1!"]},
    "many alternatives": {"dynamic": {"-:" + "(.|m|.)" * 40 + "1!": {}}},
    "no expression": {"ignore": ["re:(1"]},
    "deep expression": {"ignore": ["re:" + "(" * 900 + "1" + ")" * 900]},
    "count beyond all bounds": {"ignore": ["re:a{1," + "9" * 30 + "}7"]},
    "count without an end": {"ignore": ["re:{" + "1" * 1_000_000]},
    "scheme for no list": {"config_groups": {"group_0": {"targets": 5}}},
    "names without end": {"ignore": [f"1.q{number}" for number in range(300_000)]},
}

NUMBERED = {"deep": "[" * 100_000, "half a character": '{"ignore": ["\\ud800 1.q"]}', "list": "[]"}

RECIPE = ("s", "out", "--config", "job.yaml")
Case = tuple[Callable[[Path], object], tuple[str, ...]]
HOSTILE: dict[str, Case] = {
    **{f"header: {name}": (put_header(REFUSED_HEADERS[case][0]), JOB) for name, case in HEADERS.items()},
    "header: 100 MB": (header_of(100_000_000), JOB),
    "header: more than 25 MiB": (header_of(25 * 2**20 + 1), JOB),
    "header: 2**64 - 1 bytes": (header_of(2**64 - 1), JOB),
    "header: more than 250,000 tensors": (header_of_tensors(250_001), JOB),
    **{f"folder: {name}": (lambda f, spoil=spoil: spoil(f / "s"), JOB) for name, (spoil, _) in BAD.items()},
    **{
        f"quantisation: {name}": (lambda f, ignore=ignore: in_config(quantization_config=ignore)(f / "s"), JOB)
        for name, ignore in QUANTISED.items()
    },
    **{
        f"quantize_config.json: {name}": (lambda f, text=text: (f / "s" / "quantize_config.json").write_text(text), JOB)
        for name, text in NUMBERED.items()
    },
    "folder: index of a million files": (index_of_files(1_000_000), JOB),
    "folder: config is a FIFO": (fifo_for_config, JOB),
    "pickle: runs code": (torch_pickle(RUNS_CODE), JOB),
    "pickle: runs code, legacy": (torch_pickle(RUNS_CODE, zipped=False), JOB),
    "pickle: unknown opcode": (torch_pickle(b"\x80\x02\xff."), JOB),
    "pickle: endless marks": (torch_pickle(b"\x80\x02" + b"(" * 10**6), JOB),
    "YAML: tag": (recipe("layers: !!python/object/apply:os.system ['touch ran']\n"), RECIPE),
    "YAML: anchors that explode": (recipe(BOMB), RECIPE),
    "YAML: unknown key": (recipe("layers: ['0:6']\nlayres: 1\n"), RECIPE),
    "YAML: key given twice": (recipe("layers: ['0:6']\nlayers: ['0:8']\n"), RECIPE),
    "YAML: deep": (recipe("layers: " + "[" * 100_000), RECIPE),
    "YAML: large": (recipe("layers: [0]\n#" + "x" * 2**21), RECIPE),
    "YAML: control characters": (recipe('"\\e[2J": 1\n'), RECIPE),
    "YAML: FIFO": (fifo_for_recipe, RECIPE),
    "pattern: range of 10**12": (as_it_is, (*JOB[:3], "range(10**12)")),
    "pattern: list times 10**9": (as_it_is, (*JOB[:3], "[0]*10**9")),
    "pattern: tower of powers": (as_it_is, (*JOB[:3], "9**9**9**9")),
    "pattern: import": (as_it_is, (*JOB[:3], "__import__('os').system('touch ran')")),
    "pattern: attribute": (as_it_is, (*JOB[:3], "().__class__.__base__.__subclasses__()")),
    "pattern: deep": (as_it_is, (*JOB[:3], "(" * 5000 + ")" * 5000)),
    "pattern: long": (as_it_is, (*JOB[:3], "0," * 5001)),
    "pattern: control characters": (as_it_is, (*JOB[:3], "\x1b[2J")),
    "output path: OUT is SOURCE": (as_it_is, ("s", "s", *JOB[2:])),
    "output path: OUT in SOURCE": (as_it_is, ("s", "s/out", *JOB[2:])),
    "output path: OUT in SOURCE by a link": (linked, ("s", "link/out", *JOB[2:])),
    "output path: OUT is SOURCE by a link, to be overwritten": (linked, ("s", "link", *JOB[2:], "--overwrite")),
    "output path: SOURCE in OUT": (moved_into_out, ("out/s", "out", *JOB[2:], "--overwrite")),
    "output path: OUT is a FIFO": (fifo_for_out, (*JOB, "--overwrite")),
    "output: no provenance": (as_it_is, ("verify", "s")),
    "output: provenance is deep": (provenance("[" * 100_000), ("verify", "s")),
    "output: provenance of millions of numbers": (provenance('{"x": [', "0.1,", 16_000_000, "1]}"), ("verify", "s")),
    "output: provenance of one long text": (provenance('{"x": "', "y", 67_000_000, '"}'), ("verify", "s")),
    "output: provenance of another job": (provenance('{"format": 1, "job": {}}'), ("verify", "s")),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("sound") / "s", shards=2)


# One of each kind runs the real command; the others skip its start-up.
TYPED = {case.partition(":")[0]: case for case in HOSTILE}.values()


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_input_is_refused_in_one_line_and_leaves_no_trace(
    case: str, sound: Path, program: Program, tmp_path: Path
) -> None:
    spoil, words = HOSTILE[case]
    world = tmp_path / "world"
    shutil.copytree(sound, world / "s")
    spoil(world)
    before = states(world)
    run = program.started(words, world) if case in TYPED else program.forked(words, world)
    assert_cheap(run)
    assert run.code == 1, run
    assert run.out == ""
    assert run.err.startswith("solar-upscale: ")
    assert run.err.endswith("\n")
    assert run.err[:-1].isprintable(), run.err
    assert len(run.err) < 2200
    assert states(world) == before


def test_refused_pickle_really_runs_code_when_loaded(tmp_path: Path) -> None:
    load = [sys.executable, "-c", "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"]
    subprocess.run(load, input=RUNS_CODE, cwd=tmp_path, check=True)
    assert (tmp_path / "ran").exists()


def test_control_characters_in_names_are_shown_escaped(program: Program, tmp_path: Path) -> None:
    """Such a name is valid in a header and is copied, but the program prints it escaped."""
    from safetensors.numpy import save_file

    source = write_checkpoint(tmp_path / "world" / "s")
    tensors = read_one(source / "model.safetensors")
    save_file({**tensors, "model.\x1b[2J\u202e.bias": tensors["model.norm.weight"]}, source / "model.safetensors")
    for words in (("inspect", "s"), ("plan", "s", *JOB[2:]), ("plan", "s", *JOB[2:], "--json"), JOB, ("verify", "out")):
        run = program.started(words, tmp_path / "world")
        assert_cheap(run)
        assert run.code == 0, run.err
        assert all(char.isprintable() or char == "\n" for char in run.out + run.err)
