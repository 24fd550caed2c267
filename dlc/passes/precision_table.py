"""Which operators compute with 16-bit floats, which follow their operands, and which stay in float32.

The table is that of PyTorch's autocast on GPUs (torch.amp, "Ops that can autocast to float16" and "to
float32"), with one difference: an operator that autocast widens because its *inner* arithmetic needs float32,
such as a softmax or a norm, takes 16-bit operands here, since every kernel computes in float32 and only loads
and stores narrower floats (docs/kernel-ir.md). What autocast widens because its *result* needs float32, by
range (exp, powers, sums, reciprocals) or by digits (sums again, logarithms, angles), stays in float32 here.
"""

from __future__ import annotations

import enum

from dlc.ir.graph import Node, Value
from dlc.ir.ops.attention import Attention, RotaryEmbedding
from dlc.ir.ops.contraction import Einsum, MatMul
from dlc.ir.ops.convolution import Conv, ConvTranspose, Pool
from dlc.ir.ops.deformable import DeformConv
from dlc.ir.ops.grid_sample import GridSample
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND, OneHot, ScatterElements, ScatterND
from dlc.ir.ops.linear_attention import LinearAttention
from dlc.ir.ops.movement import (
    Concat,
    Expand,
    Pad,
    Range,
    Reshape,
    ReverseSequence,
    Slice,
    Tile,
    Transpose,
    Trilu,
)
from dlc.ir.ops.normalization import (
    LRN,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    RMSNorm,
    Softmax,
)
from dlc.ir.ops.pointwise import Activation, Binary, Cast, Clip, Compare, IsInf, Unary, Where
from dlc.ir.ops.quantization import DequantizeLinear
from dlc.ir.ops.recurrent import GRU, LSTM, RNN
from dlc.ir.ops.reduction import ArgReduce, Reduce, TopK
from dlc.ir.ops.resize import Resize
from dlc.ir.ops.roi import MaxRoiPool, RoiAlign
from dlc.ir.ops.selection import NonMaxSuppression


class Handling(enum.Enum):
    """What becomes of an operator on float32.

    NARROW: its operands are converted to 16 bits. FOLLOW: it takes 16-bit operands, and stays in float32
    where one operand is of float32 anyway. WIDE: its operands are of float32.
    """

    NARROW = "narrow"
    FOLLOW = "follow"
    WIDE = "wide"


#: Products that are summed: what 16-bit floats are for.
CONTRACTIONS = (
    Conv,
    ConvTranspose,
    DeformConv,
    MatMul,
    Einsum,
    Attention,
    LinearAttention,
    LSTM,
    GRU,
    RNN,
)

_FOLLOWING = (
    # What moves or chooses elements.
    *(Reshape, Transpose, Expand, Concat, Tile, Slice, Pad, Trilu, ReverseSequence),
    *(Gather, GatherElements, GatherND, OneHot, Where, ArgReduce, TopK),
    # What computes in float32 inside, with results no greater than its operands, or not by much.
    *(Activation, Clip, Compare, IsInf, Resize, GridSample, RotaryEmbedding),
    *(Softmax, LogSoftmax, LpNorm, LayerNorm, RMSNorm, BatchNorm, GroupNorm, InstanceNorm, LRN),
)

#: Functions whose results have the range and the digits of their operands, or are bounded.
_SAFE_UNARY = frozenset(
    "abs neg sign floor ceil round sqrt relu is_nan erf tanh sigmoid softplus softsign silu gelu gelu_tanh "
    "hard_swish mish".split()
)
_SAFE_BINARY = frozenset("add sub mul div max min mod fmod prelu".split())

#: The operands that become 16-bit; of other operators all that are of float32. What is left out are
#: parameters that may be of another type: statistics, biases and states of recurrent cells, masks, angles,
#: coordinates.
_OPERANDS: dict[type, tuple[int, ...]] = {
    DeformConv: (0, 1),
    Attention: (0, 1, 2, 4, 5),
    LinearAttention: (0, 1, 2),
    LSTM: (0, 1, 2),
    GRU: (0, 1, 2),
    RNN: (0, 1, 2),
    BatchNorm: (0,),
    RotaryEmbedding: (0,),
    GridSample: (0,),
    Resize: (0,),
}

#: Operands that are places, sizes or angles, or choose places: what they are computed from stays in float32.
_EXACT: dict[type, tuple[int, ...]] = {
    TopK: (0,),
    NonMaxSuppression: (0, 1, 2, 3),
    RoiAlign: (1,),
    MaxRoiPool: (1,),
    GridSample: (1,),
    DeformConv: (2,),
    Resize: (1,),
    RotaryEmbedding: (1, 2),
    Range: (0, 1),
}


def handling(node: Node) -> Handling:
    """What becomes of `node`, as far as its operator decides."""
    if isinstance(node.op, CONTRACTIONS):
        return _of_contraction(node)
    match node.op:
        case Unary(fn):
            follows = fn in _SAFE_UNARY
        case Binary(fn):
            is_square = fn == "mul" and node.inputs[0] is node.inputs[1]
            follows = fn in _SAFE_BINARY and not is_square
        case Reduce(fn=fn):
            follows = fn in ("max", "min")
        case Pool(fn=fn):
            follows = fn != "lp"
        case ScatterElements(reduction=reduction) | ScatterND(reduction=reduction):
            follows = reduction in ("none", "max", "min")
        case DequantizeLinear():
            return Handling.NARROW if _is_weight(node) else Handling.WIDE
        case _:
            follows = isinstance(node.op, _FOLLOWING)
    return Handling.FOLLOW if follows else Handling.WIDE


def converted_operands(node: Node) -> tuple[int, ...]:
    """The positions of the operands that `handling` speaks of."""
    return _OPERANDS.get(type(node.op), tuple(range(len(node.inputs))))


def exact_operands(node: Node) -> tuple[int, ...]:
    """The positions of the operands that must keep all digits of float32, as said above."""
    match node.op:
        case Cast(to=to) if to.is_integer:
            return (0,)
        case Unary(fn="sin" | "cos" | "tan"):
            return (0,)
    return _EXACT.get(type(node.op), ())


def _of_contraction(node: Node) -> Handling:
    """Products that nothing is summed of follow their operands, as do those of quantized tensors."""
    match node.op:
        case Attention(qk_output=wanted) if wanted is not None:
            return Handling.WIDE
        case MatMul():
            left = node.operands[0].tensor
            sums = left.shape[-1] != 1
        case Einsum():
            terms, result = node.op.terms
            sums = bool(set("".join(terms)) - set(result))
        case _:
            sums = True
    return Handling.NARROW if sums and not _reads_quantized(node) else Handling.FOLLOW


def _dequantized(value: Value) -> Node | None:
    """The DequantizeLinear that `value` is the result of, movements aside."""
    node = value.producer
    while node is not None and isinstance(node.op, Transpose | Reshape):
        node = node.operands[0].producer
    return node if node is not None and isinstance(node.op, DequantizeLinear) else None


def _reads_quantized(node: Node) -> bool:
    """Whether an operand is computed in integers: lowering makes an integer kernel of it."""
    made = (_dequantized(value) for value in node.operands)
    return any(each is not None and not each.operands[0].is_constant for each in made)


def _is_weight(node: Node) -> bool:
    """Whether a DequantizeLinear makes nothing but weights of products of floats."""
    if not node.operands[0].is_constant:
        return False
    pending = [*node.output.uses]
    if not pending:
        return False
    while pending:
        user = pending.pop()
        if isinstance(user.op, Transpose | Reshape):
            pending += user.output.uses
        elif not isinstance(user.op, CONTRACTIONS) or _reads_quantized(user):
            return False
    return True


