"""Evaluates a syntax tree by allowlist, charging every step to a budget before it is done.

An accepted tree evaluates to what Python would compute for it. Functions are in functions.py, and values are turned
into layers in entries.py.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from solar_upscale.errors import PatternError
from solar_upscale.pattern.syntax import MAX_NUMBER
from solar_upscale.text import shortened

__all__ = ["MAX_ITEMS", "Budget", "Function", "Interpreter", "Number", "OneShot", "Value"]

MAX_ITEMS = 10_000
MAX_STEPS = 200_000
_MAX_EXPONENT = 64


@dataclass(slots=True)
class Budget:
    """The evaluation steps left to all entries of a pattern together."""

    left: int = MAX_STEPS

    def spend(self, steps: int, where: str) -> None:
        """Charge ``steps`` before they are taken; PatternError if fewer are left."""
        if steps > self.left:
            raise PatternError(f"{where}: takes more than {MAX_STEPS:,} steps to evaluate; write it more simply")
        self.left -= steps


@dataclass(frozen=True, slots=True)
class OneShot:
    """The iterator of ``zip``, ``reversed`` or a generator. Python can consume it only once, so it is never stored."""

    items: Sequence["Value"]


Number: TypeAlias = int | float
Value: TypeAlias = Number | list["Value"] | tuple["Value", ...] | range | set[Number] | OneShot


class Function(NamedTuple):
    """A function of the language: its implementation, its number of arguments, and its one keyword, if any."""

    apply: "Callable[[Interpreter, ast.Call, list[Value], Value | None], Value]"
    fewest: int
    most: int
    option: str | None = None

    @property
    def arity(self) -> str:
        """The number of arguments, in words."""
        if self.most == MAX_ITEMS:
            return f"{self.fewest} or more"
        return str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"


_ARITHMETIC: dict[type[ast.operator], Callable[..., Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_SETS: dict[type[ast.operator], Callable[[set[Number], set[Number]], set[Number]]] = {
    ast.Sub: operator.sub,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Number, Number], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_UNARY: dict[type[ast.unaryop], Callable[..., Number]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}


class Interpreter:
    """Evaluates the tree of one text. Every step is charged, and every length checked, before the work is done."""

    def __init__(
        self, text: str, functions: Mapping[str, "Function"], names: dict[str, int], budget: Budget, where: str
    ) -> None:
        self._source = f"_[{text}\n]"
        self._text = text
        self._functions = functions
        self._scope: dict[str, Value] = dict(names)
        self._budget = budget
        self._where = where

    def part(self, node: ast.expr) -> Value | slice:
        """The value of one part of the text; only here is a slice a range of layers."""
        if isinstance(node, ast.Slice):
            return self._slice(node)
        if isinstance(node, ast.Starred):
            return list(self.items(node.value, self._value(node.value)))
        return self._value(node)

    def error(self, node: ast.AST, problem: str) -> PatternError:
        """The error for ``problem``, which quotes the node's text unless that is the whole text."""
        segment = ast.get_source_segment(self._source, node) or ""
        quoted = "" if segment == self._text.strip() else f'"{shortened(segment)}" '
        return PatternError(f"{self._where}: {quoted}{problem}")

    def fit(self, node: ast.AST, length: int) -> None:
        """Refuse a sequence of more than MAX_ITEMS items."""
        if length > MAX_ITEMS:
            raise self.error(node, f"has {length:,} items; at most {MAX_ITEMS:,} are allowed")

    def reserve(self, node: ast.AST, length: int) -> None:
        """Charge for a sequence of ``length`` items before it is built or iterated."""
        self.fit(node, length)
        self._budget.spend(length, self._where)

    def items(self, node: ast.AST, value: Value, *, ordered: bool = True) -> Sequence[Value]:
        """The items of ``value``, charged for one iteration. A set is refused where its order would matter."""
        if isinstance(value, OneShot):
            value = list(value.items)
        if isinstance(value, set) and ordered:
            raise self.error(node, "is a set, which has no order; use sorted(...) to give it one")
        if isinstance(value, int | float):
            raise self.error(node, f"is the number {value}, not a sequence; expected a range or a list")
        self.reserve(node, len(value))
        return value if isinstance(value, list | tuple | range) else list(value)

    def numbers(self, node: ast.AST, values: Sequence[Value]) -> list[Number]:
        """Return ``values``, all of which must be numbers."""
        found = [value for value in values if isinstance(value, int | float)]
        if len(found) != len(values):
            raise self.error(node, "holds something that is not a number")
        return found

    def number(self, node: ast.AST, value: object) -> Number:
        """Return ``value``, the result of an operation, which must be a number within the limit."""
        if not isinstance(value, int | float):
            raise self.error(node, "is not a real number")
        if not abs(value) <= MAX_NUMBER:  # not ">", which is false for nan
            raise self.error(node, f"is too large; numbers go up to {MAX_NUMBER:,}")
        return value

    def integer(self, node: ast.AST, value: Value) -> int:
        """Return ``value``, which must be an integer."""
        if isinstance(value, float):
            raise self.error(node, f"is {value}, not a whole number; use // to divide, or int(...)")
        if not isinstance(value, int):
            raise self.error(node, "is a sequence where a whole number is needed")
        return value

    def _value(self, node: ast.expr) -> Value:
        self._budget.spend(1, self._where)
        handler = _NODES.get(type(node))
        if handler is None:
            raise self.error(node, f"{_UNSUPPORTED.get(type(node), 'is')} not part of the language")
        return handler(self, node)

    def _slice(self, node: ast.Slice) -> slice:
        bounds = (node.lower, node.upper, node.step)
        start, stop, step = (None if bound is None else self.integer(bound, self._value(bound)) for bound in bounds)
        if step == 0:
            raise self.error(node, "has a step of zero")
        return slice(start, stop, step)

    def _truth(self, node: ast.expr) -> bool:
        value = self._value(node)
        if isinstance(value, OneShot):
            raise self.error(node, "is an iterator, which is neither true nor false; use list(...) around it")
        return bool(value)

    def _constant(self, node: ast.Constant) -> Value:
        if not isinstance(node.value, int | float):
            raise self.error(node, "is not a number")
        return self.number(node, node.value)

    def _name(self, node: ast.Name) -> Value:
        if node.id in self._scope:
            return self._scope[node.id]
        if node.id in self._functions:
            raise self.error(node, f"is a function; write {node.id}(...)")
        raise self._unknown_name(node, node.id)

    def _unknown_name(self, node: ast.AST, name: str) -> PatternError:
        import difflib

        known = [*self._scope, *self._functions]
        close = difflib.get_close_matches(name[:40].lower(), known, n=1)
        advice = f'did you mean "{close[0]}"?' if close else "n and num_layers are the number of source layers"
        if name == "set":
            advice = "write {*...} for a set"
        return self.error(node, f"is not a name of the language; {advice}")

    def _elements(self, nodes: Sequence[ast.expr]) -> list[Value]:
        values: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values.extend(self.items(node.value, self._value(node.value)))
                self.fit(node, len(values))
            else:
                values.append(self._value(node))
        return values

    def _list(self, node: ast.List) -> Value:
        return self._elements(node.elts)

    def _tuple(self, node: ast.Tuple) -> Value:
        return tuple(self._elements(node.elts))

    def _set(self, node: ast.Set) -> Value:
        return set(self.numbers(node, self._elements(node.elts)))

    def _unary(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            return not self._truth(node.operand)
        value = self._value(node.operand)
        if isinstance(value, int) or (isinstance(value, float) and not isinstance(node.op, ast.Invert)):
            # + 0 turns a bool into an integer, which Python's ~ is about to stop doing.
            return self.number(node, _UNARY[type(node.op)](value + 0))
        raise self.error(node, "is not an operation on a whole number")

    def _binary(self, node: ast.BinOp) -> Value:
        left, right = self._value(node.left), self._value(node.right)
        kind = type(node.op)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return self._arithmetic(node, left, right)
        if kind is ast.Add and isinstance(left, list) and isinstance(right, list):
            self.reserve(node, len(left) + len(right))
            return left + right
        if kind is ast.Add and isinstance(left, tuple) and isinstance(right, tuple):
            self.reserve(node, len(left) + len(right))
            return left + right
        if kind is ast.Mult:
            return self._repeated(node, left, right)
        if kind in _SETS and isinstance(left, set) and isinstance(right, set):
            self.reserve(node, len(left) + len(right))
            return _SETS[kind](left, right)
        if kind is ast.Add:
            raise self.error(
                node,
                "adds values that + cannot add; write separate entries, or unpack both: [*range(0,24), *range(8,32)]",
            )
        raise self.error(node, "is not supported for these values")

    def _arithmetic(self, node: ast.BinOp, left: Number, right: Number) -> Number:
        if isinstance(node.op, ast.Pow | ast.LShift) and abs(right) > _MAX_EXPONENT:
            raise self.error(node, f"is too large; numbers go up to {MAX_NUMBER:,}")
        if type(node.op) not in _ARITHMETIC:
            raise self.error(node, "is not part of the language")
        try:
            return self.number(node, _ARITHMETIC[type(node.op)](left, right))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise self.error(node, f"cannot be computed: {error}") from None

    def _repeated(self, node: ast.BinOp, left: Value, right: Value) -> Value:
        sequence, times = (right, left) if isinstance(left, int) else (left, right)
        if not isinstance(sequence, list | tuple) or not isinstance(times, int):
            raise self.error(node, "multiplies values that * cannot repeat; write list(range(...)) * 2")
        self.reserve(node, len(sequence) * max(times, 0))
        return sequence * times

    def _compare(self, node: ast.Compare) -> Value:
        left = self._value(node.left)
        for test, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node)
            if not self._holds(node, test, left, right):
                return False
            left = right
        return True

    def _holds(self, node: ast.Compare, test: ast.cmpop, left: Value, right: Value) -> bool:
        if not isinstance(left, int | float):
            raise self.error(node, "compares something that is not a number")
        if type(test) in _COMPARISONS and isinstance(right, int | float):
            return _COMPARISONS[type(test)](left, right)
        if isinstance(test, ast.In | ast.NotIn) and isinstance(right, list | tuple | range | set):
            if not (isinstance(right, range) and isinstance(left, int)):  # Python scans a range to find a float
                self.reserve(node, len(right))
            return (left in right) == isinstance(test, ast.In)
        raise self.error(node, "is not a comparison of numbers; use ==, <, in and the like")

    def _boolean(self, node: ast.BoolOp) -> Value:
        value: Value = False
        for operand in node.values:
            value = self._value(operand)
            if isinstance(value, OneShot):
                raise self.error(operand, "is an iterator, which is neither true nor false; use list(...) around it")
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value

    def _choice(self, node: ast.IfExp) -> Value:
        return self._value(node.body if self._truth(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Value:
        value = self._value(node.value)
        if not isinstance(value, list | tuple | range):
            raise self.error(node.value, "cannot be indexed; use list(...) or sorted(...) around it")
        if isinstance(node.slice, ast.Slice):
            part = self._slice(node.slice)
            if not isinstance(value, range):
                self.reserve(node, len(range(*part.indices(len(value)))))
            return value[part]
        index = self.integer(node.slice, self._value(node.slice))
        if not -len(value) <= index < len(value):
            raise self.error(node, f"is out of range: index {index} of {len(value)} items")
        return value[index]

    def _list_comprehension(self, node: ast.ListComp) -> Value:
        return self._comprehension(node, node.elt, node.generators)

    def _set_comprehension(self, node: ast.SetComp) -> Value:
        return set(self.numbers(node, self._comprehension(node, node.elt, node.generators)))

    def _generator(self, node: ast.GeneratorExp) -> Value:
        return OneShot(self._comprehension(node, node.elt, node.generators))

    def _comprehension(self, node: ast.expr, item: ast.expr, clauses: list[ast.comprehension]) -> list[Value]:
        outer = self._scope
        self.reserve(node, len(outer))
        self._scope = dict(outer)
        made: list[Value] = []
        self._clauses(clauses, item, made)
        self._scope = outer
        self.reserve(node, len(made))
        return made

    def _clauses(self, clauses: list[ast.comprehension], item: ast.expr, made: list[Value]) -> None:
        if not clauses:
            made.append(self._value(item))
            return
        clause, *rest = clauses
        for value in self.items(clause.iter, self._value(clause.iter)):
            self._bind(clause.target, value)
            if all(self._truth(test) for test in clause.ifs):
                self._clauses(rest, item, made)

    def _bind(self, target: ast.expr, value: Value) -> None:
        self._budget.spend(1, self._where)
        if isinstance(target, ast.Name):
            if target.id in self._functions:
                raise self.error(target, "is a function; choose another name for the variable")
            if isinstance(value, OneShot):
                raise self.error(target, "would hold an iterator; use list(...) around it")
            self._scope[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            values = self.items(target, value)
            if len(values) != len(target.elts):
                raise self.error(target, f"unpacks {len(target.elts)} values from {len(values)}")
            for element, part in zip(target.elts, values, strict=True):
                self._bind(element, part)
        else:
            raise self.error(target, "is not a name that a loop can set")

    def _call(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Name):
            self._value(node.func)  # usually an attribute, which has its own message
            raise self.error(node.func, "is not a function")
        name = node.func.id
        if name not in self._functions:
            raise self._unknown_name(node.func, name)
        function = self._functions[name]
        arguments = self._elements(node.args)
        option: Value | None = None
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg != function.option or len(node.keywords) > 1:
                raise self.error(node, f"has an argument that {name} does not take here")
            option = self._value(keyword.value)
        if not function.fewest <= len(arguments) <= function.most:
            raise self.error(node, f"passes {len(arguments)} arguments to {name}; it takes {function.arity}")
        return function.apply(self, node, arguments, option)


_NODES: dict[type[ast.expr], Callable[..., Value]] = {
    ast.Constant: Interpreter._constant,
    ast.Name: Interpreter._name,
    ast.List: Interpreter._list,
    ast.Tuple: Interpreter._tuple,
    ast.Set: Interpreter._set,
    ast.UnaryOp: Interpreter._unary,
    ast.BinOp: Interpreter._binary,
    ast.Compare: Interpreter._compare,
    ast.BoolOp: Interpreter._boolean,
    ast.IfExp: Interpreter._choice,
    ast.Subscript: Interpreter._subscript,
    ast.ListComp: Interpreter._list_comprehension,
    ast.SetComp: Interpreter._set_comprehension,
    ast.GeneratorExp: Interpreter._generator,
    ast.Call: Interpreter._call,
}
_UNSUPPORTED: dict[type[ast.expr], str] = {
    ast.Attribute: "reads an attribute, which is",
    ast.Dict: "is a dict, which is",
    ast.DictComp: "is a dict, which is",
    ast.NamedExpr: "assigns a name, which is",
    ast.Starred: "unpacks outside a list, which is",
    ast.Slice: "is a range of layers inside a larger expression, which is",
}
