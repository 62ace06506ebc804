"""Integer expressions of kernels.toml: evaluated by the host, written out as C for the firmware's loader."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping

_BINARY: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "/", ast.Mod: "%"}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


@functools.cache
def parse(text: str) -> ast.expr:
    """ValueError for anything but integers, names, + - * // %, comparisons of two, and/or/not, min and max of two.

    C divides towards zero and Python downwards: operands of // and % must not be negative (the tables' business).
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"'{text}' is no expression") from error
    _check(tree, text)
    return tree


def _check(node: ast.AST, text: str) -> None:
    match node:
        case ast.Constant(value=int()) | ast.Name():
            return
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            children: list[ast.expr] = [left, right]
        case ast.BoolOp(_, values):
            children = values
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            children = [operand]
        case ast.Compare(left, [op], [right]) if type(op) in _COMPARE:
            children = [left, right]
        case ast.Call(ast.Name("min" | "max"), [a, b], []):
            children = [a, b]
        case _:
            raise ValueError(f"'{text}': {ast.unparse(node)} is not allowed here")
    for child in children:
        _check(child, text)


@functools.cache
def names(text: str) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(parse(text)) if isinstance(n, ast.Name)) - {"min", "max"}


@functools.cache
def _compiled(text: str) -> object:
    return compile(ast.Expression(parse(text)), "<kernels.toml>", "eval")


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """KeyError names a field that `values` lacks."""
    missing = names(text) - set(values)
    if missing:
        raise KeyError(sorted(missing)[0])
    scope = {"__builtins__": {}, "min": min, "max": max}
    return int(eval(_compiled(text), scope, dict(values)))  # type: ignore[arg-type]  # checked by parse


def to_c(text: str) -> str:
    """The same in C over `p->field`, in 64 bits: products of four 16-bit fields fit."""
    return _c(parse(text))


def _c(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=int(value)):
            return f"INT64_C({value})" if value > 32767 else str(value)
        case ast.Name(name):
            return f"(int64_t)p->{name}"
        case ast.BinOp(left, op, right):
            return f"({_c(left)} {_BINARY[type(op)]} {_c(right)})"
        case ast.BoolOp(op, values):
            return "(" + (" && " if isinstance(op, ast.And) else " || ").join(map(_c, values)) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            return f"!({_c(operand)})"
        case ast.UnaryOp(_, operand):
            return f"(-{_c(operand)})"
        case ast.Compare(left, [op], [right]):
            return f"({_c(left)} {_COMPARE[type(op)]} {_c(right)})"
        case ast.Call(ast.Name(name), [a, b]):
            return f"dhn_{name}64({_c(a)}, {_c(b)})"
    raise AssertionError(ast.dump(node))
