"""``--workers`` and ``--dask``: whichever worker runs a pass, and whichever dies, the bytes are the same."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import solar_upscale as su
from solar_upscale.cli import main
from solar_upscale.source.folder import FolderSource
from tests.support.checkpoints import assert_layers_come_from, tree, write_checkpoint

LAYERS = ("0:6", "2:8")
SOURCES = [*range(6), *range(2, 8)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source") / "model", shards=4)


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("expected") / "out"
    su.upscale_checkpoint(source, output, LAYERS)
    return tree(output)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'solar-upscale[dask]'")
    options = {"dashboard_address": None, "host": "127.0.0.1", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as cluster:
        yield cluster


@dataclass(frozen=True)
class KillingSource(FolderSource):
    """Kills the first process that asks for a file while a shard is half written."""

    output: Path = Path()
    killed: Path = Path()

    def local_path(self, filename: str) -> Path:
        work = self.output.with_name(f"{self.output.name}.incomplete")
        if not self.killed.exists() and any(work.glob("*/.model-*.part")):
            self.killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return FolderSource.local_path(self, filename)


@pytest.mark.parametrize("workers", ["1", "2", "7"])
def test_any_number_of_workers_writes_the_same_bytes(
    workers: str, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    assert main([str(source), str(tmp_path / "out"), "--layers", *LAYERS, "--workers", workers, "-q"]) == 0
    assert tree(tmp_path / "out") == expected


def test_cluster_writes_the_same_bytes(cluster: Any, source: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    words = [str(source), str(tmp_path / "out"), "--layers", *LAYERS, "--dask", cluster.scheduler_address, "-q"]
    assert main(words) == 0
    assert tree(tmp_path / "out") == expected


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on Windows")
def test_worker_killed_within_a_shard_does_not_change_the_output(
    cluster: Any, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    from distributed import Client

    output, killed = tmp_path / "out", tmp_path / "killed"
    killing = KillingSource(source, output, killed)
    with Client(cluster.scheduler_address) as client:
        workers = {info["pid"] for info in client.run(lambda: {"pid": os.getpid()}).values()}
        su.upscale_checkpoint(killing, output, LAYERS, executor=client.get_executor())
    assert int(killed.read_text()) in workers, "no worker was killed"
    assert tree(output) == expected
    assert_layers_come_from(output, source, SOURCES)
    assert not output.with_name("out.incomplete").exists()


def test_missing_dask_gives_a_one_line_error_that_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main([str(source), str(tmp_path / "out"), "--layers", *LAYERS, "--dask", "tcp://127.0.0.1:1"]) == 1
    assert ".[dask]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["", "bogus", "tcp://"])
def test_invalid_dask_address_gives_a_one_line_error(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'solar-upscale[dask]'")
    assert main([str(source), str(tmp_path / "out"), "--layers", *LAYERS, "--dask", address]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert said[0].startswith(f"solar-upscale: --dask {address}: cannot connect to the scheduler")
    assert not (tmp_path / "out").exists()
