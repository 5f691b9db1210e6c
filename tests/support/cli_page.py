"""docs/cli.md: every command and option, from the parsers, with an introduction for each command."""

import argparse
import textwrap
from collections.abc import Iterator

from solar_upscale.cli.parsers import PARSERS

__all__ = ["INTRODUCTIONS", "cli_page"]

HEAD = """\
# Command line

Written by `make docs` from the parsers; a test fails when the two differ. `solar-upscale COMMAND --help` prints the
same options.

| Command | What it does |
| --- | --- |
"""

# What does not fit into --help: a summary, an example, and what a reader should know before the options.
INTRODUCTIONS: dict[str, tuple[str, str, str]] = {
    "upscale": (
        "Writes a new checkpoint whose layers are the source's in the order that `--layers` gives.",
        "solar-upscale mistralai/Mistral-7B-v0.1 out/ --layers 0:24 8:32",
        "The word `upscale` may be left out. SOURCE is a folder or a Hub repo id; OUT must not exist yet or be empty, "
        "unless `--overwrite` is given. `--layers` takes every argument up to the next option, so put SOURCE and OUT "
        "first. With `--config` the source may come from the recipe, and `solar-upscale OUT --config NAME` is enough; "
        "`--layers`, `--repeat-every`, `--init`, `--stack` and `--max-shard-size` override what the recipe says. OUT "
        "appears whole or not at all; after an interruption the same command resumes. The layer map and what will be "
        "written are printed before the first byte, what was done and how long it took after the last.",
    ),
    "plan": (
        "Prints what would be written and writes nothing.",
        "solar-upscale plan mistralai/Mistral-7B-v0.1 --layers 0:24 8:32",
        "Reads headers and `config.json` only: for a Hub source a few KiB of each shard. Put `plan` before any command "
        "that writes, with all its options: with OUT it also says what is there, and refuses an OUT that the run would "
        "refuse. `--dry-run` on the main command does the same. One argument alone is SOURCE, even with a recipe.",
    ),
    "inspect": (
        "Prints what a checkpoint is made of.",
        "solar-upscale inspect mistralai/Mistral-7B-v0.1",
        "Shows the stacks of layers, their sizes and dtypes, the config fields tied to depth, and the projections that "
        "`--init` would change. Start here when a plan is refused.",
    ),
    "verify": (
        "Verifies a finished output.",
        "solar-upscale verify out/ --source mistralai/Mistral-7B-v0.1",
        "With `--source` every tensor is compared with the source byte by byte. Without it headers, index, config and "
        "copied files are checked against `solar_upscale.json`, and repeats against one another. OUT may be a model "
        "on the Hub; neither side is then downloaded to disk.",
    ),
    "push": (
        "Verifies a finished output and publishes it.",
        "solar-upscale push out/ me/SOLAR --private",
        "One commit makes everything visible. [hub.md](hub.md) covers publishing, private and gated models, and "
        "what the Hub may refuse.",
    ),
    "recipes": (
        "Lists the shipped recipes, or shows one.",
        "solar-upscale recipes solar-10.7b",
        "With NAME, which may also be a file, it prints the recipe, the layer map that it gives, where the model is "
        "published, and how to write it. Use one with `--config NAME`. The files are in `configs/`; "
        "[from-mergekit.md](from-mergekit.md) shows the YAML.",
    ),
    "completion": (
        "Prints a completion script for bash, zsh or fish.",
        'eval "$(solar-upscale completion bash)"',
        "For every session, put that line into `~/.bashrc`, or with `zsh` into `~/.zshrc` after `compinit`; for fish, "
        "put `solar-upscale completion fish | source` into `config.fish`. Completing runs no Python. Print the script "
        "again after an update.",
    ),
}

TAIL = """
## Output, exit codes, environment

stdout carries results; stderr carries progress, warnings and errors. Progress shows only on a terminal. `-q` prints
errors, and on stdout only what was asked for as data: `--json`, or the report of `plan`, `--dry-run`, `inspect` and
`recipes`. `-v` logs each step on stderr.

`help`, `help COMMAND` and `version` work as words. A mistyped command or option, and a SOURCE that is a slip away from
a folder's name, are answered with a suggestion before any network is asked. A model on the Hub whose name is that near
to a folder's is read with `--revision main`, one whose name is near to a command's with `upscale` in front of it.

| Exit code | Meaning |
| ---: | --- |
| 0 | done |
| 1 | a problem with the input, the disk or the Hub: one line on stderr ([troubleshooting.md](troubleshooting.md)) |
| 2 | the command line is wrong |
| 130, 143 | interrupted by Ctrl-C or SIGTERM; the same command resumes |

Colour is off when stdout is not a terminal, or when `NO_COLOR` is set. For a Hub source the `HF_*` variables of
`huggingface_hub` apply.
"""


def cli_page() -> str:
    """The page, from the current parsers."""
    rows = "".join(f"| [`{name}`](#{name}) | {INTRODUCTIONS[name][0]} |\n" for name in PARSERS)
    return HEAD + rows + "".join(map(_section, PARSERS)) + TAIL


def _section(name: str) -> str:
    summary, example, introduction = INTRODUCTIONS[name]
    options = "".join(f"| {cell} | {text} |\n" for cell, text in _options(PARSERS[name]()))
    return (
        f"\n## {name}\n\n{summary}\n\n```console\n$ {example}\n```\n\n{textwrap.fill(introduction, 120)}\n\n"
        f"| Argument | Meaning |\n| --- | --- |\n{options}"
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        value = f" {metavar}" if action.nargs != 0 else ""
        words = [f"`{word}{value}`" for word in action.option_strings] or [f"`{metavar}`"]
        yield ", ".join(words), _cell(action.help or "")


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
