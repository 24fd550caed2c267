"""Importers of the operators on signals: Fourier transforms, windows, mel filters."""

from __future__ import annotations

import math

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.fourier import Fourier, Transform
from dlc.frontend.onnx.geometry import require, require_equal, reshape, static_ints, transposed
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, floordiv
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.common import FLOATS
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.movement import DimTensor, Range
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where

#: Window operator -> (a0, a1, a2) of a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n).
_WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@importer("DFT", since=17)
def dft_17(ctx: NodeContext) -> Value:
    """The axis is an attribute, by default 1."""
    return _dft(ctx, ctx.int("axis", 1))


@importer("DFT", since=20)
def dft_20(ctx: NodeContext) -> Value:
    """The axis is an operand, by default -2."""
    if ctx.optional(2) is None:
        return _dft(ctx, -2)
    ctx.single(2)
    (axis,) = static_ints(ctx, 2, "the axis")
    return _dft(ctx, axis)


def _dft(ctx: NodeContext, axis: int) -> Value:
    x, rank = ctx.required(0), ctx.required(0).tensor.rank
    parts = _parts(ctx, x)
    inverse, onesided = (_flag(ctx, key, 0) for key in ("inverse", "onesided"))
    axis = front_axis(ctx, axis, rank)
    if axis == rank - 1:
        ctx.fail("the last axis holds the parts of numbers and has no transform")
    if onesided and parts != (2 if inverse else 1):
        ctx.fail(f"a onesided {'inverse ' if inverse else ''}transform does not take {x.type}")
    order = [other for other in range(rank) if other not in (axis, rank - 1)] + [axis, rank - 1]
    back = [order.index(other) for other in range(rank)]
    signal = transposed(ctx, x, order)
    extent = signal.tensor.shape[-2]
    n: Dim = 2 * (extent - 1) if inverse and onesided else extent
    if ctx.optional(1) is not None:
        ctx.single(1)
        (n,) = ctx.dims(1)
    require(ctx, Relation.LE, 1, n, f"a transform needs at least 1 point, not {n}")
    bins = n // 2 + 1 if onesided and not inverse else n
    return transposed(ctx, _transformed(ctx, signal, Transform(n, bins, inverse, inverse and onesided)), back)


def _transformed(ctx: NodeContext, signal: Value, transform: Transform) -> Value:
    """The transform along the axis before the last, in the type of the signal; narrow floats by way of f32.

    The signal is cut off, or filled with zeros, at the number of points.
    """
    dtype = signal.tensor.dtype
    wide = signal if dtype in (DType.F32, DType.F64) else ctx.builder.add(Cast(DType.F32), signal)
    fourier = Fourier(ctx)
    y = fourier.apply(fourier.resized(wide, transform.points), transform)
    return y if y.tensor.dtype is dtype else ctx.builder.add(Cast(dtype), y)


def _parts(ctx: NodeContext, x: Value) -> int:
    """The last extent of a signal: 1 for real numbers, 2 for complex ones."""
    if x.tensor.dtype not in FLOATS or x.tensor.rank < 2:
        ctx.fail(f"the signal must be floats [..., points, 1 or 2], but is {x.type}")
    parts = x.tensor.shape[-1]
    if not isinstance(parts, int):
        ctx.unsupported(f"the last extent of the signal {x.type} is open", "fix it with the option shapes")
    if parts not in (1, 2):
        ctx.fail(f"the last extent of the signal must be 1 or 2, but is {parts}")
    return parts


def _flag(ctx: NodeContext, key: str, default: int) -> bool:
    value = ctx.int(key, default)
    if value not in (0, 1):
        ctx.fail(f"attribute {key!r} must be 0 or 1, but is {value}")
    return bool(value)


@importer("STFT", since=17)
def stft(ctx: NodeContext) -> Value:
    """Frames of the signal [batch, length, 1 or 2], times the window, transformed."""
    signal, window = ctx.required(0), ctx.optional(2)
    parts, onesided = _parts(ctx, signal), _flag(ctx, "onesided", 1)
    if signal.tensor.rank != 3:
        ctx.fail(f"the signal must be [batch, length, 1 or 2], but is {signal.type}")
    if onesided and parts == 2:
        ctx.fail(f"a onesided transform does not take {signal.type}")
    length = signal.tensor.shape[1]
    step, n = _scalar_dim(ctx, 1), length
    if window is not None:
        if window.tensor.rank != 1:
            ctx.fail(f"the window must have rank 1, but is {window.type}")
        n = window.tensor.shape[0]
    if ctx.optional(3) is not None:
        n = _scalar_dim(ctx, 3)
        if window is not None:
            require_equal(ctx, window.tensor.shape[0], n, "the extent of the window and frame_length")
    require(ctx, Relation.LE, 1, step, f"frame_step must be positive, not {step}")
    require(ctx, Relation.LE, 1, n, f"a transform needs at least 1 point, not {n}")
    require(ctx, Relation.LE, n, length, "a frame is longer than the signal")
    frames = floordiv(length - n, step) + 1
    at = ctx.builder.add(Binary("add"), _steps(ctx, frames, step, 1), _steps(ctx, n, 1, 0))
    framed = ctx.builder.add(Gather(1), signal, at)
    if window is not None:
        framed = ctx.builder.add(Binary("mul"), framed, reshape(ctx, window, (n, 1), "window"))
    return _transformed(ctx, framed, Transform(n, n // 2 + 1 if onesided else n))


def _scalar_dim(ctx: NodeContext, index: int) -> Dim:
    ctx.single(index)
    return ctx.dims(index)[0]


def _steps(ctx: NodeContext, extent: Dim, step: Dim, axis: int) -> Value:
    """0, step, 2 step, ... along one of two axes."""
    zero, stride = ctx.const(0, DType.I64), ctx.builder.add(DimTensor((step,), ()))
    line = ctx.builder.add(Range(extent), zero, stride)
    return reshape(ctx, line, (1, extent) if axis == 0 else (extent, 1), "steps")


def _register_window(op_type: str, terms: tuple[float, float, float]) -> None:
    @importer(op_type, since=17)
    def window(ctx: NodeContext) -> Value:
        return _window(ctx, *terms)


for _op_type, _terms in _WINDOWS.items():
    _register_window(_op_type, _terms)


def _window(ctx: NodeContext, constant: float, first: float, second: float) -> Value:
    """A window of `size` numbers; a periodic one is the start of a symmetric one of size + 1.

    Computed in f64 and converted as by Cast. A symmetric window of size 1 is NaN, by the standard's formula.
    """
    add, size = ctx.builder.add, _scalar_dim(ctx, 0)
    require(ctx, Relation.LE, 0, size, f"the size must not be negative, but is {size}")
    period = size if _flag(ctx, "periodic", 1) else size - 1
    steps = add(Cast(DType.F64), add(Range(size), ctx.const(0, DType.I64), ctx.const(1, DType.I64)))
    increment = add(Binary("div"), ctx.const(2 * math.pi), _number(ctx, period))
    angle = add(Binary("mul"), steps, increment)
    wave = add(Binary("mul"), add(Unary("cos"), angle), ctx.const(-first))
    if second:
        double = add(Unary("cos"), add(Binary("mul"), angle, ctx.const(2.0)))
        wave = add(Binary("add"), wave, add(Binary("mul"), double, ctx.const(second)))
    # The constant last: then the peak of Blackman's window is 1, which integers keep.
    y = add(Binary("add"), wave, ctx.const(constant))
    to = ctx.dtype("output_datatype", DType.F32)
    return y if to is DType.F64 else ctx.add(Cast(to), y)


def _number(ctx: NodeContext, dim: Dim) -> Value:
    """A dim as an f64 scalar."""
    return ctx.builder.add(Cast(DType.F64), ctx.builder.add(DimTensor((dim,), ())))


@importer("MelWeightMatrix", since=17)
def mel_weight_matrix(ctx: NodeContext) -> Value:
    """Triangles [dft_length // 2 + 1, num_mel_bins] whose corners are evenly spaced on the mel scale.

    Computed in f64, the corners rounded down to whole bins; converted as by Cast.
    """
    add = ctx.builder.add
    mels, length = _scalar_dim(ctx, 0), _scalar_dim(ctx, 1)
    require(ctx, Relation.LE, 0, mels, f"num_mel_bins must not be negative, but is {mels}")
    require(ctx, Relation.LE, 0, length, f"dft_length must not be negative, but is {length}")
    rate, low, high = (_scalar(ctx, index) for index in (2, 3, 4))
    low, high = (_mel(ctx, edge) for edge in (low, high))
    step = add(Binary("div"), add(Binary("sub"), high, low), _number(ctx, mels + 2))
    numbers = add(Cast(DType.F64), add(Range(mels + 2), ctx.const(0, DType.I64), ctx.const(1, DType.I64)))
    hertz = _hertz(ctx, add(Binary("add"), add(Binary("mul"), numbers, step), low))
    scaled = add(Binary("div"), add(Binary("mul"), hertz, _number(ctx, length + 1)), rate)
    corners = add(Unary("floor"), scaled)
    left, centre, right = (_corner(ctx, corners, offset, mels) for offset in range(3))
    bins = length // 2 + 1
    at = add(Cast(DType.F64), _steps(ctx, bins, 1, 1))
    rising = add(Binary("div"), add(Binary("sub"), at, left), add(Binary("sub"), centre, left))
    peak = add(Compare("eq"), at, centre)
    one, zero = ctx.const(1.0), ctx.const(0.0)
    rising = add(Where(), peak, one, rising)
    falling = add(Binary("div"), add(Binary("sub"), right, at), add(Binary("sub"), right, centre))
    y = add(Where(), _between(ctx, left, at, centre), rising, zero)
    after = add(Binary("and"), add(Compare("gt"), at, centre), add(Compare("lt"), at, right))
    y = add(Where(), after, falling, y)
    return ctx.add(Cast(ctx.dtype("output_datatype", DType.F32)), y)


def _scalar(ctx: NodeContext, index: int) -> Value:
    """Operand `index`, one number, as an f64 scalar."""
    return reshape(ctx, ctx.builder.add(Cast(DType.F64), ctx.single(index)), (), "number")


def _mel(ctx: NodeContext, hertz: Value) -> Value:
    """2595 log10(1 + f / 700)."""
    add = ctx.builder.add
    share = add(Binary("add"), add(Binary("div"), hertz, ctx.const(700.0)), ctx.const(1.0))
    return add(Binary("mul"), add(Unary("log"), share), ctx.const(2595 / math.log(10)))


def _hertz(ctx: NodeContext, mel: Value) -> Value:
    """700 (10^(mel / 2595) - 1)."""
    add = ctx.builder.add
    power = add(Unary("exp"), add(Binary("mul"), mel, ctx.const(math.log(10) / 2595)))
    return add(Binary("mul"), add(Binary("sub"), power, ctx.const(1.0)), ctx.const(700.0))


def _corner(ctx: NodeContext, corners: Value, offset: int, count: Dim) -> Value:
    """`count` of the corners from number `offset` on, [1, count]."""
    positions = ctx.builder.add(Range(count), ctx.const(offset, DType.I64), ctx.const(1, DType.I64))
    return reshape(ctx, ctx.builder.add(Gather(0), corners, positions), (1, count), "corner")


def _between(ctx: NodeContext, low: Value, x: Value, high: Value) -> Value:
    add = ctx.builder.add
    return add(Binary("and"), add(Compare("le"), low, x), add(Compare("le"), x, high))
