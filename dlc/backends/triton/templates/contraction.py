"""Matrix products and convolutions on tiles: rows and columns by the elements of a program, sums in its loop.

A convolution is a product whose left operand is read at windows: the same template takes it, as its indices
are those of the kernel (implicit GEMM). The epilogue, what follows the sum at the same points, is computed
before anything is stored.
"""

from __future__ import annotations

from dlc.backends.triton import tiles
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.semantics import cast
from dlc.backends.triton.templates import contraction_form, pointwise
from dlc.backends.triton.templates.configurations import Config, candidates
from dlc.backends.triton.templates.contraction_form import Form
from dlc.backends.triton.templates.contraction_loop import steps
from dlc.backends.triton.templates.contraction_split import split
from dlc.backends.triton.templates.integer_digits import pairs
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

#: Programs that share columns follow each other in groups of so many rows of tiles, for the L2 cache.
GROUP = 8
#: Matrix instructions for 8-bit floats sum with fewer bits than f32 has: over so many products at most.
IMPRECISE = 128
_EIGHT_BITS = (DType.F8E4M3FN, DType.F8E5M2)

__all__ = ["Config", "Form", "candidates", "emit", "match"]


def match(part: Kernel) -> Form | Declined:
    """Takes one contraction, and maps and plain stores at its points."""
    form = contraction_form.match(part)
    if isinstance(form, Form) and form.few is not None and not form.has_instruction:
        return Declined("tiles of few points pay with matrix instructions only")
    return form


def emit(
    part: Kernel, form: Form, target: GpuTarget, config: Config | None = None
) -> Call | Launches:
    """One program a tile of rows and columns, point of the batch, and part of the depth.

    By default in the best configuration. A divided depth takes a second launch.
    """
    config = config or candidates(form, target)[0]
    if config.chunks == 1:
        return _Contraction(part, form, target, config).run()
    halves = split(part, form, config.chunks)
    first, second = contraction_form.match(halves.sums), pointwise.match(halves.rest)
    assert isinstance(first, Form) and isinstance(second, pointwise.Form)
    sums = _Contraction(halves.sums, first, target, config).run()
    return Launches((sums, pointwise.emit(halves.rest, second, target)), (halves.workspace,))


class _Contraction:
    def __init__(self, part: Kernel, form: Form, target: GpuTarget, config: Config) -> None:
        self.form = form
        self.config = config
        self.has_units = target.multiplies(form.operand.text)
        self.f32_products = target.f32_products if target.multiplies("f32") else "ieee"
        self.builder = FunctionBuilder(part)
        self.out = form.contract.out
        self.many_rows = tiles.blocks(tiles.extent_of(form.rows), config.rows)
        self.many_columns = tiles.blocks(tiles.extent_of(form.columns), config.columns)
        self.tiles = self.many_rows * self.many_columns

    def run(self) -> Call:
        builder, form, config = self.builder, self.form, self.config
        self._program()
        builder.line(f"row = (tile_row * {config.rows} + tl.arange(0, {config.rows}))[:, None]")
        rows = tiles.tile(builder, "row", form.rows, config.rows)
        builder.line(f"column = (tile_column * {config.columns} + tl.arange(0, {config.columns}))[None, :]")
        columns = tiles.tile(builder, "column", form.columns, config.columns)
        kind = register_type(self.out.dtype)
        self.sums = ["acc", *(f"acc{power}" for power in range(1, form.accumulators))]
        for name in self.sums:
            builder.line(f"{name} = tl.full(({config.rows}, {config.columns}), 0, {kind})")
        outer = Emitter(builder, Points((rows, columns)), maps=form.maps)
        if form.has_instruction:
            self._multiply_tiles(outer)
        else:
            self._multiply_points(outer)
        for power, name in enumerate(self.sums[1:], 1):
            builder.line(f"acc += {name} << {8 * power}")
        outer.locals[self.out.name] = "acc"
        for store in form.stores:
            outer.store(store)
        grid = (self.tiles * tiles.extent_of(form.batch),)
        return builder.finish("contraction", grid, num_warps=config.warps, num_stages=config.stages)

    def _program(self) -> None:
        """Write the tile of this program: groups of rows share columns while these are in the cache."""
        builder, form = self.builder, self.form
        many_rows = builder.dim(self.many_rows)
        many_columns = builder.dim(self.many_columns)
        builder.line(f"program = {tiles.program_id(builder, 0)}")
        if form.batch:
            count = builder.dim(self.tiles)
            builder.line(f"batch = program // ({count})")
            tiles.take_apart(builder, "batch", form.batch)
            builder.line(f"program = program % ({count})")
        builder.line(f"group = program // ({GROUP} * ({many_columns}))")
        builder.line(f"height = tl.minimum({many_rows} - group * {GROUP}, {GROUP})")
        builder.line(f"within = program % ({GROUP} * ({many_columns}))")
        builder.line(f"tile_row = group * {GROUP} + within % height")
        builder.line("tile_column = within // height")

    # --- sums

    def _multiply_tiles(self, outer: Emitter) -> None:
        """Write the loop over blocks of the reduced axes."""
        form = self.form
        with steps(self.builder, form.outer, form.inner, self.config.depth) as start:
            self._step(outer, start)

    def _step(self, outer: Emitter, start: str) -> None:
        """Write the product of one tile of each operand, added to the sums."""
        form, builder = self.form, self.builder
        left = self._operand(outer, form.left, start, "[None, :]", "left")
        right = self._operand(outer, form.right, start, "[:, None]", "right")
        kind = register_type(self.out.dtype)
        if form.operand is DType.I32:
            lefts, rights = self._digits(left, form.digits[0]), self._digits(right, form.digits[1])
            for i, j in pairs(*form.digits):
                acc = self.sums[i + j]
                builder.line(f"{acc} = tl.dot({lefts[i]}, {rights[j]}, {acc}, out_dtype={kind})")
            return
        how = ""
        if form.operand is DType.F32:
            how = f', input_precision="{self.f32_products}"'
        elif form.operand in _EIGHT_BITS:
            how = f", max_num_imprecise_acc={IMPRECISE}"
        builder.line(f"acc = tl.dot({left}, {right}, acc{how}, out_dtype={kind})")

    def _digits(self, number: str, count: int) -> list[str]:
        """Write the digits of a tile of integers, the lowest first."""
        builder = self.builder
        found = []
        for place in range(count):
            found.append(builder.assign("digit", f"{number}.to(tl.int8)"))
            if place + 1 < count:
                number = builder.assign("rest", f"({number} - {found[-1]}.to(tl.int32)) >> 8")
        return found

    def _operand(self, outer: Emitter, value: e.Expr, start: str, shape: str, name: str) -> str:
        """Write a tile of an operand: 0 where it has no point."""
        builder, config = self.builder, self.config
        first = f"{start} + " if start != "0" else ""
        builder.line(f"depth = ({first}tl.arange(0, {config.depth})){shape}")
        depth = tiles.tile(builder, "depth", self.form.inner, config.depth)
        emitter = Emitter(builder, Points((*outer.points.tiles, depth)), outer.locals, self.form.maps)
        text = emitter.value(value)
        tile = (config.rows, config.depth) if name == "left" else (config.depth, config.columns)
        operand = self.form.operand
        if operand is DType.F8E5M2 and not self.has_units:
            # Its numbers are some of f16's.
            operand = DType.F16
            text = cast(DType.F8E5M2, DType.F32, e.CastMode.WRAP, text)
        kind = register_type(operand)
        text = f"tl.broadcast_to(tl.cast({text}, {kind}), {tile})"
        if depth.bound is not None and not isinstance(value, e.Load):
            text = f"tl.where({depth.bound}, {text}, tl.cast(0, {kind}))"
        builder.line(f"{name} = {text}")
        return name

    def _multiply_points(self, outer: Emitter) -> None:
        """Write the loop over points of the reduced axes, for types without matrix instructions."""
        builder, form = self.builder, self.form
        count = builder.dim(tiles.extent_of(form.reduce))
        with builder.block(f"for step in range(0, {count}):"):
            tiles.take_apart(builder, "step", form.reduce)
            emitter = Emitter(builder, outer.points, outer.locals, form.maps)
            left, right = emitter.value(form.contract.left), emitter.value(form.contract.right)
            builder.line(f"acc += ({left}) * ({right})")

