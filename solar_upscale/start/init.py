"""``--init``: what the user says about how the occurrences of a repeated layer start, as a value."""

import math
import re
import struct
from typing import NamedTuple

from solar_upscale.errors import PatternError

__all__ = ["COPY", "Init", "check_factor", "parse_init"]

_MAX_TEXT = 10_000  # characters of a start, as of an entry


class Init(NamedTuple):
    """How the occurrences of a repeated layer start. ``factors`` is empty save for the kind "scale"."""

    kind: str = "copy"
    factors: tuple[float, ...] = ()

    @property
    def spelling(self) -> str:
        """The canonical text; ``parse_init`` reads it back to an equal value."""
        factors = ",".join(repr(factor).removesuffix(".0") for factor in self.factors)
        return f"{self.kind}={factors}" if factors else self.kind

    def factor(self, occurrence: int, count: int) -> float:
        """The factor on what an occurrence (from 0) of ``count`` adds to the residual stream; 1.0 leaves it as is."""
        if self.kind == "identity":
            return 1.0 if occurrence == 0 else 0.0
        if self.kind == "split":
            return 1.0 / count
        if self.kind == "scale":
            return self.factors[min(occurrence, len(self.factors) - 1)]
        return 1.0


COPY = Init()


def parse_init(text: str) -> Init:
    """Return the start that ``text`` names: copy, identity, split, or scale=F1,F2,... (scale=F means scale=1,F).

    Raises:
        PatternError: it names none of these, or a factor is not a finite number that float32 holds.
    """
    where = f'--init "{text[:80]}"'
    if len(text) > _MAX_TEXT:
        raise PatternError(f"{where}: has {len(text)} characters; expected at most {_MAX_TEXT}")
    kind, equals, numbers = text.strip().partition("=")
    if kind in ("copy", "identity", "split") and not equals:
        return Init(kind)
    if kind != "scale" or not equals:
        raise PatternError(f"{where}: is not a start; expected copy, identity, split or scale=F1,F2,...")
    factors = tuple(_parse_factor(word.strip(), where) for word in numbers.split(","))
    return Init("scale", factors if len(factors) > 1 else (1.0, *factors))


def _parse_factor(word: str, where: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word, re.ASCII):
        raise PatternError(f'{where}: "{word[:40]}" is not a number; expected factors such as scale=1,0.25')
    return check_factor(float(word), where)


def check_factor(factor: float, where: str) -> float:
    """Return ``factor`` if it is a finite number that float32 holds.

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
