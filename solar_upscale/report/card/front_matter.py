"""The card's metadata: what is inherited from the source's card, what the plan adds. The text is body.py."""

import re
from collections.abc import Mapping
from typing import Any

from solar_upscale.plan.types import UpscalePlan

__all__ = ["front_matter", "hub_id", "inherited"]

MAX_FRONT_NBYTES = 64 * 1024
MAX_DEPTH = 16
MAX_ITEMS = 100

_BLOCK = re.compile(rb"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_.-]{1,96})?", re.ASCII)
# A file of the repository or a page; a link that is anything else is not handed on.
_LINK = re.compile(r"https?://[^\s<>\"'`]{1,400}|[\w.-]{1,100}", re.ASCII)
_WORD = re.compile(r"[\w.+-]{1,80}", re.ASCII)
_FREE = re.compile(r"[^\x00-\x1f\x7f]{1,100}")

# The fields that stay true of the output, and what each of their values must look like.
_INHERITED: Mapping[str, re.Pattern[str]] = {
    "license": _WORD,
    "license_name": _FREE,
    "license_link": _LINK,
    "language": _WORD,
    "library_name": _WORD,
    "pipeline_tag": _WORD,
    "tags": _FREE,
}
_LISTS = ("language", "tags")
# YAML's words for nothing, which the plain loader hands on as they stand.
_NOTHING = ("", "~", "null", "Null", "NULL")


def inherited(readme: bytes | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the source's card hands on, and remarks on what it cannot: texts without any of the card's own words."""
    if readme is None:
        return {}, ("The source has no model card, so no licence, language or tags are inherited.",)
    block = _BLOCK.match(readme[: MAX_FRONT_NBYTES + 16].removeprefix(b"\xef\xbb\xbf"))
    if block is None:
        return {}, ("The source's model card has no front matter that could be read; nothing is inherited from it.",)
    found, problem = _parse(block[1])
    if problem:
        return {}, (f"The source's model card {problem}; nothing is inherited from it.",)
    fields: dict[str, Any] = {}
    remarks = []
    for name, pattern in _INHERITED.items():
        if name in found and found[name] not in _NOTHING:
            values = found[name] if isinstance(found[name], list) else [found[name]]
            good = [value for value in values if isinstance(value, str) and _fits(value, pattern)][:MAX_ITEMS]
            if len(good) < len(values) or (len(good) > 1 and name not in (*_LISTS, "license")):
                remarks.append(f"The source's model card has a {name} that could not be taken over as it is.")
            if good:
                fields[name] = good if isinstance(found[name], list) and name in (*_LISTS, "license") else good[0]
    return fields, tuple(remarks)


def _fits(value: str, pattern: re.Pattern[str]) -> bool:
    return value.isprintable() and value not in _NOTHING and pattern.fullmatch(value) is not None


def _parse(text: bytes) -> tuple[Mapping[str, Any], str | None]:
    """The front matter as strings, lists and mappings of strings; or what is wrong with it."""
    import yaml

    try:
        # utf-8 by name: handed bytes, the reader would take a byte order mark's word for another encoding.
        decoded = text.decode("utf-8")
        depth = 0
        for event in yaml.parse(decoded, Loader=yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                return {}, "uses YAML aliases"
            if depth > MAX_DEPTH:
                return {}, "nests its metadata too deep"
        # The base loader makes nothing but strings: "no" stays Norwegian, and no tag calls any code.
        found = yaml.load(decoded, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader is safer than SafeLoader
    except (yaml.YAMLError, ValueError):
        return {}, "has front matter that is not YAML"
    return (found, None) if isinstance(found, dict) else ({}, "has front matter that is no mapping")


def front_matter(plan: UpscalePlan, fields: Mapping[str, Any]) -> str:
    """The front matter as YAML: the inherited ``fields``, then what the plan makes true."""
    import yaml

    tags = fields.get("tags", [])
    tags = [tags] if isinstance(tags, str) else tags
    values = {
        **{name: fields[name] for name in ("license", "license_name", "license_link", "language") if name in fields},
        "library_name": fields.get("library_name", "transformers"),
        **({"pipeline_tag": fields["pipeline_tag"]} if "pipeline_tag" in fields else {}),
    }
    source = hub_id(plan)
    if source is not None:
        # The Hub knows finetune, adapter, quantized and merge. Nothing was trained, added or quantised: layers of an
        # existing model were put together anew, which is what it calls a merge.
        values |= {"base_model": [source], "base_model_relation": "merge"}
    values["tags"] = list(dict.fromkeys([*tags, *_own_tags(plan)]))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)


def _own_tags(plan: UpscalePlan) -> list[str]:
    deeper = plan.after.layers - plan.before.layers
    tags = ["depth-upscaling"] if deeper > 0 else ["layer-pruning"] if deeper < 0 else []
    if deeper > 0 and plan.request.init == "identity":
        tags.append("block-expansion")
    return [*tags, "solar-upscale"]


def hub_id(plan: UpscalePlan) -> str | None:
    """The source's id on the Hub; None if it was a folder."""
    return plan.source.name if plan.source.is_on_hub and _HUB_ID.fullmatch(plan.source.name) else None
