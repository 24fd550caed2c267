"""Matrix products and convolutions on tiles: rows and columns by the elements of a program, sums in its loop.

A convolution is a product whose left operand is read at windows: the same template takes it, as its indices
are those of the kernel (implicit GEMM). The epilogue, what follows the sum at the same points, is computed
before anything is stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.triton import tiles
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import roots
from dlc.lowering.kernel import Axis, Contract, Duplicates, Kernel, Map, Store, StoreMode
from dlc.target import GpuTarget

#: Programs that share columns follow each other in groups of so many rows of tiles, for the L2 cache.
GROUP = 8
#: Element types that matrix instructions take, and in which they sum.
_OPERANDS = {
    DType.F32: (DType.F16, DType.BF16, DType.F8E4M3FN, DType.F8E5M2),
    DType.I32: (DType.I8,),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """The contraction, its stores, its axes by role in the order of memory, and the maps by name."""

    contract: Contract
    stores: tuple[Store, ...]
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    reduce: tuple[Axis, ...]
    maps: dict[str, Map]


def match(part: Kernel) -> Form | Declined:
    """Takes one contraction first, then maps and plain stores at its points."""
    contract, *rest = part.body
    if not isinstance(contract, Contract):
        return Declined("it does not begin with a contraction")
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
        tuple(tiles.by_stride(part, first.param, first.index, axes))
        for axes in (spec.batch, spec.rows, spec.columns)
    )
    return Form(contract, tuple(stores), batch, rows, columns, _inner_last(part, contract), maps)


def _inner_last(part: Kernel, contract: Contract) -> tuple[Axis, ...]:
    """The reduced axes, last the one along which the left operand lies side by side."""
    names = contract.spec.reduce
    for node in e.walk(contract.left):
        if isinstance(node, e.Load):
            return tuple(tiles.by_stride(part, node.param, node.index, names))
    return tuple(map(part.axis, names))


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a tile of rows and columns, and point of the batch."""
    return _Contraction(part, form).run()


@dataclasses.dataclass(frozen=True)
class Config:
    """The block sizes of a tile, and how it is run."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def choose(form: Form, operand: DType) -> Config:
    """The configuration for a contraction: tiles that fit the product and the registers of a program."""
    rows, columns, depth = (tiles.extent_of(axes) for axes in (form.rows, form.columns, form.reduce))
    wide = operand.bits >= 32
    most_rows, most_columns, most_depth = (64, 64, 32) if wide else (128, 128, 64)
    return Config(
        tiles.fitting(rows, 16, most_rows),
        tiles.fitting(columns, 16, most_columns),
        tiles.fitting(depth, 16, most_depth),
        4,
        2 if wide else 3,
    )


class _Contraction:
    def __init__(self, part: Kernel, form: Form) -> None:
        self.form = form
        self.builder = FunctionBuilder(part)
        self.out = form.contract.out
        self.left, self.right, self.operand = narrowed(form.contract)
        self.config = choose(form, self.operand)
        self.depth = tiles.extent_of(form.reduce)

    def run(self) -> Call:
        builder, form, config = self.builder, self.form, self.config
        self._program()
        builder.line(f"row = (tile_row * {config.rows} + tl.arange(0, {config.rows}))[:, None]")
        rows = tiles.tile(builder, "row", form.rows, config.rows)
        builder.line(f"column = (tile_column * {config.columns} + tl.arange(0, {config.columns}))[None, :]")
        columns = tiles.tile(builder, "column", form.columns, config.columns)
        kind = register_type(self.out.dtype)
        builder.line(f"acc = tl.full(({config.rows}, {config.columns}), 0, {kind})")
        outer = Emitter(builder, Points((rows, columns)), maps=form.maps)
        if self._has_instruction:
            self._multiply_tiles(outer)
        else:
            self._multiply_points(outer)
        outer.locals[self.out.name] = "acc"
        for store in form.stores:
            outer.store(store)
        count = tiles.blocks(tiles.extent_of(form.rows), config.rows)
        count = count * tiles.blocks(tiles.extent_of(form.columns), config.columns)
        grid = (count, tiles.extent_of(form.batch)) if form.batch else (count,)
        return builder.finish("contraction", grid, num_warps=config.warps, num_stages=config.stages)

    @property
    def _has_instruction(self) -> bool:
        """Whether tiles can be multiplied as a whole: else they are point by point."""
        return self.out.dtype is DType.F32 or self.operand is DType.I8

    def _program(self) -> None:
        """Write the tile of this program: groups of rows share columns while these are in the cache."""
        builder, form, config = self.builder, self.form, self.config
        many_rows = builder.dim(tiles.blocks(tiles.extent_of(form.rows), config.rows))
        many_columns = builder.dim(tiles.blocks(tiles.extent_of(form.columns), config.columns))
        builder.line(f"program = {tiles.program_id(builder, 0)}")
        builder.line(f"group = program // ({GROUP} * ({many_columns}))")
        builder.line(f"height = tl.minimum({many_rows} - group * {GROUP}, {GROUP})")
        builder.line(f"within = program % ({GROUP} * ({many_columns}))")
        builder.line(f"tile_row = group * {GROUP} + within % height")
        builder.line("tile_column = within // height")
        if form.batch:
            builder.line(f"batch = {tiles.program_id(builder, 1)}")
            tiles.take_apart(builder, "batch", form.batch)

    # --- sums

    def _multiply_tiles(self, outer: Emitter) -> None:
        """Write the loop over tiles of the reduced axes.

        Where the innermost axis fills a tile it alone is walked in blocks, and the others are numbers.
        """
        builder, config = self.builder, self.config
        *others, inner = self.form.reduce or (None,)
        is_split = inner is not None and isinstance(inner.extent, int) and inner.extent < config.depth
        if inner is None or is_split or not others:
            steps = f"range(0, {builder.dim(self.depth)}, {config.depth})"
            with builder.block(f"for start in {steps}:"):
                self._step(outer, "start", self.form.reduce)
            return
        many = tiles.blocks(inner.extent, config.depth)
        count = tiles.extent_of(others) * many
        with builder.block(f"for step in range(0, {builder.dim(count)}):"):
            text = builder.dim(many)
            if many == 1:
                tiles.take_apart(builder, "step", others)
                start = "0"
            else:
                builder.line(f"outer = step // ({text})")
                tiles.take_apart(builder, "outer", others)
                start = builder.assign("start", f"step % ({text}) * {config.depth}")
            self._step(outer, start, (inner,))

    def _step(self, outer: Emitter, start: str, axes: Sequence[Axis]) -> None:
        """Write the product of one tile of each operand, added to the sums."""
        left = self._operand(outer, self.left, start, axes, "[None, :]", "left")
        right = self._operand(outer, self.right, start, axes, "[:, None]", "right")
        kind = register_type(self.out.dtype)
        precision = ', input_precision="ieee"' if self.operand is DType.F32 else ""
        self.builder.line(f"acc = tl.dot({left}, {right}, acc{precision}, out_dtype={kind})")

    def _operand(
        self,
        outer: Emitter,
        value: e.Expr,
        start: str,
        axes: Sequence[Axis],
        shape: str,
        name: str,
    ) -> str:
        """Write a tile of an operand: 0 where it has no point."""
        builder, config = self.builder, self.config
        first = f"{start} + " if start != "0" else ""
        builder.line(f"depth = ({first}tl.arange(0, {config.depth})){shape}")
        depth = tiles.tile(builder, "depth", axes, config.depth)
        emitter = Emitter(builder, Points((*outer.points.tiles, depth)), outer.locals, self.form.maps)
        text = emitter.value(value)
        tile = (config.rows, config.depth) if name == "left" else (config.depth, config.columns)
        kind = register_type(self.operand)
        text = f"tl.broadcast_to(tl.cast({text}, {kind}), {tile})"
        if depth.bound is not None and not isinstance(value, e.Load):
            text = f"tl.where({depth.bound}, {text}, tl.cast(0, {kind}))"
        builder.line(f"{name} = {text}")
        return name

    def _multiply_points(self, outer: Emitter) -> None:
        """Write the loop over points of the reduced axes, for types without matrix instructions."""
        builder, form = self.builder, self.form
        with builder.block(f"for step in range(0, {builder.dim(self.depth)}):"):
            tiles.take_apart(builder, "step", form.reduce)
            emitter = Emitter(builder, outer.points, outer.locals, form.maps)
            left, right = emitter.value(form.contract.left), emitter.value(form.contract.right)
            builder.line(f"acc += ({left}) * ({right})")


def narrowed(contract: Contract) -> tuple[e.Expr, e.Expr, DType]:
    """The operands without the conversions that matrix instructions make themselves, and their type."""
    left, right = contract.left, contract.right
    for narrow in _OPERANDS.get(contract.out.dtype, ()):
        match left, right:
            case e.Cast(_, inner, _), e.Cast(_, other, _) if inner.dtype is other.dtype is narrow:
                return inner, other, narrow
    return left, right, contract.out.dtype
