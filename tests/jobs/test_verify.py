"""Verifying an output: every flipped bit is found, in whichever file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import solar_upscale as su
from solar_upscale.errors import CheckpointError, UnsupportedError, UpscaleError
from solar_upscale.verify.output import verify_checkpoint, verify_report
from tests.support.checkpoints import read_tensors, write_checkpoint
from tests.support.fuzz import fuzzed
from tests.support.sources import MemorySource

SOLAR = ["0:6", "2:8"]
# Files that people may edit afterwards, which is reported as a note, not an error.
EDITABLE = ("README.md", "layer_map.svg")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("verify")
    source = write_checkpoint(folder / "model", shards=2, hidden=16, inner=16, vocab=16)
    su.upscale_checkpoint(source, folder / "out", SOLAR, init="scale=1,0.5", max_shard_size=20_000)
    return source, folder / "out"


@pytest.fixture
def output(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "out"))


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------- correct outputs


@pytest.mark.parametrize("init", ["copy", "identity", "split", "scale=0.3", "scale=0,1", "scale=0.5,1,0.25"])
def test_correct_output_is_verified_with_and_without_its_source(init: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", shards=2)
    plan = su.upscale_checkpoint(source, tmp_path / "out", SOLAR, init=init, entry_scales=None)
    for report in (verify_checkpoint(tmp_path / "out", source), verify_checkpoint(tmp_path / "out")):
        assert (report.layers, report.tensors, report.nbytes) == (12, 12 * 9 + 3, plan.total_size)
        assert report.notes == ()
    text = verify_report(verify_checkpoint(tmp_path / "out", source))
    assert text == f"out: OK: 12 layers, 111 tensors ({len(plan.shards)} shards, 255.6 kB) verified against s\n"


def test_every_tensor_byte_is_compared_and_reported_to_on_bytes(made: tuple[Path, Path]) -> None:
    source, output = made
    reported: list[int] = []
    report = verify_checkpoint(output, source, on_bytes=reported.append)
    assert sum(reported) == report.nbytes


def test_streamed_source_and_entry_scales_are_verified(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s")
    su.upscale_checkpoint(source, tmp_path / "out", SOLAR, entry_scales=[None, 0.25])
    verify_checkpoint(tmp_path / "out", MemorySource.of_folder(source))
    verify_checkpoint(tmp_path / "out")


def test_renamed_source_folder_is_a_note_not_an_error(made: tuple[Path, Path], tmp_path: Path) -> None:
    source, output = made
    renamed = Path(shutil.copytree(source, tmp_path / "renamed"))
    report = verify_checkpoint(output, renamed)
    assert report.notes[0] == "solar_upscale.json records source model, here it is renamed"
    assert {note.split()[0] for note in report.notes[1:]} == set(EDITABLE), "they show the source's name"


def test_output_of_another_version_with_other_sentences_is_accepted_with_notes(
    made: tuple[Path, Path], output: Path
) -> None:
    source, _ = made
    path = output / "solar_upscale.json"
    record = json.loads(path.read_text())
    record |= {"version": "0.0.9", "warnings": ["as it was said then"]}
    record["config_changes"][0]["reason"] = "in other words"
    record["trainers"]["notes"] = {}
    del record["trainers"]["regex"]  # 0.1.0 had none
    path.write_text(json.dumps(record, indent=2) + "\n")
    notes = verify_checkpoint(output, source).notes
    assert "solar_upscale.json has the wording of version 0.0.9" in notes
    assert any(note.startswith("solar_upscale.json records version 0.0.9, here it is") for note in notes)
    assert verify_checkpoint(output).notes == ()
    record["trainers"]["regex"] = ".*"
    path.write_text(json.dumps(record, indent=2) + "\n")
    with pytest.raises(CheckpointError, match=r"solar_upscale\.json: trainers does not match the source"):
        verify_checkpoint(output, source)
    record["config_changes"][0]["after"] = 13
    path.write_text(json.dumps(record, indent=2) + "\n")
    with pytest.raises(CheckpointError, match=r"solar_upscale\.json: .*config_changes does not match the source"):
        verify_checkpoint(output, source)


def test_shard_that_the_safetensors_library_reads_otherwise_is_a_difference(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = made

    def refuse(path: Path, filename: str, tensors: object) -> None:
        raise CheckpointError(f"{filename}: the safetensors library cannot read it: no")

    monkeypatch.setattr("solar_upscale.verify.output.check_with_safetensors", refuse)
    for words in ((output, source), (output,)):
        with pytest.raises(CheckpointError, match=r"verification failed: .*the safetensors library cannot read it"):
            verify_checkpoint(*words)
    monkeypatch.setattr("solar_upscale.verify.output.check_with_safetensors", lambda *_: "not checked")
    assert "not checked" in verify_checkpoint(output, source).notes


def test_edited_readme_is_a_note(output: Path, made: tuple[Path, Path]) -> None:
    (output / "README.md").write_text("# My model\n")
    (output / "layer_map.svg").unlink()
    (output / "results.md").write_text("fine")
    report = verify_checkpoint(output, made[0])
    assert set(report.notes) == {
        "README.md differs from the planned one",
        "layer_map.svg is missing",
        "results.md is not in the plan",
    }
    verify_checkpoint(output)


# ---------------------------------------------------------------- any flipped bit


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@fuzzed(300)
@given(data=st.data())
def test_any_flipped_bit_is_found_with_the_source(data: st.DataObject, made: tuple[Path, Path]) -> None:
    source, output = made
    path = data.draw(st.sampled_from(sorted(path for path in output.iterdir() if path.name not in EDITABLE)))
    bit = data.draw(st.integers(0, 8 * path.stat().st_size - 1))
    content = path.read_bytes()
    flip(path, bit)
    try:
        try:
            notes = verify_checkpoint(output, source).notes
        except UpscaleError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            # These flips are reported as notes: the source folder's name, the version, and a shard size that gives the
            # same shards and so differs only in the README's command.
            assert path.name == "solar_upscale.json"
            assert notes
            assert any(word in notes[0] for word in ("records source", "records version", "README.md"))
    finally:
        path.write_bytes(content)


@fuzzed(200)
@given(data=st.data())
def test_any_flipped_bit_detectable_without_the_source_is_found(data: st.DataObject, made: tuple[Path, Path]) -> None:
    _, output = made
    path = data.draw(
        st.sampled_from(
            [
                *(output / name for name in ("config.json", "LICENSE", "tokenizer_config.json")),
                output / "model.safetensors.index.json",
                *sorted(output.glob("*.safetensors")),
            ]
        )
    )
    size = path.stat().st_size
    if path.suffix == ".safetensors":
        size = 8 + int.from_bytes(path.read_bytes()[:8], "little")  # its header
    content = path.read_bytes()
    flip(path, data.draw(st.integers(0, 8 * size - 1)))
    try:
        with pytest.raises(UpscaleError):
            verify_checkpoint(output)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("number", [3, 8])  # target 8 is the second use of source layer 4
@pytest.mark.parametrize("name", ["self_attn.q_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight"])
def test_flipped_bit_in_a_repeated_layer_is_found_without_the_source(number: int, name: str, output: Path) -> None:
    tensor = f"model.layers.{number}.{name}"
    weight_map = json.loads((output / "model.safetensors.index.json").read_text())["weight_map"]
    path = output / weight_map[tensor]
    content = path.read_bytes()
    header_nbytes = int.from_bytes(content[:8], "little")
    start = json.loads(content[8 : 8 + header_nbytes])[tensor]["data_offsets"][0]
    flip(path, 8 * (8 + header_nbytes + start) + 5)
    with pytest.raises(CheckpointError, match=rf"model\.layers\.\d+\.{name}: is not the recorded copy of"):
        verify_checkpoint(output)


def test_tensor_that_differs_is_named(output: Path, made: tuple[Path, Path]) -> None:
    path = max(output.glob("*.safetensors"))
    flip(path, 8 * path.stat().st_size - 1)
    last = max(
        json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]).items(), key=_stop
    )
    with pytest.raises(CheckpointError, match=f"verification failed: {path.name}: {last[0]}: differs from the source$"):
        verify_checkpoint(output, made[0])


def _stop(entry: tuple[str, Any]) -> int:
    return 0 if entry[0] == "__metadata__" else int(entry[1]["data_offsets"][1])


@pytest.mark.parametrize("name", ["tokenizer_config.json", "LICENSE"])
def test_changed_copied_file_is_named_without_the_source(name: str, output: Path) -> None:
    (output / name).write_text('{"chat_template": "another"}')
    with pytest.raises(CheckpointError, match=rf"verification failed: {name}: does not match its recorded digest$"):
        verify_checkpoint(output)


# ---------------------------------------------------------------- wrong files


def test_wrong_source_is_named(made: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", layers=5)
    with pytest.raises(CheckpointError, match=r"^other: the weight files are not the ones .* made from \(model\)$"):
        verify_checkpoint(made[1], other)


def test_source_of_the_same_shape_with_other_weights_is_found(made: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(made[0], tmp_path / "model"))
    path = other / "model-00001-of-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="differs from the source"):
        verify_checkpoint(made[1], other)


@pytest.mark.parametrize("name", ["config.json", "LICENSE", "model-00002", "solar_upscale.json"])
@pytest.mark.parametrize("with_source", [True, False])
def test_missing_file_is_named(name: str, with_source: bool, output: Path, made: tuple[Path, Path]) -> None:
    (path,) = output.glob(f"{name}*")
    path.unlink()
    with pytest.raises(CheckpointError, match=name):
        verify_checkpoint(output, made[0] if with_source else None)


@pytest.mark.parametrize("name", ["model.safetensors", "extra.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("with_source", [True, False])
def test_extra_files_that_would_be_loaded_are_an_error(
    name: str, with_source: bool, output: Path, made: tuple[Path, Path]
) -> None:
    if name.endswith(".safetensors"):
        save_file(read_tensors(made[0]), output / name)
    else:
        (output / name).write_text("{}")
    with pytest.raises(
        (CheckpointError, UnsupportedError), match=f"{name}|the header is not|the header does not|expected \\d+ layers"
    ):
        verify_checkpoint(output, made[0] if with_source else None)


def test_swapped_shards_are_found(output: Path, made: tuple[Path, Path]) -> None:
    one, two = sorted(output.glob("*.safetensors"))[:2]
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    for with_source in (made[0], None):
        with pytest.raises(CheckpointError, match=r"index: "):
            verify_checkpoint(output, with_source)


def test_misplaced_tensors_that_match_their_own_index_are_found(output: Path, made: tuple[Path, Path]) -> None:
    """An output rewritten from other layers, with a matching index and config."""
    su.upscale_checkpoint(made[0], output.parent / "other", ["0:6", "1:7"], init="scale=1,0.5", max_shard_size=20_000)
    shutil.copy(output / "solar_upscale.json", output.parent / "other" / "solar_upscale.json")
    with pytest.raises(CheckpointError, match="verification failed"):
        verify_checkpoint(output.parent / "other", made[0])
    with pytest.raises(CheckpointError, match="verification failed"):
        verify_checkpoint(output.parent / "other")


# ---------------------------------------------------------------- untrusted provenance


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda v: v.update(format=2),
    "no source": lambda v: v.pop("source"),
    "no revision": lambda v: v.pop("revision"),
    "no job": lambda v: v.pop("job"),
    "job is a list": lambda v: v.update(job=[]),
    "layers that explode": lambda v: v["job"].update(layers=["[0] * 10**9"]),
    "layers of another model": lambda v: v["job"].update(layers=["0:999"]),
    "other layers": lambda v: v["job"].update(layers=["0:6", "1:7"]),
    "rows are a number": lambda v: v.update(layers=5),
    "rows are numbers": lambda v: v.update(layers=[5] * 12),
    "rows without a source": lambda v: [row.pop("source") for row in v["layers"]],
    "row from another layer": lambda v: v["layers"][7].update(source=0),
    "row with a list for a factor": lambda v: v["layers"][7].update(factor=[1]),
    "stack is a number": lambda v: v.update(stack=5),
    "stack of 10**9 layers": lambda v: v["stack"].update(layers=10**9),
    "stack of no layers": lambda v: v["stack"].update(layers=-1),
    "stack layers are a text": lambda v: v["stack"].update(layers="8"),
    "documents are a list": lambda v: v.update(documents=[]),
    "documents name nothing": lambda v: v.update(documents={}),
    "sidecars are a list": lambda v: v.update(sidecars=[]),
    "no sidecars": lambda v: v.pop("sidecars"),
    "digest of a sidecar is a number": lambda v: v["sidecars"].update(LICENSE=5),
    "sidecar out of the folder": lambda v: v["sidecars"].update({"../../etc/passwd": "0"}),
    "document out of the folder": lambda v: v["documents"].update({"../../etc/passwd": "0"}),
    "shards are a number": lambda v: v.update(shards=5),
    "shards are named by lists": lambda v: v.update(shards=[{"filename": [], "header_sha256": {}}]),
    "source shards are a number": lambda v: v.update(source_shards=5),
    "start that is none": lambda v: v["job"].update(init="explode"),
    "another start": lambda v: v["job"].update(init="copy"),
    "scale that is none": lambda v: v["job"].update(entry_scales=[1e300, 1]),
    "stack that is not there": lambda v: v["job"].update(stack="nothing"),
    "shards of a byte": lambda v: v["job"].update(max_shard_nbytes=1),
    "control characters": lambda v: v.update(source="\x1b[2J"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("with_source", [True, False])
def test_hostile_provenance_gives_a_one_line_error(
    case: str, with_source: bool, output: Path, made: tuple[Path, Path]
) -> None:
    change_json(output / "solar_upscale.json", HOSTILE[case])
    if case in ("shards of a byte", "source shards are a number") and not with_source:
        verify_checkpoint(output)  # detectable only with the source
        return
    with pytest.raises(UpscaleError) as caught:
        verify_checkpoint(output, made[0] if with_source else None)
    assert str(caught.value).isprintable()


def test_reformatted_provenance_is_found(output: Path, made: tuple[Path, Path]) -> None:
    value = json.loads((output / "solar_upscale.json").read_text())
    (output / "solar_upscale.json").write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match=r"solar_upscale\.json: is not formatted as planned"):
        verify_checkpoint(output, made[0])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "[" * 100_000, "\x00"])
def test_invalid_provenance_gives_a_one_line_error(text: str, output: Path) -> None:
    (output / "solar_upscale.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"solar_upscale\.json"):
        verify_checkpoint(output)


def test_folder_that_is_not_an_output_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        verify_checkpoint(tmp_path / "no")
    with pytest.raises(CheckpointError, match=r"no solar_upscale\.json; expected a folder that solar-upscale wrote"):
        verify_checkpoint(write_checkpoint(tmp_path / "s"))


def test_many_differences_are_counted_not_listed(output: Path, made: tuple[Path, Path]) -> None:
    for path in output.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        start = 8 + int.from_bytes(content[:8], "little")
        content[start:] = bytes(len(content) - start)
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="differs from the source") as caught:
        verify_checkpoint(output, made[0])
    assert str(caught.value).count("differs from the source") <= 5
