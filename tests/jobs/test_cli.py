"""The command line as users see it: arguments, stdout and stderr, exit codes."""

import json
import os
import re
import resource
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from solar_upscale import cli, repeat_every, resolve_layer_indices
from solar_upscale.cli import commands, parsers
from solar_upscale.errors import OutputError
from solar_upscale.source.folder import FolderSource
from solar_upscale.write import shards
from tests.support.checkpoints import assert_layers_come_from, tree, write_checkpoint
from tests.support.processes import ROOT

SOLAR = ["0:6", "2:8"]
SOLAR_SOURCES = [*range(6), *range(2, 8)]
HEAVY = ("torch", "transformers", "numpy", "huggingface_hub", "yaml", "tqdm", "safetensors", "asyncio", "httpx")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model ``s``, without network access."""
    write_checkpoint(tmp_path / "s", shards=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "solar_upscale", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def ends(words: Sequence[str]) -> int:
    """The exit code of the program run in this process."""
    try:
        return cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


def written(home: Path, name: str = "out") -> list[int]:
    return [row["source"] for row in json.loads((home / name / "solar_upscale.json").read_text())["layers"]]


# ---------------------------------------------------------------- the grammar


@pytest.mark.parametrize(
    "line",
    [
        "s out --layers 0:6 2:8",
        "upscale s out --layers 0:6 2:8",
        "--layers 0:6 2:8 -- s out",
        "--layers 0:6 2:8 --init copy s out",
        "s --layers 0:6 2:8 --init copy out",
        "s --overwrite out --layers 0:6 2:8",
        "-q s out --layers 0:6 2:8",
        "--layers 0:6 2:8 -q s out",
        "s out --layers 0:6 --layers 2:8",
        "s out --layers=0:6 --layers=2:8",
        "s out --layers=0:6 --overwrite --layers 2:8",
        "s out --layers 0:6 -6:",
        "s out --layers=-8:-2 --layers=-6:",
        's out --layers "range(0,6)" "range(2, n)"',
        "s out --layers 0 1 2 3 4 5 -6 -5 -4 -3 -2 -1",
        "./s ./out --layers 0:6 2:8 --workers 2",
        "s out --layers 0:6 2:8 --",
    ],
)
def test_equivalent_arguments_give_the_same_job(line: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(shlex.split(line)) == 0, capsys.readouterr().err
    assert_layers_come_from(home / "out", home / "s", SOLAR_SOURCES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "SOURCE and OUT are missing"),
        ("s", "OUT is missing"),
        ("s out", "--layers is missing; for example"),
        ("s out --layers", "--layers: expected at least one entry"),
        ("s out --layers --init copy", "--layers: expected at least one entry"),
        ("--layers 0:6 2:8 s out", "put SOURCE OUT first or after --"),
        ("s '' --layers 0:6", "expected SOURCE and OUT, got an empty argument"),
        ("s out more --layers 0:6", "got 3 arguments: s out more"),
        ("s out --layer 0:6", "--layer"),
        ("s out --layers 0:6 --max-shard 5GB", "--max-shard"),
        ("s out --layers 0:6 --workers 0", "expected a number from 1 to 1024, got 0"),
        ("s out --layers 0:6 --workers x", "expected a number from 1 to 1024"),
        ("s out --layers 0:6 --init", "--init"),
        ("plan", "SOURCE is missing"),
        ("plan s", "--layers is missing"),
        ("inspect", "SOURCE"),
        ("inspect s --layers 0:6", "--layers is not an option"),
        ("verify", "OUT"),
        ("verify a b", "b"),
        ("recipes x y", "y"),
        ("s out --layers 0:6 --repeat-every 2", "--repeat-every stands in place of --layers"),
        ("s out --layers 0:6 -q -v", "not allowed with"),
        ("completion tcsh", "tcsh"),
    ],
)
def test_usage_errors_exit_2_and_say_what_is_missing(
    line: str, message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(home)
    assert ends(shlex.split(line)) == 2
    shown = capsys.readouterr()
    assert message in shown.err.splitlines()[-1]
    assert shown.out == ""
    assert tree(home) == before


def test_first_argument_is_a_command_only_if_it_names_one(home: Path) -> None:
    (home / "s").rename(home / "inspect")
    assert ends(["./inspect", "out", "--layers", *SOLAR]) == 0
    assert ends(["verify", "out", "--source", "inspect"]) == 0
    assert ends(["upscale", "inspect", "verify", "--layers", *SOLAR]) == 0
    assert ends(["verify", "verify"]) == 0


def test_inspecting_a_folder_names_no_revision(home: Path) -> None:
    text = run("inspect", "s").stdout
    assert "parameters" in text
    assert "revision" not in text


# ---------------------------------------------------------------- mistakes


def _spoil_index(home: Path) -> None:
    (home / "s" / "model.safetensors.index.json").write_text("{")


MISTAKES: dict[str, tuple[str, str]] = {
    "range beyond the model": ('s out --layers "range(8,40)"', r"range\(8,40\).*the model has 8 layers"),
    "no such folder": ("./no out --layers 0:6", r"\./no: no such folder"),
    "typo in a Hub id": ("a/b/c out --layers 0:6", "a/b/c"),
    "Hub id without a network": ("some/model out --layers 0:6", "some/model"),
    "source is a file": ("s/config.json out --layers 0:6", "s/config.json: is a file; expected a folder"),
    "source is a weight file": (
        "s/model.safetensors.index.json out --layers 0:6",
        "is one file of a checkpoint; give the folder",
    ),
    "source is a GGUF file": ("model.gguf out --layers 0:6", r"model\.gguf: is a GGUF file, which is not supported"),
    "source is an adapter": (
        "adapter out --layers 0:6",
        r"adapter: is an adapter \(adapter_config\.json\), not a check",
    ),
    "source holds GGUF files": ("gguf out --layers 0:6", r"gguf: holds GGUF files \(m\.Q4\.gguf\) and no config\.json"),
    "base model is a path": (
        "s out --layers 0:6 --base-model ./up/x",
        "base_model.*is not a model id; expected USER/NAME",
    ),
    "output is occupied": ("s full --layers 0:6", "full: already exists and holds thesis.txt"),
    "output is a file": ("s file --layers 0:6", "file: .*exists"),
    "output below a file": ("s file/out --layers 0:6", "file"),
    "output in the source": ("s s/out --layers 0:6", "is inside the source"),
    "wrong start": ("s out --layers 0:6 --init identiy", 'unknown --init "identiy"; choose copy'),
    "wrong stack": ("s out --layers 0:6 --stack x", "--stack x: 0 stacks have that name; the stacks are: model.layers"),
    "wrong size": ("s out --layers 0:6 --max-shard-size 5XB", '"5XB" is not a size; expected'),
    "revision of a folder": ("s out --layers 0:6 --revision main", "a folder has no revisions"),
    "no such recipe": ("s out --config solar-10.8b", 'did you mean "solar-10.7b"'),
    "no such recipe to show": ("recipes solar-10.8b", 'did you mean "solar-10.7b"'),
    "nothing to repeat": ("s out --repeat-every 9", "--repeat-every 9: repeats no layer; the model has 8 layers"),
    "shards smaller than a tensor": ("s out --layers 0:6 --max-shard-size 5", "did you mean 5GB"),
    "recipe that is no YAML": ("s out --config bad.yaml", r"bad\.yaml:1"),
    "recipe of another depth": ("s out --config solar-10.7b", "8 layers"),
    "verify what is no output": ("verify s", r"no solar_upscale\.json"),
    "verify what is not there": ("verify no", "no: is not a folder"),
    "inspect an empty folder": ("inspect empty", "no config.json"),
    "name with control characters": ("s out --layers '\x1b[2J'", r"\\x1b\[2J"),
    "plan of nothing": ("plan empty --layers 0:6", "no config.json"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_error_is_one_line_and_exit_1(case: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, message = MISTAKES[case]
    (home / "full").mkdir()
    (home / "full" / "thesis.txt").write_text("all of it")
    (home / "empty").mkdir()
    (home / "file").write_text("x")
    (home / "model.gguf").write_text("GGUF")
    (home / "adapter").mkdir()
    (home / "adapter" / "adapter_config.json").write_text("{}")
    (home / "gguf").mkdir()
    (home / "gguf" / "m.Q4.gguf").write_text("GGUF")
    (home / "bad.yaml").write_text("layers: [")
    before = tree(home)
    assert ends(shlex.split(line)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (stderr,) = shown.err.splitlines()
    assert stderr.startswith("solar-upscale: ")
    assert re.search(message, stderr), stderr
    assert stderr.isprintable()
    assert tree(home) == before


def test_damaged_source_gives_a_one_line_error_in_every_command(home: Path) -> None:
    _spoil_index(home)
    for line in ("s out --layers 0:6", "plan s --layers 0:6", "inspect s"):
        result = run(*shlex.split(line))
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.startswith("solar-upscale: model.safetensors.index.json: not JSON")
        assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_gives_a_one_line_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "locked").mkdir(mode=0o500)
    assert ends(["s", "locked/out", "--layers", *SOLAR]) == 1
    assert "permission denied" in capsys.readouterr().err


def test_verify_exits_1_and_names_the_difference(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["s", "out", "--layers", *SOLAR]) == 0
    path = min((home / "out").glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    assert ends(["verify", "out", "--source", "s"]) == 1
    assert re.search(rf"out: verification failed: {path.name}: .* differs from the source", capsys.readouterr().err)


# ---------------------------------------------------------------- what is printed where


def test_dry_run_prints_exactly_what_plan_prints_and_writes_nothing(home: Path) -> None:
    before = tree(home)
    for more in ([], ["--json"], ["--json", "--tensors"], ["--init", "split", "--max-shard-size", "50KB"]):
        for paths in (["s"], ["s", "out"]):
            plan = run("plan", *paths, "--layers", *SOLAR, *more)
            dry = run(*paths, "--dry-run", "--layers", *SOLAR, *more)
            assert plan.returncode == dry.returncode == 0
            assert plan.stdout == dry.stdout != ""
            assert plan.stderr == dry.stderr == ""
    assert tree(home) == before


def _finish(home: Path) -> None:
    assert ends(["s", "out", "--layers", *SOLAR]) == 0


def _interrupt(home: Path) -> None:
    _finish(home)
    (home / "out.incomplete").mkdir()
    (home / "out").rename(home / "out.incomplete" / "0123456789abcdef-0123456789abcdef")


def _occupy(home: Path) -> None:
    (home / "out").mkdir()
    (home / "out" / "thesis.txt").write_text("all of it")


PREVIEWS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "absent": (lambda home: None, [], "does not exist yet"),
    "absent with its parents": (lambda home: None, ["--out", "a/b/out"], "does not exist yet"),
    "empty": (lambda home: (home / "out").mkdir(), [], "is empty"),
    "finished": (_finish, [], "holds this result already"),
    "replaced": (_occupy, ["--overwrite"], "will be replaced"),
}


@pytest.mark.parametrize("case", PREVIEWS)
def test_plan_says_of_the_output_what_the_run_makes_of_it(
    case: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, more, state = PREVIEWS[case]
    prepare(home)
    out = "out" if "--out" not in more else more[1]
    words = ["s", out, "--layers", *SOLAR, *(more if "--out" not in more else [])]
    before = tree(home)
    capsys.readouterr()
    assert ends(["plan", *words]) == 0
    shown = capsys.readouterr().out
    assert f"output\n  {out}: {state}" in shown
    assert tree(home) == before
    assert ends(words) == 0


def test_plan_says_that_an_interrupted_run_will_be_resumed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **options: object) -> None:
        raise OutputError("stopped here")

    with monkeypatch.context() as patched:
        patched.setattr("solar_upscale.write.output.OpenOutput.finish", stop)
        assert ends(["s", "out", "--layers", *SOLAR]) == 1
    before = tree(home)
    capsys.readouterr()
    assert ends(["plan", "s", "out", "--layers", *SOLAR]) == 0
    assert "output\n  out: an interrupted run of this job will be resumed\n" in capsys.readouterr().out
    assert ends(["plan", "s", "out", "--layers", "0:6"]) == 1
    assert "holds the unfinished" in capsys.readouterr().err
    assert tree(home) == before
    assert ends(["s", "out", "--layers", *SOLAR]) == 0
    assert_layers_come_from(home / "out", home / "s", SOLAR_SOURCES)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_occupy, "s out --layers 0:6"),
        (_interrupt, "s out --layers 0:6"),
        (lambda home: (home / "out").write_text("x"), "s out --layers 0:6"),
        (lambda home: (home / "out").symlink_to("s"), "s out --layers 0:6 --overwrite"),
        (lambda home: (home / "out.incomplete").write_text("x"), "s out --layers 0:6"),
        (lambda home: (home / "file").write_text("x"), "s file/out --layers 0:6"),
        (lambda home: None, "s s/out --layers 0:6"),
        (lambda home: None, "s . --layers 0:6 --overwrite"),
        (lambda home: None, "s / --layers 0:6"),
        (lambda home: None, "s out --layers 0:6 --max-shard-size 5"),
    ],
)
def test_dry_run_refuses_what_the_run_refuses_in_the_same_words(
    prepare: Callable[[Path], object], words: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(home)
    messages = []
    for more in (["--dry-run"], []):
        capsys.readouterr()
        before = tree(home)
        assert ends([*shlex.split(words), *more]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        messages.append(shown.err)
        assert tree(home) == before
    assert messages[0] == messages[1]


def test_too_little_room_is_refused_by_the_dry_run_too(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, free=10))
    assert ends(["plan", "s", "out", "--layers", *SOLAR, "--init", "split", "--max-shard-size", "1GB"]) == 1
    assert "on this disk; expected" in capsys.readouterr().err


def test_plan_matches_what_is_written(home: Path) -> None:
    plan = json.loads(run("plan", "s", "--layers", *SOLAR, "--json").stdout)
    done = json.loads(run("s", "out", "--layers", *SOLAR, "--json").stdout)
    of_the_run = dict.fromkeys(("output", "moved", "seconds"))
    assert {**done, **of_the_run} == {**plan, **of_the_run}
    assert done["seconds"] >= 0
    sizes = {shard["filename"]: shard["nbytes"] for shard in plan["shards"]}
    assert {name: (home / "out" / name).stat().st_size for name in sizes} == sizes
    assert sum(done["moved"].values()) == plan["total_size"]


@pytest.mark.parametrize("line", ["plan s --layers 0:6", "inspect s", "s out --layers 0:6", "recipes", "verify done"])
def test_json_is_the_only_output_on_stdout(line: str, home: Path) -> None:
    assert ends(["s", "done", "--layers", *SOLAR, "--json"]) == 0
    result = run(*shlex.split(line), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)


def test_piped_output_has_no_escapes_no_progress_and_fits_80_columns(home: Path) -> None:
    for line in ("plan s --layers 0:6 2:8", "s out --layers 0:6 2:8", "verify out --source s", "inspect s"):
        result = run(*shlex.split(line))
        assert result.returncode == 0
        assert "\x1b" not in result.stdout + result.stderr
        assert "\r" not in result.stdout + result.stderr
        if line.startswith(("s ", "verify")):
            assert max(map(len, result.stdout.splitlines())) <= 100


def test_output_falls_back_to_ascii_without_unicode(home: Path) -> None:
    (home / "s" / "notiz-ü.txt").write_text("x")
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for line in ("plan s --layers 0:6 2:8", "s out --layers 0:6 2:8", "inspect s"):
        result = run(*shlex.split(line), env=env)
        assert (result.returncode, result.stderr.count("Traceback")) == (0, 0), result.stderr
        assert result.stdout.isascii()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_colour_appears_only_on_a_terminal_that_supports_it(no_color: str, home: Path) -> None:
    text = on_a_terminal("plan", "s", "--layers", *SOLAR, NO_COLOR=no_color)
    assert ("\x1b[" in text) == (not no_color)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_in_bytes_on_a_terminal_unless_quiet(home: Path) -> None:
    assert re.search(r"\d+%.*B/s", on_a_terminal("s", "out", "--layers", *SOLAR, NO_COLOR="1"))
    assert not re.search(r"\d+%|B/s", on_a_terminal("s", "out2", "-q", "--layers", *SOLAR, NO_COLOR="1"))


def on_a_terminal(*words: str, **env: str) -> str:
    import fcntl
    import pty
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "solar_upscale", *words]
    with subprocess.Popen(
        command, stdout=side, stderr=side, stdin=side, env={**os.environ, "TERM": "xterm", **env}
    ) as process:
        os.close(side)
        text = b""
        while True:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            text += chunk
    os.close(main)
    assert process.returncode == 0, text
    return text.decode()


def test_map_comes_before_the_first_byte_and_what_was_done_after_the_last(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[str] = []
    real = shards.write_all

    def write_all(*args: Any, **options: Any) -> Any:
        before.append(capsys.readouterr().out)
        return real(*args, **options)

    monkeypatch.setattr(shards, "write_all", write_all)
    assert ends(["s", "out", "--layers", *SOLAR]) == 0
    assert "12 layers from 8" in before[0]
    assert re.search(r"output +out: does not exist yet\n", before[0])
    assert "".join(before[1:]) == ""
    assert re.fullmatch(r"\nout: written in \d+\.\d s: .* copied\n", capsys.readouterr().out)
    assert ends(["s", "out", "--layers", *SOLAR]) == 0
    assert capsys.readouterr().out.endswith("\nout: was there already\n")


@pytest.mark.parametrize("line", ["s out2 --layers 0:6 2:8", "verify out --source s", "s out --layers 0:6 2:8"])
def test_quiet_prints_nothing_but_json(line: str, home: Path) -> None:
    assert ends(["s", "out", "--layers", *SOLAR]) == 0
    quiet = run(*shlex.split(line), "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert json.loads(run(*shlex.split(line), "-q", "--json").stdout)


@pytest.mark.parametrize(
    "line", ["plan s --layers 0:6", "s --dry-run --layers 0:6", "inspect s", "recipes solar-10.7b"]
)
def test_quiet_prints_a_report_that_was_asked_for(line: str, home: Path) -> None:
    quiet = run(*shlex.split(line), "-q")
    assert quiet.stdout == run(*shlex.split(line)).stdout != ""
    assert quiet.stderr == ""


def test_quiet_still_prints_errors(home: Path) -> None:
    quiet = run("./no", "out", "-q", "--layers", "0:6")
    assert quiet.returncode == 1
    assert quiet.stderr.startswith("solar-upscale: ./no: no such folder")


def test_verbose_logs_each_step_on_stderr(home: Path) -> None:
    loud, plain = run("s", "out", "-v", "--layers", *SOLAR), run("s", "out2", "--layers", *SOLAR)
    assert all("warning: " in line for line in plain.stderr.splitlines())
    assert re.search(
        r"s: reading headers.*planned 12 layers in \d+ shards.*safetensors: written", loud.stderr, re.DOTALL
    )
    assert loud.stdout.splitlines()[0] == plain.stdout.splitlines()[0]


def test_warnings_go_to_stderr_and_quiet_silences_them(home: Path) -> None:
    layers = ["[0,0,1,2,3,4,5,6,7]"]
    loud, quiet = run("s", "out", "--layers", *layers), run("s", "out2", "-q", "--layers", *layers)
    assert "warning: repeats source layer 0" in loud.stderr
    assert "warning" not in loud.stdout
    assert quiet.stderr == ""
    assert quiet.returncode == loud.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes it")
@pytest.mark.parametrize("words", ["plan s --layers 0:8", "s out --layers 0:8", "inspect s", "recipes"])
def test_closed_stdout_gives_no_traceback(words: str, home: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m solar_upscale {words} >&-', sys.executable],
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / "out").exists() == ("out" in words.split())


def test_folder_is_not_streamed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["s", "out", "--layers", "0:6", "--stream"]) == 1
    assert capsys.readouterr().err == "solar-upscale: s: a folder cannot be streamed; leave --stream out\n"


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
@pytest.mark.parametrize(
    ("line", "reader", "read"),
    [("plan s --json --layers '[0] * 500'", "head -1", "{\n"), ("inspect s", "true", ""), ("recipes", "true", "")],
)
def test_broken_pipe_gives_no_traceback(line: str, reader: str, read: str, home: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m solar_upscale {line} | {reader}"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=env)  # noqa: S602 - a shell's pipe is what is tried
    assert (result.stdout, result.stderr) == (read, "")


# ---------------------------------------------------------------- recipes


def recipe(home: Path, text: str) -> str:
    (home / "job.yaml").write_text(text)
    return "job.yaml"


def test_recipe_with_a_source_needs_only_an_output(home: Path) -> None:
    name = recipe(home, "source: ./s\nlayers: [0:6, 2:8]\ninit: identity\n")
    assert ends(["out", "--config", name]) == 0
    assert written(home) == SOLAR_SOURCES
    assert json.loads((home / "out" / "solar_upscale.json").read_text())["job"]["init"] == "identity"
    assert ends(["verify", "out", "--source", "s"]) == 0
    plan, dry = run("plan", "--config", name), run("--dry-run", "--config", name)
    assert plan.stdout == dry.stdout != ""
    assert "out3: does not exist yet" in run("out3", "--dry-run", "--config", name).stdout


def test_command_line_overrides_the_recipe_and_says_so(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_checkpoint(home / "t", shards=1)
    name = recipe(home, "source: ./s\nrevision: main\nlayers: [0:6, 2:8]\ninit: identity\nmax_shard_size: 5KB\n")
    assert ends(["t", "out", "--config", name, "--init", "copy", "--max-shard-size", "5GB"]) == 0, "no revision for t"
    assert_layers_come_from(home / "out", home / "t", SOLAR_SOURCES)
    assert (home / "out" / "model.safetensors").exists()
    assert "replaces" not in caplog.text
    assert ends(["t", "out2", "--config", name, "--layers", "0:4"]) == 0
    assert "warning: --layers replaces the layers of recipe job\n" in caplog.text
    assert written(home, "out2") == [0, 1, 2, 3]


def test_recipe_revision_applies_to_the_recipe_source(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = recipe(home, "source: ./s\nrevision: main\nlayers: [0:6]\n")
    assert ends(["out", "--config", name]) == 1
    assert "a folder has no revisions" in capsys.readouterr().err


def test_recipe_entry_scales_are_applied(home: Path) -> None:
    name = recipe(home, "layers:\n- 0:6\n- {layers: 2:8, scale: 0.25}\n")
    assert ends(["s", "out", "--config", name]) == 0
    rows = json.loads((home / "out" / "solar_upscale.json").read_text())["layers"]
    assert [row.get("factor", 1) for row in rows] == [1] * 6 + [0.25] * 6
    assert ends(["verify", "out", "--source", "s"]) == 0
    assert ends(["s", "plain", "--config", name, "--layers", *SOLAR]) == 0
    assert not any("factor" in row for row in json.loads((home / "plain" / "solar_upscale.json").read_text())["layers"])


MERGEKIT = """
merge_method: passthrough
dtype: {dtype}
slices:
- sources:
  - {{model: ./s, layer_range: [0, 6]}}
- sources:
  - model: ./s
    layer_range: [2, 8]
    parameters: {{scale: [{{filter: o_proj, value: 0.5}}, {{filter: down_proj, value: 0.5}}, {{value: 1.0}}]}}
"""


def test_equivalent_mergekit_recipe_is_accepted(home: Path) -> None:
    assert ends(["out", "--config", recipe(home, MERGEKIT.format(dtype="float16"))]) == 0
    rows = json.loads((home / "out" / "solar_upscale.json").read_text())["layers"]
    assert [row.get("factor", 1) for row in rows] == [1] * 6 + [0.5] * 6


def test_mergekit_recipe_that_would_convert_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["out", "--config", recipe(home, MERGEKIT.format(dtype="bfloat16"))]) == 1
    assert "expected dtype BF16 in every tensor, got F16, and dtypes are never converted" in capsys.readouterr().err


def test_recipe_is_shown_with_its_map_and_where_it_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["recipes", "solar-10.7b"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith((ROOT / "configs" / "solar-10.7b.yaml").read_text())
    assert "48 layers from 32: 32 first uses, 16 repeats" in shown
    assert re.search(r"published +arXiv:2312\.15166\n", shown)
    assert "solar-upscale OUT --config solar-10.7b" in shown
    assert ends(["recipes", "solar-10.7b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"] == [*range(24), *range(8, 32)]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_every_shipped_recipe_can_be_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["recipes", name]) == 0
    assert " layers from " in capsys.readouterr().out


def test_recipe_file_without_a_depth_is_shown_without_a_map(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["recipes", recipe(home, "layers: [0:6, 2:8]\n")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("layers: [0:6, 2:8]\n")
    assert "solar-upscale SOURCE OUT --config job" in shown


@pytest.mark.parametrize(("every", "repeated"), [("1", range(8)), ("2", [1, 3, 5, 7]), ("3", [2, 5]), ("8", [7])])
def test_repeat_every_repeats_each_kth_layer_in_place(every: str, repeated: Sequence[int], home: Path) -> None:
    assert ends(["s", "out", "--repeat-every", every, "--init", "identity"]) == 0
    assert written(home) == sorted([*range(8), *repeated])
    assert resolve_layer_indices(repeat_every(int(every)), 8) == written(home)


def test_repeat_every_replaces_the_layers_of_a_recipe(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ends(["s", "out", "--repeat-every", "4", "--config", recipe(home, "layers: [0:6]\n")]) == 0
    assert written(home) == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    assert "--repeat-every replaces the layers of recipe job" in caplog.text


def test_shipped_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["recipes"]) == 0
    shown = capsys.readouterr().out
    for path in (ROOT / "configs").glob("*.yaml"):
        assert path.stem in shown


# ---------------------------------------------------------------- help and start-up


@pytest.mark.parametrize("command", [[], ["plan"], ["inspect"], ["verify"], ["recipes"], ["upscale"]])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(command: list[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends([*command, flag]) == 0
    shown = capsys.readouterr()
    assert "usage: solar-upscale" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("command", [*parsers.PARSERS])
def test_help_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert ends([command, "--help"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_examples_in_the_help_are_jobs_that_parse(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run unchanged, on a model of 32 layers in place of the one that it names."""
    examples = [
        line.split("solar-upscale ", 1)[1]
        for line in parsers._MAIN_EXAMPLES.replace("\\\n", "").splitlines()
        if line.startswith("    solar-upscale ") and "--push-to-hub" not in line
    ]
    assert len(examples) >= 4
    write_checkpoint(home / "big", layers=32, hidden=8, inner=8, vocab=8)
    monkeypatch.setattr(commands, "_open", lambda *_, **__: FolderSource(home / "big"))
    for number, example in enumerate(examples):
        words = [f"{word.rstrip('/')}{number}" if word == "out/" else word for word in shlex.split(example)]
        assert ends(words) == 0
        assert len(written(home, f"out{number}")) > 32


def test_version_matches_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import solar_upscale

    assert ends(["--version"]) == 0
    assert capsys.readouterr().out == f"solar-upscale {solar_upscale.__version__}\n"


@pytest.mark.parametrize("code", ["import solar_upscale", "from solar_upscale.cli import main; main(['--help'])"])
def test_nothing_heavy_is_imported_before_it_is_needed(code: str, home: Path) -> None:
    check = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"


# Modules that a job on a folder does not need; importing any of them takes about as long as a small plan.
NOT_FOR_A_FOLDER = (
    *("asyncio", "concurrent", "email", "http", "huggingface_hub", "multiprocessing", "requests", "httpx", "socket"),
    *("ssl", "tempfile", "torch", "transformers", "unittest", "xml"),
)


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["plan", "s"], (*NOT_FOR_A_FOLDER, "decimal", "difflib", "html", "numpy", "safetensors", "shutil", "yaml")),
        (["plan", "s", "--json"], (*NOT_FOR_A_FOLDER, "decimal", "difflib", "html", "numpy", "safetensors", "yaml")),
        (["s", "out", "-q"], ("asyncio", "email", "html", "http", "huggingface_hub", "ssl", "torch", "transformers")),
    ],
)
def test_job_on_a_folder_imports_only_what_it_needs(words: list[str], unneeded: Sequence[str], home: Path) -> None:
    check = (
        f"import sys; from solar_upscale.cli import main; code = main([*{words}, '--layers', '0:6'])\n"
        f"print(code, [name for name in {unneeded} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stderr == "0 []\n"


def test_help_takes_at_most_100_ms_of_cpu(home: Path) -> None:
    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    run("--help")  # compiles the modules
    spent = []
    for _ in range(5):
        before = cpu()
        run("--help")
        spent.append(cpu() - before)
    assert min(spent) <= 0.1, spent


# ---------------------------------------------------------------- signals


SLOW = r"""
import os, sys, time, solar_upscale.write.shards as shards
real = shards.write_all
def slow(*args, **options):
    os.write(2, b"writing\n")
    time.sleep(0.3)
    return real(*args, **options)
shards.write_all = slow
from solar_upscale.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_signal_stops_at_once_and_a_rerun_resumes(sent: signal.Signals, code: int, workers: str, home: Path) -> None:
    words = ["s", "out", "--layers", *SOLAR, "--workers", workers]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert "writing\n" in iter(process.stderr.readline, "")
        started = time.monotonic()
        process.send_signal(sent)
        stderr = [line for line in process.stderr.read().splitlines() if line != "writing" and "warning: " not in line]
    assert process.returncode == code
    assert time.monotonic() - started < 5
    assert stderr == ["solar-upscale: interrupted; run the same command again to resume"]
    assert not (home / "out").exists()
    assert ends(words) == 0
    assert_layers_come_from(home / "out", home / "s", SOLAR_SOURCES)
    assert sorted(path.name for path in home.iterdir()) == ["out", "s"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_concurrent_run_is_refused_and_the_first_completes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["s", "out", "--layers", *SOLAR]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert "writing\n" in iter(process.stderr.readline, "")
        assert ends(words) == 1
        (stderr,) = capsys.readouterr().err.splitlines()
        assert re.search(rf"process {process.pid} on .* is writing there; wait for it", stderr)
        assert ends([*words, "--overwrite"]) == 1
        process.communicate()
    assert process.returncode == 0
    assert_layers_come_from(home / "out", home / "s", SOLAR_SOURCES)
    assert sorted(path.name for path in home.iterdir()) == ["out", "s"]
