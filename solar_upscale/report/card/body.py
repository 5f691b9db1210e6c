"""The card's text, in Markdown: what was done, how to load it, what to expect, and how to reproduce it.

Names and values come from files that are not trusted, so each is shown as code that it cannot break out of.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from solar_upscale._version import __version__
from solar_upscale.errors import printable
from solar_upscale.plan.layer_map.runs import factors_text, range_text, ranges_text, runs
from solar_upscale.plan.types import LAYER_NOT_USED, UpscalePlan
from solar_upscale.report.card.front_matter import hub_id
from solar_upscale.report.card.loading import load_snippet, reproduce_block
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
    """The whole text below the front matter. ``remarks`` are shown as they are."""
    sections = [
        f"# {_title(plan)}",
        _opening(plan),
        f"![Which source layer each layer comes from]({MAP_NAME})",
        _layers(plan),
        f"## Usage\n\n{load_snippet(plan)}",
        f"## What to expect\n\n{_expect(plan)}",
        f"## Initialisation\n\n{_start(plan)}",
        f"## Changes in config.json\n\n{_config(plan)}",
        _listed("Warnings", (_prose(warning) for warning in plan.warnings)),
        _listed("Dropped", _dropped(plan)),
        _listed("About the source's model card", remarks),
        f"## Reproducing it\n\n{reproduce_block(plan, hub_id(plan))}\n\nMade with solar-upscale {__version__}. "
        "`solar_upscale.json` records every layer; `solar-upscale verify` checks the files against it.",
        _citation(plan),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _title(plan: UpscalePlan) -> str:
    return f"{_prose(plan.source.name.rpartition('/')[2])} with {counted(plan.after.layers, 'layer')}"


def _opening(plan: UpscalePlan) -> str:
    before, after = plan.before, plan.after
    source = hub_id(plan)
    name = _link(source) if source else _code(plan.source.name)
    if plan.request.base_model is not None and source is None:
        name += f" (a local copy or derivative of {_link(plan.request.base_model)})"
    at = f" at revision {_code(plan.source.revision)}" if plan.source.revision is not None else ""
    dropped = plan.pattern.num_source_layers - len(frozenset(plan.pattern.sources))
    repeats = len(plan.pattern.repeats)
    changes = [f"{counted(repeats, 'layer')} repeated" if repeats else "", f"{dropped} dropped" if dropped else ""]
    summary = " and ".join(filter(None, changes)) or "no layers repeated or dropped"
    verb = "changed from" if before.layers != after.layers else "kept at"
    depth = f"{before.layers} to {after.layers}" if before.layers != after.layers else str(after.layers)
    return (
        f"This is {name}{at} with its depth {verb} {depth} layers: {summary}. Nothing was trained. It has "
        f"{short_count(after.parameters)} parameters; the source has {short_count(before.parameters)}. The change is "
        f"in {_code(plan.stack.name)}; all other tensors are the source's."
    )


def _link(model_id: str) -> str:
    return f"[{_prose(model_id)}](https://huggingface.co/{model_id})"


def _layers(plan: UpscalePlan) -> str:
    """The runs of the pattern as a table."""
    copies = plan.pattern.occurrences
    all_runs = runs(plan.pattern.sources, plan.factors)
    rows = ["| layers | source layers | of these, repeats | factor |", "| --- | --- | --- | --- |"]
    for run in all_runs[:MAX_ROWS]:
        again = sum(1 for target in run.targets if copies[target])
        each = f", each {run.times} times" if run.times > 1 else ""
        factor = factors_text(run.factors) or "x1"
        rows.append(f"| {range_text(run.targets)} | {range_text(run.sources)}{each} | {again or 'none'} | {factor} |")
    rest = len(all_runs) - MAX_ROWS
    more = f"\n\nand {counted(rest, 'more run')}; see `solar_upscale.json` for all layers." if rest > 0 else ""
    return "## Layers\n\n" + "\n".join(rows) + more


def _expect(plan: UpscalePlan) -> str:
    repeats = plan.pattern.repeats
    stack = f', stack="{_shown(plan.stack.name)}"' if plan.stack.role == "encoder" else ""  # the default is the decoder
    only_new = (
        "To train only the new layers, see `trainers` in `solar_upscale.json`: it lists their numbers (`layers`) and "
        "has settings for axolotl, ms-swift, PEFT and, where its options allow, LLaMA-Factory. In PyTorch, "
        f"`solar_upscale.freeze_originals(model, layers{stack})` takes those numbers and freezes everything else."
    )
    if repeats and is_identity(plan.pattern, plan.factors):
        return (
            "Every repeated layer starts by adding nothing to the residual stream, so this model gives the same "
            "answers as the source and costs more to run. It is meant to be trained further; until then the new "
            "layers do nothing.\n\n" + only_new
        )
    if plan.pattern.sources == tuple(range(plan.pattern.num_source_layers)):
        return "The layers are the source's, in the source's order; the section below says whether they were scaled."
    change = (
        "It repeats layers at positions that they were not trained for."
        if repeats
        else "Layers that the remaining ones were trained with are missing or have moved."
    )
    text = (
        f"**This model needs continued pretraining.** {change} Expect it to be worse than the source until it is "
        "trained further, and evaluate it before you use it."
    )
    return f"{text}\n\n{only_new}" if repeats else text


def _start(plan: UpscalePlan) -> str:
    if plan.request.entry_scales is not None:
        return STARTS["scale"].description
    start = parse_init(plan.request.init)
    return f"`--init {_shown(plan.request.init)}`: {STARTS[start.kind].description}"


def _config(plan: UpscalePlan) -> str:
    rows = ["| field | before | after | reason |", "| --- | --- | --- | --- |"]
    for change in plan.change.changes[:MAX_ROWS]:
        cells = (_code(change.path), _code(_value(change.before)), _code(_value(change.after)), _prose(change.reason))
        rows.append(f"| {' | '.join(cells)} |")
    rest = len(plan.change.changes) - MAX_ROWS
    more = f"\n\nand {rest} more; see `solar_upscale.json` for all of them." if rest > 0 else ""
    assumed = (
        "\n\nThe tool does not know this model type. It was assumed (`--assume-uniform`) that all layers are alike and "
        "only their number changes; the model's files are consistent with that."
        if plan.change.assumed_uniform
        else ""
    )
    return ("\n".join(rows) if plan.change.changes else "None.") + more + assumed


def _citation(plan: UpscalePlan) -> str:
    if plan.after.layers <= plan.before.layers:
        return ""
    if plan.request.init == "identity":
        return f"## Citation\n\nBlock expansion was introduced by LLaMA Pro (arXiv:2401.02415).\n\n{_LLAMA_PRO}"
    return f"## Citation\n\nDepth up-scaling was introduced by SOLAR (arXiv:2312.15166).\n\n{_SOLAR}"


def _listed(title: str, items: Iterable[str]) -> str:
    rows = [f"* {item}" for item in items]
    shown = rows[:MAX_ROWS]
    if len(rows) > MAX_ROWS:
        shown.append(f"* and {len(rows) - MAX_ROWS} more; see `solar_upscale.json`")
    return f"## {title}\n\n" + "\n".join(shown) if shown else ""


def _dropped(plan: UpscalePlan) -> Iterable[str]:
    """Layers by their numbers, other tensors one by one."""
    if plan.pattern.dropped:
        tensors = counted(sum(why == LAYER_NOT_USED for why in plan.dropped.values()), "tensor")
        yield f"{shortened(ranges_text(plan.pattern.dropped), MAX_VALUE)}: not in the pattern ({tensors})"
    others = ((name, why) for name, why in sorted(plan.dropped.items()) if why != LAYER_NOT_USED)
    yield from (f"{_code(name)}: {_prose(why)}" for name, why in others)


def _value(value: Any) -> str:
    return "absent" if value is None else repr(value) if isinstance(value, str) else str(value)


def _shown(text: str) -> str:
    """One printable line of bounded length that is safe between backticks and in a table cell."""
    text = printable(text).replace("`", "'").replace("|", "/")
    return shortened(text, MAX_VALUE)


def _code(text: str | None) -> str:
    return f"`{_shown(text or ' ')}`"


def _prose(text: str) -> str:
    """Text escaped so that Markdown and HTML show it literally."""
    return re.sub(r"([\\`*_\[\]<>|#&!~])", r"\\\1", printable(text))
