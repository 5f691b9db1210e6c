"""Fixtures that point the real client, in this process or another, at the loopback Hub. For tests/conftest.py."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

import solar_upscale.source.hub.client
from tests.support.hub_server import HubServer
from tests.support.processes import ROOT

__all__ = ["TOKEN", "hub", "hub_env", "hub_model", "xet_hub"]

TOKEN = "hf_" + "sEcReT" * 6
"""The token of the account "me"; every test that uses it may grep for it."""


@pytest.fixture
def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub without Xet; the client and the package do not sleep, and their delays are recorded in ``waits``.

    Given a parameter, it is one of the server's WAYS.
    """
    with HubServer(tmp_path / "hub", way=getattr(request, "param", "")) as server:
        yield from _serve(server, tmp_path, monkeypatch)


@pytest.fixture
def xet_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that keeps large files in a real Xet store."""
    pytest.importorskip("hf_xet", reason="hf_xet has no wheel for this machine")
    with HubServer(tmp_path / "hub", xet=True) as server:
        yield from _serve(server, tmp_path, monkeypatch)


def hub_env(server: HubServer, home: Path, **more: str) -> dict[str, str]:
    """The environment of a subprocess whose client talks to ``server`` and caches below ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {
        "HF_ENDPOINT": server.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
    }
    return kept | own | ({} if server.xet else {"HF_HUB_DISABLE_XET": "1"}) | more


def hub_model(num_shards: int = 2, nbytes: int = 4096) -> dict[str, bytes]:
    """The files of a small model: ``num_shards`` shards, each with one float32 tensor with bytes of its own."""
    names = [f"model-{number + 1:05}-of-{num_shards:05}.safetensors" for number in range(num_shards)]
    values = np.random.default_rng(num_shards).standard_normal((num_shards, nbytes // 4), dtype=np.float32)
    files = {name: save({f"t{index}": values[index]}, {"format": "pt"}) for index, name in enumerate(names)}
    weight_map = ", ".join(f'"t{index}": "{name}"' for index, name in enumerate(names))
    files["model.safetensors.index.json"] = f'{{"metadata": {{}}, "weight_map": {{{weight_map}}}}}'.encode()
    return files | {"config.json": b'{"model_type": "llama"}', "README.md": b"---\nlicense: mit\n---\n# A model\n"}


def _serve(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    cache = tmp_path / "cache"
    settings: Mapping[str, object] = {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_STORED_TOKENS_PATH": str(tmp_path / "stored_tokens"),
        "HF_HUB_DISABLE_XET": not server.xet,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    server.waits = []
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=server.waits.append))
    monkeypatch.setattr(
        solar_upscale.source.hub.client, "time", SimpleNamespace(sleep=server.waits.append, time=time.time)
    )
    monkeypatch.setattr(solar_upscale.source.hub.client, "MIN_DELAY", 0.0)
    server.add_token(TOKEN, "me")
    yield server
