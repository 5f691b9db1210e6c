"""HubSource through the real client against a loopback Hub: bytes, requests, faults, words."""

import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, snapshot_download
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solar_upscale.errors import CheckpointError, HubError
from solar_upscale.request import HubOptions
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.hub import client, ranges
from solar_upscale.source.hub.model import HubSource
from solar_upscale.source.opening import open_source
from tests.support.hub_fixtures import TOKEN, hub_env, hub_model
from tests.support.hub_server import Fault, HubServer, Sparse

SHARD = "model-00001-of-00002.safetensors"


def opened(text: str = "org/model", *, headers_only: bool = False, **how: object) -> HubSource:
    source = open_source(text, HubOptions(**how), headers_only=headers_only)  # type: ignore[arg-type] - options by name
    assert isinstance(source, HubSource)
    return source


def downloaded(source: HubSource, filename: str = SHARD) -> Path | None:
    source.fetch([filename])
    return source.local_path(filename)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_WINDOW_NBYTES", 1000)


# What is read


def test_files_are_those_of_one_commit_with_sizes_and_hashes(hub: HubServer) -> None:
    files = hub_model()
    commit = hub.add_model("org/model", files)
    source = opened()
    assert (source.name, source.revision) == ("org/model", commit)
    assert {name: file.nbytes for name, file in source.files().items()} == {k: len(v) for k, v in files.items()}
    blobs = hub.repos["org/model"].commits[commit].files
    assert {name: file.state for name, file in source.files().items()} == {k: v.etag for k, v in blobs.items()}
    assert len(hub.lines("GET hub /api/models/org/model")) == 1


@pytest.mark.parametrize("how", [{"headers_only": True}, {"stream": True}, {}])
def test_every_mode_reads_the_same_bytes(hub: HubServer, small_windows: None, how: dict[str, bool]) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    source = opened(**how)
    for name, data in files.items():
        for start, stop in [(0, 8), (8, 200), (0, len(data)), (5, 5), (len(data) - 3, len(data))]:
            end = min(stop, len(data))
            assert source.read(name, start, end) == data[start:end]
            assert b"".join(source.stream(name, start, end)) == data[start:end]


def test_streaming_fetches_each_byte_once_and_leaves_no_weights_in_the_cache(
    hub: HubServer, small_windows: None, tmp_path: Path
) -> None:
    files = hub_model(nbytes=20_000)
    hub.add_model("org/model", files)
    source = opened(stream=True)
    assert b"".join(source.stream(SHARD, 100, 20_000)) == files[SHARD][100:20_000]
    assert hub.sent("GET cdn") == 19_900
    assert source.local_path(SHARD) is None
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_streaming_keeps_several_requests_in_flight_and_no_more_than_its_windows(
    hub: HubServer, small_windows: None
) -> None:
    hub.add_model("org/model", hub_model(nbytes=50_000))
    stream = opened(stream=True).stream(SHARD, 0, 50_000)
    next(stream)
    deadline = time.monotonic() + 10  # a request in flight may take a moment to be heard
    while len(hub.lines("GET cdn")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    stream.close()
    assert 2 <= len(hub.lines("GET cdn")) <= 6


def test_header_longer_than_the_prefetch_is_read_in_full(hub: HubServer) -> None:
    head = (200_000).to_bytes(8, "little") + bytes(range(250)) * 800
    hub.add_model("org/model", {"config.json": b"{}", "model.safetensors": head + b"data"})
    source = opened(headers_only=True)
    source.read("model.safetensors", 0, 8)
    assert source.read("model.safetensors", 8, 200_008) == head[8:]
    assert hub.sent("GET cdn") == 200_008


def test_downloading_fetches_only_requested_files_and_only_once(hub: HubServer) -> None:
    files = hub_model()
    hub.add_model("org/model", files | {"pytorch_model.bin": b"x" * 9000, "weird[1]*.json": b"{}"})
    source = opened()
    for _ in range(2):
        source.download([SHARD, "weird[1]*.json"])
        path = source.local_path(SHARD)
        assert path is not None
        assert path.read_bytes() == files[SHARD]
    assert len(hub.lines("GET cdn")) == 1
    assert not hub.lines("pytorch_model")


def test_cached_model_is_read_from_the_cache_in_every_mode(hub: HubServer) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    snapshot_download("org/model")
    before = len(hub.lines("cdn"))
    for how in ({"stream": True}, {"headers_only": True}, {}):
        source = opened(**how)
        assert source.read(SHARD, 0, 8) == files[SHARD][:8]
        assert b"".join(source.stream(SHARD, 0, len(files[SHARD]))) == files[SHARD]
        assert source.local_path(SHARD) is not None
    assert len(hub.lines("cdn")) == before


def test_folder_takes_precedence_over_an_id(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("org/model"), FolderSource)
    with pytest.raises(CheckpointError, match="a folder has no revisions"):
        open_source("org/model", HubOptions(revision="main"))
    assert not hub.requests


@pytest.mark.parametrize("text", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c", "../nowhere", "a\\b"])
def test_path_is_never_looked_up_on_the_hub(hub: HubServer, text: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        open_source(text)
    assert not hub.requests


@pytest.mark.parametrize("text", ["a b", "org/mo del", "-x", "org/..", "", "org/é"])
def test_invalid_id_is_refused_in_one_line(hub: HubServer, text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_source(text)
    assert "\n" not in str(caught.value)
    assert not hub.requests


def test_model_in_a_xet_store_is_downloaded_by_the_client_and_streamed_by_ranges(xet_hub: HubServer) -> None:
    files = hub_model(nbytes=200_000)
    HfApi(token=TOKEN).create_repo("me/model")
    operations = [CommitOperationAdd(name, data) for name, data in files.items()]
    HfApi(token=TOKEN).create_commit("me/model", operations, commit_message="x")
    streamed = opened("me/model", stream=True)
    assert b"".join(streamed.stream(SHARD, 7, 100_000)) == files[SHARD][7:100_000]
    before = len(xet_hub.lines("GET cdn"))
    path = downloaded(opened("me/model"))
    assert path is not None
    assert path.read_bytes() == files[SHARD]
    assert len(xet_hub.lines("GET cdn")) == before
    assert xet_hub.lines("xet-read-token")


# Offline


def test_model_in_the_cache_needs_no_network(hub: HubServer) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    online = opened()
    online.download(list(files))
    hub.stop()
    source = opened()
    assert source.revision == online.revision
    assert source.files() == online.files()
    assert source.read(SHARD, 0, 100) == files[SHARD][:100]


def test_offline_settings_send_no_request(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    opened().download(list(files))
    before = len(hub.requests)
    assert opened(local_files_only=True).read(SHARD, 0, 100) == files[SHARD][:100]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert opened().read(SHARD, 0, 100) == files[SHARD][:100]
    with pytest.raises(HubError, match=r"^org/other: not fully cached, and offline"):
        opened("org/other")
    assert len(hub.requests) == before


def test_custom_cache_folder_is_used(hub: HubServer, tmp_path: Path) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    source = opened(cache_dir=tmp_path / "mine")
    source.download([SHARD])
    assert list((tmp_path / "mine").rglob(SHARD))
    assert not (tmp_path / "cache").exists()
    with pytest.raises(HubError, match="offline"):
        opened(local_files_only=True)


# Revisions


def test_revision_that_moves_in_the_middle_does_not_mix_commits(hub: HubServer, small_windows: None) -> None:
    old, new = hub_model(nbytes=10_000), hub_model(num_shards=2, nbytes=10_000)
    new = {name: data[::-1] if name.endswith("safetensors") else data for name, data in new.items()}
    first = hub.add_model("org/model", old)
    source = opened(stream=True)
    stream = source.stream(SHARD, 0, 10_000)
    start = next(stream)
    second = hub.commit("org/model", new)
    assert start + b"".join(stream) == old[SHARD][:10_000]
    assert source.read(SHARD, 0, 100) == old[SHARD][:100]
    assert opened().revision == second
    assert opened(revision=first).revision == first


def test_branch_and_a_tagged_commit_are_found_by_name(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    sha = hub.commit("org/model", {"config.json": b'{"a": 1}'}, revision="exp/one")
    source = opened(revision="exp/one")
    assert source.revision == sha
    assert source.read("config.json", 0, 8) == b'{"a": 1}'


# Faults


def test_truncated_body_resumes_at_the_cut(hub: HubServer) -> None:
    files = hub_model(nbytes=3_000_000)
    hub.add_model("org/model", files)
    hub.fault("GET cdn", cut_after=1_500_000)
    hub.fault("GET cdn", cut_after=700_000)
    data = files[SHARD]
    assert b"".join(opened(stream=True).stream(SHARD, 0, len(data))) == data
    assert len(hub.lines("GET cdn")) == 3
    assert hub.sent("GET cdn") <= 1.02 * len(data) + (2 << 20)


def test_cut_in_every_window_is_recovered_from(hub: HubServer, small_windows: None) -> None:
    files = hub_model(nbytes=20_000)
    hub.add_model("org/model", files)
    hub.fault("GET cdn", cut_after=450, times=20)
    hub.fault("GET cdn", drop=True, times=5)
    assert b"".join(opened(stream=True).stream(SHARD, 0, 20_000)) == files[SHARD][:20_000]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=st.tuples(st.integers(0, 20_000), st.integers(0, 20_000)).map(sorted),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_any_range_with_any_cuts_gives_exactly_its_bytes(
    hub: HubServer, small_windows: None, bounds: list[int], cuts: list[int]
) -> None:
    files = hub_model(nbytes=20_000)
    if "org/model" not in hub.repos:
        hub.add_model("org/model", files)
    hub.faults = [Fault("GET cdn", cut_after=cut) for cut in cuts]
    start, stop = bounds
    assert b"".join(opened(stream=True).stream(SHARD, start, stop)) == files[SHARD][start:stop]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_burst_of_server_errors_is_retried_everywhere(hub: HubServer, status: int) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    for pattern in ("HEAD hub", "GET hub /api", "GET hub /org/model/resolve", "GET cdn"):
        hub.fault(pattern, status=status, times=2)
    source = opened(stream=True)
    assert source.read(SHARD, 0, 300) == files[SHARD][:300]
    hub.fault("hub /", status=status, times=2)
    hub.fault("GET cdn", status=status, times=2)
    source = opened()
    source.download([SHARD])
    assert source.read(SHARD, 0, 300) == files[SHARD][:300]


def test_rate_limit_is_waited_out_and_reported(hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    files = hub_model()
    hub.add_model("org/model", files)
    source = opened(stream=True)
    gone = []
    hub.fault("resolve", status=429, headers={"Retry-After": "7"}, action=lambda: gone.append(1))
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.Event.wait", lambda self, seconds=None: hub.waits.append(seconds))
        assert source.read(SHARD, 0, 300) == files[SHARD][:300]
    assert gone
    assert 7 in hub.waits
    assert f"{SHARD}: rate limit reached; retrying in 7 s" in caplog.text


def test_endless_rate_limit_gives_a_one_line_error(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    hub.fault("GET hub /api", status=429, times=100)
    with pytest.raises(HubError, match=r"^org/model: rate limit reached; run the same command again later"):
        opened()
    assert len(hub.lines("GET hub /api")) < 12


def test_excessive_retry_after_is_reported_instead_of_waited_out(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.fault("GET cdn", status=429, headers={"Retry-After": "4000"})
    with pytest.raises(HubError, match=r"^org/model: rate limit reached; run the same command again in 4000 s"):
        source.read(SHARD, 100, 300)


def test_full_cache_disk_gives_a_one_line_error(hub: HubServer, tmp_path: Path) -> None:
    hub.add_model("org/model", hub_model())
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(HubError, match=r"^org/model: .*cache") as caught:
        opened()
    assert "\n" not in str(caught.value)


def test_error_page_that_is_not_json_gives_a_one_line_error(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    hub.fault("GET hub /api", page=b"<html>Welcome to the hotel's network</html>", times=100)
    with pytest.raises(HubError, match=r"^org/model: the response is not JSON"):
        opened()


def test_server_that_ignores_ranges_is_an_error_and_never_data(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model(nbytes=1_000_000))
    source = opened(stream=True)
    hub.fault("GET cdn", ignore_range=True, times=100)
    with pytest.raises(
        HubError, match="range requests are not supported; expected status 206, got 200; leave --stream out"
    ):
        source.read(SHARD, 100, 300)
    with pytest.raises(HubError, match="expected status 206"):
        list(source.stream(SHARD, 0, 1000))


def test_wrong_range_is_an_error(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.fault("GET cdn", garble_range=True)
    with pytest.raises(HubError, match=r"expected Content-Range bytes 100-299/\d+, got bytes 101-300"):
        source.read(SHARD, 100, 300)


def test_more_bytes_than_were_asked_for_are_an_error(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.fault("GET cdn", run_on=True)
    with pytest.raises(HubError, match=f"{SHARD}: received more bytes than requested"):
        source.read(SHARD, 100, 300)


def test_content_that_changed_under_the_commit_is_an_error(hub: HubServer) -> None:
    commit = hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    hub.repos["org/model"].commits[commit].files |= {
        SHARD: hub.repos["org/model"].commits[commit].files["model-00002-of-00002.safetensors"]
    }
    with pytest.raises(HubError, match=f"{SHARD}: expected content [0-9a-f]{{64}}, got"):
        source.read(SHARD, 100, 300)


def test_commit_that_vanishes_gives_a_one_line_error(hub: HubServer) -> None:
    commit = hub.add_model("org/model", hub_model())
    source = opened(stream=True)
    del hub.repos["org/model"].commits[commit]
    with pytest.raises(HubError, match=f'no revision "{commit}"'):
        source.read(SHARD, 100, 300)


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "a//b", "a\\b", "a\nb", "./a", "\x1b[2J", "a/"]
)
def test_names_that_lead_elsewhere_are_refused(hub: HubServer, name: str) -> None:
    hub.add_model("org/model", {"config.json": b"{}"})
    commit = hub.repos["org/model"].branches["main"]
    files = hub.repos["org/model"].commits[commit].files
    files[name] = files["config.json"]
    with pytest.raises(CheckpointError, match=r"unsafe filename .*; expected a relative path") as caught:
        opened()
    assert str(caught.value).isprintable()


# Words


@pytest.mark.parametrize(
    ("repo", "how", "words"),
    [
        ("org/absent", {}, "no such model, or it is private and you are not logged in; check the name, or log in with"),
        ("org/absent", {"token": TOKEN}, "no such model, or it is private and the token has no access to it"),
        ("org/private", {}, "no such model, or it is private and you are not logged in"),
        ("org/gated", {}, r"access is restricted; request it on http://127.0.0.1:\d+/org/gated, then log in with"),
        ("org/gated", {"token": TOKEN}, r"access is restricted; request it on http://127.0.0.1:\d+/org/gated"),
        ("org/model", {"revision": "v9"}, 'no revision "v9"; see http://.*/org/model/tree/main for'),
        ("org/model", {"token": "hf_eXpIrEdToken"}, "the token is invalid or has expired; log in with `hf auth login`"),
    ],
)
def test_refusals_are_reported_in_one_line(hub: HubServer, repo: str, how: dict[str, str], words: str) -> None:
    hub.add_model("org/model", hub_model())
    hub.add_model("org/private", hub_model(), private=True)
    hub.add_model("org/gated", hub_model(), gated=True)
    with pytest.raises(HubError, match=f"^{repo}: {words}") as caught:
        opened(repo, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert "hf_" not in message
    assert caught.value.__cause__ is not None


def test_repository_without_config_is_not_a_checkpoint(hub: HubServer) -> None:
    hub.add_model("org/model", {"README.md": b"hi"})
    with pytest.raises(CheckpointError, match=r"^org/model: no config.json"):
        opened()


def test_unreachable_hub_gives_a_one_line_error(hub: HubServer) -> None:
    hub.stop()
    with pytest.raises(
        HubError,
        match=r"^org/model: cannot reach http://127.0.0.1:\d+ \(.*\); check the connection; no folder has that name",
    ):
        opened()


def test_hub_that_never_answers_is_reported_within_ten_seconds(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.REACH_ATTEMPTS * (client.REACH_TIMEOUT + 0.5) < 10
    monkeypatch.setattr(client, "REACH_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(HubError, match=r"^org/model: cannot reach http://.* \(.*\); check the connection"):
            opened()
    assert time.monotonic() - started < 5
    assert hub.requests == []


def test_name_look_up_that_hangs_is_reported_within_ten_seconds(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REACH_TIMEOUT", 0.1)
    hung = threading.Event()
    monkeypatch.setattr(client, "_probe", lambda failures: hung.wait())
    with pytest.raises(HubError, match=r"^org/model: cannot reach .* \(no answer\); check the connection"):
        opened()
    hung.set()


def test_cached_model_is_read_without_asking_whether_the_hub_is_there(hub: HubServer) -> None:
    hub.add_model("org/model", hub_model())
    assert downloaded(opened()) is not None
    hub.stop()
    assert downloaded(opened()) is not None


def test_private_and_gated_models_need_an_authorised_token(hub: HubServer) -> None:
    files = hub_model()
    hub.add_model("me/private", files, private=True)
    hub.add_model("org/gated", files, gated=True)
    hub.repos["org/gated"].granted.add("me")
    for repo in ("me/private", "org/gated"):
        source = opened(repo, token=TOKEN, stream=True)
        assert source.read(SHARD, 0, 300) == files[SHARD][:300]
        assert downloaded(opened(repo, token=TOKEN)) is not None


def test_streaming_memory_does_not_grow_with_the_model(hub: HubServer, tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak memory of a process alone is told by /proc only")
    hub.add_model("org/model", {"config.json": b"{}", "model.safetensors": Sparse(b"", 200_000_000)})
    program = (
        "from pathlib import Path\n"
        "from solar_upscale.request import HubOptions\n"
        "from solar_upscale.source.opening import open_source\n"
        "source = open_source('org/model', HubOptions(stream=True))\n"
        "print(sum(map(len, source.stream('model.safetensors', 0, 200_000_000))))\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) // 1024)\n"
    )
    env = hub_env(hub, tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    nbytes, peak = map(int, done.stdout.split())
    print(f"peak {peak} MiB for {nbytes} bytes")
    assert nbytes == hub.sent("GET cdn") == 200_000_000
    assert peak <= 200


# Secrets


def test_source_pickles_without_showing_the_token(hub: HubServer) -> None:
    files = hub_model()
    hub.add_model("me/private", files, private=True)
    source = opened("me/private", token=TOKEN, stream=True)
    assert TOKEN not in f"{source!r} {source}"
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own, from a line above
    assert again == source
    assert again.read(SHARD, 0, 300) == files[SHARD][:300]


@pytest.mark.parametrize("pattern", ["GET hub /api", "HEAD hub", "GET hub /me/private/resolve"])
def test_token_is_not_sent_to_redirect_targets(hub: HubServer, pattern: str) -> None:
    hub.add_model("me/private", hub_model(), private=True)
    hub.fault(pattern, status=307, headers={"Location": f"{hub.cdn}/elsewhere"}, times=100)
    with pytest.raises((HubError, CheckpointError)) as caught:
        opened("me/private", token=TOKEN, stream=True).read(SHARD, 100, 300)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert hub.leaks(TOKEN) == []
    assert hub.lines("cdn /elsewhere") or pattern.startswith("HEAD")  # the client follows no HEAD to another origin


def test_token_is_in_no_log_no_error_no_file_and_no_request_elsewhere(hub: HubServer, tmp_path: Path) -> None:
    hub.add_model("me/private", hub_model(nbytes=100_000), private=True)
    hub.fault("GET cdn", status=500)
    hub.fault("GET cdn", cut_after=10_000)
    program = (
        "import sys, logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from solar_upscale.request import HubOptions\n"
        "from solar_upscale.source.opening import open_source\n"
        f"for how in ({{'stream': True}}, {{}}):\n"
        f"    source = open_source('me/private', HubOptions(token=sys.stdin.readline().strip(), **how))\n"
        f"    print(source, len(b''.join(source.stream({SHARD!r}, 0, 100_000))), source.fetch([{SHARD!r}]))\n"
        "hub = open_source('me/absent', HubOptions(token=source.token))\n"
    )
    env = hub_env(hub, tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=f"{TOKEN}\n{TOKEN}\n",
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "me/absent: no such model" in done.stderr
    assert done.stdout.count("100000") == 2
    assert TOKEN not in done.stdout + done.stderr
    assert hub.leaks(TOKEN) == []
    assert any(TOKEN in value for request in hub.requests for value in request.headers.values())
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
