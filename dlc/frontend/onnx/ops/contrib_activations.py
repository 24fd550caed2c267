"""onnxruntime's activation functions, alone and after a bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, kept, standard, standard_all
from dlc.frontend.onnx.geometry import require_equal
from dlc.frontend.onnx.operands import require_fits
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Slice
from dlc.ir.ops.pointwise import Activation, Binary, Unary

#: The activations that onnxruntime fuses, with the names of their parameters in order.
FUSABLE: Mapping[str, tuple[str, ...]] = {
    "": (),
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
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


@contrib("BiasSplitGelu", (2, 2))
def bias_split_gelu(ctx: NodeContext) -> Value:
    """The first half of x + bias times the exact Gelu of the second, of x [N, S, D] and bias [D]."""
    total = biased(ctx, ctx.required(0), ctx.required(1))
    *outer, width = total.tensor.shape
    half = width // 2
    require_equal(ctx, width, half * 2, "the features and twice the features of a half")
    zeros, ones = (0,) * len(outer), (1,) * (len(outer) + 1)
    left, right = (
        ctx.builder.add(Slice((*zeros, start), (*outer, half), ones), total) for start in (0, half)
    )
    return ctx.add(Binary("mul"), left, ctx.builder.add(Unary("gelu"), right))


@contrib("BiasDropout", (2, 5), "seed", results=2)
def bias_dropout(ctx: NodeContext) -> Sequence[Value | None]:
    """Dropout of x + bias, plus a residual; and the mask."""
    total = biased(ctx, ctx.required(0), ctx.required(1))
    operands = total, ctx.optional(3), ctx.optional(4)
    dropped = standard_all(
        ctx, "Dropout", *operands, attributes=kept(ctx, "seed"), results=len(ctx.output_names)
    )
    y, residual = dropped[0], ctx.optional(2)
    if y is not None and residual is not None:
        require_fits(ctx, residual, y, "the residual")
        y = ctx.builder.add(Binary("add"), y, residual)
    return [y, *dropped[1:]]


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
