"""``make demo-real``: SmolLM2-135M-Instruct upscaled SOLAR-style with the real command, verified, and asked to go on.

The first run downloads the model (93 MB). Greedy, so that the same machine says the same words again.
"""

import logging
import sys
import tempfile
from pathlib import Path

from tests.demo import solar_upscale
from tests.support.real_model import ModelMissingError, real_checkpoint

SENTENCE = "The little boat left the harbour at dawn, and"


def main() -> None:
    try:
        source = real_checkpoint()
    except ModelMissingError as error:
        sys.exit(f"demo-real: {error}")
    with tempfile.TemporaryDirectory(prefix="solar-upscale-demo-") as scratch:
        Path(scratch, source.name).symlink_to(source)
        output = f"{source.name}-48-layers"
        solar_upscale(scratch, source.name, output, "--layers", "range(0,24)", "range(6,30)")
        solar_upscale(scratch, "verify", output, "--source", source.name)
        for name, folder in (("before, 30 layers", source), ("after, 48 layers", Path(scratch, output))):
            print(f"{name}:\n  {continued(folder)}\n", flush=True)
    print("Plain copies cost quality until the model is trained on; docs/starts.md has the figures and gentler starts.")


def continued(folder: Path) -> str:
    """The sentence, and the 24 tokens that the model adds to it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer(SENTENCE, return_tensors="pt")
    tokens = model.generate(**prompt, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return " ".join(tokenizer.decode(tokens[0], skip_special_tokens=True).split())


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
