"""Terminal output: reports on stdout, progress and warnings on stderr, in a form that the terminal can show."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from solar_upscale.errors import printable

__all__ = [
    "PROGRAM",
    "configure_hub_client",
    "print_report",
    "print_result",
    "print_unless_quiet",
    "print_warnings",
    "progress",
    "terminal_look",
    "terminal_width",
]

PROGRAM = "solar-upscale"


def print_report(options: argparse.Namespace, value: Callable[[], Any], text: Callable[[], str]) -> None:
    """Print a report on stdout: as text, or as JSON with --json."""
    if options.json:
        from solar_upscale.strict_json import json_pieces

        for piece in json_pieces(value()):
            print(piece, end="")
        print(flush=True)
    else:
        print(text().rstrip("\n"), flush=True)


def print_result(options: argparse.Namespace, value: Callable[[], Any], text: Callable[[], str]) -> None:
    """Print what was done: as ``print_report``, but with -q only where JSON was asked for."""
    if options.json or not options.quiet:
        print_report(options, value, text)


def print_unless_quiet(options: argparse.Namespace, text: Callable[[], str]) -> None:
    """Print what is about to be done, unless JSON or quiet was asked for."""
    if not options.json and not options.quiet:
        print(text().rstrip("\n"), flush=True)


def terminal_look() -> dict[str, Any]:
    """Width, colour and encoding of stdout."""
    if sys.stdout is None:  # closed by the parent process
        return {"width": 80, "colour": False, "encoding": "utf-8"}
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = terminal_width() if sys.stdout.isatty() else 80
    return {"width": max(40, min(width, 120)), "colour": colour, "encoding": sys.stdout.encoding}


def terminal_width() -> int:
    """The columns of the terminal, as in ``shutil.get_terminal_size``; shutil takes too long to import."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]  # caught below
    except (AttributeError, ValueError, OSError):  # closed, or not a terminal
        return 80


@contextmanager
def progress(total: int | None, options: argparse.Namespace) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes on stderr, if that is a terminal and --quiet is not given."""
    if not _shows_progress(options):
        yield lambda nbytes: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:
        yield lambda nbytes: _advance(bar, nbytes)


def print_warnings(warnings: Sequence[str]) -> None:
    """Log warnings, one line each."""
    for warning in warnings:
        logging.getLogger(PROGRAM).warning("warning: %s", printable(warning))


def configure_hub_client(options: argparse.Namespace) -> None:
    """Show the client's progress bars only where ours are shown, and its log messages once, through our handler."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # documented there
    from huggingface_hub.utils.logging import get_logger

    if not _shows_progress(options) and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    client = get_logger()
    client.handlers.clear()
    if options.quiet or options.verbose:
        client.setLevel(logging.ERROR if options.quiet else logging.INFO)


def _shows_progress(options: argparse.Namespace) -> bool:
    return not options.quiet and sys.stderr is not None and sys.stderr.isatty()


def _advance(bar: Any, nbytes: int) -> None:
    bar.update(nbytes)
