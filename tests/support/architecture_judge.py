"""Apply a pattern to a tiny model, load the result with transformers, and compare it with in-memory surgery."""

import copy
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from solar_upscale import upscale_checkpoint, verify_checkpoint
from solar_upscale.architecture import DepthChange, GatherRule, Stack, name_splitter
from solar_upscale.errors import UnsupportedError
from tests.support import tiny_models
from tests.support.architecture_surgery import INDEX_LISTS, Built, load, logits_of, module_lists, operate
from tests.support.tiny_models import Pair

__all__ = ["NEEDS_CONFIG", "NOT_BUILT", "REFUSED", "RIGHT", "UNSHOWN", "WRONG", "Outcome", "judge"]


# Text input cannot show that the refusal is needed: image features, models that need more than text.
UNSHOWN = "not shown by a text"
# In-memory surgery gives the same logits only with the written config on the modules around the blocks.
NEEDS_CONFIG = "told by the config"
RIGHT, REFUSED, NOT_BUILT, WRONG = "right", "refused", "not built", "WRONG"


@dataclass
class Outcome:
    """The result of one pattern on one stack of one model."""

    pair: Pair
    stack: str
    pattern: str
    verdict: str
    reason: str = ""
    proof: str = ""


def judge(built: Built, stack: Stack, label: str, sources: list[int], folder: Path | None = None) -> Outcome:
    """Change the depth with the package, load the result, and compare; ``folder`` may contain another config."""

    def outcome(verdict: str, reason: str = "") -> Outcome:
        return Outcome(built.pair, stack.role, label, verdict, reason)

    target = built.folder.parent / "target"
    try:
        upscale_checkpoint(folder or built.folder, target, sources, stack=stack.name)
        verify_checkpoint(target, folder or built.folder)
        model, info = load(type(built.model), target)
        return outcome(*compare(built, stack, sources, model, info))
    except UnsupportedError as error:
        proof = proof_of_refusal(built, stack, sources, str(error))
        if proof is None:
            return outcome(WRONG, f"refused, but without us it is right: {error}")
        return Outcome(built.pair, stack.role, label, REFUSED, str(error), proof)
    except Exception as error:  # transformers may fail in any way on a config; the sweep reports it
        return outcome(WRONG, f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        shutil.rmtree(target, ignore_errors=True)


def compare(  # noqa: PLR0911 (one return for each way to differ)
    built: Built, stack: Stack, sources: list[int], model: Any, info: dict[str, Any]
) -> tuple[str, str]:
    for kind, keys in info.items():
        new = [key for key in keys if _unnumbered(key) not in {_unnumbered(k) for k in built.baseline.get(kind, [])}]
        if new:
            return WRONG, f"{kind}: {new[:3]}"
    weights = weights_differ(built, stack, sources, model)
    if weights:
        return WRONG, weights
    if built.logits is None:
        return RIGHT, "weights only: it needs more than text"
    got = logits_of(model)
    if got is None:
        return WRONG, "the loaded model fails on a text that the source answers"
    worst = float("inf")
    for renumber, around in ((False, None), (True, None), (False, model.config)):
        reference = operate(built, stack, sources, renumber=renumber, around=around)
        expected = None if reference is None else logits_of(reference)
        if expected is None or expected.shape != got.shape:
            continue
        difference = (expected - got).abs().max().item()
        worst = min(worst, difference)
        if difference <= 1e-5 * max(1.0, expected.abs().max().item()):
            same_as_source = got.shape == built.logits.shape and torch.allclose(got, built.logits, atol=1e-6)
            if same_as_source:
                return RIGHT, "weights only: the order of layers does not show in the logits"
            return RIGHT, NEEDS_CONFIG if around is not None else ""
    if worst == float("inf"):
        return RIGHT, "weights only: surgery in memory does not run"
    return WRONG, f"logits differ by {worst:.3g}"


def weights_differ(built: Built, stack: Stack, sources: list[int], model: Any) -> str | None:
    """The first tensor of a block that differs from the source model's, None if all are equal."""
    names = module_lists(built.model, stack)
    old, new = built.model.state_dict(), model.state_dict()
    split = name_splitter(tuple(names)) if names else None
    if split is None:
        return None
    for name, tensor in new.items():
        found = split(name)
        if found:
            source = f"{found[0]}.{sources[found[1]]}{found[2]}"
            if source not in old:
                return f"{name}: the source has no {source}"
            if old[source].shape != tensor.shape or not torch.equal(old[source], tensor):
                return f"{name}: is not {source}"
    return None


def proof_of_refusal(built: Built, stack: Stack, sources: list[int], error: str) -> str | None:
    """What goes wrong if the refusal is bypassed naively; None if nothing does.

    Naively means: rename tensors, set the counts, permute every list and the slices of per-layer embeddings.
    """
    config = copy.deepcopy(built.config)
    section = config
    for key in stack.config_path:
        section = section[key]
    for key, value in list(section.items()):
        if isinstance(value, list) and len(value) == stack.num_layers and key not in INDEX_LISTS:
            section[key] = [value[s] for s in sources]
        elif value == stack.num_layers and key in (*tiny_models.COUNTS, *tiny_models.ENCODER_COUNTS):
            section[key] = len(sources)
    slices = {
        name: GatherRule(axis, stack.num_layers, tuple(sources))
        for ending, axis in (("embed_tokens_per_layer.weight", 1), ("per_layer_model_projection.weight", 0))
        for name in built.tensors
        if name.endswith(ending)
    }
    target = built.folder.parent / "naive"
    write(built.folder, target, DepthChange(config, (), dict.fromkeys(stack.prefixes, tuple(sources)), slices))
    try:
        model, info = load(type(built.model), target)
    except Exception:  # whatever transformers raises, the model does not load
        return "does not load"
    finally:
        shutil.rmtree(target, ignore_errors=True)
    verdict, reason = compare(built, stack, sources, model, info)
    if verdict == WRONG:
        return "loads with other weights" if "keys" in reason else "answers differently"
    if reason.startswith("weights only") or "deepstack_visual_indexes" in error:
        return UNSHOWN
    return None


def _unnumbered(key: str) -> str:
    return re.sub(r"\.\d+\.", ".N.", key)


def write(source: Path, target: Path, change: DepthChange) -> None:
    """Write the checkpoint that a DepthChange describes by renaming tensors, as if it were not refused."""
    target.mkdir()
    split = name_splitter(tuple(change.numbering))
    places = {
        prefix: {s: [j for j, x in enumerate(numbering) if x == s] for s in set(numbering)}
        for prefix, numbering in change.numbering.items()
    }
    tensors = {}
    for path in sorted(source.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (the file is no dict)
                if name in change.dropped:
                    continue
                tensor = file.get_tensor(name)
                if name in change.gathers:
                    rule = change.gathers[name]
                    slices = tensor.chunk(rule.source_slices, rule.axis)
                    tensor = torch.cat([slices[s] for s in rule.sources], rule.axis)
                found = split(name)
                if found is None:
                    tensors[name] = tensor.contiguous()
                    continue
                for j in places[found[0]].get(found[1], ()):
                    tensors[f"{found[0]}.{j}{found[2]}"] = tensor.clone()
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_text(json.dumps(change.config))
    for path in source.glob("*.json"):
        if path.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copy(path, target)
