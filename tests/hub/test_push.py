"""Publishing through the real client to a loopback Hub: what arrives, when it shows, what a stop or a fault leaves."""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, constants, snapshot_download
from safetensors.numpy import save

from solar_upscale.errors import HubError, OutputError
from solar_upscale.publish.folder import push_folder
from solar_upscale.publish.publication import Publication
from solar_upscale.request import Destination
from solar_upscale.write.work_files import RECORD_NAME
from tests.support.hub_fixtures import TOKEN, hub_env, hub_model
from tests.support.hub_server import HubServer

# The client passes open files to its HTTP library in a way that the latter finds old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]


def written(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def files() -> dict[str, bytes]:
    return hub_model(num_shards=3, nbytes=100_000) | {"tokenizer/vocab.json": b"{}", "layer_map.svg": b"<svg/>"}


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    return written(tmp_path / "out", files)


def on_hub(hub: HubServer, repo: str = "me/model", revision: str = "main") -> dict[str, bytes]:
    held = hub.files(repo, revision)
    held.pop(".gitattributes", None)
    return held


# What arrives


def test_folder_is_published_in_one_commit_on_top_of_large_files(
    hub: HubServer, folder: Path, files: dict[str, bytes]
) -> None:
    (folder / ".hidden").write_text("not published")
    assert push_folder(folder, Destination("me/model", token=TOKEN)) == f"{hub.endpoint}/me/model"
    assert on_hub(hub) == files
    assert len(hub.repos["me/model"].commits) == 2
    lines = hub.lines("PUT cdn|/commit/")
    assert [line.split(" /")[0] for line in lines] == ["PUT cdn"] * 3 + ["POST hub"]


def test_folder_is_published_through_xet(xet_hub: HubServer, folder: Path, files: dict[str, bytes]) -> None:
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(xet_hub) == files
    assert not xet_hub.lines("PUT")
    local = snapshot_download("me/model", token=TOKEN)
    assert {name: (Path(local) / name).read_bytes() for name in files} == files


def test_multipart_uploads_arrive_whole(
    hub: HubServer, folder: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.multipart_nbytes = 30_000
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files
    assert len(hub.lines("PUT cdn")) == 12


def test_private_repository_is_made_private_and_a_public_one_is_not_taken_for_one(hub: HubServer, folder: Path) -> None:
    push_folder(folder, Destination("me/model", token=TOKEN, private=True))
    assert hub.repos["me/model"].private
    hub.add_model("me/open", {})
    with pytest.raises(HubError, match=r"^me/open: exists and is public"):
        push_folder(folder, Destination("me/open", token=TOKEN, private=True))
    assert on_hub(hub, "me/open") == {}


def test_branch_is_made_and_main_is_left_alone(hub: HubServer, folder: Path, files: dict[str, bytes]) -> None:
    url = push_folder(folder, Destination("me/model", token=TOKEN, revision="v1.0"))
    assert url == f"{hub.endpoint}/me/model/tree/v1.0"
    assert on_hub(hub, revision="v1.0") == files
    assert on_hub(hub) == {}


@pytest.mark.parametrize("which", ["hub", "xet_hub"])
def test_pull_request_leaves_the_branch_alone(
    which: str, request: pytest.FixtureRequest, folder: Path, files: dict[str, bytes]
) -> None:
    hub: HubServer = request.getfixturevalue(which)
    hub.add_model("org/model", {"README.md": b"theirs"})
    assert (
        push_folder(folder, Destination("org/model", token=TOKEN, create_pr=True))
        == f"{hub.endpoint}/org/model/discussions/1"
    )
    assert on_hub(hub, "org/model") == {"README.md": b"theirs"}
    assert on_hub(hub, "org/model", "refs/pr/1") == files


def test_commit_message_is_the_one_given(hub: HubServer, folder: Path) -> None:
    push_folder(folder, Destination("me/model", token=TOKEN, commit_message="Deeper"))
    assert hub.repos["me/model"].find("main").title == "Deeper"


def test_weights_of_an_earlier_push_are_not_left_beside_the_new_ones(
    hub: HubServer, folder: Path, files: dict[str, bytes]
) -> None:
    old = {"model.safetensors": b"old", "model-00001-of-00002.safetensors": b"old", "adapter.safetensors": b"kept"}
    hub.add_model("me/model", {**old, "NOTES.md": b"kept"})
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files | {"adapter.safetensors": b"kept", "NOTES.md": b"kept"}


# A second push, and one that was stopped


@pytest.mark.parametrize("which", ["hub", "xet_hub"])
def test_second_push_sends_nothing(which: str, request: pytest.FixtureRequest, folder: Path) -> None:
    hub: HubServer = request.getfixturevalue(which)
    url = push_folder(folder, Destination("me/model", token=TOKEN))
    before = len(hub.requests)
    assert push_folder(folder, Destination("me/model", token=TOKEN)) == url
    again = [request.line for request in hub.requests[before:]]
    assert len(hub.repos["me/model"].commits) == 2
    assert not [line for line in again if "PUT" in line or "/commit/" in line or "lfs" in line or "preupload" in line]


def test_push_after_one_change_sends_that_change(hub: HubServer, folder: Path, files: dict[str, bytes]) -> None:
    push_folder(folder, Destination("me/model", token=TOKEN))
    sent = hub.received("PUT")
    files["config.json"] = b'{"model_type": "mistral"}'
    written(folder, files)
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files
    assert hub.received("PUT") == sent


def test_killed_push_goes_on_where_it_stopped(
    hub: HubServer, folder: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from solar_upscale.publish.folder import push_folder\n"
        "from solar_upscale.request import Destination\n"
        f"push_folder(Path({str(folder)!r}), Destination('me/model', token=sys.stdin.readline().strip()))"
    )
    env = hub_env(hub, tmp_path / "home")
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdin=subprocess.PIPE, text=True) as process:
        hub.fault("PUT cdn", skip=1, action=process.kill, drop=True)
        assert process.stdin is not None
        process.stdin.write(TOKEN + "\n")
        process.stdin.close()
        assert process.wait(timeout=60) != 0
    assert on_hub(hub) == {}
    assert len(hub.lines("PUT cdn")) == 2
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files
    assert len(hub.lines("PUT cdn")) == 4


# Shard by shard, with shards that do not stay


@pytest.mark.parametrize("which", ["hub", "xet_hub"])
def test_shards_may_be_deleted_once_sent_and_another_run_finishes(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, files: dict[str, bytes]
) -> None:
    hub: HubServer = request.getfixturevalue(which)
    folder = tmp_path / "out.incomplete"
    folder.mkdir()
    record = folder / RECORD_NAME
    first = Publication(Destination("me/model", token=TOKEN), record=record)
    for name in SHARDS[:2]:
        written(folder, {name: files[name]})
        sent = first.send(folder / name, name)
        assert sent.nbytes == len(files[name])
        (folder / name).unlink()
    assert on_hub(hub) == {}
    before = len(hub.requests)

    second = Publication(Destination("me/model", token=TOKEN), record=record)
    assert list(second.sent) == SHARDS[:2]
    written(folder, {name: data for name, data in files.items() if name not in SHARDS[:2]})
    second.send(folder / SHARDS[2], SHARDS[2])
    (folder / SHARDS[2]).unlink()
    assert on_hub(hub) == {}
    ahead = len(hub.requests)
    second.finish(folder)
    assert on_hub(hub) == files
    assert not [one.line for one in hub.requests[ahead:] if "xet-write" in one.path or "lfs" in one.path]
    assert len(hub.repos["me/model"].commits) == 2
    put = [request.line for request in hub.requests[before:] if request.method == "PUT"]
    assert len(put) == (0 if hub.xet else 1)
    assert TOKEN not in record.read_text()


def test_run_that_only_lacks_the_commit_needs_no_shard(hub: HubServer, tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = written(tmp_path / "out.incomplete", files)
    record = folder / RECORD_NAME
    first = Publication(Destination("me/model", token=TOKEN), record=record)
    for name in SHARDS:
        first.send(folder / name, name)
        (folder / name).unlink()
    hub.fault("/commit/", status=403)
    with pytest.raises(HubError, match="no write access"):
        first.finish(folder)
    assert on_hub(hub) == {}
    Publication(Destination("me/model", token=TOKEN), record=record).finish(folder)
    assert on_hub(hub) == files


def test_shard_that_is_neither_here_nor_sent_stops_the_commit(hub: HubServer, folder: Path) -> None:
    publication = Publication(Destination("me/model", token=TOKEN), record=folder / RECORD_NAME)
    publication.send(folder / SHARDS[0], SHARDS[0])
    for name in SHARDS:
        (folder / name).unlink()
    with pytest.raises(OutputError, match=f"not a finished checkpoint: {SHARDS[1]}, {SHARDS[2]} missing"):
        publication.finish(folder)
    assert on_hub(hub) == {}


def test_record_of_another_repository_is_not_believed(hub: HubServer, folder: Path) -> None:
    Publication(Destination("me/one", token=TOKEN), record=folder / RECORD_NAME).send(folder / SHARDS[0], SHARDS[0])
    assert Publication(Destination("me/two", token=TOKEN), record=folder / RECORD_NAME).sent == {}
    (folder / RECORD_NAME).write_text("[]")
    with pytest.raises(OutputError, match="not a record of uploads"):
        Publication(Destination("me/one", token=TOKEN), record=folder / RECORD_NAME)


def test_what_the_hub_has_dropped_is_said(hub: HubServer, folder: Path) -> None:
    record = folder / RECORD_NAME
    publication = Publication(Destination("me/model", token=TOKEN), record=record)
    for name in SHARDS:
        publication.send(folder / name, name)
    for path in hub.lfs.iterdir():
        path.unlink()
    with pytest.raises(HubError, match=f"remove {record} and run the same command again"):
        publication.finish(folder)
    assert on_hub(hub) == {}


def test_repository_without_lfs_for_weights_is_refused_before_upload(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.hub_server.LFS_SUFFIXES", ())
    monkeypatch.setattr("solar_upscale.publish.publication.LARGEST_IN_COMMIT", 1000)
    with pytest.raises(HubError, match="does not accept it as a large file"):
        push_folder(folder, Destination("me/model", token=TOKEN))


# Folders that are not to be published


def test_unfinished_folder_is_refused_before_anything_is_asked(
    hub: HubServer, tmp_path: Path, files: dict[str, bytes]
) -> None:
    truncated = files | {SHARDS[1]: files[SHARDS[1]][:-1]}
    without = {name: {key: data for key, data in files.items() if key != name} for name in ("config.json", SHARDS[2])}
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["t1"] = SHARDS[0]
    contradicting = files | {"model.safetensors.index.json": json.dumps(index).encode()}
    for number, bad in enumerate(
        [truncated, *without.values(), contradicting, {"config.json": b"{}"}, files | {"x.incomplete": b""}, {}]
    ):
        with pytest.raises(OutputError) as caught:
            push_folder(written(tmp_path / f"bad{number}", bad), Destination("me/model", token=TOKEN))
        assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="is unfinished"):
        push_folder(written(tmp_path / "out.incomplete", files), Destination("me/model", token=TOKEN))
    with pytest.raises(OutputError, match="no such folder"):
        push_folder(tmp_path / "nowhere", Destination("me/model", token=TOKEN))
    assert not hub.requests


# Faults


@pytest.mark.parametrize("status", [500, 503, 429])
def test_burst_of_errors_at_any_step_is_survived(
    hub: HubServer, folder: Path, files: dict[str, bytes], status: int
) -> None:
    for step in (
        "repos/create",
        "GET hub /api/models",
        "preupload",
        "objects/batch",
        "PUT cdn",
        "verify",
        "yaml",
        "/commit/",
    ):
        hub.fault(step, status=status, times=2, headers={"Retry-After": "1"} if status == 429 else {})
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files
    assert len(hub.repos["me/model"].commits) == 2


def test_burst_of_errors_at_the_xet_token_is_survived(
    xet_hub: HubServer, folder: Path, files: dict[str, bytes]
) -> None:
    xet_hub.fault("xet-write-token", status=503)
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(xet_hub) == files


def test_xet_token_that_is_refused_is_one_line(xet_hub: HubServer, folder: Path) -> None:
    xet_hub.fault("xet-write-token", status=403, times=100, message="storage limit reached")
    with pytest.raises(HubError, match=r"^me/model: ") as caught:
        push_folder(folder, Destination("me/model", token=TOKEN))
    print(caught.value)
    assert "\n" not in str(caught.value)
    assert on_hub(xet_hub) == {}


def test_cut_upload_is_sent_again(hub: HubServer, folder: Path, files: dict[str, bytes]) -> None:
    hub.fault("PUT cdn", drop=True, cut_after=5000, times=2)
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files


def test_commit_whose_answer_was_lost_is_found_out(hub: HubServer, folder: Path, files: dict[str, bytes]) -> None:
    hub.fault("/commit/", cut_after=0)
    assert push_folder(folder, Destination("me/model", token=TOKEN)) == f"{hub.endpoint}/me/model"
    assert on_hub(hub) == files
    assert len(hub.repos["me/model"].commits) == 2


def test_branch_that_moved_meanwhile_is_untouched(hub: HubServer, folder: Path, files: dict[str, bytes]) -> None:
    hub.add_model("me/model", {"README.md": b"before"})
    hub.fault("verify", skip=2, action=lambda: hub.commit("me/model", {"README.md": b"theirs"}))
    with pytest.raises(HubError, match=r"^me/model: the branch moved meanwhile, and nothing was changed; run the same"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == {"README.md": b"theirs"}
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == files
    assert len(hub.lines("PUT cdn")) == 3


def test_nothing_is_visible_before_the_commit_whatever_fails(hub: HubServer, folder: Path) -> None:
    hub.add_model("me/model", {"README.md": b"before"})
    for step in ("preupload", "objects/batch", "PUT cdn", "verify", "/commit/"):
        fault = hub.fault(step, status=400, times=100)
        with pytest.raises(HubError) as caught:
            push_folder(folder, Destination("me/model", token=TOKEN))
        assert "\n" not in str(caught.value)
        assert on_hub(hub) == {"README.md": b"before"}
        hub.faults.remove(fault)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (False, "^me/model: not logged in; log in with `hf auth login` or pass --token"),
        ("hf_reader", "^me/model: no write access"),
        ("hf_eXpIrEd", "^me/model: the token is invalid or has expired; log in"),
    ],
)
def test_write_refusals_are_reported_in_one_line(hub: HubServer, folder: Path, token: str | bool, words: str) -> None:
    hub.add_token("hf_reader", "you")
    with pytest.raises(HubError, match=words) as caught:
        push_folder(folder, Destination("me/model", token=token))
    assert "\n" not in str(caught.value)
    assert "hf_" not in str(caught.value)


@pytest.mark.parametrize("repo", ["a b", "me/mo del", "a/b/c", "me/.."])
def test_invalid_repo_id_gives_a_one_line_error_without_a_request(hub: HubServer, folder: Path, repo: str) -> None:
    with pytest.raises(HubError, match="not a repo id") as caught:
        push_folder(folder, Destination(repo, token=TOKEN))
    assert "\n" not in str(caught.value)
    assert not hub.requests


def test_publishing_offline_gives_a_one_line_error(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"^me/model: offline: HF_HUB_OFFLINE is set"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert not hub.requests


def test_token_that_expires_midway_gives_a_one_line_error_and_publishes_nothing(hub: HubServer, folder: Path) -> None:
    hub.fault("verify", skip=1, action=hub.tokens.clear)
    with pytest.raises(HubError, match=r"^me/model: the token is invalid or has expired"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == {}


def test_card_with_broken_front_matter_gives_a_one_line_error(hub: HubServer, folder: Path) -> None:
    (folder / "README.md").write_bytes(b"---\nlicense: [\n---\n# A model\n")
    with pytest.raises(HubError, match=r"^me/model: Invalid metadata in README.md"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert on_hub(hub) == {}


# Secrets, and what Xet saves


@pytest.mark.parametrize("which", ["hub", "xet_hub"])
def test_token_goes_to_the_hub_and_nowhere_else(
    which: str, request: pytest.FixtureRequest, folder: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hub: HubServer = request.getfixturevalue(which)
    with caplog.at_level(logging.DEBUG):
        push_folder(folder, Destination("me/model", token=TOKEN))
        Publication(Destination("me/model", token=TOKEN), record=tmp_path / RECORD_NAME).send(
            folder / SHARDS[0], SHARDS[0]
        )
    assert TOKEN not in caplog.text
    assert hub.leaks(TOKEN) == []
    assert any(TOKEN in value for one in hub.requests for value in one.headers.values())
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and "cas" not in path.parts]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_under_xet_an_upscaled_model_adds_little_to_the_store(xet_hub: HubServer, tmp_path: Path) -> None:
    layers = np.random.default_rng(0).integers(0, 256, (8, 2_000_000), dtype=np.uint8)

    def model(sources: list[int]) -> dict[str, bytes]:
        tensors = {f"model.layers.{target}.w": layers[source] for target, source in enumerate(sources)}
        return {"config.json": b"{}", "model.safetensors": save(tensors, {"format": "pt"})}

    def stored() -> int:
        return sum(path.stat().st_size for path in (xet_hub.cas / "xet" / "xorbs" / "xorbs").glob("default.*"))

    HfApi(token=TOKEN).create_repo("me/source")
    push_folder(written(tmp_path / "source", model(list(range(8)))), Destination("me/source", token=TOKEN))
    before = stored()
    assert before > 16_000_000
    target = written(tmp_path / "target", model([0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7]))
    push_folder(target, Destination("me/target", token=TOKEN))
    added = stored() - before
    print(f"Xet: {added} new bytes for a model of {(target / 'model.safetensors').stat().st_size}")
    assert added < 0.05 * 24_000_000
