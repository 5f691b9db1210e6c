"""Fields absent from config.json: the records must derive the same per-layer lists as transformers' config classes."""

import itertools
import json
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

transformers = pytest.importorskip("transformers")

from transformers.models.auto.configuration_auto import (  # noqa: E402 (after the check above)
    CONFIG_MAPPING,
    CONFIG_MAPPING_NAMES,
)

from solar_upscale.architecture import generated  # noqa: E402
from solar_upscale.architecture.attribute import Attribute, View  # noqa: E402
from solar_upscale.architecture.config_names import TEXT_SECTIONS, count_names  # noqa: E402
from solar_upscale.architecture.encodings.common import Formula  # noqa: E402
from solar_upscale.architecture.encodings.lists import Indices, Pointers  # noqa: E402
from solar_upscale.architecture.record import NoFactor  # noqa: E402
from solar_upscale.architecture.registry import all_types  # noqa: E402
from tools import tables  # noqa: E402

# Realistic values of the fields from which config classes derive their lists; None means absent.
NUMBERS = (None, 1, 2, 3, 6)
VALUES: dict[str, tuple[Any, ...]] = {
    "use_sliding_window": (None, True, False),
    "use_dsa": (None, True, False),
    "sliding_window": (None, 64, "null"),
    "moe_layers_enum": (None, "1,3,4", [2, 5]),
    "rope_theta": (None, 5000.0),
}
DEPTHS = (7, 12)
TYPES = all_types()
WITH_ATTRIBUTES = [
    (name, role)
    for name, record in TYPES.items()
    if name in CONFIG_MAPPING_NAMES and not record.composite
    for role in record.by_role or (("decoder",) if record.attributes else ())
]
# Types whose config class requires the list, or supports one depth only; without the list the config is refused.
UNDERIVED = {"lfm2_moe": "layer_types", "nemotron_h": "layers_block_type", "zamba2": "layers_block_type"}


def settings(fields: list[str]) -> list[dict[str, Any]]:
    """Configs with every pair of values for every two of the fields, and with every switch on and off."""
    switches = [name for name in fields if name.startswith("use_")]
    found: list[dict[str, Any]] = []
    for switch in (None, True, False) if switches else (None,):
        for pair in itertools.combinations([*fields, "", ""], 2):
            for values in itertools.product(*(VALUES.get(name, NUMBERS) if name else (None,) for name in pair)):
                given = dict.fromkeys(switches, switch) | dict(zip(pair, values, strict=True))
                found.append({k: None if v == "null" else v for k, v in given.items() if v is not None})
    return [each for i, each in enumerate(found) if each not in found[:i]]


def as_vector(attribute: Attribute, listed: list[Any], depth: int) -> tuple[Any, ...] | None:
    """The values in transformers' list, in the form in which the attribute reads them; None if it is another list."""
    first = attribute.encodings[0]
    if isinstance(first, Indices):
        return tuple(first.inside if i + first.base in listed else first.outside for i in range(depth))
    if isinstance(first, Pointers):
        return tuple(None if owner == i else owner for i, owner in enumerate(listed))
    return tuple(listed) if len(listed) == depth else None


@pytest.mark.parametrize(
    "model_type", [name for name, _ in WITH_ATTRIBUTES if TYPES[name].attributes and name not in UNDERIVED]
)
def test_lists_that_config_leaves_out_are_those_that_transformers_derives(model_type: str) -> None:
    cls = CONFIG_MAPPING[model_type]
    annotated = {name for base in cls.__mro__ for name in getattr(base, "__annotations__", {})}
    attributes = [a for a in TYPES[model_type].attributes if not all(isinstance(e, Formula) for e in a.encodings)]
    read = [name for attribute in attributes for name in attribute.fields]
    fields = [name for name in dict.fromkeys(read) if "." not in name and (name in VALUES or is_number(cls, name))]
    fields += [name for name in ("sliding_window", "rope_theta") if name in annotated]
    count = count_names(model_type, "decoder")[0]
    for depth, given in itertools.product(DEPTHS, settings(fields)):
        config = {"model_type": model_type, count: depth, **given}
        theirs = accepted(cls, config)
        if theirs is None:
            continue
        for attribute in attributes:
            listed = getattr(theirs, attribute.name, None)
            vector = as_vector(attribute, listed, depth) if isinstance(listed, list | tuple) else None
            ours = attribute.read(View(config, config, depth), depth)
            differs = vector is not None and len(set(map(str, vector))) > 1
            # If all layers are alike, the package may derive nothing.
            if differs or (vector is not None and ours is not None):
                assert ours == vector, (attribute.name, config)


@pytest.mark.parametrize(("model_type", "role"), WITH_ATTRIBUTES)
def test_field_left_out_says_the_same_as_the_default_written_out(model_type: str, role: str) -> None:
    cls = CONFIG_MAPPING[model_type]
    for depth in DEPTHS:
        short = {"model_type": model_type, count_names(model_type, role)[0]: depth}
        theirs = accepted(cls, short)
        if theirs is None:
            continue
        full = json.loads(theirs.to_json_string(use_diff=False)) | short
        for attribute in TYPES[model_type].by_role.get(role, TYPES[model_type].attributes):
            ours = attribute.read(View(short, short, depth), depth)
            if ours is not None:
                assert ours == attribute.read(View(full, full, depth), depth), attribute.name


# Fields of remote code, with default 1, that the class in transformers does not have.
UNCOMPARED = {"deepseek_v2": {"moe_layer_freq"}, "deepseek_ocr2_text": {"first_k_dense_replace"}}


class RecordingView(View):
    """A view that records which fields fell back to the default of a formula."""

    defaults: ClassVar[set[str]] = set()

    def get(self, name: str, default: Any = None) -> Any:
        if default is not None and super().get(name) is None:
            self.defaults.add(name)
        return super().get(name, default)

    def updated(self, updates: Mapping[str, Any]) -> View:
        view = super().updated(updates)
        return RecordingView(view.section, view.root, view.num_layers)


@pytest.mark.parametrize(("model_type", "role"), WITH_ATTRIBUTES)
def test_every_default_that_a_formula_uses_is_compared_with_the_config_class(model_type: str, role: str) -> None:
    """Either through the list that the class derives or as a field of the class; the tests above compare both."""
    theirs = accepted(CONFIG_MAPPING[model_type], {})
    if theirs is None:
        pytest.skip("the class has no defaults")
    full = json.loads(theirs.to_json_string(use_diff=False))
    short = {"model_type": model_type, count_names(model_type, role)[0]: 12}
    for attribute in TYPES[model_type].by_role.get(role, TYPES[model_type].attributes):
        RecordingView.defaults.clear()
        attribute.read(RecordingView(short, short, 12), 12)
        if not isinstance(getattr(theirs, attribute.name, None), list):
            assert full.keys() >= RecordingView.defaults - UNCOMPARED.get(model_type, set()), attribute.name


@pytest.mark.parametrize("root", [name for name, record in TYPES.items() if record.composite and record.attributes])
def test_what_a_whole_model_adds_is_the_same_with_its_defaults_written_out(root: str) -> None:
    theirs = accepted(CONFIG_MAPPING[root], {})
    if theirs is None:
        pytest.skip("the class has no defaults")
    full = json.loads(theirs.to_json_string(use_diff=False))
    section: dict[str, Any] = {"num_hidden_layers": 12}
    for attribute in TYPES[root].attributes:
        ours = attribute.read(View(section, {"model_type": root}, 12), 12)
        assert ours == attribute.read(View(section, full, 12), 12)


@pytest.mark.parametrize(
    ("model_type", "refusal"),
    [(name, refusal) for name, record in TYPES.items() for refusal in record.no_factor if refusal.field],
)
def test_a_config_without_the_field_of_a_refusal_has_the_other_value(model_type: str, refusal: NoFactor) -> None:
    assert refusal.field
    assert getattr(accepted(CONFIG_MAPPING[model_type], {}), refusal.field) is not refusal.value


def test_the_generated_tables_are_those_of_the_installed_transformers() -> None:
    assert transformers.__version__ == generated.TRANSFORMERS
    assert tables.formatted(tables.rendered()) == tables.TARGET.read_text("utf-8"), "run `make tables`"


def accepted(cls: Any, config: dict[str, Any]) -> Any:
    """The config as transformers reads it; None if it is rejected, because then no checkpoint can contain it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(**{name: value for name, value in config.items() if name != "model_type"})
    except Exception:  # what transformers cannot build has no defaults to compare
        return None


def is_number(cls: Any, name: str) -> bool:
    value = getattr(cls, name, None)
    return isinstance(value, int) or name.endswith(("_pattern", "_interval", "_layers", "_replace", "_freq", "_size"))


@pytest.mark.parametrize(("model_type", "name"), UNDERIVED.items())
def test_missing_list_without_a_substitute_is_refused(model_type: str, name: str) -> None:
    attribute = next(attribute for attribute in TYPES[model_type].attributes if attribute.name == name)
    config = {"model_type": model_type, "num_hidden_layers": 12}
    assert attribute.read(View(config, config, 12), 12) is None


@pytest.mark.parametrize("root", sorted(generated.TEXT_TYPES))
def test_section_without_a_type_gets_the_type_transformers_assumes(root: str) -> None:
    loaded = accepted(CONFIG_MAPPING[root], {})
    for path in TEXT_SECTIONS:
        section = loaded
        for key in path:
            section = getattr(section, key, None)
        if section is not None and not isinstance(section, dict) and section.model_type not in generated.TEXT_TYPES:
            assert generated.TEXT_TYPES[root] == section.model_type
            return
    pytest.skip("no text model inside, or none by default")
