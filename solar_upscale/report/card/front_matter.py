"""The card's metadata: fields inherited from the source's card, and fields from the plan. The text is in body.py."""

import re
from collections.abc import Mapping
from typing import Any

from solar_upscale.plan.types import UpscalePlan
from solar_upscale.request import MODEL_ID

__all__ = ["front_matter", "hub_id", "inherited"]

MAX_FRONT_NBYTES = 64 * 1024
MAX_DEPTH = 16
MAX_ITEMS = 100

_BLOCK = re.compile(rb"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# A file in the repository or a web page; any other link is not inherited.
_LINK = re.compile(r"https?://[^\s<>\"'`]{1,400}|[\w.-]{1,100}", re.ASCII)
_WORD = re.compile(r"[\w.+-]{1,80}", re.ASCII)
_FREE = re.compile(r"[^\x00-\x1f\x7f]{1,100}")

# The fields that stay true of the output, and the pattern that each value must match.
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
# YAML's spellings of null, which the base loader returns as strings.
_NULLS = ("", "~", "null", "Null", "NULL")


def inherited(readme: bytes | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields inherited from the source's card, and remarks on those that cannot be, which never quote the card."""
    if readme is None:
        return {}, ("The source has no model card, so no licence, language or tags are inherited.",)
    block = _BLOCK.match(readme[: MAX_FRONT_NBYTES + 16].removeprefix(b"\xef\xbb\xbf"))
    if block is None:
        return {}, ("The source's model card has no readable front matter; nothing is inherited from it.",)
    found, problem = _parse(block[1])
    if problem:
        return {}, (f"The source's model card {problem}; nothing is inherited from it.",)
    fields: dict[str, Any] = {}
    remarks = []
    for name, pattern in _INHERITED.items():
        if name in found and found[name] not in _NULLS:
            values = found[name] if isinstance(found[name], list) else [found[name]]
            valid = [value for value in values if isinstance(value, str) and _is_valid(value, pattern)][:MAX_ITEMS]
            if len(valid) < len(values) or (len(valid) > 1 and name not in (*_LISTS, "license")):
                remarks.append(f"The source's model card has a {name} that could not be inherited as it is.")
            if valid:
                fields[name] = valid if isinstance(found[name], list) and name in (*_LISTS, "license") else valid[0]
    return fields, tuple(remarks)


def _is_valid(value: str, pattern: re.Pattern[str]) -> bool:
    return value.isprintable() and value not in _NULLS and pattern.fullmatch(value) is not None


def _parse(text: bytes) -> tuple[Mapping[str, Any], str | None]:
    """The front matter as strings, lists and mappings of strings; and what is wrong with it, if anything."""
    import yaml

    try:
        # Decoded here: given bytes, YAML would let a byte order mark choose another encoding.
        decoded = text.decode("utf-8")
        depth = 0
        for event in yaml.parse(decoded, Loader=yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                return {}, "uses YAML aliases"
            if depth > MAX_DEPTH:
                return {}, "nests its metadata too deeply"
        # The base loader makes only strings: "no" stays Norwegian, and no tag runs any code.
        found = yaml.load(decoded, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader is safer than SafeLoader
    except (yaml.YAMLError, ValueError):
        return {}, "has front matter that is not YAML"
    return (found, None) if isinstance(found, dict) else ({}, "has front matter that is not a mapping")


def front_matter(plan: UpscalePlan, fields: Mapping[str, Any]) -> str:
    """The front matter as YAML: the inherited ``fields``, then those that follow from the plan."""
    import yaml

    tags = fields.get("tags", [])
    tags = [tags] if isinstance(tags, str) else tags
    values = {
        **{name: fields[name] for name in ("license", "license_name", "license_link", "language") if name in fields},
        "library_name": fields.get("library_name", "transformers"),
        **({"pipeline_tag": fields["pipeline_tag"]} if "pipeline_tag" in fields else {}),
    }
    base_model = hub_id(plan) or plan.request.base_model
    if base_model is not None:
        # The Hub knows finetune, adapter, quantized and merge. Nothing was trained, added or quantised: an existing
        # model's layers were rearranged, and merge is the closest of the four.
        values |= {"base_model": [base_model], "base_model_relation": "merge"}
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
    return plan.source.name if plan.source.is_on_hub and MODEL_ID.fullmatch(plan.source.name) else None
