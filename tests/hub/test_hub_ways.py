"""Other Hubs than ours: each thing that another server may do otherwise, and what a broken one may answer."""

import base64
import hashlib
import json
import logging
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, close_session, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from solar_upscale.cli import main
from solar_upscale.errors import CheckpointError, HubError, OutputError
from solar_upscale.publish.folder import push_folder
from solar_upscale.publish.publication import Publication
from solar_upscale.request import Destination, HubOptions
from solar_upscale.source.hub.client import Retries, hub_errors
from solar_upscale.source.hub.model import HubSource
from solar_upscale.source.opening import open_source
from tests.support.checkpoints import assert_layers_come_from, write_checkpoint
from tests.support.hub_fixtures import TOKEN, hub_env, hub_model
from tests.support.hub_server import WAYS, Blob, Fault, HubServer

# The client passes open files to its HTTP library in a way that the latter finds old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SHARD = "model-00001-of-00002.safetensors"
LAYERS = ["--layers", "range(0,6)", "range(2,8)"]


def opened(text: str = "org/model", **how: Any) -> HubSource:
    source = open_source(text, HubOptions(**how))
    assert isinstance(source, HubSource)
    return source


def downloaded(source: HubSource, filename: str = SHARD) -> Path | None:
    source.fetch([filename])
    return source.local_path(filename)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def published(hub: HubServer, repo: str = "me/model") -> dict[str, bytes]:
    held = hub.files(repo) if hub.repos[repo].branches else {}
    held.pop(".gitattributes", None)
    return held


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "out", hub_model(nbytes=100_000))


# Other ways


@pytest.mark.parametrize("hub", WAYS, indirect=True)
def test_model_is_read_from_any_hub(hub: HubServer, tmp_path: Path) -> None:
    files = hub_model(nbytes=50_000)
    hub.add_model("org/model", files)
    name = "old/model" if hub.way == "moved" else "org/model"
    streamed = opened(name, stream=True)
    assert {name: file.nbytes for name, file in streamed.files().items()} == {k: len(v) for k, v in files.items()}
    assert {len(file.state) for file in streamed.files().values()} <= {40, 64}
    data = files[SHARD]
    assert streamed.read(SHARD, 0, 4096) == data[:4096]
    start = 8 + int.from_bytes(data[:8], "little")
    assert b"".join(streamed.stream(SHARD, start, len(data))) == data[start:]
    assert streamed.local_path(SHARD) is None
    path = downloaded(opened(name, cache_dir=tmp_path / "other"))
    assert path is not None
    assert path.read_bytes() == data


@pytest.mark.parametrize("hub", [way for way in WAYS if way != "moved"], indirect=True)
def test_folder_is_published_on_any_hub_and_a_second_push_sends_nothing(hub: HubServer, folder: Path) -> None:
    Publication(Destination("me/model", token=TOKEN)).check_rights()
    url = push_folder(folder, Destination("me/model", token=TOKEN))
    assert url == f"{hub.endpoint}/me/model"
    assert published(hub) == {path.name: path.read_bytes() for path in folder.iterdir()}
    commits, sent = len(hub.repos["me/model"].commits), hub.received("PUT")
    assert push_folder(folder, Destination("me/model", token=TOKEN)) == url
    assert (len(hub.repos["me/model"].commits), hub.received("PUT")) == (commits, sent)


@pytest.mark.parametrize("how", [[], ["--delete-local-shards"]])
@pytest.mark.parametrize("hub", ["prefix", "gzip", "two hops", "by size", "no commit"], indirect=True)
def test_one_command_upscales_and_publishes_on_any_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.chdir(tmp_path)
    source = write_checkpoint(tmp_path / "made", shards=2)
    hub.add_model("org/small", {path.name: path for path in source.iterdir()})
    for _ in range(2):  # the second time there is nothing left to do
        assert main(["org/small", "out", *LAYERS, "--stream", "--push-to-hub", "me/SOLAR", "--private", *how]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{hub.endpoint}/me/SOLAR"
        assert hub.repos["me/SOLAR"].private
        assert len(hub.lines("/commit/")) == 1
    assert_layers_come_from(written(tmp_path / "published", hub.files("me/SOLAR")), source, [*range(6), *range(2, 8)])


def test_only_the_weights_that_are_read_are_fetched(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_checkpoint(tmp_path / "made", shards=2)
    others = (
        *("consolidated.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json"),
        *("model.safetensors.index.fp16.json", "original/consolidated.00.pth", "original/params.json", "tf_model.h5"),
        *("model-Q4_K_M.gguf", "onnx/model.onnx", "onnx/config.json", "flax_model.msgpack", "adapter.pt"),
    )
    hub.add_model("org/small", {path.name: path for path in source.iterdir()} | dict.fromkeys(others, b"{}"))
    for how in ([], ["--stream"]):
        assert main(["org/small", f"out{len(how)}", *LAYERS, *how]) == 0
        assert not {path.name for path in (tmp_path / f"out{len(how)}").rglob("*")} & {
            Path(name).name for name in others[:-1]
        } - {"config.json"}
    digests = {hashlib.sha256(b"{}").hexdigest()}
    assert not [line for line in hub.lines("resolve|cdn") if any(name in line for name in (*others, *digests))]


# A dead line, and other troubles that pass


def test_expired_address_is_requested_again(hub: HubServer, folder: Path) -> None:
    files = hub_model(nbytes=100_000)
    hub.add_model("org/model", files)
    for status in (400, 401, 403, 410):
        hub.fault("GET cdn", status=status, message="Request has expired")
    assert b"".join(opened(stream=True).stream(SHARD, 0, len(files[SHARD]))) == files[SHARD]
    hub.fault("GET cdn", status=403)
    assert downloaded(opened()) is not None
    hub.fault("PUT cdn", status=403)
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub).keys() == files.keys()


def test_hub_refusal_is_not_retried(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.fault("GET hub /org/model/resolve", status=403, times=100)
    before = len(hub.requests)
    with pytest.raises(HubError, match=r"^org/model: access is denied"):
        source.read(SHARD, 100, 300)
    assert len(hub.requests) == before + 1


def test_retry_after_may_be_a_date(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar_upscale.source.hub.client.time.time", lambda: 1_000_000.5)
    waits = list[float]()
    for date in (formatdate(1_000_033, usegmt=True), formatdate(999_000, usegmt=True), "Wed, 99 Foo 9999 00:00:00 GMT"):
        hub.fault("GET hub /api", status=503, headers={"Retry-After": date})
        with pytest.raises(HfHubHTTPError) as caught:
            HfApi().model_info("org/any")
        Retries("org/any", sleep=waits.append).wait(caught.value)
    assert waits == [33, 0, 0]


def test_uploads_the_client_already_retried_are_not_retried_for_minutes(hub: HubServer, folder: Path) -> None:
    hub.fault("preupload", status=503, times=1000)
    with pytest.raises(HubError, match="the Hub returned a server error"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert len(hub.lines("preupload")) <= 12
    assert sum(hub.waits) < 60


def test_silent_server_is_retried(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    close_session()
    request.addfinalizer(close_session)  # its limit is this test's
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(constants, name, 0.3)
    monkeypatch.setattr("solar_upscale.source.hub.client.READ_TIMEOUT", 0.3)
    for step in ("GET hub /api", "GET cdn", "repos/create", "/commit/"):
        hub.fault(step, action=lambda: time.sleep(0.6))
    source = opened(stream=True)
    assert source.read(SHARD, 0, 300) == files[SHARD][:300]
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub) == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(hub.repos["me/model"].commits) == 2


@pytest.mark.parametrize("kind", [".safetensors", ".bin"])
@pytest.mark.parametrize("trouble", [{"status": 503}, {"drop": True}, {"page": b"<html>"}])
def test_cached_model_is_used_when_the_hub_fails(hub: HubServer, trouble: dict[str, Any], kind: str) -> None:
    files = {f"m{kind}" if name.endswith("safetensors") else name: data for name, data in hub_model(1).items()}
    hub.add_model("org/model", files)
    snapshot_download("org/model")
    hub.fault("GET hub /api", times=100, **trouble)
    assert opened().files().keys() == files.keys()
    hub.faults = [Fault("HEAD hub", times=100, **trouble), *hub.faults] if "page" not in trouble else hub.faults
    assert opened().read(f"m{kind}", 0, 8) == files[f"m{kind}"][:8]


def test_hub_refusal_overrides_the_cache(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    snapshot_download("org/model")
    hub.fault("GET hub /api", status=403, times=100)
    with pytest.raises(HubError, match=r"^org/model: access is denied"):
        opened()


# Names, revisions, and the cache


@pytest.mark.parametrize("name", ["gpt2", "org/model", "Org-1/my.model_2"])
def test_names_and_revisions_of_every_form_are_resolved(hub: HubServer, name: str) -> None:
    first = hub.add_model(name, hub_model())
    second = hub.commit(name, {"config.json": b'{"a": 1}'}, revision="refs/pr/1")
    hub.repos[name].branches["v1.0"] = first
    for revision, commit in (
        (None, first), ("main", first), ("v1.0", first), (first, first), (first[:7], first), ("refs/pr/1", second)
    ):  # fmt: skip
        assert opened(name, revision=revision, stream=True).revision == commit


def test_dataset_is_not_a_model(hub: HubServer) -> None:
    with pytest.raises(CheckpointError, match=r"datasets/org/set: no such folder; expected .* a model id USER/NAME"):
        opened("datasets/org/set")
    with pytest.raises(HubError, match=r"^org/set: no such model"):
        opened("org/set")


def test_cache_without_links_is_read_like_any_other(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda cache_dir=None: False)
    source = opened()
    source.download(list(files))
    assert not [path for path in Path(constants.HF_HUB_CACHE).rglob("*.safetensors") if path.is_symlink()]
    again = opened(local_files_only=True)
    assert again.read(SHARD, 0, 100) == files[SHARD][:100]
    assert downloaded(again) is not None


def test_partly_cached_model_is_reported_when_offline(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_checkpoint(tmp_path / "made", shards=2)
    hub.add_model("org/small", {path.name: path for path in source.iterdir()})
    snapshot_download("org/small", ignore_patterns=["model-00002*"])
    assert main(["plan", "org/small", *LAYERS, "--local-files-only"]) == 1
    said = capsys.readouterr().err
    assert "org/small: weight files are missing: model-00002-of-00002.safetensors" in said
    assert main(["org/small", "out", *LAYERS]) == 0
    assert len(hub.lines("GET cdn")) == 3  # each shard whole, and the header of the one that was not there


# Bytes that are not those


def flip(hub: HubServer, repo: str = "org/model", shard: str = SHARD) -> Callable[[], object]:
    """Flip a bit of what is stored under an unchanged hash; return what flips it back."""
    commit = hub.repos[repo].find("main")
    assert commit is not None
    path = commit.files[shard].path
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    return lambda: path.write_bytes(data)


@pytest.mark.parametrize("how", [[], ["--stream"], ["--stream", "--workers", "2"]])
def test_bytes_with_the_wrong_hash_are_refused_and_not_cached(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_checkpoint(tmp_path / "made", shards=2)
    hub.add_model("org/small", {path.name: path for path in source.iterdir()})
    mend = flip(hub, "org/small")
    assert main(["org/small", "out", *LAYERS, *how]) == 1
    said = capsys.readouterr().err
    assert re.search(
        rf"{SHARD}: the received bytes have the wrong sha256; expected \w+, got \w+; run the same command again", said
    )
    assert not (tmp_path / "out").exists()
    mend()
    assert main(["org/small", "out", *LAYERS, *how]) == 0
    assert_layers_come_from(tmp_path / "out", source, [*range(6), *range(2, 8)])


def test_corrupt_blob_is_removed_from_the_shared_store(xet_hub: HubServer) -> None:
    files = hub_model(nbytes=200_000)
    HfApi(token=TOKEN).create_repo("me/model")
    HfApi(token=TOKEN).upload_folder(repo_id="me/model", folder_path=written(xet_hub.root / "made", files))
    commit = xet_hub.repos["me/model"].find("main")
    assert commit is not None
    right = commit.files[SHARD]
    wrong = Blob(right.path, right.nbytes, "0" * 40, "0" * 64, right.xet_hash)
    commit.files[SHARD] = wrong
    with pytest.raises(CheckpointError, match="the received bytes have the wrong sha256"):
        opened("me/model").download([SHARD])
    cache = Path(constants.HF_HUB_CACHE)
    assert not [path for path in cache.rglob("*") if path.is_symlink() and not path.exists()]
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size == len(files[SHARD])]


def test_multipart_range_response_is_refused(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.fault("GET cdn", status=206, headers={"Content-Type": "multipart/byteranges; boundary=x"})
    with pytest.raises(HubError, match=r"expected Content-Range bytes 100-299/\d+, got none"):
        source.read(SHARD, 100, 300)


@pytest.mark.parametrize(
    "said",
    ["bytes 100-300/{n}", "bytes 99-299/{n}", "bytes 100-299/7", "bytes 299-100/{n}", "100-299", "items 100-299/*"],
)
def test_range_outside_the_request_is_refused(hub: HubServer, said: str) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    source = opened(stream=True)
    hub.fault("GET cdn", status=206, headers={"Content-Range": said.format(n=len(files[SHARD]))})
    with pytest.raises(HubError, match=r"expected Content-Range bytes 100-299/\d+, got "):
        source.read(SHARD, 100, 300)


def test_compressed_bytes_are_refused(hub: HubServer) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    source = opened(stream=True)
    headers = {"Content-Range": f"bytes 100-299/{len(files[SHARD])}", "Content-Encoding": "gzip"}
    hub.fault("GET cdn", status=206, headers=headers)
    with pytest.raises(HubError, match=r"expected unencoded bytes, got gzip"):
        source.read(SHARD, 100, 300)


def test_range_beyond_the_end_gives_a_one_line_error(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.fault("GET cdn", status=416)
    with pytest.raises(HubError, match=r"^org/model: refused with status 416"):
        source.read(SHARD, 100, 300)


def test_without_range_support_files_are_downloaded_or_the_error_says_what_to_do(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_checkpoint(tmp_path / "made", shards=2)
    hub.add_model("org/small", {path.name: path for path in source.iterdir()})
    hub.fault("GET cdn", ignore_range=True, times=10**6)
    for words, step in (
        (["plan", "org/small", *LAYERS], "run `hf download org/small` first"),
        (["org/small", "out", *LAYERS, "--stream"], "leave --stream out"),
    ):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert f"range requests are not supported; expected status 206, got 200; {step}" in said
        assert len(said.splitlines()) == 1
    assert main(["org/small", "out", *LAYERS]) == 0
    assert_layers_come_from(tmp_path / "out", source, [*range(6), *range(2, 8)])
    assert main(["plan", "org/small", *LAYERS]) == 0  # it is in the cache now


# Answers that make no sense


ODD = (b"[]", b"null", b"7", b'"text"', b"{}", b'{"id": 5, "siblings": 7}', b"[[]]", b"<html>", b"", b"\xff\xfe")


@pytest.mark.parametrize("page", ODD)
@pytest.mark.parametrize("step", ["GET hub /api/models/org/model/revision", "GET hub /api/models/org/model/tree"])
def test_malformed_listing_gives_a_one_line_error(hub: HubServer, step: str, page: bytes) -> None:
    hub.add_model("org/model", hub_model())
    if "tree" in step:
        hub.fault("GET hub /api/models/org/model/revision", page=b'{"id": "org/model"}', times=100)
    hub.fault(step, page=page, times=100)
    with suppress(HubError, CheckpointError):  # one line: errors.py sees to that
        # There is another way to list them than the first, and no file is as good a reason to stop as any.
        assert opened().files().keys() == (set() if "tree" in step else hub_model().keys())


@pytest.mark.parametrize("page", ODD)
@pytest.mark.parametrize("step", ["repos/create", "preupload", "objects/batch", "GET hub /api/models/me", "/commit/"])
def test_malformed_push_response_gives_a_one_line_error_and_publishes_nothing(
    hub: HubServer, folder: Path, step: str, page: bytes
) -> None:
    hub.add_model("me/model", {"README.md": b"before"})
    fault = hub.fault(step, page=page, times=100)
    with pytest.raises((HubError, OutputError)) as caught:
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert str(caught.value).startswith("me/model: ")
    assert published(hub) == {"README.md": b"before"}
    hub.faults.remove(fault)
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub) == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("sha", ["main", "ABC", "", "../../etc", "0" * 41])
def test_invalid_commit_hash_is_refused(hub: HubServer, sha: str) -> None:
    commit = hub.add_model("org/model", hub_model())
    repo = hub.repos["org/model"]
    repo.commits[commit].sha = sha
    with pytest.raises(HubError):
        opened()


# The commit


def test_files_that_the_repository_ignores_stop_the_push(hub: HubServer, folder: Path) -> None:
    hub.ignored = {"config.json"}
    with pytest.raises(HubError, match=r"^me/model: the repository's .gitignore excludes config.json; change it"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub) == {}


@pytest.mark.parametrize("status", [409, 412])
def test_conflict_is_reported_unless_our_own_commit_caused_it(hub: HubServer, folder: Path, status: int) -> None:
    hub.fault("/commit/", status=status, message="conflict")
    with pytest.raises(HubError, match="run the same command again"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub) == {}
    hub.fault("/commit/", cut_after=0)
    hub.fault("/commit/", status=status)
    push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub).keys() == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("status", "words"), [(413, "too large for the Hub"), (403, "no write access")])
def test_refused_commit_gives_a_one_line_error(hub: HubServer, folder: Path, status: int, words: str) -> None:
    hub.fault("/commit/", status=status, message="no")
    with pytest.raises(HubError, match=rf"^me/model: {words} \(no\)"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub) == {}


def test_refused_large_file_gives_a_one_line_error(hub: HubServer, folder: Path) -> None:
    oid = hashlib.sha256((folder / SHARD).read_bytes()).hexdigest()
    error = {"oid": oid, "size": 1, "error": {"code": 507, "message": "storage is full"}}
    hub.fault("objects/batch", page=json.dumps({"objects": [error]}).encode(), times=100)
    with pytest.raises(HubError, match="storage is full"):
        push_folder(folder, Destination("me/model", token=TOKEN))
    assert published(hub) == {}


# Secrets


@pytest.mark.parametrize("token", ["hf_sEcReTsEcReT", "a-token.of+another/Kind="])
def test_token_echoed_by_the_hub_is_redacted(hub: HubServer, token: str) -> None:
    hub.add_token(token, "me")
    for status in (400, 401, 403, 409, 413, 418):
        hub.fault("GET hub /api", status=status, message=f"I do not like {token} at all")
        with pytest.raises(HubError) as caught, hub_errors("org/model", writes=True):
            HfApi(token=token).model_info("org/model")
        assert token not in "".join(traceback.format_exception(caught.value))


def test_credentials_in_the_endpoint_are_redacted_everywhere(hub: HubServer, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "made", shards=2)
    hub.add_model("org/small", {path.name: path for path in source.iterdir()})
    endpoint = hub.endpoint.replace("://", "://me:pAsSwOrD@")
    hub.add_token("Basic " + base64.b64encode(b"me:pAsSwOrD").decode(), "me")  # what the client then sends
    env = hub_env(hub, tmp_path / "hf", HF_TOKEN=TOKEN, HF_ENDPOINT=endpoint)
    shown = ""
    for words in (
        ["org/small", "out", *LAYERS, "--stream", "--push-to-hub", "me/SOLAR", "--delete-local-shards", "--json"],
        ["plan", "org/none", *LAYERS],
    ):
        command = [sys.executable, "-m", "solar_upscale", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
        shown += done.stdout + done.stderr
    assert f"{hub.endpoint}/me/SOLAR" in shown
    assert "org/none: " in shown
    assert "pAsSwOrD" not in shown
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"pAsSwOrD" in path.read_bytes()]


def test_token_invalid_in_a_header_gives_a_one_line_error_without_it(
    hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add_model("org/model", hub_model())
    for token in ("hf_sEcReT\nX: y", "hf_sEcReT\x00", "hf_sEcRé"):
        with caplog.at_level(logging.DEBUG), pytest.raises((HubError, CheckpointError)) as caught:
            opened(token=token)
        assert "sEcR" not in str(caught.value) + caplog.text


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between the tries of a range are cut to nothing too."""
    real = threading.Event.wait
    monkeypatch.setattr(
        threading.Event, "wait", lambda self, seconds=None: real(self, 0 if seconds and seconds >= 1 else seconds)
    )
