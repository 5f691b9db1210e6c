import copy
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.errors import CheckpointError
from solar_upscale.plan.types import SourceIdentity, json_bytes
from solar_upscale.report.provenance import _CHECKS, FORMAT, read_provenance
from solar_upscale.report.provenance import provenance as document_of
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.protocol import SourceFile
from tests.support.fuzz import fuzzed
from tests.support.plans import llama_pro_plan, make_plan, solar_plan

words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
requests = st.integers(1, 4).flatmap(
    lambda count: st.builds(
        UpscaleRequest,
        layers=st.tuples(*[words] * count),
        stack=words,
        init=words,
        entry_scales=st.none() | st.tuples(*[st.none() | st.floats(-10, 10)] * count),
        max_shard_nbytes=st.none() | st.integers(1, 2**40),
        drop_mtp=st.booleans(),
        assume_uniform=st.booleans(),
        base_model=st.none() | st.sampled_from(["gpt2", "mistralai/Mistral-7B-v0.1"]),
    )
)
sources = st.one_of(
    st.builds(SourceIdentity, name=words, revision=st.none() | words),
    st.builds(
        SourceIdentity, words, st.text("0123456789abcdef", min_size=40, max_size=40), is_on_hub=st.just(value=True)
    ),
)


def provenance(plan, version):
    return document_of(plan, version, {})


def through_json(document):
    return json.loads(json_bytes(document))


@fuzzed(100)
@given(asked=requests, source=sources)
def test_request_comes_back_from_its_document(asked, source):
    plan = replace(solar_plan(), request=asked, source=source)
    assert read_provenance(through_json(provenance(plan, "0.1.0"))) == (asked, source)


def test_digests_of_copied_files_are_sorted_by_name():
    copied = (SourceFile("tokenizer.json", 2, "x"), SourceFile("LICENSE", 2, "x"))
    digests = {"tokenizer.json": "b" * 64, "LICENSE": "a" * 64}
    document = document_of(replace(solar_plan(), copied_files=copied), "1", digests)
    assert list(document["sidecars"].items()) == [("LICENSE", "a" * 64), ("tokenizer.json", "b" * 64)]


def test_rows_give_source_copy_seam_and_factor():
    rows = provenance(llama_pro_plan(), "0.1.0")["layers"]
    assert rows[3] == {"target": 3, "source": 3, "copy": 0, "seam": False}
    assert rows[4] == {"target": 4, "source": 3, "copy": 1, "seam": True, "factor": 0.0}
    assert rows[5] == {"target": 5, "source": 4, "copy": 0, "seam": False}


def test_document_mentions_neither_time_nor_machine():
    text = json_bytes(provenance(solar_plan(), "0.1.0")).decode()
    assert "1700000000000000000" not in text
    assert not any(word in text for word in ("/home", "/Users", "time", "date"))


def test_same_job_gives_the_same_bytes():
    assert json_bytes(provenance(solar_plan(), "1")) == json_bytes(provenance(solar_plan(), "1"))


def test_only_the_top_of_the_document_depends_on_what_the_source_is_called():
    here = provenance(solar_plan(model_files={"config.json": b"{}"}), "1")
    there = provenance(solar_plan(model_files={"config.json": b"{}"}, source="m", revision=None), "2")
    differing = {key for key in here if here[key] != there[key]}
    assert differing == {"version", "source", "revision"}


def test_dropped_layers_and_file_digests_are_recorded():
    document = provenance(make_plan((*range(20), *range(24, 32)), 32, model_files={"config.json": b"{}\n"}), "1")
    assert document["dropped_layers"] == [20, 21, 22, 23]
    assert document["documents"] == {"config.json": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"}
    assert document["source_shards"] == [{"filename": "model.safetensors", "nbytes": 100, "header_sha256": "ab" * 32}]


ODD = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "x\x1b[2J",
    "y" * 10**5,
    [],
    {},
    [None],
]


ODD_AT_TOP = [
    (key, value)
    for key in ("format", "job", "source", "revision")
    for value in ODD
    if not (key == "format" and type(value) is int and value == 1) and not (key == "revision" and value is None)
]


@pytest.mark.parametrize(("key", "value"), ODD_AT_TOP, ids=lambda value: repr(value)[:20])
def test_wrong_types_at_the_top_level_raise_checkpoint_error(key, value):
    document = through_json(provenance(solar_plan(), "1"))
    document[key] = value
    with pytest.raises(CheckpointError, match=rf"solar_upscale.json: {key}") as caught:
        read_provenance(document)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", list(_CHECKS))
def test_job_value_of_the_wrong_kind_is_named(key):
    refused = 0
    for value in [*ODD, [1], ["0:24", 5], [["0:24"]], [True, 1.0], {"a": 1}]:
        document = through_json(provenance(solar_plan(), "1"))
        document["job"][key] = value
        try:
            job, _ = read_provenance(document)
        except CheckpointError as error:
            refused += f"job.{key}" in str(error)
        else:
            assert type(getattr(job, key)) in (type(value), tuple)
    assert refused >= len(ODD) - 3


def test_missing_or_unknown_key_is_named():
    document = through_json(provenance(solar_plan(), "1"))
    missing = copy.deepcopy(document)
    del missing["job"]["init"]
    with pytest.raises(CheckpointError, match=r"job\.init is missing"):
        read_provenance(missing)
    document["job"]["shell"] = "rm"
    with pytest.raises(CheckpointError, match=r"job\.shell is unknown"):
        read_provenance(document)


def test_newer_format_is_refused_with_the_advice_to_upgrade():
    document = {**through_json(provenance(solar_plan(), "1")), "format": FORMAT + 1}
    with pytest.raises(CheckpointError, match=f"format: expected at most {FORMAT}, got {FORMAT + 1}; .* upgrade"):
        read_provenance(document)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None])
def test_format_that_no_version_wrote_is_refused(value):
    document = {**through_json(provenance(solar_plan(), "1")), "format": value}
    with pytest.raises(CheckpointError, match="format: expected a whole number from 1, got"):
        read_provenance(document)


@pytest.mark.parametrize("document", [[], None, "x", 3])
def test_document_that_is_not_an_object_is_refused(document):
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        read_provenance(document)


def test_number_of_entry_scales_must_match_entries():
    document = through_json(provenance(solar_plan(), "1"))
    document["job"]["entry_scales"] = [0.5]
    with pytest.raises(CheckpointError, match="expected one for each of the 2 entries, got 1"):
        read_provenance(document)


def test_ten_thousand_layers_are_recorded_quickly():
    plan = make_plan([layer for layer in range(5000) for _ in range(2)], 5000)
    start = time.process_time()
    json_bytes(provenance(plan, "1"))
    assert time.process_time() - start < 5
