"""The ways to do the same work, each as a command. All but ours are followed by a sync of all that they wrote."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.venvs import MERGEKIT, python_with

__all__ = ["CONTENDERS", "Contender", "Job"]

_OURS = (sys.executable, "-m", "solar_upscale")


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
    program = str(Path(python_with(MERGEKIT)).with_name("mergekit-yaml"))
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
    Contender("solar-upscale", _ours, _imports("solar_upscale.cli, solar_upscale.plan.report, solar_upscale.upscale")),
    Contender("cp -r of the result", _cp, lambda: ("cp", "--version")),
    Contender("safetensors, a shard at a time", _script("by_safetensors"), _imports("torch, safetensors.torch")),
    Contender(
        "transformers: load, edit, save",
        _script("by_transformers"),
        _imports("torch, transformers.models.mistral.modeling_mistral"),
        slow=True,
    ),
    Contender(
        f"{MERGEKIT.replace('==', ' ')} passthrough",
        _mergekit,
        lambda: (python_with(MERGEKIT), "-c", "import mergekit.scripts.run_yaml"),
        slow=True,
    ),
)
