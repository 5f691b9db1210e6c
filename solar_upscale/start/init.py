"""``--init``: how the occurrences of a repeated layer start. A table of starts, and a value that refers to one."""

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from solar_upscale.errors import PatternError

__all__ = ["STARTS", "Init", "Start", "check_factor", "parse_init"]

_MAX_TEXT = 10_000  # characters of a start, as of an entry


class Start(NamedTuple):
    """One way to start the occurrences of a repeated layer. To add one, add an entry to STARTS.

    ``factor`` computes the factor on what an occurrence adds to the residual stream from the parameters, the occurrence
    (from 0) and the number of occurrences. ``parse`` reads the parameters from the text after "="; its second argument
    is the prefix of its error messages. A start without ``parse`` has no parameters. ``spelling`` and ``brief`` are for
    ``--help``, ``description`` is for the model card.
    """

    spelling: str
    brief: str
    description: str
    factor: Callable[[tuple[float, ...], int, int], float]
    parse: Callable[[str, str], tuple[float, ...]] | None = None


class Init(NamedTuple):
    """The chosen start: its name in STARTS and its parameters, empty for all but "scale"."""

    kind: str = "copy"
    factors: tuple[float, ...] = ()

    @property
    def spelling(self) -> str:
        """The canonical text; ``parse_init`` parses it to an equal value."""
        factors = ",".join(repr(factor).removesuffix(".0") for factor in self.factors)
        return f"{self.kind}={factors}" if factors else self.kind

    def factor(self, occurrence: int, count: int) -> float:
        """The factor on what an occurrence (from 0) of ``count`` adds to the residual stream; 1.0 changes nothing."""
        return STARTS[self.kind].factor(self.factors, occurrence, count)


def parse_init(text: str) -> Init:
    """Return the start that ``text`` names: copy, identity, split, or scale=F1,F2,... (scale=F means scale=1,F).

    Raises:
        PatternError: it names none of these, or a factor is not a finite number that float32 can hold.
    """
    where = f'--init "{text[:80]}"'
    if len(text) > _MAX_TEXT:
        raise PatternError(f"{where}: has {len(text)} characters; expected at most {_MAX_TEXT}")
    kind, equals, parameters = text.strip().partition("=")
    start = STARTS.get(kind)
    if start is None or bool(equals) != (start.parse is not None):
        *others, last = (start.spelling for start in STARTS.values())
        from solar_upscale.text import closest  # the program imports this module to make its help

        meant = None if start else closest(kind, STARTS)
        advice = f'; did you mean "{STARTS[meant].spelling}"?' if meant else ""
        raise PatternError(f"unknown {where}; choose {', '.join(others)} or {last}{advice}")
    return Init(kind, start.parse(parameters, where) if start.parse else ())


def check_factor(factor: float, where: str) -> float:
    """Return ``factor`` if it is a finite number that float32 can hold.

    Raises:
        PatternError: it is not; the message starts with ``where``.
    """
    try:
        held = struct.unpack("<f", struct.pack("<f", float(factor)))[0]
    except OverflowError:  # an int may be larger than any float
        held = math.inf
    if not math.isfinite(held) or (held == 0) != (factor == 0):
        shown = repr(factor) if isinstance(factor, float) else f"of {factor.bit_length()} bits"
        raise PatternError(f"{where}: factor {shown} cannot be used; expected a finite number that float32 can hold")
    return factor


def _parse_factors(text: str, where: str) -> tuple[float, ...]:
    """The factors F1,F2,...; a single F means 1,F."""
    factors = tuple(_parse_factor(word.strip(), where) for word in text.split(","))
    return factors if len(factors) > 1 else (1.0, *factors)


def _parse_factor(word: str, where: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word, re.ASCII):
        raise PatternError(f'{where}: "{word[:40]}" is not a number; expected factors such as scale=1,0.25')
    return check_factor(float(word), where)


STARTS: Mapping[str, Start] = {
    "copy": Start(
        "copy",
        "the source's bytes (default)",
        "Every layer, repeats included, holds its source layer's bytes.",
        lambda factors, occurrence, count: 1.0,
    ),
    "identity": Start(
        "identity",
        "repeats add nothing",
        "In each repeat the projections that write into the residual stream (or the gain of a norm after one) are "
        "zero, so that the repeat adds nothing. Everything else is copied from the source layer.",
        lambda factors, occurrence, count: 0.0 if occurrence else 1.0,
    ),
    "split": Start(
        "split",
        "each of k copies adds 1/k",
        "If a layer appears k times, each copy's projections into the residual stream (or the gain of a norm after "
        "one) are multiplied by 1/k. Everything else is copied from the source layer.",
        lambda factors, occurrence, count: 1.0 / count,
    ),
    "scale": Start(
        "scale=F1,F2,...",
        "the j-th copy adds Fj times as much",
        "The projections that write into the residual stream (or the gain of a norm after one) are multiplied by the "
        "factors in the table above. Everything else is copied from the source layer.",
        lambda factors, occurrence, count: factors[min(occurrence, len(factors) - 1)],
        _parse_factors,
    ),
}
