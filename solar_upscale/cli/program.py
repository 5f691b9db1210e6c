"""The process: its arguments, signals and exit code, and one line for any error."""

import argparse
import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from solar_upscale.cli.commands import COMMANDS
from solar_upscale.cli.parsers import PARSERS
from solar_upscale.cli.suggest import refuse_mistyped_command, refuse_unknown_options, with_help_and_version
from solar_upscale.cli.terminal import PROGRAM
from solar_upscale.errors import UpscaleError, printable

__all__ = ["run"]

# Allocations between garbage collections: a plan has a million live objects, and traversing them frees nothing.
GC_THRESHOLD = 200_000

_INTERRUPTED = "interrupted; run the same command again to resume"


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code of ``solar_upscale.cli.main``."""
    args = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(GC_THRESHOLD)
    logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=logging.WARNING, stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # print names that the terminal cannot show
    previous_handler, previous_level = signal.getsignal(signal.SIGTERM), logging.getLogger().level
    try:
        signal.signal(signal.SIGTERM, _raise_terminated)
        return _run(args)
    except UpscaleError as error:
        return _fail(str(error), 1)
    except _Terminated:
        return _fail(_INTERRUPTED, 143)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, 130)
    except BrokenPipeError:
        # The reader of stdout closed it, as `| head` does: nothing to report, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(str(UpscaleError(f"{where}{error.strerror or error}")), 1)
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        logging.getLogger().setLevel(previous_level)


class _Terminated(BaseException):
    """SIGTERM as an exception, so that every context manager exits."""


def _raise_terminated(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {printable(message)}", file=sys.stderr)
    return code


def _run(args: list[str]) -> int:
    args = with_help_and_version(args, [*COMMANDS])
    is_named = bool(args) and args[0] in COMMANDS
    command = args.pop(0) if is_named else "upscale"
    parser = PARSERS[command]()
    if args and not is_named:
        refuse_mistyped_command(parser, args[0], [*COMMANDS])
    args, entries = _split_layers(args)
    refuse_unknown_options(parser, args, PARSERS)
    options = parser.parse_intermixed_args(args)
    if not is_named and options.paths:
        refuse_mistyped_command(parser, options.paths[0], [*COMMANDS])
    if entries == []:
        parser.error('--layers: expected at least one entry; for example --layers "range(0,24)" "range(8,32)"')
    options.layers = entries or []
    _set_log_level(options)
    COMMANDS[command](parser, options)
    return 0


def _set_log_level(options: argparse.Namespace) -> None:
    """Warnings by default; with -q errors alone, with -v what this program and the Hub's client do."""
    logging.getLogger().setLevel(logging.ERROR if options.quiet else logging.WARNING)
    logging.getLogger("solar_upscale").setLevel(logging.INFO if options.verbose else logging.NOTSET)


def _split_layers(args: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Split off every argument after --layers, up to the next option or ``--``; one such as -8: is an entry."""
    others: list[str] = []
    entries: list[str] | None = None
    in_layers = False
    for position, arg in enumerate(args):
        if arg == "--":
            return [*others, *args[position:]], entries
        if arg == "--layers" or arg.startswith("--layers="):
            in_layers = arg == "--layers"
            entries = [*(entries or ()), *([] if in_layers else [arg.removeprefix("--layers=")])]
        elif arg.startswith("--") or arg in ("-h", "-q", "-v"):
            in_layers = False
            others.append(arg)
        elif in_layers and entries is not None:
            entries.append(arg)
        else:
            others.append(arg)
    return others, entries
