"""docs/models.md: one line for each model type, from the sweep's page and the package's own records."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from solar_upscale.architecture.record import ModelType, NoFactor
from solar_upscale.architecture.registry import all_types, find_type
from tests.support.processes import ROOT

__all__ = ["SWEEP_PAGE", "SweepRow", "models_page", "sweep_rows"]

SWEEP_PAGE = ROOT / "docs" / "architectures.md"

HEAD = """\
# Supported model types

Search this page for the `model_type` of your `config.json`. Written by `make docs` from the package's records and from
[the last sweep](architectures.md), which builds a tiny random model of each type, repeats, drops,
reverses and shifts its layers, loads the result with transformers and compares it with the same surgery in memory.

* **Layers**: *any* means that every order, repeat and drop that the sweep tried works. *some* means that config.json
  can express only some orders; others are refused while planning, and the message suggests the nearest pattern that
  works. *refused* means that no change of depth is possible. A star marks types that the sweep did not build by
  themselves: what is said of them follows from their record.
* **`--init`**: *all* means `identity`, `split` and `scale` too, wherever the weights are floating point. *copy* means
  `copy` alone.
* A vision or audio model follows its text model. Where its config may name any text model, look up that type too.

A type that is not here is refused, unless `--assume-uniform` is given and its files agree
([troubleshooting](troubleshooting.md#model-type)).

{counts}

| `model_type` | Layers | `--init` | What is refused, and why |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A row of the sweep's page: the type, its variant, the patterns that work, and each refusal's reason."""

    model_type: str
    variant: str
    outcome: str
    right: tuple[str, ...]
    refused: str


def sweep_rows() -> list[SweepRow]:
    """The rows of docs/architectures.md."""
    lines = re.findall(
        r"^\| (\w+) (\S+) ?(.*?) \| (.*?) \| (.*?) \| (.*?) \|$", SWEEP_PAGE.read_text("utf-8"), re.MULTILINE
    )
    return [
        SweepRow(name, variant, outcome, tuple(filter(None, right.split(", "))), refused.strip())
        for auto_class, name, variant, outcome, right, refused in lines
        if auto_class != "Auto"
    ]


def models_page() -> str:
    """The page as Markdown."""
    swept: dict[str, list[SweepRow]] = {}
    for row in sweep_rows():
        swept.setdefault(row.model_type, []).append(row)
    lines = {name: _line(name, record, swept.get(name, [])) for name, record in all_types().items()}
    lines |= {name: _unknown(name, rows) for name, rows in swept.items() if name not in lines}
    starred = sum("\\*" in line for line in lines.values())
    counts = f"{len(lines)} types; {len(lines) - starred} of them were swept."
    return HEAD.format(counts=counts) + "".join(lines[name] for name in sorted(lines))


def _line(name: str, record: ModelType, rows: list[SweepRow]) -> str:
    layers, reasons = _layers(record, rows)
    starts, start_reasons = _starts(record)
    if layers == "refused":
        starts, start_reasons = "", []
    return f"| `{name}` | {layers} | {starts} | {'; '.join([*reasons, *start_reasons])} |\n"


def _unknown(name: str, rows: list[SweepRow]) -> str:
    """A type that transformers can build and that has no record: why it is refused."""
    _, reasons = _layers(ModelType(name), rows)
    return f"| `{name}` | refused | | {'; '.join(reasons) or 'not known'} |\n"


def _layers(record: ModelType, rows: list[SweepRow]) -> tuple[str, list[str]]:
    """Which orders of layers work, and why others do not."""
    if record.refusal is not None:
        return "refused", [record.refusal]
    built = [row for row in rows if row.outcome != "not built"]
    reasons: dict[str, None] = {}
    for row in built:
        for reason in _reasons(row.refused):
            reasons[f"{row.variant}: {reason}" if row.variant else reason] = None
    plain = [row for row in built if not row.variant]
    if not built:
        reasons |= dict.fromkeys(_why_not_any(record))
        return ("some" if reasons else "any") + " \\*", list(reasons)
    if plain and not any(row.right for row in plain):
        return "refused", list(reasons)
    return ("some" if any(row.refused for row in plain) else "any"), list(reasons)


def _why_not_any(record: ModelType) -> Iterator[str]:
    """The constraints of the record's own attributes."""
    attributes = (*record.attributes, *(each for several in record.by_role.values() for each in several))
    return (attribute.constraint for attribute in attributes if attribute.constraint)


def _reasons(refused: str) -> Iterator[str]:
    """The reasons of a cell such as "shift, drop: why; reverse: why", each once."""
    labels = r"(?:encoder )?(?:shift|drop|reverse|repeat|front kept)(?:, lists left out)?"
    parts = re.split(rf"(?:^|; ){labels}(?:, {labels})*: ", refused)
    return (_plain(part) for part in parts if part)


def _plain(reason: str) -> str:
    if re.search(r"\(other, \d+ layers\)", reason):  # what is left of a refusal that lists the stacks
        return "no text decoder or encoder among its stacks"
    return reason.replace(" (not shown by a text)", "").removeprefix("the depth cannot be changed: ")


@cache
def _text_record(name: str) -> ModelType | None:
    """The record that describes the blocks: the type's own, or that of the text model inside it."""
    record = find_type(name)
    seen = {name}
    while (
        record is not None and record.block is None and not record.no_factor and record.text_type not in (None, *seen)
    ):
        seen.add(str(record.text_type))
        record = find_type(str(record.text_type))
    return record


def _starts(record: ModelType) -> tuple[str, list[str]]:
    """Which starts work, and why others do not."""
    found = _text_record(record.name)
    reasons = [f"`--init`: {_condition(each)}{each.reason}" for each in (found.no_factor if found else ())]
    if found is not None and found.block is not None:
        return "all", reasons
    if reasons:
        always = any(each.role is None and each.field is None for each in _no_factors(found))
        return ("copy" if always else "all"), reasons
    if record.composite and record.text_type is None:
        return "as its text model", []
    return "copy", ["`--init`: where its layers write into the residual stream is not known"]


def _no_factors(record: ModelType | None) -> Iterable[NoFactor]:
    return record.no_factor if record is not None else ()


def _condition(each: NoFactor) -> str:
    role = f"in the {each.role} " if each.role else ""
    field = f"where {each.field} is {str(each.value).lower()} " if each.field else ""
    return f"{role}{field}".strip() + ": " if role or field else ""
