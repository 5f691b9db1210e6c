"""The message texts in the package's source: string literals, joined, with … for values."""

import ast
from pathlib import Path

from tests.support.processes import ROOT

__all__ = ["refusals", "sentences"]

_ERRORS = {"PatternError", "CheckpointError", "UnsupportedError", "OutputError", "HubError"}


def sentences() -> list[str]:
    """Every string of the package's source."""
    return [text for tree in _trees() for node in ast.walk(tree) if (text := _text(node)) is not None]


def refusals() -> list[str]:
    """Every message that is a literal in the call that creates its error."""
    calls = (node for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in _ERRORS and call.args)
    return [text for call in named if (text := _text(call.args[0])) is not None]


def _trees() -> list[ast.Module]:
    return [ast.parse(path.read_text("utf-8")) for path in sorted(Path(ROOT, "solar_upscale").rglob("*.py"))]


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None
