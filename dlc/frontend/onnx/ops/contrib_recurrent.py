"""onnxruntime's LSTM with quantized weights."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, standard_all
from dlc.frontend.onnx.geometry import reshape, transposed
from dlc.frontend.onnx.operands import require_shape
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Binary, Cast


@contrib(
    "DynamicQuantizeLSTM",
    (12, 12),
    "activation_alpha activation_beta activations clip direction hidden_size input_forget",
    results=3,
)
def dynamic_quantize_lstm(ctx: NodeContext) -> Sequence[Value | None]:
    """LSTM with the weights [D, I, 4 H] and [D, H, 4 H] that are stored in 8 bits.

    onnxruntime also quantizes the input and the state of each step to have integers to multiply; dlc
    multiplies numbers, which is what that approximates.
    """
    x, w, r = ctx.required(0), _weights(ctx, 1, 8), _weights(ctx, 2, 10)
    operands = [x, w, r, *(ctx.optional(index) for index in range(3, 8))]
    outputs = standard_all(ctx, "LSTM", *operands, attributes=ctx.attributes, results=3)
    return outputs[: len(ctx.output_names)]


def _weights(ctx: NodeContext, index: int, parameters: int) -> Value:
    """Weights as LSTM wants them, [D, 4 H, inputs] in float32.

    Scale and zero point, the operands from `parameters` on, belong to a direction [D] or a column [D, 4 H].
    """
    add = ctx.builder.add
    stored, scale, zero_point = (ctx.required(at) for at in (index, parameters, parameters + 1))
    if stored.tensor.rank != 3:
        ctx.fail(f"the weights must have rank 3, but are {stored.type}")
    directions, _, columns = stored.tensor.shape

    def spread(value: Value) -> Value:
        if value.tensor.rank == 1:
            require_shape(ctx, value, (directions,), "a parameter of the weights")
            return reshape(ctx, value, (directions, 1, 1))
        require_shape(ctx, value, (directions, columns), "a parameter of the weights")
        return reshape(ctx, value, (directions, 1, columns))

    offset = add(Cast(DType.I32), spread(zero_point))
    difference = add(Binary("sub"), add(Cast(DType.I32), stored), offset)
    real = add(Binary("mul"), add(Cast(DType.F32), difference), spread(scale))
    return transposed(ctx, real, (0, 2, 1))
