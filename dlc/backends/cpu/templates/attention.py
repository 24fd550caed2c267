"""Attention, a block of queries at a time: scores with all keys, their softmax, the weighted sum of values.

Keys are transposed once for each key head into panels of 16, as they are first needed. The scores of a block
of queries stay in scratch memory, where the softmax is taken row by row: first the formula of the score
(mask, soft cap) and the maximum, then the exponentials and their sum. Keys that no query of a block may see
are left out. A long row of keys is taken in blocks of fixed size and the results combined (online softmax,
arXiv:1805.02867); whole rows are as fast as blocks up to some 4096 keys.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.expressions import own_axes
from dlc.backends.cpu.math.exponential import exp2
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.semantics import maximum_fast
from dlc.backends.cpu.templates.attention_form import AttentionForm, Rows, attention_form, extent_of
from dlc.backends.cpu.templates.attention_plan import AttentionPlan, plan_attention
from dlc.backends.cpu.templates.attention_tile import Queries, Tile, dot_products, emit_transpose
from dlc.backends.cpu.templates.row_product import FLOAT, LANES, VECTOR, RowProduct, call_row_product
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv
from dlc.lowering import expr as e
from dlc.lowering.kernel import Axis, Kernel

#: Queries from which a copy of values that lie apart pays.
COPY_ROWS = 32
LOG2_E = 1 / math.log(2)


def match(kernel: Kernel, module: Module) -> Match[AttentionPlan] | Declined:
    """Whether `kernel` is attention computed in f32."""
    form = attention_form(kernel)
    return form if isinstance(form, Declined) else Match(plan_attention(form, module.target))


def emit(module: Module, name: str, match: Match[AttentionPlan]) -> CompiledKernel:
    """Write the function of a matched kernel."""
    return _Attention(module, name, match.form).emit()


@dataclasses.dataclass(frozen=True)
class _Block:
    """A block of queries with a block of keys.

    `row` is the number of its first query among those of the key head, `count` the number of queries. Keys
    are numbered within their block, which begins at `origin` and has `keys`: those from `start`, a multiple
    of 16, to `stop` matter.
    """

    row: t.Value
    count: t.Index
    origin: t.Index
    keys: t.Index
    start: t.Index
    stop: t.Index


class _Attention:
    """The emission of one kernel."""

    def __init__(self, module: Module, name: str, plan: AttentionPlan) -> None:
        self.plan = plan
        self.form: AttentionForm = plan.form
        form = plan.form
        self.key_blocks: Dim = ceildiv(form.key.extent, plan.key_block) if plan.several_key_blocks else 1
        self.frame = KernelFrame(module, name, form.kernel, [plan.units, plan.chunks, plan.rows])
        self.b, self.em = self.frame.b, self.frame.emitter
        self.transpose = f"{name}_keys"
        if not plan.direct:
            emit_transpose(module, self.transpose, form.head_size)
        self.queries = self.frame.scratch
        self.scores, self.panels, self.staging, self.values, self.results, self.sums, self.states = (
            self.b.byte_offset(self.frame.scratch, place)
            for place in (plan.scores_at, plan.panels_at, plan.staging_at, plan.values_at, plan.results_at,
                          plan.sums_at, plan.states_at))

    def emit(self) -> CompiledKernel:
        b, em, plan = self.b, self.em, self.plan
        units, chunks = em.dim(plan.units), em.dim(plan.chunks)
        low = b.udiv(b.mul(self.frame.chunk, units), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), units), chunks)
        with b.loop(low, high, name="unit") as loop, em.scope():
            self._unit(b.value(loop.iv))
        return self.frame.finish("attention", plan.chunks, plan.bytes)

    # --- loops over units, blocks of keys and blocks of queries

    def _number(self, dim: Dim) -> t.Index:
        return dim if isinstance(dim, int) else self.em.dim(dim)

    def _unit(self, unit: t.Value) -> None:
        """A group of queries of one key head, with all keys."""
        b, em, plan, form = self.b, self.em, self.plan, self.form
        groups, heads = self._number(plan.groups), self._number(form.key_head.extent)
        group, rest = b.urem(unit, groups), b.udiv(unit, groups)
        em.axes[form.key_head.name] = b.value(b.urem(rest, heads))
        em.axes[form.batch.name] = b.value(b.udiv(rest, heads))
        first = b.mul(group, plan.group_rows)
        count = b.smin(b.sub(self._number(plan.rows), first), plan.group_rows)
        if not plan.several_key_blocks:
            self._key_block(first, count, 0, None)
            return
        self._reset_states(count)
        blocks = b.smax(self._number(self.key_blocks), 1)
        with b.loop(0, blocks, name="keys") as loop, em.scope():
            last = b.icmp("eq", b.add(loop.iv, 1), blocks)
            self._key_block(first, count, b.mul(loop.iv, plan.key_block), last)

    def _key_block(self, first: t.Index, count: t.Index, origin: t.Index, last: t.Value | None) -> None:
        """The queries of a unit with the keys from `origin`; `last` tells whether these are the last ones.

        `last` is None where there is only one block.
        """
        b, em, plan = self.b, self.em, self.plan
        keys = b.smin(b.sub(self._number(self.form.key.extent), origin), plan.key_block)
        self._choose_values(count, origin)
        with b.loop(0, count, plan.block_rows, carry=[b.const(t.i64, 0)], name="block") as loop, em.scope():
            row = b.value(b.add(first, loop.iv))
            size = b.smin(b.sub(count, loop.iv), plan.block_rows)
            start, stop = self._visible(row, b.add(row, b.sub(size, 1)), origin, keys)
            block = _Block(row, size, origin, keys, start, stop)
            packed = loop.carried[0]
            self._copy_queries(block)
            self._copy_values(block, packed)
            if plan.direct:
                self._score_directly(block)
            else:
                self._by_size(size, lambda tile: self._score(tile, block, packed))
            with b.loop(0, size, name="row") as each, em.scope():
                self._softmax(block, b.value(each.iv), b.add(loop.iv, each.iv))
            self._by_size(size, lambda tile: self._mix(tile, block))
            with b.loop(0, size, name="row") as each, em.scope():
                self._finish(block, b.value(each.iv), b.add(loop.iv, each.iv), last)
            loop.next = (b.smax(packed, b.lshr(b.add(stop, LANES - 1), 4)),)

    def _by_size(self, count: t.Index, body: Callable[[Tile], None]) -> None:
        """`body` with the smallest tile that has `count` rows."""

        def choose(options: Sequence[Tile]) -> None:
            if len(options) == 1:
                body(options[0])
                return
            with self.b.if_else(self.b.icmp("sle", count, options[0].rows)) as both:
                with both.then:
                    body(options[0])
                with both.otherwise:
                    choose(options[1:])

        choose(self.plan.tiles)

    def _set_row(self, row: t.Index) -> None:
        """Let the axes of group and query stand for query number `row` of the key head."""
        b, em, form = self.b, self.em, self.form
        if form.group is None:
            em.axes[form.query.name] = b.value(row)
            return
        size = self._number(form.group.extent)
        em.axes[form.query.name] = b.value(b.udiv(row, size))
        em.axes[form.group.name] = b.value(b.urem(row, size))

    # --- which keys count

    def _limits(self, first: t.Index, last: t.Index) -> tuple[t.Index, t.Index]:
        """The keys that some query from row `first` to row `last` may see."""
        b, em = self.b, self.em
        low: t.Index = 0
        high = self._number(self.form.key.extent)
        for bound in self.form.bounds:
            with em.scope():
                self._set_row(first if bound.lower else last)
                number = em.emit(bound.bound)
            low, high = (b.smax(low, number), high) if bound.lower else (low, b.smin(high, number))
        return low, high

    def _visible(self, first: t.Index, last: t.Index, origin: t.Index, keys: t.Index
                 ) -> tuple[t.Index, t.Index]:
        """As `_limits`, within a block of keys, the first one rounded down to a whole vector."""
        b = self.b
        low, high = self._limits(first, last)
        start = b.and_(b.smin(b.smax(b.sub(low, origin), 0), keys), -LANES)
        return start, b.smin(b.smax(b.sub(high, origin), start), keys)

    # --- operands

    def _lanes(self, axis: Axis, count: int, body: Callable[[int], None]) -> None:
        """`body` for each vector of `axis`, of `count` elements; the last one under a mask if need be."""
        em = self.em
        em.vector_axis = axis.symbol
        for first in range(0, count, LANES):
            with em.scope():
                em.axes[axis.name] = self.b.value(first)
                em.mask = self.b.tail_mask(count - first) if count - first < LANES else None
                body(first)
                em.mask = None
        em.vector_axis = None

    def _copy_row(self, value: e.Expr, axis: Axis, target: t.Value) -> None:
        """Evaluate `value` along `axis` into memory."""
        b, em = self.b, self.em
        self._lanes(axis, extent_of(axis), lambda first: b.store(
            em.emit_lanes(value), b.offset(target, first, t.f32)))

    def _copy_queries(self, block: _Block) -> None:
        """The queries of the block, scaled, as rows in scratch memory."""
        b, em = self.b, self.em
        with b.loop(0, block.count, name="query") as loop, em.scope():
            self._set_row(b.add(block.row, loop.iv))
            target = b.offset(self.queries, b.mul(loop.iv, self.plan.query_stride), t.f32)
            self._copy_row(self.form.left, self.form.width, target)

    def _choose_values(self, count: t.Index, origin: t.Index) -> None:
        """Whether `count` queries read the values from a copy, and from where in either case."""
        b, plan, rows = self.b, self.plan, self.form.values.rows
        self.copies = b.const(t.i1, rows is None)
        self.value_rows: tuple[t.Value, t.Index] = self.values, plan.value_stride
        if rows is None:
            return
        place, stride = self._place(rows, origin)
        if plan.copies_values:
            self.copies = b.icmp("sge", count, COPY_ROWS)
            place = b.select(self.copies, self.values, place)
            stride = b.select(self.copies, plan.value_stride, b.value(stride))
        self.value_rows = place, stride

    def _copy_values(self, block: _Block, packed: t.Value) -> None:
        """The values that no block of queries has needed before, as rows in scratch memory."""
        b, em = self.b, self.em
        end = b.smin(b.and_(b.add(block.stop, LANES - 1), -LANES), block.keys)
        with b.if_(self.copies), b.loop(b.mul(packed, LANES), end, name="value") as loop, em.scope():
            em.axes[self.form.key.name] = b.value(b.add(block.origin, loop.iv))
            target = b.offset(self.values, b.mul(loop.iv, self.plan.value_stride), t.f32)
            self._copy_row(self.form.values.value, self.form.feature, target)

    def _place(self, rows: Rows, row: t.Index) -> tuple[t.Value, t.Index]:
        """The address of a row of keys or values, and the distance of rows in elements."""
        b = self.b
        stride = self._number(rows.stride)
        place = b.add(self.em.dim(rows.base), b.mul(row, stride))
        return b.offset(self.frame.pointers[rows.param.name], place, t.f32), stride

    def _pack(self, block: _Block, panel: t.Index) -> None:
        """Transpose the keys of a panel."""
        b, em, form = self.b, self.em, self.form
        first = b.mul(panel, LANES)
        target = b.offset(self.panels, b.mul(first, form.head_size), t.f32)
        count = b.sub(block.keys, first)
        if form.keys.rows is not None:
            source, stride = self._place(form.keys.rows, b.add(block.origin, first))
            b.call(self.transpose, [source, b.mul(stride, FLOAT), count, target])
            return
        with b.loop(0, b.smin(count, LANES), name="key") as loop, em.scope():
            em.axes[form.key.name] = b.value(b.add(b.add(block.origin, first), loop.iv))
            place = b.offset(self.staging, b.mul(loop.iv, self.plan.query_stride), t.f32)
            self._copy_row(form.keys.value, form.width, place)
        b.call(self.transpose, [self.staging, self.plan.query_stride * FLOAT, count, target])

    # --- scores

    def _score(self, tile: Tile, block: _Block, packed: t.Value) -> None:
        """The products of the block's queries with its keys."""
        b = self.b
        first, end = b.lshr(block.start, 4), b.lshr(b.add(block.stop, LANES - 1), 4)
        rest = b.urem(b.sub(end, first), tile.vectors)
        whole = b.sub(end, rest)
        with b.loop(first, whole, tile.vectors, name="panel") as loop:
            self._score_tile(tile, block, loop.iv, packed)
        at = whole
        for vectors in (2, 1):
            if vectors < tile.vectors:
                with b.if_(b.icmp("ne", b.and_(rest, vectors), 0)):
                    self._score_tile(Tile(tile.rows, vectors), block, at, packed)
                at = b.add(at, b.and_(rest, vectors))

    def _score_tile(self, tile: Tile, block: _Block, panel: t.Index, packed: t.Value) -> None:
        b, plan, width = self.b, self.plan, self.form.head_size
        missing = b.icmp("sgt", b.add(panel, tile.vectors), packed)
        with b.if_(missing), b.loop(0, tile.vectors, name="pack") as loop:
            self._pack(block, b.add(panel, loop.iv))
        product = RowProduct(tile.rows, tile.vectors, plan.query_stride, LANES * width, LANES,
                             plan.score_stride, depth=width)
        panels = b.offset(self.panels, b.mul(panel, LANES * width), t.f32)
        target = b.offset(self.scores, b.mul(panel, LANES), t.f32)
        call_row_product(b, product, self.queries, panels, width, LANES, target)

    def _score_directly(self, block: _Block) -> None:
        """As `_score`, from keys where they lie: a few queries with 16 / rows keys at a time."""
        b, plan = self.b, self.plan
        assert isinstance(plan.rows, int)
        rows = next(rows for rows in (1, 2, 4, 8) if rows >= plan.rows)
        keys = LANES // rows
        whole = b.sub(block.stop, b.and_(b.sub(block.stop, block.start), keys - 1))
        with b.loop(block.start, whole, keys, name="keys") as loop:
            self._score_keys(block, rows, loop.iv, None)
        with b.loop(whole, block.stop, keys, name="rest") as rest:
            self._score_keys(block, rows, rest.iv, b.sub(block.keys, 1))

    def _score_keys(self, block: _Block, rows: int, first: t.Index, last: t.Index | None) -> None:
        """The products of the queries with the keys from `first` on; those after `last` repeat it."""
        b, plan, matrix = self.b, self.plan, self.form.keys.rows
        assert matrix is not None
        keys = LANES // rows
        numbers = [b.add(first, key) for key in range(keys)]
        if last is not None:
            numbers = [b.smin(number, last) for number in numbers]
        places = [self._place(matrix, b.add(block.origin, number))[0] for number in numbers]
        queries = Queries(self.queries, plan.query_stride, rows, self.form.head_size)
        products = dot_products(b, queries, places)
        for row in range(min(rows, plan.block_rows)):
            part = products if rows == 1 else b.slice(products, row * keys, keys)
            b.store(part, b.offset(self.scores, b.add(first, row * plan.score_stride), t.f32))

    # --- softmax

    def _softmax(self, block: _Block, row: t.Value, member: t.Index) -> None:
        """Exponentials of the scores of a query less their maximum, in place, and their sum.

        `row` numbers the queries of the block, `member` those of the unit.
        """
        b, plan = self.b, self.plan
        self._set_row(b.add(block.row, row))
        scores = b.offset(self.scores, b.mul(row, plan.score_stride), t.f32)
        top = self._largest(block, row, scores)
        if plan.several_key_blocks:
            top = self._advance_top(row, member, top)
        shift = b.splat(b.fneg(self._exponent(top)))
        end = b.and_(b.add(block.stop, LANES - 1), -LANES)
        with b.loop(block.start, end, LANES, carry=[b.const(VECTOR, 0.0)], name="weight") as loop:
            place = b.offset(scores, loop.iv, t.f32)
            weight = exp2(b, b.fma(b.load(place, VECTOR), LOG2_E, shift))
            b.store(weight, place)
            loop.next = (b.fadd(loop.carried[0], weight),)
        b.store(b.reduce_add(loop.results[0]), b.offset(self.sums, row, t.f32))

    def _exponent(self, top: t.Value) -> t.Value:
        """The power of two that weights are relative to: that of e**top, or 0 if no key counts.

        It is rounded once for all weights of a row, so that its error cancels in the quotient.
        """
        b = self.b
        return b.fmul(b.select(b.fcmp("oeq", top, -math.inf), 0.0, top), LOG2_E)

    def _largest(self, block: _Block, row: t.Value, scores: t.Value) -> t.Value:
        """Apply the formula of the score to a row; the maximum."""
        b, em, form = self.b, self.em, self.form
        at = b.add(block.row, row)
        low, high = self._limits(at, at)
        end = b.and_(b.add(block.stop, LANES - 1), -LANES)
        low = b.smin(b.smax(b.sub(low, block.origin), block.start), end)
        high = b.smin(b.smax(b.sub(high, block.origin), block.start), b.smin(end, block.keys))
        plain_low = b.and_(b.add(low, LANES - 1), -LANES)
        plain_high = b.smax(b.and_(high, -LANES), plain_low)
        em.vector_axis = form.key.symbol
        em.hoist([form.score], {form.key.name})
        top = b.const(VECTOR, -math.inf)
        if any(bound.lower for bound in form.bounds):
            top = self._largest_between(block, scores, block.start, plain_low, (low, high), top)
        top = self._largest_between(block, scores, plain_low, plain_high, None, top)
        top = self._largest_between(block, scores, plain_high, end, (low, high), top)
        em.vector_axis = None
        return b.reduce_max(top)

    def _largest_between(self, block: _Block, scores: t.Value, low: t.Index, high: t.Index,
                         limits: tuple[t.Index, t.Index] | None, top: t.Value) -> t.Value:
        """As `_largest`, for the keys from `low` to `high`; those outside `limits` count as -inf."""
        b, em, form = self.b, self.em, self.form
        with b.loop(low, high, LANES, carry=[top], name="score") as loop, em.scope():
            place = b.offset(scores, loop.iv, t.f32)
            product = b.load(place, VECTOR)
            em.locals[form.product] = lambda _: product
            em.axes[form.key.name] = b.value(b.add(block.origin, loop.iv))
            if limits is not None:
                before, below = (b.tail_mask(b.sub(limit, loop.iv)) for limit in limits)
                em.mask = b.and_(below, b.not_(before))
            score = em.emit_lanes(form.score)
            if em.mask is not None:
                score = b.select(em.mask, score, -math.inf)
                em.mask = None
            if score is not product:
                b.store(score, place)
            loop.next = (maximum_fast(b, score, loop.carried[0]),)
        return loop.results[0]

    # --- results

    def _mix(self, tile: Tile, block: _Block) -> None:
        """The sums of the values weighted with the exponentials, for each query of the block."""
        b, plan, form = self.b, self.plan, self.form
        vectors = plan.value_stride // LANES
        parts = -(-vectors // tile.vectors)
        values, stride = self.value_rows
        depth = b.sub(block.stop, block.start)
        weights = b.offset(self.scores, block.start, t.f32)
        for part in range(parts):
            first, end = vectors * part // parts, vectors * (part + 1) // parts
            tail = form.value_size % LANES if end == vectors and form.values.rows is not None else 0
            product = RowProduct(tile.rows, end - first, plan.score_stride, LANES,
                                 stride if isinstance(stride, int) else None, plan.value_stride, tail)
            place = b.offset(values, b.add(b.mul(block.start, stride), first * LANES), t.f32)
            target = b.offset(self.results, first * LANES, t.f32)
            call_row_product(b, product, weights, place, depth, stride, target)

    def _finish(self, block: _Block, row: t.Value, member: t.Index, last: t.Value | None) -> None:
        """Store the result of a query, or add it to its state if more keys follow."""
        b, plan = self.b, self.plan
        result = b.offset(self.results, b.mul(row, plan.value_stride), t.f32)
        total = b.load(b.offset(self.sums, row, t.f32), t.f32)
        self._set_row(b.add(block.row, row))
        if last is None:
            self._store(result, total)
            return
        state, total = self._advance_state(row, member, result, total)
        with b.if_(last), self.em.scope():
            self._store(state, total)

    def _store(self, result: t.Value, total: t.Value) -> None:
        """Apply the stages after the sums to a query's result."""
        b, em, form = self.b, self.em, self.form
        store = form.store
        em.locals[form.total] = lambda _: total
        self._hoist_rows(store.value)

        def vector(first: int) -> None:
            value = b.load(b.offset(result, first, t.f32), VECTOR)
            em.locals[form.mixed] = lambda _: value
            em.store(store.param, store.index, em.emit_lanes(store.value), store.value.dtype, store.mask)

        self._lanes(form.feature, form.value_size, vector)

    def _hoist_rows(self, value: e.Expr) -> None:
        """Compute now what is the same for all features of a result."""
        moving: set[e.Expr] = set()
        for node in e.walk(value):
            own = isinstance(node, e.Read) and node.local == self.form.mixed
            moved = self.form.feature.name in own_axes(node)
            if own or moved or any(child in moving for child in e.children(node)):
                moving.add(node)
            elif not isinstance(node, e.Const):
                self.em.emit(node)

    # --- states of queries between blocks of keys

    def _state(self, member: t.Index) -> t.Value:
        """The state of a query: its result, undivided, then its maximum and its sum."""
        return self.b.offset(self.states, self.b.mul(member, self.plan.value_stride + 2), t.f32)

    def _top_place(self, state: t.Value) -> t.Value:
        return self.b.offset(state, self.plan.value_stride, t.f32)

    def _reset_states(self, count: t.Index) -> None:
        b = self.b
        with b.loop(0, count, name="reset") as loop:
            state = self._state(loop.iv)
            for first in range(0, self.plan.value_stride, LANES):
                b.store(b.const(VECTOR, 0.0), b.offset(state, first, t.f32))
            b.store(b.const(t.f32, -math.inf), self._top_place(state))
            b.store(b.const(t.f32, 0.0), b.offset(self._top_place(state), 1, t.f32))

    def _advance_top(self, row: t.Value, member: t.Index, top: t.Value) -> t.Value:
        """The maximum over all keys so far; the factor for the state so far is left beside the sums."""
        b = self.b
        place = self._top_place(self._state(member))
        before = b.load(place, t.f32)
        now = maximum_fast(b, top, before)
        factor = b.extract(exp2(b, b.splat(b.fsub(b.fmul(before, LOG2_E), self._exponent(now)))), 0)
        b.store(now, place)
        b.store(factor, b.offset(self.sums, b.add(row, LANES), t.f32))
        return now

    def _advance_state(self, row: t.Value, member: t.Index, result: t.Value, total: t.Value
                       ) -> tuple[t.Value, t.Value]:
        """Add a block's result and sum to the state; its place and its sum."""
        b = self.b
        state = self._state(member)
        factor = b.load(b.offset(self.sums, b.add(row, LANES), t.f32), t.f32)
        sum_place = b.offset(self._top_place(state), 1, t.f32)
        total = b.fma(b.load(sum_place, t.f32), factor, total)
        b.store(total, sum_place)
        scale = b.splat(factor)
        for first in range(0, self.plan.value_stride, LANES):
            place, new = b.offset(state, first, t.f32), b.load(b.offset(result, first, t.f32), VECTOR)
            b.store(b.fma(b.load(place, VECTOR), scale, new), place)
        return state, total

