"""Parses a text of the layer index language to a syntax tree. Nothing is evaluated here.

The parser is Python's own, but its input is scanned first for foreign characters, words and deep nesting, so that no
text can overflow its stack or make it warn.
"""

import ast
import keyword
import re

from solar_upscale.errors import PatternError
from solar_upscale.text import shortened

__all__ = ["MAX_CHARS", "MAX_NUMBER", "parse_parts"]

MAX_CHARS = 10_000
MAX_NUMBER = 10**9
_MAX_DIGITS = 20
_MAX_DEPTH = 100
_MAX_BRACKETS = 20


def parse_parts(text: str, where: str) -> list[ast.expr]:
    """Return the syntax trees of the parts of ``text``. A column in them is 2 more than in ``text``."""
    if len(text) > MAX_CHARS:
        raise PatternError(f"{where}: has {len(text):,} characters; at most {MAX_CHARS:,} are allowed")
    _scan(text, where)
    try:
        # Inside the brackets of an index, 0:24 and commas are valid syntax.
        tree = ast.parse(f"_[{text}\n]", mode="eval").body
    except SyntaxError as error:
        near = (text.splitlines() or [""])[0][max((error.offset or 0) - 3, 0) :] if error.lineno == 1 else ""
        beside = f' near "{shortened(near)}"' if near.strip() else ""
        raise PatternError(f"{where}: is not a valid expression{beside}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError):
        raise PatternError(f"{where}: is not an expression that Python can read") from None
    assert isinstance(tree, ast.Subscript)
    return tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]


_TOKEN = re.compile(
    r"(?P<space>\s+|\#[^\r\n]*)|(?P<number>\.?[0-9][\w.]*)|(?P<name>[A-Za-z_]\w*)|(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<separator>,|:(?!=))|(?P<operator>[-+*/%~&|^<>=!.:])",
    re.ASCII,
)
_LITERAL = re.compile(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9][0-9_]*|[0-9]*\.[0-9]*")
_KEYWORDS = frozenset({"and", "or", "not", "if", "else", "for", "in", "is"})
_CONSTANTS = frozenset({"True", "False", "None"})
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def _scan(text: str, where: str) -> None:
    """Refuse foreign characters and words, unbalanced brackets and deep nesting, before Python parses the text."""
    if not text.strip():
        raise PatternError(f'{where}: is empty; write a layer or a range, such as "0:24"')
    position = 0
    opened: list[str] = []
    # An upper bound of the tree's depth: operators and brackets of each open level since its last separator.
    levels = [0]
    depth = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise PatternError(f"{where}: {_foreign(text[position])}")
        position = token.end()
        kind, word = token.lastgroup, token.group()
        if kind == "number":
            _check_literal(word, where)
        elif kind == "close":
            if not opened or _CLOSING[opened.pop()] != word:
                raise PatternError(f'{where}: "{word}" closes no bracket before it')
            depth -= levels.pop()
        elif kind == "separator":
            depth -= levels[-1]
            levels[-1] = 0
        elif kind in ("open", "operator") or (kind == "name" and _is_keyword(word, where)):
            depth += 1
            levels[-1] += 1
            if kind == "open":
                opened.append(word)
                levels.append(0)
            if depth > _MAX_DEPTH or len(opened) > _MAX_BRACKETS:
                raise PatternError(f"{where}: is nested too deeply; write it as several entries")
    if opened:
        # Without quotes, a YAML list splits range(0,24) at its comma.
        advice = "" if "," in text else '; in a YAML list "range(0,24)" needs its quotes'
        raise PatternError(f'{where}: "{opened[-1]}" is never closed{advice}')


def _foreign(char: str) -> str:
    if char in "\"'`":
        return f'{char} is not part of the language; pass each entry as its own argument: "range(0,24)" "range(8,32)"'
    if char == ";":
        return '";" is not part of the language; use a comma between ranges: "0:24, 8:32"'
    return f"{char} (U+{ord(char):04X}) is not part of the language"


def _check_literal(word: str, where: str) -> None:
    if _LITERAL.fullmatch(word) is None:
        raise PatternError(f'{where}: "{shortened(word)}" is not a whole number')
    if len(word) > _MAX_DIGITS:
        raise PatternError(f'{where}: "{shortened(word)}" is too large; numbers go up to {MAX_NUMBER:,}')


def _is_keyword(word: str, where: str) -> bool:
    if word.startswith("__") or (keyword.iskeyword(word) and word not in _KEYWORDS | _CONSTANTS):
        raise PatternError(f'{where}: "{shortened(word)}" is not part of the language')
    return word in _KEYWORDS
