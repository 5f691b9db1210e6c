"""The records without any model: which stacks are found, and that each layer keeps its own values."""

import subprocess
import sys
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.architecture import (
    Stack,
    change_depth,
    choose_stack,
    depth_fields,
    find_stacks,
    generated,
    name_splitter,
    registry,
)
from solar_upscale.errors import UnsupportedError
from solar_upscale.pattern import LayerPattern
from tests.support.architecture_names import SPARSE, changed, layers, names

FAMILIES = "solar_upscale.architecture.families"

# --- stacks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "model.layers",
        "layers",
        "transformer.h",
        "h",
        "gpt_neox.layers",
        "model.decoder.layers",
        "backbone.layers",
        "bert.encoder.layer",
    ],
)
def test_stack_is_found_whatever_its_module_is_called(prefix):
    stacks = find_stacks(layers(6, prefix=prefix), {"model_type": "llama", "num_hidden_layers": 6})
    assert stacks == (Stack(prefix, (prefix,), 6),)


def test_experts_codebooks_and_inner_layers_are_not_stacks():
    tensors = names(4, parts=(*SPARSE, "layer.0.SelfAttention.q.weight", "layer.1.DenseReluDense.wo.weight"))
    tensors += [f"lm_heads.{i}.weight" for i in range(4)] + [f"model.decoder.embed_tokens.{i}.weight" for i in range(4)]
    assert [stack.name for stack in find_stacks(tensors, {"num_hidden_layers": 4})] == ["model.layers"]


def test_text_decoder_is_preferred_to_towers_of_any_depth():
    config = {
        "model_type": "llava",
        "text_config": {"model_type": "llama", "num_hidden_layers": 4},
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 9},
    }
    tensors = layers(9, prefix="vision_tower.vision_model.encoder.layers") + layers(
        4, prefix="language_model.model.layers"
    )
    stacks = find_stacks(tensors, config)
    assert [(s.name, s.role, s.config_path) for s in stacks] == [
        ("language_model.model.layers", "decoder", ("text_config",)),
        ("vision_tower.vision_model.encoder.layers", "vision", ("vision_config",)),
    ]


@pytest.mark.parametrize(
    "inner", ["decoder.bert.encoder.layer", "decoder.model.decoder.layers", "decoder.transformer.h"]
)
def test_model_that_decodes_for_another_is_counted_in_its_own_section(inner):
    section = {"model_type": "bert", "num_hidden_layers": 4}
    config = {"model_type": "encoder-decoder", "encoder": dict(section), "decoder": dict(section)}
    tensors = layers(4, prefix="encoder.encoder.layer") + layers(4, prefix=inner)
    assert [(s.name, s.role, s.config_path) for s in find_stacks(tensors, config)] == [
        (inner, "decoder", ("decoder",)),
        ("encoder.encoder.layer", "encoder", ("encoder",)),
    ]
    written = changed(config, tensors, [0, 1, 2, 1, 2, 3]).config
    assert (written["encoder"]["num_hidden_layers"], written["decoder"]["num_hidden_layers"]) == (4, 6)


@pytest.mark.parametrize("chosen", ["text_encoder.encoder.layer", "text_decoder.bert.encoder.layer"])
def test_count_that_two_lists_share_is_not_changed_for_one_of_them(chosen):
    config = {"model_type": "blip", "text_config": {"model_type": "blip_text_model", "num_hidden_layers": 4}}
    tensors = layers(4, prefix="text_encoder.encoder.layer") + layers(4, prefix="text_decoder.bert.encoder.layer")
    stack = choose_stack(find_stacks(tensors, config), chosen)
    with pytest.raises(UnsupportedError, match=r"text_config\.num_hidden_layers counts the layers of text_\w+\."):
        change_depth(config, tensors, stack, LayerPattern((0, 1, 2, 1, 2, 3), 4))
    change_depth(config, tensors, stack, LayerPattern((0, 2, 1, 3), 4))


def test_tower_without_a_text_decoder_is_not_chosen_by_default():
    stacks = find_stacks(layers(4, prefix="vision_model.encoder.layers"), {"num_hidden_layers": 4})
    with pytest.raises(UnsupportedError, match=r"--stack: vision_model\.encoder\.layers \(vision, 4 layers\)"):
        choose_stack(stacks, None)


def test_unknown_stack_name_lists_the_stacks():
    config = {"model_type": "bart", "decoder_layers": 4, "encoder_layers": 3}
    stacks = find_stacks(layers(4, prefix="model.decoder.layers") + layers(3, prefix="model.encoder.layers"), config)
    assert choose_stack(stacks, "encoder").num_layers == 3
    assert choose_stack(stacks, "encoder.layers").num_layers == 3
    assert choose_stack(stacks, None).name == "model.decoder.layers"
    with pytest.raises(UnsupportedError, match=r"--stack tower: 0 stacks have that name.*model\.encoder\.layers"):
        choose_stack(stacks, "tower")


def test_names_split_at_the_layer_and_nowhere_else():
    split = name_splitter(("model.layers",))
    assert split("model.layers.10.mlp.experts.3.w1.weight") == ("model.layers", 10, ".mlp.experts.3.w1.weight")
    assert split("model.layers.1") == ("model.layers", 1, "")
    for other in (
        "model.layers.01.x",
        "xmodel.layers.1.x",
        "model.layers.x.1",
        "model.layersx.1.y",
        "vision.model.layers.1.x",
    ):
        assert split(other) is None


# --- the invariant: each layer keeps its own values --------------------------------------------------------------


@given(
    st.lists(st.integers(0, 11), min_size=1, max_size=30),
    st.sampled_from(["gemma3_text", "qwen3_next", "smollm3", "lfm2"]),
)
def test_every_layer_keeps_its_kind_in_any_order(sources, model_type):
    config = {
        "model_type": model_type,
        "num_hidden_layers": 12,
        "full_attn_idxs": [2, 5, 7] if model_type == "lfm2" else None,
    }
    attributes = registry.hand_written()[model_type].attributes
    from solar_upscale.architecture.attribute import View

    change = changed(config, names(12), sources)
    for attribute in attributes:
        old = attribute.read(View(config, config, 12), 12)
        new = attribute.read(View(change.config, change.config, 12), len(sources))
        assert new == tuple(old[s] for s in sources)


def test_generated_tables_do_not_contradict_the_records():
    written = registry.hand_written()
    assert not written.keys() & generated.COUNTED
    assert {name for name, record in written.items() if record.composite} & generated.COUNTED == set()
    assert all(written[name].composite for name in written.keys() & generated.TEXT_TYPES)
    for name, family in generated.FAMILY_OF.items():
        assert name in {record.name for record in import_module(f"{FAMILIES}.{family}").TYPES}


def test_type_of_every_text_section_is_known():
    types = registry.all_types()
    assert all(types[text].composite is False for text in generated.TEXT_TYPES.values() if text)


def test_fields_tied_to_depth_are_listed():
    config = {
        "model_type": "qwen2_moe",
        "num_hidden_layers": 8,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
        "odd_layers": [3],
    }
    tensors = names(8)
    fields = {
        f.path: (f.value, f.treatment) for f in depth_fields(config, choose_stack(find_stacks(tensors, config), None))
    }
    assert fields["num_hidden_layers"] == (8, "counts the layers")
    assert fields["decoder_sparse_step"][0] == 2
    assert fields["mlp_only_layers"][0] == [1]
    assert "refused" in fields["odd_layers"][1]


def test_neither_torch_nor_transformers_is_imported():
    program = (
        "import sys, solar_upscale.architecture as a; from solar_upscale.pattern import LayerPattern as P;"
        "n=[f'model.layers.{i}.{p}.weight' for i in range(8) for p in ('self_attn.q', 'mlp.up', 'norm')];"
        "c={'model_type': 'gemma3_text', 'num_hidden_layers': 8};"
        "a.change_depth(c, n, a.choose_stack(a.find_stacks(n, c), None), P((0, 1, 1), 8));"
        "print([m for m in ('torch', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
