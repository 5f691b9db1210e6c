"""``make demo``: the whole job on a tiny random Mistral, with the real command, in seconds and offline."""

import logging
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs a network
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="solar-upscale-demo-") as scratch:
        source, output = Path(scratch, "tiny-mistral"), Path(scratch, "tiny-mistral-12-layers")
        make_tiny_mistral(source)
        solar_upscale(scratch, source.name, output.name, "--layers", "range(0,6)", "range(2,8)")
        solar_upscale(scratch, "verify", output.name, "--source", source.name)
        generate(source, output)


def make_tiny_mistral(folder: Path) -> None:
    """8 layers, random, in several shards; weights strong enough that the order of layers shows in the logits."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        dtype="bfloat16",
    )
    model = MistralForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="400KB")
    print(f"made {folder.name}: {sum(p.numel() for p in model.parameters()):,} random parameters, 8 layers\n")


def solar_upscale(folder: str, *words: str) -> None:
    """Run the real command as a user would, and show it."""
    print(f"$ solar-upscale {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "solar_upscale", *words], cwd=folder, check=True)
    print(flush=True)


def generate(source: Path, output: Path) -> None:
    """Load both with transformers, check the depth that really runs, and generate."""
    import torch
    from transformers import AutoModelForCausalLM

    import solar_upscale as su

    model = AutoModelForCausalLM.from_pretrained(output)
    ran = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda *_: ran.append(1))
    prompt = torch.tensor([[1, 17, 42, 99]])
    logits = model(prompt).logits
    print(f"transformers loads {output.name}: {len(ran)} layers run")
    in_memory = su.upscale_model(AutoModelForCausalLM.from_pretrained(source), ["range(0,6)", "range(2,8)"])
    assert torch.equal(logits, in_memory(prompt).logits), "the checkpoint and the model in memory differ"
    print("its logits equal upscale_model's, bit for bit")
    tokens = model.generate(prompt, max_new_tokens=12, do_sample=False, pad_token_id=2)
    print(f"generated tokens: {tokens[0, prompt.shape[1] :].tolist()}")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    main()
