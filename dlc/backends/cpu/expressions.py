"""Value expressions as instructions: one scalar, or 16 lanes along the vector axis.

An expression that does not depend on the vector axis is computed once, as a scalar, and spread to lanes where
it meets one that does. Loads become vector loads, broadcasts or gathers according to their stride along the
vector axis; masks become lane masks; indices that come from data are checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from dlc.backends.cpu import access, arithmetic, semantics, types as t
from dlc.backends.cpu.builder import FunctionBuilder
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
    factors_of,
    free_symbols,
    is_nonnegative,
    linear,
    terms_of,
)
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Param

LANES = 16
#: Room for a vector of the widest elements.
MASKED_DUMMY_BYTES = 128


class ExpressionEmitter:
    """Writes expressions at the current position of a builder.

    `axes` gives the scalar number of each axis and symbol in scope; the vector axis stands for the lanes from
    that number on. `mask` (None: all) tells the lanes that exist. `locals` resolves reads of locals.
    """

    def __init__(
        self,
        b: FunctionBuilder,
        params: Mapping[str, Param],
        pointers: Mapping[str, t.Value],
        report_fault: Callable[[t.Value], None],
    ) -> None:
        self.b = b
        self.params = params
        self.pointers = pointers
        self.report_fault = report_fault
        self.axes: dict[str, t.Value] = {}
        self.vector_axis: Symbol | None = None
        self.mask: t.Value | None = None
        self.locals: dict[str, Callable[[tuple[Dim, ...]], t.Value]] = {}
        self._done: dict[e.Expr, t.Value] = {}
        self._checked: dict[tuple[e.Expr, Dim], t.Value] = {}
        self._fixed: dict[Dim, t.Index] = {}
        self._fixed_names: frozenset[str] = frozenset()
        self._dummy: t.Value | None = None

    def forget(self) -> None:
        """Start a new point: values computed so far may not be reused (their axes have moved on)."""
        self._done, self._checked = {}, {}

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Code that runs under a loop or branch: what it computes is not reused after it."""
        outside = self._done, self._checked
        self._done, self._checked = dict(self._done), dict(self._checked)
        try:
            yield
        finally:
            self._done, self._checked = outside

    def hoist(
        self, expressions: Sequence[e.Expr], inner: set[str], known: Collection[str] = ()
    ) -> None:
        """Compute now what does not change along the axes `inner`, nor reads a local that is not `known`.

        Such indices are checked.
        """
        moving: set[e.Expr] = set()
        for node in e.walk(*expressions):
            axes = own_axes(node)
            if (
                (isinstance(node, e.Read) and node.local not in known)
                or axes & inner
                or not axes <= self.axes.keys()
                or any(child in moving for child in e.children(node))
            ):
                moving.add(node)
        for node in e.walk(*expressions):
            if node not in moving and not isinstance(node, e.Const):
                self.emit(node)
            elif isinstance(node, e.Load) and not node.mask:
                for extent, entry in zip(self.params[node.param].type.shape, node.index, strict=True):
                    if isinstance(entry, e.Expr) and entry not in moving:
                        self._checked_index(entry, extent, None, None)

    # --- index arithmetic

    def fix_symbols(self, numbers: Mapping[str, t.Value]) -> None:
        """Enter symbols that keep their numbers throughout the function."""
        self.axes.update(numbers)
        self._fixed_names = frozenset(numbers)

    def dim(self, dim: Dim) -> t.Value:
        """A Dim as a scalar i64; along the vector axis it is the number of lane 0."""
        return self.b.value(self._dim(dim))

    def _dim(self, dim: Dim) -> t.Index:
        if isinstance(dim, int):
            return dim
        if isinstance(dim, Symbol):
            return self.axes[dim.name]
        found = self._fixed.get(dim)
        if found is None:
            found = self._computed(dim)
            # What depends on the function's symbols only is computed at its entry, wherever it is asked for
            # first.
            at_entry = isinstance(found, int) or found.scope is None or found.scope.depth == 0
            if at_entry and all(symbol.name in self._fixed_names for symbol in free_symbols(dim)):
                self._fixed[dim] = found
        return found

    def _computed(self, dim: Dim) -> t.Index:
        b = self.b
        match dim:
            case Sum():
                terms, constant = terms_of(dim)
                total: t.Index = 0
                for monomial, factor in terms:
                    total = b.add(total, b.mul(self._dim(monomial), factor))
                return b.add(total, constant)
            case Product():
                product: t.Index = 1
                for factor_dim in factors_of(dim):
                    product = b.mul(product, self._dim(factor_dim))
                return product
            case FloorDiv():
                return self._divide(dim.dividend, dim.divisor, remainder=False)
            case Mod():
                return self._divide(dim.dividend, dim.divisor, remainder=True)
            case Min() | Max():
                combine = b.smin if isinstance(dim, Min) else b.smax
                best = self._dim(dim.args[0])
                for arg in dim.args[1:]:
                    best = combine(best, self._dim(arg))
                return best
            case Broadcast():
                extent = self._dim(dim.args[0])
                for arg in dim.args[1:]:
                    extent = b.select(b.icmp("eq", extent, 1), self.dim(arg), b.value(extent))
                return extent
        raise TypeError(f"not a dim: {dim!r}")

    def _divide(self, dividend: Dim, divisor: Dim, remainder: bool) -> t.Index:
        b = self.b
        left, right = self._dim(dividend), self._dim(divisor)
        if is_nonnegative(dividend):
            return b.urem(left, right) if remainder else b.udiv(left, right)
        function = semantics.floor_mod if remainder else semantics.floor_div
        return function(b, b.value(left), b.value(right))

    def _lanes_of(self, dim: Dim) -> t.Value:
        """A Dim that depends on the vector axis, as 16 x i64."""
        b, axis = self.b, self.vector_axis
        wide = t.vector(LANES, t.i64)
        if axis is None or axis not in free_symbols(dim):
            return b.splat(self.dim(dim), LANES)
        affine = linear(dim, axis)
        if affine is not None:
            coefficient = affine[0]
            step = b.iota(wide.element, LANES)
            scaled = b.mul(step, b.splat(self.dim(coefficient), LANES))
            return b.value(b.add(b.splat(self.dim(dim), LANES), scaled), wide)
        match dim:
            case Sum():
                terms, constant = terms_of(dim)
                total = b.const(wide, constant)
                for monomial, factor in terms:
                    total = b.add(total, b.mul(self._lanes_of(monomial), b.const(wide, factor)))
                return total
            case Product():
                product = b.const(wide, 1)
                for factor_dim in factors_of(dim):
                    product = b.mul(product, self._lanes_of(factor_dim))
                return product
            case FloorDiv() | Mod():
                left, right = self._lanes_of(dim.dividend), self._lanes_of(dim.divisor)
                if is_nonnegative(dim.dividend):
                    return b.urem(left, right) if isinstance(dim, Mod) else b.udiv(left, right)
                return (semantics.floor_mod if isinstance(dim, Mod) else semantics.floor_div)(b, left, right)
            case Min() | Max():
                best = self._lanes_of(dim.args[0])
                for arg in dim.args[1:]:
                    other = self._lanes_of(arg)
                    best = b.smin(best, other) if isinstance(dim, Min) else b.smax(best, other)
                return best
        raise TypeError(f"cannot vectorize {dim!r}")

    def in_range(self, condition: e.InRange) -> t.Value:
        """The condition as i1, or as lanes where it depends on the vector axis."""
        b = self.b
        varies = self.vector_axis is not None and any(
            self.vector_axis in free_symbols(d) for d in (condition.index, condition.low, condition.high)
        )
        if varies:
            at = self._lanes_of(condition.index)
            low, high = self._lanes_of(condition.low), self._lanes_of(condition.high)
        else:
            at, low, high = self.dim(condition.index), self.dim(condition.low), self.dim(condition.high)
        checks = []
        if not is_nonnegative(condition.index - condition.low):
            checks.append(b.icmp("sge", at, low))
        if not is_nonnegative(condition.high - condition.index - 1):
            checks.append(b.icmp("slt", at, high))
        result = checks[0] if checks else b.const(t.i1, 1)
        for check in checks[1:]:
            result = b.and_(result, check)
        return result

    def conditions(self, mask: Sequence[e.InRange]) -> tuple[t.Value | None, t.Value | None]:
        """The conjunction of `mask` split into its scalar part and its lane part (None: always true)."""
        scalar: t.Value | None = None
        lanes: t.Value | None = None
        for condition in mask:
            value = self.in_range(condition)
            if value.type.is_vector:
                lanes = value if lanes is None else self.b.and_(lanes, value)
            else:
                scalar = value if scalar is None else self.b.and_(scalar, value)
        return scalar, lanes

    # --- expressions

    def emit(self, expr: e.Expr) -> t.Value:
        """The value of `expr`: a scalar where it is the same for all lanes, else 16 lanes."""
        for node in e.walk(expr):
            if node not in self._done:
                self._done[node] = self._emit(node)
        return self._done[expr]

    def emit_lanes(self, expr: e.Expr) -> t.Value:
        """The value of `expr` in 16 lanes."""
        return self.spread(self.emit(expr))

    def spread(self, value: t.Value) -> t.Value:
        """A scalar in every lane; lanes as they are."""
        return value if value.type.is_vector else self.b.splat(value, LANES)

    def _together(self, *values: t.Value) -> tuple[t.Value, ...]:
        if any(value.type.is_vector for value in values):
            return tuple(self.spread(value) for value in values)
        return values

    def _emit(self, expr: e.Expr) -> t.Value:
        b, done = self.b, self._done
        match expr:
            case e.Const(dtype, value):
                return b.const(access.register_type(dtype), access.register_number(dtype, value))
            case e.Iota(dtype, index):
                axis = self.vector_axis
                varies = axis is not None and axis in free_symbols(index)
                number = self._lanes_of(index) if varies else self.dim(index)
                return arithmetic.convert(b, number, DType.I64, dtype, e.CastMode.WRAP)
            case e.Load():
                return self._load(expr)
            case e.Read(_, local, index_dims):
                return self.locals[local](index_dims)
            case e.Unary(_, fn, operand):
                return arithmetic.unary(b, fn, operand.dtype, done[operand])
            case e.Binary(dtype, fn, left, right):
                x, y = self._together(done[left], done[right])
                return arithmetic.binary(b, fn, dtype, x, y)
            case e.Compare(_, fn, left, right):
                x, y = self._together(done[left], done[right])
                return arithmetic.compare(b, fn, left.dtype, x, y)
            case e.Select(_, condition, then, otherwise):
                choice, yes, no = self._together(done[condition], done[then], done[otherwise])
                return b.select(choice, yes, no)
            case e.Cast(dtype, operand, mode):
                return arithmetic.convert(b, done[operand], operand.dtype, dtype, mode)
        raise TypeError(f"no code for {type(expr).__name__}")

    # --- memory

    def _load(self, load: e.Load) -> t.Value:
        b = self.b
        param = self.params[load.param]
        element = access.storage_type(load.dtype)
        dims, data = self._split_index(load.index)
        mask = load.mask
        if load.other is not None and not data and isinstance(load.other, e.Const):
            mask = access.covered_by_halo(param, dims, mask, float(load.other.value))
        scalar, lanes = self.conditions(mask)
        place = access.offset(param, dims)
        base = self.pointers[load.param]
        other = None if load.other is None else self._storage(load.other.dtype, self._done[load.other])
        extra = self._data_offset(param, data, scalar, lanes)
        scalar = self._where_some(param, data, scalar)
        value = self._read(base, place, extra, element, scalar, lanes, other)
        return b.icmp("ne", value, 0) if load.dtype is DType.BOOL else value

    def _storage(self, dtype: DType, value: t.Value) -> t.Value:
        """A register value as it is stored: bool as a byte."""
        if dtype is not DType.BOOL:
            return value
        return self.b.zext(value, t.vector(LANES, t.i8) if value.type.is_vector else t.i8)

    def _split_index(self, index: Sequence[e.Index]) -> tuple[list[Dim], list[tuple[int, e.Expr]]]:
        """The index with data-dependent entries replaced by 0, and those entries with their axes."""
        dims: list[Dim] = [0 if isinstance(entry, e.Expr) else entry for entry in index]
        data = [(axis, entry) for axis, entry in enumerate(index) if isinstance(entry, e.Expr)]
        return dims, data

    def _data_offset(
        self, param: Param, data: Sequence[tuple[int, e.Expr]], scalar: t.Value | None, lanes: t.Value | None
    ) -> t.Value | None:
        """The checked contribution of data-dependent entries to the offset (i64, scalar or lanes)."""
        b = self.b
        total: t.Value | None = None
        for axis, entry in data:
            index = self._checked_index(entry, param.type.shape[axis], scalar, lanes)
            unit: list[Dim] = [0] * param.type.rank
            unit[axis] = 1
            zero: list[Dim] = [0] * param.type.rank
            if param.type.layout is not None and param.type.layout.block(axis) > 1:
                raise TypeError("an index from data along a blocked axis")
            stride = self.dim(access.offset(param, unit) - access.offset(param, zero))
            step = b.mul(index, b.splat(stride, LANES) if index.type.is_vector else stride)
            total = step if total is None else b.add(*self._together(total, step))
        return total

    def _where_some(
        self, param: Param, data: Sequence[tuple[int, e.Expr]], scalar: t.Value | None
    ) -> t.Value | None:
        """The scalar condition of an access at indices from data, which needs an element that they can be
        clamped to.
        """
        for axis, _ in data:
            extent = param.type.shape[axis]
            if not is_nonnegative(extent - 1):
                some = self.b.icmp("sgt", self.dim(extent), 0)
                scalar = some if scalar is None else self.b.value(self.b.and_(scalar, some), t.i1)
        return scalar

    def _checked_index(
        self, entry: e.Expr, extent: Dim, scalar: t.Value | None, lanes: t.Value | None
    ) -> t.Value:
        """An index from data, 0 where it is out of range, which is reported (once if nothing masks it).

        Of an axis without elements not even 0 is in range: `_where_some` keeps the access away.
        """
        b, key = self.b, (entry, extent)
        if key in self._checked:
            return self._checked[key]
        index = self._done[entry] if entry in self._done else self.emit(entry)
        size = self.dim(extent)
        bad = b.icmp("uge", index, b.splat(size, LANES) if index.type.is_vector else size)
        self._report(bad, scalar, lanes)
        index = b.select(bad, b.const(index.type, 0), index)
        if scalar is None and lanes is None:
            self._checked[key] = index
        return index

    def _report(self, bad: t.Value, scalar: t.Value | None, lanes: t.Value | None) -> None:
        """Record a fault where `bad` holds for a point that exists."""
        b = self.b
        for condition in (lanes, self.mask):
            if condition is not None and bad.type.is_vector:
                bad = b.and_(bad, condition)
        flag = b.any(bad) if bad.type.is_vector else bad
        if scalar is not None:
            flag = b.and_(flag, scalar)
        if not bad.type.is_vector:
            for condition in (lanes, self.mask):
                if condition is not None:
                    flag = b.and_(flag, b.any(condition))
        self.report_fault(flag)

    def _read(
        self,
        base: t.Value,
        place: Dim,
        extra: t.Value | None,
        element: t.IRType,
        scalar: t.Value | None,
        lanes: t.Value | None,
        other: t.Value | None,
    ) -> t.Value:
        b = self.b
        stride = self._stride(place)
        varies = stride != 0 or (extra is not None and extra.type.is_vector) or lanes is not None
        if not varies:
            at = self.dim(place) if extra is None else b.add(self.dim(place), extra)
            pointer = b.offset(base, at, element)
            if scalar is None:
                return b.load(pointer, element)
            pointer = b.select(scalar, pointer, self._dummy_pointer())
            loaded = b.load(pointer, element)
            if other is None:
                return loaded
            if other.type.is_vector:
                return b.select(b.splat(scalar, LANES), b.splat(loaded, LANES), other)
            return b.select(scalar, loaded, other)
        wide = t.vector(LANES, element)
        mask = self._lane_mask(scalar, lanes)
        fallback = b.const(wide, 0) if other is None else self.spread(other)
        if stride in (0, 1) and (extra is None or not extra.type.is_vector):
            at = self.dim(place) if extra is None else b.add(self.dim(place), extra)
            pointer = b.offset(base, at, element)
            if stride == 1:
                return self._read_row(pointer, wide, scalar, self._lane_mask(None, lanes), fallback)
            anywhere = b.any(lanes) if lanes is not None else None
            if scalar is not None:
                anywhere = scalar if anywhere is None else b.and_(anywhere, scalar)
            if anywhere is not None:
                pointer = b.select(anywhere, pointer, self._dummy_pointer())
            spread = b.splat(b.load(pointer, element), LANES)
            if mask is None or (lanes is None and scalar is None):
                return spread
            return b.select(mask, spread, fallback)
        offsets = self._lanes_of(place)
        if extra is not None:
            offsets = b.add(offsets, self.spread(extra))
        return b.gather(base, offsets, element, mask, fallback)

    def _read_row(
        self,
        pointer: t.Value,
        wide: t.IRType,
        scalar: t.Value | None,
        mask: t.Value | None,
        fallback: t.Value,
    ) -> t.Value:
        """Neighbouring elements where `scalar` holds, of them those in `mask`.

        A scalar condition chooses the memory and not the lanes: LLVM 22 aborts over a masked load of which
        it finds out, by way of a condition spread to lanes, that half of the lanes are never read.
        """
        b = self.b
        if scalar is not None:
            pointer = b.select(scalar, pointer, self._dummy_pointer())
        value = b.load(pointer, wide) if mask is None else b.masked_load(pointer, mask, wide, fallback)
        return value if scalar is None else b.select(scalar, value, fallback)

    def read_memory(self, base: t.Value, place: Dim, element: t.IRType) -> t.Value:
        """An element, or lanes, of plain memory at offset `place`."""
        return self._read(base, place, None, element, None, None, None)

    def write_memory(self, base: t.Value, place: Dim, value: t.Value, dtype: DType) -> None:
        """Store an element, or lanes, into plain memory at offset `place`."""
        self._write(base, place, None, value, dtype, None, None)

    def _stride(self, place: Dim) -> Dim | None:
        """The stride of an offset along the vector axis; None where it is not affine."""
        if self.vector_axis is None or self.vector_axis not in free_symbols(place):
            return 0
        affine = linear(place, self.vector_axis)
        return None if affine is None else affine[0]

    def _lane_mask(self, scalar: t.Value | None, lanes: t.Value | None) -> t.Value | None:
        mask = self.mask
        if lanes is not None:
            mask = lanes if mask is None else self.b.and_(mask, lanes)
        if scalar is not None:
            spread = self.b.splat(scalar, LANES)
            mask = spread if mask is None else self.b.and_(mask, spread)
        return mask

    def _dummy_pointer(self) -> t.Value:
        """Readable memory for loads whose mask fails."""
        if self._dummy is None:
            self._dummy = self.b.stack(MASKED_DUMMY_BYTES)
        return self._dummy

    def store(
        self,
        param_name: str,
        index: Sequence[e.Index],
        value: t.Value,
        dtype: DType,
        mask: Sequence[e.InRange] = (),
    ) -> None:
        """Store a value at an index of a parameter: lanes along the vector axis, or one element."""

        param = self.params[param_name]
        dims, data = self._split_index(index)
        for _, entry in data:
            self.emit(entry)
        scalar, lanes = self.conditions(mask)
        extra = self._data_offset(param, data, scalar, lanes)
        scalar = self._where_some(param, data, scalar)
        self._write(self.pointers[param_name], access.offset(param, dims), extra, value, dtype, scalar, lanes)

    def _write(
        self,
        base: t.Value,
        place: Dim,
        extra: t.Value | None,
        value: t.Value,
        dtype: DType,
        scalar: t.Value | None,
        lanes: t.Value | None,
    ) -> None:
        b, element = self.b, access.storage_type(dtype)
        value = self._storage(dtype, value)
        if self.vector_axis is None:
            at = self.dim(place) if extra is None else b.add(self.dim(place), extra)
            pointer = b.offset(base, at, element)
            if scalar is not None:
                pointer = b.select(scalar, pointer, self._dummy_pointer())
            b.store(value, pointer)
            return
        value = self.spread(value)
        mask = self._lane_mask(scalar, lanes)
        if self._stride(place) == 1 and extra is None:
            pointer = b.offset(base, self.dim(place), element)
            if mask is None:
                b.store(value, pointer)
            else:
                b.masked_store(value, pointer, mask)
            return
        offsets = self._lanes_of(place)
        if extra is not None:
            offsets = b.add(offsets, self.spread(extra))
        b.scatter(value, base, offsets, mask)


def own_axes(node: e.Expr) -> set[str]:
    """Names of the symbols in the indices of a node itself."""
    match node:
        case e.Load():
            dims: list[Dim] = [entry for entry in node.index if not isinstance(entry, e.Expr)]
            for condition in node.mask:
                dims += [condition.index, condition.low, condition.high]
        case e.Iota():
            dims = [node.index]
        case _:
            dims = []
    return {symbol.name for dim in dims for symbol in free_symbols(dim)}
