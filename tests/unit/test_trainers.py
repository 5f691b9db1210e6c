import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.architecture import Stack
from solar_upscale.pattern import LayerPattern
from solar_upscale.report.trainers import trainer_settings

LLAMA = Stack("model.layers", ("model.layers",), 32)
SOLAR = (*range(24), *range(8, 32))
LLAMA_PRO = tuple(x for b in range(8) for x in (*range(4 * b, 4 * b + 4), 4 * b + 3))
HEAD = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def repeats(sources):
    return LayerPattern(sources, 32).repeats


def names_of(prefix, count, *suffixes):
    return [f"{prefix}.{n}.{suffix}" for n in range(count) for suffix in suffixes or ("mlp.down_proj.weight",)]


def axolotl_old(patterns, names):
    """axolotl before wildcards: each dot is escaped, and the pattern must match from the start of a name."""
    return {name for name in names for pattern in patterns if re.match(pattern.replace(".", "\\."), name)}


def axolotl_new(patterns, names):
    """axolotl 0.19: each dot is escaped but in ".+"."""
    return {name for name in names for pattern in patterns if re.match(re.sub(r"\.(?!\+)", "\\.", pattern), name)}


def ms_swift(pattern, names):
    return {name for name in names if re.search(pattern, name)}


def chosen_by_each(settings, names):
    return (
        axolotl_old(settings["axolotl"]["unfrozen_parameters"], names),
        axolotl_new(settings["axolotl"]["unfrozen_parameters"], names),
        ms_swift(settings["ms-swift"]["trainable_parameters_regex"], names),
        {name for name in names if re.search(settings["regex"], name)},
    )


def belonging_to(prefix, layers, names):
    return {name for name in names for layer in layers if name.startswith(f"{prefix}.{layer}.")}


@given(
    st.integers(1, 400).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1)))
)
def test_patterns_choose_exactly_the_layers(case):
    count, layers = case
    names = [*HEAD, *names_of("model.layers", count)]
    settings = trainer_settings(LLAMA, sorted(layers), count, names)
    for chosen in chosen_by_each(settings, names):
        assert chosen == belonging_to("model.layers", layers, names)


def test_pattern_of_solar_can_be_read():
    settings = trainer_settings(LLAMA, repeats(SOLAR), 48, [*HEAD, *names_of("model.layers", 48)])
    assert settings["axolotl"] == {"unfrozen_parameters": ["^(?:[^ ]*.)?layers.(?:2[4-9]|3[0-9])."]}
    assert settings["ms-swift"] == {
        "freeze_parameters_ratio": 1.0,
        "trainable_parameters_regex": r"^(?:[^ ]*\.)?layers\.(?:2[4-9]|3[0-9])\.",
    }
    assert settings["peft"] == {"layers_to_transform": list(range(24, 40)), "layers_pattern": "layers"}


def test_names_match_as_the_loaded_model_spells_them():
    stack = Stack("h", ("h",), 12)
    settings = trainer_settings(stack, [3, 11], 14, names_of("h", 14))
    loaded = names_of("transformer.h", 14)
    for chosen in chosen_by_each(settings, loaded):
        assert chosen == belonging_to("transformer.h", [3, 11], loaded)


def test_encoder_with_the_same_list_name_stays_frozen():
    stack = Stack("model.decoder.layers", ("model.decoder.layers",), 6)
    names = [*names_of("model.decoder.layers", 8), *names_of("model.encoder.layers", 6)]
    settings = trainer_settings(stack, [3, 5], 8, names)
    for chosen in chosen_by_each(settings, names):
        assert chosen == belonging_to("model.decoder.layers", [3, 5], names)
    assert settings["peft"]["layers_pattern"] == "decoder.layers"


def test_vision_tower_stays_frozen_in_both_spellings_of_llava():
    stack = Stack("language_model.model.layers", ("language_model.model.layers",), 6)
    stored = [*names_of("language_model.model.layers", 8), *names_of("vision_tower.vision_model.encoder.layers", 8)]
    loaded = [
        *names_of("model.language_model.layers", 8),
        *names_of("model.vision_tower.vision_model.encoder.layers", 8),
    ]
    settings = trainer_settings(stack, [3, 5], 8, stored)
    for chosen in chosen_by_each(settings, stored):
        assert chosen == belonging_to("language_model.model.layers", [3, 5], stored)
    for chosen in chosen_by_each(settings, loaded):
        assert chosen == belonging_to("model.language_model.layers", [3, 5], loaded)


def test_list_whose_path_ends_in_ours_stays_frozen():
    stack = Stack("encoder.layers", ("encoder.layers",), 6)
    names = [*names_of("encoder.layers", 8), *names_of("vision.encoder.layers", 8)]
    settings = trainer_settings(stack, [3], 8, names)
    for chosen in chosen_by_each(settings, names):
        assert chosen == belonging_to("encoder.layers", [3], names)


def test_llama_factory_settings_train_llama_pro_blocks():
    names = [*HEAD, *names_of("model.layers", 40)]
    settings = trainer_settings(LLAMA, repeats(LLAMA_PRO), 40, names)
    assert settings["llama-factory"] == {
        "finetuning_type": "freeze",
        "freeze_trainable_layers": 8,
        "use_llama_pro": True,
    }


def test_llama_factory_settings_train_the_last_layers():
    settings = trainer_settings(LLAMA, [32, 33, 34], 35, names_of("model.layers", 35))
    assert settings["llama-factory"] == {"finetuning_type": "freeze", "freeze_trainable_layers": 3}


def test_what_llama_factory_cannot_express_is_reported():
    settings = trainer_settings(LLAMA, repeats(SOLAR), 48, names_of("model.layers", 48))
    assert settings["llama-factory"] is None
    assert any("the last 16 layers, or the last of each of 16 equal groups" in note for note in settings["notes"])


def test_experts_that_llama_factory_would_train_too_are_named():
    names = names_of("model.layers", 40, "mlp.experts.4.down_proj.weight", "mlp.experts.5.down_proj.weight")
    settings = trainer_settings(LLAMA, repeats(LLAMA_PRO), 40, names)
    assert settings["llama-factory"] is None
    assert any("model.layers.0.mlp.experts.4.down_proj.weight would train too" in note for note in settings["notes"])


def test_decoder_beside_an_encoder_is_not_what_llama_factory_counts():
    stack = Stack("decoder.block", ("decoder.block",), 6)
    names = [*names_of("decoder.block", 8), *names_of("encoder.block", 6)]
    settings = trainer_settings(stack, [6, 7], 8, names)
    assert settings["llama-factory"] is None
    assert "llama-factory: it counts the encoder's layers, but these are in the decoder." in settings["notes"]
    alone = trainer_settings(stack, [6, 7], 8, names_of("decoder.block", 8))
    assert alone["llama-factory"] == {"finetuning_type": "freeze", "freeze_trainable_layers": 2}


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_llama_factory_settings_train_the_layers_or_are_absent(case):
    count, layers = case
    settings = trainer_settings(LLAMA, sorted(layers), count, names_of("model.layers", count))["llama-factory"]
    if settings is not None:
        k = settings["freeze_trainable_layers"]
        stride = count // k
        trained = range(stride - 1, count, stride) if settings.get("use_llama_pro") else range(count - k, count)
        assert set(trained) == layers


def test_without_repeats_there_are_no_trainer_settings():
    settings = trainer_settings(LLAMA, (), 28, names_of("model.layers", 28))
    assert settings["axolotl"] is settings["ms-swift"] is settings["peft"] is settings["llama-factory"] is None


def test_five_thousand_repeats_stay_short_and_fast():
    names = names_of("model.layers", 10_000, *("abcdefghi"))
    start = time.process_time()
    settings = trainer_settings(LLAMA, range(1, 10_000, 2), 10_000, names)
    (pattern,) = settings["axolotl"]["unfrozen_parameters"]
    assert len(pattern) < 300
    assert len(axolotl_new([pattern], names)) == 45_000
    assert time.process_time() - start < 5


ENCODER_DECODER = [*names_of("decoder.block", 8, "mlp.down_proj"), *names_of("encoder.block", 8, "mlp.down_proj")]
EXPERTS = names_of("model.layers", 48, *(f"mlp.experts.{expert}.down_proj" for expert in range(4)))


@pytest.mark.parametrize(
    ("prefix", "layers", "modules"),
    [
        ("model.layers", repeats(SOLAR), names_of("model.layers", 48, "mlp.down_proj")),
        ("model.layers", repeats(LLAMA_PRO), names_of("model.layers", 40, "mlp.down_proj")),
        ("model.layers", (3, 25), EXPERTS),
        ("decoder.block", (6, 7), ENCODER_DECODER),
        ("encoder.block", (1, 3), ENCODER_DECODER),
    ],
    ids=["solar", "llama-pro", "experts", "decoder", "encoder"],
)
def test_peft_itself_chooses_the_layers(prefix, layers, modules):
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    from peft.tuners.tuners_utils import check_target_module_exists

    stack = Stack(prefix, (prefix,), 8)
    settings = trainer_settings(stack, layers, 48, [f"{name}.weight" for name in modules])["peft"]
    config = peft.LoraConfig(target_modules=["down_proj"], **settings)
    chosen = {name for name in modules if check_target_module_exists(config, name)}
    assert chosen == belonging_to(prefix, layers, modules)
