"""Write solar_upscale/architecture/generated.py from the config classes of the installed transformers.

Generated are the routine facts about model types: names of count fields, the model type of each text section, the types
in which only a count changes with the depth, and which family file has which record. A config class does not show
whether layers are alike, so only types listed here are included, and each is checked: nothing else in its default
config refers to layers, and the layers of a model built without weights have the same tensors. Types that transformers
has and that no table lists are printed for review.
"""

import argparse
import importlib
import json
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from solar_upscale.architecture import families, find_stacks, registry
from solar_upscale.architecture.config_names import TEXT_SECTIONS
from solar_upscale.architecture.record import ModelType
from solar_upscale.architecture.suspicious_fields import suspicious_fields
from solar_upscale.architecture.tensors import check_layers_alike
from solar_upscale.architecture.type_facts import explained_fields, type_facts
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo

TARGET = Path(__file__).parents[1] / "solar_upscale" / "architecture" / "generated.py"

# Reviewed: all layers are alike apart from their weights, and no family file has a record.
COUNTED = frozenset(
    """
    blip_text_model blt_global_transformer canine chameleon emu3_text_model granite4_vision_text
    granite_docling_text hunyuan_vl_text kosmos_2_text_model layoutlmv3 lilt musicgen_decoder
    musicgen_melody_decoder t5gemma2_encoder voxtral_realtime_text
    """.split()  # noqa: SIM905 (a list of quoted names does not read better)
)

# Reviewed: models around a text model that has a config section of its own, supported as far as that text model is.
COMPOSITE = frozenset(
    """
    aria audioflamingo3 aya_vision blip blip-2 blt cohere2_vision cohere_compass cosmos3_edge cosmos3_omni
    deepseek_ocr2 deepseek_vl deepseek_vl_hybrid diffusion_gemma dots3_note emu3 encoder-decoder ernie4_5_vl_moe
    exaone4_5 fast_vlm florence2 fuyu gemma3 gemma3n gemma4 gemma4_assistant gemma4_unified gemma4_unified_assistant
    glm46v glm4v glm4v_moe glm5_next glm_ocr glmasr glmga got_ocr2 granite4_vision granite_docling granite_speech
    granite_speech_plus hunyuan_vl hyperclovax_vision_v2 idefics2 idefics3 inkling2 inkling_mm_model instructblip
    instructblipvideo internvl janus kimi_k25 kosmos-2 kosmos-2.5 lfm2_vl lfm3_vl lighton_ocr llama4 llava
    llava_next llava_next_video llava_onevision minicpm_ocr minicpmv4_6 minicpmv4_7 minimax_m3_vl mistral3
    mistral_large4 mllama modernvbert molmo2 moss_transcribe_diarize muse_glimmer muse_spark musicflamingo musicgen
    musicgen_melody nemo_speechlm nemotron_h_omni ovis2 paddleocr_vl paligemma perception_lm pi0 pix2struct
    pp_chart2table pp_formulanet qianfan_ocr qwen2_5_omni qwen2_5_omni_thinker qwen2_5_vl qwen2_audio qwen2_vl
    qwen3_5 qwen3_5_moe qwen3_asr qwen3_omni_moe qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe qwen4_exp shieldgemma2
    smolvlm step3p7 t5gemma t5gemma2 ultravbert unlimited_ocr vibevoice_asr video_llama_3 video_llava vipllava
    vision-encoder-decoder voxtral voxtral_realtime
    """.split()  # noqa: SIM905 (as above)
)

AUTO_MAPPINGS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM")


def main() -> None:
    """Check, write, and print the types to review; with --check, only check that the file is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file would change")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # from transformers
    problems = [problem for name in plain_types() for problem in problems_with(name)]
    if problems:
        sys.exit("\n".join(problems))
    text = formatted(rendered())
    if arguments.check:
        sys.exit(0 if TARGET.read_text("utf-8") == text else f"{TARGET.name} is out of date; run `make tables`")
    TARGET.write_text(text, "utf-8")
    print(f"{TARGET}: {len(COUNTED)} counted types, {len(COMPOSITE)} models around a text model")
    new = unreviewed()
    print(f"to review: {len(new)} types that transformers builds and no table lists: {' '.join(new) or 'none'}")


# ---------------------------------------------------------------- generated tables


def rendered() -> str:
    """The text of generated.py."""
    import transformers

    written = registry.hand_written()
    counts = {name: fields for name in sorted({*written, *COUNTED}) if (fields := count_fields(name))}
    texts = {name: text_type(name) for name in sorted(COMPOSITE)}
    families_of = {record.name: module for module in family_modules() for record in family_types(module)}
    return f'''"""Facts from the config classes of transformers. Written by `make tables`; do not edit.

Records in families/ take precedence.
"""

from collections.abc import Mapping

__all__ = ["COUNTED", "COUNT_FIELDS", "FAMILY_OF", "TEXT_TYPES", "TRANSFORMERS"]

# The version that these tables were read from.
TRANSFORMERS = "{transformers.__version__}"

# In these types only a count changes with the depth.
COUNTED: frozenset[str] = frozenset(
    """
{wrapped(COUNTED)}
    """.split()  # noqa: SIM905 - a list of words reads best as words
)

# The fields that count the layers of each stack, the one to write first.
COUNT_FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {{
{lines(counts)}
}}

# Models around a text model, and the type of a text section that does not name one (None: it always does).
TEXT_TYPES: Mapping[str, str | None] = {{
{lines(texts)}
}}

# The file in families/ that has the record of a type. A record missing here is still found, but more slowly.
FAMILY_OF: Mapping[str, str] = {{
{lines(families_of)}
}}
'''


def count_fields(name: str) -> dict[str, tuple[str, ...]]:
    """The fields of a config class that count the layers of two stacks, or of one under an unusual name."""
    cls = config_class(name)
    if cls is None:
        return {}
    fields = {field for base in cls.__mro__ for field in getattr(base, "__annotations__", {})}
    alias = cls.attribute_map.get("num_hidden_layers")
    decoder = next((field for field in ("decoder_layers", "num_decoder_layers") if field in fields), None)
    encoder = next((field for field in ("encoder_layers", "num_encoder_layers", "num_layers") if field in fields), None)
    if decoder is None:
        return {"decoder": ("layers",)} if "layers" in fields else {}
    own = {"encoder": encoder, "decoder": decoder}
    return {role: (field, "num_hidden_layers") if field == alias else (field,) for role, field in own.items() if field}


def text_type(name: str) -> str | None:
    """The model type of the text section in the default config of a composite; None if there is no default."""
    config = default_config(name) or {}
    for path in TEXT_SECTIONS:
        section: Any = config
        for key in path:
            section = section.get(key) if isinstance(section, Mapping) else None
        found = section.get("model_type") if isinstance(section, Mapping) else None
        if found and found not in COMPOSITE:
            return str(found)
    return None


def family_modules() -> list[str]:
    """The names of the files in families/."""
    folder = Path(families.__path__[0])
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def family_types(module: str) -> tuple[ModelType, ...]:
    """The records of one file."""
    types: tuple[ModelType, ...] = importlib.import_module(f"{families.__name__}.{module}").TYPES
    return types


# ---------------------------------------------------------------- checks


def plain_types() -> list[str]:
    """Every type whose layers are all alike according to the tables."""
    known = registry.hand_written()
    plain = {name for name, record in known.items() if is_plain(record)}
    return sorted(plain | COUNTED)


def is_plain(record: ModelType) -> bool:
    """Whether a record says that all layers are alike."""
    return not (record.attributes or record.by_role or record.refusal or record.composite)


def problems_with(name: str) -> list[str]:
    """Evidence that the layers of a plain type are not all alike."""
    config, tensors = default_config(name), meta_tensors(name)
    if config is None or tensors is None:
        return []
    found: list[str] = []
    for stack in find_stacks(tensors, config):
        if stack.role not in ("decoder", "encoder"):
            continue
        facts = type_facts(config, stack)
        reasons = suspicious_fields(
            config, stack.config_path, stack.num_layers, explained_fields(facts), facts.harmless
        )
        found += [f"{name}: {stack.name}: {reason}" for reason in reasons]
        try:
            check_layers_alike(tensors, stack, [()] * stack.num_layers, name, exact=True)
        except UnsupportedError as error:
            found.append(f"{name}: {error}")
    return found


def unreviewed() -> list[str]:
    """Types under the auto classes of text models that no table lists."""
    from transformers.models.auto import modeling_auto

    names = {name for mapping in AUTO_MAPPINGS for name in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES")}
    return sorted(names - registry.all_types().keys() - COUNTED - COMPOSITE)


# ---------------------------------------------------------------- transformers


def config_class(name: str) -> Any:
    """The config class of a type, None if transformers has none."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[name] if name in CONFIG_MAPPING else None  # noqa: SIM401 (its get() loads nothing)


def default_config(name: str) -> dict[str, Any] | None:
    """The config of a type with all defaults; None if its class has none."""
    cls = config_class(name)
    if cls is None:
        return None
    try:
        config: dict[str, Any] = json.loads(cls().to_json_string(use_diff=False))
    except Exception:  # a class may require arguments; then there is nothing to read
        return None
    return config


def meta_tensors(name: str) -> dict[str, TensorInfo] | None:
    """The tensors of a model of this type with the default config, on the meta device; None if it cannot be built."""
    import torch
    from transformers import AutoModel

    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config_class(name)())
    except Exception:  # transformers may require a package, an argument or a real device
        return None
    return {key: TensorInfo(key, "F32", tuple(value.shape), (0, 0)) for key, value in model.state_dict().items()}


# ---------------------------------------------------------------- text


def wrapped(words: Iterable[str]) -> str:
    """Words in lines as wide as source lines."""
    return textwrap.fill(" ".join(sorted(words)), 118, initial_indent="    ", subsequent_indent="    ")


def formatted(text: str) -> str:
    """Python source formatted as by `make format`."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "-"], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


def lines(table: Mapping[str, Any]) -> str:
    """One line per entry, formatted as by `make format`."""
    return "\n".join(f"    {literal(name)}: {literal(value)}," for name, value in sorted(table.items()))


def literal(value: Any) -> str:
    """A value as Python source with double quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    return "None" if value is None else json.dumps(value)


if __name__ == "__main__":
    main()
