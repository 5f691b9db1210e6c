"""``make quality-heal``: how fast a short continued training heals each start, in minutes on two cores.

The model trains on the first part of the text that the tests carry; perplexity is on its last part, which no step sees.
One small model, one seed, one learning rate: a picture, not a law. The curves go into docs/heal.svg, the figures
into docs/starts.md.
"""

import argparse
import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import solar_upscale as su
from benchmarks.chart import line_chart
from benchmarks.marked import write_marked
from solar_upscale.pattern import parse_layers
from tests.support.real_model import perplexity, real_model, text_tokens

DOCS = Path(__file__).resolve().parents[1] / "docs"
HELD_OUT = 512
IN_PLACE = ("0:5", "[i for i in range(5,19) for _ in range(2)]", "19:30")


@dataclass(frozen=True, slots=True)
class Run:
    """One curve: a job, and whether only the repeated layers are trained."""

    name: str
    layers: tuple[str, ...]
    init: str = "copy"
    new_only: bool = False


RUNS = (
    Run("original, all trained", ("0:30",)),
    Run("SOLAR m=8, all trained", ("0:22", "8:30")),
    Run("split 5..18, all trained", IN_PLACE, "split"),
    Run("identity 5..18, new only", IN_PLACE, "identity", new_only=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24, help="24 of 128 tokens read the text once")
    parser.add_argument("--every", type=int, default=4, help="steps between two measurements")
    parser.add_argument("--tokens", type=int, default=128, help="tokens a step")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate at its highest")
    options = parser.parse_args()
    ids = text_tokens()
    model = real_model()
    curves = {run.name: curve(model, run, ids, options) for run in RUNS}
    steps = range(0, options.steps + 1, options.every)
    write_marked(DOCS / "starts.md", "quality-heal", table(curves, steps))
    title = f"Held-out perplexity in continued training, {options.tokens} tokens a step"
    values = [value for points in curves.values() for _, value in points]
    ticks = range(int(min(values)), int(max(values)) + 2, max(1, round((max(values) - min(values)) / 8)))
    ticks = [*ticks, ticks[-1] + ticks.step]
    (DOCS / "heal.svg").write_text(line_chart(title, "step", "perplexity", curves, ticks), "utf-8")


def curve(model: Any, run: Run, ids: Any, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Held-out perplexity after every so many steps."""
    began = time.monotonic()
    torch.manual_seed(0)
    train, held_out = ids[:, :-HELD_OUT], ids[:, -HELD_OUT:]
    upscaled = su.upscale_model(copy.deepcopy(model), list(run.layers), init=run.init)
    trained = list(upscaled.parameters())
    if run.new_only:
        repeated = parse_layers(list(run.layers), model.config.num_hidden_layers).repeats
        trained = su.freeze_originals(upscaled, repeated)
    optimiser = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / 4, 1 - step / options.steps))
    points = [(0.0, perplexity(upscaled, held_out))]
    for step in range(options.steps):
        start = step * options.tokens % (train.shape[1] - options.tokens)
        window = train[:, start : start + options.tokens]
        upscaled(window, labels=window, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        rate.step()
        if (step + 1) % options.every == 0:
            points.append((step + 1.0, perplexity(upscaled, held_out)))
            print(
                f"{run.name:26} step {step + 1:3}  {points[-1][1]:7.2f}  {time.monotonic() - began:4.0f} s", flush=True
            )
    return points


def table(curves: dict[str, list[tuple[float, float]]], steps: range) -> str:
    """The curves as a table of the page."""
    lines = ["| step | " + " | ".join(curves) + " |", "| ---: |" + " ---: |" * len(curves)]
    for number, step in enumerate(steps):
        lines.append(f"| {step} | " + " | ".join(f"{points[number][1]:.2f}" for points in curves.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
