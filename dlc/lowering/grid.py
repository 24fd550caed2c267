"""Values of expressions at all points of some axes at once, as NumPy arrays that broadcast together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from dlc.errors import IndexFault, InternalError
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
    evaluate as evaluate_dim,
)
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.ir.types import TensorType
from dlc.lowering import expr as e, scalar
from dlc.lowering.kernel import Kernel
from dlc.lowering.tensors import Tensor


@dataclasses.dataclass
class Scope:
    """What the expressions of a kernel refer to.

    `symbols` and `extents` (of axes) are numbers by name, `params` and `locals` tensors by name. With `wide`,
    what is computed in f32 is computed in f64.
    """

    kernel: Kernel
    symbols: Mapping[str, int]
    wide: bool
    extents: dict[str, int] = dataclasses.field(default_factory=dict)
    params: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    locals: dict[str, Array] = dataclasses.field(default_factory=dict)

    @property
    def origin(self) -> str | None:
        """The ONNX nodes that the kernel works for, as an error names them."""
        return ", ".join(self.kernel.origins) or None

    def error(self, problem: str) -> InternalError:
        """The error to raise about this kernel."""
        return InternalError(f"kernel {self.kernel.name}: {problem}", node=self.origin)

    def number(self, dim: Dim) -> int:
        """The number of a dim over the kernel's symbols."""
        return evaluate_dim(dim, self.symbols)

    def dtype(self, dtype: DType) -> np.dtype[np.generic]:
        """The NumPy type in which elements of `dtype` are computed."""
        return DType.F64.numpy if self.wide and dtype is DType.F32 else dtype.numpy


class Grid:
    """The points of some axes: values of expressions at all of them, as arrays that broadcast to `shape`."""

    def __init__(self, scope: Scope, axes: Sequence[str], fixed: Mapping[str, int]) -> None:
        self.scope = scope
        self.shape = tuple(scope.extents[axis] for axis in axes)
        self.points = math.prod(self.shape)
        self._numbers: dict[str, Array] = {n: np.asarray(v) for n, v in {**scope.symbols, **fixed}.items()}
        for position, axis in enumerate(axes):
            line = np.arange(self.shape[position], dtype=np.int64)
            self._numbers[axis] = line.reshape([-1 if i == position else 1 for i in range(len(axes))])
        self._dims: dict[Dim, Array] = {}
        self._values: dict[e.Expr, Array] = {}

    def full(self, expr: e.Expr) -> Array:
        """The value of `expr` at every point."""
        dtype = self.scope.dtype(expr.dtype)
        if not self.points:
            return np.zeros(self.shape, dtype)
        value = self.value(expr)
        if value.dtype != dtype:
            raise self.scope.error(f"{expr} is computed in {value.dtype}, not in {expr.dtype.text}")
        return np.broadcast_to(value, self.shape)

    def value(self, expr: e.Expr) -> Array:
        """The value of `expr`, along the axes that it depends on."""
        for node in e.walk(expr):
            if node not in self._values:
                self._values[node] = self._compute(node)
        return self._values[expr]

    def _compute(self, expr: e.Expr) -> Array:
        values, dtype = self._values, self.scope.dtype(expr.dtype)
        match expr:
            case e.Const(_, value):
                return np.asarray(value).astype(expr.dtype.numpy).astype(dtype)
            case e.Iota(_, index):
                return scalar.convert(self.dim(index), DType.I64, expr.dtype, e.CastMode.WRAP)
            case e.Unary(_, fn, operand):
                return scalar.unary(fn, values[operand])
            case e.Binary(_, fn, left, right):
                return scalar.binary(fn, values[left], values[right])
            case e.Compare(_, fn, left, right):
                return scalar.compare(fn, values[left], values[right])
            case e.Select(_, condition, then, otherwise):
                return np.asarray(np.where(values[condition], values[then], values[otherwise]))
            case e.Cast(_, operand, mode):
                return self._cast(values[operand], operand.dtype, expr.dtype, mode)
            case e.Load(_, param, load_index, mask, other):
                tensor = self.scope.params[param]
                return self._access(param, tensor, load_index, mask, other).astype(dtype, copy=False)
            case e.Read(_, local, read_index, mask, other):
                tensor = Tensor(self._local(local), TensorType(expr.dtype, ()))
                return self._access(local, tensor, read_index, mask, other)
        raise self.scope.error(f"{type(expr).__name__} has no meaning")

    def _cast(self, value: Array, source: DType, to: DType, mode: e.CastMode) -> Array:
        if mode is e.CastMode.BITS:
            bits = scalar.convert(value.astype(source.numpy), source, to, mode)
            return bits.astype(self.scope.dtype(to))
        if self.scope.wide and to is DType.F32:
            to = DType.F64
        return value if value.dtype == to.numpy else scalar.convert(value, source, to, mode)

    def _local(self, name: str) -> Array:
        local = self.scope.locals.get(name)
        if local is None:
            raise self.scope.error(f"local {name} is read before it is defined")
        return local

    def _access(
        self,
        name: str,
        tensor: Tensor,
        index: Sequence[e.Index],
        conditions: Sequence[e.InRange],
        other: e.Expr | None,
    ) -> Array:
        """Elements of a parameter or local, `other` where a condition fails."""
        entries, mask = [self.entry(entry) for entry in index], self.mask(conditions)
        self.check(name, tensor, index, entries, mask)
        if mask is None:
            return tensor.load(entries)
        if other is None:
            raise self.scope.error(f"a masked access to {name} has no other value")
        if not mask.any():
            return self._values[other]
        reach = map(tensor.reach, range(len(entries)))
        safe = [np.clip(at, low, high - 1) for at, (low, high) in zip(entries, reach, strict=True)]
        return np.asarray(np.where(mask, tensor.load(safe), self._values[other]))

    def check(
        self,
        name: str,
        tensor: Tensor,
        index: Sequence[e.Index],
        entries: Sequence[Array],
        mask: Array | None,
    ) -> None:
        """Every entry of an index is within reach, where the mask holds."""
        for axis, (entry, at) in enumerate(zip(index, entries, strict=True)):
            from_data = isinstance(entry, e.Expr)
            low, high = (0, tensor.shape[axis]) if from_data else tensor.reach(axis)
            outside = (at < low) | (at >= high)
            if mask is not None:
                outside = outside & mask
            if outside.any():
                number = int(np.broadcast_to(at, outside.shape)[outside][0])
                problem = f"index {number} is outside [{low}, {high}) of axis {axis} of {name}"
                if from_data:
                    raise IndexFault(problem, node=self.scope.origin)
                raise self.scope.error(problem)

    def entry(self, entry: e.Index) -> Array:
        """An entry of an index, in int64."""
        return self.value(entry).astype(np.int64) if isinstance(entry, e.Expr) else self.dim(entry)

    def mask(self, conditions: Sequence[e.InRange]) -> Array | None:
        """Where all conditions hold; None where there are none."""
        mask: Array | None = None
        for condition in conditions:
            at = self.dim(condition.index)
            holds = np.asarray((self.dim(condition.low) <= at) & (at < self.dim(condition.high)))
            mask = holds if mask is None else mask & holds
        return mask

    def dim(self, dim: Dim) -> Array:
        """The number of a dim, in int64."""
        found = self._dims.get(dim)
        if found is None:
            found = self._dims[dim] = np.asarray(self._dim(dim), dtype=np.int64)
        return found

    def _dim(self, dim: Dim) -> Array | int:
        match dim:
            case int():
                return dim
            case Symbol(name):
                number = self._numbers.get(name)
                if number is None:
                    raise self.scope.error(f"{name} is no axis or symbol in scope")
                return number
            case Sum(terms, constant):
                return sum((self.dim(monomial) * factor for monomial, factor in terms), np.asarray(constant))
            case Product(factors):
                return math.prod((self.dim(factor) for factor in factors), start=np.asarray(1))
            case FloorDiv(dividend, divisor):
                return self.dim(dividend) // self._divisor(divisor)
            case Mod(dividend, divisor):
                return self.dim(dividend) % self._divisor(divisor)
            case Min(args):
                return self._fold(np.minimum, args)
            case Max(args):
                return self._fold(np.maximum, args)
            case Broadcast(args):
                extent = self.dim(args[-1])
                for arg in reversed(args[:-1]):
                    extent = np.where(self.dim(arg) == 1, extent, self.dim(arg))
                return extent
        raise self.scope.error(f"{dim!r} is no dim")

    def _divisor(self, dim: Dim) -> Array:
        divisor = self.dim(dim)
        if (divisor == 0).any():
            raise self.scope.error(f"the divisor {dim!r} of an index is 0")
        return divisor

    def _fold(self, combine: np.ufunc, args: Sequence[Dim]) -> Array:
        result = self.dim(args[0])
        for arg in args[1:]:
            result = combine(result, self.dim(arg))
        return result
