"""The ways to do the same work, each as a command. All but ours are followed by a sync of all that they wrote."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONTENDERS", "Contender", "Job", "mergekit_python"]

_OURS = (sys.executable, "-m", "solar_upscale")
_MERGEKIT = "0.1.5"


@dataclass(frozen=True, slots=True)
class Job:
    """``result`` is a finished output of the same job, for those that only copy."""

    source: Path
    output: Path
    result: Path
    source_layers: int
    layers: tuple[int, ...]
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contender:
    """``start_up`` is a command that imports what the work imports and does nothing: its CPU is not the work's."""

    name: str
    command: Callable[[Job], Sequence[str]]
    start_up: Callable[[], Sequence[str]]
    slow: bool = False


def mergekit_python() -> str:
    """The Python of mergekit's own virtual environment, made on first use in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "solar-upscale" / f"mergekit-{_MERGEKIT}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        packages = [f"mergekit=={_MERGEKIT}", "torch==2.13.0"]  # unpinned, torch would bring several GB of CUDA
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return str(python)


def _ours(job: Job) -> Sequence[str]:
    return (*_OURS, str(job.source), str(job.output), "--layers", *job.entries)


def _cp(job: Job) -> Sequence[str]:
    return _durable(job, ["cp", "-r", str(job.result), str(job.output)])


def _mergekit(job: Job) -> Sequence[str]:
    lines = ["merge_method: passthrough", "dtype: bfloat16", "slices:"]
    for entry in job.entries:
        start, _, stop = entry.partition(":")
        lines += ["- sources:", f"  - {{model: {job.source}, layer_range: [{start}, {stop}]}}"]
    recipe = job.output.with_suffix(".yml")
    recipe.write_text("\n".join(lines) + "\n")
    program = str(Path(mergekit_python()).with_name("mergekit-yaml"))
    options = ["--out-shard-size", "500M", "--no-copy-tokenizer"]
    return _durable(job, [program, str(recipe), str(job.output), *options])


def _script(name: str) -> Callable[[Job], Sequence[str]]:
    def command(job: Job) -> Sequence[str]:
        layers = ",".join(map(str, job.layers))
        return _durable(job, [sys.executable, "-m", f"benchmarks.{name}", str(job.source), str(job.output), layers])

    return command


def _durable(job: Job, words: Sequence[str]) -> Sequence[str]:
    output = shlex.quote(str(job.output))
    parent = shlex.quote(str(job.output.parent))
    return "sh", "-c", f"{shlex.join(words)} && sync {output}/* {output} {parent}"


def _imports(module: str) -> Callable[[], Sequence[str]]:
    return lambda: (sys.executable, "-c", f"import {module}")


CONTENDERS = (
    Contender("solar-upscale", _ours, _imports("solar_upscale.cli, solar_upscale.report, solar_upscale.upscale")),
    Contender("cp -r of the result", _cp, lambda: ("cp", "--version")),
    Contender("safetensors, a shard at a time", _script("by_safetensors"), _imports("torch, safetensors.torch")),
    Contender(
        "transformers: load, edit, save",
        _script("by_transformers"),
        _imports("torch, transformers.models.mistral.modeling_mistral"),
        slow=True,
    ),
    Contender(
        f"mergekit {_MERGEKIT} passthrough",
        _mergekit,
        lambda: (mergekit_python(), "-c", "import mergekit.scripts.run_yaml"),
        slow=True,
    ),
)
