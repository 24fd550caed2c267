"""A contraction as a matrix multiplication: one row, one column and one reduce axis, batch axes around them.

`gemm_form` reads the roles of the axes from what the operands depend on, merges axes that are walked as one,
and finds where each operand lies: element (r, k) of a plain left operand is at
`base + r * outer + k * reduce`. Rows and columns that cannot be merged become batch axes; reduce axes that
cannot are computed with divisions.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from dlc.backends.cpu import access
from dlc.backends.cpu.templates.normalize import replace_axis
from dlc.backends.cpu.templates.template import Declined
from dlc.ir.dims import (
    Dim,
    FloorDiv,
    Mod,
    Symbol,
    free_symbols,
    known_equal,
    linear,
    operands,
    product,
    substitute as substitute_dim,
)
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import expr_dims, kernel_dims, loads, stage_dims
from dlc.lowering.kernel import Axis, AxisKind, Contract, Kernel, Map, Param, Stage, Store, StoreMode

#: Lanes of a vector; columns are cut at multiples of it.
LANES = 16
#: Columns up to which a product with a constant left operand is turned over.
FEW_COLUMNS = 8


@dataclasses.dataclass(frozen=True)
class Plain:
    """An operand that is read where it lies: element (x, k) at `base + x * outer + k * reduce`, in elements.

    `x` is the row (left operand) or the column (right one). `base` speaks of the batch axes.
    """

    param: Param
    base: Dim
    outer: Dim
    reduce: Dim


@dataclasses.dataclass(frozen=True)
class Operand:
    """One side of the product: its expression over the merged axes and where it lies.

    `place` is given for a load, also one that is widened; `plain` only where nothing has to be converted.
    """

    value: e.Expr
    place: Plain | None

    @property
    def plain(self) -> Plain | None:
        """The place of an operand that is a mere load."""
        return self.place if isinstance(self.value, e.Load) else None


@dataclasses.dataclass(frozen=True)
class Packed:
    """A constant right operand, rearranged at compile time: its place as a matrix (batch..., depth, columns).

    `axes` are the batch axes that it depends on and the original reduce and column axes, with their strides.
    """

    param: Param
    base: int
    batch: tuple[tuple[Axis, int], ...]
    reduce: tuple[tuple[Axis, int], ...]
    columns: tuple[tuple[Axis, int], ...]


@dataclasses.dataclass(frozen=True)
class GemmForm:
    """A kernel as out[batch..., row, column] = sum over depth of left * right, then stages at each element.

    `kernel` is the kernel over the merged axes; `original` the one that was matched, whose parameters it
    has. `local` names the sum. `split` is the extent of the runs of columns that the stages keep together
    where they take the column apart (a head of attention, say; a multiple of 16), else 0. `direct` is the
    place of the result where the only stage is a plain store of the sum and its columns are contiguous:
    element (row, column) at `base + row * outer + column`.
    """

    original: Kernel
    kernel: Kernel
    batch: tuple[Axis, ...]
    row: Axis
    column: Axis
    reduce: Axis
    dtype: DType
    local: str
    left: Operand
    right: Operand
    packed: Packed | None
    stages: tuple[Map | Store, ...]
    split: int
    direct: Plain | None


def gemm_form(kernel: Kernel) -> GemmForm | Declined:
    """`kernel` as a matrix multiplication, or why it is none that this family of templates takes."""
    original = kernel
    if not kernel.body or not isinstance(kernel.body[0], Contract):
        return Declined("the kernel does not start with a contraction")
    if kernel.body[0].spec.windows:
        return Declined("a convolution")
    if any(param.type.layout is not None for param in kernel.params):
        return Declined("a blocked layout")
    reason = check_stages(kernel)
    if reason is not None:
        return Declined(reason)
    kernel = without_unit_axes(kernel)
    contract = kernel.body[0]
    assert isinstance(contract, Contract)
    dtype = contract.out.dtype
    if dtype not in (DType.F32, DType.F64) or {contract.left.dtype, contract.right.dtype} != {dtype}:
        return Declined(f"a product of {contract.left.dtype.text} and {contract.right.dtype.text}")
    if turn_over(kernel, contract):
        contract = dataclasses.replace(contract, left=contract.right, right=contract.left)
        kernel = dataclasses.replace(kernel, body=(contract, *kernel.body[1:]))
    return merged_form(original, kernel, contract)


def check_stages(kernel: Kernel) -> str | None:
    """Why the stages after the contraction are no epilogue; None when they are."""
    contract, *rest = kernel.body
    assert isinstance(contract, Contract)
    axes = contract.out.axes
    written = {stage.param for stage in rest if isinstance(stage, Store)}
    for stage in rest:
        match stage:
            case Map(out, value):
                if out.axes != axes:
                    return "a stage over other axes follows"
                roots: tuple[e.Expr, ...] = (value,)
            case Store():
                if (
                    set(stage.axes) != set(axes)
                    or len(stage.axes) != len(axes)
                    or stage.mode is not StoreMode.SET
                ):
                    return "a store that is not one of each element"
                roots = (stage.value, *(entry for entry in stage.index if isinstance(entry, e.Expr)))
            case _:
                return f"a {type(stage).__name__} follows"
        identity = tuple(kernel.axis(axis).symbol for axis in axes)
        for node in e.walk(*roots):
            if isinstance(node, e.Read) and node.index != identity:
                return "a stage reads the product at other elements"
            if isinstance(node, e.Load) and node.param in written:
                return "a stage reads what another one stores"
    if any(isinstance(node, e.Read) for node in e.walk(contract.left, contract.right)):
        return "an operand is computed by another stage"
    return None


def without_unit_axes(kernel: Kernel) -> Kernel:
    """The kernel without the axes of extent 1."""
    for axis in kernel.axes:
        if axis.extent == 1:
            kernel = replace_axis(kernel, axis.name, 0, ())
    return kernel


def turn_over(kernel: Kernel, contract: Contract) -> bool:
    """Whether to exchange the operands: a matrix times a vector, or times few columns, is row-major work."""
    in_left, in_right = _axes_of(contract.left, kernel), _axes_of(contract.right, kernel)
    columns = [kernel.extent(name) for name in contract.out.axes if name in in_right - in_left]
    if not columns:
        return any(name in in_left - in_right for name in contract.out.axes)
    count = product(columns)
    constant = single_constant(kernel, contract.left) is not None
    return (
        constant
        and single_constant(kernel, contract.right) is None
        and isinstance(count, int)
        and count <= FEW_COLUMNS
    )


def _axes_of(value: e.Expr, kernel: Kernel) -> set[str]:
    used = {symbol.name for dim in expr_dims(value) for symbol in free_symbols(dim)}
    return used & {axis.name for axis in kernel.axes}


def merged_form(original: Kernel, kernel: Kernel, contract: Contract) -> GemmForm:
    """The form of `kernel`, whose first stage is `contract` and which has no axes of extent 1."""
    in_left, in_right = _axes_of(contract.left, kernel), _axes_of(contract.right, kernel)
    out = [kernel.axis(name) for name in contract.out.axes]
    reduce = [kernel.axis(name) for name in contract.spec.reduce]
    rows = [axis for axis in out if axis.name in in_left and axis.name not in in_right]
    columns = [axis for axis in out if axis.name in in_right and axis.name not in in_left]
    batch = [axis for axis in out if axis not in rows and axis not in columns]
    left_place, right_place = _place(kernel, contract.left), _place(kernel, contract.right)
    constant = single_constant(kernel, contract.right)
    rows, loose_rows = _chain(rows, left_place)
    columns, loose_columns = (columns, []) if constant else _chain(columns, right_place)
    batch += loose_rows + loose_columns
    reduce = _reduce_order(reduce, left_place, None if constant else right_place)
    packed = _packed(constant, right_place, batch, reduce, columns) if constant is not None else None
    direct = _direct(kernel, contract, rows, columns)
    left = _plain(kernel, contract.left, left_place, rows, reduce)
    right = _plain(kernel, contract.right, right_place, columns, reduce)
    kernel, row = merge(kernel, rows, "row", AxisKind.PARALLEL)
    kernel, column = merge(kernel, columns, "column", AxisKind.PARALLEL)
    kernel, depth = merge(kernel, reduce, "depth", AxisKind.REDUCE)
    merged = kernel.body[0]
    assert isinstance(merged, Contract)
    stages = tuple(stage for stage in kernel.body if isinstance(stage, Map | Store))
    return GemmForm(
        original,
        kernel,
        tuple(batch),
        row,
        column,
        depth,
        merged.out.dtype,
        merged.out.name,
        Operand(merged.left, left),
        Operand(merged.right, right),
        packed,
        stages,
        _column_split(stages, column),
        direct,
    )


# --- where an operand lies


def _place(kernel: Kernel, value: e.Expr) -> Dim | None:
    """The offset that a plain load, or a widened one, reads at; None for any other expression."""
    value = _narrow(value)
    if not isinstance(value, e.Load) or value.mask or any(isinstance(entry, e.Expr) for entry in value.index):
        return None
    dims = [entry for entry in value.index if not isinstance(entry, e.Expr)]
    return access.offset(kernel.param(value.param), dims)


def _narrow(value: e.Expr) -> e.Expr:
    """`value` without the conversion of a narrower float."""
    widened = isinstance(value, e.Cast) and value.operand.dtype.is_float and value.dtype.is_float
    return value.operand if isinstance(value, e.Cast) and widened else value


def single_constant(kernel: Kernel, value: e.Expr) -> Param | None:
    """The constant parameter of a load (perhaps widened) that nothing else in the kernel reads."""
    value = _narrow(value)
    if not isinstance(value, e.Load):
        return None
    param = kernel.param(value.param)
    read = sum(load.param == param.name for load in loads(kernel.body))
    return param if param.constant and read == 1 and param.strides is None else None


def _walks_as_one(place: Dim, outer: Axis, inner: Axis) -> bool:
    first, second = linear(place, outer.symbol), linear(place, inner.symbol)
    return first is not None and second is not None and known_equal(first[0], second[0] * inner.extent)


def _is_chain(place: Dim | None, axes: Sequence[Axis]) -> bool:
    """Whether an offset walks `axes`, outermost first, like one axis."""
    if place is None or any(linear(place, axis.symbol) is None for axis in axes):
        return False
    return all(_walks_as_one(place, outer, inner) for outer, inner in itertools.pairwise(axes))


def _chain(axes: list[Axis], place: Dim | None) -> tuple[list[Axis], list[Axis]]:
    """The axes that an offset walks as one, outermost first, and the others."""
    if place is None or len(axes) < 2:
        return axes, []
    best = axes[-1:]
    for innermost in reversed(axes):
        chain = [innermost]
        while True:
            longer = next((a for a in axes if a not in chain and _is_chain(place, [a, *chain])), None)
            if longer is None:
                break
            chain.insert(0, longer)
        if len(chain) > len(best):
            best = chain
    return best, [axis for axis in axes if axis not in best]


def _reduce_order(axes: list[Axis], left: Dim | None, right: Dim | None) -> list[Axis]:
    """An order in which both operands, else the left one, walk the reduce axes as one."""
    if len(axes) < 2 or len(axes) > 4:
        return axes
    orders = [list(order) for order in itertools.permutations(axes)]
    for wanted in ([p for p in (left, right) if p is not None], [left] if left is not None else []):
        for order in orders:
            if all(_is_chain(place, order) for place in wanted):
                return order
    return axes


def _direct(
    kernel: Kernel, contract: Contract, rows: Sequence[Axis], columns: Sequence[Axis]
) -> Plain | None:
    """The place of the sum where it is merely stored, with contiguous columns."""
    match kernel.body[1:]:
        case (Store(value=e.Read(), mask=()) as store,) if store.value.dtype is contract.out.dtype:
            pass
        case _:
            return None
    if any(isinstance(entry, e.Expr) for entry in store.index):
        return None
    load = e.Load(store.value.dtype, store.param, store.index)
    place = _plain(kernel, load, _place(kernel, load), rows, columns)
    return place if place is not None and place.reduce == 1 else None


def _plain(
    kernel: Kernel, value: e.Expr, place: Dim | None, outer: Sequence[Axis], reduce: Sequence[Axis]
) -> Plain | None:
    """Where a load, perhaps widened, lies over merged axes; None where its axes do not merge."""
    load = _narrow(value)
    if (
        not isinstance(load, e.Load)
        or place is None
        or not (_is_chain(place, outer) and _is_chain(place, reduce))
    ):
        return None
    zero: dict[str, Dim] = {axis.name: 0 for axis in (*outer, *reduce)}
    strides = []
    for axes in (outer, reduce):
        affine = linear(place, axes[-1].symbol) if axes else (0, 0)
        assert affine is not None
        if {symbol.name for symbol in free_symbols(affine[0])} & {axis.name for axis in kernel.axes}:
            return None
        strides.append(affine[0])
    return Plain(kernel.param(load.param), substitute_dim(place, zero), strides[0], strides[1])


def _packed(
    param: Param, place: Dim | None, batch: Sequence[Axis], reduce: Sequence[Axis], columns: Sequence[Axis]
) -> Packed | None:
    """The constant's strides along all axes; None where an extent or stride is no number."""
    if place is None:
        return None
    groups: list[tuple[tuple[Axis, int], ...]] = []
    rest = place
    for axes in (batch, reduce, columns):
        found: list[tuple[Axis, int]] = []
        for axis in axes:
            affine = linear(rest, axis.symbol)
            if affine is None:
                return None
            stride, rest = affine
            if not isinstance(stride, int):
                return None
            if stride == 0 and axes is batch:
                continue
            if not isinstance(axis.extent, int):
                return None
            found.append((axis, stride))
        groups.append(tuple(found))
    if not isinstance(rest, int):
        return None
    return Packed(param, rest, *groups)


# --- merging


def merge(kernel: Kernel, axes: Sequence[Axis], name: str, kind: AxisKind) -> tuple[Kernel, Axis]:
    """The kernel with `axes`, outermost first, as one axis `name` (of extent 1 if there are none)."""
    taken = {symbol.name for dim in kernel_dims(kernel) for symbol in free_symbols(dim)}
    while name in taken:
        name += "_"
    axis = Axis(name, product([a.extent for a in axes]), kind)
    inner: Dim = 1
    for position, old in reversed(list(enumerate(axes))):
        number = axis.symbol // inner
        kernel = replace_axis(kernel, old.name, number % old.extent if position else number, ())
        inner = inner * old.extent
    return dataclasses.replace(kernel, axes=(*kernel.axes, axis)), axis


def _column_split(stages: Iterable[Stage], column: Axis) -> int:
    """The length of the runs that all divisions of the column number leave together, if 16 divides it."""
    divisors: set[int] = set()
    for stage in stages:
        for dim in stage_dims(stage):
            for node in _walk_dim(dim):
                if isinstance(node, FloorDiv | Mod) and column.symbol in free_symbols(node):
                    if not isinstance(node.divisor, int):
                        return 0
                    divisors.add(node.divisor)
    if not divisors:
        return 0
    run = min(divisors)
    return run if run % LANES == 0 and all(divisor % run == 0 for divisor in divisors) else 0


def _walk_dim(dim: Dim) -> Iterable[Dim]:
    yield dim
    if not isinstance(dim, int | Symbol):
        for part in operands(dim):
            yield from _walk_dim(part)
