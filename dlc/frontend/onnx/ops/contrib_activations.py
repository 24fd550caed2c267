"""onnxruntime's activation functions, alone and after a bias."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, standard
from dlc.frontend.onnx.operands import require_fits
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Activation, Binary, Unary

#: The activations that onnxruntime fuses, with the names of their parameters in order.
FUSABLE: Mapping[str, tuple[str, ...]] = {
    "": (),
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Silu": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}


@contrib("Gelu", (1, 1))
def gelu(ctx: NodeContext) -> Value:
    """The exact function."""
    return ctx.add(Unary("gelu"), ctx.required(0))


@contrib("BiasGelu", (2, 2))
def bias_gelu(ctx: NodeContext) -> Value:
    """The exact function of the sum of x and a vector."""
    return ctx.add(Unary("gelu"), biased(ctx, ctx.required(0), ctx.required(1)))


@contrib("FastGelu", (1, 2))
def fast_gelu(ctx: NodeContext) -> Value:
    """The approximation by tanh, of x plus an optional vector."""
    return ctx.add(Unary("gelu_tanh"), biased(ctx, ctx.required(0), ctx.optional(1)))


@contrib("QuickGelu", (1, 1), "alpha")
def quick_gelu(ctx: NodeContext) -> Value:
    """x sigmoid(alpha x)."""
    return ctx.add(Activation("swish", ctx.float("alpha", 1.702)), ctx.required(0))


@contrib("GemmFastGelu", (2, 3))
def gemm_fast_gelu(ctx: NodeContext) -> Value:
    """FastGelu of a matrix product."""
    product = standard(ctx, "MatMul", ctx.required(0), ctx.required(1))
    return ctx.add(Unary("gelu_tanh"), biased(ctx, product, ctx.optional(2)))


@contrib("BiasAdd", (3, 3))
def bias_add(ctx: NodeContext) -> Value:
    """x + bias + skip of x and skip [N, S, C] and bias [C]."""
    x, skip = ctx.required(0), ctx.required(2)
    require_fits(ctx, skip, x, "the residual")
    return ctx.add(Binary("add"), biased(ctx, x, ctx.required(1)), skip)


@contrib("BiasSoftmax", (2, 2), "axis is_inner_broadcast")
def bias_softmax(ctx: NodeContext) -> Value:
    """Softmax of data + bias over the axes from `axis` on, which count as one.

    Both kinds of broadcast that `is_inner_broadcast` tells apart are NumPy's, for a bias of the data's rank.
    """
    data, bias = ctx.required(0), ctx.required(1)
    if ctx.int("is_inner_broadcast") and bias.tensor.rank != data.tensor.rank:
        ctx.unsupported(
            f"the bias {bias.type} is to be repeated along inner axes of {data.type}",
            "give the bias the rank of the data",
        )
    require_fits(ctx, bias, data, "the bias")
    total = ctx.builder.add(Binary("add"), data, bias)
    return standard(ctx, "Softmax", total, opset=11, attributes={"axis": ctx.int("axis", 1)})


def biased(ctx: NodeContext, x: Value, bias: Value | None) -> Value:
    """x plus a bias that broadcasts to it; x when there is none."""
    if bias is None:
        return x
    require_fits(ctx, bias, x, "the bias")
    return ctx.builder.add(Binary("add"), x, bias)


def fused_activation(ctx: NodeContext, x: Value, name: str, parameters: Mapping[str, float]) -> Value:
    """The activation that a fused product ends with: the standard's operator `name`, "" for none.

    `parameters` are its attributes by name; those that it does not have are refused, none is optional.
    """
    if name not in FUSABLE:
        ctx.unsupported(f"the activation {name!r} is unknown")
    wanted = FUSABLE[name]
    if set(parameters) != set(wanted):
        ctx.fail(f"the activation {name!r} has the parameters {list(wanted)}, not {sorted(parameters)}")
    match name:
        case "":
            return x
        case "Silu":
            return ctx.add(Unary("silu"), x)
        case "Clip":
            # Its bounds are attributes up to opset 10.
            return standard(ctx, "Clip", x, opset=10, attributes=parameters)
    return standard(ctx, name, x, attributes=parameters)
