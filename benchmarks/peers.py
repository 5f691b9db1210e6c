"""``make peers``: the same small jobs given to this program, mergekit and FusionBench; each answer is checked.

A job is right when transformers loads the output with no tensor missing or left over, and its logits, with and without
the cache, are those of a model whose config was written by hand and whose weights were moved by name. Prints a table,
and writes it into README.md between two marks.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from benchmarks.marked import write_marked
from benchmarks.venvs import FUSION_BENCH, MERGEKIT, python_with

PROJECT = Path(__file__).resolve().parent.parent
DEPTH = 8
SOLAR = ("range(0,6)", "range(2,8)")

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # strong enough that the order of layers shows in the logits
    "tie_word_embeddings": False,
}
_KINDS = ["full_attention", "sliding_attention"]


@dataclass(frozen=True, slots=True)
class Family:
    """``config`` is written by hand for the source layers that a model consists of, in order."""

    name: str
    prefix: str
    config: Callable[[Sequence[int]], Mapping[str, Any]]


FAMILIES = (
    Family(
        "Mistral", "model.layers.", lambda layers: {**_SIZES, "model_type": "mistral", "num_hidden_layers": len(layers)}
    ),
    Family(
        "Qwen3, a window in every other layer",
        "model.layers.",
        lambda layers: {
            **_SIZES,
            "model_type": "qwen3",
            "num_hidden_layers": len(layers),
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": [_KINDS[layer % 2] for layer in layers],
        },
    ),
    Family(
        "SmolLM3, no RoPE in every fourth layer",
        "model.layers.",
        lambda layers: {
            **_SIZES,
            "model_type": "smollm3",
            "num_hidden_layers": len(layers),
            "pad_token_id": 0,
            "layer_types": ["full_attention"] * len(layers),
            "no_rope_layers": [int((layer + 1) % 4 != 0) for layer in layers],
        },
    ),
    Family(
        "Mixtral",
        "model.layers.",
        lambda layers: {
            **_SIZES,
            "model_type": "mixtral",
            "num_hidden_layers": len(layers),
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    Family(
        "GPT-2",
        "transformer.h.",
        lambda layers: {
            "model_type": "gpt2",
            "n_layer": len(layers),
            "n_embd": 64,
            "n_head": 4,
            "n_positions": 64,
            "vocab_size": 128,
            "initializer_range": 0.3,
        },
    ),
)


# ---------------------------------------------------------------- the tools

Entry = str | int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a command."""

    code: int
    said: str


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    upscale: Callable[[Path, Path, Sequence[Entry]], Run]


def _ours(source: Path, output: Path, entries: Sequence[Entry]) -> Run:
    return _run([sys.executable, "-m", "solar_upscale", str(source), str(output), "--layers", *map(str, entries)])


def _mergekit(source: Path, output: Path, entries: Sequence[Entry]) -> Run:
    slices = []
    for entry in entries:
        bounds = re.fullmatch(r"range\((\d+),(\d+)\)", str(entry))
        if bounds is None:
            return Run(2, "its files have no word for this")
        slices.append({"sources": [{"model": str(source), "layer_range": [int(bounds[1]), int(bounds[2])]}]})
    recipe = output.with_suffix(".yml")
    recipe.write_text(json.dumps({"merge_method": "passthrough", "slices": slices}))
    program = Path(python_with(MERGEKIT)).with_name("mergekit-yaml")
    return _run([str(program), str(recipe), str(output)])


def _fusion_bench(source: Path, output: Path, entries: Sequence[Entry]) -> Run:
    script = Path(__file__).with_name("by_fusion_bench.py")
    return _run([python_with(FUSION_BENCH), str(script), str(source), str(output), json.dumps(list(entries))])


TOOLS = (
    Tool("solar-upscale", _ours),
    Tool(MERGEKIT.replace("==", " "), _mergekit),
    Tool(FUSION_BENCH.replace("==", " "), _fusion_bench),
)


def _run(command: Sequence[str]) -> Run:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    return Run(done.returncode, done.stderr + done.stdout)


# ---------------------------------------------------------------- the questions


def family_row(family: Family) -> Callable[[Tool, Path], str]:
    """Does the family come out right at SOLAR's proportions, 12 layers from 8?"""

    def answer(tool: Tool, folder: Path) -> str:
        source, output = folder / "source", folder / "out"
        make_source(family, source)
        done = tool.upscale(source, output, SOLAR)
        if done.code:
            wrote = any(output.glob("*.safetensors"))
            return f"fails{' after the weights were written' if wrote else ''}: {_last_line(done.said)}"
        return judge(family, source, output, [*range(6), *range(2, 8)])

    return answer


def judge(family: Family, source: Path, output: Path, layers: Sequence[int]) -> str:
    """Load the output and compare it with the model that it should be."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32, output_loading_info=True)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        return f"does not load: {_last_line(str(error))}"
    ran = model.config.num_hidden_layers
    if ran != len(layers):
        return f"wrong: {ran} of its {len(layers)} layers run"
    if info["missing_keys"] or info["unexpected_keys"]:
        return "wrong: tensors are missing or left over"
    oracle = expected_model(family, source, layers)
    ids = torch.arange(3, 27).reshape(2, 12)
    with torch.no_grad():
        wanted = oracle(ids).logits
        if not torch.equal(model(ids).logits, wanted):
            return "wrong: other logits"
        if not torch.allclose(_step_by_step(model, ids), wanted, atol=1e-3, rtol=1e-3):
            return "wrong with the cache"
    return "right"


def _step_by_step(model: Any, ids: torch.Tensor) -> torch.Tensor:
    cache, logits = None, []
    for position in range(ids.shape[1]):
        step = model(ids[:, position : position + 1], past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        logits.append(step.logits)
    return torch.cat(logits, dim=1)


def cache_row(tool: Tool, folder: Path) -> str:
    """Does a model that was changed in memory compute with the cache what it computes without?"""
    if tool.upscale is _mergekit:
        return "has no such call"
    source = folder / "source"
    make_source(FAMILIES[0], source)
    python = sys.executable if tool.upscale is _ours else python_with(FUSION_BENCH)
    call = {
        _ours: "import solar_upscale; model = solar_upscale.upscale_model(model, layers)",
        _fusion_bench: "from fusion_bench.method.depth_upscaling import DepthUpscalingAlgorithm as D; "
        "model.model.layers = D(layer_indices=layers).run(model.model.layers)",
    }[tool.upscale]
    script = (
        "import torch; from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(source)!r}, dtype=torch.float32); layers = {list(SOLAR)}\n"
        f"{call}\n"
        "ids = torch.arange(3, 27).reshape(2, 12); calls = []\n"
        "for layer in model.model.layers: layer.register_forward_hook(lambda *_: calls.append(1))\n"
        "with torch.no_grad():\n"
        "    whole = model(ids, use_cache=False).logits; ran = len(calls); cache, steps = None, []\n"
        "    for i in range(12):\n"
        "        step = model(ids[:, i : i + 1], past_key_values=cache, use_cache=True); cache = step.past_key_values\n"
        "        steps.append(step.logits)\n"
        "agrees = torch.allclose(torch.cat(steps, 1), whole, atol=1e-3, rtol=1e-3)\n"
        "print(ran, len(model.model.layers), agrees)\n"
    )
    done = _run([python, "-c", script])
    if done.code:
        return f"fails: {_last_line(done.said)}"
    ran, held, agrees = done.said.split()[-3:]
    return f"{ran} of {held} layers run; with the cache {'the same' if agrees == 'True' else 'other'} logits"


def scales_row(tool: Tool, folder: Path) -> str:
    """Do the scales of FP8 weights follow their layers?"""
    source, output = folder / "source", folder / "out"
    make_source(FAMILIES[0], source)
    tensors = load_file(source / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        tensors[name] = tensors[name].to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = torch.rand(1, 1)
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}
    (source / "config.json").write_text(json.dumps(config))
    done = tool.upscale(source, output, SOLAR)
    if done.code:
        return f"fails: {_last_line(done.said)}"
    wanted = sum(name.endswith("_scale_inv") for name in tensors) * 12 // DEPTH
    written = dict(_tensors(output))
    found = sum(name.endswith("_scale_inv") for name in written)
    if found == wanted:
        return f"right: {found} of {wanted} scales"
    name = "model.layers.0.self_attn.q_proj.weight"
    values = tensors[name].float() * tensors[f"{name}_scale_inv"]
    dequantised = found == 0 and torch.allclose(written[name].float(), values, rtol=0.01)
    return "right, but no longer FP8" if dequantised else f"wrong: {found} of {wanted} scales"


def reversed_row(tool: Tool, folder: Path) -> str:
    """What becomes of a range that is empty since its ends are exchanged?"""
    source, output = folder / "source", folder / "out"
    make_source(FAMILIES[0], source)
    done = tool.upscale(source, output, ["range(6,2)"])
    if done.code:
        return "refused" if not output.exists() else "fails, and leaves a folder"
    config = json.loads((output / "config.json").read_text())
    return f"exit code 0, a model that says {config['num_hidden_layers']} layers"


def code_row(tool: Tool, folder: Path) -> str:
    """Does code in a layer index run?"""
    source, output, trace = folder / "source", folder / "out", folder / "trace"
    make_source(FAMILIES[0], source)
    done = tool.upscale(source, output, [f"[__import__('pathlib').Path({str(trace)!r}).touch() or 0]"])
    if trace.exists():
        return "runs"
    return "refused" if done.code else "ignored"


def occupied_row(tool: Tool, folder: Path) -> str:
    """What becomes of a folder that holds another model?"""
    source, output = folder / "source", folder / "out"
    make_source(FAMILIES[0], source)
    output.mkdir()
    (output / "model-00007-of-00007.safetensors").write_bytes(b"another model's")
    (output / "config.json").write_text("{}")
    done = tool.upscale(source, output, SOLAR)
    if (output / "config.json").read_text() == "{}":
        return "refused" if done.code else "left alone"
    stale = (output / "model-00007-of-00007.safetensors").exists()
    return f"written over{', the other model’s shard beside the new' if stale else ''}"


def along_row(tool: Tool, folder: Path) -> str:
    """Which of the files beside the weights are copied?"""
    source, output = folder / "source", folder / "out"
    make_source(FAMILIES[0], source)
    beside = {
        "LICENSE": "terms\n",
        "modeling_own.py": "pass\n",
        "chat_template.jinja": "{{ messages }}\n",
        "preprocessor_config.json": "{}\n",
    }
    for name, text in beside.items():
        (source / name).write_text(text)
    done = tool.upscale(source, output, SOLAR)
    came = [name for name in beside if (output / name).exists()]
    if done.code:
        return f"fails: {_last_line(done.said)}"
    return f"{len(came)} of {len(beside)}" + (f": {', '.join(came)}" if 0 < len(came) < len(beside) else "")


ROWS: Mapping[str, Callable[[Tool, Path], str]] = {
    **{family.name: family_row(family) for family in FAMILIES},
    "Mistral, in memory": cache_row,
    "FP8 weights with scales": scales_row,
    "`range(6,2)`, an empty range": reversed_row,
    "code in a layer index": code_row,
    "OUT holds another model": occupied_row,
    "licence, code, chat template, processor": along_row,
}


# ---------------------------------------------------------------- sources and the truth


def make_source(family: Family, folder: Path) -> None:
    """A random model of the family in a folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_config(family, range(DEPTH)))
    model.save_pretrained(folder)


def expected_model(family: Family, source: Path, layers: Sequence[int]) -> Any:
    """The model that the surgery should give: a config by hand, weights moved by name."""
    model = AutoModelForCausalLM.from_config(_config(family, layers))
    old = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).state_dict()
    pattern = re.compile(re.escape(family.prefix) + r"(\d+)\.(.*)")
    new = {}
    for name in model.state_dict():
        found = pattern.match(name)
        new[name] = old[f"{family.prefix}{layers[int(found[1])]}.{found[2]}" if found else name]
    model.load_state_dict(new)
    return model.eval()


def _config(family: Family, layers: Sequence[int]) -> Any:
    fields = dict(family.config(layers))
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in folder.glob("*.safetensors"):
        yield from load_file(path).items()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"/\S*/", "", lines[-1] if lines else "")[:90]


# ---------------------------------------------------------------- the table


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def table(rows: Mapping[str, Sequence[str]]) -> str:
    lines = [f"| | {' | '.join(tool.name for tool in TOOLS)} |", f"|{' --- |' * (1 + len(TOOLS))}"]
    return "\n".join([*lines, *(f"| {what} | {' | '.join(answers)} |" for what, answers in rows.items())]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="see benchmarks/peers.py")
    parser.add_argument("--no-page", dest="page", action="store_false", help="print only")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    rows: dict[str, list[str]] = {}
    for what, ask in ROWS.items():
        rows[what] = []
        for tool in TOOLS:
            with _scratch() as folder:
                rows[what].append(ask(tool, folder).replace("|", "/"))
            print(f"{what}: {tool.name}: {rows[what][-1]}", file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    if options.page:
        write_marked(PROJECT / "README.md", "peers", text)


if __name__ == "__main__":
    main()
