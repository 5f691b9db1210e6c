"""The process: its words, its signals, its exit code, and one line for whatever goes wrong."""

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
from solar_upscale.cli.terminal import PROGRAM
from solar_upscale.errors import UpscaleError, printable

__all__ = ["run"]

# Objects made between two garbage collections: a plan holds a million live ones, and Python would visit them in vain.
GC_THRESHOLD = 200_000


def run(argv: Sequence[str] | None = None) -> int:
    """What ``solar_upscale.cli.main`` returns."""
    words = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(GC_THRESHOLD)
    logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=logging.WARNING, stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    stopped, level = signal.getsignal(signal.SIGTERM), logging.getLogger().level
    try:
        signal.signal(signal.SIGTERM, _raise_stopped)
        return _run(words)
    except UpscaleError as error:
        return _fail(str(error), 1)
    except _Stopped:
        return _fail("stopped; run the same command again to resume", 143)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to resume", 130)
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does: nothing to report, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(str(UpscaleError(f"{where}{error.strerror or error}")), 1)
    finally:
        signal.signal(signal.SIGTERM, stopped)
        logging.getLogger().setLevel(level)


class _Stopped(BaseException):
    """SIGTERM, raised where the program stands so that every context manager closes."""


def _raise_stopped(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise _Stopped


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {printable(message)}", file=sys.stderr)
    return code


def _run(words: list[str]) -> int:
    command = words.pop(0) if words and words[0] in COMMANDS else "upscale"
    words, entries = _take_layers(words)
    parser = PARSERS[command]()
    options = parser.parse_intermixed_args(words)
    if entries == []:
        parser.error('--layers: an entry is missing; for example --layers "range(0,24)" "range(8,32)"')
    options.layers = entries or []
    logging.getLogger().setLevel(logging.ERROR if getattr(options, "quiet", False) else logging.WARNING)
    COMMANDS[command](parser, options)
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
