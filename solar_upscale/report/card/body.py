"""The card's text, in Markdown: what was done, how to load it, how to make it again, what to expect of it.

Names and reasons come from files that are not trusted, so each stands in code quotes that it cannot leave.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from solar_upscale._version import __version__
from solar_upscale.errors import printable
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.report.card.front_matter import hub_id
from solar_upscale.report.card.loading import load_snippet, reproduce_block
from solar_upscale.report.layer_map.runs import runs
from solar_upscale.report.layer_map.terminal import factor_text, range_text
from solar_upscale.start.factors import is_identity
from solar_upscale.start.init import STARTS, parse_init
from solar_upscale.text import counted, short_count, shortened

__all__ = ["MAP_NAME", "card_body"]

MAP_NAME = "layer_map.svg"
MAX_ROWS = 40
MAX_VALUE = 120

_SOLAR = """```bibtex
@article{kim2023solar,
  title   = {SOLAR 10.7B: Scaling Large Language Models with Simple yet Effective Depth Up-Scaling},
  author  = {Kim, Dahyun and others},
  journal = {arXiv preprint arXiv:2312.15166},
  year    = {2023}
}
```"""
_LLAMA_PRO = """```bibtex
@article{wu2024llamapro,
  title   = {LLaMA Pro: Progressive LLaMA with Block Expansion},
  author  = {Wu, Chengyue and others},
  journal = {arXiv preprint arXiv:2401.02415},
  year    = {2024}
}
```"""


def card_body(plan: UpscalePlan, remarks: Sequence[str]) -> str:
    """The whole text below the front matter. ``remarks`` are told as they are."""
    sections = [
        f"# {_title(plan)}",
        _opening(plan),
        f"![Which source layer each layer comes from]({MAP_NAME})",
        _layers(plan),
        f"## Loading it\n\n{load_snippet(plan)}",
        f"## What to expect\n\n{_expect(plan)}",
        f"## How the layers start\n\n{_start(plan)}",
        f"## Changes in config.json\n\n{_config(plan)}",
        _listed("Warnings", (_prose(warning) for warning in plan.warnings)),
        _listed("Tensors left out", (f"{_code(name)}: {_prose(why)}" for name, why in sorted(plan.dropped.items()))),
        _listed("About the source's card", remarks),
        f"## Making it again\n\n{reproduce_block(plan, hub_id(plan))}\n\nMade with solar-upscale {__version__}; "
        "`solar_upscale.json` tells of every layer, and `solar-upscale verify` proves the files against it.",
        _citation(plan),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _title(plan: UpscalePlan) -> str:
    return f"{_prose(plan.source.name.rpartition('/')[2])} with {counted(plan.after.layers, 'layer')}"


def _opening(plan: UpscalePlan) -> str:
    before, after = plan.before, plan.after
    source = hub_id(plan)
    name = f"[{_prose(source)}](https://huggingface.co/{source})" if source else _code(plan.source.name)
    at = f" at revision {_code(plan.source.revision)}" if plan.source.revision is not None else ""
    dropped = plan.pattern.num_source_layers - len(frozenset(plan.pattern.sources))
    repeats = len(plan.pattern.repeats)
    done = [f"{counted(repeats, 'layer')} repeated" if repeats else "", f"{dropped} dropped" if dropped else ""]
    how = " and ".join(filter(None, done)) or ("no layer repeated or dropped")
    verb = "changed from" if before.layers != after.layers else "kept at"
    depth = f"{before.layers} to {after.layers}" if before.layers != after.layers else str(after.layers)
    return (
        f"This is {name}{at} with its depth {verb} {depth} layers: {how}. Nothing was trained. Parameters went from "
        f"{short_count(before.parameters)} to {short_count(after.parameters)}. The layers are those of "
        f"{_code(plan.stack.name)}; all other tensors are the source's."
    )


def _layers(plan: UpscalePlan) -> str:
    """The runs of the pattern as a table; repeats are named by their own target layers."""
    copies = plan.pattern.occurrences
    all_runs = runs(plan.pattern.sources)
    rows = ["| layers | source layers | repeats among them | factor |", "| --- | --- | --- | --- |"]
    for run in all_runs[:MAX_ROWS]:
        targets = range(run.target, run.target_stop)
        again = sum(1 for target in targets if copies[target])
        factors = sorted({plan.factors[target] for target in targets}) if plan.factors else [1.0]
        each = f", each {run.times} times" if run.times > 1 else ""
        factor = ", ".join(map(factor_text, factors[:4])) + (", ..." if len(factors) > 4 else "")
        source = range_text(range(run.source, run.source_stop))
        rows.append(f"| {range_text(targets)} | {source}{each} | {again or 'none'} | {factor} |")
    rest = len(all_runs) - MAX_ROWS
    more = f"\n\nand {counted(rest, 'more run')}, all of them in `solar_upscale.json`." if rest > 0 else ""
    return "## Layers\n\n" + "\n".join(rows) + more


def _expect(plan: UpscalePlan) -> str:
    repeats = plan.pattern.repeats
    stack = f', stack="{_shown(plan.stack.name)}"' if plan.stack.role == "encoder" else ""  # else the decoder is meant
    only_new = (
        "To train only the new layers: `solar_upscale.json` holds their numbers (`trainers.layers`), and settings for "
        "axolotl, ms-swift, PEFT and, where its options can say it, LLaMA-Factory; in PyTorch, "
        f"`solar_upscale.freeze_originals(model, layers{stack})`, given those numbers, freezes all else."
    )
    if repeats and is_identity(plan.pattern, plan.factors):
        return (
            "Every repeated layer starts by adding nothing, so as it is this model answers as the source does, and "
            "costs more to run. It is meant to be trained further: until then the new layers do no work.\n\n" + only_new
        )
    if plan.pattern.sources == tuple(range(plan.pattern.num_source_layers)):
        return "The layers are the source's in the source's order; how they were scaled, if they were, is told below."
    change = (
        "It repeats layers in places that they were not trained for."
        if repeats
        else "Layers that the others were trained with are gone or stand elsewhere."
    )
    text = (
        f"**This model wants continued pretraining.** {change} Expect it to be worse than the source until it is "
        "trained further; measure it before you use it."
    )
    return f"{text}\n\n{only_new}" if repeats else text


def _start(plan: UpscalePlan) -> str:
    if plan.request.entry_scales is not None:
        return STARTS["scale"].description
    start = parse_init(plan.request.init)
    return f"`--init {_shown(plan.request.init)}`: {STARTS[start.kind].description}"


def _config(plan: UpscalePlan) -> str:
    rows = ["| field | before | after | why |", "| --- | --- | --- | --- |"]
    for change in plan.change.changes[:MAX_ROWS]:
        cells = (_code(change.path), _code(_value(change.before)), _code(_value(change.after)), _prose(change.reason))
        rows.append(f"| {' | '.join(cells)} |")
    rest = len(plan.change.changes) - MAX_ROWS
    more = f"\n\nand {rest} more, all of them in `solar_upscale.json`." if rest > 0 else ""
    assumed = (
        "\n\nThe model's type is not one that the tool knows. That its layers are alike and only counted was assumed "
        "(`--assume-uniform`), and agrees with its files."
        if plan.change.assumed_uniform
        else ""
    )
    return ("\n".join(rows) if plan.change.changes else "None.") + more + assumed


def _citation(plan: UpscalePlan) -> str:
    if plan.after.layers <= plan.before.layers:
        return ""
    if plan.request.init == "identity":
        return f"## Citation\n\nBlock expansion is the method of LLaMA Pro (arXiv:2401.02415).\n\n{_LLAMA_PRO}"
    return f"## Citation\n\nDepth up-scaling is the method of SOLAR (arXiv:2312.15166).\n\n{_SOLAR}"


def _listed(title: str, items: Iterable[str]) -> str:
    every = list(items)
    shown = [f"* {item}" for item in every[:MAX_ROWS]]
    if len(every) > MAX_ROWS:
        shown.append(f"* and {len(every) - MAX_ROWS} more, in `solar_upscale.json`")
    return f"## {title}\n\n" + "\n".join(shown) if shown else ""


def _value(value: Any) -> str:
    return "absent" if value is None else repr(value) if isinstance(value, str) else str(value)


def _shown(text: str) -> str:
    """One printable line of bounded length that can stand between backticks and in a table."""
    text = printable(text).replace("`", "'").replace("|", "/")
    return shortened(text, MAX_VALUE)


def _code(text: str | None) -> str:
    return f"`{_shown(text or ' ')}`"


def _prose(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return re.sub(r"([\\`*_\[\]<>|#&!~])", r"\\\1", printable(text))
