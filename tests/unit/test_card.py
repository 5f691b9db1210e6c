import re
import shlex
import time
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.architecture import Stack
from solar_upscale.plan.report import plan_report
from solar_upscale.report.card import model_card, named
from solar_upscale.source.protocol import SourceFile
from tests.support.fuzz import fuzzed
from tests.support.plans import HUB_COMMIT, llama_pro_plan, make_plan, solar_plan

README = b"""---
license: other
license_name: some-licence
license_link: LICENSE
language:
- en
- no
tags:
- pretrained
- pretrained
pipeline_tag: text-generation
inference: false
extra_gated_prompt: "Do you agree?"
model-index:
- name: x
  results: []
---

# The source's own words
"""


def card_of(plan, *, source_readme):
    return model_card(replace(plan, source_card=source_readme))


def front(card):
    return yaml.safe_load(card.split(b"\n---\n", 1)[0].removeprefix(b"---\n"))


def with_copied_files(plan, *names):
    object.__setattr__(plan, "copied_files", tuple(SourceFile(name, 1, "s") for name in names))
    return plan


def test_card_inherits_what_stays_true_and_nothing_else():
    data = front(card_of(solar_plan(), source_readme=README))
    assert data == {
        "license": "other",
        "license_name": "some-licence",
        "license_link": "LICENSE",
        "language": ["en", "no"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": ["mistralai/Mistral-7B-v0.1"],
        "base_model_relation": "merge",
        "tags": ["pretrained", "depth-upscaling", "solar-upscale"],
    }


def test_text_of_the_source_card_is_not_copied():
    card = card_of(solar_plan(), source_readme=README)
    assert b"own words" not in card
    assert b"Do you agree" not in card


def test_card_is_valid_to_the_hub_library(tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from huggingface_hub.repocard import metadata_load

    path = tmp_path / "README.md"
    path.write_bytes(card_of(solar_plan(), source_readme=README))
    card = hub.ModelCard.load(path)
    assert card.data.base_model == ["mistralai/Mistral-7B-v0.1"]
    assert card.data.language == ["en", "no"]
    assert card.data.to_dict() == metadata_load(path)
    assert "\n# Mistral-7B-v0.1 with 48 layers\n" in card.text


def test_folder_source_has_no_base_model():
    data = front(card_of(solar_plan(source="mistral", revision=None), source_readme=README))
    assert "base_model" not in data
    assert "base_model_relation" not in data


def test_card_of_a_folder_names_the_base_model_that_was_given():
    plan = solar_plan(source="mistral", revision=None, base_model="mistralai/Mistral-7B-v0.1")
    card = card_of(plan, source_readme=README)
    assert front(card)["base_model"] == ["mistralai/Mistral-7B-v0.1"]
    link = r"[mistralai/Mistral-7B-v0.1](https://huggingface.co/mistralai/Mistral-7B-v0.1)"
    assert f"This is `mistral` (a local copy or derivative of {link})".encode() in card
    assert b"--base-model mistralai/Mistral-7B-v0.1" in card


def test_dropped_layers_are_listed_as_layers():
    dropped = {f"model.layers.{n}.x": "its layer is not in the pattern" for n in range(20, 24)} | {"mtp.w": "no use"}
    plan = replace(make_plan((*range(20), *range(24, 32)), 32), dropped=dropped)
    text = card_of(plan, source_readme=None).decode()
    assert "## Dropped\n\n* layers 20-23: not in the pattern (4 tensors)\n* `mtp.w`: no use\n" in text
    assert "model.layers.20" not in text
    assert "\ndropped\n  layers 20-23  not in the pattern (4 tensors)\n  1 tensor      no use\n" in plan_report(plan)


def test_body_says_what_was_done():
    text = card_of(solar_plan(), source_readme=None).decode()
    assert "changed from 32 to 48 layers: 16 layers repeated. Nothing was trained." in text
    assert "It has 10.73 B parameters; the source has 7.242 B." in text
    assert "| 24-47 | 8-31 | 16 | x1 |" in text
    assert "![Which source layer each layer comes from](layer_map.svg)" in text
    assert "needs continued pretraining" in text
    assert "2312.15166" in text
    assert "2401.02415" not in text


def test_identity_card_promises_no_loss_and_cites_llama_pro():
    text = card_of(llama_pro_plan(), source_readme=None).decode()
    assert "this model gives the same answers as the source" in text
    assert "needs continued pretraining" not in text
    assert "2401.02415" in text
    assert "block-expansion" in front(text.encode())["tags"]


def test_identity_that_drops_a_layer_claims_nothing():
    plan = make_plan((0, 1, 1, 3), 4, init="identity", factors=(1, 1, 0, 1))
    text = card_of(plan, source_readme=None).decode()
    assert "the same answers as the source" not in text
    assert "needs continued pretraining" in text


@pytest.mark.parametrize(("role", "words"), [("decoder", ""), ("encoder", ', stack="model.layers"')])
def test_freeze_originals_example_names_the_encoder(role, words):
    stack = Stack("model.layers", ("model.layers",), 4, role=role)
    card = card_of(make_plan((0, 1, 1, 2, 3), 4, stack=stack), source_readme=None).decode()
    assert f"`solar_upscale.freeze_originals(model, layers{words})` takes those numbers and freezes everything" in card


def test_pruned_model_is_called_pruned_and_cites_nothing():
    text = card_of(make_plan((*range(20), *range(24, 32)), 32), source_readme=None).decode()
    assert front(text.encode())["tags"] == ["layer-pruning", "solar-upscale"]
    assert "from 32 to 28 layers: 4 dropped" in text
    assert "Citation" not in text


def command_of(plan):
    return re.search(r"^solar-upscale .*$", card_of(plan, source_readme=None).decode(), re.MULTILINE)[0]


def test_command_is_built_from_the_job():
    assert command_of(solar_plan()) == (
        f"solar-upscale mistralai/Mistral-7B-v0.1 out/ --layers 0:24 8:32 --revision {HUB_COMMIT}"
    )


def test_command_holds_every_option_of_the_job():
    plan = make_plan(
        (0, 0), 1, entries=("[i for i in range(n) for _ in 'ab']",), init="scale=1,0.25", source="it's", revision=None,
        stack=Stack("decoder.block", ("decoder.block",), 1), max_shard_nbytes=10**9, drop_mtp=True, assume_uniform=True,
    )  # fmt: skip
    assert shlex.split(command_of(plan)) == [
        "solar-upscale", "./it's", "out/", "--layers", "[i for i in range(n) for _ in 'ab']", "--init", "scale=1,0.25",
        "--stack", "decoder.block", "--max-shard-size", "1000000000", "--drop-mtp", "--assume-uniform",
    ]  # fmt: skip


def test_scales_of_single_entries_need_a_recipe():
    text = card_of(solar_plan(entry_scales=(None, 0.25)), source_readme=None).decode()
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)\n```", text, re.DOTALL)[1])
    assert recipe == {"source": "mistralai/Mistral-7B-v0.1", "layers": ["0:24", {"layers": "8:32", "scale": 0.25}]}
    assert f"solar-upscale out/ --config recipe.yaml --revision {HUB_COMMIT}" in text


@pytest.mark.parametrize(
    ("architecture", "config", "expected"),
    [
        ("MistralForCausalLM", {}, "AutoModelForCausalLM"),
        ("GPT2LMHeadModel", {}, "AutoModelForCausalLM"),
        ("Gemma3ForConditionalGeneration", {"vision_config": {}}, "AutoModelForImageTextToText"),
        ("T5ForConditionalGeneration", {}, "AutoModelForSeq2SeqLM"),
        ("WhisperForConditionalGeneration", {"num_mel_bins": 80}, "AutoModelForSpeechSeq2Seq"),
        ("BertForMaskedLM", {}, "AutoModelForMaskedLM"),
        ("MistralForSequenceClassification", {}, "AutoModelForSequenceClassification"),
        ("ViTForImageClassification", {}, "AutoModelForImageClassification"),
        ("MistralModel", {}, "AutoModel"),
    ],
)
def test_loading_code_names_the_auto_class_that_transformers_has_for_it(architecture, config, expected):
    text = card_of(make_plan((0,), 1, config={"architectures": [architecture], **config}), source_readme=None).decode()
    assert f"model = {expected}.from_pretrained(" in text
    mappings = pytest.importorskip("transformers.models.auto.modeling_auto", reason="transformers is not installed")
    mapping = getattr(mappings, expected)._model_mapping._model_mapping
    names = {name for each in mapping.values() for name in (each if isinstance(each, tuple) else (each,))}
    assert architecture in names


def test_loading_code_runs_as_python():
    plan = with_copied_files(solar_plan(), "tokenizer.json")
    card = card_of(plan, source_readme=None)
    text = named(card, 'me/"; import os').decode()
    code = re.search(r"```python\n(.*?)\n```", text, re.DOTALL)[1]
    compile(code, "card", "exec")
    assert "tokenizer = AutoTokenizer.from_pretrained(name)" in code
    assert '\nname = "me/\\"; import os"\n' in code
    assert text.replace('"me/\\"; import os"', '"path/to/this/folder"') == card.decode()


def test_remote_code_is_mentioned():
    plan = make_plan((0,), 1, config={"auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}})
    text = card_of(plan, source_readme=None).decode()
    assert 'AutoModelForCausalLM.from_pretrained(name, dtype="auto", trust_remote_code=True)' in text
    assert "`trust_remote_code=True` runs it" in text


HOSTILE = {
    "aliases": b"---\na: &a [x, x]\nb: &b [*a, *a]\nlicense: mit\n---\n",
    "merge bomb": b"---\na: &a {k: v}\nb: &b {<<: [*a, *a]}\nlicense: mit\n---\n",
    "python tag": b"---\nlicense: !!python/object/apply:os.system ['touch /x']\n---\n",
    "deep": b"---\na: " + b"[" * 5000 + b"]" * 5000 + b"\n---\n",
    "unclosed": b"---\nlicense: [mit\n---\n",
    "not utf-8": b"---\nlicense: \xff\xfe\n---\n",
    "huge": b"---\n" + b"# x\n" * 10**6 + b"license: mit\n---\n",
    "list": b"---\n- license\n---\n",
    "scalar": b"---\njust text\n---\n",
    "two documents": b"---\nlicense: mit\n--- \nx: y\n---\n",
    "control": b'---\nlicense: "\\e[2J"\n---\n',
    "date": b"---\nlicense: 2020-99-99\n---\n",
    "long int": b"---\nlicense: " + b"9" * 5000 + b"\n---\n",
    "none": b"",
    "nul": b"\0" * 100,
}


@pytest.mark.parametrize("readme", HOSTILE.values(), ids=HOSTILE)
def test_hostile_source_card_gives_a_valid_card(readme, tmp_path):
    start = time.process_time()
    card = card_of(solar_plan(), source_readme=readme)
    assert time.process_time() - start < 2
    data = front(card)
    assert data["base_model"] == ["mistralai/Mistral-7B-v0.1"]
    assert data.get("license", "mit") in ("mit", "2020-99-99")
    assert len(card) < 10_000
    assert b"\x1b" not in card


def test_fields_that_could_not_be_inherited_are_reported():
    text = card_of(solar_plan(), source_readme=HOSTILE["aliases"]).decode()
    heading = "## About the source's model card"
    assert f"{heading}\n\n* The source's model card uses YAML aliases; nothing is inherited from it." in text


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"license: [mit, {a: b}]", "license"),
        (b"license_link: javascript:alert(1)", "license_link"),
        (b"license_link: ../../etc/passwd", "license_link"),
        (b"tags: [good, [bad]]", "tags"),
        (b"language: '<script>'", "language"),
        (b"pipeline_tag: [a, b]", "pipeline_tag"),
    ],
)
def test_malformed_field_is_named(line, field):
    text = card_of(solar_plan(), source_readme=b"---\n" + line + b"\n---\n").decode()
    assert f"* The source's model card has a {field} that could not be inherited as it is." in text
    assert "javascript" not in text
    assert "<script>" not in text


@fuzzed(100)
@given(st.binary(max_size=300).map(lambda body: b"---\n" + body + b"\n---\n"))
def test_any_bytes_give_a_card_with_sound_front_matter(readme):
    data = front(card_of(make_plan((0, 0), 1), source_readme=readme))
    assert data["tags"][-2:] == ["depth-upscaling", "solar-upscale"]


@fuzzed(50)
@given(st.text(min_size=1, max_size=60))
def test_no_name_breaks_out_of_the_card(text):
    plan = make_plan(
        (0, 0), 1, source=text, revision=None, warnings=[text], stack=Stack(text, (text,), 1), entries=[text]
    )
    card = card_of(plan, source_readme=None).decode()
    assert all(char.isprintable() or char == "\n" for char in card)
    fences = re.findall(r"^(`{3,})", card, re.MULTILINE)
    assert len(fences) % 2 == 0
    outside = re.sub(r"^(`{3,}).*?^\1$", "", card, flags=re.MULTILINE | re.DOTALL)
    outside = re.sub(r"`[^`\n]*`", "", outside)
    assert not re.search(r"(?<!\\)<", outside)
    assert not re.search(r"(?<!\\)\[(?!Which)", outside)


def test_same_plan_gives_the_same_card():
    assert card_of(solar_plan(), source_readme=README) == card_of(solar_plan(), source_readme=README)


def test_ten_thousand_layers_give_a_short_card_quickly():
    plan = make_plan([n * 7919 % 5000 for n in range(10_000)], 5000)
    start = time.process_time()
    card = card_of(plan, source_readme=README)
    assert time.process_time() - start < 3
    assert len(card) < 20_000
    assert b"more runs; see `solar_upscale.json` for all layers" in card
