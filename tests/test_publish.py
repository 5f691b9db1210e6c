"""From an id to a published model with the real command and the real client, against a loopback Hub.

Each line of what this promises prints its figures; run with -s to see them.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkpoints import assert_layers_come_from, write_checkpoint
from conftest_hub import TOKEN, hub_env
from hub_server import HubServer

ROOT = Path(__file__).parents[1]
SOLAR = ["--layers", "range(0,6)", "range(2,8)"]


@dataclass
class User:
    """Somebody who types commands in an empty folder, logged in at a loopback Hub."""

    hub: HubServer
    home: Path

    def env(self, **more: str) -> dict[str, str]:
        return hub_env(self.hub, self.home / "hf", PYTHONPATH=str(ROOT), **{"HF_TOKEN": TOKEN, **more})

    def types(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "solar_upscale", *words],
            cwd=self.home,
            env=self.env(**more),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done


@pytest.fixture(params=["lfs", "xet"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> User:
    """On either kind of Hub."""
    return User(request.getfixturevalue("hub" if request.param == "lfs" else "xet_hub"), tmp_path)


@pytest.fixture
def lfs_user(hub: HubServer, tmp_path: Path) -> User:
    return User(hub, tmp_path)


def folder_files(folder: Path) -> dict[str, bytes | Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def small(user: User, name: str = "org/small", *, private: bool = False, **shape: Any) -> Path:
    """A model on the Hub in two shards, and the folder that it was made from."""
    folder = write_checkpoint(user.home / "made" / name, shards=2, **shape)
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\n---\n# Small\n")
    user.hub.add_model(name, folder_files(folder), private=private)
    return folder


@pytest.mark.parametrize("how", [[], ["--stream"], ["--stream", "--delete-local-shards"]])
def test_the_sentence_publishes_the_upscaled_model(user: User, how: list[str]) -> None:
    source = small(user)
    done = user.types("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *how)
    assert done.stdout.splitlines()[-1] == f"{user.hub.endpoint}/me/SOLAR"
    out = user.home / "downloaded"
    out.mkdir()
    for name, data in user.hub.files("me/SOLAR").items():
        (out / name).write_bytes(data)
    assert_layers_come_from(out, source, [*range(6), *range(2, 8)])
    assert len(user.hub.repos["me/SOLAR"].commits) == 2
    held = sorted(path.name for path in (user.home / "out").iterdir())
    assert any(name.endswith(".safetensors") for name in held) == ("--delete-local-shards" not in how)
    assert not (user.home / "out.incomplete").exists()
    before = len(user.hub.requests)
    again = user.types("org/small", "out", *SOLAR, "--push-to-hub", "me/SOLAR", *how)
    assert again.stdout.splitlines()[-1] == f"{user.hub.endpoint}/me/SOLAR"
    assert not [one.line for one in user.hub.requests[before:] if "commit" in one.line or "PUT" in one.line]
    assert not [one.line for one in user.hub.requests[before:] if one.origin == "cdn" and one.sent > 70_000]
