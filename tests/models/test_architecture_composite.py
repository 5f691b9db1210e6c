"""Encoder-decoders made of two models: each is deepened alone; logits equal transformers' with reordered layers."""

import json

import pytest
import torch
import transformers

from solar_upscale import upscale_checkpoint

BERT = {
    "model_type": "bert", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "vocab_size": 64, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64,
        "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
VIT = {
    "model_type": "vit", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "image_size": 8, "patch_size": 4,
}  # fmt: skip
TEXT = {"input_ids": torch.tensor([[3, 4, 5]])}
IMAGE = {"pixel_values": torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)}
LAYERS = [0, 1, 2, 1, 2, 3]

CASES = [
    ("EncoderDecoder", BERT, BERT, "decoder.bert.encoder.layer", TEXT),
    ("EncoderDecoder", BERT, BERT, "encoder.encoder.layer", TEXT),
    ("EncoderDecoder", BERT, GPT2, "decoder.transformer.h", TEXT),
    ("VisionEncoderDecoder", VIT, BERT, "decoder.bert.encoder.layer", IMAGE),
    ("VisionEncoderDecoder", VIT, {**BERT, "model_type": "roberta"}, "decoder.roberta.encoder.layer", IMAGE),
]


@pytest.mark.parametrize(("kind", "encoder", "decoder", "stack", "inputs"), CASES)
def test_logits_are_those_of_the_model_with_its_layers_reordered(tmp_path, kind, encoder, decoder, stack, inputs):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        encoder=encoder, decoder={**decoder, "is_decoder": True, "add_cross_attention": True},
        decoder_start_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model_class = getattr(transformers, f"{kind}Model")
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "source")
    upscale_checkpoint(tmp_path / "source", tmp_path / "out", layers=LAYERS, stack=stack)
    parent, _, name = stack.rpartition(".")
    modules = getattr(model.get_submodule(parent), name)
    setattr(model.get_submodule(parent), name, torch.nn.ModuleList([modules[i] for i in LAYERS]))
    written, info = model_class.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        how = {**inputs, "decoder_input_ids": torch.tensor([[1, 5, 9]]), "use_cache": False}
        assert torch.equal(written.eval()(**how).logits, model(**how).logits)
    depths = json.loads((tmp_path / "out" / "config.json").read_text())
    counts = [
        section.get("num_hidden_layers", section.get("n_layer")) for section in (depths["encoder"], depths["decoder"])
    ]
    assert counts == ([4, 6] if stack.startswith("decoder") else [6, 4])
