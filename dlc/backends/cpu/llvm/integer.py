"""Integer and address arithmetic: folded, shared and hoisted.

Operations on two Python integers give a Python integer, so that kernels with static shapes need no cases of
their own. All wrap modulo 2**bits; none has undefined results for the operands that its docstring allows.
"""
from __future__ import annotations

from typing import overload

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.folding import COMPARISONS, Folding, as_integer, compare
from dlc.backends.cpu.types import Index, Value
from dlc.errors import InternalError


class IntegerOps(Folding):
    """Arithmetic on integers and vectors of integers, and addresses.

    Type of the results: that of the operands; of two Python integers a Python integer (meant as i64).
    """

    @overload
    def add(self, a: Value, b: Index) -> Value: ...
    @overload
    def add(self, a: Index, b: Value) -> Value: ...
    @overload
    def add(self, a: Index, b: Index) -> Index: ...
    def add(self, a: Index, b: Index) -> Index:
        """a + b. Constants gather on the outside: (x + 1) + 2 is x + 3."""
        return self._binary("add", a, b)

    @overload
    def sub(self, a: Value, b: Index) -> Value: ...
    @overload
    def sub(self, a: Index, b: Value) -> Value: ...
    @overload
    def sub(self, a: Index, b: Index) -> Index: ...
    def sub(self, a: Index, b: Index) -> Index:
        """a - b."""
        if not isinstance(b, Value):
            return self._binary("add", a, -b)
        if b.constant is not None and b.type.element is not t.i1:
            return self._binary("add", a, t.constant(b.type, -as_integer(b.constant)))
        return self._binary("sub", a, b)

    @overload
    def mul(self, a: Value, b: Index) -> Value: ...
    @overload
    def mul(self, a: Index, b: Value) -> Value: ...
    @overload
    def mul(self, a: Index, b: Index) -> Index: ...
    def mul(self, a: Index, b: Index) -> Index:
        """a * b."""
        return self._binary("mul", a, b)

    @overload
    def and_(self, a: Value, b: Index) -> Value: ...
    @overload
    def and_(self, a: Index, b: Value) -> Value: ...
    @overload
    def and_(self, a: Index, b: Index) -> Index: ...
    def and_(self, a: Index, b: Index) -> Index:
        """Bitwise and."""
        return self._binary("and", a, b)

    @overload
    def or_(self, a: Value, b: Index) -> Value: ...
    @overload
    def or_(self, a: Index, b: Value) -> Value: ...
    @overload
    def or_(self, a: Index, b: Index) -> Index: ...
    def or_(self, a: Index, b: Index) -> Index:
        """Bitwise or."""
        return self._binary("or", a, b)

    @overload
    def xor(self, a: Value, b: Index) -> Value: ...
    @overload
    def xor(self, a: Index, b: Value) -> Value: ...
    @overload
    def xor(self, a: Index, b: Index) -> Index: ...
    def xor(self, a: Index, b: Index) -> Index:
        """Bitwise exclusive or."""
        return self._binary("xor", a, b)

    def not_(self, a: Index) -> Index:
        """Bitwise complement (logical for i1)."""
        return self._binary("xor", a, -1)

    @overload
    def shl(self, a: Value, count: Index) -> Value: ...
    @overload
    def shl(self, a: Index, count: Value) -> Value: ...
    @overload
    def shl(self, a: Index, count: Index) -> Index: ...
    def shl(self, a: Index, count: Index) -> Index:
        """a << count, for 0 <= count < bits (semantics.shift_left takes any count)."""
        return self._shift("shl", a, count)

    @overload
    def lshr(self, a: Value, count: Index) -> Value: ...
    @overload
    def lshr(self, a: Index, count: Value) -> Value: ...
    @overload
    def lshr(self, a: Index, count: Index) -> Index: ...
    def lshr(self, a: Index, count: Index) -> Index:
        """Logical a >> count, for 0 <= count < bits."""
        return self._shift("lshr", a, count)

    @overload
    def ashr(self, a: Value, count: Index) -> Value: ...
    @overload
    def ashr(self, a: Index, count: Value) -> Value: ...
    @overload
    def ashr(self, a: Index, count: Index) -> Index: ...
    def ashr(self, a: Index, count: Index) -> Index:
        """Arithmetic a >> count, for 0 <= count < bits."""
        return self._shift("ashr", a, count)

    @overload
    def udiv(self, a: Value, b: Index) -> Value: ...
    @overload
    def udiv(self, a: Index, b: Value) -> Value: ...
    @overload
    def udiv(self, a: Index, b: Index) -> Index: ...
    def udiv(self, a: Index, b: Index) -> Index:
        """a / b of non-negative `a` by a positive `b`; a `b` that is not constant counts as 1 where it is
        smaller.
        """
        return self._divide("udiv", a, b)

    @overload
    def urem(self, a: Value, b: Index) -> Value: ...
    @overload
    def urem(self, a: Index, b: Value) -> Value: ...
    @overload
    def urem(self, a: Index, b: Index) -> Index: ...
    def urem(self, a: Index, b: Index) -> Index:
        """a % b of non-negative `a` by a positive `b`; a `b` that is not constant counts as 1 where it is
        smaller.
        """
        return self._divide("urem", a, b)

    @overload
    def ceil_div(self, a: Value, b: Index) -> Value: ...
    @overload
    def ceil_div(self, a: Index, b: Value) -> Value: ...
    @overload
    def ceil_div(self, a: Index, b: Index) -> Index: ...
    def ceil_div(self, a: Index, b: Index) -> Index:
        """a / b rounded up, under the conditions of :meth:`udiv`."""
        return self.udiv(self.add(a, self.sub(b, 1)), b)

    def round_down(self, a: Index, multiple: int) -> Index:
        """The largest multiple of a positive constant that is not above the non-negative `a`."""
        return self.sub(a, self.urem(a, multiple))

    @overload
    def smin(self, a: Value, b: Index) -> Value: ...
    @overload
    def smin(self, a: Index, b: Value) -> Value: ...
    @overload
    def smin(self, a: Index, b: Index) -> Index: ...
    def smin(self, a: Index, b: Index) -> Index:
        """Signed minimum."""
        return self._minmax("smin", a, b)

    @overload
    def smax(self, a: Value, b: Index) -> Value: ...
    @overload
    def smax(self, a: Index, b: Value) -> Value: ...
    @overload
    def smax(self, a: Index, b: Index) -> Index: ...
    def smax(self, a: Index, b: Index) -> Index:
        """Signed maximum."""
        return self._minmax("smax", a, b)

    @overload
    def umin(self, a: Value, b: Index) -> Value: ...
    @overload
    def umin(self, a: Index, b: Value) -> Value: ...
    @overload
    def umin(self, a: Index, b: Index) -> Index: ...
    def umin(self, a: Index, b: Index) -> Index:
        """Unsigned minimum."""
        return self._minmax("umin", a, b)

    @overload
    def umax(self, a: Value, b: Index) -> Value: ...
    @overload
    def umax(self, a: Index, b: Value) -> Value: ...
    @overload
    def umax(self, a: Index, b: Index) -> Index: ...
    def umax(self, a: Index, b: Index) -> Index:
        """Unsigned maximum."""
        return self._minmax("umax", a, b)

    def icmp(self, predicate: str, a: Index, b: Index) -> Value:
        """Compare integers or pointers: eq ne, slt sle sgt sge, ult ule ugt uge; i1 in each lane."""
        x, y = self._unify(a, b, default=t.i64)
        if predicate not in COMPARISONS:
            raise InternalError(f"no integer comparison {predicate!r}")
        result = x.type.with_element(t.i1)
        if x.constant is not None and y.constant is not None:
            return t.constant(result, int(compare(predicate, x, y)))
        return self.pure(result, f"icmp {predicate} {x}, {y.ref}", x, y)

    def select(self, condition: Value, a: t.Operand, b: t.Operand) -> Value:
        """`a` where `condition` (i1, or a vector of them) holds, else `b`; of any type."""
        x, y = self._unify(a, b, default=t.i64)
        if condition.type.element is not t.i1 or condition.type.lanes not in (1, x.type.lanes):
            raise InternalError(f"{condition} cannot select among {x.type}")
        if condition.constant is not None:
            return x if condition.constant else y
        if x.type.is_float and x.type.bits == 16:
            # As integers: without instructions for the type LLVM selects its numbers by way of library calls.
            bits = x.type.with_element(t.i16)
            chosen = self.select(condition, *(self.pure(bits, f"bitcast {v} to {bits}", v) for v in (x, y)))
            return self.pure(x.type, f"bitcast {chosen} to {x.type}", chosen)
        text = f"select {condition}, {x}, {y}"
        if x.type.is_float:
            return self.instruction(x.type, text, condition, x, y)
        chosen = self.pure(x.type, text, condition, x, y)
        if self.bounds is not None and x.type is t.ptr:
            self.bounds.choose(chosen, condition, x, y)
        return chosen

    def zext(self, a: Index, type: t.IRType) -> Value:
        """Widen with zeros; the same type is left alone."""
        return self._resize("zext", a, type)

    def sext(self, a: Index, type: t.IRType) -> Value:
        """Widen with the sign; the same type is left alone."""
        return self._resize("sext", a, type)

    def trunc(self, a: Index, type: t.IRType) -> Value:
        """Keep the low bits; the same type is left alone."""
        return self._resize("trunc", a, type)

    def splat(self, a: t.Operand, lanes: int = 16, type: t.IRType = t.i64) -> Value:
        """`a` in every lane; of an invariant scalar it is hoisted like integer arithmetic. `type`: that of
        a number.
        """
        value = self.value(a, a.type if isinstance(a, Value) else type)
        wide = t.vector(lanes, value.type)
        if value.constant is not None:
            return self.const(wide, value.constant)
        first = self.pure(wide, f"insertelement {wide} poison, {value}, i64 0", value)
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.pure(wide, f"shufflevector {first}, {wide} poison, {zeros}", first)

    def offset(self, pointer: Value, index: Index, type: t.IRType) -> Value:
        """The address `index` elements of `type` after `pointer` (a vector type counts whole vectors).

        Parts of the index from outer loops are added to the pointer first, so that they are hoisted; a
        constant part comes last, so that it becomes the displacement of the memory operand.
        """
        return self._within(self._address(pointer, index, type.bytes), pointer)

    def byte_offset(self, pointer: Value, bytes: Index) -> Value:
        """The address `bytes` after `pointer`."""
        return self._within(self._address(pointer, bytes, 1), pointer)

    def _within(self, address: Value, pointer: Value) -> Value:
        """`address`, which was made from `pointer`."""
        if self.bounds is not None:
            self.bounds.inherit(address, pointer)
        return address
