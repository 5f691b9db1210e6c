"""The command line: parses, calls, prints. Results go to stdout, progress and logs to stderr.

Nothing heavy is imported before it is needed, so that --help answers in a blink.
"""

import argparse
import gc
import io
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from solar_upscale import __version__
from solar_upscale.errors import OutputError, UpscaleError, printable

if TYPE_CHECKING:
    from solar_upscale.execute import ShardDone
    from solar_upscale.plan import UpscalePlan
    from solar_upscale.publish import Destination
    from solar_upscale.recipe import Recipe
    from solar_upscale.source import Source

__all__ = ["main"]

PROGRAM = "solar-upscale"

# Objects made between two garbage collections: a plan holds a million live ones, and Python would visit them in vain.
GC_THRESHOLD = 200_000

_MAIN_HELP = """\
Change the depth of a Hugging Face checkpoint without loading the model.

  solar-upscale SOURCE OUT --layers PATTERN [PATTERN ...]    upscale
  solar-upscale plan SOURCE --layers ...                     what would be written, from headers alone
  solar-upscale inspect SOURCE                               stacks, layers, sizes, fields tied to depth
  solar-upscale verify OUT [--source SOURCE]                 prove an output right, byte by byte
  solar-upscale push OUT USER/NAME                           publish on the Hub
  solar-upscale recipes                                      the recipes that ship with the program
"""

_MAIN_EXAMPLES = """\
examples:
  SOLAR 10.7B, 48 layers from 32:
    solar-upscale mistralai/Mistral-7B-v0.1 out/ --layers "range(0,24)" "range(8,32)"
  the same without shell quoting, from a folder:
    solar-upscale ./mistral out/ --layers 0:24 8:32
  every layer of 8 to 23 twice in place, the second use silent (LLaMA-Pro):
    solar-upscale ./llama out/ --layers 0:8 "[i for i in range(8,24) for _ in range(2)]" 24: --init identity
  a published recipe:
    solar-upscale out/ --config solar-10.7b
  from an id to a published model, with the shards of one source shard on the disk at a time:
    solar-upscale mistralai/Mistral-7B-v0.1 out/ --layers 0:24 8:32 \\
      --stream --delete-local-shards --push-to-hub me/SOLAR

A SOURCE is a folder or a Hub repo id. `solar-upscale COMMAND --help` tells about one command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 1 a problem, 2 usage, 130 and 143 stopped."""
    words = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(GC_THRESHOLD)
    logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=logging.WARNING, stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    stopped = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, _raise_stopped)
        return _run(words)
    except UpscaleError as error:
        return _fail(str(error), 1)
    except _Stopped:
        return _fail("stopped; run the same command again to go on", 143)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to go on", 130)
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does: nothing to tell, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(str(UpscaleError(f"{where}{error.strerror or error}")), 1)
    finally:
        signal.signal(signal.SIGTERM, stopped)


class _Stopped(BaseException):
    """SIGTERM, raised where the program stands so that every context manager closes."""


def _raise_stopped(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise _Stopped


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {printable(message)}", file=sys.stderr)
    return code


def _run(words: list[str]) -> int:
    command = words.pop(0) if words and words[0] in _COMMANDS else "upscale"
    words, entries = _take_layers(words)
    parser = _PARSERS[command]()
    options = parser.parse_intermixed_args(words)
    if entries == []:
        parser.error('--layers: an entry is missing; for example --layers "range(0,24)" "range(8,32)"')
    options.layers = entries or []
    logging.getLogger().setLevel(logging.ERROR if getattr(options, "quiet", False) else logging.WARNING)
    _COMMANDS[command](parser, options)
    return 0


def _take_layers(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Take every word after --layers, up to the next option or ``--``; a word such as -8: is an entry."""
    kept: list[str] = []
    entries: list[str] | None = None
    taking = False
    for position, word in enumerate(words):
        if word == "--":
            return [*kept, *words[position:]], entries
        if word == "--layers" or word.startswith("--layers="):
            taking = word == "--layers"
            entries = [*(entries or ()), *([] if taking else [word.removeprefix("--layers=")])]
        elif word.startswith("--") or word in ("-h", "-q"):
            taking = False
            kept.append(word)
        elif taking and entries is not None:
            entries.append(word)
        else:
            kept.append(word)
    return kept, entries


# ---------------------------------------------------------------- parsers


def _parser(command: str, summary: str, **how: Any) -> argparse.ArgumentParser:
    prog = PROGRAM if command == "upscale" else f"{PROGRAM} {command}"
    parser = argparse.ArgumentParser(
        prog, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **how
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no warnings from libraries")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    return parser


def _add_job(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to write")
    group.add_argument(
        "--layers",
        metavar="PATTERN",
        help="entries of the layer pattern, every word up to the next option or --: 0:24 8:32, "
        '"range(0,24)" "range(8,32)", 5, -8:, "[i for i in range(n) for _ in range(2)]" (n: the source depth)',
    )
    group.add_argument("--config", metavar="RECIPE", help="a recipe file, or the name of a shipped recipe")
    group.add_argument(
        "--init",
        metavar="START",
        help="how repeated layers start: copy (default), identity, split, scale=F1,F2,...",
    )
    group.add_argument("--stack", metavar="NAME", help="which stack of layers (default: the text decoder)")
    group.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        help='shards in model order, at most this large: "5GB" (default: as the source)',
    )
    group.add_argument(
        "--drop-mtp", action="store_true", help="leave out next-token heads numbered after the last layer"
    )
    group.add_argument(
        "--assume-uniform", action="store_true", help="accept a model type that is not known, where its files agree"
    )


def _add_source(parser: argparse.ArgumentParser, *, revision: bool = True) -> None:
    group = parser.add_argument_group("a Hub source")
    if revision:
        group.add_argument("--revision", help="branch, tag or commit")
    group.add_argument("--token", help="a Hub token (default: the one that you logged in with)")
    group.add_argument("--cache-dir", metavar="DIR", help="where downloads are kept")
    group.add_argument("--local-files-only", action="store_true", help="only what is in the cache; no network")


def _upscale_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "upscale", _MAIN_HELP, epilog=_MAIN_EXAMPLES, usage="solar-upscale SOURCE OUT --layers PATTERN ..."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "places", nargs="*", metavar="SOURCE OUT", help="a folder or Hub repo id, and the folder to write"
    )
    _add_job(parser)
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="the scheduler of a Dask cluster whose workers see the same paths"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what OUT holds, at the end and in one step")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    parser.add_argument("--workers", type=_positive, default=1, metavar="N", help="passes side by side (default: 1)")
    _add_source(parser)
    parser.add_argument("--stream", action="store_true", help="read a Hub source by ranges; no copy of it on disk")
    group = parser.add_argument_group("publishing")
    group.add_argument("--push-to-hub", type=_repo_id, metavar="USER/NAME", help="publish the result as this model")
    _add_destination(group)
    group.add_argument(
        "--delete-local-shards",
        action="store_true",
        help="send each shard as soon as it is finished, and delete it here; OUT keeps the small files",
    )
    return parser


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


def _plan_parser() -> argparse.ArgumentParser:
    parser = _parser("plan", "Print what would be written, from headers and config.json alone.")
    parser.add_argument("places", nargs="*", metavar="SOURCE", help="a folder or Hub repo id")
    _add_job(parser)
    _add_source(parser)
    return parser


def _inspect_parser() -> argparse.ArgumentParser:
    parser = _parser("inspect", "Print a checkpoint's stacks, layers, dtypes, sizes and config fields tied to depth.")
    parser.add_argument("source", metavar="SOURCE", help="a folder or Hub repo id")
    _add_source(parser)
    return parser


def _verify_parser() -> argparse.ArgumentParser:
    parser = _parser("verify", "Prove an output right, byte by byte; without --source, all that it alone can prove.")
    parser.add_argument(
        "output", metavar="OUT", help="a folder that solar-upscale wrote, or a model published from one"
    )
    parser.add_argument("--source", metavar="SOURCE", help="what it was made from")
    _add_source(parser)
    return parser


def _push_parser() -> argparse.ArgumentParser:
    parser = _parser("push", "Verify an output and publish it on the Hub; prints its page.")
    parser.add_argument("output", metavar="OUT", help="a folder that solar-upscale wrote")
    parser.add_argument(
        "repo_id", type=_repo_id, metavar="USER/NAME", help="the model to publish it as; made if there is none"
    )
    group = parser.add_argument_group("publishing")
    _add_destination(group)
    group.add_argument("--revision", metavar="BRANCH", help="the branch to write (default: main)")
    group.add_argument(
        "--source", metavar="SOURCE", help="what OUT was made from, to prove each byte before it is sent"
    )
    group.add_argument("--token", help="a Hub token (default: the one that you logged in with)")
    return parser


def _recipes_parser() -> argparse.ArgumentParser:
    return _parser("recipes", "List the recipes that ship with the program; use one with --config NAME.")


# ---------------------------------------------------------------- commands


def _upscale(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    from solar_upscale.execute import bytes_by_way
    from solar_upscale.report import plan_report, written_report
    from solar_upscale.upscale import plan_checkpoint

    _check_publishing(parser, options)
    recipe = _recipe(options)
    source_text, output = _source_and_output(parser, options, recipe)
    job = _job(parser, options, recipe)
    source = _open(source_text, options, headers_only=options.dry_run, stream=options.stream)
    plan = plan_checkpoint(source, **job)
    if options.dry_run:
        _print_report(options, plan.to_json, lambda: plan_report(plan, **_terminal()))
        return
    assert output is not None, "the parser asked for it"
    with _progress(plan.total_size, options) as on_bytes, _executor(options) as executor:
        heard = _after_warnings(plan.warnings, on_bytes)
        how = {"overwrite": options.overwrite, "executor": executor, "on_bytes": heard}
        url, done = _write(plan, source, output, options, how)
    moved = bytes_by_way(done)
    _print_report(
        options,
        lambda: {"output": str(output), **plan.to_json(), "moved": moved, **({"url": url} if url else {})},
        lambda: written_report(plan, _where(output, options), moved, **_terminal()) + (url or ""),
    )


def _write(
    plan: "UpscalePlan", source: "Source", output: Path, options: argparse.Namespace, how: dict[str, Any]
) -> "tuple[str | None, tuple[ShardDone, ...]]":
    """Write OUT and, if asked to, publish it; the page where it can be seen, and how each shard came to be."""
    if options.push_to_hub is None:
        from solar_upscale.upscale import write_plan

        return None, write_plan(plan, source, output, **how)
    from solar_upscale.publish import upscale_and_push

    to = _destination(options.push_to_hub, options, revision=None)
    pushed = upscale_and_push(plan, source, output, to, delete_local_shards=options.delete_local_shards, **how)
    return pushed.url, pushed.done


def _where(output: Path, options: argparse.Namespace) -> str:
    return f"{output} (all but the shards, which are on the Hub)" if options.delete_local_shards else str(output)


def _check_publishing(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Options that only make sense together."""
    given = {
        "--private": options.private,
        "--create-pr": options.create_pr,
        "--commit-message": options.commit_message,
        "--delete-local-shards": options.delete_local_shards,
    }
    lone = [name for name, value in given.items() if value]
    if lone and options.push_to_hub is None:
        parser.error(f"{lone[0]} belongs to --push-to-hub USER/NAME")
    if options.delete_local_shards and options.workers > 1:
        parser.error("--delete-local-shards holds the shards of one pass at a time; leave --workers out")
    if options.delete_local_shards and options.max_shard_size is not None:
        parser.error("--delete-local-shards needs shards that mirror the source's; leave --max-shard-size out")


def _destination(repo_id: str, options: argparse.Namespace, *, revision: str | None) -> "Destination":
    from solar_upscale.publish import Destination

    _settle_hub(options)
    return Destination(repo_id, options.token, options.private, revision, options.create_pr, options.commit_message)


def _settle_hub(options: argparse.Namespace) -> None:
    """The client's progress shows where ours does, and what it logs comes once, by way of our handler."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # documented there
    from huggingface_hub.utils.logging import get_logger

    if not _shows_progress(options) and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    client = get_logger()
    client.handlers.clear()
    if options.quiet:
        client.setLevel(logging.ERROR)


def _plan(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    from solar_upscale.report import plan_report
    from solar_upscale.upscale import plan_checkpoint

    recipe = _recipe(options)
    if len(options.places) > 1:
        parser.error(f"one SOURCE expected, got {len(options.places)} words: {' '.join(options.places)}")
    if not options.places and not (recipe and recipe.source):
        parser.error(_missing("SOURCE", options.layers))
    source_text = options.places[0] if options.places else _source_of(recipe, options)
    job = _job(parser, options, recipe)
    plan = plan_checkpoint(_open(source_text, options, headers_only=True), **job)
    _print_report(options, plan.to_json, lambda: plan_report(plan, **_terminal()))


def _inspect(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from solar_upscale.checkpoint import open_checkpoint
    from solar_upscale.inspection import inspect_checkpoint, inspect_report

    found = inspect_checkpoint(open_checkpoint(_open(options.source, options, headers_only=True)))
    _print_report(options, lambda: found, lambda: inspect_report(found))


def _verify(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from dataclasses import asdict

    from solar_upscale.verify import verify_checkpoint, verify_report

    how = _hub_options(options)
    with _progress(None, options) as on_bytes:
        report = verify_checkpoint(options.output, options.source, on_bytes=on_bytes, **how)
    _print_report(options, lambda: asdict(report), lambda: verify_report(report))


def _push(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from dataclasses import asdict

    from solar_upscale.publish import push_checkpoint
    from solar_upscale.verify import verify_report

    to = _destination(options.repo_id, options, revision=options.revision)
    with _progress(None, options) as on_bytes:
        url, report = push_checkpoint(
            Path(options.output), to, source=options.source, on_bytes=on_bytes, token=options.token
        )
    _print_report(options, lambda: {"url": url, "verified": asdict(report)}, lambda: f"{verify_report(report)}{url}")


def _recipes(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from solar_upscale.recipe import shipped_recipes
    from solar_upscale.report import recipes_json, recipes_report

    recipes = shipped_recipes()
    _print_report(options, lambda: recipes_json(recipes), lambda: recipes_report(recipes))


_COMMANDS: dict[str, Callable[[argparse.ArgumentParser, argparse.Namespace], None]] = {
    "upscale": _upscale,
    "plan": _plan,
    "inspect": _inspect,
    "verify": _verify,
    "push": _push,
    "recipes": _recipes,
}

_PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "upscale": _upscale_parser,
    "plan": _plan_parser,
    "inspect": _inspect_parser,
    "verify": _verify_parser,
    "push": _push_parser,
    "recipes": _recipes_parser,
}


# ---------------------------------------------------------------- from words to values


def _recipe(options: argparse.Namespace) -> "Recipe | None":
    if options.config is None:
        return None
    from solar_upscale.recipe import load_recipe

    return load_recipe(options.config)


def _source_and_output(
    parser: argparse.ArgumentParser, options: argparse.Namespace, recipe: "Recipe | None"
) -> tuple[str, Path | None]:
    """SOURCE and OUT; a recipe that names its source needs none on the command line."""
    places = options.places
    if not all(places):
        parser.error("a word is empty; expected SOURCE and OUT")
    if len(places) > 2:
        parser.error(f"SOURCE and OUT expected, got {len(places)} words: {' '.join(places)}")
    if len(places) == 2:
        return places[0], Path(places[1])
    named = recipe is not None and recipe.source is not None
    if named and (places or options.dry_run):
        return _source_of(recipe, options), Path(places[0]) if places else None
    if options.dry_run and places:
        return places[0], None
    return parser.error(_missing("OUT" if places or named else "SOURCE and OUT", options.layers))


def _source_of(recipe: "Recipe | None", options: argparse.Namespace) -> str:
    """The recipe's source; its revision belongs to it, and is not asked of any other source."""
    assert recipe is not None, "the caller has seen that it names a source"
    assert recipe.source is not None, "as above"
    options.revision = options.revision or recipe.revision
    return recipe.source


def _missing(what: str, entries: Sequence[str]) -> str:
    if len(entries) > 1:
        return f"{what} missing; --layers takes every word after it, so put SOURCE OUT first, or -- before them"
    return f"{what} missing; see {PROGRAM} --help"


def _no_layers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.layers:
        parser.error("--layers does not belong to this command")


def _job(parser: argparse.ArgumentParser, options: argparse.Namespace, recipe: "Recipe | None") -> dict[str, Any]:
    """The keyword arguments of ``plan_checkpoint``; what the command line says wins over the recipe."""
    from solar_upscale.upscale import recipe_options

    if not options.layers and recipe is None:
        parser.error('--layers is missing; for example --layers "range(0,24)" "range(8,32)"')
    job = recipe_options(recipe) if recipe else {}
    if options.layers:
        job |= {"layers": options.layers, "entry_scales": None, "scale_filters": ()}
    named = {"init": options.init, "stack": options.stack, "max_shard_size": options.max_shard_size}
    job |= {name: value for name, value in named.items() if value is not None}
    return {**job, "drop_mtp": options.drop_mtp, "assume_uniform": options.assume_uniform}


def _hub_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "revision": options.revision,
        "token": options.token,
        "cache_dir": options.cache_dir,
        "local_files_only": options.local_files_only,
    }


def _open(text: str, options: argparse.Namespace, *, headers_only: bool, stream: bool = False) -> "Source":
    from solar_upscale.hub_source import open_source

    if not Path(text).is_dir():
        _settle_hub(options)
    return open_source(text, headers_only=headers_only, stream=stream, **_hub_options(options))


# ---------------------------------------------------------------- the terminal


def _print_report(options: argparse.Namespace, value: Callable[[], Any], text: Callable[[], str]) -> None:
    print(json.dumps(value(), indent=2) if options.json else text().rstrip("\n"), flush=True)


def _terminal() -> dict[str, Any]:
    """Width and colour of stdout."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    return {"width": max(40, min(width, 120)), "colour": colour, "encoding": sys.stdout.encoding}


@contextmanager
def _progress(total: int | None, options: argparse.Namespace) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes on stderr, when that is a terminal and nobody asked for quiet."""
    if not _shows_progress(options):
        yield lambda nbytes: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:
        yield lambda nbytes: _advance(bar, nbytes)


def _after_warnings(warnings: Sequence[str], on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    """Tell of warnings when the first byte is written: a job that is refused is told in one line."""
    waiting = list(warnings)

    def heard(nbytes: int) -> None:
        while waiting:
            logging.getLogger(PROGRAM).warning("warning: %s", printable(waiting.pop(0)))
        on_bytes(nbytes)

    return heard


def _shows_progress(options: argparse.Namespace) -> bool:
    return not options.quiet and sys.stderr.isatty()


def _advance(bar: Any, nbytes: int) -> None:
    bar.update(nbytes)


@contextmanager
def _executor(options: argparse.Namespace) -> Iterator[Any]:
    """What runs the passes: a cluster, threads, or, as None, this thread."""
    if options.dask:
        with _cluster(options.dask) as executor:
            yield executor
    elif options.workers > 1:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(options.workers) as executor:
            yield executor
    else:
        yield None


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """A Dask cluster as an executor. A worker that dies is replaced; only one that dies again and again is told."""
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise OutputError("--dask: Dask is not installed; run: pip install 'solar-upscale[dask]'") from error
    try:
        with Client(address) as client:
            yield client.get_executor()
    except KilledWorker as error:
        raise OutputError(f"--dask {address}: its workers died; run the same command again to go on") from error


if __name__ == "__main__":
    sys.exit(main())
