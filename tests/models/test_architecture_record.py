"""A model type is added by one record in a family file, shown with invented types."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from solar_upscale.architecture import Stack, families, registry
from solar_upscale.architecture.registry import find_type
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo
from solar_upscale.start.residual import residual_writers
from tests.support.architecture_names import changed, names, solar

Write = Callable[[str], None]

PLAIN = """
from solar_upscale.architecture.record import ModelType

TYPES = (ModelType("frobnicator"),)
"""
PER_LAYER = """
from solar_upscale.architecture.universal_attributes import per_layer_list
from solar_upscale.architecture.record import ModelType

TYPES = (ModelType("frobnicator", (per_layer_list("head_counts"),), harmless=("register_blocks",)),)
"""
OWN_BLOCK = """
from solar_upscale.architecture.record import Block, ModelType, named

FROBNICATOR = ModelType("frobnicator", block=Block(("mixer.back", "mlp.back")), readers=("forth",))
TYPES = (FROBNICATOR, *named(FROBNICATOR, "frobnicator2 frobnicator3"))
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Add a file to families/, and remove it afterwards."""
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    caches = (registry.find_type, registry._family)

    def forget() -> None:
        for cache in caches:
            cache.cache_clear()
        for name in ("frobnicators", "others"):
            sys.modules.pop(f"{families.__name__}.{name}", None)
        importlib.invalidate_caches()

    def put(text: str, name: str = "frobnicators") -> None:
        (tmp_path / f"{name}.py").write_text(text)
        forget()

    yield put
    forget()


def config(**fields: Any) -> dict[str, Any]:
    return {"model_type": "frobnicator", "num_hidden_layers": 8, "hidden_size": 8, **fields}


def test_without_a_record_the_invented_type_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="frobnicator"):
        changed(config(), names(8), solar(8))


def test_plain_model_type_is_a_record_with_a_name(write: Write) -> None:
    write(PLAIN)
    change = changed(config(), names(8), solar(8))
    assert change.config == config(num_hidden_layers=12)
    assert not change.assumed_uniform


def test_per_layer_list_is_an_attribute_of_the_record(write: Write) -> None:
    write(PER_LAYER)
    given = config(head_counts=[4, 4, 8, 8, 4, 4, 8, 8], register_blocks=4)
    change = changed(given, names(8), [0, 1, 2, 2, 7])
    assert change.config == {**given, "num_hidden_layers": 5, "head_counts": [4, 4, 8, 8, 8]}


def test_field_that_one_type_calls_harmless_is_refused_in_another(write: Write) -> None:
    write(PER_LAYER)
    with pytest.raises(UnsupportedError, match="register_blocks: is 4"):
        changed({"model_type": "llama", "num_hidden_layers": 8, "register_blocks": 4}, names(8), solar(8))


@pytest.mark.parametrize("model_type", ["frobnicator", "frobnicator3"])
def test_residual_block_is_part_of_the_record(write: Write, model_type: str) -> None:
    write(OWN_BLOCK)
    parts = ("mixer.forth", "mixer.back", "mlp.forth", "mlp.back")
    found = residual_writers(config(model_type=model_type), tensors(parts), Stack("main", ("model.layers",), 8), [3])
    assert set(found[3]) == {"model.layers.3.mixer.back.weight", "model.layers.3.mlp.back.weight"}
    with pytest.raises(UnsupportedError, match=r"sideways\.weight: may write into the residual stream"):
        residual_writers(
            config(model_type=model_type), tensors((*parts, "sideways")), Stack("main", ("model.layers",), 8), [3]
        )


def test_composite_around_it_is_a_record_too(write: Write) -> None:
    text = PLAIN.replace("TYPES = (", 'TYPES = (ModelType("frobvision", composite=True, text_type="frobnicator"), ')
    write(text)
    given = {"model_type": "frobvision", "text_config": {"num_hidden_layers": 8}, "vision_config": {"depth": 3}}
    change = changed(given, names(8), solar(8))
    assert change.config == {**given, "text_config": {"num_hidden_layers": 12}}


def test_record_takes_precedence_over_generated_tables(write: Write) -> None:
    write(PLAIN.replace('"frobnicator"', '"canine", refusal="it is a dog; take a cat"'))
    known = find_type("canine")
    assert known is not None
    assert known.refusal == "it is a dog; take a cat"


def test_two_records_of_one_type_are_refused_by_name(write: Write) -> None:
    write(PLAIN)
    write(PLAIN, "others")
    with pytest.raises(ValueError, match=r"others\.py: frobnicator already has a record"):
        registry.hand_written()


def tensors(parts: tuple[str, ...]) -> Mapping[str, TensorInfo]:
    found = [f"model.layers.{i}.{part}.weight" for i in range(8) for part in parts]
    return {name: TensorInfo(name, "BF16", (8, 8), (0, 0)) for name in found}


def test_every_refusal_of_a_record_says_what_to_do() -> None:
    for record in registry.hand_written().values():
        for reason in filter(None, (record.refusal, record.required_buffer and record.required_buffer[1])):
            assert ";" in reason, record.name
