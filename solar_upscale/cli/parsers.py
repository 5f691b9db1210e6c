"""The argument parser of each command, with its help texts."""

import argparse
from collections.abc import Callable

from solar_upscale._version import __version__
from solar_upscale.cli.terminal import PROGRAM, terminal_width
from solar_upscale.start.init import STARTS

__all__ = ["PARSERS"]

_MAIN_HELP = """\
Change the depth of a Hugging Face checkpoint without loading the model.

  solar-upscale SOURCE OUT --layers PATTERN ...     upscale
  solar-upscale plan SOURCE [OUT] --layers ...      show what would be written
  solar-upscale inspect SOURCE                      show stacks, layers, fields
  solar-upscale verify OUT [--source SOURCE]        verify an output
  solar-upscale push OUT USER/NAME                  publish on the Hub
  solar-upscale recipes [NAME]                      list recipes, or show one
  solar-upscale completion SHELL                    print a completion script
"""

_MAIN_EXAMPLES = """\
examples:
  SOLAR 10.7B, 48 layers from 32:
    solar-upscale mistralai/Mistral-7B-v0.1 out/ \\
      --layers "range(0,24)" "range(8,32)"
  the same without shell quoting, from a folder:
    solar-upscale ./mistral out/ --layers 0:24 8:32
  each fourth layer followed by its repeat, which adds nothing (LLaMA-Pro):
    solar-upscale ./llama out/ --repeat-every 4 --init identity
  each of layers 8 to 23 twice in a row, the repeat adding nothing:
    solar-upscale ./llama out/ --init identity \\
      --layers 0:8 "[i for i in range(8,24) for _ in range(2)]" 24:
  a published recipe:
    solar-upscale out/ --config solar-10.7b
  from a Hub id to a published model, with one source shard's output on disk:
    solar-upscale mistralai/Mistral-7B-v0.1 out/ --layers 0:24 8:32 \\
      --stream --delete-local-shards --push-to-hub me/SOLAR

SOURCE is a folder or a Hub repo id. For help on a command: COMMAND --help
"""


_COMPLETION_HELP = """\
Print a script that completes commands, options and recipes.

  ~/.bashrc               eval "$(solar-upscale completion bash)"
  ~/.zshrc                eval "$(solar-upscale completion zsh)"
  fish's config.fish      solar-upscale completion fish | source
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter with a given width: argparse makes one per option, and would import shutil to find the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_width() - 2)


def _parser(
    command: str, summary: str, *, usage: str | None = None, epilog: str | None = None
) -> argparse.ArgumentParser:
    prog = PROGRAM if command == "upscale" else f"{PROGRAM} {command}"
    parser = argparse.ArgumentParser(prog, usage, summary, epilog, formatter_class=_Formatter, allow_abbrev=False)
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_true", help="print errors, and what was asked for as data; nothing else"
    )
    loudness.add_argument("-v", "--verbose", action="store_true", help="log each step on stderr")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensors", action="store_true", help="with --json: list every tensor, not just their number")
    group = parser.add_argument_group("what to write")
    group.add_argument(
        "--layers",
        metavar="PATTERN",
        help="entries of the layer pattern, up to the next option or --: 0:24 8:32, "
        '"range(0,24)" "range(8,32)", 5, -8:, "[i for i in range(n) for _ in range(2)]" (n: the source depth)',
    )
    group.add_argument(
        "--repeat-every",
        type=_positive,
        metavar="K",
        help="in place of --layers: each K-th layer is followed by its repeat, as "
        '"sorted([*range(n), *range(K-1, n, K)])" (LLaMA-Pro)',
    )
    group.add_argument("--config", metavar="RECIPE", help="a recipe file, or the name of a shipped recipe")
    group.add_argument(
        "--init",
        metavar="START",
        help="how repeated layers start: " + "; ".join(f"{start.spelling}: {start.brief}" for start in STARTS.values()),
    )
    group.add_argument("--stack", metavar="NAME", help="which stack of layers (default: the text decoder)")
    group.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        help='write shards in model order, each with at most this size of tensors: "5GB" (default: as the source)',
    )
    group.add_argument(
        "--base-model", metavar="ID", help="for the card of a local SOURCE: the model on the Hub that it comes from"
    )
    group.add_argument("--drop-mtp", action="store_true", help="drop next-token heads numbered after the last layer")
    group.add_argument(
        "--assume-uniform", action="store_true", help="accept an unknown model type whose layers look alike"
    )


def _add_source(parser: argparse.ArgumentParser, *, revision: bool = True) -> None:
    group = parser.add_argument_group("a Hub source")
    if revision:
        group.add_argument("--revision", help="branch, tag or commit")
    group.add_argument("--token", help="a Hub token (default: the one you are logged in with)")
    group.add_argument("--cache-dir", metavar="DIR", help="the download cache")
    group.add_argument("--local-files-only", action="store_true", help="use only the cache, no network")


def _upscale_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "upscale", _MAIN_HELP, epilog=_MAIN_EXAMPLES, usage="solar-upscale SOURCE OUT --layers PATTERN ..."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "paths", nargs="*", metavar="SOURCE OUT", help="a folder or Hub repo id, and the folder to write"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    _add_run(parser)
    parser.set_defaults(single_path="OUT")  # beside a recipe that names its source
    return parser


def _plan_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "plan",
        "Print what would be written, from headers and config.json alone.\n"
        "Takes all options of the command that writes, and refuses what it would refuse.",
        usage="solar-upscale plan SOURCE [OUT] --layers PATTERN ...",
    )
    parser.add_argument(
        "paths", nargs="*", metavar="SOURCE OUT", help="a folder or Hub repo id, and the folder that would be written"
    )
    _add_run(parser)
    parser.set_defaults(dry_run=True, single_path="SOURCE")
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="run passes on a Dask cluster whose workers see the same paths"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT, at the end and in one step")
    parser.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="passes to run in parallel (default: 1)"
    )
    _add_source(parser)
    parser.add_argument(
        "--stream", action="store_true", help="read a Hub source with range requests, without a copy on disk"
    )
    group = parser.add_argument_group("publishing")
    group.add_argument(
        "--push-to-hub", type=_repo_id, metavar="USER/NAME", help="publish the result to this repository"
    )
    _add_destination(group)
    group.add_argument(
        "--delete-local-shards",
        action="store_true",
        help="upload each shard as soon as it is finished, then delete it locally; OUT keeps the small files",
    )


def _add_destination(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--private", action="store_true", help="make the repository private")
    group.add_argument("--create-pr", action="store_true", help="open a pull request instead of writing to the branch")
    group.add_argument("--commit-message", metavar="TEXT", help="the first line of the commit")


def _positive(word: str) -> int:
    if not word.isdecimal() or not 0 < int(word) <= 1024:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 1024, got {word}")
    return int(word)


def _repo_id(word: str) -> str:
    if not word.strip():
        raise argparse.ArgumentTypeError("expected USER/NAME, got nothing")
    return word


def _inspect_parser() -> argparse.ArgumentParser:
    parser = _parser("inspect", "Print a checkpoint's stacks, layers, dtypes, sizes and fields tied to depth.")
    parser.add_argument("source", metavar="SOURCE", help="a folder or Hub repo id")
    _add_source(parser)
    return parser


def _verify_parser() -> argparse.ArgumentParser:
    parser = _parser("verify", "Verify an output: byte by byte with --source, otherwise as far as possible.")
    parser.add_argument(
        "output", metavar="OUT", help="a folder that solar-upscale wrote, or a model published from one"
    )
    parser.add_argument("--source", metavar="SOURCE", help="the checkpoint it was made from")
    _add_source(parser)
    return parser


def _push_parser() -> argparse.ArgumentParser:
    parser = _parser("push", "Verify an output, publish it on the Hub, and print its URL.")
    parser.add_argument("output", metavar="OUT", help="a folder that solar-upscale wrote")
    parser.add_argument(
        "repo_id", type=_repo_id, metavar="USER/NAME", help="the repository to publish to; created if it does not exist"
    )
    group = parser.add_argument_group("publishing")
    _add_destination(group)
    group.add_argument("--revision", metavar="BRANCH", help="the branch to write (default: main)")
    group.add_argument(
        "--source", metavar="SOURCE", help="the checkpoint OUT was made from, to verify every byte before uploading"
    )
    group.add_argument("--token", help="a Hub token (default: the one you are logged in with)")
    return parser


def _recipes_parser() -> argparse.ArgumentParser:
    parser = _parser("recipes", "List the shipped recipes, or show one; use one with --config NAME.")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="one recipe, or a file: its text, layer map and published model"
    )
    return parser


def _completion_parser() -> argparse.ArgumentParser:
    parser = _parser("completion", _COMPLETION_HELP)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")
    return parser


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "upscale": _upscale_parser,
    "plan": _plan_parser,
    "inspect": _inspect_parser,
    "verify": _verify_parser,
    "push": _push_parser,
    "recipes": _recipes_parser,
    "completion": _completion_parser,
}
