"""Steps of optimizers, of the domain ai.onnx.preview.training: Adagrad, Adam, Momentum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.operands import require_shape
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.common import FLOATS
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where

TRAINING = "ai.onnx.preview.training"
#: No limit to the number of tensors.
_MANY = (1 << 31) - 1

#: The new value of a tensor and of what is kept with it, given its old value, gradient, and what is kept.
Step = Callable[[Sequence[Value]], Sequence[Value]]


@contrib("Adagrad", (2, _MANY), "decay_factor epsilon norm_coefficient", _MANY, TRAINING)
def adagrad(ctx: NodeContext) -> list[Value]:
    """With h the sum of squared gradients g: x - rate / (1 + count * decay) * g / (sqrt(h) + epsilon)."""
    count = _cast(ctx, _scalar(ctx, 1), DType.F64)
    slower = _add(ctx, _scaled(ctx, count, ctx.float("decay_factor", 0.0)), 1)
    rate = ctx.add(Binary("div"), _cast(ctx, _scalar(ctx, 0), DType.F64), slower)

    def step(tensors: Sequence[Value]) -> Sequence[Value]:
        x, g, h = tensors
        g = _regularized(ctx, x, g)
        h = ctx.add(Binary("add"), h, ctx.add(Binary("mul"), g, g))
        moved = ctx.add(Binary("mul"), _cast(ctx, rate, x.tensor.dtype), g)
        divisor = _add(ctx, ctx.add(Unary("sqrt"), h), ctx.float("epsilon", 1e-6))
        return ctx.add(Binary("sub"), x, ctx.add(Binary("div"), moved, divisor)), h

    return _steps(ctx, 1, step)


@contrib("Adam", (2, _MANY), "alpha beta epsilon norm_coefficient norm_coefficient_post", _MANY, TRAINING)
def adam(ctx: NodeContext) -> list[Value]:
    """With v and h the running means of gradients and of their squares: x - rate * v / (sqrt(h) + epsilon).

    The rate is corrected for the first steps, in float64: beta to the power of the count is near 1.
    """
    alpha, beta = ctx.float("alpha", 0.9), ctx.float("beta", 0.999)
    rate = _adam_rate(ctx, alpha, beta)

    def step(tensors: Sequence[Value]) -> Sequence[Value]:
        x, g, v, h = tensors
        g = _regularized(ctx, x, g)
        v = ctx.add(Binary("add"), _scaled(ctx, v, alpha), _scaled(ctx, g, 1 - alpha))
        squared = ctx.add(Binary("mul"), _scaled(ctx, g, 1 - beta), g)
        h = ctx.add(Binary("add"), _scaled(ctx, h, beta), squared)
        divisor = _add(ctx, ctx.add(Unary("sqrt"), h), ctx.float("epsilon", 1e-6))
        moved = ctx.add(Binary("mul"), _cast(ctx, rate, x.tensor.dtype), v)
        x = ctx.add(Binary("sub"), x, ctx.add(Binary("div"), moved, divisor))
        return _scaled(ctx, x, 1 - ctx.float("norm_coefficient_post", 0.0)), v, h

    return _steps(ctx, 2, step)


def _adam_rate(ctx: NodeContext, alpha: float, beta: float) -> Value:
    """rate * sqrt(1 - beta^count) / (1 - alpha^count), or the rate itself where the count is 0; f64."""
    rate, count = _cast(ctx, _scalar(ctx, 0), DType.F64), _cast(ctx, _scalar(ctx, 1), DType.F64)
    one = ctx.const(1, DType.F64)
    seen = [
        ctx.add(Binary("sub"), one, ctx.add(Binary("pow"), ctx.const(decay, DType.F64), count))
        for decay in (beta, alpha)
    ]
    corrected = ctx.add(Binary("div"), ctx.add(Binary("mul"), rate, ctx.add(Unary("sqrt"), seen[0])), seen[1])
    started = ctx.add(Compare("gt"), count, ctx.const(0, DType.F64))
    return ctx.add(Where(), started, corrected, rate)


@contrib("Momentum", (2, _MANY), "alpha beta mode norm_coefficient", _MANY, TRAINING)
def momentum(ctx: NodeContext) -> list[Value]:
    """With v = alpha * v + beta * g (beta is 1 in the first step): x - rate * v, or, by Nesterov,
    x - rate * (g + alpha * v).
    """
    mode = ctx.string("mode")
    if mode not in ("standard", "nesterov"):
        ctx.fail(f"mode {mode!r} is neither standard nor nesterov")
    ctx.float("norm_coefficient")  # which has no default here
    alpha, count = ctx.float("alpha"), _scalar(ctx, 1)
    started = ctx.add(Compare("gt"), count, ctx.const(0, count.tensor.dtype))
    rate, beta = _scalar(ctx, 0), ctx.float("beta")

    def step(tensors: Sequence[Value]) -> Sequence[Value]:
        x, g, v = tensors
        dtype = x.tensor.dtype
        g = _regularized(ctx, x, g)
        share = ctx.add(Where(), started, ctx.const(beta, dtype), ctx.const(1, dtype))
        v = ctx.add(Binary("add"), _scaled(ctx, v, alpha), ctx.add(Binary("mul"), share, g))
        direction = v if mode == "standard" else ctx.add(Binary("add"), g, _scaled(ctx, v, alpha))
        return ctx.add(Binary("sub"), x, ctx.add(Binary("mul"), _cast(ctx, rate, dtype), direction)), v

    return _steps(ctx, 1, step)


def _steps(ctx: NodeContext, kept: int, step: Step) -> list[Value]:
    """`step` for each tensor. Operands from 2 on are all tensors, then all gradients, then `kept` groups more
    of as many; results are the new tensors and groups.
    """
    tensors = [ctx.required(index) for index in range(2, len(ctx.operands))]
    count, rest = divmod(len(tensors), 2 + kept)
    if rest or not count:
        ctx.fail(f"{len(tensors)} tensors are no whole number of tensors, gradients and {kept} more")
    columns = []
    for index in range(count):
        group = tensors[index::count]
        x = group[0].tensor
        for other in group[1:]:
            require_shape(ctx, other, x.shape, "what belongs to a tensor")
            if other.tensor.dtype is not x.dtype or x.dtype not in FLOATS:
                ctx.fail(f"{x} and {other.type} are not of one floating-point type")
        columns.append(step(group))
    return [value for row in zip(*columns, strict=True) for value in row]


def _scalar(ctx: NodeContext, index: int) -> Value:
    """Operand `index`, which holds one element, as a scalar."""
    return reshape(ctx, ctx.single(index), ())


def _regularized(ctx: NodeContext, x: Value, g: Value) -> Value:
    """The gradient and that of norm_coefficient / 2 * |x|^2."""
    factor = ctx.float("norm_coefficient", 0.0)
    return ctx.add(Binary("add"), _scaled(ctx, x, factor), g) if factor else g


def _scaled(ctx: NodeContext, x: Value, factor: float) -> Value:
    return x if factor == 1 else ctx.add(Binary("mul"), x, ctx.const(factor, x.tensor.dtype))


def _add(ctx: NodeContext, x: Value, term: float) -> Value:
    return ctx.add(Binary("add"), x, ctx.const(term, x.tensor.dtype))


def _cast(ctx: NodeContext, x: Value, to: DType) -> Value:
    return x if x.tensor.dtype is to else ctx.add(Cast(to), x)
