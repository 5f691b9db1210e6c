"""Code that loads a model and the command that reproduces it. Every value is quoted for its language."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from solar_upscale.errors import printable
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.request import UpscaleRequest

__all__ = ["load_snippet", "named", "reproduce_block"]

# The auto class for an architecture, by the end of its name. The first match wins.
AUTO_CLASSES = (
    ("ForCausalLM", "AutoModelForCausalLM"),
    ("LMHeadModel", "AutoModelForCausalLM"),
    ("ForMaskedLM", "AutoModelForMaskedLM"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification"),
    ("ForTokenClassification", "AutoModelForTokenClassification"),
    ("ForQuestionAnswering", "AutoModelForQuestionAnswering"),
    ("ForImageClassification", "AutoModelForImageClassification"),
    ("ForSpeechSeq2Seq", "AutoModelForSpeechSeq2Seq"),
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
# The stack of nearly every decoder, and the default of every model that has it.
DEFAULT_STACK = "model.layers"

_NAME_LINE = 'name = "path/to/this/folder"'


def load_snippet(plan: UpscalePlan) -> str:
    """Python code that loads the model, and its tokenizer or processor if one is copied."""
    config = plan.change.config
    model_class = _auto_class(config)
    names = {file.name for file in plan.copied_files}
    companion = "AutoProcessor" if names.intersection(PROCESSOR_FILES) else None
    companion = companion or ("AutoTokenizer" if names.intersection(TOKENIZER_FILES) else None)
    classes = ", ".join(filter(None, (model_class, companion)))
    remote = ", trust_remote_code=True" if _has_code(config) else ""
    lines = [f"from transformers import {classes}", "", _NAME_LINE]
    lines.append(f'model = {model_class}.from_pretrained(name, dtype="auto"{remote})')
    if companion:
        variable = "processor" if companion == "AutoProcessor" else "tokenizer"
        lines.append(f"{variable} = {companion}.from_pretrained(name{remote})")
    note = (
        "\n\nThe model's code is in this repository (`*.py`, as in the source); `trust_remote_code=True` runs it."
        if remote
        else ""
    )
    return "```python\n" + "\n".join(lines) + "\n```" + note


def named(card: bytes, repo_id: str) -> bytes:
    """The card to publish: its code loads the model by its Hub id instead of from a folder."""
    return card.replace(f"\n{_NAME_LINE}\n".encode(), f"\nname = {json.dumps(repo_id)}\n".encode(), 1)


def _has_code(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("auto_map"), Mapping) and bool(config["auto_map"])


def _auto_class(config: Mapping[str, Any]) -> str:
    if _has_code(config):
        classes = [
            key for key in config["auto_map"] if isinstance(key, str) and key.startswith("AutoModel") and key.isalnum()
        ]
        for preferred in ("AutoModelForCausalLM", *sorted(classes)):
            if preferred in classes:
                return preferred
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    if name.endswith("ForConditionalGeneration"):
        if "vision_config" in config:
            return "AutoModelForImageTextToText"
        return "AutoModelForSpeechSeq2Seq" if "num_mel_bins" in config else "AutoModelForSeq2SeqLM"
    return next((auto for ending, auto in AUTO_CLASSES if name.endswith(ending)), "AutoModel")


def reproduce_block(plan: UpscalePlan, hub_id: str | None) -> str:
    """The command that reproduces these bytes, with a recipe where the options alone cannot express the request.

    ``hub_id`` is the source's; None for a folder, whose path is not disclosed.
    """
    request = plan.request
    source = hub_id or f"./{plan.source.name}"
    words = ["solar-upscale"]
    if request.entry_scales is not None:
        words += ["out/", "--config", "recipe.yaml"]
    else:
        words += [source, "out/", "--layers", *request.entries]
        words += [] if request.init == "copy" else ["--init", request.init]
    words += ["--revision", plan.source.revision] if plan.source.is_on_hub and plan.source.revision else []
    words += [] if plan.stack.name == DEFAULT_STACK else ["--stack", plan.stack.name]
    words += [] if request.max_shard_nbytes is None else ["--max-shard-size", str(request.max_shard_nbytes)]
    words += ["--drop-mtp"] if request.drop_mtp else []
    words += [] if request.base_model is None else ["--base-model", request.base_model]
    words += ["--assume-uniform"] if request.assume_uniform else []
    command = _fenced("sh", " ".join(map(_shell_word, words)))
    if request.entry_scales is None:
        return command
    return f"With this as `recipe.yaml`:\n\n{_fenced('yaml', _recipe(request, source))}\n\n{command}"


def _recipe(request: UpscaleRequest, source: str) -> str:
    import yaml

    entries = [
        entry if scale is None else {"layers": entry, "scale": scale}
        for entry, scale in zip(request.entries, request.entry_scales or (), strict=True)
    ]
    recipe = {"source": source, "layers": entries}
    if request.init != "copy":
        recipe["init"] = request.init
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=False, width=1000).rstrip("\n")


def _shell_word(word: str) -> str:
    return printable(shlex.quote(word))


def _fenced(language: str, text: str) -> str:
    """A fenced block whose fence is longer than any run of backticks inside it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
