"""Integer expressions over symbols and axes as Triton source."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.dims import (
    Broadcast,
    Dim,
    FloorDiv,
    Max,
    Min,
    Mod,
    Product,
    Sum,
    Symbol,
    is_nonnegative,
    operands,
)


def dim_text(dim: Dim, name: Callable[[Symbol], str]) -> str:
    """The source of `dim`, symbols being called what `name` says.

    Triton's ``//`` and ``%`` truncate like C; where a dividend may be negative a helper rounds down.
    """
    match dim:
        case int():
            return str(dim)
        case Symbol():
            return name(dim)
        case Sum(terms, constant):
            text = ""
            for monomial, factor in terms:
                part = _primary(monomial, name)
                if abs(factor) != 1:
                    part = f"{part} * {abs(factor)}"
                text += (" - " if factor < 0 else " + ") + part
            if constant:
                text += (" - " if constant < 0 else " + ") + str(abs(constant))
            return text[3:] if text.startswith(" + ") else "-" + text[3:]
        case Product(factors):
            return " * ".join(_primary(factor, name) for factor in factors)
        case FloorDiv(dividend, divisor) if is_nonnegative(dividend):
            return f"{_primary(dividend, name)} // {_primary(divisor, name)}"
        case Mod(dividend, divisor) if is_nonnegative(dividend):
            return f"{_primary(dividend, name)} % {_primary(divisor, name)}"
    function = {
        FloorDiv: "index_floordiv",
        Mod: "index_mod",
        Min: "tl.minimum",
        Max: "tl.maximum",
        Broadcast: "index_broadcast",
    }[type(dim)]
    first, *rest = (dim_text(operand, name) for operand in operands(dim))
    for other in rest:
        first = f"{function}({first}, {other})"
    return first


def _primary(dim: Dim, name: Callable[[Symbol], str]) -> str:
    """`dim` as an operand: in parentheses unless it is a number, a name or a call."""
    text = dim_text(dim, name)
    match dim:
        case int():
            is_atom = dim >= 0
        case Sum() | Product():
            is_atom = False
        case FloorDiv() | Mod():
            is_atom = not is_nonnegative(dim.dividend)
        case _:
            is_atom = True
    return text if is_atom else f"({text})"
