"""Precision by choice: float32 models that compute with 16-bit floats, and 16-bit models in float32."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import InternalError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.obligations import obligations
from dlc.ir.operator import Array, InferenceError, Operator
from dlc.ir.ops.conversion import convert
from dlc.ir.ops.convolution import Conv, ConvTranspose
from dlc.ir.ops.deformable import DeformConv
from dlc.ir.ops.pointwise import BitCast, Cast, Clip
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.ir.types import TensorType, Type, is_object
from dlc.passes.constant_folding import SMALL
from dlc.passes.pass_base import Declined, Numerics, Pass, Property, Statistics, declined
from dlc.passes.precision_table import (
    CONTRACTIONS,
    Handling,
    converted_operands,
    exact_operands,
    handling,
)

_NARROW = (DType.F16, DType.BF16)


@dataclasses.dataclass(frozen=True)
class ConvertPrecision(Pass):
    """Let a graph compute in another float type: f16 or bf16 in place of f32, or f32 in place of both.

    To 16 bits, operators are handled as `dlc.passes.precision_table` says, which follows PyTorch's autocast:
    products that are summed get 16-bit operands, pointwise operators, movements and norms follow what they
    read, and exponentials, sums and angles stay in f32. Sums of products and the insides of norms are f32
    anyway, as in all kernels. What places, sizes and angles are computed from stays f32, back to the nearest
    product and that as well. An operator stays f32, too, that reads a constant which 16 bits do not hold (a
    mask of -3.4e38 would become -inf, an epsilon 0); a contraction that does is a decline. Constants are
    converted once, at compile time.

    To f32, all operators are converted. Weights stay in 16 bits behind a Cast, which lowering puts into the
    loads of their reader; constants of at most `small` bytes and the weights of convolutions, which their
    templates want as constants, are converted at compile time.

    Graph inputs and outputs keep their types, as do the operands and results of regions: Casts stand between.

    Example: to f16, with %w a constant of f32 and %v the same of f16,

        %y = MatMul()(%x, %w) : f32[4, 8]
        %z = Unary(fn="relu")(%y) : f32[4, 8]
        output z = %z

    becomes

        %x.1 = Cast(to="f16")(%x) : f16[4, 16]
        %y = MatMul()(%x.1, %v) : f16[4, 8]
        %z = Unary(fn="relu")(%y) : f16[4, 8]
        %z.1 = Cast(to="f32")(%z) : f32[4, 8]
        output z = %z.1
    """

    dtype: DType
    small: int = SMALL

    name: ClassVar[str] = "convert-precision"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    keeps: ClassVar[frozenset[Property]] = frozenset({Property.LIVE, Property.FOLDED})

    def __post_init__(self) -> None:
        if self.dtype not in (*_NARROW, DType.F32):
            raise InternalError(f"models are converted to f16, bf16 or f32, not to {self.dtype.text}")

    def apply(self, graph: Graph) -> Statistics:
        """Convert in place; counts operators, constants and the Casts that it took."""
        kind = _Widening if self.dtype is DType.F32 else _Narrowing
        return kind(graph, self.dtype, self.small).run()


class _Conversion:
    """What both directions share: values as others than they are, made once each, and the account."""

    def __init__(self, graph: Graph, dtype: DType, small: int) -> None:
        self.graph = graph
        self.dtype = dtype
        self.small = small
        #: The type that each converted value had.
        self.former: dict[Value, DType] = {}
        self.versions: dict[tuple[Value, DType], Value] = {}
        self.rewrites: collections.Counter[str] = collections.Counter()
        self.declines: list[Declined] = []

    def run(self) -> Statistics:
        """Convert the nodes in order, then give the outputs back their types."""
        for node in list(self.graph.nodes):
            if not any(is_object(value.type) for value in (*node.operands, *node.outputs)):
                self.visit(node)
            else:
                self.keep(node)
        self.graph.outputs = [
            self.version(value, self.former[value], value.producer) if value in self.former else value
            for value in self.graph.outputs
        ]
        self.graph.sort()
        return Statistics(self.rewrites, self.declines)

    def visit(self, node: Node) -> None:
        """Convert one node, or let it read what it read."""
        raise NotImplementedError

    def keep(self, node: Node) -> None:
        """Let a node read its operands in the types that they had."""
        node.inputs = [
            value if value is None or value not in self.former
            else self.version(value, self.former[value], node)
            for value in node.inputs
        ]

    def convert(
        self, node: Node, op: Operator, inputs: Sequence[Value | None], sources: Iterable[DType]
    ) -> bool:
        """Give `node` an operator and operands, and those results of the types `sources` the new type; False,
        with nothing changed, when the operator does not take them.
        """
        types = _inferred(op, inputs)
        if types is None:
            return False
        node.op, node.inputs = op, inputs
        for value, type_ in zip(node.outputs, types, strict=True):
            if isinstance(type_, TensorType) and value.tensor.dtype in sources and type_.dtype is self.dtype:
                self.former[value] = value.tensor.dtype
                value.type = value.tensor.with_dtype(self.dtype)
        self.rewrites[self.dtype.text] += 1
        return True

    def version(self, value: Value, dtype: DType, reader: Node | None) -> Value:
        """`value` in the type `dtype`: itself, another constant, or a Cast."""
        if value.tensor.dtype is dtype:
            return value
        key = value, dtype
        if key not in self.versions:
            self.versions[key] = self.made(value, dtype, reader)
        return self.versions[key]

    def made(self, value: Value, dtype: DType, reader: Node | None) -> Value:
        """A version of `value` that was not needed before."""
        if value.data is not None and self.folds(value, reader):
            self.rewrites["constant"] += 1
            type_ = value.tensor.with_dtype(dtype)
            return Value(self.graph.unique_name(value.name), type_, converted(value.data, dtype))
        self.rewrites["cast"] += 1
        source = value.producer or reader
        builder = GraphBuilder(self.graph, origin=source.origin if source else ())
        return builder.add(Cast(dtype), value, names=[value.name])

    def folds(self, value: Value, reader: Node | None) -> bool:
        """Whether a constant is converted at compile time."""
        raise NotImplementedError


class _Narrowing(_Conversion):
    """From f32 to 16 bits."""

    def __init__(self, graph: Graph, dtype: DType, small: int) -> None:
        super().__init__(graph, dtype, small)
        self.exact = exact_values(graph)
        self.holds: dict[Value, bool] = {}

    def folds(self, value: Value, reader: Node | None) -> bool:
        return True

    def visit(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Cast):
            return  # it reads what there is
        if isinstance(op, DequantizeLinear):
            self._dequantize(node, op)
            return
        positions = [at for at in converted_operands(node) if self._is_float(node, at)]
        if not positions or not self._narrows(node, positions):
            self.keep(node)
            return
        inputs = [
            value if value is None or at not in positions else self.version(value, self.dtype, node)
            for at, value in enumerate(node.inputs)
        ]
        if not self.convert(node, op, inputs, (DType.F32,)):
            self.keep(node)

    def _dequantize(self, node: Node, op: DequantizeLinear) -> None:
        """Weights in integers become 16-bit ones; what is quantized at run time stays f32."""
        of_weights = op.to is DType.F32 and handling(node) is Handling.NARROW
        if of_weights and node.output not in self.exact:
            self.convert(node, dataclasses.replace(op, to=self.dtype), node.inputs, (DType.F32,))
        else:
            self.keep(node)

    def _is_float(self, node: Node, at: int) -> bool:
        """Whether operand `at` is of f32, or was."""
        value = node.inputs[at] if at < len(node.inputs) else None
        return value is not None and (value.tensor.dtype is DType.F32 or value in self.former)

    def _narrows(self, node: Node, positions: Sequence[int]) -> bool:
        """Whether `node` reads its operands at `positions` in 16 bits."""
        chosen = handling(node)
        if chosen is Handling.WIDE or any(value in self.exact for value in node.outputs):
            return False
        operands = [value for at in positions if (value := node.inputs[at]) is not None]
        computed = (value for value in operands if not (value.is_constant or _is_truth(value)))
        if chosen is Handling.FOLLOW and any(value.tensor.dtype is DType.F32 for value in computed):
            return False
        if isinstance(node.op, Clip) and not all(
            bound is None or _holds(np.asarray(bound, np.float32), self.dtype, least_only=True)
            for bound in (node.op.low, node.op.high)
        ):
            return False
        lost = [value for value in operands if not self._holds(value)]
        if lost and isinstance(node.op, CONTRACTIONS):
            reason = f"a constant of it has numbers that {self.dtype.text} does not hold"
            self.declines.append(declined(self.dtype.text, node, reason))
        return not lost

    def _holds(self, value: Value) -> bool:
        """Whether 16 bits hold a constant, rounding aside; true of what is none."""
        if value.data is None or value.tensor.dtype is not DType.F32:
            return True
        if value not in self.holds:
            self.holds[value] = _holds(value.data, self.dtype)
        return self.holds[value]


class _Widening(_Conversion):
    """From 16 bits to f32."""

    def folds(self, value: Value, reader: Node | None) -> bool:
        of_convolution = reader is not None and isinstance(reader.op, Conv | ConvTranspose | DeformConv)
        return of_convolution or (value.data is not None and value.data.nbytes <= self.small)

    def visit(self, node: Node) -> None:
        op = node.op
        values = (*node.operands, *node.outputs)
        if node.regions or isinstance(op, BitCast):
            self.keep(node)
            return
        if not any(self._is_narrow(value) or value in self.former for value in values):
            return
        if isinstance(op, Cast):
            # It reads what there is. One that only gives an output its type stays.
            if op.to in _NARROW and node.output.uses:
                self.convert(node, dataclasses.replace(op, to=DType.F32), node.inputs, _NARROW)
            return
        if isinstance(op, DequantizeLinear) and op.to in _NARROW:
            op = dataclasses.replace(op, to=DType.F32)
        elif isinstance(op, QuantizeLinear) and op.precision in _NARROW:
            op = dataclasses.replace(op, precision=DType.F32)
        inputs = [
            self.version(value, DType.F32, node) if value is not None and self._is_narrow(value) else value
            for value in node.inputs
        ]
        if not self.convert(node, op, inputs, _NARROW):
            self.keep(node)

    @staticmethod
    def _is_narrow(value: Value) -> bool:
        return value.tensor.dtype in _NARROW


def exact_values(graph: Graph) -> set[Value]:
    """What places, sizes and angles are computed from, back to the result of the nearest contraction."""
    exact: set[Value] = set()
    for node in reversed(graph.nodes):
        positions: Iterable[int] = exact_operands(node)
        if handling(node) is not Handling.NARROW and any(value in exact for value in node.outputs):
            positions = range(len(node.inputs))
        for at in positions:
            value = node.inputs[at] if at < len(node.inputs) else None
            if value is not None and isinstance(value.type, TensorType) and value.type.dtype is DType.F32:
                exact.add(value)
    return exact


def _is_truth(value: Value) -> bool:
    """Whether a value is a truth value as a number, which every type holds."""
    node = value.producer
    return node is not None and isinstance(node.op, Cast) and node.operands[0].tensor.dtype is DType.BOOL


def converted(data: Array, dtype: DType) -> Array:
    """A constant in another float type, rounded to nearest."""
    with np.errstate(all="ignore"):
        rounded = convert(data, dtype)
    return rounded if rounded.flags.c_contiguous else rounded.copy()


def _holds(data: Array, dtype: DType, least_only: bool = False) -> bool:
    """Whether `dtype` has numbers near those of `data`: no finite one becomes infinite (unless `least_only`),
    and a single one that is not 0 does not become 0.
    """
    rounded = converted(data, dtype)
    if data.size == 1 and data.reshape(-1)[0] != 0 and rounded.reshape(-1)[0] == 0:
        return False
    return least_only or bool((np.isfinite(rounded.astype(np.float32)) | ~np.isfinite(data)).all())


def _inferred(op: Operator, inputs: Sequence[Value | None]) -> tuple[Type, ...] | None:
    """The types of the results for other operands; None when the operator does not take them."""
    try:
        with obligations():
            return op.infer([None if value is None else value.type for value in inputs])
    except InferenceError:
        return None
