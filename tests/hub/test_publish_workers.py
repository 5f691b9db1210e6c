"""Publishing what other processes wrote: a shard's proof travels with it, and every shard is checked before it is sent.

The workers are processes of their own, so they are given the loopback Hub by their environment.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import solar_upscale as su
from solar_upscale.errors import CheckpointError, OutputError
from tests.support.checkpoints import assert_layers_come_from, write_checkpoint
from tests.support.hub_fixtures import TOKEN, hub_env
from tests.support.hub_server import HubServer
from tests.support.processes import ROOT

# The client passes open files to its HTTP library in a way that the latter finds old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LAYERS = ["0:6", "2:8"]
SOURCES = [*range(6), *range(2, 8)]

IN_PROCESSES = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import solar_upscale as su

if __name__ == "__main__":
    moved = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        plan = su.upscale_checkpoint(
            "org/small", "out", ["0:6", "2:8"], init="split", stream="stream" in sys.argv, push_to_hub="me/SOLAR",
            commit_message="Deeper", executor=executor, on_bytes=moved.append,
        )
    assert sum(moved) == plan.total_size, (sum(moved), plan.total_size)
    report = su.verify_checkpoint("me/SOLAR", "org/small")
    print(report.tensors)
"""

WITH_DASK = """
import sys
import distributed
from solar_upscale.cli import main

if __name__ == "__main__":
    options = {"dashboard_address": None, "host": "127.0.0.1", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as cluster:
        words = ["--dask", cluster.scheduler_address, "--push-to-hub", "me/SOLAR", *sys.argv[1:]]
        code = main(["org/small", "out", "--layers", "0:6", "2:8", *words])
    sys.exit(code)
"""


@pytest.fixture
def made(hub: HubServer, tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "made", shards=4)
    hub.add_model("org/small", {path.name: path for path in folder.iterdir()})
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "home").mkdir()
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def run(program: str, hub: HubServer, home: Path, *words: str) -> str:
    script = home / "program.py"  # a file, since workers import the main module
    script.write_text(program)
    env = hub_env(hub, home / "hf", HF_TOKEN=TOKEN, PYTHONPATH=str(ROOT))
    line = [sys.executable, str(script), *words]
    done = subprocess.run(line, cwd=home, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def published(hub: HubServer, home: Path) -> Path:
    folder = home / "published"
    folder.mkdir()
    for name, data in hub.files("me/SOLAR").items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("way", ["stream", "download"])
def test_process_pool_writes_and_the_parent_checks_and_publishes(
    way: str, hub: HubServer, made: Path, home: Path
) -> None:
    assert run(IN_PROCESSES, hub, home, way) == "111\n"
    su.upscale_checkpoint(made, home / "local", LAYERS, init="split")
    for path in published(hub, home).glob("*.safetensors"):
        assert path.read_bytes() == (home / "local" / path.name).read_bytes()
    found = hub.repos["me/SOLAR"].find("main")
    assert found is not None
    assert found.title == "Deeper"


@pytest.mark.parametrize("words", [["--stream"], []])
def test_dask_writes_and_the_client_checks_and_publishes(
    words: list[str], hub: HubServer, made: Path, home: Path
) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'solar-upscale[dask]'")
    out = run(WITH_DASK, hub, home, *words)
    assert out.splitlines()[-1] == f"{hub.endpoint}/me/SOLAR"
    assert_layers_come_from(published(hub, home), made, SOURCES)
    report = su.verify_checkpoint("me/SOLAR", "org/small")
    assert (report.source, report.tensors) == ("org/small", 111)


# The public names refuse what the command refuses


@pytest.mark.parametrize("option", ["private", "create_pr", "delete_local_shards", "commit_message"])
def test_publishing_options_are_refused_without_a_repository(option: str, made: Path, home: Path) -> None:
    options: dict[str, Any] = {option: "Deeper" if option == "commit_message" else True}
    with pytest.raises(OutputError, match=f"^--{option.replace('_', '-')} requires --push-to-hub USER/NAME"):
        su.upscale_checkpoint(made, home / "out", LAYERS, **options)
    assert not (home / "out").exists()


def test_deleted_shards_go_one_pass_at_a_time(hub: HubServer, made: Path, home: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    publish: dict[str, Any] = {"push_to_hub": "me/SOLAR", "delete_local_shards": True}
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(OutputError, match="one pass at a time; leave out --workers and --dask"),
    ):
        su.upscale_checkpoint("org/small", home / "out", LAYERS, executor=executor, **publish)
    with pytest.raises(OutputError, match="mirror the source's; leave --max-shard-size out"):
        su.upscale_checkpoint("org/small", home / "out", LAYERS, max_shard_size="1MB", **publish)
    assert not hub.lines("POST")
    su.upscale_checkpoint("org/small", home / "out", LAYERS, stream=True, **publish)
    assert_layers_come_from(published(hub, home), made, SOURCES)
    assert not list((home / "out").glob("*.safetensors"))


def test_finished_output_is_published_by_its_public_name(hub: HubServer, made: Path, home: Path) -> None:
    su.upscale_checkpoint(made, home / "out", LAYERS)
    done = su.publish_checkpoint(home / "out", "me/SOLAR", source=made, private=True, revision="v1")
    assert done.url == f"{hub.endpoint}/me/SOLAR/tree/v1"
    assert done.verified is not None
    assert (done.verified.source, done.verified.tensors, done.shards) == ("made", 111, ())
    assert hub.repos["me/SOLAR"].private
    again = su.publish_checkpoint(str(home / "out"), "me/SOLAR", create_pr=True, commit_message="Deeper")
    assert again.url == f"{hub.endpoint}/me/SOLAR/discussions/1"
    with pytest.raises(OutputError, match="no such folder"):
        su.publish_checkpoint(home / "gone", "me/SOLAR")


def test_inspecting_takes_a_folder_an_id_or_a_source_and_fetches_headers_alone(
    hub: HubServer, made: Path, home: Path
) -> None:
    from solar_upscale.source.folder import FolderSource

    by_path, by_source, by_id = (su.inspect_checkpoint(each) for each in (made, FolderSource(made), "org/small"))
    assert by_path == by_source
    assert by_path["tensors"] == by_id["tensors"] == 75
    assert (by_path["source"], by_id["source"]) == ("made", "org/small")
    weights = sum(path.stat().st_size for path in made.glob("*.safetensors"))
    assert hub.sent("GET cdn") < weights
    with pytest.raises(CheckpointError, match="a folder has no revisions"):
        su.inspect_checkpoint(made, revision="v1")
