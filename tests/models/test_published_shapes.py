"""Families in the shape in which they are published: the whole job on a tiny model, loaded and compared by logits.

config.json is the publisher's, key for key (published_shapes.py); the oracle is the sweep's surgery in memory.
"""

import json
import warnings

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import solar_upscale as su  # noqa: E402
from solar_upscale.architecture import change_depth, choose_stack, find_stacks  # noqa: E402
from solar_upscale.errors import UnsupportedError  # noqa: E402
from solar_upscale.pattern import LayerPattern  # noqa: E402
from tests.support import architecture_judge as judge  # noqa: E402 - after the skips
from tests.support import architecture_surgery as surgery  # noqa: E402
from tests.support import tiny_models  # noqa: E402
from tests.support.published_shapes import MINIMAX_TEXT_01, PUBLISHED  # noqa: E402

# The shift in layers between the first run and the second: not a multiple of any period of the family, and a multiple.
# An order that Jamba's two periods cannot say is refused.
SHIFTS = dict.fromkeys(PUBLISHED, (3, 4)) | {
    "Gemma-3": (5, 6), "Gemma-3, pattern left out": (5, 6), "Gemma-3 text": (5, 6),
    "gpt-oss": (3, 2), "Jamba": (3, 8),
}  # fmt: skip
REFUSED = {("Jamba", 3): "the config only gives a period and an offset"}


@pytest.fixture(scope="module", params=list(PUBLISHED))
def built(request, tmp_path_factory):
    """The name, and the tiny model on disk and in memory."""
    folder = tmp_path_factory.mktemp("published") / "source"
    folder.mkdir()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    content = json.dumps(PUBLISHED[request.param], indent=2)
    (folder / "config.json").write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers warns of is its own
        config = transformers.AutoConfig.from_pretrained(folder)
        auto = (
            transformers.AutoModelForImageTextToText
            if "vision_config" in content
            else transformers.AutoModelForCausalLM
        )
        torch.manual_seed(0)
        model = auto.from_config(config, attn_implementation="eager").float().eval()
        tiny_models.strengthen(model)
        model.save_pretrained(folder)
        (folder / "config.json").write_text(content)
        if PUBLISHED[request.param].get("num_nextn_predict_layers"):
            surgery.add_next_token_layer(folder, config.num_hidden_layers)
        built = surgery.read_built(tiny_models.Pair(auto.__name__, config.model_type), folder, type(model))
        assert torch.equal(built.logits, surgery.logits_of(model)), "the published shape is not the same model"
    return request.param, built


@pytest.mark.parametrize("which", [0, 1], ids=["not-a-multiple", "multiple"])
def test_published_shape_is_correct_or_rightly_refused(built, which, tmp_path):
    name, built = built
    shift = SHIFTS[name][which]
    stack = choose_stack(find_stacks(built.tensors, built.config), None)
    n = stack.num_layers
    assert n == (built.config.get("text_config") or built.config)["num_hidden_layers"]
    sources = [*range(n - 1), *range(n - 1 - shift, n)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers warns of is its own
        if (name, shift) in REFUSED:
            with pytest.raises(UnsupportedError, match=REFUSED[name, shift]) as refusal:
                su.upscale_checkpoint(built.folder, tmp_path / "out", sources)
            assert judge.proof_of_refusal(built, stack, sources, str(refusal.value))
            return
        su.upscale_checkpoint(built.folder, tmp_path / "out", sources)
        model, info = surgery.load(type(built.model), tmp_path / "out")
        verdict = judge.compare(built, stack, sources, model, info)
    assert verdict == (judge.RIGHT, "")
    before, after = (json.loads((f / "config.json").read_text()) for f in (built.folder, tmp_path / "out"))
    assert set(before) <= set(after)
    assert list(after)[: len(before)] == list(before)


def test_minimax_text_01_whose_code_is_its_own_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    tensors = {f"model.layers.{i}.{part}.weight": torch.ones(2, 2) for i in range(8) for part in ("a.q", "b.w", "norm")}
    judge.save_file(tensors, tmp_path / "source" / "model.safetensors")
    (tmp_path / "source" / "config.json").write_text(json.dumps(MINIMAX_TEXT_01))
    with pytest.raises(UnsupportedError, match="minimax_text_01"):
        su.upscale_checkpoint(tmp_path / "source", tmp_path / "out", [*range(8), 7])


# --- a hybrid without its attention ------------------------------------------------------------------------------

# For each, a pattern that keeps no attention, the layers that have it, and how many from the front keep some.
LOST = {
    "Qwen3-Next": ([0, 1, 2], "3, 7, 11", 8),
    "Kimi-Linear": ([0, 1, 2], "3, 7, 8", 8),
    "Nemotron-H": ([0, 2, 3], "6", 8),
    "MiniMax-Text-01-hf": ([0, 1, 2], "3, 7", 4),
    "Jamba": ([0, 1, 2], "4, 12", 8),
}


@pytest.mark.parametrize("built", list(LOST), indirect=True)
def test_only_a_hybrid_left_without_attention_is_warned_about(built):
    name, built = built
    lost, attention, front = LOST[name]
    said = [w for w in su.plan_checkpoint(built.folder, lost).warnings if "drops every attention layer" in w]
    assert len(said) == 1
    assert said[0].endswith(f"keep one of source layers {attention}")
    assert not [w for w in su.plan_checkpoint(built.folder, [*range(front)]).warnings if "attention layer" in w]


@pytest.mark.parametrize("built", ["Qwen3-Next"], indirect=True)
def test_transformers_cannot_generate_from_a_hybrid_without_attention(built, tmp_path):
    _, built = built
    su.upscale_checkpoint(built.folder, tmp_path / "out", [0, 1, 2])
    model, _ = surgery.load(type(built.model), tmp_path / "out")
    assert surgery.logits_of(model) is not None
    with pytest.raises(ValueError, match="can only be called on Attention layers"):
        model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=2, do_sample=False)


@pytest.mark.parametrize(
    ("model_type", "left", "kind"),
    [
        ("olmo_hybrid", [0, 1, 2], "full_attention"),
        ("olmo_hybrid", [3, 3], "linear_attention"),
        ("neomme", [0, 1, 2], "full_attention"),
    ],
)
def test_type_that_requires_a_layer_kind_is_refused_without_it(model_type, left, kind):
    other = "sliding_attention" if model_type == "neomme" else "linear_attention"
    kinds = ([other] * 3 + ["full_attention"]) * 2
    config = {"model_type": model_type, "num_hidden_layers": 8, "layer_types": kinds}
    names = [f"model.layers.{i}.{part}.weight" for i in range(8) for part in ("mlp.up_proj", "norm")]
    stack = choose_stack(find_stacks(names, config), None)
    with pytest.raises(UnsupportedError, match=f"drops every {kind} layer"):
        change_depth(config, names, stack, LayerPattern(tuple(left), 8))
    with pytest.raises(Exception, match="at least one"):
        transformers.AutoConfig.for_model(
            model_type, num_hidden_layers=len(left), layer_types=[kinds[source] for source in left]
        )
