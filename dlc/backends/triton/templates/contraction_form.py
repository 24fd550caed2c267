"""What a template reads from one contraction and what follows it at the same points."""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.accesses import Access, operand_access
from dlc.backends.triton.templates.integer_digits import DEEPEST, digits, pairs
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Dim, bounds, free_symbols, product
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import expr_dims, roots
from dlc.lowering.kernel import Axis, Contract, Duplicates, Kernel, Map, Store, StoreMode

#: The least depth of a matrix instruction: an axis as long as that is walked alone, not mixed with others.
LEAST_DEPTH = 16
#: The least rows and columns of a matrix instruction.
LEAST_POINTS = 16
#: Element types that matrix instructions take, and in which they sum.
_OPERANDS = {
    DType.F32: (DType.F16, DType.BF16, DType.F8E4M3FN, DType.F8E5M2),
    DType.I32: (DType.I8,),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """The contraction, its stores, its axes by role in the order of memory, and the maps by name.

    `left` and `right` are the operands without the conversions that matrix instructions make themselves,
    both of type `operand`; integers of 32 bits are multiplied by so many `digits` (`integer_digits`).
    `has_instruction` says whether tiles of these types are multiplied as a whole. Of the reduced axes `outer`
    are numbers in each step, `inner` are walked in blocks within a number of those.
    """

    contract: Contract
    stores: tuple[Store, ...]
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    outer: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    maps: dict[str, Map]
    left: e.Expr
    right: e.Expr
    operand: DType
    left_access: Access
    right_access: Access
    digits: tuple[int, int]
    has_instruction: bool

    @property
    def unit(self) -> DType:
        """The type whose matrices are multiplied: i8 for integers, whose digits that are."""
        return DType.I8 if self.operand is DType.I32 else self.operand

    @property
    def dots(self) -> int:
        """The products of matrices that a step takes."""
        return len(pairs(*self.digits))

    @property
    def accumulators(self) -> int:
        """The sums that are kept apart: one for each power of the base."""
        return len({i + j for i, j in pairs(*self.digits)})

    @property
    def reduce(self) -> tuple[Axis, ...]:
        """All reduced axes."""
        return (*self.outer, *self.inner)

    @property
    def few(self) -> int | None:
        """The points of the smaller side, if a side is known to have fewer than a tile has."""
        extents = [tiles.extent_of(axes) for axes in (self.rows, self.columns)]
        known = [extent for extent in extents if isinstance(extent, int) and extent < LEAST_POINTS]
        return min(known, default=None)

    @property
    def points(self) -> Dim:
        """The number of points of the result."""
        return product(axis.extent for axis in (*self.batch, *self.rows, *self.columns))


def match(part: Kernel) -> Form | Declined:
    """Takes one contraction, then plain stores at its points, and maps."""
    found = [stage for stage in part.body if isinstance(stage, Contract)]
    if len(found) != 1:
        return Declined(f"it has {len(found)} contractions")
    contract = _without_maps(part, found[0])
    rest = [stage for stage in part.body if not isinstance(stage, Contract)]
    spec = contract.spec
    points = {*spec.batch, *spec.rows, *spec.columns}
    stores: list[Store] = []
    maps: dict[str, Map] = {}
    for stage in rest:
        match stage:
            case Map(out, _):
                maps[out.name] = stage
            case Store(mode=StoreMode.SET, duplicates=Duplicates.FORBIDDEN):
                if set(stage.axes) != points:
                    return Declined(f"the store to {stage.param} walks other axes")
                stores.append(stage)
            case _:
                return Declined(f"a {type(stage).__name__} is no epilogue")
    if not stores:
        return Declined("there is nothing to store")
    identity = tuple(part.axis(axis).symbol for axis in contract.out.axes)
    for stage in rest:
        for node in e.walk(*roots(stage)):
            match node:
                case e.Read(local=contract.out.name, index=index, mask=mask) if mask or index != identity:
                    return Declined("the product is read at another point than where it is computed")
    first = stores[0]
    batch, rows, columns = (
        tuple(tiles.by_stride(part, first.param, first.index, axes)) for axes in _roles(contract)
    )
    outer, inner = _steps(_reduce_order(part, contract))
    left, right, operand = _narrowed(contract)
    accesses = [operand_access(part, left, rows, inner), operand_access(part, right, columns, inner)]
    count = (1, 1)
    has_instruction = operand is DType.I8 or contract.out.dtype is DType.F32
    if operand is DType.I32:
        count = (digits(left), digits(right))
        depth = bounds(tiles.extent_of((*outer, *inner)))[1]
        has_instruction = depth is not None and depth < DEEPEST
        accesses = [dataclasses.replace(access, is_async=False) for access in accesses]
    return Form(
        contract,
        tuple(stores),
        batch,
        rows,
        columns,
        outer,
        inner,
        maps,
        left,
        right,
        operand,
        accesses[0],
        accesses[1],
        count,
        has_instruction,
    )


def _without_maps(part: Kernel, contract: Contract) -> Contract:
    """The contraction with maps computed where its operands read them."""
    maps = {stage.out.name: stage for stage in part.body if isinstance(stage, Map)}

    def leaf(node: e.Expr) -> e.Expr | None:
        if not isinstance(node, e.Read) or node.mask or node.local not in maps:
            return None
        stage = maps[node.local]
        value = e.substitute(stage.value, dict(zip(stage.out.axes, node.index, strict=True)))
        return e.rewrite(value, leaf)

    left, right = e.rewrite(contract.left, leaf), e.rewrite(contract.right, leaf)
    return dataclasses.replace(contract, left=left, right=right)


def _steps(reduce: tuple[Axis, ...]) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The reduced axes that are numbers in each step, and those within: the last if it fills a step."""
    if not reduce or (isinstance(reduce[-1].extent, int) and reduce[-1].extent < LEAST_DEPTH):
        return (), reduce
    return reduce[:-1], reduce[-1:]


def _roles(contract: Contract) -> tuple[list[str], list[str], list[str]]:
    """The axes of batch, rows and columns: one of the batch that only one operand knows is one of its side's.

    A product of [batch, m, k] and weights [k, n] has batch * m rows, which share what is read of the weights.
    """
    spec = contract.spec
    left, right = (
        {symbol.name for dim in expr_dims(side) for symbol in free_symbols(dim)}
        for side in (contract.left, contract.right)
    )
    rows = [name for name in spec.batch if name in left - right]
    columns = [name for name in spec.batch if name in right - left]
    batch = [name for name in spec.batch if name not in (*rows, *columns)]
    return batch, [*rows, *spec.rows], [*columns, *spec.columns]


def _reduce_order(part: Kernel, contract: Contract) -> tuple[Axis, ...]:
    """The reduced axes, last the one that steps go along.

    In a convolution that is the channels: a tap shifts a whole tile, whose borders are then conditions on
    rows alone. Where these are few all axes are walked as one, in the order in which the weights lie side by
    side; so are those of a product, in the order of its left operand.
    """
    spec = contract.spec
    taps = {window.tap for window in spec.windows}
    channels = [name for name in spec.reduce if name not in taps]
    count = tiles.extent_of([part.axis(name) for name in channels])
    few = isinstance(count, int) and count < LEAST_DEPTH
    names = _in_memory(part, contract.right if taps and few else contract.left, spec.reduce)
    if not taps or few:
        return tuple(part.axis(name) for name in names)
    ordered = [name for name in names if name in taps] + [name for name in names if name not in taps]
    return tuple(part.axis(name) for name in ordered)


def _in_memory(part: Kernel, operand: e.Expr, names: tuple[str, ...]) -> list[str]:
    """The axes in the order in which an operand's first load moves farthest along them."""
    for node in e.walk(operand):
        if isinstance(node, e.Load):
            return [axis.name for axis in tiles.by_stride(part, node.param, node.index, names)]
    return list(names)


def _narrowed(contract: Contract) -> tuple[e.Expr, e.Expr, DType]:
    """The operands without the conversions that matrix instructions make themselves, and their type."""
    left, right = contract.left, contract.right
    for narrow in _OPERANDS.get(contract.out.dtype, ()):
        match left, right:
            case e.Cast(_, inner, _), e.Cast(_, other, _) if inner.dtype is other.dtype is narrow:
                return inner, other, narrow
    return left, right, contract.out.dtype
