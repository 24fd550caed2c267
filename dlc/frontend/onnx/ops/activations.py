"""Activation functions of ONNX."""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.operands import require_channels, require_fits
from dlc.frontend.onnx.registry import importer
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Activation, Binary, Unary

_PLAIN = {
    "Tanh": ("tanh", 1),
    "Sigmoid": ("sigmoid", 1),
    "Relu": ("relu", 1),
    "Softplus": ("softplus", 1),
    "Softsign": ("softsign", 1),
    "HardSwish": ("hard_swish", 14),
    "Mish": ("mish", 18),
}
_ONE_PARAMETER = {
    "Elu": ("elu", 1, 1.0),
    "Celu": ("celu", 12, 1.0),
    "LeakyRelu": ("leaky_relu", 1, 0.01),
    "ThresholdedRelu": ("thresholded_relu", 10, 1.0),
}


def _register_plain(op_type: str, fn: str, since: int) -> None:
    @importer(op_type, since)
    def plain(ctx: NodeContext) -> Value:
        return ctx.add(Unary(fn), ctx.required(0))


def _register_one_parameter(op_type: str, fn: str, since: int, alpha: float) -> None:
    @importer(op_type, since)
    def one_parameter(ctx: NodeContext) -> Value:
        return ctx.add(Activation(fn, ctx.float("alpha", alpha)), ctx.required(0))


for _op_type, (_fn, _since) in _PLAIN.items():
    _register_plain(_op_type, _fn, _since)
for _op_type, (_fn, _since, _alpha) in _ONE_PARAMETER.items():
    _register_one_parameter(_op_type, _fn, _since, _alpha)


@importer("Selu")
def selu(ctx: NodeContext) -> Value:
    """gamma x, or gamma alpha (exp(x) - 1) where x <= 0. The defaults are the standard's, fewer digits of
    them before opset 6.
    """
    early = ctx.opset < 6
    alpha = ctx.float("alpha", 1.6732 if early else 1.67326319217681884765625)
    gamma = ctx.float("gamma", 1.0507 if early else 1.05070102214813232421875)
    return ctx.add(Activation("selu", alpha, gamma), ctx.required(0))


@importer("HardSigmoid")
def hard_sigmoid(ctx: NodeContext) -> Value:
    """max(0, min(1, alpha x + beta))."""
    operator = Activation("hard_sigmoid", ctx.float("alpha", 0.2), ctx.float("beta", 0.5))
    return ctx.add(operator, ctx.required(0))


@importer("Shrink", since=9)
def shrink(ctx: NodeContext) -> Value:
    """Toward zero by `bias` outside [-lambd, lambd], zero inside."""
    return ctx.add(Activation("shrink", ctx.float("bias", 0.0), ctx.float("lambd", 0.5)), ctx.required(0))


@importer("Gelu", since=20)
def gelu(ctx: NodeContext) -> Value:
    """The exact function, or the approximation by tanh."""
    match ctx.string("approximate", "none"):
        case "none":
            return ctx.add(Unary("gelu"), ctx.required(0))
        case "tanh":
            return ctx.add(Unary("gelu_tanh"), ctx.required(0))
        case other:
            ctx.fail(f"attribute 'approximate' must be none or tanh, but is {other!r}")


@importer("Swish", since=24)
def swish(ctx: NodeContext) -> Value:
    """x sigmoid(alpha x)."""
    return _swish(ctx, ctx.required(0))


@importer("SwiGLU", since=28)
def swiglu(ctx: NodeContext) -> Value:
    """swish(a) b of operands of one shape."""
    gate, linear = ctx.required(0), ctx.required(1)
    if gate.tensor.rank != linear.tensor.rank:
        ctx.fail(f"the operands must have one shape, but are {gate.type} and {linear.type}")
    for left, right in zip(gate.tensor.shape, linear.tensor.shape):
        require_equal(ctx, left, right, "the extents of the operands")
    return ctx.add(Binary("mul"), _swish(ctx, gate), linear)


def _swish(ctx: NodeContext, x: Value) -> Value:
    alpha = ctx.float("alpha", 1.0)
    return ctx.add(Unary("silu") if alpha == 1 else Activation("swish", alpha), x)


@importer("PRelu")
def prelu_by_channel(ctx: NodeContext) -> Value:
    """x, or slope x where x < 0; the slope is one number, or one for each channel."""
    x, slope = ctx.required(0), ctx.required(1)
    if slope.tensor.elements == 1:
        return ctx.add(Binary("prelu"), x, reshape(ctx, slope, ()))
    if x.tensor.rank < 2:
        ctx.fail(f"the slope {slope.type} has numbers for channels, which {x.type} does not have")
    require_channels(ctx, slope, x.tensor.shape[1], "the slope")
    column = reshape(ctx, slope, (slope.tensor.shape[0], *[1] * (x.tensor.rank - 2)))
    return ctx.add(Binary("prelu"), x, column)


@importer("PRelu", since=7)
def prelu(ctx: NodeContext) -> Value:
    """x, or slope x where x < 0; the slope broadcasts to x."""
    x, slope = ctx.required(0), ctx.required(1)
    require_fits(ctx, slope, x, "the slope")
    return ctx.add(Binary("prelu"), x, slope)
