"""Depthwise convolutions and other short sums: each point adds up its few products itself.

Nothing that such a contraction reads is used often enough for tiles of matrices, so that it is computed
element by element. The terms along the innermost reduced axes are written out: loads of neighbouring points
are wide, and those of neighbouring taps come from the first-level cache.
"""

from __future__ import annotations

import itertools
import math

from dlc.backends.triton import tiles
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.templates import contraction_form
from dlc.backends.triton.templates.contraction_form import Form
from dlc.backends.triton.templates.template import Declined
from dlc.lowering import expr as e
from dlc.lowering.kernel import Axis, Kernel
from dlc.target import GpuTarget

#: The most terms of a sum over windows, and the most that are written out.
TERMS, WRITTEN = 128, 16
#: The most points of the smaller side: beyond, operands are used often enough for tiles.
FEW = 4
BLOCK, _SMALLEST = 1024, 128


def match(part: Kernel) -> Form | Declined:
    """Takes a contraction over few points, with few rows or columns, and what follows it."""
    form = contraction_form.match(part)
    if isinstance(form, Declined):
        return form
    if form.few is None or form.few > FEW:
        return Declined("both sides have more points than a few")
    terms = tiles.extent_of(form.reduce)
    most = TERMS if form.contract.spec.windows else WRITTEN
    if not isinstance(terms, int) or not 0 < terms <= most:
        return Declined(f"its sums have more than {most} terms, or a number that is not known")
    return form


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of points, in the order in which they are stored."""
    builder, out = FunctionBuilder(part), form.contract.out
    first = form.stores[0]
    axes = tiles.by_stride(part, first.param, first.index, out.axes)
    total = tiles.extent_of(axes)
    block = BLOCK
    while block > _SMALLEST and isinstance(total, int) and total < block * target.multiprocessors:
        block //= 2
    builder.line(f"point = {tiles.program_id(builder, 0)} * {block} + tl.arange(0, {block})")
    points = Points((tiles.tile(builder, "point", axes, block),))
    outer = Emitter(builder, points, maps=form.maps)
    walked, written = _divided(form.reduce)
    count = tiles.extent_of(walked)
    acc = builder.assign("acc", f"tl.full(({block},), 0, {register_type(out.dtype)})")
    if count == 1:
        tiles.take_apart(builder, "0", walked)
        _add_terms(outer.inner(), form, written, acc)
    else:
        with builder.block(f"for step in range(0, {count}):"):
            tiles.take_apart(builder, "step", walked)
            _add_terms(outer.inner(), form, written, acc)
    outer.locals[out.name] = acc
    for store in form.stores:
        outer.store(store)
    return builder.finish("direct", (tiles.blocks(total, block),), num_warps=max(1, block // 256))


def _divided(reduce: tuple[Axis, ...]) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The axes that are walked in a loop, and those whose terms are written out."""
    count = len(reduce)
    while count and math.prod(_extents(reduce[count - 1 :])) <= WRITTEN:
        count -= 1
    return reduce[:count], reduce[count:]


def _extents(axes: tuple[Axis, ...]) -> list[int]:
    return [axis.extent for axis in axes if isinstance(axis.extent, int)]


def _add_terms(emitter: Emitter, form: Form, axes: tuple[Axis, ...], acc: str) -> None:
    """Write the products along `axes`, one after the other."""
    contract = form.contract
    for numbers in itertools.product(*map(range, _extents(axes))):
        at = {axis.name: number for axis, number in zip(axes, numbers)}
        left, right = (e.substitute(side, at) for side in (contract.left, contract.right))
        product = e.Binary(contract.out.dtype, "mul", left, right)
        emitter.builder.line(f"{acc} += {emitter.value(product)}")
