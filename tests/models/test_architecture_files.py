"""Small files beside the weights that refer to layers by number."""

import json

import pytest

import solar_upscale as su
from solar_upscale.architecture import Stack
from solar_upscale.architecture.numbered_files import rewrite_files
from solar_upscale.errors import CheckpointError, UnsupportedError

DECODER = Stack("model.decoder.layers", ("model.decoder.layers",), 4)


def heads_after(heads, sources=(0, 1, 1, 3), stack=DECODER):
    files = {"generation_config.json": json.dumps({"max_length": 448, "alignment_heads": heads}).encode()}
    rewritten, changes = rewrite_files(files, (), stack, {stack.prefixes[0]: sources})
    assert len(changes) == len(rewritten)
    return json.loads(rewritten.get("generation_config.json", files["generation_config.json"])).get("alignment_heads")


def test_alignment_heads_follow_their_layers():
    assert heads_after([[1, 5], [2, 0], [3, 2]]) == [[1, 5], [2, 5], [3, 2]]


def test_alignment_heads_are_removed_with_their_last_layer():
    assert heads_after([[2, 0]]) is None


def test_alignment_heads_belong_to_the_decoder_and_survive_encoder_changes():
    encoder = Stack("model.encoder.layers", ("model.encoder.layers",), 4, role="encoder")
    assert heads_after([[2, 0]], stack=encoder) == [[2, 0]]


@pytest.mark.parametrize("heads", [[[4, 0]], [[-1, 0]], [[True, 0]], [1, 2], "all", [[1]], [["1", 0]]])
def test_alignment_heads_of_missing_layers_are_refused(heads):
    with pytest.raises(UnsupportedError, match="alignment_heads: expected pairs of a decoder layer"):
        heads_after(heads)


def test_generation_config_without_alignment_heads_is_not_read():
    assert rewrite_files({"generation_config.json": b"no JSON"}, (), DECODER, {}) == ({}, [])
    with pytest.raises(CheckpointError, match="generation_config"):
        rewrite_files({"generation_config.json": b'"alignment_heads"'}, (), DECODER, {"model.decoder.layers": (0,)})


def test_whisper_word_timestamps_use_the_same_heads(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 4, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 64}
    tokens = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(**sizes, **tokens, num_mel_bins=8, max_source_positions=16, max_target_positions=16)
    )
    model.generation_config._from_model_config = False  # else transformers reads no field of its own
    model.generation_config.alignment_heads = [[1, 0], [3, 1]]
    model.save_pretrained(tmp_path / "source")
    su.upscale_checkpoint(tmp_path / "source", tmp_path / "out", ["0:3", "1:4"])
    su.verify_checkpoint(tmp_path / "out", tmp_path / "source")
    su.verify_checkpoint(tmp_path / "out")
    loaded = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert len(loaded.model.decoder.layers) == 6
    assert loaded.generation_config.alignment_heads == [[1, 0], [3, 0], [5, 1]]
