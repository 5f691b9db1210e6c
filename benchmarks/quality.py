"""``make quality``: what each pattern and each start does to a trained model, measured.

Perplexity of SmolLM2-135M-Instruct on the text that the tests carry, as a ratio to the source's. The upscaled models
are made by ``upscale_model``; that the checkpoints which the program writes compute the same bits is shown first. The
table goes into docs/starts.md, the curves into docs/quality.svg.
"""

import argparse
import contextlib
import copy
import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import solar_upscale as su
from benchmarks.chart import line_chart
from benchmarks.marked import write_marked
from solar_upscale.cli import main as solar_upscale
from tests.support.real_model import perplexity, real_checkpoint, real_model, text_tokens

DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True, slots=True)
class Row:
    """One job, and the ratio that the same job had on another text (None: not measured there)."""

    group: str
    what: str
    layers: tuple[str, ...]
    init: str
    other: float | None
    x: int | None = None


def _in_place(start: int, stop: int) -> tuple[str, ...]:
    before = (f"0:{start}",) if start else ()
    after = (f"{stop}:30",) if stop < 30 else ()
    return (*before, f"[i for i in range({start},{stop}) for _ in range(2)]", *after)


def _window(start: int, length: int) -> tuple[str, ...]:
    return (f"0:{start + length}", f"{start}:30")


def _dropped(layer: int) -> tuple[str, ...]:
    return tuple(f"{a}:{b}" for a, b in ((0, layer), (layer + 1, 30)) if a < b)


SOLAR = "SOLAR: range(0,30-m) and range(m,30)"
WINDOW_15 = "Window of 15 layers repeated once"
WINDOW_8 = "Window of 8 layers repeated once"
STARTS = "The same pattern with other starts"
ONE = "One layer repeated or dropped"
ORDER = "The source's layers in another order"

_SOLAR = {13: 1.13, 12: 1.17, 10: 1.27, 8: 1.36, 6: 1.87, 4: 7.5, 2: 6.9}
_WINDOW_15 = {0: 12.3, 2: 1.36, 4: 1.28, 5: 1.25, 6: 1.28, 8: 1.54, 10: 7.9, 12: 3.6, 15: 18.0}
_WINDOW_8 = {0: 85.0, 2: 1.63, 4: 1.21, 6: 1.17, 8: 1.12, 10: 1.17, 14: 1.30, 22: 8.8}
_EVERY_FOURTH = ("0:4", "3:8", "7:12", "11:16", "15:20", "19:24", "23:28", "27:30")
_STARTS: tuple[tuple[str, tuple[str, ...], dict[str, float | None]], ...] = (
    ("layers 5..19 twice in place", _in_place(5, 20),
     {"copy": 2.50, "scale=1,0.5": 1.37, "scale=1,0.25": None, "split": 1.117, "identity": 1.0}),
    ("layers 8..22 twice in place", _in_place(8, 23),
     {"copy": 2.47, "scale=1,0.5": 1.42, "scale=1,0.25": 1.13, "split": 1.112}),
    ("layers 1..28 twice in place", _in_place(1, 29), {"copy": None, "split": 1.19}),
    ("layers 11..17 twice in place", _in_place(11, 18), {"copy": None, "split": None}),
    ("layers 14..15 twice in place", _in_place(14, 16), {"copy": None, "split": None}),
    ("layers 3, 7, ..., 27 twice in place", _EVERY_FOURTH, {"copy": None, "split": None, "identity": None}),
    ("window [5,20) repeated", _window(5, 15),
     {"copy": 1.25, "scale=1,0.5": 1.10, "scale=1,0.25": 1.036, "split": 1.41, "identity": 1.0}),
    ("window [8,23) repeated", _window(8, 15),
     {"copy": 1.54, "scale=1,0.5": 1.22, "scale=1,0.25": 1.08, "split": 1.53}),
    ("SOLAR m=8", _window(8, 14), {"copy": 1.36, "scale=1,0.5": 1.12, "identity": 1.0}),
    ("SOLAR m=4", _window(4, 22), {"scale=1,0.25": None}),
    ("window [10,25) repeated", _window(10, 15), {"scale=1,0.25": None}),
)  # fmt: skip
_REPEATED = {0: 9.3, 1: 2.2, 2: None, 15: None, 28: None, 29: 4.5}
_GENTLY = ("split", "scale=1,0.5", "scale=1,0.25")
_DROPPED = {0: 999.0, 1: 13.7, 2: None, 15: None, 28: None, 29: 11.7}

ROWS: tuple[Row, ...] = (
    *(Row(SOLAR, f"m={m}", _window(m, 30 - 2 * m), "copy", other, m) for m, other in _SOLAR.items()),
    *(Row(WINDOW_15, f"[{b},{b + 15})", _window(b, 15), "copy", other, b) for b, other in _WINDOW_15.items()),
    *(Row(WINDOW_8, f"[{b},{b + 8})", _window(b, 8), "copy", other, b) for b, other in _WINDOW_8.items()),
    *(Row(STARTS, what, layers, init, other) for what, layers, inits in _STARTS for init, other in inits.items()),
    *(Row(ONE, f"layer {i} repeated", _window(i, 1), "copy", other) for i, other in _REPEATED.items()),
    *(Row(ONE, f"layer {i} repeated", _window(i, 1), init, None) for i in (0, 1, 29) for init in _GENTLY),
    *(Row(ONE, f"layer {i} dropped", _dropped(i), "copy", other) for i, other in _DROPPED.items()),
    Row(ORDER, "all layers reversed", ("29::-1",), "copy", None),
    Row(ORDER, "layers 8..21 reversed", ("0:8", "21:7:-1", "22:30"), "copy", None),
    Row(ORDER, "layers 14 and 15 exchanged", ("0:14", "15", "14", "16:30"), "copy", None),
)

# One job of each start, through the program and in memory.
PROOFS = (
    (("0:24", "6:30"), "copy"),
    (_in_place(5, 20), "split"),
    (_window(5, 15), "scale=1,0.25"),
    (_in_place(5, 20), "identity"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024, help="length of the text, in tokens (default: 1024)")
    parser.add_argument("--only", default="", help="only the rows whose description holds this; writes no file")
    options = parser.parse_args()
    ids = text_tokens()[:, : options.tokens]
    prove(ids[:, :64])
    model = real_model()
    before = perplexity(model, ids)
    print(f"\nsource: perplexity {before:.2f} on {ids.shape[1]} tokens; ratios to it:\n")
    measured: list[tuple[Row, int, float]] = []
    for row in ROWS:
        if options.only in f"{row.group} {row.what} {row.init}":
            layers, ratio = measure(model, row, ids, before)
            measured.append((row, layers, ratio))
            print(f"{row.what:30} {layers:3} layers  {row.init:13} {ratio:8.3f}   {_other(row)}", flush=True)
    if not options.only:
        write_page(measured, before, ids.shape[1])
        (DOCS / "quality.svg").write_text(plot(measured), "utf-8")


def measure(model: Any, row: Row, ids: Any, before: float) -> tuple[int, float]:
    """The depth of the upscaled model, and its perplexity as a ratio."""
    upscaled = su.upscale_model(copy.deepcopy(model), list(row.layers), init=row.init)
    return upscaled.config.num_hidden_layers, perplexity(upscaled, ids) / before


def prove(ids: Any) -> None:
    """Show that checkpoints written by the program, loaded by transformers, compute what the models in memory do."""
    import torch
    from transformers import AutoModelForCausalLM

    for layers, init in PROOFS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            words = [str(real_checkpoint()), f"{scratch}/out", "--layers", *layers, "--init", init, "-q"]
            with contextlib.redirect_stdout(io.StringIO()):
                assert solar_upscale(words) == 0, words
            written = AutoModelForCausalLM.from_pretrained(f"{scratch}/out")
        source = AutoModelForCausalLM.from_pretrained(real_checkpoint())
        in_memory = su.upscale_model(source, list(layers), init=init)
        with torch.inference_mode():
            assert torch.equal(written(ids).logits, in_memory(ids).logits), (layers, init)
        print(f"{init}: the checkpoint's logits equal the model's, bit for bit ({time.monotonic() - began:.0f} s)")


def write_page(measured: list[tuple[Row, int, float]], before: float, tokens: int) -> None:
    """Put the table between the markers of docs/starts.md."""
    write_marked(DOCS / "starts.md", "quality", "\n".join(_table(measured, before, tokens)))


def _table(measured: list[tuple[Row, int, float]], before: float, tokens: int) -> Iterator[str]:
    yield f"The source's perplexity is {before:.2f} on {tokens:,} tokens. *Other text*: the same job on 2,048 tokens of"
    yield "another text, on which the source has 30.5."
    for group in dict.fromkeys(row.group for row, _, _ in measured):
        yield ""
        yield f"**{group}**"
        yield ""
        yield "| pattern | layers | `--init` | ratio | other text |"
        yield "| --- | ---: | --- | ---: | ---: |"
        for row, layers, ratio in measured:
            if row.group == group:
                yield f"| {row.what} | {layers} | {row.init} | {_short(ratio)} | {_other(row)} |"
    yield ""


def _short(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 2 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _other(row: Row) -> str:
    return "" if row.other is None else f"{row.other:g}"


def plot(measured: list[tuple[Row, int, float]]) -> str:
    """Ratio against the first layer of the repeated window."""
    series = {}
    for group, name in ((SOLAR, "SOLAR, window [m, 30-m)"), (WINDOW_15, "window of 15"), (WINDOW_8, "window of 8")):
        points = [(float(row.x), ratio) for row, _, ratio in measured if row.group == group and row.x is not None]
        series[name] = sorted(points)
    title = "Perplexity ratio of plain copies, SmolLM2-135M (30 layers)"
    ticks = (1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100)
    return line_chart(title, "first layer of the repeated window", "ratio", series, ticks, log=True)


if __name__ == "__main__":
    main()
