"""The functions of the layer index language, as a table, and the evaluation of a text."""

import ast
from collections.abc import Callable

from solar_upscale.pattern.interpreter import MAX_ITEMS, Budget, Function, Interpreter, Number, OneShot, Value
from solar_upscale.pattern.syntax import parse_parts

__all__ = ["FUNCTIONS", "evaluate"]


def evaluate(text: str, *, num_layers: int, budget: Budget, where: str) -> list[Value | slice]:
    """Return the value of each part of ``text``; commas outside brackets separate the parts, as in ``"0:24, 8:32"``.

    Raises:
        PatternError: the text is not in the language, or exceeds a limit.
    """
    budget.spend(len(text), where)
    parts = parse_parts(text, where)
    interpreter = Interpreter(text, FUNCTIONS, {"n": num_layers, "num_layers": num_layers}, budget, where)
    return [interpreter.part(node) for node in parts]


def _range(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    bounds = [run.integer(node, argument) for argument in arguments]
    if len(bounds) == 3 and bounds[2] == 0:
        raise run.error(node, "has a step of zero")
    return range(*bounds)


def _to_list(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    return list(run.items(node, arguments[0])) if arguments else []


def _to_tuple(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    return tuple(run.items(node, arguments[0])) if arguments else ()


def _sorted(run: Interpreter, node: ast.Call, arguments: list[Value], reverse: Value | None) -> Value:
    numbers = run.numbers(node, run.items(node, arguments[0], ordered=False))
    return [*sorted(numbers, reverse=reverse is not None and run.integer(node, reverse) != 0)]


def _reversed(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    if isinstance(arguments[0], OneShot):
        raise run.error(node, "reverses an iterator; use list(...) around it")
    return OneShot(run.items(node, arguments[0])[::-1])


def _sum(run: Interpreter, node: ast.Call, arguments: list[Value], option: Value | None) -> Value:
    if len(arguments) == 2 and option is not None:
        raise run.error(node, "passes the start of sum twice")
    start = arguments[1] if len(arguments) == 2 else (0 if option is None else option)
    if isinstance(start, int | float):
        items = run.items(node, arguments[0], ordered=False)
        return run.number(node, sum(run.numbers(node, items), start))
    if not isinstance(start, list | tuple):
        raise run.error(node, "has a start that is neither a number nor a list")
    joined: list[Value] = list(start)
    for item in run.items(node, arguments[0]):
        if not isinstance(item, list | tuple) or type(item) is not type(start):
            raise run.error(node, "adds values of different types")
        run.fit(node, len(joined) + len(item))
        joined.extend(run.items(node, item))
    return joined if isinstance(start, list) else tuple(joined)


def _extreme(choose: Callable[[list[Number]], Number]) -> Callable[..., Value]:
    def apply(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
        values = arguments if len(arguments) > 1 else run.items(node, arguments[0], ordered=False)
        if not values:
            raise run.error(node, "has no values to compare")
        return choose(run.numbers(node, values))

    return apply


def _abs(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    return abs(run.numbers(node, arguments)[0])


def _int(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    return int(run.numbers(node, arguments)[0])


def _round(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    return round(run.numbers(node, arguments)[0])


def _len(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    if isinstance(arguments[0], int | float | OneShot):
        raise run.error(node, "takes the length of a value that has none")
    return len(arguments[0])


def _zip(run: Interpreter, node: ast.Call, arguments: list[Value], _: Value | None) -> Value:
    columns = [run.items(node, argument) for argument in arguments]
    run.reserve(node, len(columns) * min(map(len, columns)))
    return OneShot(list(zip(*columns, strict=False)))


FUNCTIONS: dict[str, Function] = {
    "range": Function(_range, 1, 3),
    "list": Function(_to_list, 0, 1),
    "tuple": Function(_to_tuple, 0, 1),
    "sorted": Function(_sorted, 1, 1, "reverse"),
    "reversed": Function(_reversed, 1, 1),
    "sum": Function(_sum, 1, 2, "start"),
    "min": Function(_extreme(min), 1, MAX_ITEMS),
    "max": Function(_extreme(max), 1, MAX_ITEMS),
    "abs": Function(_abs, 1, 1),
    "len": Function(_len, 1, 1),
    "int": Function(_int, 1, 1),
    "round": Function(_round, 1, 1),
    "zip": Function(_zip, 1, MAX_ITEMS),
}
