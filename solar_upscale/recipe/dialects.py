"""The three dialects: interprets the keys of a document. No key is ignored: what is not supported is refused."""

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import NoReturn

from solar_upscale.errors import OutputError, PatternError
from solar_upscale.recipe.document import Node
from solar_upscale.recipe.types import Published, Recipe
from solar_upscale.request import UpscaleRequest, parse_nbytes

__all__ = ["read_recipe"]

_FUSION_BENCH_TARGETS = (
    "DepthUpscalingAlgorithm",
    "fusion_bench.method.DepthUpscalingAlgorithm",
    "fusion_bench.method.depth_upscaling.DepthUpscalingAlgorithm",
    "fusion_bench.method.depth_upscaling.depth_upscaling.DepthUpscalingAlgorithm",
)
_MERGEKIT_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
_SCALED = ("o_proj", "down_proj")

# Why a key of mergekit's other merge methods is not supported.
_MERGEKIT_REASONS = {
    "modules": "only one model with one stack of layers is supported; write slices",
    "tokenizer_source": "mergekit would rebuild the tokenizer and resize the embedding, while here both are copied "
    "unchanged; remove the key to keep the model's own",
    "tokenizer": "the tokenizer and embeddings are never changed here; remove the key to keep the model's own",
    "chat_template": "the model's own chat template is copied unchanged; remove the key to keep it",
    "residual_weight": "there is no second model to take a residual from; remove the key",
}


def read_recipe(document: Node, name: str) -> Recipe:
    """Read the recipe in a document, in the dialect of its keys.

    Raises:
        PatternError: a key is unknown, missing, of the wrong type, or asks for something that is not supported.
    """
    fields = _mapping(document, "the file")
    for keys, read in _DIALECTS:
        if any(key in fields for key in keys):
            return read(document, fields, name)
    if not fields:
        _refuse(document, "the mapping is empty; expected layers, layer_indices or slices")
    return _read_own(document, fields, name)


# --- our own -----------------------------------------------------------------------------------------------------


def _read_own(document: Node, fields: Mapping[str, Node], name: str) -> Recipe:
    known = ("source", "revision", "layers", "init", "stack", "max_shard_size", "published")
    _check_keys(fields, known)
    if "layers" not in fields:
        _refuse(document, "no layers; expected layers (or FusionBench's layer_indices, or mergekit's slices)")
    source, revision = _optional_text(fields, "source"), _optional_text(fields, "revision")
    if revision is not None and source is None:
        _refuse(fields["revision"], "revision without source; name the source too")
    entries = _entries(fields["layers"], "layers")
    layers, scales = zip(*(_own_entry(entry, f"layers[{i}]") for i, entry in enumerate(entries)), strict=True)
    return Recipe(
        name=name,
        dialect="solar-upscale",
        request=UpscaleRequest(
            layers,
            init=_optional_text(fields, "init") or "copy",
            entry_scales=scales,
            stack=_optional_text(fields, "stack"),
            max_shard_nbytes=_size(fields),
        ),
        source=source,
        revision=revision,
        published=_published(fields["published"]) if "published" in fields else None,
    )


def _own_entry(node: Node, what: str) -> tuple[int | str, float | None]:
    if not isinstance(node.value, dict):
        return _entry(node, what), None
    _check_keys(node.value, ("layers", "scale"))
    if "layers" not in node.value:
        _refuse(node, f"{what} has no layers; expected {{layers: ..., scale: ...}}")
    scale = _number(node.value["scale"], f"{what} scale") if "scale" in node.value else None
    return _entry(node.value["layers"], f"{what} layers"), scale


def _size(fields: Mapping[str, Node]) -> int | None:
    node = fields.get("max_shard_size")
    if node is None:
        return None
    if not isinstance(node.value, str) or not node.value:
        return _count(node, 'max_shard_size is {}; expected a size such as "5GB", or bytes')
    try:
        return parse_nbytes(node.value)
    except OutputError as error:
        raise PatternError(f"{node.where}: {error}") from error


def _published(node: Node) -> Published:
    fields = _mapping(node, "published")
    counts = ("source_layers", "target_layers", "source_parameters", "target_parameters")
    _check_keys(fields, (*counts, "reference", "note"))
    numbers = {key: _count(fields[key], f"{key} is {{}}; expected a whole number") for key in counts if key in fields}
    return Published(**numbers, reference=_optional_text(fields, "reference"), note=_optional_text(fields, "note"))


# --- FusionBench -------------------------------------------------------------------------------------------------


def _read_fusion_bench(document: Node, fields: Mapping[str, Node], name: str) -> Recipe:
    _check_keys(fields, ("_target_", "layer_indices"))
    target = fields.get("_target_")
    if target is not None and target.value not in _FUSION_BENCH_TARGETS:
        _refuse(target, f"_target_ is {target}; only FusionBench's DepthUpscalingAlgorithm is supported")
    indices = fields.get("layer_indices")
    if indices is None or indices.value is None:
        _refuse(indices or document, 'layer_indices is not filled in; write for example ["range(0,24)", "range(8,32)"]')
    layers = tuple(_entry(entry, f"layer_indices[{i}]") for i, entry in enumerate(_entries(indices, "layer_indices")))
    return Recipe(name, "FusionBench", UpscaleRequest(layers))


# --- mergekit passthrough ----------------------------------------------------------------------------------------
# Source: mergekit 0.1.5, config.py (evaluate_setting, ConfigReader.parameter_sources), plan.py (plan_slice).


def _read_mergekit(document: Node, fields: Mapping[str, Node], name: str) -> Recipe:
    _check_mergekit_keys(fields, ("merge_method", "slices", "models", "base_model", "dtype", "out_dtype", "parameters"))
    method = fields.get("merge_method")
    if method is None or method.value != "passthrough":
        _refuse(
            method or document,
            f"merge_method is {method or 'missing'}; only passthrough is supported, since the others blend tensors",
        )
    if ("slices" in fields) == ("models" in fields):
        _refuse(document, "expected either slices or models, and not both")
    read = _mergekit_slices if "slices" in fields else _mergekit_models
    layers, scales, models = read(fields)
    source, revision = _one_model([*models, *_present(fields, "base_model")])
    return Recipe(
        name=name,
        dialect="mergekit",
        request=UpscaleRequest(
            layers,
            entry_scales=scales,
            expected_dtype=_mergekit_dtype(fields),
            scale_filters=_SCALED if any(scale is not None for scale in scales) else (),
        ),
        source=source,
        revision=revision,
    )


_Slices = tuple[tuple[int | str, ...], tuple[float | None, ...], list[Node]]


def _mergekit_slices(fields: Mapping[str, Node]) -> _Slices:
    layers: list[str] = []
    scales: list[float | None] = []
    models: list[Node] = []
    for i, node in enumerate(_items(fields["slices"], "slices")):
        part = _mapping(node, f"slices[{i}]")
        _check_mergekit_keys(part, ("sources", "base_model", "parameters"))
        if "sources" not in part:
            _refuse(node, f"slices[{i}] has no sources; expected sources: [{{model: ..., layer_range: [a, b]}}]")
        sources = _items(part["sources"], f"slices[{i}].sources")
        if len(sources) != 1:
            _refuse(part["sources"], f"slices[{i}] has {len(sources)} sources; passthrough takes one")
        source = _mapping(sources[0], f"slices[{i}].sources[0]")
        _check_mergekit_keys(source, ("model", "layer_range", "parameters"))
        for key in ("model", "layer_range"):
            if key not in source:
                _refuse(sources[0], f"slices[{i}].sources[0] has no {key}")
        start, stop = _layer_range(source["layer_range"], f"slices[{i}]")
        layers.append(f"range({start},{stop})")
        scales.append(_mergekit_scale([source, part, fields]))
        models += [source["model"], *_present(part, "base_model")]
    return tuple(layers), tuple(scales), models


def _mergekit_models(fields: Mapping[str, Node]) -> _Slices:
    """The form without slices: every layer of the model once."""
    models: list[Node] = []
    for i, node in enumerate(_items(fields["models"], "models")):
        model = _mapping(node, f"models[{i}]")
        if "layer_range" in model:
            _refuse(model["layer_range"], "layer_range under models is ignored by mergekit itself; write slices")
        _check_mergekit_keys(model, ("model", "parameters"))
        if "model" not in model:
            _refuse(node, f"models[{i}] has no model")
        models.append(model["model"])
    source, _ = _one_model(models)
    if len(models) > 1:
        _refuse(fields["models"], f"models names {source} {len(models)} times; passthrough takes one model")
    first = _mapping(_items(fields["models"], "models")[0], "models[0]")
    return ("range(n)",), (_mergekit_scale([first, fields]),), models


def _layer_range(node: Node, what: str) -> tuple[int, int]:
    """A half-open range; mergekit fails late on negative, empty and reversed ones, or writes a model without layers."""
    bounds = [bound.value for bound in node.value] if isinstance(node.value, list) else []
    if len(bounds) != 2 or not all(type(bound) is int for bound in bounds):
        _refuse(node, f"{what} layer_range is not two whole numbers; expected [first layer, layer after the last]")
    start, stop = (bound for bound in bounds if isinstance(bound, int))
    if start < 0 or stop < 0:
        _refuse(node, f"{what} layer_range [{start}, {stop}] is negative; mergekit counts from the first layer only")
    if start >= stop:
        _refuse(node, f"{what} layer_range [{start}, {stop}] is empty; the end is not included")
    return start, stop


def _one_model(nodes: list[Node]) -> tuple[str, str | None]:
    """The name and revision of the model, which must be the same in all nodes."""
    named = {_model(node): node for node in nodes}
    if len(named) > 1:
        names = ", ".join([str(node) for node in named.values()][:4]) + (", ..." if len(named) > 4 else "")
        _refuse(
            list(named.values())[1], f"layers of {len(named)} models ({names}) are mixed; only one model is supported"
        )
    return next(iter(named))


def _model(node: Node) -> tuple[str, str | None]:
    if not isinstance(node.value, str) or not node.value:
        _refuse(node, f"model is {node}; expected a repo id or folder as text, optionally with @revision")
    if "+" in node.value:
        _refuse(node, f"model {node} adds a LoRA; merge the adapter into the model first, then name the result")
    model, _, revision = node.value.partition("@")
    if not model or "@" in revision or node.value.endswith("@"):
        _refuse(node, f"model {node} is not NAME or NAME@REVISION")
    return model, revision or None


def _mergekit_dtype(fields: Mapping[str, Node]) -> str | None:
    nodes = [*_present(fields, "dtype"), *_present(fields, "out_dtype")]
    dtypes = []
    for node in nodes:
        name = node.value.removeprefix("torch.") if isinstance(node.value, str) else None
        if name not in _MERGEKIT_DTYPES:
            _refuse(node, f"dtype is {node}; expected one of {', '.join(_MERGEKIT_DTYPES)}")
        dtypes.append(_MERGEKIT_DTYPES[name])
    if len(set(dtypes)) > 1:
        _refuse(
            nodes[1],
            f"dtype {nodes[0]} and out_dtype {nodes[1]} differ; tensors are never converted here, so keep only the "
            "source's dtype",
        )
    return dtypes[0] if dtypes else None


def _mergekit_scale(scopes: list[Mapping[str, Node]]) -> float | None:
    """The factor that ``parameters: scale:`` gives both o_proj and down_proj of a slice, None if it is 1.

    ``scopes`` are the mappings that may hold parameters, in order of precedence. Three tensors represent all: one for
    each filter, and one that no filter matches, which must not be scaled.
    """
    settings: list[Node] = []
    for scope in scopes:
        if "parameters" in scope:
            parameters = _mapping(scope["parameters"], "parameters")
            _check_keys(parameters, ("scale",), "passthrough has the parameter")
            settings += _present(parameters, "scale")
    o_proj, down_proj, rest = (_factor(settings, tensor) for tensor in (*_SCALED, ""))
    if rest != 1.0:
        _refuse(settings[0], f"scale {rest} on all tensors; only o_proj and down_proj can be scaled, with filters")
    if o_proj != down_proj:
        _refuse(settings[0], f"scale {o_proj} on o_proj and {down_proj} on down_proj; both must have the same factor")
    return None if o_proj == 1.0 else o_proj


def _factor(settings: list[Node], tensor: str) -> float:
    """mergekit's precedence: the first scope that has a value for the tensor, and in it the first matching filter."""
    matching = [value for setting in settings for filter_, value in _conditions(setting) if filter_ in (None, tensor)]
    return matching[0] if matching else 1.0


def _conditions(setting: Node) -> Iterable[tuple[str | None, float]]:
    """Each (filter, value) of a scale setting; the filter is None if the value applies to every tensor."""
    conditions = setting.value if isinstance(setting.value, list) else [setting]
    if not conditions:
        _refuse(setting, "scale is an empty list; expected a number or filters")
    result: list[tuple[str | None, float]] = []
    for condition in conditions:
        if not isinstance(condition.value, dict):
            if isinstance(setting.value, list):
                _refuse(setting, "scale is a gradient over the layers; write one slice for each factor")
            result.append((None, _number(condition, "scale")))
            continue
        _check_keys(condition.value, ("filter", "value"))
        name = condition.value["filter"].value if "filter" in condition.value else None
        if name not in (None, "*", *_SCALED):
            _refuse(
                condition.value["filter"],
                f"scale filter {condition.value['filter']}; only o_proj and down_proj, which write into the residual "
                "stream, can be scaled",
            )
        if "value" not in condition.value:
            _refuse(condition, "scale filter without a value")
        if isinstance(condition.value["value"].value, list):
            _refuse(condition.value["value"], "scale is a gradient over the layers; write one slice for each factor")
        result.append((name if name in _SCALED else None, _number(condition.value["value"], "scale value")))
    return result


def _check_mergekit_keys(fields: Mapping[str, Node], known: tuple[str, ...]) -> None:
    for key, reason in _MERGEKIT_REASONS.items():
        if key in fields and fields[key].value is not None:
            _refuse(fields[key], f"{key}: {reason}")
    _check_keys({key: node for key, node in fields.items() if key not in _MERGEKIT_REASONS}, known)


def _present(fields: Mapping[str, Node], key: str) -> list[Node]:
    """The field as a list of at most one node; mergekit treats null as absent."""
    return [fields[key]] if key in fields and fields[key].value is not None else []


_DIALECTS: tuple[tuple[tuple[str, ...], Callable[[Node, Mapping[str, Node], str], Recipe]], ...] = (
    (("_target_", "layer_indices"), _read_fusion_bench),
    (("merge_method", "slices", "models", "modules"), _read_mergekit),
)


# --- values, in all dialects -------------------------------------------------------------------------------------


def _refuse(node: Node, message: str) -> NoReturn:
    raise PatternError(f"{node.where}: {message}")


def _check_keys(fields: Mapping[str, Node], known: tuple[str, ...], expected: str = "expected") -> None:
    for key, node in fields.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            _refuse(node, f'unknown key "{key[:80]}"; {expected} {", ".join(known)}{hint}')


def _mapping(node: Node, what: str) -> Mapping[str, Node]:
    if not isinstance(node.value, dict):
        _refuse(node, f"{what} is {node}; expected a mapping of keys to values")
    return node.value


def _items(node: Node, what: str) -> list[Node]:
    if not isinstance(node.value, list) or not node.value:
        _refuse(node, f"{what} is {node if node.value else 'empty'}; expected a list")
    return node.value


def _entries(node: Node, what: str) -> list[Node]:
    """A list of entries; a single one need not be in a list."""
    if node.value is None or node.value == []:
        _refuse(node, f'{what} is empty; write for example ["range(0,24)", "range(8,32)"]')
    return node.value if isinstance(node.value, list) else [node]


def _entry(node: Node, what: str) -> int | str:
    if isinstance(node.value, bool) or not isinstance(node.value, (int, str)):
        _refuse(node, f'{what} is {node}; expected a whole number or a text such as "range(0,24)"')
    if isinstance(node.value, str) and node.value.count("(") != node.value.count(")"):
        _refuse(
            node,
            f"{what} is {node}, which leaves a bracket open; YAML splits at commas inside [...]: quote it",
        )
    return node.value


def _optional_text(fields: Mapping[str, Node], key: str) -> str | None:
    node = fields.get(key)
    if node is None:
        return None
    if not isinstance(node.value, str) or not node.value.strip():
        quotes = (
            "" if isinstance(node.value, (str, dict, list, type(None))) else f'; to use it as text, quote it: "{node}"'
        )
        _refuse(node, f"{key} is {node}; expected text{quotes}")
    return node.value


def _number(node: Node, what: str) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        _refuse(node, f"{what} is {node}; expected a finite number")
    try:
        number = float(node.value)
    except OverflowError:  # an integer beyond the range of a float
        number = math.inf
    if not math.isfinite(number):
        _refuse(node, f"{what} is {node}; expected a finite number")
    return number


def _count(node: Node, message: str) -> int:
    if isinstance(node.value, bool) or not isinstance(node.value, int) or node.value <= 0:
        _refuse(node, message.format(node))
    return node.value
