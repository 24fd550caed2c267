"""LSTM, GRU and RNN."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Transpose
from dlc.ir.ops.recurrent import GRU, LSTM, RNN

#: ONNX's name in lower case -> (our name, default alpha, default beta), None where there is none.
#: The defaults are those of the operators of these names; for Affine and ScaledTanh, which are no operators,
#: those of onnxruntime.
ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "affine": ("affine", 1.0, 0.0),
    "elu": ("elu", 1.0, None),
    "hardsigmoid": ("hard_sigmoid", 0.2, 0.5),
    "leakyrelu": ("leaky_relu", 0.01, None),
    "relu": ("relu", None, None),
    "scaledtanh": ("scaled_tanh", 1.0, 1.0),
    "sigmoid": ("sigmoid", None, None),
    "softplus": ("softplus", None, None),
    "softsign": ("softsign", None, None),
    "tanh": ("tanh", None, None),
    "thresholdedrelu": ("thresholded_relu", 1.0, None),
}


@importer("LSTM")
def lstm(ctx: NodeContext) -> Sequence[Value]:
    """Long short-term memory."""
    names, alphas, betas = _activations(ctx, ["Sigmoid", "Tanh", "Tanh"])
    input_forget = bool(ctx.int("input_forget", 0))
    op = LSTM(_hidden(ctx), _direction(ctx), names, alphas, betas, _clip(ctx), input_forget)
    return _cell(ctx, op, operands=8, states=(5, 6))


@importer("GRU")
def gru(ctx: NodeContext) -> Sequence[Value]:
    """Gated recurrent unit."""
    names, alphas, betas = _activations(ctx, ["Sigmoid", "Tanh"])
    linear_before_reset = bool(ctx.int("linear_before_reset", 0))
    op = GRU(_hidden(ctx), _direction(ctx), names, alphas, betas, _clip(ctx), linear_before_reset)
    return _cell(ctx, op, operands=6, states=(5,))


@importer("RNN")
def rnn(ctx: NodeContext) -> Sequence[Value]:
    """Simple recurrent cell."""
    names, alphas, betas = _activations(ctx, ["Tanh"])
    op = RNN(_hidden(ctx), _direction(ctx), names, alphas, betas, _clip(ctx))
    return _cell(ctx, op, operands=6, states=(5,))


def _cell(ctx: NodeContext, op: LSTM | GRU | RNN, operands: int, states: tuple[int, ...]) -> Sequence[Value]:
    """Add the operator; layout 1 (batch first, since opset 14) is transposed on the way in and out.

    `states` numbers the operands that hold an initial state.
    """
    inputs = [ctx.optional(index) for index in range(operands)]
    _require_shapes(ctx, op, inputs)
    if not ctx.int("layout", 0):
        return ctx.add_all(op, *inputs)
    for index in (0, *states):
        value = inputs[index]
        if value is not None:
            inputs[index] = ctx.add(Transpose((1, 0, 2)), value)
    y, *finals = ctx.add_all(op, *inputs)
    return [ctx.add(Transpose((2, 0, 1, 3)), y), *(ctx.add(Transpose((1, 0, 2)), final) for final in finals)]


def _require_shapes(ctx: NodeContext, op: LSTM | GRU | RNN, inputs: Sequence[Value | None]) -> None:
    """Check that all operands belong to one cell."""
    x = ctx.required(0).tensor
    if x.rank != 3:
        ctx.fail(f"X must have rank 3, but is {x}")
    steps, batch, width = x.shape
    directions, rows = op.directions, op.gates * op.hidden
    state: list[Dim] = [directions, batch, op.hidden]
    if ctx.int("layout", 0):
        batch = steps
        state = [batch, directions, op.hidden]
    shapes: dict[str, list[Dim]] = {
        "W": [directions, rows, width], "R": [directions, rows, op.hidden], "B": [directions, 2 * rows],
        "sequence_lens": [batch], "initial_h": state, "initial_c": state, "P": [directions, 3 * op.hidden],
    }
    for value, (name, shape) in zip(inputs[1:], shapes.items(), strict=False):
        require_shape(ctx, value, shape, name)


def _hidden(ctx: NodeContext) -> int:
    """The number of hidden units: an extent of R, or hidden_size where that extent is a symbol.

    A call that binds the symbol to another number is refused (:func:`_require_shapes`).
    """
    shape = ctx.required(2).tensor.shape
    hidden = shape[-1] if shape else None
    if isinstance(hidden, int):
        if ctx.int("hidden_size", hidden) != hidden:
            ctx.fail(f"hidden_size is {ctx.int('hidden_size')}, but R is {ctx.required(2).type}")
        return hidden
    if not ctx.has("hidden_size"):
        ctx.unsupported("the number of hidden units is not known at compile time",
                        "give R a static shape or the node its hidden_size")
    if ctx.int("hidden_size") < 1:
        ctx.fail(f"hidden_size must be positive, but is {ctx.int('hidden_size')}", "model/attribute")
    return ctx.int("hidden_size")


def _direction(ctx: NodeContext) -> str:
    direction = ctx.string("direction", "forward").lower()
    if ctx.op_type == "GRU" and ctx.opset < 3 and direction == "foward":
        return "forward"  # the default of GRU-1, as the standard spells it
    if direction not in ("forward", "reverse", "bidirectional"):
        ctx.fail(f"direction {direction!r} is none of forward, reverse, bidirectional")
    return direction


def _clip(ctx: NodeContext) -> float | None:
    if not ctx.has("clip"):
        return None
    clip = ctx.float("clip")
    if clip <= 0:
        ctx.fail(f"attribute 'clip' must be positive, but is {clip}")
    return clip


def _activations(ctx: NodeContext, default: list[str]) \
        -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Names, alphas and betas of the activations of all directions.

    alpha and beta are consumed in order by those functions that take one (onnxruntime's reading of "consumed
    in the order of activation functions"). RNN's default has a name for each of two directions, whatever
    their number; only as many as are needed count.
    """
    directions = 2 if _direction(ctx) == "bidirectional" else 1
    given = [*ctx.strings("activations", ())] or default * directions
    if len(given) < len(default) * directions:
        ctx.fail(f"{len(default) * directions} activations are needed, but there are {len(given)}")
    alphas, betas = iter(ctx.floats("activation_alpha", ())), iter(ctx.floats("activation_beta", ()))
    resolved = []
    for name in given[:len(default) * directions]:
        entry = ACTIVATIONS.get(name.lower())
        if entry is None:
            ctx.fail(f"{name!r} is no activation of a recurrent cell")
        ours, alpha, beta = entry
        resolved.append((ours, 0.0 if alpha is None else next(alphas, alpha),
                         0.0 if beta is None else next(betas, beta)))
    names, alpha_values, beta_values = zip(*resolved, strict=True)
    return names, alpha_values, beta_values
