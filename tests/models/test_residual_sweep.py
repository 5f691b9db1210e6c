"""The residual table, proved on a random model of every architecture.

identity: a repeat whose writers are zero leaves the outputs equal to the source's bit for bit, in float32 and bfloat16.
factor: with every writer of a layer multiplied, outputs equal those of a run in which whatever the layer adds to the
stream is multiplied as it is added, found by watching the additions and not by name: bit for bit for a power of two.
file: the same rules on the names and shapes of a saved checkpoint give the bytes that the changed model saves.
refusals: where the table refuses, a repeat with every matrix that could write set to zero does change the outputs.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import transformers
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from solar_upscale.architecture.blocks import READERS
from solar_upscale.architecture.registry import hand_written
from solar_upscale.architecture.types import ResidualRule
from solar_upscale.errors import UnsupportedError
from solar_upscale.plan.transform import transform_chunks, transform_for
from solar_upscale.source.header import TensorInfo
from solar_upscale.start import residual
from solar_upscale.start.residual import block_model_type, residual_writers
from tests.support import residual_models

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


# What reads in some type or other; a refused type has no readers of its own.
ANY_READERS = READERS.union(*(record.readers for record in hand_written().values()))


class ScaledAdditions(TorchFunctionMode):
    """Multiply by ``factor`` whatever is added to the tensor ``stream``; the sum is the next stream."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.additions, self.adding = factor, 0, False
        self.stream: torch.Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if self.adding or name not in ("add", "add_", "__add__", "__radd__", "__iadd__"):
            return func(*args, **(kwargs or {}))
        left, right = args[:2]
        if self.is_stream(left) == self.is_stream(right) or left.shape != right.shape:
            return func(*args, **(kwargs or {}))
        self.adding = True
        total = left + right * self.factor if self.is_stream(left) else left * self.factor + right
        self.stream = left.copy_(total) if name in ("add_", "__iadd__") else total
        self.adding = False
        self.additions += 1
        return self.stream

    def is_stream(self, tensor: Any) -> bool:
        """The stream itself or a view of all of it."""
        if not isinstance(tensor, torch.Tensor) or self.stream is None:
            return False
        return tensor.data_ptr() == self.stream.data_ptr() and tensor.numel() == self.stream.numel()


def stream_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int | str, torch.Tensor]:
    places = [*enumerate(args), *((key, kwargs[key]) for key in ("hidden_states", "x") if key in kwargs)]
    return next((place, value) for place, value in places if isinstance(value, torch.Tensor))


@contextmanager
def additions_scaled(layer: nn.Module, factor: float) -> Iterator[ScaledAdditions]:
    mode = ScaledAdditions(factor)

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        mode.stream = stream_argument(args, kwargs)[1]
        mode.__enter__()

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        mode.__exit__(None, None, None)
        mode.stream = None

    hooks = [
        layer.register_forward_pre_hook(before, with_kwargs=True),
        layer.register_forward_hook(after, with_kwargs=True),
    ]
    yield mode
    for hook in hooks:
        hook.remove()


@contextmanager
def repeated(layer: nn.Module, repeat: nn.Module) -> Iterator[None]:
    """After ``layer``, ``repeat`` runs on its output, and what it gives is what the model sees."""

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        stream = output if isinstance(output, torch.Tensor) else output[0]
        place, _ = stream_argument(args, kwargs)
        if isinstance(place, int):
            args = (*args[:place], stream.clone(), *args[place + 1 :])
        else:
            kwargs = {**kwargs, place: stream.clone()}
        return repeat(*args, **kwargs)

    hook = layer.register_forward_hook(after, with_kwargs=True)
    yield
    hook.remove()


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def infos(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(name, DTYPES.get(tensor.dtype, "U8"), tuple(tensor.shape), (0, tensor.nbytes))
        for name, tensor in tensors.items()
    }


def transformed(tensor: torch.Tensor, rule: ResidualRule, factor: float) -> torch.Tensor:
    data = tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else b""
    info = infos({"tensor": tensor})["tensor"]
    change = transform_for(factor, rule, info)
    changed = b"".join(transform_chunks(change, info.dtype, len(data), lambda start, stop: [data[start:stop]]))
    return torch.frombuffer(bytearray(changed), dtype=tensor.dtype).reshape(tensor.shape)


def put_factor(layer: nn.Module, rules: Mapping[str, ResidualRule], factor: float) -> None:
    tensors = tensors_of(layer)
    with torch.no_grad():
        for name, rule in rules.items():
            tensors[name].copy_(transformed(tensors[name], rule, factor))


def layer_rules(
    model: PreTrainedModel, config: Mapping[str, Any], prefix: str, layers: nn.ModuleList
) -> tuple[dict[int, dict[str, ResidualRule]], dict[int, dict[str, ResidualRule]]]:
    """The rules of each layer by the tensor's name within it; second, those of layers whose state others reuse."""
    stack = residual_models.stack(model, prefix, prefix, len(layers))
    named = {f"{prefix}.{index}.{name}": t for index, part in enumerate(layers) for name, t in tensors_of(part).items()}
    rules: dict[int, dict[str, ResidualRule]] = {}
    reused: dict[int, dict[str, ResidualRule]] = {}
    for index in range(len(layers)):
        found, into = {}, rules
        try:
            found = residual_writers(config, infos(named), stack, [index])
        except UnsupportedError as refusal:
            if "a repeat would replace" not in str(refusal):
                raise
            into = reused
            with patch.object(residual, "_shared_state_problems", return_value=[]):
                found = residual_writers(config, infos(named), stack, [index])
        into[index] = {name.removeprefix(f"{prefix}.{index}."): rule for name, rule in found[index].items()}
    return rules, reused


def check_identity(model: PreTrainedModel, layers: nn.ModuleList, rules: Mapping[int, dict[str, ResidualRule]]) -> None:
    expected = residual_models.outputs(model)
    assert torch.isfinite(expected).all()
    moved = 0
    for index, layer_rule in rules.items():
        layer = layers[index]
        repeat = copy.deepcopy(layer)
        with repeated(layer, repeat):
            moved += not torch.equal(residual_models.outputs(model), expected)
            put_factor(repeat, layer_rule, 0.0)
            assert torch.equal(residual_models.outputs(model), expected)
    assert moved >= len(rules) - 1, "the layers do something, so that being an identity says something"


def factor_error(
    model: PreTrainedModel, layers: nn.ModuleList, rules: Mapping[int, dict[str, ResidualRule]], factor: float
) -> float:
    """The largest error of the outputs with a layer's writers multiplied, as a part of the largest output."""
    error = 0.0
    for index, layer_rule in rules.items():
        layer = layers[index]
        if any(rule.only_zero for rule in layer_rule.values()):
            with pytest.raises(UnsupportedError, match="only by 0"):
                put_factor(copy.deepcopy(layer), layer_rule, factor)
            continue
        with additions_scaled(layer, factor) as watched:
            expected = residual_models.outputs(model)
        before = {name: tensor.detach().clone() for name, tensor in tensors_of(layer).items()}
        plain = residual_models.outputs(model)
        put_factor(layer, layer_rule, factor)
        got = residual_models.outputs(model)
        with torch.no_grad():
            for name, tensor in tensors_of(layer).items():
                tensor.copy_(before[name])
        assert watched.additions or torch.equal(plain, expected)
        error = max(error, float((got - expected).abs().max() / expected.abs().max()))
    return error


def check_factor(
    model: PreTrainedModel, prefix: str, layers: nn.ModuleList, rules: Mapping[int, dict[str, ResidualRule]]
) -> None:
    # A gain stored as w in (1 + w) is rounded where it is stored, whatever the factor.
    rounded = any(rule.offset for layer_rule in rules.values() for rule in layer_rule.values())
    assert factor_error(model, layers, rules, 0.5) <= (1e-5 if rounded else 0.0)
    error = factor_error(model, layers, rules, 0.3)
    if error > 1e-5:  # some random models amplify the last bit of float32 a thousandfold; float64 tells
        wide = copy.deepcopy(model).double()
        error = factor_error(wide, dict(residual_models.stacks(wide))[prefix], rules, 0.3)
    assert error <= 1e-5


def saved(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    model.save_pretrained(folder)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    return tensors


def file_prefix(tensors: Mapping[str, torch.Tensor], prefix: str, layers: nn.ModuleList) -> str:
    """What a checkpoint calls a stack: the prefix of as many elements as the layers have, and the most alike."""
    count: dict[str, int] = {}
    for name, tensor in tensors.items():
        if match := re.match(r"(.+?)\.\d+\.", name):
            count[match[1]] = count.get(match[1], 0) + tensor.numel()
    held = sum(tensor.numel() for tensor in layers.state_dict().values())
    words = set(prefix.split("."))
    return min(count, key=lambda stored: (abs(count[stored] - held), -len(words & set(stored.split(".")))))


def check_file(
    model: PreTrainedModel,
    config: Mapping[str, Any],
    prefix: str,
    layers: nn.ModuleList,
    rules: Mapping[int, dict[str, ResidualRule]],
    folder: Path,
) -> None:
    before = saved(model, folder / "before")
    factor = 0.0 if any(rule.only_zero for layer_rule in rules.values() for rule in layer_rule.values()) else 0.5
    for index, layer_rule in rules.items():
        put_factor(layers[index], layer_rule, factor)
    after = saved(model, folder / "after")
    stored = file_prefix(before, prefix, layers)
    stack = residual_models.stack(model, prefix, stored, len(layers))
    by_layer = residual_writers(config, infos(before), stack, rules)
    named = {name: rule for layer in by_layer.values() for name, rule in layer.items()}
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = transformed(tensor, named[name], factor) if name in named else tensor
        assert torch.equal(after[name], expected), name


def prove(label: str, folder: Path) -> list[str]:
    """Prove one case; says of each stack what was proved, "identity" or "refused" with the reason."""
    model = residual_models.build_case(label)
    residual_models.randomise(model)
    config = model.config.to_dict()
    proofs: list[str] = []
    for prefix, layers in residual_models.stacks(model):
        if not moves(model, layers):
            continue  # a stack that text alone does not reach
        try:
            rules, reused = layer_rules(model, config, prefix, layers)
        except UnsupportedError as refusal:
            known = "is not known" not in str(refusal)
            proofs.append(f"{'refused' if known else 'unknown'} {prefix}: {refusal}")
            if known and could_be_identity(model, layers):
                pytest.fail(f"{label}: {prefix}: could be an identity, but: {refusal}")
            continue
        check_shared_state(model, layers, reused)
        check_identity(model, layers, rules)
        check_factor(model, prefix, layers, rules)
        narrow = copy.deepcopy(model).to(torch.bfloat16)
        check_identity(narrow, dict(residual_models.stacks(narrow))[prefix], rules)
        check_file(model, config, prefix, layers, rules, folder / prefix)
        stack = residual_models.stack(model, prefix, prefix, len(layers))
        proofs.append(f"identity {block_model_type(config, stack)[0]} {prefix}: layers {', '.join(map(str, rules))}")
    return proofs


def moves(model: PreTrainedModel, layers: nn.ModuleList) -> bool:
    """Whether a plain repeat of some layer changes the outputs."""
    expected = residual_models.outputs(model)
    for layer in layers:
        with repeated(layer, copy.deepcopy(layer)):
            if not torch.equal(residual_models.outputs(model), expected):
                return True
    return False


def check_shared_state(
    model: PreTrainedModel, layers: nn.ModuleList, reused: Mapping[int, dict[str, ResidualRule]]
) -> None:
    """A layer refused because later ones reuse its state is truly no identity, even with zero writers."""
    expected = residual_models.outputs(model)
    for index, rules in reused.items():
        repeat = copy.deepcopy(layers[index])
        put_factor(repeat, rules, 0.0)
        with repeated(layers[index], repeat):
            assert not torch.equal(residual_models.outputs(model), expected), f"layer {index}"


def could_be_identity(model: PreTrainedModel, layers: nn.ModuleList) -> bool:
    """Whether every layer's repeat leaves the outputs alone once each matrix of it that may write is zero."""
    expected = residual_models.outputs(model)
    for layer in layers:
        repeat = copy.deepcopy(layer)
        with torch.no_grad():
            for name, tensor in tensors_of(repeat).items():
                norm = re.search(r"norm|ln|convolution", name, re.IGNORECASE)
                if (tensor.dim() > 1 or name.endswith("bias")) and not norm and ANY_READERS.isdisjoint(name.split(".")):
                    tensor.zero_()
        with repeated(layer, repeat):
            if not torch.equal(residual_models.outputs(model), expected):
                return False
    return True


REPRESENTATIVE = (
    "CausalLM llama biases",
    "CausalLM mistral",
    "CausalLM mixtral",
    "CausalLM gemma2",
    "CausalLM gemma4_text experts",
    "CausalLM olmo2",
    "CausalLM gpt2",
    "CausalLM gpt_neox",
    "CausalLM falcon",
    "CausalLM phi3",
    "CausalLM opt",
    "CausalLM falcon_h1",
    "CausalLM gpt_oss",
    "Seq2SeqLM t5",
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@pytest.mark.filterwarnings("ignore")  # of transformers and torch about tiny odd models
@pytest.mark.parametrize("label", REPRESENTATIVE)
def test_zero_is_an_identity_and_a_factor_is_that_factor(label: str, tmp_path: Path) -> None:
    proofs = prove(label, tmp_path)
    assert proofs
    assert all(line.startswith("identity") for line in proofs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", ["MaskedLM bert", "CausalLM opt post-norm", "CausalLM deepseek_v4"])
def test_refused_block_really_cannot_be_an_identity(label: str, tmp_path: Path) -> None:
    proofs = prove(label, tmp_path)
    assert proofs
    assert all(line.startswith("refused") for line in proofs)


# Names that older configs give to blocks proved under another name.
PROVED_AS = {
    "gpt-sw3": "gpt2",
    "kimi_k2": "deepseek_v3",  # its layers under another name; loaded as a repository's own code
}


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")
def test_every_architecture_is_proved_or_correctly_refused(tmp_path: Path) -> None:
    proofs: dict[str, list[str]] = {}
    problems: list[str] = []
    for number, label in enumerate(residual_models.cases()):
        if label in residual_models.NOT_RUN:
            continue
        try:
            proofs[label] = prove(label, tmp_path / str(number))
        except Exception as problem:  # every architecture is tried, and all failures are reported together
            problems.append(f"{label}: {type(problem).__name__}: {str(problem)[:300]}")
    lines = [line for found in proofs.values() for line in found]
    proved = {line.split()[1] for line in lines if line.startswith("identity")}
    counts = {kind: sum(line.startswith(kind) for line in lines) for kind in ("identity", "refused", "unknown")}
    print(f"stacks: {counts}; model types proved: {len(proved)}; cases not run: {len(residual_models.NOT_RUN)}")
    print("\n".join(line for line in lines if line.startswith("unknown")))
    assert not problems, "\n".join(problems)
    assert {name for name, record in hand_written().items() if record.block} - PROVED_AS.keys() == proved
    assert set(PROVED_AS.values()) <= proved
