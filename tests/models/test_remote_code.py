"""A model type that nobody knows, with its code beside its weights: refused with what was found, or assumed uniform and
then right, as the model that transformers builds from the output's own code shows.
"""

import copy
import json
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402 - after the skips

from solar_upscale.cli import main  # noqa: E402 - after the skips

CONFIGURATION = """
from transformers import PreTrainedConfig


class QuillConfig(PreTrainedConfig):
    model_type = "quill"
    vocab_size: int = 64
    width: int = 16
    num_hidden_layers: int = 5
    tie_word_embeddings: bool = False
"""
MODELING = """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_quill import QuillConfig


class QuillBlock(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.mix = torch.nn.Linear(config.width, config.width)
        self.back = torch.nn.Linear(config.width, config.width, bias=False)

    def forward(self, x):
        past = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[None, :, None]
        return x + self.back(torch.tanh(self.mix(past)))


class QuillForCausalLM(PreTrainedModel):
    config_class = QuillConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.width)
        self.layers = torch.nn.ModuleList(QuillBlock(config) for _ in range(config.num_hidden_layers))
        self.head = torch.nn.Linear(config.width, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, **kwargs):
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return CausalLMOutput(logits=self.head(x))
"""
IDS = torch.tensor([[1, 17, 42, 9, 33, 30, 5, 61]])
SOURCES = [4, 1, 1, 3, 0]
WORDS = ["--layers", "4", "1", "1", "3", "0", "-q"]


@pytest.fixture
def quill(tmp_path, monkeypatch):
    """The folder of a tiny checkpoint as its publisher would upload it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "configuration_quill.py").write_text(textwrap.dedent(CONFIGURATION))
    (folder / "modeling_quill.py").write_text(textwrap.dedent(MODELING))
    config = {
        "architectures": ["QuillForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_quill.QuillConfig",
            "AutoModelForCausalLM": "modeling_quill.QuillForCausalLM",
        },
        "model_type": "quill",
        "num_hidden_layers": 5,
        "vocab_size": 64,
        "width": 16,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    shapes = {"embed.weight": (64, 16), "head.weight": (64, 16)}
    for layer in range(5):
        shapes |= {f"layers.{layer}.mix.weight": (16, 16), f"layers.{layer}.mix.bias": (16,)}
        shapes |= {f"layers.{layer}.back.weight": (16, 16)}
    tensors = {name: torch.randn(shape, generator=generator) * 0.4 for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def add_field(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True, dtype=torch.float32
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def refusal(capsys, *words):
    """The one line on stderr of a job that fails."""
    assert main(list(map(str, words))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_unknown_model_type_is_refused_with_what_was_found(quill, tmp_path, capsys):
    error = refusal(capsys, quill, tmp_path / "out", *WORDS)
    assert "quill" in error
    assert "5 layers, counted by num_hidden_layers 5" in error
    assert "--assume-uniform" in error
    assert not (tmp_path / "out").exists()


def test_unknown_model_type_assumed_uniform_computes_what_surgery_computes(quill, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(quill), str(out), *WORDS, "--assume-uniform"]) == 0
    capsys.readouterr()
    for name in ("configuration_quill.py", "modeling_quill.py"):
        assert (out / name).read_bytes() == (quill / name).read_bytes()
    source = load(quill)
    oracle = copy.deepcopy(source)
    oracle.layers = torch.nn.ModuleList(copy.deepcopy(source.layers[i]) for i in SOURCES)
    result = load(out)
    assert type(result).__module__.startswith("transformers_modules")
    assert len(result.layers) == len(SOURCES)
    assert torch.equal(logits(result), logits(oracle))
    assert not torch.allclose(logits(result), logits(source), atol=0.01), "the order of layers does not show"
    provenance = (out / "solar_upscale.json").read_text()
    assert "assume" in provenance
    assert "assum" in (out / "README.md").read_text()


@pytest.mark.parametrize("more", [(), ("--assume-uniform",)])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gate_per_block", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("wide_layers", [1, 3]),
        ("attention_interval", 2),
        ("layer_pattern", "MMAMM"),
        ("overrides", {"0": {"width": 8}, "3": {"width": 8}}),
    ],
)
def test_unknown_per_layer_field_is_refused_by_name_either_way(field, value, more, quill, tmp_path, capsys):
    add_field(quill, **{field: value})
    error = refusal(capsys, quill, tmp_path / "out", *WORDS, *more)
    assert field in error
    assert not (tmp_path / "out").exists()


def test_layers_with_different_tensors_are_not_assumed_uniform(quill, tmp_path, capsys):
    tensors = load_file(quill / "model.safetensors")
    tensors["layers.3.extra.weight"] = torch.ones(2, 2)
    save_file(tensors, quill / "model.safetensors", {"format": "pt"})
    error = refusal(capsys, quill, tmp_path / "out", *WORDS, "--assume-uniform")
    assert "layers 0 and 3 have different tensors" in error
