"""The shape of the package: few rooms, imports that go downward, functions that take few parameters."""

import ast
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from tests.support.processes import ROOT

PACKAGE = ROOT / "solar_upscale"
MAX_PARAMETERS, MAX_ROOMS = 8, 17

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function, bool]]:
    """Every function of the package: where it is defined, its definition, and whether its module publishes it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = published(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                yield where, node, node in tree.body and node.name in public


def published(tree: ast.Module) -> list[str]:
    """The names in a module's ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def parameters(function: Function) -> list[ast.arg]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    variadic = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [each for each in named if each.arg not in ("self", "cls")] + variadic


def layers() -> list[list[str]]:
    """The floors of the import contract, from the top down."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (contract,) = settings["importlinter"]["contracts"]
    assert contract["type"] == "layers"
    assert contract["exhaustive"]
    return [[room.strip() for room in layer.replace(":", "|").split("|")] for layer in contract["layers"]]


def test_function_outside_all_takes_at_most_eight_parameters() -> None:
    found = {where: len(parameters(function)) for where, function, public in functions() if not public}
    assert len(found) > 500
    assert {where: count for where, count in found.items() if count > MAX_PARAMETERS} == {}


def test_no_function_takes_keywords_of_any_type() -> None:
    untyped = [
        where
        for where, function, _ in functions()
        if (keywords := function.args.kwarg) is not None
        and (keywords.annotation is None or ast.unparse(keywords.annotation) in ("Any", "object"))
    ]
    assert untyped == []


def test_top_level_shows_at_most_seventeen_rooms() -> None:
    helpers = {room for layer in layers()[-2:] for room in layer}
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    rooms = {name for name in names if not (name.startswith("__") and name.endswith("__"))} - helpers
    assert 5 < len(rooms) <= MAX_ROOMS, sorted(rooms)


def test_import_contract_names_every_room_once() -> None:
    named = [room for layer in layers() for room in layer]
    assert len(named) == len(set(named))
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(named) == names - {"__init__"}


def test_no_test_module_imports_another() -> None:
    imports = {
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"\btest_\w+ ?(import|$)", ast.unparse(node))
    }
    assert imports == set()
