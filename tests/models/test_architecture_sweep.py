"""Every model type that transformers can build: its depth is changed correctly, or refused for a valid reason.

The oracle is surgery on the model in memory (architecture_surgery.py), knowing nothing of the tables: blocks are copied
whole, with their own configuration, and the model around them is told its new depth. `pytest -m sweep` runs every
type; run as a program this file prints the table, and `--write FILE` writes it as a page of the documentation.
"""

import copy
import gc
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


from solar_upscale.architecture import Stack, change_depth, choose_stack, find_stacks  # noqa: E402
from solar_upscale.errors import UnsupportedError  # noqa: E402
from solar_upscale.pattern import LayerPattern  # noqa: E402
from tests.support import tiny_models  # noqa: E402 (after the checks that its imports need)
from tests.support.architecture_judge import NEEDS_CONFIG, NOT_BUILT, REFUSED, RIGHT, UNSHOWN, WRONG, Outcome, judge  # noqa: E402
from tests.support.architecture_surgery import (  # noqa: E402
    INDEX_LISTS,
    Built,
    add_next_token_layer,
    build,
    load,
    logits_of,
    read_built,
)
from tests.support.tiny_models import Pair  # noqa: E402


def patterns(n: int) -> dict[str, list[int]]:
    """A repeat, a drop, a new order, and a shift by a number that is not a multiple of a period."""
    return {
        "shift": [*range(n - 3), *range(2, n)],
        "drop": [*range(3), *range(5, n)],
        "reverse": [*reversed(range(n))],
        **of_unlike_layers(n),
    }


def of_unlike_layers(n: int) -> dict[str, list[int]]:
    """For models whose layers are not all alike: a shift by whole periods, and one that keeps the first layers."""
    return {"repeat": [*range(n - 2), *range(2, n)], "front kept": [*range(n - 1), *range(n - 4, n)]}


# --- the sweep ---------------------------------------------------------------------------------------------------


def sweep(pairs: list[Pair], labels: tuple[str, ...] | None = None) -> Iterator[Outcome]:
    """Every pattern on the default stack of every pair, and a repeat on the encoder where there is one."""
    for number, pair in enumerate(pairs, 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "source"
            try:
                built = build(pair, folder)
            except Exception as error:  # the reason is the outcome
                yield Outcome(pair, "", "", NOT_BUILT, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
                continue
            try:
                yield from examine(built, labels)
            except Exception as error:
                yield Outcome(pair, "", "", WRONG, f"{type(error).__name__}: {error}")
            del built
        if number % 20 == 0:
            gc.collect()  # models hold themselves in cycles


def examine(built: Built, labels: tuple[str, ...] | None) -> Iterator[Outcome]:
    try:
        stacks = find_stacks(built.tensors, built.config)
        default = choose_stack(stacks, None)
    except UnsupportedError as error:
        yield Outcome(built.pair, "", "", REFUSED, str(error))
        return
    if default.num_layers != tiny_models.LAYERS:
        # A stack of another size than was asked for: one set of weights that serves all layers, or a mistake of ours.
        try:
            change_depth(built.config, built.tensors, default, LayerPattern((0, 0), default.num_layers))
        except UnsupportedError as error:
            yield Outcome(built.pair, default.role, "", REFUSED, str(error))
        else:
            yield Outcome(built.pair, default.role, "", WRONG, f"the default stack is {default}")
        return
    seen = []
    for label, sources in patterns(default.num_layers).items():
        if labels is not None and label not in labels:
            continue
        if (
            labels is None
            and label in of_unlike_layers(8)
            and alike(built, default)
            and all(o.verdict == RIGHT for o in seen)
        ):
            continue
        seen.append(judge(built, default, label, sources))
        yield seen[-1]
    if labels is None:
        yield from without_lists(built, default)
        for stack in stacks[1:]:
            if stack.role == "encoder" and stack.num_layers >= 6:
                for label, sources in patterns(stack.num_layers).items():
                    yield judge(built, stack, f"encoder {label}", sources)


def alike(built: Built, stack: Stack) -> bool:
    """Whether only counts change with the depth."""
    pattern = LayerPattern(tuple(patterns(stack.num_layers)["shift"]), stack.num_layers)
    try:
        change = change_depth(built.config, built.tensors, stack, pattern)
    except UnsupportedError:
        return False
    return all(isinstance(c.after, int) for c in change.changes)


def without_lists(built: Built, stack: Stack) -> Iterator[Outcome]:
    """The same with the per-layer lists left out of config.json, as published configs often are, where that loads."""
    config = copy.deepcopy(built.config)
    section = config
    for key in stack.config_path:
        section = section[key]
    lists = [
        k for k, v in section.items() if isinstance(v, list) and len(v) == stack.num_layers and k not in INDEX_LISTS
    ]
    if not lists:
        return
    for key in lists:
        del section[key]
    bare = built.folder.parent / "bare"
    try:
        shutil.copytree(built.folder, bare)
        (bare / "config.json").write_text(json.dumps(config))
        if answers_the_same(built, bare):
            for label in ("shift", "reverse"):
                yield judge(built, stack, f"{label}, lists left out", patterns(stack.num_layers)[label], bare)
    finally:
        shutil.rmtree(bare, ignore_errors=True)


def answers_the_same(built: Built, folder: Path) -> bool:
    """Whether transformers makes the same model of the folder, whose config leaves things out."""
    try:
        model, info = load(type(built.model), folder)
    except Exception:  # what transformers does not load says nothing
        return False
    logits = logits_of(model)
    return (
        info == built.baseline and built.logits is not None and logits is not None and torch.equal(logits, built.logits)
    )


# One pair for each rule of the table.
REPRESENTATIVES = (
    "CausalLM llama", "CausalLM gemma3_text", "CausalLM gemma3n_text", "CausalLM qwen2_moe step 2",
    "CausalLM llama4_text interleaved", "CausalLM kimi_linear", "CausalLM deepseek_v3", "CausalLM jamba",
    "CausalLM ernie4_5_moe interval 2", "CausalLM gpt_neo", "CausalLM recurrent_gemma", "CausalLM nemotron_h",
    "CausalLM minicpm3", "CausalLM dots3_note_text", "CausalLM diffllama", "CausalLM zamba", "CausalLM xlm",
    "CausalLM gpt2", "CausalLM gpt2 inverse index", "CausalLM mixtral", "ImageTextToText llava",
    "ImageTextToText idefics",
    "ImageTextToText mistral_large4 shared keys", "MaskedLM esm", "MaskedLM neomme", "Seq2SeqLM bart", "Seq2SeqLM t5",
    "Seq2SeqLM switch_transformers",
)  # fmt: skip


def quietly(pairs: list[Pair], labels: tuple[str, ...] | None) -> list[Outcome]:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers warns of is its own
        return list(sweep(pairs, labels))


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_representative_of_each_rule_is_correct_or_rightly_refused(name: str) -> None:
    pair = next(pair for pair in tiny_models.pairs() if str(pair) == name)
    outcomes = quietly([pair], ("shift", "reverse"))
    assert {outcome.verdict for outcome in outcomes} <= {RIGHT, REFUSED}, outcomes


@pytest.mark.sweep
def test_every_model_type_is_correct_or_rightly_refused() -> None:
    outcomes = quietly(tiny_models.pairs(), None)
    print("\n".join(table(outcomes)))
    assert not [outcome for outcome in outcomes if outcome.verdict == WRONG]
    assert not [outcome for outcome in outcomes if "seem to refer to layers" in outcome.reason]
    # Only where numbers, or masks built from a view of the config for each layer, tell the kinds of layers does the
    # surgery need the written config.
    told = {outcome.pair.model_type for outcome in outcomes if outcome.reason == NEEDS_CONFIG}
    assert told <= {"bamba", "jamba", "neomme"}
    assert sum(outcome.proof == UNSHOWN for outcome in outcomes) <= 40
    assert len({str(outcome.pair) for outcome in outcomes if outcome.verdict == NOT_BUILT}) <= 20


# --- configs in the shape in which they are published ------------------------------------------------------------


def _without(*names: str, **extra: Any) -> Callable[[dict[str, Any]], None]:
    """Remove fields from the section that describes the stack, and add others."""

    def edit(config: dict[str, Any]) -> None:
        section = config.get("text_config", config)
        for name in names:
            section.pop(name, None)
        section.update(copy.deepcopy(extra))

    return edit


def _flattened(config: dict[str, Any]) -> None:
    """Qwen2-VL's first configs: the text model's fields at the top, none below."""
    text = config.pop("text_config")
    config.update({key: value for key, value in text.items() if key not in config or key in tiny_models.COUNTS})


_KINDS = {"linear_attention": "M", "full_attention": "*", "mlp": "-", "moe": "E"}


def _as_string(config: dict[str, Any]) -> None:
    config["hybrid_override_pattern"] = "".join(_KINDS[kind] for kind in config.pop("layers_block_type"))
    config["num_hidden_layers"] = len(config["hybrid_override_pattern"])


PUBLISHED: dict[str, Callable[[dict[str, Any]], None]] = {
    "CausalLM deepseek_v3": _without("mlp_layer_types", moe_layer_freq=1, ep_size=1, num_nextn_predict_layers=1),
    "CausalLM deepseek_v32": _without("layer_types", "mlp_layer_types", moe_layer_freq=1),
    "CausalLM falcon_h1": _without(attn_layer_indices=None),
    "CausalLM gemma3_text": _without("layer_types", "_sliding_window_pattern", sliding_window_pattern=6),
    "CausalLM glm4_moe": _without(num_nextn_predict_layers=1),
    "CausalLM gpt_oss": _without("layer_types", initial_context_length=4096),
    "CausalLM jamba": _without(),
    "CausalLM kimi_linear": _without(
        "layer_types",
        "mlp_layer_types",
        first_k_dense_replace=1,
        moe_layer_freq=1,
        linear_attn_config={"full_attn_layers": [5], "kda_layers": [1, 2, 3, 4, 6, 7, 8]},
    ),
    "CausalLM llama4_text interleaved": _without("layer_types", "moe_layers", no_rope_layers=[]),
    "CausalLM minimax": _without("layer_types"),
    "CausalLM mixtral": _without(),
    "CausalLM nemotron_h": _as_string,
    "CausalLM qwen3_moe": _without(max_window_layers=48, use_sliding_window=False),
    "CausalLM qwen3_next": _without("layer_types", full_attention_interval=4),
    "ImageTextToText qwen2_vl": _flattened,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_config_is_correct_or_rightly_refused(name: str, tmp_path: Path) -> None:
    pair = next(pair for pair in tiny_models.pairs() if str(pair) == name)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers warns of is its own
        plain = build(pair, tmp_path / "source")
        config = json.loads((tmp_path / "source" / "config.json").read_text())
        PUBLISHED[name](config)
        (tmp_path / "source" / "config.json").write_text(json.dumps(config))
        if config.get("num_nextn_predict_layers"):
            add_next_token_layer(tmp_path / "source", tiny_models.LAYERS)
        built = read_built(pair, tmp_path / "source", type(plain.model))
        assert torch.equal(built.logits, plain.logits), "the published shape is not the same model"
        stack = choose_stack(find_stacks(built.tensors, built.config), None)
        assert stack.num_layers == tiny_models.LAYERS
        outcomes = [judge(built, stack, label, patterns(stack.num_layers)[label]) for label in ("shift", "front kept")]
    assert {outcome.verdict for outcome in outcomes} <= {RIGHT, REFUSED}, outcomes
    if name not in ("CausalLM deepseek_v3", "CausalLM jamba"):
        assert [outcome.verdict for outcome in outcomes] == [RIGHT, RIGHT], outcomes


# --- the table ---------------------------------------------------------------------------------------------------


def table(outcomes: list[Outcome]) -> list[str]:
    """One line a pair: which patterns are right, which are refused and why."""
    rows: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault(str(outcome.pair), []).append(outcome)
    lines = ["| Auto class and model type | Outcome | Patterns right | Refused, and why |", "| --- | --- | --- | --- |"]
    for name, row in sorted(rows.items()):
        right = [outcome.pattern for outcome in row if outcome.verdict == RIGHT]
        others = [outcome for outcome in row if outcome.verdict != RIGHT]
        reasons: dict[str, list[str]] = {}
        for outcome in others:
            why = _short(outcome.reason) + (f" ({UNSHOWN})" if outcome.proof == UNSHOWN else "")
            reasons.setdefault(why, []).append(outcome.pattern)
        verdict = " and ".join(
            dict.fromkeys(outcome.verdict for outcome in sorted(row, key=lambda o: o.verdict != RIGHT))
        )
        weights = right and all(o.reason.startswith("weights only") for o in row if o.verdict == RIGHT)
        told = "; ".join(
            f"{', '.join(filter(None, labels))}: {why}".removeprefix(": ") for why, labels in reasons.items()
        )
        lines.append(f"| {name} | {verdict}{' (weights compared)' if weights else ''} | {', '.join(right)} | {told} |")
    return lines


def _short(reason: str) -> str:
    reason = reason.partition("; target layers")[0].replace("|", "/")
    head, _, rest = reason.partition(": ")
    return rest if rest and "Error" not in head else reason


def page(outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.verdict for outcome in outcomes)
    built = {str(o.pair) for o in outcomes if o.verdict != NOT_BUILT}
    proved = sum(outcome.verdict == REFUSED and outcome.proof not in ("", UNSHOWN) for outcome in outcomes)
    unshown = sum(outcome.proof == UNSHOWN for outcome in outcomes)
    missing = {str(o.pair) for o in outcomes if o.verdict == NOT_BUILT}
    intro = f"""# The sweep over all model types

Details behind [models.md](models.md), which `make docs` writes from this page.

Generated by `python -m tests.models.test_architecture_sweep --write docs/architectures.md` with transformers
{transformers.__version__}: a tiny random model of every type under four auto classes, saved, changed by
`upscale_checkpoint`, verified, loaded again, and compared with the same surgery in memory (every weight of every
layer, and the logits where text is enough).
{len(built)} pairs were built, {len(missing)} could not be built here.
{counts[RIGHT]} patterns are right, {counts[REFUSED]} refused, {counts[WRONG]} wrong.
Of the refusals that a pattern met, {proved} were bypassed and the model then failed to load or answered differently;
for {unshown} a text cannot show it (image features that enter by position, models that need more than text).

Patterns, on eight layers: *shift* is 0 to 4 and 2 to 7; *drop* leaves out 3 and 4; *reverse* is 7 to 0; *repeat* is
0 to 5 and 2 to 7; *front kept* is 0 to 6 and 4 to 7. *Lists left out*: the per-layer lists are absent from config.json,
as in many published configs. *Encoder*: the same on the encoder.

"""
    return intro + "\n".join(table(outcomes)) + "\n"


def test_sweep_of_a_type_that_does_not_exist_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["llama", "no_such_type"]) == 2
    assert capsys.readouterr().err == "unknown model types: no_such_type\n"


def main(arguments: list[str]) -> int:
    """Sweep everything, or the model types named; with --write FILE write the page."""
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    target = Path(arguments[arguments.index("--write") + 1]) if "--write" in arguments else None
    wanted = [word for word in arguments if not word.startswith("--") and word != str(target)]
    started = time.monotonic()
    outcomes = []
    pairs = tiny_models.pairs()
    unknown = set(wanted) - {pair.model_type for pair in pairs}
    if unknown:
        print(f"unknown model types: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    for outcome in sweep([pair for pair in pairs if not wanted or pair.model_type in wanted]):
        outcomes.append(outcome)
        if outcome.verdict != RIGHT or outcome.reason or wanted:
            print(
                outcome.verdict,
                outcome.pair,
                outcome.stack,
                outcome.pattern,
                outcome.reason[:330],
                sep=" | ",
                flush=True,
            )
    print(Counter(outcome.verdict for outcome in outcomes), f"{time.monotonic() - started:.0f} s")
    if target:
        target.write_text(page(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
