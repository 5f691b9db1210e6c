"""The fields that publishers write, at their values and depths: none is unknown, and each layer keeps its own kind.

What the new config says is read by transformers' own config classes, which know nothing of the tables.
"""

import warnings
from typing import Any

import pytest

from solar_upscale.architecture import DepthChange, change_depth, choose_stack, find_stacks
from solar_upscale.errors import UnsupportedError
from solar_upscale.pattern import LayerPattern
from tests.support.published_configs import PUBLISHED, depth, solar, tensor_names

# Lists of other things that happen to have as many entries as there are layers.
OTHERS = ("moe_layers", "suppress_tokens")
# Types whose patterns must contain each hybrid layer once, in order.
REFUSED = ("Zamba2-1.2B",)


def changed(config: dict[str, Any], sources: list[int]) -> DepthChange:
    names = tensor_names(config)
    stack = choose_stack(find_stacks(names, config), None)
    return change_depth(config, names, stack, LayerPattern(tuple(sources), stack.num_layers))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in REFUSED])
def test_published_config_can_be_deepened(name: str) -> None:
    config = PUBLISHED[name]
    change = changed(config, solar(config))
    assert depth(dict(change.config)) == len(solar(config))
    assert not change.assumed_uniform


@pytest.mark.parametrize("name", REFUSED)
def test_published_config_that_cannot_express_the_change_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="in order"):
        changed(PUBLISHED[name], solar(PUBLISHED[name]))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in REFUSED])
def test_every_list_that_transformers_derives_follows_the_pattern(name: str) -> None:
    pytest.importorskip("transformers")
    config = PUBLISHED[name]
    sources = solar(config)
    old, new = lists(config, depth(config)), lists(dict(changed(config, sources).config), len(sources))
    for key, value in old.items():
        assert new[key] == [value[source] for source in sources], key


def lists(config: dict[str, Any], num_layers: int) -> dict[str, list[Any]]:
    """Every per-layer list that the text model's config contains or derives."""
    from transformers import AutoConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from transformers
        loaded = AutoConfig.for_model(**config).get_text_config(decoder=True)
    found = {}
    for key in ("layers_block_type", "layer_types", "attention_layers", "layers_block_types", *vars(loaded)):
        value = getattr(loaded, key, None)
        if isinstance(value, list | tuple) and len(value) == num_layers and key not in OTHERS:
            found[key.removeprefix("_")] = list(value)
    return found
