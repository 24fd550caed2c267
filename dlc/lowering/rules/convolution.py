"""Kernels of convolution and pooling."""

from __future__ import annotations

import math

from dlc.ir.dims import Dim, Symbol, maximum, minimum, product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.convolution import Conv, ConvTranspose, Pool
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.expr import InRange
from dlc.lowering.kernel import AxisKind, Contraction, Monoid, Window
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.reduction import divide_by_count
from dlc.lowering.rules.registry import NotLowered, rule


@rule(Conv)
def conv(draft: Draft, node: Node) -> None:
    """y[n, g, o, p] = sum over c, t of x[n, g, c, p * stride + t * dilation - pad] * w[g, o, c, t] + b[g, o].

    Axes that a grouped convolution does not need are left out: g of a single group; o and c of groups of one
    channel (a depthwise convolution has neither).
    """
    assert isinstance(node.op, Conv)
    op, x, w, target = node.op, draft.operand(0), draft.operand(1), node.outputs[0]
    bias = draft.optional(2)
    groups = op.groups
    batch, _, *space = x.tensor.shape
    outputs, each, *taps = w.tensor.shape
    per_group = outputs // groups
    n = draft.axis(batch)
    g = [draft.axis(groups)] if groups > 1 else []
    o = [] if groups > 1 and per_group == 1 else [draft.axis(per_group)]
    positions = draft.axes_of(target.tensor.shape[2:])
    c = [] if groups > 1 and each == 1 else [draft.axis(each, AxisKind.REDUCE)]
    t = draft.axes_of(taps, AxisKind.REDUCE)
    at = [
        p * stride + tap * dilation - pad[0]
        for p, tap, stride, dilation, pad in zip(positions, t, op.strides, op.dilations, op.pads, strict=True)
    ]
    mask = [InRange(a, 0, extent) for a, extent in zip(at, space, strict=True)]
    channel = _within_group(g, c, each)
    feature = _within_group(g, o, per_group)
    accumulator = arithmetic_dtype(target.tensor.dtype)
    source = cast(draft.load(x, [n, channel, *at], mask, const(0, x.tensor.dtype)), accumulator)
    weight = cast(draft.load(w, [feature, c[0] if c else 0, *t]), accumulator)
    windows = tuple(
        Window(p.name, tap.name, stride, dilation, pad[0])
        for p, tap, stride, dilation, pad in zip(positions, t, op.strides, op.dilations, op.pads, strict=True)
    )
    spec = Contraction(
        tuple(s.name for s in g),
        (n.name, *(p.name for p in positions)),
        tuple(s.name for s in o),
        (*(s.name for s in c), *(tap.name for tap in t)),
        windows,
    )
    outer = [n, *g, *o, *positions]
    y: e.Expr = draft.contract(spec, source, weight, outer)
    if bias is not None:
        y = binary("add", y, cast(draft.load(bias, [feature]), y.dtype))
    draft.store(target, outer, y, [n, feature, *positions])


def _within_group(group: list[Symbol], channel: list[Symbol], each: Dim) -> Dim:
    """The channel of a tensor that is `channel` of `group`; an empty list stands for the only one."""
    if not group:
        return channel[0]
    return group[0] * each + channel[0] if channel else group[0]


@rule(ConvTranspose)
def conv_transpose(draft: Draft, node: Node) -> None:
    """Output position p gathers the taps that reach it: input position = (p + pad - t * dilation) / stride.

    For a stride above 1 the output positions of one phase (p + pad mod stride) use every stride-th tap only;
    the kernel has one Contract and one store a phase, so that no multiplication by zero is done.
    """
    assert isinstance(node.op, ConvTranspose)
    op = node.op
    phases: list[tuple[int, ...]] = [()]
    for stride in op.strides:
        phases = [(*phase, r) for phase in phases for r in range(stride)]
    for phase in phases:
        _transposed_phase(draft, op, phase)


def _transposed_phase(draft: Draft, op: ConvTranspose, phase: tuple[int, ...]) -> None:
    """The output positions p with (p + pad) mod stride == phase."""
    x, w, target = draft.operand(0), draft.operand(1), draft.node.outputs[0]
    bias = draft.optional(2)
    batch, channels, *space = x.tensor.shape
    _, per_group, *kernel = w.tensor.shape
    each = channels // op.groups
    n, o = draft.axis(batch), draft.axis(per_group)
    g = [draft.axis(op.groups)] if op.groups > 1 else []
    c = draft.axis(each, AxisKind.REDUCE)
    group: Dim = g[0] if g else 0
    positions: list[Symbol] = []
    taps: list[Symbol] = []
    where: list[Dim] = []
    kernel_index: list[Dim] = []
    output_index: list[Dim] = []
    windows: list[Window] = []
    for axis, stride in enumerate(op.strides):
        dilation, before = op.dilations[axis], op.pads[axis][0]
        extent = kernel[axis]
        if not isinstance(before, int) or not isinstance(extent, int):
            raise NotLowered("transposed convolution with pads or a kernel that depend on the input's size")
        reaching = [k for k in range(extent) if (k * dilation - phase[axis]) % stride == 0]
        # The first output position of this phase, and the number of them.
        first = (phase[axis] - before) % stride
        count = maximum((target.tensor.shape[2 + axis] - first + stride - 1) // stride, 0)
        p = draft.axis(count)
        t = draft.axis(len(reaching), AxisKind.REDUCE)
        last = reaching[-1] if reaching else 0
        step = reaching[1] - reaching[0] if len(reaching) > 1 else 1
        # Output position p * stride + first; its input for kernel position k is (p * stride + first + before
        # - k * dilation) / stride, an integer for the taps that reach it. Taps are numbered from the last one
        # on, so that input positions ascend.
        origin = (first + before - last * dilation) // stride
        hop = step * dilation // stride if len(reaching) > 1 else 1
        positions.append(p)
        taps.append(t)
        where.append(p + t * hop + origin)
        kernel_index.append(last - t * step)
        output_index.append(p * stride + first)
        windows.append(Window(p.name, t.name, 1, hop, -origin))
    mask = [InRange(a, 0, extent) for a, extent in zip(where, space, strict=True)]
    accumulator = arithmetic_dtype(target.tensor.dtype)
    source = cast(draft.load(x, [n, group * each + c, *where], mask, const(0, x.tensor.dtype)), accumulator)
    weight = cast(draft.load(w, [group * each + c, o, *kernel_index]), accumulator)
    spec = Contraction(
        tuple(s.name for s in g),
        (n.name, *(p.name for p in positions)),
        (o.name,),
        (c.name, *(t.name for t in taps)),
        tuple(windows),
    )
    outer = [n, *g, o, *positions]
    y: e.Expr = draft.contract(spec, source, weight, outer)
    if bias is not None:
        y = binary("add", y, cast(draft.load(bias, [group * per_group + o]), y.dtype))
    draft.store(target, outer, y, [n, group * per_group + o, *output_index])


@rule(Pool)
def pool(draft: Draft, node: Node) -> None:
    """The maximum, mean or p-norm of each window; positions outside the input do not count, or as 0."""
    assert isinstance(node.op, Pool)
    op, x, target = node.op, draft.operand(0), node.outputs[0]
    batch, channels, *space = x.tensor.shape
    n, c = draft.axis(batch), draft.axis(channels)
    positions = draft.axes_of(target.tensor.shape[2:])
    taps = draft.axes_of(op.kernel, AxisKind.REDUCE)
    at = [
        p * stride + t * dilation - pad[0]
        for p, t, stride, dilation, pad in zip(
            positions, taps, op.strides, op.dilations, op.pads, strict=True
        )
    ]
    mask = [InRange(a, 0, extent) for a, extent in zip(at, space, strict=True)]
    outer = [n, c, *positions]
    if op.fn == "max":
        _max_pool(draft, op, outer, taps, at, mask)
        return
    source = draft.load_arithmetic(x, [n, c, *at], mask, const(0, x.tensor.dtype))
    if op.fn == "lp":
        powered = (
            binary("pow", unary("abs", source), float(op.p)) if op.p != 2 else binary("mul", source, source)
        )
        total: e.Expr = draft.reduce(Monoid.SUM, taps, powered, outer)
        draft.store(target, outer, unary("sqrt", total) if op.p == 2 else binary("pow", total, 1.0 / op.p))
        return
    total = draft.reduce(Monoid.SUM, taps, source, outer)
    draft.store(target, outer, divide_by_count(total, _window_elements(op, positions, space)))


def _window_elements(op: Pool, positions: list[Symbol], space: list[Dim]) -> Dim:
    """How many positions of a window count: all within the padded input, or those within the input itself."""
    counts: list[Dim] = []
    for p, extent, kernel, stride, dilation, pad in zip(
        positions, space, op.kernel, op.strides, op.dilations, op.pads, strict=True
    ):
        start = p * stride - pad[0]
        low, high = (-pad[0], extent + pad[1]) if op.count_include_pad else (0, extent)
        # taps t with low <= start + t * dilation < high
        first = maximum((low - start + dilation - 1) // dilation, 0)
        last = minimum((high - 1 - start) // dilation, kernel - 1)
        # Below 0 where the window lies beside the elements, for which a side's pads must be as large as it.
        largest = max((side for side in pad if isinstance(side, int)), default=0)
        beside = largest > (kernel - 1) * dilation
        counts.append(maximum(last - first + 1, 0) if beside else last - first + 1)
    return product(counts)


def _max_pool(
    draft: Draft, op: Pool, outer: list[Symbol], taps: list[Symbol], at: list[Dim], mask: list[InRange]
) -> None:
    x, outputs = draft.operand(0), draft.node.outputs
    dtype = x.tensor.dtype
    lowest = const(
        -math.inf if dtype.is_float else -(1 << (dtype.bits - 1)) if dtype.kind.value == "signed" else 0,
        dtype,
    )
    source = draft.load_arithmetic(x, [outer[0], outer[1], *at], mask, lowest)
    if not op.indices:
        draft.store(outputs[0], outer, draft.reduce(Monoid.MAX, taps, source, outer))
        return
    space = x.tensor.shape[2:]
    flat: Dim = 0
    order = reversed(range(len(space))) if op.column_major else range(len(space))
    for axis in order:
        flat = flat * space[axis] + at[axis]
    plane = (outer[0] * x.tensor.shape[1] + outer[1]) * product(space)
    inside: e.Expr = e.Const(DType.BOOL, True)
    for m in mask:
        for condition in (
            compare("ge", e.Iota(DType.I64, m.index), 0),
            compare("lt", e.Iota(DType.I64, m.index), e.Iota(DType.I64, m.high)),
        ):
            inside = e.Binary(DType.BOOL, "and", inside, condition)
    # A position outside the input must lose a tie with -inf inside: its index is larger than any real one.
    outside = const(1 << 62, DType.I64)
    index = select(inside, e.Iota(DType.I64, plane + flat), outside)
    best, where = draft.reduce_all(Monoid.ARGMAX, taps, (source, index), outer)
    draft.store(outputs[0], outer, best)
    none = compare("eq", where, outside)  # of a window wholly in the padding
    draft.store(outputs[1], outer, select(none, const(-1, DType.I64), where))
