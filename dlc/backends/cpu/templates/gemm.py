"""Matrix multiplication with an epilogue: constant weights packed at compile time, the rest at run time.

For one batch and block of rows, panel by panel: the sums of the panel's columns grow block by block of the
depth in scratch memory, then the stages after the product read them, 16 columns at a time. A result that is
merely stored grows where it is stored.

All groups of rows use a block of a panel while it is in the cache, and each fetches its share of the next
one, so that weights stream from memory behind the multiplications.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.access import register_type, storage_type
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame, Packing
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.gemm_dot import DotArguments, call_dots
from dlc.backends.cpu.templates.gemm_form import LANES, GemmForm, Packed, gemm_form
from dlc.backends.cpu.templates.gemm_pack import Block, PanelPacker, evaluate_rows, pack_constant
from dlc.backends.cpu.templates.gemm_plan import GemmPlan, Tile, plan_gemm
from dlc.backends.cpu.templates.gemm_tile import Multiplication, TileArguments, TileKernel, call_tile
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, Symbol, ceildiv, product, substitute as substitute_dim
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import map_stage
from dlc.lowering.kernel import Kernel, Map, Store

#: Multiply-adds below which the general template's loops are as good and smaller.
SMALL = 2048
#: Rows from which packing a matrix that could be read in place pays.
PACK_ROWS = 32
#: How far ahead weights are fetched where one group of rows is all there is.
FETCH_BYTES = 4096


def match(kernel: Kernel, module: Module) -> Match[GemmPlan] | Declined:
    """Whether `kernel` is a product, then stages at each of its elements."""
    form = gemm_form(kernel)
    if isinstance(form, Declined):
        return form
    size = product([axis.extent for axis in (*form.batch, form.row, form.column, form.reduce)])
    if isinstance(size, int) and size <= SMALL:
        return Declined("too small to be worth tiles")
    return Match(plan_gemm(form, module.target))


def emit(module: Module, name: str, match: Match[GemmPlan]) -> CompiledKernel:
    """Write the function of a matched kernel."""
    return GemmEmission(module, name, match.form).emit()


@dataclasses.dataclass(frozen=True)
class Rows:
    """The left operand of a block of rows: element (r, k) at `pointer + r * row + k * depth`."""

    pointer: t.Value
    row: t.Index
    depth: t.Index
    count: t.Value


@dataclasses.dataclass(frozen=True)
class _Panel:
    """A block of a panel: `count` times `width` columns from `pointer`, `stride` elements apart.

    `first` tells whether it is the first block of the depth; `follows`, that the next one lies behind it.
    """

    pointer: t.Value
    stride: t.Index
    element: DType
    start: t.Value
    count: t.Value
    first: t.Value
    follows: bool


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Where the sums of a block of rows and a panel grow: rows `row` elements apart from `pointer`."""

    pointer: t.Value
    row: t.Index


class GemmEmission:
    """The emission of one product. Templates of other products override how elements are multiplied."""

    template = "gemm"
    multiplication = Multiplication.FMA

    def __init__(self, module: Module, name: str, plan: GemmPlan) -> None:
        self.plan = plan
        self.form: GemmForm = plan.form
        self.frame = KernelFrame(module, name, self.form.original, [plan.units, plan.chunks])
        self.b, self.em = self.frame.b, self.frame.emitter
        self.element = register_type(self.form.dtype)
        self.vector = t.vector(LANES, self.element)
        self.packer = PanelPacker(self.em, self.form.column, self.form.reduce, plan.width, self.element)
        self.left_stride = ceildiv(self.form.reduce.extent, LANES) * LANES
        self._lay_out_scratch()
        self.stages, self.lane_axis = _lane_stages(self.form)

    def _lay_out_scratch(self) -> None:
        """Sums of a block of rows, then a packed block of a panel, then computed rows of the left operand."""
        plan, frame = self.plan, self.frame
        panel_rows = -(-plan.depth_block // LANES) * LANES
        panel_at = plan.row_block * plan.width * plan.element_bytes
        rows_at = panel_at + (0 if self.form.packed else panel_rows * plan.width * plan.element_bytes)
        self.scratch: Dim = rows_at
        if not plan.left_in_place:
            self.scratch = rows_at + plan.row_block * self.left_stride * plan.element_bytes
        self.sums = frame.scratch
        self.panel_scratch = self.b.byte_offset(frame.scratch, panel_at)
        self.rows_scratch = self.b.byte_offset(frame.scratch, rows_at)

    def emit(self) -> CompiledKernel:
        b, em, plan = self.b, self.em, self.plan
        units, chunks = em.dim(plan.units), em.dim(plan.chunks)
        low = b.udiv(b.mul(self.frame.chunk, units), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), units), chunks)
        with b.loop(low, high, name="unit") as loop:
            self._unit(b.value(loop.iv))
        packing: dict[str, Packing] = {}
        if self.form.packed is not None:
            packing[self.form.packed.param.name] = self._packing(self.form.packed)
        return self.frame.finish(self.template, plan.chunks, self.scratch, packing)

    def _packing(self, packed: Packed) -> Packing:
        """What rearranges the constant operand."""
        return functools.partial(pack_constant, packed, self.plan.width)

    def _unit(self, unit: t.Value) -> None:
        """One batch, one block of rows, one group of panels."""
        b, em, plan = self.b, self.em, self.plan
        groups, blocks, panels = em.dim(plan.groups), em.dim(plan.row_blocks), em.dim(plan.panels)
        group, rest = b.urem(unit, groups), b.udiv(unit, groups)
        block, batch = b.urem(rest, blocks), b.udiv(rest, blocks)
        for axis in reversed(self.form.batch):
            extent = em.dim(axis.extent)
            em.axes[axis.name] = b.value(b.urem(batch, extent) if axis is not self.form.batch[0] else batch)
            batch = b.udiv(batch, extent)
        first = b.value(b.mul(block, plan.row_block))
        count = b.value(b.smin(b.sub(em.dim(self.form.row.extent), first), plan.row_block))
        if isinstance(self.form.row.extent, int) and plan.row_blocks == 1:
            count = b.value(self.form.row.extent)
        rows = self._rows(first, count)
        low = b.udiv(b.mul(group, panels), groups)
        high = b.udiv(b.mul(b.add(group, 1), panels), groups)
        with b.loop(low, high, name="panel") as loop:
            self._panel(b.value(loop.iv), first, rows)

    def _operand(self, dim: Dim) -> t.Index:
        return dim if isinstance(dim, int) else self.em.dim(dim)

    def _rows(self, first: t.Value, count: t.Value) -> Rows:
        """The left operand of the rows from `first`, where it lies or computed into scratch memory."""
        b, em, left = self.b, self.em, self.form.left
        if left.plain is None or not self.plan.left_in_place:
            evaluate_rows(
                em,
                left.value,
                self.form.row,
                self.form.reduce,
                first,
                count,
                self.left_stride,
                self.rows_scratch,
                self.element,
            )
            return Rows(self.rows_scratch, self._operand(self.left_stride), 1, count)
        plain = left.plain
        row = self._operand(plain.outer)
        base = b.offset(self.frame.pointers[plain.param.name], em.dim(plain.base), self.element)
        return Rows(b.offset(base, b.mul(first, row), self.element), row, self._operand(plain.reduce), count)

    # --- one panel

    def _panel(self, panel: t.Value, first_row: t.Value, rows: Rows) -> None:
        b, em, plan = self.b, self.em, self.plan
        column = b.value(b.mul(panel, plan.width))
        if plan.dots:
            self._dots(column, rows)
            self._finish_panel(column, first_row, rows.count)
            return
        depth = self._operand(self.form.reduce.extent)
        with b.loop(0, self._operand(plan.depth_blocks), name="depth", nonempty=True) as loop:
            start = b.value(b.mul(loop.iv, plan.depth_block))
            count = b.value(b.smin(b.sub(depth, start), plan.depth_block))
            if isinstance(depth, int) and depth and depth % plan.depth_block == 0:
                count = b.value(plan.depth_block)
            block = Block(column, start, count)
            pointer, stride, element = self._right(panel, block, rows)
            first = b.icmp("eq", b.value(loop.iv), 0)
            follows = self.form.packed is not None
            self._vectors(
                column, first_row, rows, _Panel(pointer, stride, element, start, count, first, follows)
            )
        if self.form.direct is None:
            self._finish_panel(column, first_row, rows.count)
        elif not self._aligned:
            incomplete = b.icmp("slt", b.sub(em.dim(self.form.column.extent), column), plan.width)
            with b.if_(incomplete, name="finish"):
                self._finish_panel(column, first_row, rows.count)

    def _dots(self, column: t.Value, rows: Rows) -> None:
        """The sums of a panel as dot products along the depth."""
        b, em, plan, right = self.b, self.em, self.plan, self.form.right.plain
        assert right is not None
        stride = self._operand(right.outer)
        base = b.offset(self.frame.pointers[right.param.name], em.dim(right.base), self.element)
        first = b.offset(base, b.mul(column, stride), self.element)
        columns = b.smin(b.sub(em.dim(self.form.column.extent), column), plan.width)
        with b.loop(0, rows.count, name="row") as row:
            left = b.offset(rows.pointer, b.mul(row.iv, rows.row), self.element)
            sums = b.offset(self.sums, b.mul(row.iv, plan.width), self.element)
            depth = self._operand(self.form.reduce.extent)
            call_dots(b, self.form.dtype, DotArguments(left, first, stride, depth, columns, sums))

    def _right(self, panel: t.Value, block: Block, rows: Rows) -> tuple[t.Value, t.Index, DType]:
        """A block of the right operand: its pointer, the stride along the depth, the type of its elements."""
        form = self.form
        if form.packed is not None:
            return self._packed_block(form.packed, panel, block)
        plain, place = form.right.plain, form.right.place
        if plain is not None and plain.outer == 1:
            return (*self._in_place_or_packed(block, rows), form.dtype)
        if place is not None and place.reduce == 1:
            source = self.frame.pointers[place.param.name]
            self.packer.transpose(source, place, block, self.panel_scratch, form.dtype)
        else:
            self.packer.evaluate(form.right.value, block, self.panel_scratch)
        return self.panel_scratch, self.plan.width, form.dtype

    def _packed_block(self, packed: Packed, panel: t.Value, block: Block) -> tuple[t.Value, t.Index, DType]:
        """As `_right`, of a constant that was packed at compile time."""
        b, em, width = self.b, self.em, self.plan.width
        dtype = packed.param.type.dtype
        panels = b.add(b.mul(self._matrix(packed), em.dim(self.plan.panels)), panel)
        place = b.add(b.mul(panels, em.dim(self.form.reduce.extent)), block.start)
        pointer = self.frame.pointers[packed.param.name]
        return b.offset(pointer, b.mul(place, width), storage_type(dtype)), width, dtype

    def _matrix(self, packed: Packed) -> t.Index:
        """The number of the current batch's matrix in a packed constant."""
        b, em = self.b, self.em
        matrix: t.Index = 0
        for axis, _ in packed.batch:
            matrix = b.add(b.mul(matrix, em.dim(axis.extent)), b.value(em.axes[axis.name]))
        return matrix

    def _in_place_or_packed(self, block: Block, rows: Rows) -> tuple[t.Value, t.Index]:
        """Contiguous columns are read where they lie if the panel is whole and few rows read it."""
        b, em, plan, plain = self.b, self.em, self.plan, self.form.right.plain
        assert plain is not None
        stride = em.dim(plain.reduce)
        whole = b.icmp("sle", b.add(block.column, plan.width), em.dim(self.form.column.extent))
        if isinstance(self.form.column.extent, int) and self.form.column.extent % plan.width == 0:
            whole = b.const(t.i1, 1)
        few = b.icmp("slt", rows.count, PACK_ROWS)
        with b.if_else(b.value(b.and_(whole, few), t.i1), name="place") as both:
            with both.then:
                base = b.offset(self.frame.pointers[plain.param.name], em.dim(plain.base), self.element)
                place = b.add(b.mul(block.start, stride), block.column)
                both.then.yields = (b.offset(base, place, self.element), stride)
            with both.otherwise:
                self.packer.evaluate(self.form.right.value, block, self.panel_scratch)
                both.otherwise.yields = (self.panel_scratch, b.value(plan.width))
        pointer, chosen = both.results
        return pointer, chosen

    # --- the tiles of a panel's block

    def _vectors(self, column: t.Value, first_row: t.Value, rows: Rows, panel: _Panel) -> None:
        """Run the tiles over the vectors of the panel from `column` that hold columns.

        Sums that are merely stored grow where they are stored, as far as vectors are whole.
        """
        b, plan, extent = self.b, self.plan, self.form.column.extent
        scratch = _Sums(self.sums, plan.width)
        direct = self._direct_sums(column, first_row)
        full, partial = direct or scratch, direct if direct and self._aligned else scratch
        left = b.sub(self.em.dim(extent), column)
        if isinstance(extent, int) and extent % plan.width == 0:
            self._groups(plan.tiles, None, full, rows, panel)
            return
        if not plan.narrow and not direct:
            self._groups(plan.tiles, None, scratch, rows, panel)
            return
        least = plan.width if direct else plan.width - LANES + 1
        with b.if_else(b.icmp("sge", left, least), name="width") as both:
            with both.then:
                self._groups(plan.tiles, None, full, rows, panel)
            with both.otherwise:
                if plan.narrow:
                    tiles = tuple(Tile(tile.rows, plan.narrow) for tile in plan.tiles)
                    self._groups(tiles, b.udiv(b.ceil_div(left, LANES), plan.narrow), partial, rows, panel)
                else:
                    self._groups(plan.tiles, None, partial, rows, panel)

    @property
    def _aligned(self) -> bool:
        """Whether all vectors of columns are whole."""
        extent = self.form.column.extent
        return isinstance(extent, int) and extent % LANES == 0

    def _direct_sums(self, column: t.Value, first_row: t.Value) -> _Sums | None:
        """The place of the result from `first_row` and `column`, where sums are merely stored."""
        b, em, place = self.b, self.em, self.form.direct
        if place is None:
            return None
        stride = self._operand(place.outer)
        base = b.offset(self.frame.pointers[place.param.name], em.dim(place.base), self.element)
        return _Sums(b.offset(base, b.add(b.mul(first_row, stride), column), self.element), stride)

    def _groups(
        self, tiles: Sequence[Tile], parts: t.Value | None, sums: _Sums, rows: Rows, panel: _Panel
    ) -> None:
        """Run every group of rows over `parts` tiles side by side (None: as many as a panel has)."""
        b = self.b
        *rest, main = tiles
        remainder = b.value(b.urem(rows.count, main.rows))
        row = b.sub(rows.count, remainder)
        with b.loop(0, row, main.rows, name="rows") as loop:
            self._tile(main, b.value(loop.iv), parts, sums, rows, panel)
        if isinstance(self.form.row.extent, int):
            for tile in rest:
                with b.if_(b.icmp("ne", remainder, 0), name="rest"):
                    self._tile(tile, b.value(row), parts, sums, rows, panel)
            return
        for tile in rest:
            some = b.and_(remainder, tile.rows)
            with b.if_(b.icmp("ne", some, 0), name="rest"):
                self._tile(tile, b.value(row), parts, sums, rows, panel)
            row = b.add(row, some)

    def _tile(
        self, tile: Tile, row: t.Value, parts: t.Index | None, sums: _Sums, rows: Rows, panel: _Panel
    ) -> None:
        """Multiply `tile.rows` rows from `row` with a block of a panel, adding to the sums."""
        b, plan = self.b, self.plan
        parts = plan.panel // tile.vectors if parts is None else parts
        left = b.offset(
            rows.pointer, b.add(b.mul(row, rows.row), b.mul(panel.start, rows.depth)), self.element
        )
        start = b.offset(sums.pointer, b.mul(row, sums.row), self.element)
        kernel = TileKernel(
            tile.rows,
            tile.vectors,
            self.form.dtype,
            panel.element,
            sums.row if sums.row == plan.width else None,
            depth=rows.depth if rows.depth == 1 else None,
            stride=plan.width if panel.stride == plan.width else None,
            fetch=panel.follows,
            blocks=plan.depth_blocks != 1,
            multiplication=self.multiplication,
        )
        with b.loop(0, parts, name="part") as loop:
            columns = b.mul(loop.iv, tile.vectors * LANES)
            right = b.offset(panel.pointer, columns, storage_type(panel.element))
            fetch, step = right, b.value(0)
            if panel.follows:
                fetch, step = self._fetch(parts, row, b.value(loop.iv), rows, panel)
            target = b.offset(start, columns, self.element)
            call_tile(
                b,
                kernel,
                TileArguments(
                    left,
                    rows.row,
                    rows.depth,
                    right,
                    panel.stride,
                    panel.count,
                    target,
                    sums.row,
                    panel.first,
                    fetch,
                    step,
                ),
            )

    def _fetch(
        self, parts: t.Index, row: t.Value, part: t.Value, rows: Rows, panel: _Panel
    ) -> tuple[t.Value, t.Value]:
        """Where this part of this group starts to fetch what comes next, and its step along the depth."""
        b, main = self.b, self.plan.tiles[-1]
        row_bytes = self.plan.width * storage_type(panel.element).bytes
        groups = b.ceil_div(rows.count, main.rows)
        step = b.value(b.udiv(row_bytes, b.value(b.mul(groups, parts))))
        span = b.mul(panel.count, row_bytes)
        ahead = b.select(b.icmp("eq", groups, 1), b.const(t.i64, FETCH_BYTES), b.value(span))
        share = b.add(b.mul(b.udiv(row, main.rows), parts), part)
        begin = b.add(ahead, b.mul(share, b.mul(panel.count, step)))
        return b.byte_offset(panel.pointer, begin), step

    # --- the stages after the product

    def _finish_panel(self, column: t.Value, first_row: t.Value, count: t.Value) -> None:
        """Run the stages on a panel's sums."""
        b, em, plan = self.b, self.em, self.plan
        extent = self.form.column.extent
        columns: t.Index = b.smin(b.sub(em.dim(extent), column), plan.width)
        if isinstance(extent, int) and extent % plan.width == 0:
            columns = plan.width
        whole = columns if self._aligned else b.round_down(columns, LANES)
        with b.loop(0, count, name="row") as row:
            place = b.offset(self.sums, b.mul(row.iv, plan.width), self.element)
            em.axes[self.form.row.name] = b.value(b.add(first_row, row.iv))
            self._enter_row(row.iv)
            with b.loop(0, whole, LANES, name="lanes") as lanes:
                self._lanes(column, lanes.iv, place, None)
            if not self._aligned:
                with b.loop(whole, columns, LANES, name="tail") as tail:
                    self._lanes(column, tail.iv, place, b.tail_mask(b.sub(columns, tail.iv), LANES))
        em.forget()

    def _enter_row(self, row: t.Index) -> None:
        """Provide what the stages read of a row, by its number in the block."""

    def _enter_columns(self, column: t.Value) -> None:
        """Provide what the stages read of 16 columns."""

    def _lanes(self, column: t.Value, offset: t.Index, place: t.Value, mask: t.Value | None) -> None:
        """The stages for 16 columns."""
        b, em, form = self.b, self.em, self.form
        em.forget()
        number = b.value(b.add(column, offset))
        em.axes[form.column.name] = number
        if form.split:
            em.axes[_run(form).name] = b.value(b.udiv(number, form.split))
            em.axes[self.lane_axis.name] = b.value(b.urem(number, form.split))
        em.vector_axis, em.mask = self.lane_axis, mask
        self._enter_columns(number)
        value = b.load(b.offset(place, offset, self.element), self.vector)
        em.locals[form.local] = lambda _: value
        for stage in self.stages:
            match stage:
                case Map(out, expression):
                    result = em.emit(expression)
                    em.locals[out.name] = functools.partial(_constant_reader, result)
                case Store():
                    em.store(stage.param, stage.index, em.emit(stage.value), stage.value.dtype, stage.mask)
        em.vector_axis = em.mask = None


def _constant_reader(value: t.Value, index: tuple[Dim, ...]) -> t.Value:
    """A local that is in a register, whatever the index."""
    del index
    return value


def _run(form: GemmForm) -> Symbol:
    return Symbol(f"{form.column.name}_run", 0)


def _lane_stages(form: GemmForm) -> tuple[tuple[Map | Store, ...], Symbol]:
    """The stages over the axis of the lanes: the column, or the column within its run where runs are kept."""
    if not form.split:
        return form.stages, form.column.symbol
    lane = Symbol(f"{form.column.name}_lane", 0, form.split - 1)
    mapping: dict[str, Dim] = {form.column.name: _run(form) * form.split + lane}
    stages = []
    for stage in form.stages:
        new = map_stage(stage, lambda x: e.substitute(x, mapping), lambda d: substitute_dim(d, mapping))
        assert isinstance(new, Map | Store)
        stages.append(new)
    return tuple(stages), lane
