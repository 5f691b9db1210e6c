"""From an id to a published model with the real command and the real client, against a loopback Hub.

Each line of what this promises prints its figures; run with -s to see them.
"""

import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from huggingface_hub import HfApi, ModelCard, constants, snapshot_download

import solar_upscale as su
from solar_upscale.cli import main
from solar_upscale.errors import CheckpointError
from solar_upscale.plan.types import ShardPlan
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.header import build_header
from solar_upscale.verify.shard import check_shard
from solar_upscale.write.work_files import RECORD_NAME
from tests.support.checkpoints import MISTRAL, assert_layers_come_from, write_checkpoint
from tests.support.hub_fixtures import TOKEN, hub_env
from tests.support.hub_server import HubServer, Sparse
from tests.support.processes import ROOT
from tests.support.sources import llama_shapes, published_shards

# The client passes open files to its HTTP library in a way that the latter finds old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SOLAR = ["--layers", "range(0,6)", "range(2,8)"]
SOLAR_LAYERS = [*range(6), *range(2, 8)]
LARGE = {"hidden": 512, "inner": 1024, "vocab": 1000, "layers": 8, "shards": 4}  # 40 MB


@dataclass
class User:
    """Somebody who types commands in a folder of their own, logged in at a loopback Hub."""

    hub: HubServer
    home: Path
    capsys: pytest.CaptureFixture[str]
    loud: bool

    def shows(self, text: str) -> None:
        """Print a figure, where pytest was asked for prints."""
        if self.loud:
            with self.capsys.disabled():
                print(text)

    def shows_traffic(self, what: str) -> None:
        """Print how many bytes went which way, by now."""
        by = "Xet: new bytes stored" if self.hub.xet else "LFS: bytes uploaded"
        sent = nbytes_below(self.hub.cas / "xet" / "xorbs") if self.hub.xet else self.hub.received("PUT")
        self.shows(f"{what}: {self.hub.sent('cdn')} bytes of weights served; {by} {sent}")

    def says(self, *words: str, code: int = 0) -> str:
        """What the command prints to stdout, or to stderr where it fails; run in this process."""
        assert main(words) == code, self.capsys.readouterr()
        out, err = self.capsys.readouterr()
        assert TOKEN not in out + err
        if code:
            assert err.startswith("solar-upscale: ")
            assert len(err.splitlines()) == 1, err
        return err if code else out

    def command(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        """The command as another process that never sees this one's settings."""
        env = hub_env(self.hub, self.home / "hf", HF_TOKEN=TOKEN, **more)
        line = [sys.executable, "-m", "solar_upscale", *words]
        return subprocess.Popen(line, cwd=self.home, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def types(self, *words: str, code: int = 0, **more: str) -> tuple[str, str]:
        with self.command(*words, **more) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == code, out + err
        assert TOKEN not in out + err
        return out, err

    def published(self, repo: str = "me/SOLAR", revision: str = "main") -> Path:
        """What the Hub holds, as a folder."""
        files = self.hub.files(repo, revision)
        digest = hashlib.sha256(repr(sorted(files)).encode()).hexdigest()[:8]
        folder = self.home / "published" / f"{repo.replace('/', '-')}-{digest}"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    def makes(self, name: str = "org/small", *, private: bool = False, **shape: Any) -> Path:
        """A model on the Hub in two shards, and the folder that it was made from."""
        folder = write_checkpoint(self.home / "made" / name, **{"shards": 2, **shape})
        (folder / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\n---\n# Small\n")
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        beside = {".gitattributes": b"*.safetensors filter=lfs\n", "consolidated.safetensors": b"other weights"}
        self.hub.add_model(name, files | beside, private=private)  # as on a real Hub; neither is copied
        return folder

    @property
    def url(self) -> str:
        return f"{self.hub.endpoint}/me/SOLAR"

    def visible(self, repo: str = "me/SOLAR") -> set[str]:
        """Which files anybody can see."""
        found = self.hub.repos.get(repo)
        commit = found.find("main") if found else None
        return set() if commit is None else set(commit.files) - {".gitattributes"}


@pytest.fixture
def user(
    request: pytest.FixtureRequest,
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> User:
    return _user(request, hub, tmp_path, monkeypatch, capsys)


@pytest.fixture
def xet_user(
    request: pytest.FixtureRequest,
    xet_hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> User:
    return _user(request, xet_hub, tmp_path, monkeypatch, capsys)


@pytest.fixture(params=["user", "xet_user"])
def any_user(request: pytest.FixtureRequest) -> User:
    """On either kind of Hub."""
    found: User = request.getfixturevalue(request.param)
    return found


def _user(
    request: pytest.FixtureRequest,
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> User:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.chdir(home)
    return User(hub, home, capsys, loud=request.config.getoption("capture") == "no")


def nbytes_below(folder: Path, pattern: str = "*") -> int:
    total = 0
    for path in folder.rglob(pattern):
        try:
            total += 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
        except OSError:
            continue  # gone meanwhile
    return total


# From an id to a published model


@pytest.mark.parametrize("how", [[], ["--stream"], ["--stream", "--delete-local-shards"]])
def test_one_command_publishes_the_upscaled_model(any_user: User, how: list[str]) -> None:
    user, hub = any_user, any_user.hub
    source = user.makes()
    out = user.says("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *how)
    assert out.splitlines()[-1] == user.url
    user.shows_traffic(" ".join(how) or "downloaded")
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)
    assert len(hub.repos["me/SOLAR"].commits) == 2
    held = {path.name for path in (user.home / "out").iterdir()}
    assert any(name.endswith(".safetensors") for name in held) == ("--delete-local-shards" not in how)
    assert (RECORD_NAME in held) == ("--delete-local-shards" in how)
    assert not (user.home / "out.incomplete").exists()
    before = len(hub.requests)
    assert user.says("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *how).splitlines()[-1] == user.url
    again = [one for one in hub.requests[before:] if re.search("/commit/|PUT|lfs", one.line)]
    assert not again
    assert sum(one.sent for one in hub.requests[before:] if one.origin == "cdn") <= 2 * 65536


def test_published_model_computes_what_the_model_in_memory_does(any_user: User) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source = any_user.makes()
    any_user.says("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", "--private", "--stream")
    assert any_user.hub.repos["me/SOLAR"].private
    any_user.shows_traffic("--stream --private")
    cache = any_user.home / "cache"
    model = AutoModelForCausalLM.from_pretrained("me/SOLAR", cache_dir=cache, token=TOKEN)
    in_memory = su.upscale_model(AutoModelForCausalLM.from_pretrained(source), ["range(0,6)", "range(2,8)"])
    prompt = torch.tensor([[1, 17, 42, 99]])
    assert torch.equal(model(prompt).logits, in_memory(prompt).logits)
    with pytest.raises(OSError, match="me/SOLAR"):
        AutoModelForCausalLM.from_pretrained("me/SOLAR", cache_dir=any_user.home / "other", token=False)


def test_pull_request_carries_the_model_and_leaves_main_alone(any_user: User) -> None:
    source = any_user.makes()
    any_user.hub.add_model("org/SOLAR", {"README.md": b"theirs"})
    words = ["--push-to-hub", "org/SOLAR", "--create-pr", "--commit-message", "Deeper"]
    out = any_user.says("org/small", "out", *SOLAR, *words)
    assert out.splitlines()[-1] == f"{any_user.hub.endpoint}/org/SOLAR/discussions/1"
    any_user.shows_traffic("--create-pr")
    assert any_user.visible("org/SOLAR") == {"README.md"}
    assert_layers_come_from(any_user.published("org/SOLAR", "refs/pr/1"), source, SOLAR_LAYERS)
    found = any_user.hub.repos["org/SOLAR"].find("refs/pr/1")
    assert found is not None
    assert found.title == "Deeper"


def test_finished_folder_is_pushed_to_a_branch(user: User) -> None:
    source = user.makes()
    user.says("org/small", "out", *SOLAR)
    out = user.says("push", "out", "me/SOLAR", "--revision", "v1", "--commit-message", "Deeper")
    assert out.splitlines()[-1] == f"{user.url}/tree/v1"
    assert "verified against org/small" in out  # the source was still in the cache
    assert user.visible() == set()
    assert_layers_come_from(user.published(revision="v1"), source, SOLAR_LAYERS)
    assert json.loads(user.says("push", "out", "me/SOLAR", "--json"))["url"] == user.url


def test_same_proof_for_local_and_remote_sources(user: User) -> None:
    """Online, in the cache and in a folder: what the program left behind there differs, the output does not."""
    made = user.makes()
    user.says("org/small", "out", *SOLAR)
    for words in (["org/small"], ["org/small", "--local-files-only"], [str(made)]):
        assert "verified against" in user.says("verify", "out", "--source", *words)
    user.says("org/small", "out", *SOLAR, "--local-files-only")  # the same job: done already
    user.says("push", "out", "me/SOLAR", "--source", str(made))


def test_foreign_weights_are_replaced_with_a_warning(user: User, caplog: pytest.LogCaptureFixture) -> None:
    user.makes()
    user.hub.add_model("me/SOLAR", {"pytorch_model.bin": b"mine", "config.json": b"{}", "notes.txt": b"mine"})
    user.says("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR")
    said = "me/SOLAR: replacing pytorch_model.bin, which solar-upscale did not upload"
    assert said in caplog.messages
    assert "notes.txt" in user.visible()
    assert "pytorch_model.bin" not in user.visible()
    caplog.clear()
    user.says("push", "out", "me/SOLAR")
    assert said not in caplog.messages


def test_source_repository_is_refused_as_destination(user: User) -> None:
    user.makes("me/SOLAR")
    before = user.hub.repos["me/SOLAR"].find("main").sha
    said = user.says("me/SOLAR", "out", *SOLAR, "--push-to-hub", "me/SOLAR", code=1)
    assert "me/SOLAR: is the source; publish the result under another name" in said
    assert user.hub.repos["me/SOLAR"].find("main").sha == before


def test_exceeded_storage_quota_is_not_reported_as_missing_rights(user: User) -> None:
    user.makes()
    message = "Private repository storage limit reached, please upgrade your plan"
    user.hub.fault("POST .*preupload", status=403, message=message, times=50)
    said = user.says("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", code=1)
    assert "the Hub's storage limit is reached" in said
    assert "no right" not in said


def test_published_model_is_verified_by_its_id(user: User) -> None:
    user.makes()
    user.says("org/small", "out", *SOLAR, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR")
    user.hub.commit("org/small", {"config.json": b"{}"})  # the source has moved on
    assert "verified against org/small" in user.says("verify", "me/SOLAR", "--source", "org/small")
    shard = next(name for name in sorted(user.visible()) if name.endswith(".safetensors"))
    data = bytearray(user.hub.files("me/SOLAR")[shard])
    data[-5] ^= 1
    user.hub.commit("me/SOLAR", {shard: bytes(data)})
    assert f"{shard}: " in user.says("verify", "me/SOLAR", "--source", "org/small", code=1)


# Headers only


def test_plan_and_inspect_on_eight_shards_of_four_gigabytes_fetch_the_headers_alone(user: User) -> None:
    shapes = llama_shapes(47, 5120, 13824, 32000, 5120)
    weights = published_shards(shapes, max_nbytes=4 * 10**9)
    assert len(weights) == 8
    headers = {name: build_header(tensors) for name, tensors in weights.items()}
    files: dict[str, Any] = {
        name: Sparse(headers[name], len(headers[name]) + tensors[-1].data_offsets[1])
        for name, tensors in weights.items()
    }
    weight_map = {tensor.name: name for name, tensors in weights.items() for tensor in tensors}
    sizes = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 47, "vocab_size": 32000}
    files["config.json"] = json.dumps(MISTRAL | sizes | {"num_key_value_heads": 4}).encode()
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    user.hub.add_model("org/huge", files)
    total = sum(one.nbytes for one in files.values() if isinstance(one, Sparse))
    for command in (["plan", "org/huge", "--layers", "0:30", "17:"], ["inspect", "org/huge"]):
        before, start = user.hub.sent("cdn"), time.monotonic()
        out = user.says(*command)
        fetched = user.hub.sent("cdn") - before
        user.shows(f"{command[0]}: {fetched} bytes of {total} in {time.monotonic() - start:.2f} s")
        assert "47" in out
        assert fetched <= sum(map(len, headers.values())) + 8 * (128 << 10)
    assert nbytes_below(user.home.parent / "cache") < 1_000_000


# Streaming


def test_streaming_fetches_what_is_needed_once_in_little_memory_and_caches_no_weights(user: User) -> None:
    source = user.makes("org/large", **LARGE)
    tensors = FolderSource(source)
    plan = su.plan_checkpoint(source, ["0:3", "5:8", "1:3"])
    needed = {piece for shard in plan.shards for item in shard.items for piece in item.pieces}
    nbytes = sum(piece.nbytes for piece in needed)
    program = (
        "import sys; from pathlib import Path; from solar_upscale.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "status = Path('/proc/self/status')\n"
        "print(int(status.read_text().partition('VmHWM:')[2].split()[0]) // 1024 if status.exists() else 0)\n"
        "sys.exit(code)"
    )
    env = hub_env(user.hub, user.home / "hf", HF_TOKEN=TOKEN)
    words = ["org/large", "out", "--layers", "0:3", "5:8", "1:3", "--stream", "--push-to-hub", "me/SOLAR"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    fetched = user.hub.sent("GET cdn")
    peak = int(done.stdout.splitlines()[-1])
    user.shows(
        f"--stream: {fetched} bytes fetched for {nbytes} needed ({fetched / nbytes:.4f}); peak memory {peak} MiB"
    )
    assert fetched <= 1.02 * nbytes
    assert peak <= 200
    assert nbytes_below(user.home / "hf") < 100_000
    assert tensors.files()
    assert_layers_come_from(user.home / "out", source, [0, 1, 2, 5, 6, 7, 1, 2])
    assert_layers_come_from(user.published(), source, [0, 1, 2, 5, 6, 7, 1, 2])


@pytest.mark.parametrize("how", [[], ["--delete-local-shards"]])
def test_killed_stream_resumes_without_fetching_finished_shards_again(user: User, how: list[str]) -> None:
    source = user.makes("org/large", **LARGE)
    words = ["org/large", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR", *how]
    shard = "model-00003-of-00004.safetensors"
    digest = {name: blob.sha256 for name, blob in user.hub.repos["org/large"].find("main").files.items()}  # type: ignore[union-attr] - it is there
    with user.command(*words) as process:
        user.hub.fault(f"GET cdn /blob/{digest[shard]}", skip=2, action=process.kill, drop=True)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    assert user.visible() == set()
    assert not (user.home / "out").exists()
    before = len(user.hub.requests)
    puts = user.hub.received("PUT")
    user.types(*words)
    again = [one for one in user.hub.requests[before:] if one.origin == "cdn"]
    for number in (1, 2):
        name = f"model-{number:05}-of-00004.safetensors"
        fetched = sum(one.sent for one in again if str(digest[name]) in one.path)
        assert fetched <= 65536, name  # its header
    total = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    user.shows(
        f"{how}: {sum(one.sent for one in again if one.method == 'GET')} bytes fetched after the kill, of {total}"
    )
    if how:
        assert puts > 0  # what was finished had been sent
        assert user.hub.received("PUT") < 1.1 * 1.5 * total
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)


def test_bounded_disk_holds_the_shards_of_one_source_shard_at_a_time(user: User) -> None:
    source = user.makes("org/large", **LARGE)
    peaks: list[int] = []
    user.hub.fault("cdn", times=10**6, action=lambda: peaks.append(nbytes_below(user.home / "w")))
    (user.home / "w").mkdir()
    words = ["org/large", "w/out", *SOLAR, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR"]
    user.types(*words, HF_HUB_CACHE=str(user.home / "w" / "cache"))
    sizes = [path.stat().st_size for path in source.glob("*.safetensors")]
    model = nbytes_below(user.published(), "*.safetensors")
    user.shows(f"bounded: peak disk {max(peaks)} of {model}; the largest source shard has {max(sizes)}")
    assert max(peaks) <= 2 * max(sizes) + 200_000
    assert nbytes_below(user.home / "w") < 200_000
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)


def test_bounded_disk_resumes_after_a_refused_commit_and_skips_published_shards(user: User) -> None:
    source = user.makes()
    words = ["org/small", "out", *SOLAR, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR"]
    user.hub.fault("/commit/", status=403)
    assert "no write access" in user.says(*words, code=1)
    assert user.visible() == set()
    before = len(user.hub.requests)
    assert user.says(*words).splitlines()[-1] == user.url
    assert not [one for one in user.hub.requests[before:] if one.method == "PUT"]
    assert sum(one.sent for one in user.hub.requests[before:] if one.origin == "cdn") <= 2 * 65536
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)
    assert "already exists" in user.says(*words[:-1], "me/other", code=1)
    assert "the shards were deleted" in user.says("push", "out", "me/other", code=1)


# What is pushed is proved first


def test_flipped_bit_is_found_before_the_shard_is_sent(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.makes()

    def flip(shard: ShardPlan, path: Path, *proof: Any) -> None:
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        check_shard(shard, path, *proof)

    monkeypatch.setattr("solar_upscale.publish.checkpoint.check_shard", flip)
    for how in (["--stream"], ["--stream", "--delete-local-shards"], []):
        said = user.says("org/small", f"out{len(how)}", *SOLAR, "--push-to-hub", "me/SOLAR", *how, code=1)
        assert "the bytes on disk differ from the source's" in said
    assert not user.hub.lines("PUT")
    assert user.visible() == set()


@pytest.mark.parametrize("init", ["identity", "split", "scale=0.5"])
def test_computed_tensors_are_verified_too(user: User, init: str) -> None:
    user.makes()
    words = [*SOLAR, "--init", init]
    user.says("org/small", "out", *words, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR")
    user.says("org/small", "local", *words)
    published = user.published()
    for path in (user.home / "local").glob("*.safetensors"):
        assert (published / path.name).read_bytes() == path.read_bytes()


def test_bytes_that_do_not_match_the_listed_hash_are_refused(user: User) -> None:
    user.makes("org/small")
    commit = user.hub.repos["org/small"].find("main")
    assert commit is not None
    blob = commit.files["model-00001-of-00002.safetensors"]
    data = bytearray(blob.bytes())
    data[-9] ^= 1
    blob.path.write_bytes(data)  # under the same name: a disk or a cache somewhere has failed
    said = user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR", code=1)
    assert re.search(r"model-00001-of-00002.safetensors: the received bytes have the wrong sha256; expected", said)
    assert user.visible() == set()


def test_damaged_or_incomplete_output_is_refused_before_any_request(user: User) -> None:
    source = user.makes()
    user.says(str(source), "out", *SOLAR)
    shard = next(iter(sorted((user.home / "out").glob("*.safetensors"))))
    whole = shard.read_bytes()
    before = len(user.hub.requests)
    for data in (whole[:-1], b"", whole[:-200] + b"\1" * 200):
        shard.write_bytes(data)
        user.says("push", "out", "me/SOLAR", "--source", str(source), code=1)
    shard.unlink()
    assert "missing" in user.says("push", "out", "me/SOLAR", code=1)
    assert "no such folder" in user.says("push", "nowhere", "me/SOLAR", code=1)
    assert "no solar_upscale.json" in user.says("push", str(source), "me/SOLAR", code=1)
    assert len(user.hub.requests) == before


def test_missing_write_permission_is_found_before_fetching(user: User) -> None:
    user.makes()
    user.hub.add_model("org/SOLAR", {"README.md": b"theirs"})
    said = user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "org/SOLAR", code=1)
    assert said.startswith("solar-upscale: org/SOLAR: no write access")
    assert not (user.home / "out").exists()
    assert user.hub.sent("cdn") <= 2 * 65536


# Faults


@pytest.mark.parametrize("how", [["--stream", "--delete-local-shards"], []])
@pytest.mark.parametrize("status", [429, 503, pytest.param(500, marks=pytest.mark.sweep)])
def test_bursts_of_errors_at_every_step_are_retried(user: User, status: int, how: list[str]) -> None:
    source = user.makes()
    headers = {"Retry-After": "1"} if status == 429 else {}
    reading = ("HEAD hub", "GET hub /api/models/org", "GET hub /org", "GET cdn")
    writing = ("create", "GET hub /api/models/me", "preupload", "batch", "PUT cdn", "verify", "yaml", "/commit/")
    for step in reading + writing:
        user.hub.fault(step, status=status, times=2, headers=headers)
    for cut in (100, 5000):
        user.hub.fault("GET cdn", cut_after=cut)
    user.hub.fault("PUT cdn", drop=True, cut_after=1000)
    user.says("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *how)
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)
    assert len(user.hub.repos["me/SOLAR"].commits) == 2


@pytest.mark.parametrize("how", [["--stream"], ["--stream", "--delete-local-shards"], []])
def test_lasting_errors_give_a_one_line_error_and_publish_nothing(user: User, how: list[str]) -> None:
    user.makes()
    words = ["org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *how]
    for step, what in (
        ("GET cdn", {"status": 500}),
        ("GET cdn", {"cut_after": 0}),
        ("preupload", {"status": 503}),
        ("PUT cdn", {"status": 403}),
        ("/commit/", {"status": 429, "headers": {"Retry-After": "4000"}}),
        ("/commit/", {"status": 412}),
    ):
        fault = user.hub.fault(step, times=10**6, **what)
        user.says(*words, code=1)
        user.hub.faults.remove(fault)
        assert user.visible() == set(), step
    user.says(*words)
    assert len(user.hub.repos["me/SOLAR"].commits) == 2


def test_source_that_changes_midway_is_never_mixed(user: User) -> None:
    source = user.makes()
    other = write_checkpoint(user.home / "other", shards=2, vocab=300)
    moved = {path.name: path for path in other.iterdir() if path.name != "config.json"}
    user.hub.fault("GET cdn", skip=3, action=lambda: user.hub.commit("org/small", moved))
    user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR")
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)


def test_branch_that_moves_midway_is_untouched_and_the_next_run_finishes(user: User) -> None:
    source = user.makes()
    user.hub.add_model("me/SOLAR", {"README.md": b"before"})
    user.hub.fault("PUT cdn", action=lambda: user.hub.commit("me/SOLAR", {"README.md": b"theirs"}))
    words = ["org/small", "out", *SOLAR, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR"]
    assert "the branch moved meanwhile, and nothing was changed" in user.says(*words, code=1)
    assert user.hub.files("me/SOLAR") == {"README.md": b"theirs"}
    user.says(*words)
    assert_layers_come_from(user.published(), source, SOLAR_LAYERS)


def test_token_that_expires_midway_gives_a_one_line_error(user: User) -> None:
    user.makes()
    user.hub.fault("verify", skip=1, action=user.hub.tokens.clear)
    said = user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR", code=1)
    assert "me/SOLAR: the token is invalid or has expired; log in with" in said
    assert user.visible() == set()
    user.hub.add_token(TOKEN, "me")
    user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR")


@pytest.mark.parametrize(("words", "step"), [(["--stream"], "GET cdn"), ([], "GET cdn"), (["--stream"], "PUT cdn")])
def test_control_c_on_a_stalled_connection_stops_at_once(user: User, words: list[str], step: str) -> None:
    user.makes("org/large", **LARGE)
    stalled, let_go = threading.Event(), threading.Event()
    user.hub.fault(
        step, times=10**6, skip=5 if step == "GET cdn" else 0, action=lambda: (stalled.set(), let_go.wait(30))
    )
    with user.command("org/large", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *words) as process:
        assert stalled.wait(60)
        time.sleep(0.2)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        took = time.monotonic() - start
        let_go.set()
    user.shows(f"{step} {words}: {took:.2f} s from Ctrl-C to the end")
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "solar-upscale: interrupted; run the same command again to resume"
    assert "Traceback" not in err
    assert took < 5
    assert user.visible() == set()


# Words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plan", "org/absent"], "org/absent: no such model, or it is private and the token has no access to it"),
        (["plan", "org/gated"], r"org/gated: access is restricted; request it on http\S+/org/gated, then log in with"),
        (["plan", "org/small", "--revision", "v9"], 'org/small: no revision "v9"; see http'),
        (["plan", "org/small", "--token", "hf_wrong"], "org/small: the token is invalid or has expired; log in with"),
        (["plan", "org/private"], "org/private: no such model, or it is private"),
        (["plan", "org/small", "--local-files-only"], "org/small: not fully cached, and offline"),
        (["plan", "org/empty"], "org/empty: no config.json"),
        (
            ["plan", "org/bin"],
            "pytorch_model.bin: a torch file .*; run `hf download org/bin` first, or upscale without",
        ),
        (["plan", "./nowhere"], r"\./nowhere: no such folder; expected a folder with a checkpoint, or a model id"),
        (["plan", "a/b/c"], "a/b/c: no such folder"),
        (["plan", "https://me:hf_secret@hub.org/me/x"], "SOURCE: URLs are not supported; expected a folder"),
    ],
)
def test_refusals_are_one_line_in_the_terms_of_the_command(user: User, words: list[str], says: str) -> None:
    user.makes()
    user.makes("org/private", private=True)
    user.hub.add_model("org/gated", {"config.json": b"{}"}, gated=True)
    user.hub.add_model("org/empty", {"README.md": b"hi"})
    user.hub.add_model("org/bin", {"config.json": json.dumps(MISTRAL).encode(), "pytorch_model.bin": b"PK" * 100})
    said = user.says(*words, *SOLAR, code=1)
    assert re.match(f"solar-upscale: {says}", said), said
    assert "hf_" not in said


def test_missing_login_is_reported(user: User) -> None:
    source = user.makes()
    user.makes("org/private", private=True)
    (user.home.parent / "token").unlink()
    said = user.says("plan", "org/private", *SOLAR, code=1)
    assert "no such model, or it is private and you are not logged in; check the name, or log in with `hf auth" in said
    said = user.says(str(source), "out", *SOLAR, "--push-to-hub", "me/SOLAR", code=1)
    assert "me/SOLAR: not logged in; log in with `hf auth login` or pass --token" in said
    assert not (user.home / "out").exists()


def test_rate_limit_is_waited_out_and_reported(user: User, caplog: pytest.LogCaptureFixture) -> None:
    user.makes()
    user.hub.fault("GET cdn", status=429, headers={"Retry-After": "1"})
    user.hub.fault("preupload", status=429, headers={"Retry-After": "9"}, times=10**6)
    assert "rate limit reached; run the same command again in 9 s" in user.says(
        "org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR", code=1
    )
    assert "rate limit reached; retrying in" in caplog.text


def test_client_log_lines_appear_once_and_never_when_quiet(user: User) -> None:
    user.makes()
    for words, count in (([], 1), (["-q"], 0)):
        user.hub.fault("HEAD hub /org/small/resolve/main", status=503, times=2)
        _, err = user.types("plan", "org/small", *SOLAR, *words)
        assert err.count("Retrying in") == count
        assert all(line.startswith("solar-upscale: ") for line in err.splitlines())


def test_offline_is_reported_and_a_cached_model_needs_no_network(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    source = user.makes()
    snapshot_download("org/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(user.hub.requests)
    user.says("org/small", "out", *SOLAR)
    assert_layers_come_from(user.home / "out", source, SOLAR_LAYERS)
    assert "me/SOLAR: offline: HF_HUB_OFFLINE is set; unset it to publish" in user.says(
        "push", "out", "me/SOLAR", code=1
    )
    assert len(user.hub.requests) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "b", *SOLAR, "--tensors"], "--tensors requires --json"),
        (["plan", "a", *SOLAR, "--tensors"], "--tensors requires --json"),
        (["a", "b", *SOLAR, "--private"], "--private requires --push-to-hub"),
        (["a", "b", *SOLAR, "--delete-local-shards"], "--delete-local-shards requires --push-to-hub"),
        (["a", "b", *SOLAR, "--delete-local-shards", "--push-to-hub", "m/n", "--workers", "2"], "leave out --workers"),
        (["a", "b", *SOLAR, "--delete-local-shards", "--push-to-hub", "m/n", "--max-shard-size", "1GB"], "mirror"),
        (["push", "out"], "USER/NAME"),
    ],
)
def test_conflicting_options_are_a_usage_error(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


# Secrets


def test_token_appears_nowhere(any_user: User) -> None:
    user = any_user
    user.makes("me/source", private=True)
    user.hub.fault("GET cdn", cut_after=1000)
    words = ["me/source", "out", *SOLAR, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR", "--private"]
    user.types(*words, HF_DEBUG="1", HF_HUB_VERBOSITY="debug")
    user.types("me/source", "out2", *SOLAR, HF_DEBUG="1")
    user.types("push", "out2", "me/SOLAR2", "--token", TOKEN, HF_DEBUG="1")
    user.types("plan", "me/absent", *SOLAR, code=1, HF_DEBUG="1")
    assert user.hub.leaks(TOKEN) == []
    assert any(TOKEN in value for one in user.hub.requests for value in one.headers.values())
    written = [path for path in user.home.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    for repo in ("me/SOLAR", "me/SOLAR2"):
        assert not [name for name, data in user.hub.files(repo).items() if TOKEN.encode() in data]


def test_folder_is_not_pushed_over_the_model_it_was_made_from(user: User) -> None:
    folder = user.makes("me/source")
    before = user.hub.files("me/source")
    user.says("me/source", "out", *SOLAR)
    for words in ([], ["--source", str(folder)]):
        said = user.says("push", "out", "me/source", *words, code=1)
        assert "me/source: is the source; publish the result under another name" in said
    assert user.hub.files("me/source") == before


def test_private_model_does_not_become_public_silently(user: User, caplog: pytest.LogCaptureFixture) -> None:
    user.makes("me/secret", private=True)
    user.makes("org/open")
    user.hub.add_model("me/public", {"README.md": b"mine"})
    user.says("me/secret", "out", *SOLAR, "--stream", "--push-to-hub", "me/new")
    assert user.hub.repos["me/new"].private
    assert [line for line in caplog.messages if "me/new" in line] == ["me/secret is private, so me/new is made private"]
    caplog.clear()
    user.says("me/secret", "out", *SOLAR, "--stream", "--push-to-hub", "me/new")
    assert "private" not in caplog.text
    user.says("push", "out", "me/another")
    assert user.hub.repos["me/another"].private
    user.says("push", "out", "me/public")
    assert "me/secret is private, and me/public is public" in caplog.messages
    user.says("org/open", "out2", *SOLAR, "--stream", "--push-to-hub", "me/open")
    assert not user.hub.repos["me/open"].private


# What Xet saves, and the card


def test_under_xet_an_upscaled_model_adds_little_to_the_store(xet_user: User) -> None:
    user = xet_user
    folder = write_checkpoint(user.home / "large", **LARGE)  # type: ignore[arg-type] - options by name
    HfApi().create_repo("me/large")
    HfApi().upload_folder(repo_id="me/large", folder_path=folder)

    def stored() -> int:
        return nbytes_below(user.hub.cas / "xet" / "xorbs")

    before = stored()
    user.types("me/large", "out", *SOLAR, "--stream", "--delete-local-shards", "--push-to-hub", "me/SOLAR")
    added, model = stored() - before, nbytes_below(user.published(), "*.safetensors")
    user.shows(f"Xet: {added} new bytes in the store for a model of {model} ({added / model:.3%}), source {before}")
    assert added < 0.05 * model
    assert_layers_come_from(user.published(), folder, SOLAR_LAYERS)


def test_card_passes_the_hubs_validation_and_its_picture_opens(user: User) -> None:
    user.makes()
    user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR")
    files = user.hub.files("me/SOLAR")
    card = ModelCard(files["README.md"].decode())
    card.validate()
    assert user.hub.lines("POST hub /api/validate-yaml")
    fields = card.data.to_dict()
    assert fields["base_model"] == ["org/small"]
    assert card.text.count('name = "me/SOLAR"') == 1
    assert "path/to/this/folder" in (user.home / "out" / "README.md").read_text()
    assert (fields["license"], fields["language"], fields["library_name"]) == ("mit", ["en"], "transformers")
    picture = re.search(r"!\[[^\]]+\]\(([^)]+)\)", card.text)
    assert picture is not None
    assert ElementTree.fromstring(files[picture[1]]).tag.endswith("svg")  # noqa: S314 - our own


def test_cards_command_makes_the_same_bytes_again(user: User) -> None:
    user.makes()
    user.says("org/small", "out", *SOLAR, "--stream", "--push-to-hub", "me/SOLAR")
    card = user.hub.files("me/SOLAR")["README.md"].decode()
    found = re.search(r"^solar-upscale .*$", card, re.MULTILINE)
    assert found is not None
    user.says(*["again" if word == "out/" else word for word in shlex.split(found[0])[1:]])
    for path in (user.home / "out").iterdir():
        assert (user.home / "again" / path.name).read_bytes() == path.read_bytes()


# The shared store of a Hub cache


def test_snapshot_in_the_store_that_repositories_share_is_a_folder_like_any_other(xet_user: User) -> None:
    user = xet_user
    folder = write_checkpoint(user.home / "small", shards=2)
    HfApi().create_repo("me/small")
    HfApi().upload_folder(repo_id="me/small", folder_path=folder)
    snapshot = Path(snapshot_download("me/small"))
    store = user.home.parent / "cache" / "blobs"
    real = (snapshot / "model-00001-of-00002.safetensors").resolve()
    if not real.is_relative_to(store):
        pytest.skip("this client keeps no shared store")
    user.says(str(snapshot), "out", *SOLAR)
    assert_layers_come_from(user.home / "out", folder, SOLAR_LAYERS)
    (store / ".huggingface-shared-blobs").unlink()
    with pytest.raises(CheckpointError, match="links to a file outside the checkpoint's folder"):
        FolderSource(snapshot).local_path("model-00001-of-00002.safetensors")


# As an extension of hf


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for the console script is a shell script")
def test_hf_finds_the_console_script(tmp_path: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["hf-solar-upscale"] == scripts["solar-upscale"]
    script = tmp_path / "hf-solar-upscale"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m solar_upscale "$@"\n')
    script.chmod(0o755)
    manifest = {
        "owner": "me",
        "repo": "hf-solar-upscale",
        "repo_id": "me/hf-solar-upscale",
        "short_name": "solar-upscale",
        "executable_path": str(script),
        "type": "python",
        "installed_at": "2026-01-01T00:00:00+00:00",
    }
    place = tmp_path / ".local/share/hf/extensions/hf-solar-upscale"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps(manifest))
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    hf = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()"]
    done = subprocess.run([*hf, "solar-upscale", "--version"], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"solar-upscale {su.__version__}", done.stderr


# docs/hub.md


def test_commands_of_the_page_do_what_it_says(user: User) -> None:
    page = (ROOT / "docs" / "hub.md").read_text()
    source = user.makes("mistralai/Mistral-7B-v0.1", layers=32)
    user.hub.add_model("org/SOLAR", {"README.md": b"theirs"})
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 10
    said = {command: user.says(*shlex.split(command)[1:]) for command in commands}
    assert said[commands[2]].splitlines()[-1] == user.url
    layers = [*range(24), *range(8, 32)]
    for folder in (user.published(), user.published("me/SOLAR-2"), user.home / "streamed"):
        assert_layers_come_from(folder, source, layers)
    assert user.hub.repos["me/SOLAR-private"].private
    assert set(user.hub.repos["me/SOLAR"].branches) == {"main", "experiment"}
    assert set(user.hub.repos["org/SOLAR"].branches) == {"main", "refs/pr/1"}
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, {})  # noqa: S102 - the project's own page
    assert user.capsys.readouterr().out.split() == [f"{user.url}-4", "48"]
    for repo in ("me/SOLAR-3", "me/SOLAR-4"):
        assert_layers_come_from(user.published(repo), source, layers)
    assert user.hub.repos["me/SOLAR-4"].private


def test_lines_that_the_page_explains_are_those_that_are_said() -> None:
    page = (ROOT / "docs" / "hub.md").read_text()
    lines = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(lines) == 12
    code = "".join(path.read_text() for path in (ROOT / "solar_upscale").rglob("*.py"))
    assert [line for line in lines if line not in code] == []
