"""Folding of integer arithmetic: constants, sums and address displacements, without a pass over the code."""
from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.emitter import Emitter
from dlc.errors import InternalError

if TYPE_CHECKING:
    from dlc.backends.cpu.module import Module

_COMMUTATIVE = {"add", "mul", "and", "or", "xor"}


class Folding(Emitter):
    """The operations behind :class:`IntegerOps`, by LLVM's names of them."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        # What is known about values by their names: the two operands of an addition, the base and the
        # constant byte distance of an address.
        self._sums: dict[str, tuple[t.Value, t.Value]] = {}
        self._displaced: dict[str, tuple[t.Value, int]] = {}

    def _binary(self, op: str, a: t.Index, b: t.Index) -> t.Index:
        if not isinstance(a, t.Value) and not isinstance(b, t.Value):
            return t.wrap(_fold(op, a, b), 64)
        x, y = self._unify(a, b)
        if not x.type.is_integer:
            raise InternalError(f"{op} takes integers, not {x.type}")
        if x.constant is not None and y.constant is not None:
            return t.constant(x.type, _fold(op, as_integer(x.constant), as_integer(y.constant)))
        if op in _COMMUTATIVE and x.constant is not None:
            x, y = y, x
        if y.constant is not None:
            simpler = self._with_constant(op, x, as_integer(y.constant))
            if simpler is not None:
                return simpler
        if op == "sub" and x is y:
            return t.constant(x.type, 0)
        value = self.pure(x.type, f"{op} {x}, {y.ref}", x, y)
        if op == "add" and not x.type.is_vector:
            self._sums.setdefault(value.ref, (x, y))
        return value

    def _with_constant(self, op: str, x: t.Value, c: int) -> t.Index | None:
        """`x op c` without an instruction, or with another one; None if there is no such form."""
        bits = x.type.bits
        match op, c:
            case ("add" | "sub" | "or" | "xor", 0):
                return x
            case ("mul" | "and", 0):
                return t.constant(x.type, 0)
            case ("mul", 1) | ("and", -1):
                return x
            case ("or", -1):
                return t.constant(x.type, -1)
        if bits == 1:
            return None
        if op == "mul" and c > 0 and c & (c - 1) == 0:
            return self._shift("shl", x, c.bit_length() - 1)
        if op == "add" and x.ref in self._sums:
            first, second = self._sums[x.ref]
            if second.constant is not None:
                return self._binary("add", first, t.constant(x.type, as_integer(second.constant) + c))
        return None

    def _shift(self, op: str, a: t.Index, count: t.Index) -> t.Index:
        if not isinstance(count, t.Value):
            bits = a.type.bits if isinstance(a, t.Value) else 64
            if not 0 <= count < bits:
                raise InternalError(f"{op} by {count} of {bits} bits")
            if count == 0:
                return a
            number = a.constant if isinstance(a, t.Value) else a
            if number is not None:
                pattern = as_integer(number) & ((1 << bits) - 1) if op == "lshr" else as_integer(number)
                shifted = _fold(op, pattern, count)
                return t.constant(a.type, shifted) if isinstance(a, t.Value) else t.wrap(shifted, 64)
        x, y = self._unify(a, count)
        return self.pure(x.type, f"{op} {x}, {y.ref}", x, y)

    def _divide(self, op: str, a: t.Index, b: t.Index) -> t.Index:
        if not isinstance(b, t.Value) or b.constant is not None:
            divisor = as_integer(b.constant if isinstance(b, t.Value) else b)
            if divisor <= 0:
                raise InternalError(f"{op} by {divisor}")
            if not isinstance(a, t.Value):
                return a // divisor if op == "udiv" else a % divisor
            if divisor & (divisor - 1) == 0:
                if op == "udiv":
                    return self._shift("lshr", a, divisor.bit_length() - 1)
                return self._binary("and", a, divisor - 1)
            b = t.constant(a.type, divisor)
        else:
            # Hoisting may execute the division where a loop around it does not run: it must not trap then
            # either.
            b = self._minmax("smax", b, 1)
        x, y = self._unify(a, b)
        return self.pure(x.type, f"{op} {x}, {y.ref}", x, y)

    def _minmax(self, op: str, a: t.Index, b: t.Index) -> t.Index:
        if not isinstance(a, t.Value) and not isinstance(b, t.Value):
            if op in ("umin", "umax") and (a < 0 or b < 0):
                raise InternalError(f"{op} of a negative number without a type")
            return (min if op.endswith("min") else max)(a, b)
        x, y = self._unify(a, b)
        if x is y:
            return x
        if x.constant is not None and y.constant is not None and op.startswith("s"):
            pick = min if op == "smin" else max
            return t.constant(x.type, pick(as_integer(x.constant), as_integer(y.constant)))
        return self.intrinsic(f"llvm.{op}.{x.type.suffix}", x.type, x, y, pure=True)

    def _resize(self, op: str, a: t.Index, type: t.IRType) -> t.Value:
        if not isinstance(a, t.Value):
            return t.constant(type, a)
        if a.type == type:
            return a
        widens = type.bits > a.type.bits
        if not (a.type.is_integer and type.is_integer) or a.type.lanes != type.lanes or widens != (op !=
        "trunc"):
            raise InternalError(f"no {op} from {a.type} to {type}")
        if a.constant is not None:
            number = as_integer(a.constant)
            bits = number & ((1 << a.type.bits) - 1)
            return t.constant(type, bits if op == "zext" else _signed(number, a.type))
        return self.pure(type, f"{op} {a} to {type}", a)

    def displacement(self, pointer: t.Value) -> tuple[t.Value, int]:
        """A pointer as another one and a constant distance in bytes."""
        return self._displaced.get(pointer.ref, (pointer, 0))

    def _address(self, pointer: t.Value, index: t.Index, scale: int) -> t.Value:
        if isinstance(index, t.Value) and index.constant is not None:
            index = as_integer(index.constant)
        if not isinstance(index, t.Value):
            step = index * scale
            base, known = self.displacement(pointer)
            if step + known == 0:
                return base
            value = self.pure(t.ptr, f"getelementptr i8, {base}, i64 {step + known}", base)
            self._displaced[value.ref] = (base, step + known)
            return value
        if index.ref in self._sums:
            first, second = self._sums[index.ref]
            if second.constant is not None or _depth(first) < _depth(second):
                return self._address(self._address(pointer, first, scale), second, scale)
            if _depth(second) < _depth(first):
                return self._address(self._address(pointer, second, scale), first, scale)
        if pointer.ref in self._displaced and pointer.scope is not None:
            base, known = self._displaced[pointer.ref]
            return self._address(self._address(base, index, scale), known, 1)
        element = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}.get(scale, f"[{scale} x i8]")
        return self.pure(t.ptr, f"getelementptr {element}, {pointer}, {index}", pointer, index)


COMPARISONS = {"eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"}


def compare(predicate: str, x: t.Value, y: t.Value) -> bool:
    a, b = as_integer(x.constant), as_integer(y.constant)
    if predicate.startswith("u"):
        mask = (1 << x.type.bits) - 1
        a, b = a & mask, b & mask
    match predicate[-2:]:
        case "eq":
            return a == b
        case "ne":
            return a != b
        case "lt":
            return a < b
        case "le":
            return a <= b
        case "gt":
            return a > b
    return a >= b


def _fold(op: str, a: int, b: int) -> int:
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "and":
            return a & b
        case "or":
            return a | b
        case "xor":
            return a ^ b
        case "shl":
            return a << b
    return a >> b


def _depth(value: t.Value) -> int:
    return -1 if value.scope is None else value.scope.depth


def _signed(number: int, type: t.IRType) -> int:
    """i1 constants are kept as 0 and 1; as a signed number the latter is -1."""
    return -number if type.bits == 1 else number


def as_integer(number: int | float | None) -> int:
    """The value of an integer constant."""
    if number is None or isinstance(number, float):
        raise InternalError(f"{number} is no integer")
    return int(number)
